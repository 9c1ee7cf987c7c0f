"""What a benchmark hands in, and its text: machine and versions, then one line for each comparison. Measures no times
but that of one fsync, which the durable numbers cannot be read without."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

import octodb

__all__ = ["Comparison", "Target", "machine_text", "table_text"]

_FSYNC_ROUNDS: Final = 21


@dataclass(frozen=True, slots=True)
class Target:
    """``sign`` is '≤' or '≥'; ``bound`` is a ratio to the peer, or a number in ``unit`` where that is not 'x'."""

    sign: str
    bound: float
    unit: str = "x"

    def reached_by(self, comparison: Comparison) -> bool:
        value = comparison.ratio if self.unit == "x" else comparison.ours
        assert value is not None, "a ratio needs a peer"
        return value <= self.bound if self.sign == "≤" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}x" if self.unit == "x" else f"{self.sign} {self.bound:,g} {self.unit}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``ours`` and ``theirs`` in ``unit``: both of the same rounds. ``theirs`` None: there is no peer. No target:
    printed to be read beside."""

    what: str
    ours: float
    peer: str
    theirs: float | None
    unit: str
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        return self.ours / self.theirs if self.theirs else None

    def cells(self) -> tuple[str, ...]:
        digits = 0 if self.ours >= 1000 else 2
        verdict = "" if self.target is None else "reached" if self.target.reached_by(self) else "MISSED"
        return (
            self.what,
            f"{self.ours:,.{digits}f} {self.unit}",
            self.peer,
            "" if self.theirs is None else f"{self.theirs:,.{digits}f} {self.unit}",
            "" if self.ratio is None else f"{self.ratio:.2f}x",
            "" if self.target is None else str(self.target),
            verdict,
        )


_HEADINGS: Final = ("what", "octodb", "beside", "its number", "ratio", "target", "")
_RIGHT_ALIGNED: Final = {1, 3, 4}


def table_text(title: str, comparisons: list[Comparison]) -> str:
    """The comparisons as aligned columns under ``title``."""
    rows = [_HEADINGS, *(comparison.cells() for comparison in comparisons)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in _RIGHT_ALIGNED else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([title, *(f"  {line}" for line in lines)])


def machine_text(folder: str | None = None) -> str:
    """Processor, versions, load, and the median time of an fsync where the files of the benchmarks lie."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = (
        f"python {platform.python_version()}, octodb {octodb.__version__},"
        f" sqlite {apsw.sqlite_lib_version()} (apsw) beside {sqlite3.sqlite_version} (stdlib sqlite3)"
    )
    fsync = f"fsync of 4 KiB {_fsync_s(folder) * 1e6:,.0f} µs in {folder or tempfile.gettempdir()}"
    return (
        f"{_processor()}, {os.cpu_count()} cores{load}, {platform.system()} {platform.release()}\n{versions}\n{fsync}"
    )


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _fsync_s(folder: str | None) -> float:
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FSYNC_ROUNDS):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return statistics.median(times)
