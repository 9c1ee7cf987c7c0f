"""The log 10³ → 10⁶ entries (10⁷ with ``--log-entries``), all of users other than the one that is measured."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.load_devices import load
from benchmarks.measuring import Size
from benchmarks.nodes import primary_process
from benchmarks.probe import Growth, Probe
from benchmarks.processes import memory_mb
from benchmarks.report import Comparison

__all__ = ["TITLE", "run"]

TITLE: Final = "Growth with the log: one user's device commits, another of the same user missed some entries"
_USER: Final = 7
_FIRST_LOADING_USER: Final = 1000
_DEVICES: Final = 50
# What one process of loading devices prepares in memory.
_LOAD_MAX: Final = 1_000_000


def run(folder: Path, size: Size, log_entries_max: int | None = None) -> list[Comparison]:
    """``log_entries_max``: go on to so many entries, by powers of ten."""
    first, last = size.of((1000, 1_000_000), (1000, 100_000), (100, 1000))
    commits, rounds, missed = size.of((300, 7, 100), (100, 3, 100), (3, 1, 5))
    growth = Growth("entries")
    entries = 0
    users = count(_FIRST_LOADING_USER, _DEVICES)
    with (
        primary_process(folder / "primary.db", auth="user") as primary,
        Probe(folder, primary.address, _USER) as probe,
    ):
        step = first
        while step <= (log_entries_max or last):
            while entries < step:
                each = min(step - entries, _LOAD_MAX) // _DEVICES
                entries += load(primary.address, _DEVICES, each, min(100, each), next(users)).transactions
            figures = probe.figures(primary.pid, commits, rounds, missed)
            figures["primary's memory"] = (memory_mb(primary.pid), "MB")
            growth.add(step, figures)
            step *= 10
    return growth.comparisons()
