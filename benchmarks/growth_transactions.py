"""One transaction of 1 → 200,000 rows: its way from executemany() to its verdict, and memory on both sides."""

from __future__ import annotations

import os
import queue
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Size
from benchmarks.nodes import NOTE_INSERT, open_device, primary_process
from benchmarks.probe import Growth
from benchmarks.processes import PeakMemory, device_process
from benchmarks.report import Comparison

__all__ = ["TITLE", "run"]

TITLE: Final = "Growth with the transaction: one of so many rows, from executemany() to its verdict"
_ROWS_EACH_STEP: Final = 2000
_WAIT_S_MAX: Final = 300.0


def run(folder: Path, size: Size) -> list[Comparison]:
    steps = size.of(
        (1, 10, 100, 1000, 10_000, 100_000, 200_000),
        (1, 100, 10_000),
        (1, 10),
    )
    growth = Growth("rows")
    with primary_process(folder / "primary.db") as primary:
        for step in steps:
            rounds = size.of(max(3, min(100, _ROWS_EACH_STEP // step)), 3, 1)
            with device_process() as process:
                pid = process.submit(os.getpid).result()
                path = folder / f"device-{step}.db"
                process.submit(_transactions, path, primary.address, 1, 1).result()  # everything is imported
                with PeakMemory(pid, primary.pid) as memory:
                    committed, judged = process.submit(_transactions, path, primary.address, step, rounds).result()
            growth.add(
                step,
                {
                    "COMMIT returned, per row": (statistics.median(committed) / step * 1e6, "µs"),
                    "verdict, per row": (statistics.median(judged) / step * 1e6, "µs"),
                    "device's memory, peak": (memory.peak[pid], "MB"),
                    "primary's memory, peak": (memory.peak[primary.pid], "MB"),
                },
            )
    return growth.comparisons()


def _transactions(path: Path, address: str, row_count: int, rounds: int) -> tuple[list[float], list[float]]:
    """In the device's process: seconds until COMMIT returned, and until the verdict came, of each transaction."""
    committed: list[float] = []
    judged: list[float] = []
    verdicts: queue.SimpleQueue[tuple[dict[str, Any], float]] = queue.SimpleQueue()
    with closing(open_device(path, address)) as device:
        device.on("verdict", lambda info: verdicts.put((info, time.perf_counter())))
        for _ in range(rounds):
            start = time.perf_counter()
            device.executemany(NOTE_INSERT, (("a title of some length", n) for n in range(row_count)))
            device.commit()
            committed.append(time.perf_counter() - start)
            info, at = verdicts.get(timeout=_WAIT_S_MAX)
            if info["status"] != "accepted":
                raise RuntimeError(f"the transaction was not accepted: {info}")
            judged.append(at - start)
    return committed, judged
