"""The ``octodb`` program: global options, the list of commands, and how every run ends.

Imports click only; a command's module is imported when it is named, the library when it is used.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
import warnings
from typing import Any, Final, NoReturn

import click

from octocli.failure import Exit, Failure, failure_of
from octocli.terminal import Terminal, detect, to_ascii

__all__ = ["cli", "main", "run"]

COMMANDS: Final = (
    "connect",
    "shell",
    "signup",
    "login",
    "whoami",
    "status",
    "transactions",
    "serve",
    "nodes",
    "accounts",
    "backup",
    "restore",
    "encrypt",
    "verify",
    "doctor",
    "demo",
    "completion",
)


class ReaderGone(Exception):  # noqa: N818 - nothing is wrong: nobody reads our output any more
    """Standard output is a pipe whose reader has left."""


class CommandTable(click.Group):
    """Commands live in ``octocli.commands.NAME`` as ``command``; only the one named is imported."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click itself would end with exit code 1
            raise ReaderGone from None

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"octocli.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise Failure(
                f"there is no command {args[0]}",
                fix=f"did you mean octodb {near[0]}?" if near else "octodb --help lists them",
                code=Exit.USAGE,
            )
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"octodb {version('octodb')}")
        ctx.exit()


@click.command(
    cls=CommandTable,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--quiet", "-q", is_flag=True, help="Print errors only.")
@click.option("--no-color", is_flag=True, help="No colours (as NO_COLOR=1).")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def cli(ctx: click.Context, quiet: bool, no_color: bool, debug: bool) -> None:
    """SQLite that syncs.

    A device works offline on a full local database; primaries merge everybody's rows. Where URI is left
    out, OCTODB_URI is used, else the database last connected.

    \b
      octodb serve primary.db --bind tcp://127.0.0.1:1234 --accounts
      octodb connect 'file:app.db?node=secondary&connect=tcp://127.0.0.1:1234'
    """
    ctx.obj = detect(no_color=no_color, quiet=quiet)
    ctx.meta["octocli.debug"] = debug
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"  # for people, not for programmers
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(Exit.USAGE)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Every error is printed here and nowhere else."""
    debug = "--debug" in arguments or bool(os.environ.get("OCTODB_DEBUG"))
    try:
        result: Any = cli.main(arguments, prog_name="octodb", standalone_mode=False)
        sys.stdout.flush()
        return int(result) if isinstance(result, int) else Exit.OK
    except click.Abort:
        _end_line()  # Ctrl-C or Ctrl-D at a question, which ended without a line's end
        return Exit.INTERRUPTED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        _forget_stdout()
        return Exit.BROKEN_PIPE
    except click.ClickException as error:
        if debug:
            raise
        return _report(_usage_failure(error))
    except Exception as error:
        if debug:
            raise
        return _report(failure_of(error))


def main() -> NoReturn:
    """The console script."""
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # Data that the terminal's encoding lacks is escaped rather than ending the command.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # real streams here
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def _terminate(_number: int, _frame: object) -> NoReturn:
    # Unwinds like any exit, so that databases are closed and child processes ended.
    raise SystemExit(128 + 15)


def _usage_failure(error: click.ClickException) -> Failure:
    context = getattr(error, "ctx", None)
    if context is None:
        return Failure(error.format_message(), fix="octodb --help", code=Exit.USAGE)
    usage = " ".join(context.get_usage().split())
    return Failure(
        error.format_message(),
        why=usage,
        fix=f"{context.command_path} --help",
        code=Exit.USAGE,
    )


def _report(failure: Failure) -> int:
    text = "\n".join(failure.lines())
    terminal: Terminal = detect(stdout=sys.stderr)
    with contextlib.suppress(OSError):  # nobody reads it any more, or the disk is full: the exit code still tells
        sys.stderr.write((text if terminal.unicode else to_ascii(text)) + "\n")
        sys.stderr.flush()
    return failure.code


def _end_line() -> None:
    if detect().can_ask:
        sys.stderr.write("\n")


def _replace_closed_streams() -> None:
    """Standard streams that were closed by who started us (``>&-``) are as /dev/null: Python has None there.

    Their descriptors are taken too, lest a database be opened as descriptor 1 and printed into.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            stream = open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
            setattr(sys, name, stream)


def _forget_stdout() -> None:
    """The reader of the pipe is gone: nothing more may be written, not even at interpreter exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
