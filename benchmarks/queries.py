"""Reading: SELECT by key and a scan of the whole table, on a ready device beside stdlib sqlite3 on the same rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Size, medians, seconds_of
from benchmarks.nodes import check_same_settings, offline_device, plain_file, primary_process, ready_device
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "Reading on a ready device"
_BY_KEY: Final = Target("≤", 1.3)
_SCAN: Final = Target("≤", 1.1)
_SELECT: Final = "SELECT id, title, n FROM note WHERE id = ?"


def run(folder: Path, size: Size) -> list[Comparison]:
    row_count, lookups = size.of((1_000_000, 20_000), (100_000, 10_000), (2000, 200))
    key_rounds, scan_rounds = size.of((15, 5), (3, 3), (1, 1))
    rows = [(n, f"title of row {n}", n % 97, "*") for n in range(1, row_count + 1)]
    chance = random.Random(1)
    keys = [(chance.randint(1, row_count),) for _ in range(lookups)]
    comparisons: list[Comparison] = []
    with ExitStack() as stack:
        address = stack.enter_context(primary_process(folder / "primary.db", rows)).address
        connections = {
            "plain": stack.enter_context(closing(plain_file(folder / "plain.db", rows))),
            "offline": stack.enter_context(offline_device(folder / "offline.db", address)),
            "connected": stack.enter_context(ready_device(folder / "connected.db", address)),
        }
        check_same_settings(connections)
        del rows
        kinds: tuple[tuple[str, Callable[[Any], None], int, int, Target], ...] = (
            ("by key, cursor.execute().fetchone()", partial(_by_cursor, keys), lookups, key_rounds, _BY_KEY),
            ("by key, connection.execute().fetchone()", partial(_by_connection, keys), lookups, key_rounds, _BY_KEY),
            (f"scan of {row_count:,} rows, for row in …", _iterate, row_count, scan_rounds, _SCAN),
            (f"scan of {row_count:,} rows, fetchall()", _fetch_all, row_count, scan_rounds, _SCAN),
        )
        for what, work, count, rounds, target in kinds:
            found = medians(rounds, {name: partial(_seconds, work, each) for name, each in connections.items()})
            comparisons += [
                Comparison(
                    f"{what}, {name}",
                    found[name] / count * 1e6,
                    "stdlib sqlite3",
                    found["plain"] / count * 1e6,
                    "µs",
                    target,
                )
                for name in ("offline", "connected")
            ]
    return comparisons


def _seconds(work: Callable[[Any], None], connection: Any) -> float:
    return seconds_of(lambda: work(connection))


def _by_cursor(keys: list[tuple[int]], connection: Any) -> None:
    cursor = connection.cursor()
    for key in keys:
        cursor.execute(_SELECT, key).fetchone()


def _by_connection(keys: list[tuple[int]], connection: Any) -> None:
    for key in keys:
        connection.execute(_SELECT, key).fetchone()


def _iterate(connection: Any) -> None:
    for _row in connection.execute("SELECT * FROM note"):
        pass


def _fetch_all(connection: Any) -> None:
    connection.execute("SELECT * FROM note").fetchall()
