"""Runs statements on a thread of their own, so that Ctrl-C can stop them at any moment.

The main thread waits here and nowhere else. A signal handler, not KeyboardInterrupt, ends a statement:
Python runs it within the wait, and nothing is left half done.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = ["Interrupted", "Worker"]

Result = TypeVar("Result")

# Two things can be lost and are made good at this rate: an interrupt that comes before SQLite has begun to
# step, and a signal that comes just before the wait begins (its handler runs once the wait returns).
LOOK_S: Final = 0.05


class Interrupted(Exception):  # noqa: N818 - not an error: the person asked for it
    """Ctrl-C stopped what was running."""


class _CtrlC:
    """In the queue of outcomes: the person pressed Ctrl-C."""


@dataclass(frozen=True)
class _Outcome:
    result: Any = None
    error: BaseException | None = None


class Worker:
    """One thread. ``interrupt`` (of the connection) stops the statement that runs on it."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self._interrupt = interrupt
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None] = queue.SimpleQueue()
        self._cancelled = False
        self._thread = threading.Thread(target=self._work, name="octodb-shell", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Called by the work between its steps: raises Interrupted after Ctrl-C."""
        if self._cancelled:
            raise Interrupted

    def run(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` on the thread and wait for it; called by the main thread only.

        Raises what ``work`` raises, or Interrupted where Ctrl-C came first.
        """
        outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cancelled = False
        with _ctrl_c_into(outcomes):
            self._tasks.put((work, outcomes))
            outcome = self._await(outcomes)
        # Ctrl-C in the last moment finds the work done; it must still end the script that comes after it.
        if self._cancelled or not outcomes.empty():
            raise Interrupted from outcome.error
        if outcome.error is not None:
            raise outcome.error
        result: Result = outcome.result
        return result

    def start(self, work: Callable[[], object]) -> None:
        """Run ``work`` later, after what is running; nobody waits for it and its errors are dropped."""
        self._tasks.put((work, queue.SimpleQueue()))

    def close(self) -> None:
        """End the thread once it has nothing left to do."""
        self._tasks.put(None)
        self._thread.join()

    def _await(self, outcomes: queue.SimpleQueue[Any]) -> _Outcome:
        while True:
            try:
                outcome = outcomes.get(timeout=LOOK_S)
            except queue.Empty:
                if self._cancelled:
                    self._interrupt()
                continue
            if isinstance(outcome, _Outcome):
                return outcome
            self._cancelled = True
            self._interrupt()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            work, outcomes = task
            try:
                outcomes.put(_Outcome(result=work()))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
                outcomes.put(_Outcome(error=error))


@contextmanager
def _ctrl_c_into(outcomes: queue.SimpleQueue[Any]) -> Iterator[None]:
    """SIGINT puts a mark into the queue (its put() is safe in a handler) instead of raising."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda _number, _frame: outcomes.put(_CtrlC()))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
