"""Timing: rounds of several contestants in turn, and their medians. Knows nothing of what it times."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["medians", "seconds_of"]


def seconds_of(work: Callable[[], object]) -> float:
    """How long ``work()`` takes, in seconds. Garbage of whoever ran before is collected first."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(rounds: int, contestants: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median result of each contestant over ``rounds`` rounds, after one round that does not count.

    Contestants take turns within a round, so that what else the machine does meanwhile meets all of them alike.
    """
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            result = contestant()
            if number:
                results[name].append(result)
    return {name: statistics.median(found) for name, found in results.items()}
