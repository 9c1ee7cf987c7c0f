"""The first download: from opening an empty device file to ready, beside executemany() of the same rows."""

from __future__ import annotations

import sqlite3
import statistics
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Size, seconds_of
from benchmarks.nodes import open_device, plain_file, primary_process
from benchmarks.processes import PeakMemory, device_process
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "First download of a device: from connect() to ready"
_PER_S: Final = Target("≥", 200_000, "rows/s")
_OF_PLAIN: Final = Target("≥", 0.4)


def run(folder: Path, size: Size) -> list[Comparison]:
    row_count, rounds = size.of((500_000, 5), (100_000, 3), (2000, 1))
    rows = [(n, f"title of row {n}", n % 97, "*") for n in range(1, row_count + 1)]
    ours: list[float] = []
    plain: list[float] = []
    with (
        primary_process(folder / "primary.db", rows) as primary,
        device_process() as process,
        PeakMemory(primary.pid) as memory,
    ):
        process.submit(_download, folder / "warm.db", primary.address, row_count).result()
        for number in range(rounds):
            path = folder / f"device-{number}.db"
            ours.append(process.submit(_download, path, primary.address, row_count).result())
            with closing(plain_file(folder / f"plain-{number}.db")) as db:
                plain.append(seconds_of(lambda db=db: _insert(db, rows)))  # type: ignore[misc]
    per_s, plain_per_s = row_count / statistics.median(ours), row_count / statistics.median(plain)
    what = f"{row_count:,} rows"
    return [
        Comparison(what, per_s, "executemany, sqlite3", plain_per_s, "rows/s", _PER_S),
        Comparison(what, per_s, "executemany, sqlite3", plain_per_s, "rows/s", _OF_PLAIN),
        Comparison("primary's memory, peak", memory.peak[primary.pid], "before", memory.start[primary.pid], "MB"),
    ]


def _insert(db: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
    db.executemany("INSERT INTO note VALUES (?, ?, ?, ?)", rows)
    db.commit()


def _download(path: Path, address: str, row_count: int) -> float:
    """In the device's process: seconds until the device was ready."""
    devices = []
    seconds = seconds_of(lambda: devices.append(open_device(path, address)))
    with closing(devices[0]) as device:
        (found,) = device.execute("SELECT count(*) FROM note").fetchone()
    if found != row_count:
        raise RuntimeError(f"the device has {found} rows of {row_count}")
    return seconds
