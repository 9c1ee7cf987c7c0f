"""Which process runs the engine of a file: an operating system lock on a sidecar file (design.md §10).

The lock ends with its process, however that ends. The sidecar stays; it is empty.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import Final

from octodb.errors import OperationalError

__all__ = ["LOCK_SUFFIX", "EngineLock"]

LOCK_SUFFIX: Final = "-octodb.lock"
# Looking takes microseconds: whoever finds it in others' hands this often has bad luck with an engine's.
_LOOKERS_MAX: Final = 20
_LOOK_S: Final = 0.001


class EngineLock:
    """The engine lock of the database at ``path``."""

    def __init__(self, path: str) -> None:
        self._path = path + LOCK_SUFFIX
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock if no other process has it. Waits for nobody but those that only look, which is over at once.

        Raises OperationalError where the file system has no locks or no place for the sidecar.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _no_lock(self._path, error) from None
        for _ in range(_LOOKERS_MAX):
            if _lock(descriptor, self._path, fcntl.LOCK_EX):
                self._descriptor = descriptor
                return True
            if not _lock(descriptor, self._path, fcntl.LOCK_SH):
                break  # an engine has it
            # those that look share it for a moment
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(_LOOK_S)
        os.close(descriptor)
        return False

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
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False  # there was none yet, or its engine is none that we may know of
        try:
            # shared: several may look, and none of them is taken for an engine
            return not _lock(descriptor, self._path, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: str, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _no_lock(path, error) from None
    return True


def _no_lock(path: str, error: OSError) -> OperationalError:
    return OperationalError(
        f"cannot lock {path}: {(error.strerror or str(error)).lower()}",
        hint="a node needs a folder it may write to, on a local disk with room; open it with mode=ro only to read it",
    )
