"""Bytes on the wire for one inserted row: all that a device sends for it, less the row's own bytes.

The row's bytes are those of its values: UTF-8 of texts, and 8 for each integer (SQLite's are 64-bit). What the device
sends is its transaction and the acknowledgement of the verdict, with frame headers, without those of TCP.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import octodb
from benchmarks.measuring import Size
from benchmarks.nodes import NOTE_INSERT, open_device, primary_process
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "Bytes that a device sends for a 1-row INSERT"
_TARGET: Final = Target("≤", 60, "B")
_WAIT_S_MAX: Final = 60.0


def run(folder: Path, size: Size) -> list[Comparison]:
    lone_count, queue_count = size.of((200, 5000), (50, 1000), (3, 20))
    path = folder / "device.db"
    with primary_process(folder / "primary.db") as primary:
        with closing(open_device(path, primary.address, autocommit=True)) as device:
            device.wait_synced(_WAIT_S_MAX)
            before = device.sync_status["bytes"]
            row_bytes = 0
            for n in range(lone_count):
                row_bytes += _insert(device, n)
                _settle(device)
            lone = _difference(device, before)
        with closing(open_device(path, autocommit=True)) as device:
            queued_row_bytes = sum(_insert(device, n) for n in range(queue_count))
        with closing(open_device(path, primary.address)) as device:
            _settle(device)
            queued = device.sync_status["bytes"]
    row = row_bytes / lone_count
    queued_row = queued_row_bytes / queue_count
    return [
        Comparison("lone transaction, above the row", lone["out"] / lone_count - row, "the row", row, "B", _TARGET),
        Comparison(
            "one of a queue, above the row",
            queued["out"] / queue_count - queued_row,
            "the row",
            queued_row,
            "B",
            _TARGET,
        ),
        Comparison("sent back by the primary, lone", lone["in"] / lone_count, "the row", row, "B"),
        Comparison("sent back by the primary, queue", queued["in"] / queue_count, "the row", queued_row, "B"),
    ]


def _insert(device: octodb.Connection, n: int) -> int:
    """Insert one row; return its bytes."""
    cursor = device.execute(NOTE_INSERT, (f"a title of some length, {n}", n))
    row = device.execute("SELECT * FROM note WHERE id = ?", (cursor.lastrowid,)).fetchone()
    return sum(len(value.encode()) if isinstance(value, str) else 8 for value in row)


def _settle(device: octodb.Connection) -> None:
    """Wait until everything has a verdict and that is acknowledged."""
    deadline = time.monotonic() + _WAIT_S_MAX
    while device.sync_status["state"] != "in sync" or device.sync_status["transactions"]["pending"]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no verdict: {device.sync_status}")
        time.sleep(0.001)


def _difference(device: octodb.Connection, before: dict[str, Any]) -> dict[str, int]:
    after = device.sync_status["bytes"]
    return {way: after[way] - before[way] for way in ("in", "out")}
