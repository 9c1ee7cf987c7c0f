"""How long the write-ahead log of a device's file may get, and who writes it back into the database (a checkpoint).

A checkpoint waits for the disk, and SQLite makes whoever commits the thousandth page wait for it: that was half of what
a small COMMIT cost. The engine does it beside the application instead (sqlite.org/wal.html §3). It never waits for
anybody, and what it cannot write back yet it leaves for the next time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import apsw

from octodb.storage.lookup import one_value

__all__ = ["WAL_PAGES_MAX", "WalKeeper"]

# Where no engine comes to it whoever commits does it himself, as in any file. Above 4062 pages SQLite needs a second
# table to find a page in the WAL (sqlite.org/walformat.html §2.2).
WAL_PAGES_MAX: Final = 4000
_PAGES_WRITTEN_BACK: Final = 1000


class WalKeeper:
    """Of the file that ``db`` has open; ``db`` is in no transaction when it is used.

    ``wanted`` is False where the connection is set to leave the WAL alone (PRAGMA wal_autocheckpoint = 0), or where
    SQLite is older than 3.51 and does not tell how long it is: then nothing is done here.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        told = hasattr(apsw, "SQLITE_CHECKPOINT_NOOP")
        self.wanted: Final = told and int(one_value(db, "PRAGMA wal_autocheckpoint")) > 0

    def checkpoint(self) -> None:
        """Write back what the WAL has, if it is worth the disk's while.

        What fails (disk full…) can be done another time: nothing is lost, and whoever reads or writes rows will tell.
        """
        if not self.wanted:
            return
        with suppress(apsw.Error):
            pages, written_back = self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
            if pages - written_back >= _PAGES_WRITTEN_BACK:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
