"""Reading a snapshot on a primary and loading one on a device (design.md §6).

The reader holds one read transaction, so that all it gives is the state at one position of the log. The loader
holds one write transaction from header to tail: a download that breaks off leaves nothing behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import apsw

from octodb.errors import ProtocolError
from octodb.model.owners import EVERYBODY
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.transactions import CHAIN_START
from octodb.sql.tokens import quote_name
from octodb.storage.local_rows import DATA_ERRORS
from octodb.storage.local_triggers import LocalTriggers
from octodb.storage.lookup import one_value
from octodb.storage.meta import LogTables, Meta
from octodb.storage.schema_rules import shared_objects
from octodb.storage.sent_schema import run_sent_schema
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["EverybodysParts", "SnapshotLoader", "SnapshotReader", "check_sent_rows"]

# A chunk is one message: large enough to be cheap, small enough to show progress and to share the line.
_CHUNK_BYTES: Final = 192 * 1024
_CHUNK_ROWS_MAX: Final = 2000
# What is remembered of everybody's rows, in a message's bytes; in memory it is a few times as much.
_KEPT_BYTES_MAX: Final = 16 * 1024 * 1024


class EverybodysParts:
    """The parts with everybody's rows as the last whole download read them, for those that begin while no such row has
    changed since: devices come in crowds, and these rows are the same for all of them. One thread at a time."""

    def __init__(self) -> None:
        self._state: tuple[int, int] | None = None
        self._parts: list[SnapshotRows] = []

    def of(self, state: tuple[int, int]) -> list[SnapshotRows] | None:
        """``state``: position of everybody's newest entry, and SQLite's schema version."""
        return self._parts if state == self._state else None

    def keep(self, state: tuple[int, int], parts: list[SnapshotRows]) -> None:
        if self._state is None or state > self._state:
            self._state, self._parts = state, parts


class SnapshotReader:
    """What user ``user_id`` may see, read from a connection of its own.

    ``kept_max``: so many of the newest parts can be read once more, when a download is resumed.
    """

    def __init__(
        self,
        db: apsw.Connection,
        user_id: int,
        token: bytes,
        kept_max: int,
        everybodys: EverybodysParts | None = None,
        node_id: int = 0,
    ) -> None:
        self._db = db
        self._everybodys = EverybodysParts() if everybodys is None else everybodys
        self.user_id = user_id
        self.node_id = node_id
        self.token = token
        self._kept: deque[SnapshotRows | SnapshotTail] = deque(maxlen=kept_max)
        self._count = 0
        self._bytes_read = 0
        self._parts: Iterator[SnapshotRows | SnapshotTail] | None = None
        self._log = LogTables(db)
        self._meta = Meta(db)

    def open(self) -> SnapshotHeader:
        """Begin the read transaction and describe what it shows."""
        self._db.execute("BEGIN")
        seq = self._log.head()
        self._shapes = Shapes.read(self._db)
        shared = [one for one in shared_objects(self._db) if not self._shapes.is_shadow(one.name)]
        self._tail = SnapshotTail(tuple(one.sql or "" for one in shared if one.kind != "table"))
        counts = [self._count_rows(shape) for shape in self._shapes.replicated()]
        self._parts = self._read_parts()
        self.header = SnapshotHeader(
            seq=seq,
            epoch=self._meta.get("epoch"),
            chain_all=self._chain(EVERYBODY),
            chain_user=self._chain(self.user_id),
            schema_seq=self._meta.get("schema_seq", 0),
            tables=tuple(one.sql or "" for one in shared if one.kind == "table"),
            rows_total=sum(counts),
            token=self.token,
            triggers=tuple(
                one.sql or "" for one in shared if one.kind == "trigger" and self._shapes.get(one.table) is not None
            ),
        )
        return self.header

    def has(self, number: int) -> bool:
        """Whether part ``number`` can be read: the next one, or one of those that are kept."""
        return self._count - len(self._kept) < number <= self._count + 1

    def part(self, number: int) -> SnapshotRows | SnapshotTail:
        """Part ``number``, counted from 1; the last one is the tail. Raises LookupError where ``has`` says no."""
        if not self.has(number):
            raise LookupError(f"part {number} of a download is not kept any more")
        if number <= self._count:
            return self._kept[number - self._count - 1]
        assert self._parts is not None
        found = next(self._parts)
        self._count += 1
        self._kept.append(found)
        return found

    def _read_parts(self) -> Iterator[SnapshotRows | SnapshotTail]:
        """The rows, the user's own first, and the tail."""
        for shape in self._shapes.replicated():
            yield from self._rows(shape, self.user_id)
        yield from self._everybodys_rows()
        yield self._tail

    def _everybodys_rows(self) -> Iterator[SnapshotRows]:
        state = (self._log.newest(EVERYBODY), self._shapes.version)
        known = self._everybodys.of(state)
        if known is not None:
            yield from known
            return
        parts: list[SnapshotRows] | None = []
        before = self._bytes_read
        for shape in self._shapes.replicated():
            for part in self._rows(shape, EVERYBODY):
                if parts is not None:
                    parts.append(part)
                if self._bytes_read - before > _KEPT_BYTES_MAX:
                    parts = None
                yield part
        if parts is not None:
            self._everybodys.keep(state, parts)

    def all_parts(self) -> Iterator[SnapshotRows | SnapshotTail]:
        """Every part, from the first to the tail."""
        number, part = 1, self.part(1)
        while isinstance(part, SnapshotRows):
            yield part
            number += 1
            part = self.part(number)
        yield part

    @property
    def db(self) -> apsw.Connection:
        return self._db

    def close(self) -> None:
        self._db.close(True)

    def _chain(self, owner: int | str) -> bytes:
        found = self._log.chain(owner)
        return CHAIN_START if found is None else found[1]

    def _count_rows(self, shape: TableShape) -> int:
        sql = f"SELECT count(*) FROM {shape.quoted} WHERE {shape.owner_column} IN (?, ?)"
        return int(one_value(self._db, sql, (self.user_id, EVERYBODY)))

    def _rows(self, shape: TableShape, owner: int | str) -> Iterator[SnapshotRows]:
        columns = ", ".join(quote_name(column) for column in shape.columns)
        sql = f"SELECT {columns} FROM {shape.quoted} WHERE {shape.owner_column} = ?"
        rows: list[list[Any]] = []
        size = 0
        for row in self._db.execute(sql, (owner,)):
            rows.append(list(row))
            size += 9 * len(row) + sum(len(value) for value in row if isinstance(value, str | bytes))
            if size >= _CHUNK_BYTES or len(rows) >= _CHUNK_ROWS_MAX:
                self._bytes_read += size
                yield SnapshotRows(shape.name, shape.columns, rows)
                rows, size = [], 0
        if rows:
            self._bytes_read += size
            yield SnapshotRows(shape.name, shape.columns, rows)


