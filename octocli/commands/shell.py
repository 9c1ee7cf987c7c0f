"""``octodb shell``: the SQL shell on any database, a node or a plain file."""

from __future__ import annotations

import contextlib

import click

from octocli.options import common_options, terminal_of, uri_argument

__all__ = ["command"]


@click.command("shell", short_help="SQL shell on any database: a primary, a device, a plain file.")
@uri_argument
@click.option("-c", "commands", metavar="SQL", multiple=True, help="Run SQL and exit; may be repeated.")
@click.option("-f", "file", metavar="FILE|-", help="Run a file (or standard input) after every -c, and exit.")
@click.option("--readonly", is_flag=True, help="Refuse statements that write.")
@common_options
@click.pass_context
def command(ctx: click.Context, uri: str | None, commands: tuple[str, ...], file: str | None, readonly: bool) -> None:
    """Open URI (or a file) in the SQL shell, without waiting for anything.

    A primary binds its addresses and serves while the shell is open, unless another process does.
    """
    from octocli.database import open_database
    from octocli.feed import StatusFeed
    from octocli.primary import beside_server
    from octocli.shell.run import run_shell
    from octocli.target import choose_target

    terminal = terminal_of(ctx)
    chosen = choose_target(uri, plain=True)
    target = beside_server(chosen)
    if target is not chosen:
        terminal.say(f"another process serves {target.name}: this shell works beside it")
    conn = open_database(target, read_only=readonly)
    with contextlib.closing(conn):
        feed = None if target.role is None else StatusFeed(conn)
        run_shell(conn, target, terminal, feed=feed, commands=commands, file=file)
