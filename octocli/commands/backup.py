"""``octodb backup``: copy a node's database while it is in use, and check the copy."""

from __future__ import annotations

import click

from octocli.options import common_options, terminal_of

__all__ = ["command"]


@click.command("backup", short_help="Copy a database while it is served, and check the copy.")
@click.argument("database", metavar="DATABASE")
@click.argument("target", metavar="TARGET")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
@click.pass_context
def command(ctx: click.Context, database: str, target: str, as_json: bool) -> None:
    """Copy DATABASE (a path or a URI) to the new file TARGET, while any process serves or writes it.

    The copy is one consistent state. It appears under its name when it was read to its end: SQLite's integrity
    check, and the running hashes of the log. Nothing is overwritten. It holds the node's private key.
    """
    import octodb
    from octocli.copying import CopyDisplay, print_report
    from octocli.target import database_of, path_of

    terminal = terminal_of(ctx)
    with CopyDisplay(terminal) as display:
        report = octodb.backup(database_of(database), path_of(target), progress=display.progress)
    print_report(report, terminal, as_json)
    if report.role == "secondary":
        terminal.say("this is a device's: brought back after the device has synced again, it is recognised as a copy")
