"""When a service is to end: SIGTERM, SIGINT, or the end of standard input.

Signals are taken from the moment the object is entered, so that one that comes during the start is not lost.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["StopRequest"]

LOOK_S: Final = 0.5
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class StopRequest(AbstractContextManager["StopRequest"]):
    """Remembers that somebody asked for the end. Entered by the main thread only."""

    def __init__(self) -> None:
        # SimpleQueue.put() is safe in a signal handler; Event and Semaphore may deadlock there.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._ask) for number in SIGNALS]
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)

    def follow_stdin(self) -> None:
        """Ask for the end when standard input ends: whoever started us is gone."""
        threading.Thread(target=self._read_to_end, name="octodb-stdin", daemon=True).start()

    def wait(self) -> None:
        """Return once the end was asked for."""
        while True:
            # With a timeout, because a signal that comes just before a wait begins is handled when it ends.
            try:
                return self._requests.get(timeout=LOOK_S)
            except queue.Empty:
                continue

    def _ask(self, _number: int, _frame: object) -> None:
        self._requests.put(None)

    def _read_to_end(self) -> None:
        # os.read: a daemon thread inside sys.stdin would hold its lock when the interpreter ends.
        while os.read(0, 4096):
            pass
        self._requests.put(None)
