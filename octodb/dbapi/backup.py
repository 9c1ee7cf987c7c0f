"""The loop that copies a database page by page. Owns pace and progress; never opens anything."""

from __future__ import annotations

import time
from collections.abc import Callable

import apsw

from octodb.storage.apsw_errors import extended_code

__all__ = ["copy_database"]


def copy_database(
    process: apsw.Backup, *, pages: int, progress: Callable[[int, int, int], object] | None, sleep_s: float
) -> None:
    """Run ``process`` to its end, ``pages`` a step (0 or less: all at once), and finish it in any case.

    Waits ``sleep_s`` when a step meets a lock. Raises what ``progress`` raises, and apsw.Error otherwise.
    """
    status = apsw.SQLITE_OK
    with process:
        while status != apsw.SQLITE_DONE:
            try:
                done = process.step(pages if pages > 0 else -1)
                status = apsw.SQLITE_DONE if done else apsw.SQLITE_OK
            except (apsw.BusyError, apsw.LockedError) as error:
                status = extended_code(error)
            if progress is not None:
                progress(status, process.remaining, process.page_count)
            if status not in (apsw.SQLITE_OK, apsw.SQLITE_DONE):
                time.sleep(sleep_s)
