"""Exact copies of node files, taken while others write, and the proof that a copy is whole.

Owns copying, checking, and what a primary made from a copy must not repeat. Takes no engine lock, knows no clock.
"""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from octodb.errors import ConfigError, DatabaseError, Error, OperationalError
from octodb.model.backup_report import BackupReport
from octodb.model.file_key import FileKey
from octodb.model.identities import ADMIN_ID, FORMAT_NUMBER, Role, row_id_range
from octodb.model.transactions import CHAIN_START, body_hash, chain_hash
from octodb.sql.tokens import quote_name
from octodb.storage.apsw_errors import coded
from octodb.storage.encryption import open_connection, why_not_readable
from octodb.storage.lookup import one_value
from octodb.storage.meta import LogTables, Meta, NodeTable, Outbox, is_node_file, upgrade_meta_tables
from octodb.storage.new_file import check_room
from octodb.storage.shapes import Shapes

__all__ = ["IDENTITIES_SKIPPED", "ROW_IDS_SKIPPED", "Progress", "check_copy", "copy_node_file", "start_anew"]

# Pages done, pages in all.
Progress = Callable[[int, int], object]

# 4 MB: short enough to show progress and to be interrupted, long enough to cost nothing.
_PAGES_A_STEP: Final = 1024
_BUSY_MS: Final = 10_000
_OPCODES_A_LOOK: Final = 100_000
# Ids given after the copy was taken are not known to it and must not be given again (contract.md §5). Node and user
# ids have 31 bits, a table's row ids 32 in the range of each node: both margins leave room for hundreds of restores.
IDENTITIES_SKIPPED: Final = 100_000
ROW_IDS_SKIPPED: Final = 10_000_000


def copy_node_file(
    source: str,
    target: str,
    progress: Progress | None = None,
    *,
    at_rest: bool = False,
    key: FileKey | None = None,
) -> None:
    """Copy the node file ``source``, as it is at one moment, into the empty file ``target``.

    ``at_rest``: nobody writes ``source``, which may lie where nothing can be written. ``key``: of both files.

    One read transaction is held for as long as it takes: writers go on (sqlite.org/wal.html#concurrency), their WAL
    grows meanwhile. Without it every commit of another process would start the copy anew
    (sqlite.org/c3ref/backup_finish.html). Raises ConfigError (no node's file, or of a later format),
    OperationalError (no room, a lock, a failing disk), DatabaseError (damaged, or no database).
    """
    connect = _reading_at_rest if at_rest else _reading
    with _plain_errors(source, key), contextlib.closing(connect(source, key)) as db:
        db.execute("BEGIN")
        _require_node(db, source)  # its first look takes the snapshot
        pages = one_value(db, "PRAGMA page_count")
        check_room(target, pages * one_value(db, "PRAGMA page_size"))
        with contextlib.closing(open_connection(target, apsw.SQLITE_OPEN_READWRITE, key)) as copy:
            copy.execute("PRAGMA synchronous = OFF")  # whoever gives the file its name syncs it once
            with copy.backup("main", db, "main") as process:
                while not process.done:
                    process.step(_PAGES_A_STEP)
                    if progress is not None:
                        progress(process.page_count - process.remaining, process.page_count)
        db.execute("COMMIT")


def check_copy(
    path: str, name: str | None = None, *, with_log: bool = True, key: FileKey | None = None
) -> BackupReport:
    """Read a copy to its end: SQLite's integrity_check, format, role, and the log's running hashes.

    ``name`` is what errors call it. Raises ConfigError (no node's file, or of a later format), DatabaseError (damaged,
    or no database), OperationalError (it cannot be read).
    """
    shown = name or path
    with _plain_errors(shown, key, path), contextlib.closing(_reading_at_rest(path, key)) as db:
        found, role = _require_node(db, shown)
        unchecked = _check_integrity(db, shown)
        log = LogTables(db)
        entries = _check_log(log, shown) if role is Role.PRIMARY and with_log else 0
        outbox = Outbox(db) if role is Role.SECONDARY else None
        meta = Meta(db)
        return BackupReport(
            path=shown,
            role=role,
            format=found,
            bytes=os.path.getsize(path),
            head=log.head() if role is Role.PRIMARY else meta.get("cursor", 0),
            entries=entries,
            epoch=bytes(meta.get("epoch") or b"").hex(),
            nodes=len(NodeTable(db).all()) if role is Role.PRIMARY else 0,
            pending=outbox.count() if outbox else 0,
            rejected=outbox.count_rejected() if outbox else 0,
            unchecked=unchecked,
        )


def start_anew(path: str, epoch: bytes, now: float, key: FileKey | None = None) -> None:
    """Make the copy of a primary at ``path`` one that goes on where the copy was taken, under a new ``epoch``.

    Nothing that was given after the copy is given again, and devices are let in whatever session token they hold
    (design.md §5, §8).
    """
    with contextlib.closing(open_connection(path, apsw.SQLITE_OPEN_READWRITE, key)) as db:
        # one file and nothing beside it: it is renamed as soon as this is done
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("BEGIN IMMEDIATE")
        meta = Meta(db)
        if (found := meta.check_format(earlier=True)) < FORMAT_NUMBER:
            upgrade_meta_tables(db, Role.PRIMARY, found)
            meta.note_format()
        meta.set(epoch=epoch, restored_at=now)
        meta.skip_identities(IDENTITIES_SKIPPED)
        NodeTable(db).forget_tokens()
        low, high = row_id_range(meta.get("node_id", ADMIN_ID))
        for shape in Shapes.read(db).replicated():
            if shape.row_id_column is not None:
                column = quote_name(shape.row_id_column)
                highest = f"SELECT max({column}) FROM {shape.quoted} WHERE {column} BETWEEN ? AND ?"
                meta.skip_ids(shape.name, low, high, highest, ROW_IDS_SKIPPED)
        db.execute("COMMIT")


