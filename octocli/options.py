"""The options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from octocli.terminal import Terminal, detect

__all__ = ["PATIENCE_S", "common_options", "data_option", "terminal_of", "timeout_option", "uri_argument"]

Command = TypeVar("Command", bound=Callable[..., Any])

# Without a person to press Ctrl-C, nothing waits for ever: this long without any progress is enough.
PATIENCE_S: Final = 30.0


def uri_argument(command: Command) -> Command:
    """URI, or the path of a database that was a node before; may be left out."""
    return click.argument("uri", required=False, metavar="[URI]")(command)


def data_option(command: Command) -> Command:
    return click.option(
        "--data",
        metavar="JSON|-|@FILE",
        help="What to send: one JSON object. Else OCTODB_LOGIN_DATA_FILE, else you are asked.",
    )(command)


def timeout_option(command: Command) -> Command:
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        metavar="S",
        help=f"Give up after S seconds without progress ({PATIENCE_S:.0f} when nobody is at the terminal).",
    )(command)


def common_options(command: Command) -> Command:
    """The global options, so that they may also stand after the command's name."""
    for name, text in (
        ("--debug", "Show tracebacks."),
        ("--no-color", "No colours."),
        ("--quiet", "Print errors only."),
    ):
        command = click.option(name, is_flag=True, hidden=True, expose_value=False, callback=_widen, help=text)(command)
    return command


def terminal_of(ctx: click.Context) -> Terminal:
    """The Terminal of this run, as the global options left it."""
    terminal = ctx.find_object(Terminal)
    return detect() if terminal is None else terminal


def _widen(ctx: click.Context, param: click.Parameter, given: bool) -> None:
    if not given:
        return
    terminal = terminal_of(ctx)
    if param.name == "quiet":
        ctx.obj = Terminal(**{**vars(terminal), "quiet": True})
    elif param.name == "no_color":
        ctx.obj = Terminal(**{**vars(terminal), "colour": False})
