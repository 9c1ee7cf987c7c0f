"""``octodb verify``: whether a device holds what its primary says, or whether a primary's file is sound."""

from __future__ import annotations

import contextlib
import json

import click

from octocli.options import common_options, terminal_of, uri_argument

__all__ = ["command"]

_TIMEOUT_S = 60.0


@click.command("verify", short_help="Compare a device's rows with its primary's and mend them; check a primary's file.")
@uri_argument
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=_TIMEOUT_S, metavar="S", help="Exit 5 after S seconds."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
@click.pass_context
def command(ctx: click.Context, uri: str | None, timeout: float, as_json: bool) -> None:
    """Check a database.

    A device's rows are compared with its primary's by checksums, and what differs is fetched again: exit 0 when
    everything is equal (now), 1 when it stays different, 5 when the primary was not reached. A primary's file is read
    to its end, while it is served or not: SQLite's integrity check, and the running hashes of the log.
    """
    from octocli.target import choose_target

    terminal = terminal_of(ctx)
    target = choose_target(uri, role="secondary")
    if target.role == "primary":
        import octodb
        from octocli.copying import print_report

        print_report(octodb.check_backup(target.path), terminal, as_json)
        return
    from octocli.database import open_database
    from octocli.failure import Exit, Failure
    from octocli.feed import error_text

    with contextlib.closing(open_database(target)) as conn:
        (result,) = conn.execute(f"PRAGMA sync_check = {timeout}").fetchone()
        why = error_text(conn.sync_status)
    state, _, tables = result.partition(": ")
    if as_json:
        click.echo(json.dumps({"v": 1, "result": state, "tables": tables.split(", ") if tables else []}))
    if state == "unknown":
        raise Failure(
            f"not compared after {timeout:g} s", why=why, fix=f"octodb status --watch {target.path}", code=Exit.NETWORK
        )
    if state == "different":
        raise Failure(
            f"rows differ from the primary's: {tables}",
            why=why,
            fix="connect a new file, which downloads everything",
            code=Exit.ERROR,
        )
    if not as_json:
        click.echo(
            "every row is as on the primary" if state == "ok" else f"mended, and as on the primary now: {tables}"
        )
