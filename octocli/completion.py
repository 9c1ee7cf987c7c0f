"""Completion files for bash, zsh and fish, written from the commands and options click knows.

They are static: pressing Tab starts no Python. ``octodb completion SHELL`` prints one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import click

__all__ = ["SHELLS", "completion_script"]


def completion_script(shell: str, group: click.Group) -> str:
    """The file for one of SHELLS."""
    return SHELLS[shell](group)


def _commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group, info_name="octodb")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield command


def _actions(command: click.Command) -> list[click.Command]:
    """What may stand behind the command's own name: ``octodb nodes revoke``."""
    actions = command.commands.values() if isinstance(command, click.Group) and command.params == [] else ()
    return [action for action in actions if not action.hidden]


def _options(command: click.Command) -> list[click.Option]:
    """Those of its actions, too."""
    commands = [command]
    if isinstance(command, click.Group) and command.params == []:
        commands += command.commands.values()
    found = {p.name: p for one in commands for p in one.params if isinstance(p, click.Option) and not p.hidden}
    options = list(found.values())
    return [*options, click.Option(["-h", "--help"], is_flag=True, help="Show the help.")]


def _choices(option: click.Option) -> list[str]:
    return [str(choice) for choice in option.type.choices] if isinstance(option.type, click.Choice) else []


def _flags(option: click.Option) -> list[str]:
    return sorted(option.opts, key=len)


def _bash(group: click.Group) -> str:
    cases = []
    values = {}
    for command in _commands(group):
        words = " ".join(flag for option in _options(command) for flag in _flags(option))
        actions = " ".join(str(action.name) for action in _actions(command))
        more = f' actions="{actions}"' if actions else ""
        cases.append(f'    {command.name}) words="{words}"{more} ;;')
        for option in _options(command):
            if _choices(option):
                values[_flags(option)[-1]] = " ".join(_choices(option))
    names = " ".join(str(command.name) for command in _commands(group))
    top = " ".join(flag for option in _options(group) for flag in _flags(option))
    value_cases = [
        f'    {flag}) COMPREPLY=($(compgen -W "{words}" -- "$word")); return ;;' for flag, words in values.items()
    ]
    return "\n".join(
        [
            "# bash completion for octodb; made by: octodb completion bash",
            "_octodb() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
            '  local command="" i words actions=""',
            "  COMPREPLY=()",
            "  for ((i = 1; i < COMP_CWORD; i++)); do",
            f'    case " {names} " in *" ${{COMP_WORDS[i]}} "*) command="${{COMP_WORDS[i]}}"; break ;; esac',
            "  done",
            '  case "$before" in',
            *value_cases,
            "  esac",
            '  case "$command" in',
            f'    "") words="{names} {top}" ;;',
            *cases,
            "  esac",
            "  if [[ -z $command || $word == -* ]]; then",
            '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "  else",
            '    COMPREPLY=($(compgen -W "$actions" -- "$word") $(compgen -f -- "$word"))',
            "  fi",
            "}",
            "complete -o filenames -F _octodb octodb",
            "",
        ]
    )


def _zsh(group: click.Group) -> str:
    lines = [
        "#compdef octodb",
        "# zsh completion for octodb; made by: octodb completion zsh",
        "_octodb() {",
        "  local context state state_descr line",
        "  typeset -A opt_args",
        "  _arguments -C \\",
        *[f"    {_zsh_option(option)} \\" for option in _options(group)],
        "    '1:command:->command' '*::argument:->arguments'",
        '  case "$state" in',
        "    command)",
        "      local -a commands=(",
        *[f"        {_single(_zsh_item(c))}" for c in _commands(group)],
        "      )",
        "      _describe command commands ;;",
        "    arguments)",
        '      case "$line[1]" in',
    ]
    for command in _commands(group):
        options = " ".join(_zsh_option(option) for option in _options(command))
        actions = " ".join(str(action.name) for action in _actions(command))
        first = f"""'1: :_alternative "actions:action:({actions})" "files:database:_files"' """ if actions else ""
        lines.append(f"        {command.name}) _arguments {options} {first}'*:database:_files' ;;")
    return "\n".join([*lines, "      esac ;;", "  esac", "}", '_octodb "$@"', ""])


def _zsh_option(option: click.Option) -> str:
    text = f"[{_zsh_text(option.help or '')}]"
    if not option.is_flag:
        choices = _choices(option)
        text += f":value:({' '.join(choices)})" if choices else ":value:_files"
    flags = _flags(option)
    if len(flags) == 1:
        return _single(("*" if option.multiple else "") + flags[0] + text)
    return f"'({' '.join(flags)})'{{{','.join(flags)}}}{_single(text)}"


def _zsh_item(command: click.Command) -> str:
    text = command.get_short_help_str(200).replace(":", "\\:")
    return f"{command.name}:{text}"


def _zsh_text(text: str) -> str:
    return text.replace("[", "(").replace("]", ")")


def _fish(group: click.Group) -> str:
    lines = ["# fish completion for octodb; made by: octodb completion fish"]
    for option in _options(group):
        lines.append(f"complete -c octodb -n __fish_use_subcommand {_fish_option(option)}")
    for command in _commands(group):
        text = _single(command.get_short_help_str(200))
        lines.append(f"complete -c octodb -f -n __fish_use_subcommand -a {command.name} -d {text}")
    for command in _commands(group):
        seen = f"'__fish_seen_subcommand_from {command.name}'"
        for action in _actions(command):
            text = _single(action.get_short_help_str(200))
            lines.append(f"complete -c octodb -n {seen} -a {action.name} -d {text}")
        for option in _options(command):
            lines.append(f"complete -c octodb -n {seen} {_fish_option(option)}")
    return "\n".join([*lines, ""])


def _fish_option(option: click.Option) -> str:
    parts = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in _flags(option)]
    if not option.is_flag:
        choices = _choices(option)
        parts.append(f"-x -a '{' '.join(choices)}'" if choices else "-r")
    return " ".join([*parts, "-d", _single(option.help or "")])


def _single(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: Final[dict[str, Callable[[click.Group], str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