def _require_node(db: apsw.Connection, name: str) -> tuple[int, Role]:
    """Format and role of a node's file. Raises what ``check_copy`` does."""
    db.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # raises what is_node_file would take for an answer
    if not is_node_file(db):
        raise ConfigError(f"{name} is a SQLite database, but no node's", hint="name a primary's or a device's file")
    meta = Meta(db)
    found, role = meta.check_format(earlier=True), meta.get("role")
    if role not in set(Role):
        raise _damaged(name, f"its role is {role!r}")
    return found, Role(role)


def _reading(path: str, key: FileKey | None) -> apsw.Connection:
    db = open_connection(path, apsw.SQLITE_OPEN_READWRITE, key)
    db.set_busy_timeout(_BUSY_MS)
    db.execute("PRAGMA query_only = ON")
    return _interruptible(db)


def _reading_at_rest(path: str, key: FileKey | None) -> apsw.Connection:
    """For a file that nobody writes: no sidecars are made beside it, it may lie where nothing can be written."""
    if os.path.exists(path + "-wal"):
        return _reading(path, key)
    uri = f"file:{urllib.parse.quote(os.path.abspath(path))}?immutable=1"
    return _interruptible(open_connection(uri, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, key))


def _interruptible(db: apsw.Connection) -> apsw.Connection:
    """A check of a large file is one long statement: Python sees Ctrl-C only when it is called in between."""
    db.set_progress_handler(lambda: False, _OPCODES_A_LOOK)
    return db


def _check_integrity(db: apsw.Connection, name: str) -> tuple[str, ...]:
    """Returns the tables that only their application can check. Raises DatabaseError for a damaged file."""
    try:
        _expect_ok(db, "PRAGMA integrity_check(1)", name)
    except apsw.SQLError:
        # an index or a CHECK uses a function or a collation that does not exist here: table by table then
        tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        return tuple(str(table) for (table,) in tables if not _checked(db, str(table), name))
    return ()


def _checked(db: apsw.Connection, table: str, name: str) -> bool:
    try:
        _expect_ok(db, f"PRAGMA integrity_check({quote_name(table)})", name)
    except apsw.SQLError:
        return False
    return True


def _expect_ok(db: apsw.Connection, pragma: str, name: str) -> None:
    (answer,) = db.execute(pragma).fetchall()[0]
    if answer != "ok":
        raise _damaged(name, str(answer).splitlines()[-1])


def _check_log(log: LogTables, name: str) -> int:
    """Recompute the running hash of every stream; returns how many parts there are. Raises DatabaseError.

    Of the part that was cut off, the newest hash of each stream is there, and believed.
    """
    chains: dict[int | str, bytes] = {}
    count, last_seq = 0, log.floor()
    for part in log.all():
        if not count and part.seq <= last_seq:
            chains[part.owner] = part.chain
            continue
        if not last_seq <= part.seq <= last_seq + 1:
            raise _damaged(name, f"position {part.seq} of the log comes after {last_seq}")
        if body_hash(part.body) != part.hash:
            raise _damaged(name, f"the entry at {part.seq} of the log does not fit its hash")
        if chain_hash(chains.get(part.owner, CHAIN_START), part.seq, part.hash) != part.chain:
            raise _damaged(name, f"the running hash of the log differs at {part.seq}")
        chains[part.owner], last_seq = part.chain, part.seq
        count += 1
    return count


def _damaged(name: str, why: str) -> DatabaseError:
    return _file_error(f"{name} is damaged: {why}", apsw.SQLITE_CORRUPT, "use another backup")


def _file_error(text: str, code: int, hint: str) -> DatabaseError:
    error = DatabaseError(text, hint=hint)
    coded(error, code)
    return error


@contextmanager
def _plain_errors(name: str, key: FileKey | None, path: str | None = None) -> Iterator[None]:
    """What SQLite raises about the file ``name`` or its copy, as errors of ours that say what to do."""
    try:
        yield
    except Error:
        raise
    except apsw.NotADBError:
        unreadable = why_not_readable(path or name, key)
        unreadable.args = (str(unreadable).replace(path or name, name, 1),)
        raise unreadable from None
    except apsw.CorruptError as error:
        raise _damaged(name, str(error)) from None
    except apsw.FullError:
        raise OperationalError(
            f"the disk is full: {name} could not be copied", hint="free some space; nothing was changed"
        ) from None
    except apsw.CantOpenError:
        raise _file_error(f"cannot open {name}", apsw.SQLITE_CANTOPEN, "check that it exists and may be read") from None
    except (apsw.Error, OSError) as error:
        hint = "check the disk and its space, the file's permissions and its quota; nothing was changed"
        raise OperationalError(f"{name} could not be copied or read: {error}", hint=hint) from None
