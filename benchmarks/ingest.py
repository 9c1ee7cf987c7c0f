"""A primary taking in the 1-row transactions of 50 devices, durable and exactly once, beside bare loops on its bodies.

The bare loops apply the very changesets that the primary logged, in their order, to a file of the same tables and
indexes (WAL, synchronous FULL), in group commits. They check nothing, know no devices and talk to nobody.
"""

from __future__ import annotations

import sqlite3
import statistics
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw

from benchmarks.load_devices import load
from benchmarks.measuring import Size, seconds_of
from benchmarks.nodes import primary_process
from benchmarks.report import Comparison, Target
from octodb.model.transactions import decode_body

__all__ = ["TITLE", "run"]

TITLE: Final = "Primary ingest: 50 devices, 1-row transactions, each durable before its verdict, exactly once"
_PER_S: Final = Target("≥", 20_000, "/s")
_OF_BARE: Final = Target("≥", 0.4)
_DEVICES: Final = 50
# The most that the primary puts into one commit; 50 devices with 200 transactions in flight fill that.
_GROUP: Final = 4096
_CONFLICT_ABORT: Final = apsw.SQLITE_CHANGESET_ABORT
_LOG_INSERT: Final = (
    "INSERT INTO _octodb_log(seq, owner, origin, nonce, hash, chain, body, made_at) VALUES (?,?,?,?,?,?,?,?)"
)


def run(folder: Path, size: Size) -> list[Comparison]:
    """Rounds of: a fresh primary under load, its file verified, the bare loops on what it stored."""
    count, rounds = size.of((1000, 3), (400, 1), (20, 1))
    comparisons: list[Comparison] = []
    for push_count in (1, 100):
        found = [_round(folder, f"{push_count}-{number}", count, push_count) for number in range(rounds)]
        medians = {name: statistics.median(each[name] for each in found) for name in found[0]}
        what = f"{push_count} per push" if push_count > 1 else "1 per push"
        ours, apply = medians["primary"], medians["apply"]
        comparisons += [
            Comparison(what, ours, "Changeset.apply", apply, "/s", _PER_S),
            Comparison(what, ours, "Changeset.apply", apply, "/s", _OF_BARE),
            Comparison(what, ours, "Changeset.apply, INSERT into log", medians["apply and log"], "/s"),
            Comparison(what, ours, "INSERT of row, INSERT into log", medians["insert and log"], "/s"),
            Comparison(f"{what}: load generator", medians["load"], "one core", 100, "% busy"),
        ]
    return comparisons


def _round(folder: Path, name: str, count: int, push_count: int) -> dict[str, float]:
    """Transactions per second of each contestant."""
    path = folder / f"primary-{name}.db"
    with primary_process(path) as primary:
        pushed = load(primary.address, _DEVICES, count, push_count)
    entries, schema = _verified(path, pushed.transactions)
    found = {"primary": pushed.transactions / pushed.seconds, "load": 100 * pushed.busy_seconds / pushed.seconds}
    bare: tuple[tuple[str, Callable[[apsw.Cursor, Any], None]], ...] = (
        ("apply", _apply),
        ("apply and log", _apply_and_log),
        ("insert and log", _insert_and_log),
    )
    prepared = [(decode_body(entry[6]).ops[0].payload, entry) for entry in entries]
    for bare_name, work in bare:
        db_path = folder / f"bare-{name}-{bare_name.replace(' ', '-')}.db"
        with closing(_bare_file(db_path, schema)) as db:
            seconds = seconds_of(lambda db=db, work=work: _in_groups(db, work, prepared))  # type: ignore[misc]
            stored = db.execute("SELECT count(*) FROM note").get
        if stored != pushed.transactions:
            raise RuntimeError(f"the bare loop stored {stored} rows")
        found[bare_name] = pushed.transactions / seconds
    return found


def _verified(path: Path, transactions: int) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The log and the schema of the primary's file. Raises RuntimeError unless each transaction is there once."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT count(*), count(DISTINCT title), count(DISTINCT row_owner) FROM note").fetchone()
        logged = db.execute(
            "SELECT count(*), count(DISTINCT origin * 1000000 + nonce), max(seq) - min(seq) + 1 FROM _octodb_log"
        ).fetchone()
        if rows != (transactions, transactions, _DEVICES) or logged != (transactions,) * 3:
            raise RuntimeError(f"not exactly once: {transactions} sent, rows {rows}, log {logged}")
        schema = db.execute("SELECT sql FROM sqlite_schema WHERE tbl_name IN ('note', '_octodb_log') AND sql NOT NULL")
        log = db.execute("SELECT seq, owner, origin, nonce, hash, chain, body, made_at FROM _octodb_log ORDER BY seq")
        return log.fetchall(), [row[0] for row in schema]


def _bare_file(path: Path, schema: list[str]) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    for sql in schema:
        db.execute(sql)
    return db


def _in_groups(db: apsw.Connection, work: Callable[[apsw.Cursor, Any], None], prepared: list[Any]) -> None:
    cursor = db.cursor()
    for start in range(0, len(prepared), _GROUP):
        cursor.execute("BEGIN IMMEDIATE")
        for each in prepared[start : start + _GROUP]:
            work(cursor, each)
        cursor.execute("COMMIT")


def _apply(cursor: apsw.Cursor, each: tuple[bytes, tuple[Any, ...]]) -> None:
    apsw.Changeset.apply(each[0], cursor.connection, conflict=_on_conflict)


def _apply_and_log(cursor: apsw.Cursor, each: tuple[bytes, tuple[Any, ...]]) -> None:
    apsw.Changeset.apply(each[0], cursor.connection, conflict=_on_conflict)
    cursor.execute(_LOG_INSERT, each[1])


def _insert_and_log(cursor: apsw.Cursor, each: tuple[bytes, tuple[Any, ...]]) -> None:
    for change in apsw.Changeset.iter(each[0]):
        cursor.execute("INSERT INTO note VALUES (?, ?, ?, ?)", change.new)
    cursor.execute(_LOG_INSERT, each[1])


def _on_conflict(_reason: int, _change: apsw.TableChange) -> int:
    return _CONFLICT_ABORT
