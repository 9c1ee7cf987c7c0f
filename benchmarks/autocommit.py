"""Local 1-row transactions in autocommit mode: INSERT, UPDATE and DELETE on a device beside stdlib sqlite3.

The peer has SQLite's defaults; a second one has wal_autocheckpoint = 4000, as a device's connections have.
"""

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

TITLE: Final = "Local 1-row transactions in autocommit mode, on a device (WAL, synchronous NORMAL)"
_TARGET: Final = Target("≤", 2.5)


def run(folder: Path, size: Size) -> list[Comparison]:
    count, rounds = size.of((2000, 15), (500, 3), (50, 1))
    with ExitStack() as stack:
        address = stack.enter_context(primary_process(folder / "primary.db")).address
        plain = stack.enter_context(closing(plain_file(folder / "plain.db", autocommit=True)))
        connections: dict[str, Any] = {
            "plain": plain,
            # With the limit that a device's connections have, it writes back a quarter as often as both others
            "plain, 4000": stack.enter_context(closing(plain_file(folder / "plain4000.db", autocommit=True))),
            "offline": stack.enter_context(offline_device(folder / "offline.db", address, autocommit=True)),
            "connected": stack.enter_context(ready_device(folder / "connected.db", address, autocommit=True)),
        }
        check_same_settings(connections)
        connections["plain, 4000"].execute("PRAGMA wal_autocheckpoint = 4000")
        comparisons: list[Comparison] = []
        for verb, work in (("INSERT", _insert), ("UPDATE", _update), ("DELETE", _delete)):
            contestants = {name: partial(_seconds, work, each, count) for name, each in connections.items()}
            found = medians(rounds, contestants)
            target = _TARGET if verb == "INSERT" else None
            peers = (("plain", target), ("plain, 4000", None)) if verb == "INSERT" else (("plain", None),)
            for peer, its_target in peers:
                comparisons += [
                    Comparison(
                        f"{verb}, {name} device",
                        found[name] * 1e6,
                        peer.replace("plain", "stdlib sqlite3"),
                        found[peer] * 1e6,
                        "µs",
                        its_target,
                    )
                    for name in ("offline", "connected")
                ]
    return comparisons


def _seconds(work: Callable[[Any, int], None], connection: Any, count: int) -> float:
    """Seconds per transaction."""
    return seconds_of(lambda: work(connection, count)) / count


def _insert(connection: Any, count: int) -> None:
    for n in range(count):
        connection.execute("INSERT INTO note(title, n) VALUES (?, ?)", ("a title of some length", n))


def _update(connection: Any, count: int) -> None:
    ids = [row[0] for row in connection.execute("SELECT id FROM note ORDER BY id DESC LIMIT ?", (count,))]
    for row_id in ids:
        connection.execute("UPDATE note SET n = n + 1 WHERE id = ?", (row_id,))


def _delete(connection: Any, count: int) -> None:
    ids = [row[0] for row in connection.execute("SELECT id FROM note ORDER BY id LIMIT ?", (count,))]
    for row_id in ids:
        connection.execute("DELETE FROM note WHERE id = ?", (row_id,))
