"""Which process runs the engine of a file: an operating system lock on a sidecar file (design.md §10).

The lock ends with its process, however that ends. The sidecar stays; it is empty.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

__all__ = ["LOCK_SUFFIX", "EngineLock"]

LOCK_SUFFIX: Final = "-octodb.lock"


class EngineLock:
    """The engine lock of the database at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path + LOCK_SUFFIX
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock if no other process has it. Never waits."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            # unlocked, not just closed: a forked child may have the descriptor still
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self.forget_in_child()

    def forget_in_child(self) -> None:
        """Close the descriptor and leave the lock to the process that took it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held_by_somebody(self) -> bool:
        """Whether a process, this one included, runs the engine now."""
        if self._descriptor is not None:
            return True
        if not os.path.exists(self._path):
            return False
        if self.acquire():
            self.release()
            return False
        return True
