"""A file that appears under its name when it is whole, and never in place of another.

Until then it lies beside it, under a name of its own that ends in ``.partial``; a process that is killed leaves that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from types import TracebackType
from typing import Final, Self

from octodb.errors import ConfigError, OperationalError

__all__ = ["PARTIAL_SUFFIX", "NewFile", "check_room", "sync_folder"]

PARTIAL_SUFFIX: Final = ".partial"
# SQLite may leave these beside a database; they are worth nothing without it.
_SIDECARS: Final = ("-journal", "-wal", "-shm")


class NewFile:
    """``with NewFile(path) as new:`` fill the file ``new.partial`` (mode 0600), then ``new.publish()``.

    What was not published is removed. ``replacing``: whatever has that name now will be out of the way by then.
    Raises ConfigError where ``path`` exists, OperationalError where no file can be made.
    """

    def __init__(self, path: str, *, replacing: bool = False) -> None:
        self.path = os.path.abspath(path)
        self.partial = ""
        self._replacing = replacing

    def __enter__(self) -> Self:
        if not self._replacing and os.path.lexists(self.path):
            raise _exists(self.path)
        folder, name = os.path.split(self.path)
        try:
            descriptor, self.partial = tempfile.mkstemp(prefix=name + ".", suffix=PARTIAL_SUFFIX, dir=folder)
        except OSError as error:
            raise OperationalError(
                f"cannot make {self.path}: {error.strerror}", hint=f"check that you may write to the folder {folder}"
            ) from None
        os.close(descriptor)
        return self

    def publish(self) -> None:
        """Put what was written on the disk and give it its name. Raises ConfigError where another took that name."""
        _sync(self.partial, os.O_RDWR)
        try:
            os.link(self.partial, self.path)  # unlike a rename it never replaces
        except FileExistsError:
            raise _exists(self.path) from None
        except OSError:  # a file system without links
            if os.path.lexists(self.path):
                raise _exists(self.path) from None
            os.rename(self.partial, self.path)
        sync_folder(self.path)

    def replace(self) -> None:
        """Put what was written on the disk and in the place of what has its name, in one step."""
        _sync(self.partial, os.O_RDWR)
        os.replace(self.partial, self.path)
        sync_folder(self.path)

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for name in (self.partial, *(self.partial + suffix for suffix in _SIDECARS)):
            with contextlib.suppress(OSError):
                os.remove(name)


def check_room(path: str, bytes_needed: int) -> None:
    """Raises OperationalError where the disk of ``path`` has no room for that much. It may still fill up later."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # whoever makes the file will tell what is wrong with the folder
    if free < bytes_needed:
        raise OperationalError(
            f"there is no room for {path}: it takes {_megabytes(bytes_needed)}, {folder} has {_megabytes(free)} left",
            hint="free some space there; nothing was changed",
        )


def sync_folder(path: str) -> None:
    """A new name is on the disk when its folder is."""
    _sync(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(path: str) -> ConfigError:
    return ConfigError(f"{path} exists already", hint="name a new file: nothing is overwritten")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
