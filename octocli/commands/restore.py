"""``octodb restore``: make a database from a backup, or only check the backup."""

from __future__ import annotations

import click

from octocli.options import common_options, terminal_of

__all__ = ["command"]


@click.command("restore", short_help="Make a database from a backup, or check a backup.")
@click.argument("backup", metavar="BACKUP")
@click.argument("target", metavar="[TARGET]", required=False)
@click.option("--check", is_flag=True, help="Read BACKUP to its end and make nothing.")
@click.option("--force", is_flag=True, help="Where TARGET exists, keep that as TARGET.before-restore.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
@click.pass_context
def command(ctx: click.Context, backup: str, target: str | None, check: bool, force: bool, as_json: bool) -> None:
    """Make the database TARGET from BACKUP, which is checked first and stays as it is.

    A restored primary has a new epoch, by which its devices see that it went back. Restore to where the primary was,
    with its process stopped, then serve it as before.
    """
    import octodb
    from octocli.copying import CopyDisplay, print_report
    from octocli.target import database_of

    terminal = terminal_of(ctx)
    if check:
        if target is not None or force:
            raise click.UsageError("--check takes BACKUP alone", ctx)
        print_report(octodb.check_backup(database_of(backup)), terminal, as_json)
        return
    if target is None:
        raise click.UsageError("Missing argument 'TARGET'.", ctx)
    with CopyDisplay(terminal) as display:
        report = octodb.restore(database_of(backup), database_of(target), force=force, progress=display.progress)
    print_report(report, terminal, as_json)
    if report.set_aside:
        terminal.say(f"what was there before is now {report.set_aside}")
    if report.role == "primary":
        terminal.say(f"a new epoch begins: devices notice when they connect; serve it: octodb serve '{report.path}'")
