"""Devices 10 → 10,000: one of them commits, the others are idle."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.idle_devices import devices_possible, idle_devices
from benchmarks.measuring import Size
from benchmarks.nodes import primary_process
from benchmarks.probe import Growth, Probe
from benchmarks.processes import memory_mb
from benchmarks.report import Comparison

__all__ = ["TITLE", "run"]

TITLE: Final = "Growth with devices: one commits, the others are connected and idle"
_USER: Final = 7


def run(folder: Path, size: Size) -> list[Comparison]:
    steps = size.of((10, 100, 1000, 10_000), (10, 100, 1000), (2, 4))
    commits, rounds, missed = size.of((300, 5, 100), (100, 3, 100), (3, 1, 5))
    growth = Growth("devices")
    with (
        primary_process(folder / "primary.db", auth="user") as primary,
        idle_devices(primary.address) as idle,
        Probe(folder, primary.address, _USER) as probe,
    ):
        for step in steps:
            count = devices_possible(step)
            idle.connect(count)
            figures = probe.figures(primary.pid, commits, rounds, missed)
            figures["primary's memory"] = (memory_mb(primary.pid), "MB")
            growth.add(count, figures)
    return growth.comparisons()
