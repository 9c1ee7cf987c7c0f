"""Two devices of one user, by which a primary is measured while it grows.

One commits, and its way to the verdict is timed; the other was away, and its catching up is timed.
"""

from __future__ import annotations

import queue
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import percentile
from benchmarks.nodes import NOTE_INSERT, open_device
from benchmarks.processes import cpu_s
from benchmarks.report import Comparison

__all__ = ["Growth", "Probe"]

_WAIT_S_MAX: Final = 60.0
_PAUSE_S: Final = 0.01


class Probe:
    """``folder`` holds the files of the two devices; ``user``: whom they sign in as (auth=user)."""

    def __init__(self, folder: Path, address: str, user: int) -> None:
        self._address = address
        self._away = folder / "away.db"
        open_device(self._away, address, user=user).close()
        self._device = open_device(folder / "here.db", address, user=user, autocommit=True)
        self._verdicts: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        self._device.on("verdict", lambda info: self._verdicts.put((info["nonce"], time.perf_counter())))

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self._device.close()

    def verdict_s(self, count: int) -> list[float]:
        """Seconds from the start of a lone 1-row commit to its verdict in this process, ``count`` times."""
        times: list[float] = []
        for n in range(count):
            time.sleep(_PAUSE_S)
            start = time.perf_counter()
            self._device.execute(NOTE_INSERT, ("a title of some length", n))
            times.append(self._verdict_at(self._device.execute("PRAGMA last_nonce").fetchone()[0]) - start)
        return times

    def _verdict_at(self, nonce: int) -> float:
        """When the verdict on ``nonce`` came. Those on earlier transactions may still be in the queue."""
        while True:
            judged, at = self._verdicts.get(timeout=_WAIT_S_MAX)
            if judged == nonce:
                return at

    def catch_up_s(self, missed: int) -> float:
        """Seconds from opening the file of the device that was away until it has ``missed`` new rows (and those that
        ``verdict_s`` made since)."""
        with closing(open_device(self._away)) as away:
            (known,) = away.execute("SELECT count(*) FROM note").fetchone()
        for n in range(missed):
            self._device.execute(NOTE_INSERT, ("a title of some length", n))
        if not self._device.wait_synced(_WAIT_S_MAX):
            raise RuntimeError(f"no verdict: {self._device.sync_status}")
        (wanted,) = self._device.execute("SELECT count(*) FROM note").fetchone()
        start = time.perf_counter()
        with closing(open_device(self._away, self._address)) as away:
            came: queue.SimpleQueue[Any] = queue.SimpleQueue()
            away.on("sync", came.put)
            while known < wanted:
                if time.perf_counter() - start > _WAIT_S_MAX:
                    raise RuntimeError(f"{known} of {wanted} rows came: {away.sync_status}")
                (known,) = away.execute("SELECT count(*) FROM note").fetchone()
                if known < wanted:
                    came.get(timeout=_WAIT_S_MAX)
            return time.perf_counter() - start

    def figures(self, pid: int, commits: int, rounds: int, missed: int) -> dict[str, tuple[float, str]]:
        """What is measured at each step of growth: figure and unit by name. ``pid``: the primary's process."""
        used = cpu_s(pid)
        times = self.verdict_s(commits)
        used = cpu_s(pid) - used
        self.catch_up_s(0)
        caught_up = [self.catch_up_s(missed) for _ in range(rounds)]
        return {
            "commit → verdict, p50": (percentile(times, 50) * 1e3, "ms"),
            "commit → verdict, p99": (percentile(times, 99) * 1e3, "ms"),
            "primary's processor, per commit": (used / commits * 1e3, "ms"),
            f"catching up on {missed} entries": (statistics.median(caught_up) * 1e3, "ms"),
        }


class Growth:
    """Figures by step, each compared with that of the first step: a ratio of 1 says that it does not grow."""

    def __init__(self, what_grows: str) -> None:
        self._what_grows = what_grows
        self._steps: list[tuple[int, dict[str, tuple[float, str]]]] = []

    def add(self, step: int, figures: dict[str, tuple[float, str]]) -> None:
        self._steps.append((step, figures))

    def comparisons(self) -> list[Comparison]:
        """One line for each figure and step, all steps of a figure together."""
        first_step, first = self._steps[0]
        return [
            Comparison(
                f"{name}, {step:,} {self._what_grows}",
                figures[name][0],
                f"{first_step:,}",
                first[name][0],
                figures[name][1],
            )
            for name in first
            for step, figures in self._steps
        ]
