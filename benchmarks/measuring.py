"""Timing: how much is measured, rounds of several contestants in turn, medians and percentiles.

Knows nothing of what it times.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TypeVar

__all__ = ["Size", "medians", "percentile", "seconds_of"]

_T = TypeVar("_T")


class Size(Enum):
    """How much is measured: FULL is what counts, QUICK takes two minutes for all, TINY only shows that it runs."""

    FULL = "full"
    QUICK = "quick"
    TINY = "tiny"

    def of(self, full: _T, quick: _T, tiny: _T) -> _T:
        """The one of the three amounts that belongs to this size."""
        return {Size.FULL: full, Size.QUICK: quick, Size.TINY: tiny}[self]


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


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that ``percent`` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
