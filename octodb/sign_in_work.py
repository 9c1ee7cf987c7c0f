"""Deciding about sign-ins beside the callback thread: two at a time, a bounded number waiting, the rest sent away.

A password's hash takes 50 to 100 ms and an issuer's keys come over the network; meanwhile the callback thread tells
applications of verdicts and decides about other devices. Knows nothing of what is decided.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from octodb.model.admissions import FAILED

__all__ = ["SignInWork"]

# argon2id takes 64 MiB a hash and lets other threads run: two keep the primary's own work going on two cores.
_AT_WORK_MAX: Final = 2
# A few seconds of work: a person waits that long, and a flood of sign-ins holds no more memory than this.
_WAITING_MAX: Final = 40
_COME_BACK_S: Final = 5


class SignInWork:
    """Runs decisions. ``close`` waits for those at work; those that wait are answered with an error."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_WORK_MAX, thread_name_prefix="octodb-sign-in")
        self._free = threading.BoundedSemaphore(_AT_WORK_MAX + _WAITING_MAX)

    def run(self, decide: Callable[..., Any], *arguments: Any) -> Any:
        """What a callback returns: a Future of ``decide(*arguments)``, or at once an error where too many wait."""
        if not self._free.acquire(blocking=False):
            return FAILED, f"too many sign-ins just now; try again in {_COME_BACK_S} s"
        try:
            future: Future[Any] = self._threads.submit(decide, *arguments)
        except RuntimeError:  # closed
            self._free.release()
            return FAILED, "this primary is shutting down; try again later"
        future.add_done_callback(lambda _: self._free.release())
        return future

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
