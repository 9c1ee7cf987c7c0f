"""Processes that are measured from outside: their memory, their processor time, and how many files they may open.

Reads /proc where there is one (Linux); elsewhere the figures are NaN, and nothing fails.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Final

__all__ = ["PeakMemory", "cpu_s", "device_process", "memory_mb", "raise_file_limit"]

_SAMPLE_EVERY_S: Final = 0.02


def memory_mb(pid: int) -> float:
    """Resident memory of a process in MB (10⁶ bytes)."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except OSError:
        return math.nan
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """Seconds of one core that a process has used since it began, all threads together."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return math.nan
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


class PeakMemory:
    """Watches the resident memory of some processes while it is entered. ``start`` and ``peak`` in MB by pid."""

    def __init__(self, *pids: int) -> None:
        self.start = {pid: memory_mb(pid) for pid in pids}
        self.peak = dict(self.start)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_EVERY_S):
            for pid, peak in self.peak.items():
                self.peak[pid] = max(peak, memory_mb(pid))


@contextmanager
def device_process() -> Iterator[ProcessPoolExecutor]:
    """A fresh process with one worker, for functions that open a device and use it: none of its threads are ours."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield process


def raise_file_limit() -> int:
    """Let this process open as many files as the system allows; return how many that are."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1 << 20
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return hard
