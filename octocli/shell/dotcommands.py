"""The dot commands: a table of names, what they take, what they do.

sqlite3's names where sqlite3 has the command, psql's aliases beside them, and ours for what syncs.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from octocli.database import become_usable, patience
from octocli.failure import Exit, Failure
from octocli.formats import MODES
from octocli.login_data import read_login_data
from octocli.progress import wait_synced
from octocli.shell.script import run_file
from octocli.shell.session import LeaveShell, ShellSession

if TYPE_CHECKING:
    from octocli.signin import Action

__all__ = ["ALIASES", "COMMANDS", "run_dot_command"]

ALIASES: Final = {"d": "schema", "dt": "tables", "di": "indexes", "x": "vertical", "q": "quit", "?": "help"}


@dataclass(frozen=True)
class DotCommand:
    """``usage`` names the arguments; ``args_max`` is their number, None where the rest is one text."""

    run: Callable[[ShellSession, list[str]], None]
    usage: str
    text: str
    args_max: int | None = 0


def run_dot_command(session: ShellSession, line: str) -> None:
    """Run ``.name arguments`` (or ``\\name``). Raises Failure (exit 2) for one there is not."""
    sign, rest = line[0], line[1:].rstrip("; \t\r\n")
    name, _, tail = rest.partition(" ")
    if sign == "\\":
        name = ALIASES.get(name, name)
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        fix = f"did you mean .{near[0]}?" if near else ".help lists them"
        raise Failure(f"there is no command {sign}{name}", fix=fix, code=Exit.USAGE)
    command.run(session, _arguments(name, command, tail.strip()))


def _arguments(name: str, command: DotCommand, tail: str) -> list[str]:
    if command.args_max is None:
        return [tail] if tail else []
    try:
        arguments = shlex.split(tail)
    except ValueError as error:
        raise Failure(f".{name}: {error}", fix="close the quote", code=Exit.USAGE) from None
    if len(arguments) > command.args_max:
        raise Failure(
            f".{name} takes {'no argument' if not command.args_max else f'at most {command.args_max} argument'}",
            fix=f".{name} {command.usage}".rstrip(),
            code=Exit.USAGE,
        )
    return arguments


def _query(session: ShellSession, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    return session.worker.run(lambda: session.conn.execute(sql, tuple(parameters)).fetchall())


def _show(session: ShellSession, sql: str) -> None:
    """Run a query and show its rows in the current mode."""

    def work() -> int:
        cursor = session.conn.execute(sql)
        session.output.show(cursor)
        return 0

    session.worker.run(work)


def _tables(session: ShellSession, args: list[str]) -> None:
    pattern = args[0] if args else "%"
    rows = _query(
        session,
        "SELECT name FROM sqlite_schema WHERE type IN ('table','view') AND name LIKE ? "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_octodb%' ESCAPE '\\' "
        "UNION ALL SELECT name FROM sqlite_temp_schema WHERE type IN ('table','view') AND name LIKE ? "
        "ORDER BY 1",
        (pattern, pattern),
    )
    _lines(session, rows)


def _indexes(session: ShellSession, args: list[str]) -> None:
    rows = _query(
        session,
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name LIKE ? "
        "AND tbl_name NOT LIKE '\\_octodb%' ESCAPE '\\' AND name NOT LIKE '\\_octodb%' ESCAPE '\\' ORDER BY 1",
        (args[0] if args else "%",),
    )
    _lines(session, rows)


def _schema(session: ShellSession, args: list[str]) -> None:
    rows = _query(
        session,
        "SELECT sql || ';' FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name LIKE ? "
        "AND tbl_name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND tbl_name NOT LIKE '\\_octodb%' ESCAPE '\\' AND name NOT LIKE '\\_octodb%' ESCAPE '\\' "
        "ORDER BY tbl_name, type = 'table' DESC, name",
        (args[0] if args else "%",),
    )
    _lines(session, rows)


def _lines(session: ShellSession, rows: Sequence[Any]) -> None:
    for row in rows:
        session.output.say(str(row[0]))


def _mode(session: ShellSession, args: list[str]) -> None:
    if not args:
        session.output.say(session.settings.mode)
        return
    mode = {"tabs": "tsv", "line": "vertical", "column": "box"}.get(args[0], args[0])
    if mode not in MODES:
        raise Failure(f"there is no mode {args[0]}", fix=f"one of: {' '.join(MODES)}", code=Exit.USAGE)
    session.settings.mode = mode


def _vertical(session: ShellSession, args: list[str]) -> None:
    wanted = _on_off(args, session.settings.mode != "vertical")
    session.settings.mode = "vertical" if wanted else "box"


def _headers(session: ShellSession, args: list[str]) -> None:
    session.settings.headers = _on_off(args, True)


def _timer(session: ShellSession, args: list[str]) -> None:
    session.settings.timer = _on_off(args, not session.settings.timer)


def _on_off(args: list[str], default: bool) -> bool:
    if not args:
        return default
    if args[0] not in {"on", "off"}:
        raise Failure(f"{args[0]} is neither on nor off", fix="on or off", code=Exit.USAGE)
    return args[0] == "on"


def _nullvalue(session: ShellSession, args: list[str]) -> None:
    session.settings.null = args[0] if args else None


def _read(session: ShellSession, args: list[str]) -> None:
    if not args:
        raise Failure(".read needs a file", fix=".read FILE", code=Exit.USAGE)
    run_file(session, args[0])


def _node_needed(session: ShellSession, role: str | None = None) -> None:
    if session.target.role is None:
        raise Failure(
            f"{session.target.name} is a plain database: it does not sync",
            fix="open a node: octodb connect 'file:app.db?node=secondary&connect=tcp://HOST:PORT'",
        )
    if role is not None and session.target.role != role:
        raise Failure(f"this node is a {session.target.role}", fix=f"run it on a {role}")


def _sync(session: ShellSession, _args: list[str]) -> None:
    from octocli.status_text import status_lines

    _node_needed(session)
    if session.feed is not None and session.target.role == "secondary":
        patience_s = patience(None, session.terminal)
        wait_synced(session.feed, session.terminal, patience_s=patience_s)
    for line in status_lines(session.conn.sync_status, session.target.name, session.terminal):
        session.output.say(line)


def _pending(session: ShellSession, _args: list[str]) -> None:
    _node_needed(session, "secondary")
    _show(session, "PRAGMA pending_transactions")


def _rejected(session: ShellSession, _args: list[str]) -> None:
    _node_needed(session, "secondary")
    _show(session, "PRAGMA rejected_transactions")


def _nodes(session: ShellSession, _args: list[str]) -> None:
    _node_needed(session, "primary")
    _show(session, "PRAGMA nodes")


def _login(session: ShellSession, args: list[str]) -> None:
    _sign_in(session, args, "login")


def _signup(session: ShellSession, args: list[str]) -> None:
    _sign_in(session, args, "signup")


def _sign_in(session: ShellSession, args: list[str], action: Action) -> None:
    _node_needed(session, "secondary")
    assert session.feed is not None, "a node's session has a feed"
    data = read_login_data(args[0], warn=lambda _text: None) if args else None
    become_usable(
        session.feed,
        session.terminal,
        action=action,
        data=data,
        patience_s=patience(None, session.terminal),
    )


def _help(session: ShellSession, _args: list[str]) -> None:
    for name, command in COMMANDS.items():
        session.output.say(f".{name} {command.usage}".ljust(24) + command.text)
    aliases = ", ".join(f"\\{alias} = .{name}" for alias, name in ALIASES.items())
    session.output.say(f"Also {aliases}. Statements end with ; and Ctrl-C stops one that runs.")


def _quit(_session: ShellSession, _args: list[str]) -> None:
    raise LeaveShell


COMMANDS: Final[dict[str, DotCommand]] = {
    "tables": DotCommand(_tables, "[LIKE]", "list tables and views", 1),
    "schema": DotCommand(_schema, "[LIKE]", "show CREATE statements", 1),
    "indexes": DotCommand(_indexes, "[TABLE]", "list indexes", 1),
    "mode": DotCommand(_mode, "[MODE]", f"output format: {' '.join(MODES)}", 1),
    "vertical": DotCommand(_vertical, "[on|off]", "one column a line", 1),
    "headers": DotCommand(_headers, "on|off", "column names above the rows", 1),
    "nullvalue": DotCommand(_nullvalue, "[TEXT]", "what stands for NULL", 1),
    "read": DotCommand(_read, "FILE", "run the statements of a file", 1),
    "timer": DotCommand(_timer, "[on|off]", "show how long each statement took", 1),
    "sync": DotCommand(_sync, "", "wait until in sync, then show the status"),
    "pending": DotCommand(_pending, "", "local transactions without a verdict"),
    "rejected": DotCommand(_rejected, "", "transactions the primary refused, and why"),
    "nodes": DotCommand(_nodes, "", "the devices of this primary"),
    "login": DotCommand(_login, "[JSON|@FILE]", "log this device in", None),
    "signup": DotCommand(_signup, "[JSON|@FILE]", "make an account and log in", None),
    "help": DotCommand(_help, "", "this list", 1),
    "quit": DotCommand(_quit, "", "leave the shell"),
    "exit": DotCommand(_quit, "", "leave the shell"),
}
