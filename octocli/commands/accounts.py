"""``octodb accounts``: a primary's e-mail-and-password accounts, beside the process that serves it or without one."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

import click

from octocli.actions import ActionsOrList, print_objects
from octocli.options import common_options, terminal_of, uri_argument
from octocli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import octodb

__all__ = ["command"]

_COLUMNS: Final = ("user_id", "email", "created_at")
_email = click.argument("email", metavar="EMAIL")


@click.group("accounts", cls=ActionsOrList, short_help="A primary's e-mail accounts: list, add, passwd, remove.")
def command() -> None:
    """The accounts that `octodb serve --accounts` answers sign-ins with.

    `octodb accounts [URI]` lists them. Passwords are asked for, or read from standard input, one line; never an
    option, which every process of the machine could read.
    """


@command.command("list", hidden=True)
@uri_argument
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@common_options
@click.pass_context
def _list(ctx: click.Context, uri: str | None, as_json: bool) -> None:
    """List the accounts."""
    terminal = terminal_of(ctx)
    with _accounts(uri) as accounts:
        found = accounts.accounts()
    if not found and not as_json:
        terminal.say("there is no account yet")
        return
    print_objects(terminal, found, _COLUMNS, as_json=as_json)


@command.command("add")
@_email
@uri_argument
@common_options
@click.pass_context
def _add(ctx: click.Context, email: str, uri: str | None) -> None:
    """Make an account."""
    terminal = terminal_of(ctx)
    with _accounts(uri) as accounts:
        user_id = accounts.add(email, _new_password(terminal))
    terminal.say(f"user {user_id}: {email}")


@command.command("passwd")
@_email
@uri_argument
@common_options
@click.pass_context
def _passwd(ctx: click.Context, email: str, uri: str | None) -> None:
    """Give an account another password. Devices that are signed in stay so."""
    terminal = terminal_of(ctx)
    with _accounts(uri) as accounts:
        accounts.set_password(email, _new_password(terminal))
    terminal.say("changed; devices that are signed in stay so (octodb nodes revoke cuts one off)")


@command.command("remove")
@_email
@uri_argument
@common_options
@click.pass_context
def _remove(ctx: click.Context, email: str, uri: str | None) -> None:
    """Remove an account: nobody can sign in with it any more. Rows stay, and devices that are signed in."""
    terminal = terminal_of(ctx)
    with _accounts(uri) as accounts:
        user_id = accounts.remove(email)
    terminal.say(f"removed; devices of user {user_id} stay signed in (octodb nodes revoke cuts one off)")


@contextlib.contextmanager
def _accounts(uri: str | None) -> Iterator[octodb.Accounts]:
    """Raises Failure for what Accounts refuses to do."""
    import octodb
    from octocli.failure import Exit, Failure
    from octocli.primary import open_beside_server

    with contextlib.closing(open_beside_server(uri, why="accounts are those of primaries")) as conn:
        accounts = octodb.Accounts(conn, answer=False)
        with contextlib.closing(accounts):
            try:
                yield accounts
            except ValueError as error:
                raise Failure(str(error), fix="give another", code=Exit.USAGE) from None


def _new_password(terminal: Terminal) -> str:
    """Asked for twice at a terminal; elsewhere the first line of standard input. Raises Failure where it is empty."""
    from octocli.failure import Exit, Failure

    if terminal.stdin_is_tty:
        found: str = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
        return found
    line = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not line:
        fix = "write it to standard input, one line"
        raise Failure("no password was given", why="standard input is empty", fix=fix, code=Exit.USAGE)
    return line
