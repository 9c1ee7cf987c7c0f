"""From a commit on device A to its row in a SELECT on device B: three real processes on the loopback interface.

The clock starts before A's ``execute()`` in autocommit mode and ends when B, told of new rows by its ``sync`` event,
has read them. On the way A fsyncs its WAL and the primary its commit. The echo makes the same two hops, stores nothing.
"""

from __future__ import annotations

import queue
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import octodb
from benchmarks.echo import echo_times
from benchmarks.measuring import Size, percentile
from benchmarks.nodes import NOTE_INSERT, open_device, primary_process
from benchmarks.processes import device_process
from benchmarks.report import Comparison, Target

__all__ = ["TITLE", "run"]

TITLE: Final = "Device A commits a row → device B of the same user reads it, over loopback"
_P50: Final = Target("≤", 3, "ms")
_P99: Final = Target("≤", 15, "ms")
_USER: Final = 7
# Long enough that each commit travels alone.
_PAUSE_S: Final = 0.01
# Of what A sends for one row, see wire_bytes.py.
_PAYLOAD_BYTES: Final = 130
_WAIT_S_MAX: Final = 30.0


def run(folder: Path, size: Size) -> list[Comparison]:
    rounds, count = size.of((5, 400), (3, 150), (1, 10))
    seen_after: list[float] = []
    committed_after: list[float] = []
    echoed_after: list[float] = []
    with ExitStack() as stack:
        primary = stack.enter_context(primary_process(folder / "primary.db", auth="user"))
        a, b = (stack.enter_context(device_process()) for _ in "ab")
        a.submit(_open, folder / "a.db", primary.address).result()
        b.submit(_open, folder / "b.db", primary.address).result()
        for number in range(rounds):
            watching = b.submit(_watch, number * count, count)
            begun, ended = a.submit(_commit, number * count, count).result()
            seen = watching.result()
            seen_after += [seen[n] - begun[n] for n in begun]
            committed_after += [ended[n] - begun[n] for n in begun]
            echoed_after += echo_times(count, _PAYLOAD_BYTES, _PAUSE_S)
        for process in (a, b):
            process.submit(_close).result()
    comparisons: list[Comparison] = []
    for percent, target in ((50, _P50), (99, _P99)):
        echo_ms = percentile(echoed_after, percent) * 1e3
        seen_ms = percentile(seen_after, percent) * 1e3
        comparisons.append(Comparison(f"p{percent}", seen_ms, f"TCP echo, p{percent}", echo_ms, "ms", target))
    commit_ms = statistics.median(committed_after) * 1e3
    comparisons.append(Comparison("of that A's own COMMIT, p50", commit_ms, "", None, "ms"))
    return comparisons


# --- in the devices' processes -----------------------------------------------------------------------------

_here: dict[str, Any] = {}


def _open(path: Path, address: str) -> None:
    device = open_device(path, address, user=_USER, autocommit=True)
    events: queue.SimpleQueue[object] = queue.SimpleQueue()
    device.on("sync", events.put)
    _here.update(device=device, events=events)


def _commit(first: int, count: int) -> tuple[dict[int, float], dict[int, float]]:
    """When each row's commit began and ended. Monotonic clocks agree between the processes of one machine."""
    device: octodb.Connection = _here["device"]
    begun: dict[int, float] = {}
    ended: dict[int, float] = {}
    time.sleep(0.1)  # B listens
    for n in range(first, first + count):
        time.sleep(_PAUSE_S)
        begun[n] = time.monotonic()
        device.execute(NOTE_INSERT, ("a title of some length", n))
        ended[n] = time.monotonic()
    return begun, ended


def _watch(first: int, count: int) -> dict[int, float]:
    """When each row was read here."""
    device: octodb.Connection = _here["device"]
    events: queue.SimpleQueue[object] = _here["events"]
    seen: dict[int, float] = {}
    while len(seen) < count:
        events.get(timeout=_WAIT_S_MAX)
        rows = device.execute("SELECT n FROM note WHERE n >= ?", (first + len(seen),)).fetchall()
        now = time.monotonic()
        for (n,) in rows:
            seen[n] = now
    return seen


def _close() -> None:
    _here.pop("device").close()
