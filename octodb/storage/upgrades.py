"""The way of a file from an earlier format to this one, when it is opened: a copy beside it, then one transaction.

Owns the order of steps and the copy; ``meta.py`` holds the SQL. A process that dies at any point leaves a file of one
format or the other, never something between.
"""

from __future__ import annotations

import contextlib
import filecmp
import glob
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Final

import apsw

from octodb.errors import OperationalError
from octodb.model.file_key import FileKey
from octodb.model.identities import FORMAT_NUMBER, Role
from octodb.storage.backups import check_copy, copy_node_file
from octodb.storage.lookup import one_value
from octodb.storage.meta import Meta, upgrade_meta_tables
from octodb.storage.new_file import PARTIAL_SUFFIX, NewFile

__all__ = ["upgrade_node_file"]

# Another process may be upgrading the same file, and copies it first.
_BUSY_MS: Final = 60_000


def upgrade_node_file(
    db: apsw.Connection, path: str, role: Role, engine_runs: Callable[[], bool], key: FileKey | None = None
) -> None:
    """Bring the file of an earlier format that ``db`` has open to FORMAT_NUMBER; one that has it is left alone.

    ``engine_runs``: whether another process runs this file's engine, which then is of the earlier octodb.
    Raises OperationalError or DatabaseError, and the file is as it was: the copy finds no room or finds damage, another
    process has the file in use.
    """
    _begin(db, path)
    try:
        meta = Meta(db)
        found = meta.check_format(earlier=True)
        if found < FORMAT_NUMBER:  # another process may have been first
            if engine_runs():
                raise OperationalError(
                    f"{path} has format {found} and is in use by another process, with an earlier octodb",
                    hint="close it there (octodb status shows the process), then open it again",
                )
            _keep_copy(path, found, key)
            upgrade_meta_tables(db, role, found)
            meta.note_format()
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _begin(db: apsw.Connection, path: str) -> None:
    patience_ms = one_value(db, "PRAGMA busy_timeout")
    db.set_busy_timeout(max(patience_ms, _BUSY_MS))
    try:
        db.execute("BEGIN IMMEDIATE")
    except apsw.BusyError:
        raise OperationalError(
            f"{path} must be upgraded to format {FORMAT_NUMBER}, but another process is writing to it",
            hint="wait for that process (it may be upgrading the file itself), or end it, then open the file again",
        ) from None
    finally:
        db.set_busy_timeout(patience_ms)


def _keep_copy(path: str, found: int, key: FileKey | None) -> None:
    """Copy the file, encrypted as it is, while its write lock is held: nobody else can be doing the same.

    A copy of another state is never replaced: it may be all there is of what an earlier octodb wrote, after somebody
    went back to it. One of this very state is there when a process was killed behind this point.
    """
    for left in glob.glob(f"{glob.escape(path)}-octodb.format{found}.*{PARTIAL_SUFFIX}"):
        with contextlib.suppress(OSError):
            os.remove(left)
    taken: list[str] = []
    for name in _copy_names(path, found):
        if not os.path.lexists(name):
            break
        taken.append(name)
    with NewFile(name) as new:
        copy_node_file(path, new.partial, key=key)
        check_copy(new.partial, path, with_log=False, key=key)
        if not any(filecmp.cmp(one, new.partial, shallow=False) for one in taken):
            new.publish()


def _copy_names(path: str, found: int) -> Iterator[str]:
    yield f"{path}-octodb.format{found}.bak"
    for number in itertools.count(2):
        yield f"{path}-octodb.format{found}.{number}.bak"
