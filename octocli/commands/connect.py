"""``octodb connect``: open a device's database, sign in, wait until it can be used, run SQL."""

from __future__ import annotations

import contextlib

import click

from octocli.options import common_options, data_option, terminal_of, timeout_option, uri_argument

__all__ = ["command"]


@click.command("connect", short_help="Open a device's database: sign in, sync, SQL shell.")
@uri_argument
@click.option("-c", "commands", metavar="SQL", multiple=True, help="Run SQL and exit; may be repeated.")
@click.option("-f", "file", metavar="FILE|-", help="Run a file (or standard input) after every -c, and exit.")
@click.option(
    "--wait",
    type=click.Choice(["ready", "synced", "none"]),
    default="ready",
    show_default=True,
    help="What to wait for before the first statement.",
)
@click.option("--readonly", is_flag=True, help="Refuse statements that write.")
@data_option
@timeout_option
@common_options
@click.pass_context
def command(
    ctx: click.Context,
    uri: str | None,
    commands: tuple[str, ...],
    file: str | None,
    wait: str,
    readonly: bool,
    data: str | None,
    timeout: float | None,
) -> None:
    """Connect as a device (secondary).

    Signs up or logs in when asked for, downloads the database the first time, then runs the SQL given by
    -c, -f or standard input, or opens the SQL shell at a terminal. --data logs in without questions.
    """
    from octocli.database import become_usable, open_database, patience
    from octocli.feed import StatusFeed
    from octocli.login_data import read_login_data
    from octocli.shell.run import run_shell
    from octocli.target import choose_device, remember_target

    terminal = terminal_of(ctx)
    if data == "-" and (file == "-" or not (commands or file)):
        raise click.UsageError("--data - and the SQL cannot both come from standard input", ctx)
    target = choose_device(uri, why="connect is for devices (node=secondary)")
    text = read_login_data(data, warn=terminal.complain)
    conn = open_database(target, read_only=readonly)
    with contextlib.closing(conn):
        remember_target(target)
        feed = StatusFeed(conn)
        become_usable(
            feed,
            terminal,
            wait=wait,  # type: ignore[arg-type]  # click.Choice gives one of Wait's values
            data=text,
            patience_s=patience(timeout, terminal),
        )
        run_shell(conn, target, terminal, feed=feed, commands=commands, file=file)
