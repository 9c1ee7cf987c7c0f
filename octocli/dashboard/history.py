"""The last minute of a node: rates from counters, and events from differences between two looks.

Pure: the caller gives the time. Bounded: SAMPLES_MAX seconds and EVENTS_MAX events are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from octocli.feed import Status, error_text
from octocli.status_text import address, state_text

__all__ = ["Event", "History", "Rates"]

SAMPLES_MAX: Final = 60
EVENTS_MAX: Final = 200


@dataclass(frozen=True)
class Event:
    """Something that happened, with the clock's text (``12:04:18``)."""

    clock: str
    text: str


@dataclass(frozen=True)
class Rates:
    """Events a second in each direction, one number for each of the last seconds, oldest first."""

    up: tuple[float, ...] = ()
    down: tuple[float, ...] = ()

    @property
    def highest(self) -> float:
        return max((*self.up, *self.down), default=0.0)


class History:
    """Fed with every look at the status; remembers what the dashboard draws."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=EVENTS_MAX)
        self.started_s: float | None = None
        self._up: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._down: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._sampled: tuple[float, int, int] | None = None
        self._last: Status | None = None

    @property
    def rates(self) -> Rates:
        return Rates(tuple(self._up), tuple(self._down))

    def observe(self, status: Status, now_s: float, clock: str) -> list[Event]:
        """Take a look made at ``now_s`` (monotonic seconds). Returns the events it brought."""
        if self.started_s is None:
            self.started_s = now_s
        new = [Event(clock, text) for text in _differences(self._last, status)]
        self.events.extend(new)
        self._last = status
        self._sample(status, now_s)
        return new

    def _sample(self, status: Status, now_s: float) -> None:
        up, down = _counters(status)
        if self._sampled is None:
            self._sampled = (now_s, up, down)
            return
        then_s, up_before, down_before = self._sampled
        seconds = now_s - then_s
        if seconds < 1:
            return
        # A longer pause than a second is that many seconds at the mean rate: the picture keeps its scale.
        for _ in range(min(SAMPLES_MAX, round(seconds))):
            self._up.append(max(0, up - up_before) / seconds)
            self._down.append(max(0, down - down_before) / seconds)
        self._sampled = (now_s, up, down)


def _counters(status: Status) -> tuple[int, int]:
    """Counters that only grow: a device's verdicts and applied entries; a primary's log and bytes sent."""
    log = status.get("log") or {}
    if status.get("node_type") == "primary":
        return int((status.get("bytes") or {}).get("out") or 0), int(log.get("head") or 0)
    transactions = status.get("transactions") or {}
    sent = int(transactions.get("last_nonce") or 0) - int(transactions.get("pending") or 0)
    return sent, int(log.get("applied") or 0)


def _differences(before: Status | None, after: Status) -> Iterator[str]:
    if before is None:
        yield state_text(after)
        return
    if state_text(before) != state_text(after):
        server = after.get("server")
        yield state_text(after) + (f" ({address(server)})" if server else "")
    elif before.get("server") != after.get("server") and after.get("server"):
        yield f"now with {address(after['server'])}"
    problem = error_text(after)
    if problem and problem != error_text(before):
        yield problem
    rejected = _rejected(after) - _rejected(before)
    if rejected > 0:
        yield f"{rejected} rejected: .rejected in the shell says why"
    nodes, nodes_before = after.get("nodes"), before.get("nodes") or 0
    if nodes is not None and nodes != nodes_before:
        yield f"{nodes} connected (was {nodes_before})"


def _rejected(status: dict[str, Any]) -> int:
    return int((status.get("transactions") or {}).get("rejected") or 0)
