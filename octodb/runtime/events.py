"""Telling an application what happened: callbacks on one worker thread of a node, in order (contract.md §4).

A callback's own error is printed as Python prints errors of threads; it never reaches the engine.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final

from octodb.errors import ProgrammingError

__all__ = ["EVENTS", "EventThread"]

EVENTS: Final = frozenset({"ready", "not_ready", "sync", "error", "rejected", "status", "verdict"})


class EventThread:
    """Runs callbacks and authorization functions one after the other. Started by the first one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._callbacks: dict[str, list[Callable[[dict[str, Any]], object]]] = {}
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def on(self, event: str, callback: Callable[[dict[str, Any]], object]) -> None:
        """Call ``callback(info)`` at every ``event``. Raises ProgrammingError for an unknown event."""
        if event not in EVENTS:
            raise ProgrammingError(f"there is no event {event!r}", hint=f"known events: {', '.join(sorted(EVENTS))}")
        self._callbacks.setdefault(event, []).append(callback)

    def emit(self, event: str, info: dict[str, Any]) -> None:
        """Queue the callbacks of ``event``. From any thread."""
        for callback in self._callbacks.get(event, ()):
            self.submit(lambda callback=callback: callback(info))  # type: ignore[misc]

    def submit(self, work: Callable[[], object]) -> None:
        with self._lock:
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
