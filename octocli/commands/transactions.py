"""``octodb transactions``: what a device has still to send, and what was rejected and why."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

import click

from octocli.actions import ActionsOrList, print_objects
from octocli.options import common_options, terminal_of, uri_argument

if TYPE_CHECKING:
    import octodb

__all__ = ["command"]

_COLUMNS: Final = ("nonce", "state", "made_at", "tables", "rows", "reason")
_number = click.argument("number", metavar="N", type=click.IntRange(min=1))


@click.group(
    "transactions", cls=ActionsOrList, short_help="A device's queue and dead letters: list, show, retry, drop, export."
)
def command() -> None:
    """The transactions of a device that have no verdict yet, and those that were rejected.

    `octodb transactions [URI]` lists them, beside the process that syncs the file or without one.
    """


@command.command("list", hidden=True)
@uri_argument
@click.option("--state", type=click.Choice(["pending", "rejected"]), help="Only these.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@common_options
@click.pass_context
def _list(ctx: click.Context, uri: str | None, state: str | None, as_json: bool) -> None:
    """List what waits and what was rejected."""
    terminal = terminal_of(ctx)
    with contextlib.closing(_open(uri, write=False)) as conn:
        found = [one for one in _all(conn) if state in {None, one["state"]}]
    if not found and not as_json:
        terminal.say("nothing waits, and nothing was rejected" if state is None else f"nothing is {state}")
        return
    print_objects(terminal, found, _COLUMNS, as_json=as_json)


@command.command("show")
@_number
@uri_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@common_options
@click.pass_context
def _show(ctx: click.Context, number: int, uri: str | None, as_json: bool) -> None:
    """Show a transaction: its state, the reason, and every row that it changes."""
    with contextlib.closing(_open(uri, write=False)) as conn:
        found = next((one for one in _all(conn) if one["nonce"] == number), None)
        if found is None:
            found = {"nonce": number, "state": _state_of(conn, number)}
        changes = _changes(conn, number)
    if as_json:
        head = json.dumps({"v": 1, **found})
        click.echo(f'{head[:-1]}, "changes": [{", ".join(map(_change_json, changes))}]}}')
        return
    room = max(map(len, found))
    for name, value in found.items():
        if value not in {None, ""}:
            click.echo(f"{name:<{room}}  {value}")
    for change in changes:
        click.echo(_change_text(change))


@command.command("retry")
@_number
@uri_argument
@common_options
@click.pass_context
def _retry(ctx: click.Context, number: int, uri: str | None) -> None:
    """Make a rejected transaction again, with a number of its own."""
    with contextlib.closing(_open(uri, write=True)) as conn:
        (new,) = conn.execute(f"PRAGMA retry_transaction({number})").fetchone()
    terminal_of(ctx).say(f"made again as transaction {new}")


@command.command("drop")
@_number
@uri_argument
@common_options
@click.pass_context
def _drop(ctx: click.Context, number: int, uri: str | None) -> None:
    """Forget a rejected transaction for good."""
    with contextlib.closing(_open(uri, write=True)) as conn:
        conn.execute(f"PRAGMA drop_transaction({number})")
    terminal_of(ctx).say(f"dropped: {number}")


@command.command("export")
@_number
@uri_argument
@common_options
@click.pass_context
def _export(ctx: click.Context, number: int, uri: str | None) -> None:
    """Write the changes of a transaction that waits or was rejected, one JSON object a row."""
    from octocli.failure import Exit, Failure

    with contextlib.closing(_open(uri, write=False)) as conn:
        changes = _changes(conn, number)
    for change in changes:
        click.echo(_change_json(change))
    if not changes:
        raise Failure(
            f"there is nothing to export of transaction {number}",
            why="it neither waits nor was rejected",
            fix="octodb transactions lists those that do",
            code=Exit.ERROR,
        )


def _open(uri: str | None, *, write: bool) -> octodb.Connection:
    """A look starts no engine: what is listed is in the file."""
    from octocli.database import open_database
    from octocli.target import choose_device, read_target, with_parameters

    target = choose_device(uri, why="primaries have no queue: what they commit is in the log")
    if not write and "mode=" not in target.uri:
        target = read_target(with_parameters(target.uri, mode="ro"))
    return open_database(target)


def _all(conn: octodb.Connection) -> list[dict[str, Any]]:
    """Both kinds in the order they were made, with the same names."""
    pending = [
        {**one, "state": "pending", "reason": one.pop("suspended")} for one in _objects(conn, "pending_transactions")
    ]
    rejected = [{"nonce": one["nonce"], "state": "rejected", **one} for one in _objects(conn, "rejected_transactions")]
    return sorted([*pending, *rejected], key=lambda one: int(one["nonce"]))


def _objects(conn: octodb.Connection, pragma: str) -> list[dict[str, Any]]:
    cursor = conn.execute(f"PRAGMA {pragma}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _state_of(conn: octodb.Connection, number: int) -> str:
    from octocli.failure import Exit, Failure

    row = conn.execute(f"PRAGMA transaction_status({number})").fetchone()
    if row is None:
        raise Failure(
            f"there is no transaction {number}",
            why="the newest one is {}".format(*conn.execute("PRAGMA last_nonce").fetchone()),
            fix="octodb transactions lists what waits and what was rejected",
            code=Exit.ERROR,
        )
    return str(row[0])


def _changes(conn: octodb.Connection, number: int) -> list[dict[str, str | None]]:
    """``key``, ``old`` and ``new`` are JSON texts, which have numbers that Python's json would not write (9e999)."""
    return _objects(conn, f"export_transaction({number})")


def _change_json(change: dict[str, str | None]) -> str:
    values = {name: json.dumps(change[name], ensure_ascii=False) for name in ("table", "op", "part")}
    values |= {name: change[name] or "null" for name in ("key", "old", "new")}
    return "{" + ", ".join(f'"{name}": {value}' for name, value in values.items()) + "}"


def _change_text(change: dict[str, str | None]) -> str:
    """``UPDATE task {"id": 7}: {"done": 0} → {"done": 1}``."""
    values = " → ".join(value for value in (change["old"], change["new"]) if value is not None)
    return f"  {change['op']} {change['table']} {change['key']}: {values}"
