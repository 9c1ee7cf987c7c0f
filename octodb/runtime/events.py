"""Telling an application what happened: callbacks on one worker thread of a node, in order (contract.md §4).

A callback's own error is printed as Python prints errors of threads; it never reaches the engine. An engine starts
before its program can say what it wants to hear: verdicts that come before are told to the first callback that asks.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from octodb.errors import ProgrammingError

__all__ = ["EVENTS", "TRANSACTION_NOTIFICATION", "EventThread"]

EVENTS: Final = frozenset({"ready", "not_ready", "sync", "error", "rejected", "repaired", "status", "verdict"})

TRANSACTION_NOTIFICATION: Final = "transaction_notification"  # a verdict, for the function of that name
# Events that must not be missed. Programs that never ask keep this many: a few MB at most; older ones are in the file.
_KEPT: Final = frozenset({"rejected", "verdict", TRANSACTION_NOTIFICATION})
_KEPT_COUNT_MAX: Final = 10_000

_Callback = Callable[[dict[str, Any]], object]


class EventThread:
    """Runs callbacks and authorization functions one after the other. Started by the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._callbacks: dict[str, list[_Callback]] = {}
        self._early: dict[str, deque[dict[str, Any]]] = {event: deque(maxlen=_KEPT_COUNT_MAX) for event in _KEPT}
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def on(self, event: str, callback: _Callback) -> None:
        """Call ``callback(info)`` at every ``event``. Raises ProgrammingError for an unknown event."""
        if event not in EVENTS:
            raise ProgrammingError(f"there is no event {event!r}", hint=f"known events: {', '.join(sorted(EVENTS))}")
        self.listen(event, callback)

    def listen(self, event: str, callback: _Callback) -> None:
        """As ``on``, for events that are no application's too."""
        with self._lock:
            for info in self._early.pop(event, ()):
                self._submit(callback, info)
            self._callbacks.setdefault(event, []).append(callback)

    def emit(self, event: str, info: dict[str, Any]) -> None:
        """Queue the callbacks of ``event``. From any thread."""
        with self._lock:
            if event in self._early:
                self._early[event].append(info)
            for callback in self._callbacks.get(event, ()):
                self._submit(callback, info)

    def _submit(self, callback: _Callback, info: dict[str, Any]) -> None:
        self._put(lambda: callback(info))

    def submit(self, work: Callable[[], object]) -> None:
        with self._lock:
            self._put(work)

    def _put(self, work: Callable[[], object]) -> None:
        """With the lock held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(work)

    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def close(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            self._queue.put(None)
            thread.join(5.0)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:  # noqa: BLE001 - whatever an application's callback raises
                print("octodb: error in a callback:", file=sys.stderr)  # noqa: T201
                traceback.print_exc()