def check_sent_rows(shape: TableShape | None, columns: tuple[str, ...], rows: list[list[Any]], user_id: int) -> None:
    """Whether a primary may send these rows to a device of ``user_id``: rows of a replicated table, its user's or
    everybody's. Raises ProtocolError: they would land in what is the device's own."""
    if shape is None or not shape.replicated:
        raise ProtocolError("the primary sent rows for a table that is not replicated")
    if len(columns) != len(shape.columns) or set(columns) != set(shape.columns):
        raise ProtocolError(f"the primary sent rows of {shape.name} with other columns than it has")
    owner = columns.index(shape.columns[shape.owner or 0])
    mine = {user_id, str(user_id), EVERYBODY}  # a column of text holds the number as text
    for row in rows:
        if len(row) != len(columns) or not isinstance(row[owner], int | float | str) or row[owner] not in mine:
            raise ProtocolError(f"the primary sent a row of {shape.name} that is not for this device")


class SnapshotLoader:
    """Loads a first download into an empty file, on the engine's connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._meta = Meta(db)
        self._header: SnapshotHeader | None = None
        self._kept: dict[str, Any] = {}

    def keep(self, values: dict[str, Any]) -> None:
        """Single values of the file that stay, whatever becomes of this download: they were set in its transaction."""
        self._kept = values

    def is_loading(self, header: SnapshotHeader) -> bool:
        """Whether all parts of this download were loaded so far."""
        return self._header is header

    def begin(self, header: SnapshotHeader) -> None:
        self.abandon()
        self._db.execute("BEGIN IMMEDIATE")
        self._header = header
        for sql in (*header.tables, *header.triggers):
            run_sent_schema(self._db, sql)
        self._triggers = LocalTriggers(self._db)
        self._shapes = Shapes.read(self._db)
        self._triggers.install(self._shapes)
        self._user_id = self._meta.get("user_id", 0)

    def load(self, part: SnapshotRows) -> None:
        assert self._header is not None, "a download begins with its header"
        check_sent_rows(self._shapes.get(part.table), part.columns, part.rows, self._user_id)
        columns = ", ".join(quote_name(column) for column in part.columns)
        marks = ", ".join("?" * len(part.columns))
        sql = f"INSERT INTO main.{quote_name(part.table)} ({columns}) VALUES ({marks})"
        self._db.execute("SAVEPOINT octodb_chunk")
        with self._triggers.hearing_of_others():
            try:
                self._db.executemany(sql, part.rows)
            except (*DATA_ERRORS, apsw.CorruptError):  # one of the triggers fails: row by row, past that one
                self._db.execute("ROLLBACK TO octodb_chunk")
                for row in part.rows:
                    self._triggers.run(sql, row)
        self._db.execute("RELEASE octodb_chunk")

    def finish(self, tail: SnapshotTail) -> None:
        """Make the rest of the schema; the database is ready when this commits."""
        header = self._header
        assert header is not None
        self._triggers.drop()
        for sql in tail.schema:
            if sql not in header.triggers:
                run_sent_schema(self._db, sql)
        self._meta.set(
            ready=1,
            epoch=header.epoch,
            cursor=header.seq,
            chain_all=header.chain_all,
            chain_user=header.chain_user,
            schema_seq=header.schema_seq,
        )
        self._db.execute("COMMIT")
        self._header = None
        self._kept = {}

    def abandon(self) -> None:
        """The download broke off: forget what came of it."""
        if self._header is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._header = None
        if self._kept:
            with suppress(apsw.BusyError):  # then before the next one
                self._db.execute("BEGIN IMMEDIATE")
                self._meta.set(**self._kept)
                self._db.execute("COMMIT")
                self._kept = {}
