"""Idle devices on one primary process: its memory, and its share of a core over a quiet while."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from benchmarks.idle_devices import devices_possible, idle_devices
from benchmarks.measuring import Size, seconds_of
from benchmarks.nodes import primary_process
from benchmarks.processes import cpu_s, memory_mb
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "Idle devices on one primary process (each pings after 10 s without news, as devices do)"
_MEMORY: Final = Target("≤", 400, "MB")
_CPU: Final = Target("≤", 5, "% of a core")


def run(folder: Path, size: Size) -> list[Comparison]:
    wanted, window_s = size.of((10_000, 20.0), (2000, 10.0), (20, 0.2))
    count = devices_possible(wanted)
    with primary_process(folder / "primary.db") as primary:
        before_mb = memory_mb(primary.pid)
        time.sleep(min(window_s, 2.0))
        empty_percent = _cpu_percent(primary.pid, min(window_s, 10.0))
        with idle_devices(primary.address) as devices:
            join_s = seconds_of(lambda: devices.connect(count))
            time.sleep(min(window_s, 2.0))  # the last of them have been told their state
            percent = _cpu_percent(primary.pid, window_s)
            devices.connect(count)  # all of them are still there
            memory = memory_mb(primary.pid)
    return [
        Comparison(f"memory with {count:,} devices", memory, "no devices", before_mb, "MB", _MEMORY),
        Comparison(f"processor, {window_s:g} s", percent, "no devices", empty_percent, "% of a core", _CPU),
        Comparison("joining (handshake, admission, download)", count / join_s, "", None, "devices/s"),
    ]


def _cpu_percent(pid: int, window_s: float) -> float:
    used, start = cpu_s(pid), time.perf_counter()
    time.sleep(window_s)
    return 100 * (cpu_s(pid) - used) / (time.perf_counter() - start)
