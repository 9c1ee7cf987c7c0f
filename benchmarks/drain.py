"""A device that was offline for long: its queue of 1-row transactions drained, and what memory that takes.

The clock starts before the file is opened with ``connect=`` and ends when the newest transaction has its verdict.
"Flat" is read as: neither process grows by more than half while the queue goes through it.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.measuring import Size
from benchmarks.nodes import NOTE_INSERT, open_device, primary_process
from benchmarks.processes import PeakMemory, device_process
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "Offline transactions of one row drained: each durable on the primary and its verdict stored"
_PER_S: Final = Target("≥", 10_000, "/s")
_FLAT: Final = Target("≤", 1.5)
_DRAIN_S_MAX: Final = 600.0
_LOOK_EVERY_S: Final = 0.02


def run(folder: Path, size: Size) -> list[Comparison]:
    count = size.of(100_000, 20_000, 200)
    path = folder / "device.db"
    with primary_process(folder / "primary.db") as primary:
        with device_process() as process:
            process.submit(_fill, path, primary.address, count).result()
        with device_process() as process:
            pid = process.submit(os.getpid).result()
            process.submit(_open_offline, path).result()  # what a device weighs before it drains anything
            with PeakMemory(pid, primary.pid) as memory:
                seconds = process.submit(_drain, path, primary.address, count).result()
    return [
        Comparison(f"{count:,} transactions", count / seconds, "", None, "/s", _PER_S),
        Comparison("device's memory, peak", memory.peak[pid], "at start", memory.start[pid], "MB", _FLAT),
        Comparison(
            "primary's memory, peak",
            memory.peak[primary.pid],
            "at start",
            memory.start[primary.pid],
            "MB",
            _FLAT,
        ),
    ]


# --- in the device's process -------------------------------------------------------------------------------


def _fill(path: Path, address: str, count: int) -> None:
    open_device(path, address).close()
    with closing(open_device(path, autocommit=True)) as device:
        for n in range(count):
            device.execute(NOTE_INSERT, ("a title of some length", n))


def _open_offline(path: Path) -> None:
    with closing(open_device(path)) as device:
        device.execute("SELECT count(*) FROM note").fetchone()


def _drain(path: Path, address: str, count: int) -> float:
    start = time.perf_counter()
    with closing(open_device(path, address)) as device:
        while device.execute(f"PRAGMA transaction_status({count})").fetchone()[0] == "unprocessed":
            if time.perf_counter() - start > _DRAIN_S_MAX:
                raise RuntimeError(f"not drained: {device.sync_status}")
            time.sleep(_LOOK_EVERY_S)
        seconds = time.perf_counter() - start
        status = device.sync_status["transactions"]
    if (status["pending"], status["rejected"], status["last_nonce"]) != (0, 0, count):
        raise RuntimeError(f"not every transaction was accepted: {status}")
    return seconds
