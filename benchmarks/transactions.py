"""Local transactions of 1000 rows, by executemany() and by a loop of execute(), on a device beside stdlib sqlite3."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Size, medians, seconds_of
from benchmarks.nodes import check_same_settings, offline_device, plain_file, primary_process, ready_device
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "Local transactions of 1000 rows, COMMIT included, on a device (WAL, synchronous NORMAL)"
_TARGET: Final = Target("≤", 1.6)
_INSERT: Final = "INSERT INTO note(title, n) VALUES (?, ?)"
_ROWS: Final = [("a title of some length", n) for n in range(1000)]


def run(folder: Path, size: Size) -> list[Comparison]:
    count, rounds = size.of((20, 21), (5, 3), (2, 1))
    with ExitStack() as stack:
        address = stack.enter_context(primary_process(folder / "primary.db")).address
        connections = {
            "plain": stack.enter_context(closing(plain_file(folder / "plain.db"))),
            "offline": stack.enter_context(offline_device(folder / "offline.db", address)),
            "connected": stack.enter_context(ready_device(folder / "connected.db", address)),
        }
        check_same_settings(connections)
        comparisons: list[Comparison] = []
        for way, work in (("executemany", _executemany), ("loop of execute", _loop)):
            contestants = {name: partial(_seconds, work, each, count) for name, each in connections.items()}
            found = medians(rounds, contestants)
            comparisons += [
                Comparison(
                    f"{way}, {name} device",
                    found[name] * 1e3,
                    "stdlib sqlite3",
                    found["plain"] * 1e3,
                    "ms",
                    _TARGET,
                )
                for name in ("offline", "connected")
            ]
    return comparisons


def _seconds(work: Callable[[Any], None], connection: Any, count: int) -> float:
    """Seconds per transaction."""

    def transactions() -> None:
        for _ in range(count):
            work(connection)
            connection.commit()

    return seconds_of(transactions) / count


def _executemany(connection: Any) -> None:
    connection.executemany(_INSERT, _ROWS)


def _loop(connection: Any) -> None:
    cursor = connection.cursor()
    for row in _ROWS:
        cursor.execute(_INSERT, row)
