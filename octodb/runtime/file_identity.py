"""Whether the file that is open is still the one at its path.

SQLite itself goes on in a deleted file without a word, and what is committed there is gone with the process.
"""

from __future__ import annotations

import os
import time
from typing import Final

from octodb.errors import OperationalError

__all__ = ["FileIdentity"]

_LOOK_AGAIN_S: Final = 0.01


class FileIdentity:
    """Of the database at ``path``, as it is when this is made."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._now()
        self._look_again_at = 0.0

    def check(self) -> None:
        """Raises OperationalError when the file was deleted, moved or replaced."""
        if self._now() != self._file:
            raise OperationalError(
                f"{self._path} was deleted, moved or replaced while it is open",
                hint="close it and open it anew; before that, conn.backup() can save what it held",
            )

    def check_often(self) -> None:
        """As ``check``, for who asks in a stream: a look costs a tenth of a small COMMIT, so there is one in 10 ms.

        What was committed in these is no worse off than what was committed before the file went.
        """
        now = time.monotonic()
        if now >= self._look_again_at:
            self.check()
            self._look_again_at = now + _LOOK_AGAIN_S

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino
