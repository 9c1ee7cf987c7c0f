"""Checksums of rows by table and key range: whether a device holds what its primary says it should (design.md §11).

A sum is that of a hash of each row, so that the order of rows does not matter and sums of parts add up. Each row counts
with the storage class and the bytes of its values, in the order of the column names; -0.0 counts as 0.0. Reads only;
the caller has a read transaction.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import apsw
import msgspec

from octodb.model.owners import EVERYBODY
from octodb.sql.tokens import quote_name
from octodb.storage.lookup import one_value
from octodb.storage.meta import LogTables
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["Checksums", "Key", "PrimarySums", "RangeSum"]

_T = TypeVar("_T")
_PARTS: Final = 16
_FETCHED_ROWS_MAX: Final = 2000
_FETCHED_BYTES_MAX: Final = 8 * 1024 * 1024  # but one row, however large: it came in one message before

Key = list[Any]
"""Values of the key columns; [] where a range has no end."""
RangeSum = tuple[int, int]
"""How many rows, and the sum of their hashes modulo 2^63."""

_encode: Final = msgspec.msgpack.Encoder().encode
_NEGATIVE_ZERO: Final = _encode(-0.0)
_MODULUS: Final = 1 << 63  # what SQLite and every peer can hold as an integer


class Checksums:
    """Sums on one connection. ``owners``: whose rows count; None: all that have an owner, as on a device."""

    def __init__(self, db: apsw.Connection, owners: tuple[int | str, ...] | None = None) -> None:
        self._db = db
        self._owners = owners

    def tables(self) -> list[tuple[str, int, int]]:
        """(table, rows, sum) of each replicated table, by name."""
        shapes = sorted(Shapes.read(self._db).replicated(), key=lambda shape: shape.name)
        return [_with_names(shape, self.of(shape, [], [])) for shape in shapes]

    def table(self, name: str) -> TableShape | None:
        """The shape of a replicated table."""
        shape = Shapes.read(self._db).get(name)
        return shape if shape is not None and shape.replicated else None

    def of(self, shape: TableShape, low: Key, high: Key) -> RangeSum:
        """The sum of the rows with ``low`` < key ≤ ``high``."""
        count, total = 0, 0
        for value in self._hashes(shape, low, high):
            count += 1
            total += value
        return count, total % _MODULUS

    def parts(
        self, shape: TableShape, low: Key, high: Key, bounds: Sequence[Sequence[Any]]
    ) -> list[tuple[str, int, int]]:
        """(table, rows, sum) of each of the parts into which ``bounds`` cut a range."""
        edges = [low, *(list(bound) for bound in bounds), high]
        return [(shape.name, *self.of(shape, start, end)) for start, end in itertools.pairwise(edges)]

    def split(self, shape: TableShape, low: Key, high: Key, parts: int) -> list[Key]:
        """Keys that cut a range into about ``parts`` equal ones; fewer where it has few rows."""
        where, values = self._range(shape, low, high)
        keys = ", ".join(quote_name(shape.columns[i]) for i in shape.key)
        count = int(one_value(self._db, f"SELECT count(*) FROM {shape.quoted} WHERE {where}", values))
        step = max(1, -(-count // parts))
        sql = (
            f"SELECT {keys} FROM (SELECT {keys}, row_number() OVER (ORDER BY {keys}) AS octodb_number"
            f" FROM {shape.quoted} WHERE {where}) WHERE octodb_number % ? = 0 AND octodb_number < ?"
        )
        return [list(row) for row in self._db.execute(sql, (*values, step, count))]

    def rows(self, shape: TableShape, low: Key, high: Key) -> Iterator[list[Any]]:
        """The rows of a range in the order of ``shape.columns``."""
        where, values = self._range(shape, low, high)
        columns = ", ".join(quote_name(column) for column in shape.columns)
        for row in self._db.execute(f"SELECT {columns} FROM {shape.quoted} WHERE {where}", values):
            yield list(row)

    def _hashes(self, shape: TableShape, low: Key, high: Key) -> Iterator[int]:
        where, values = self._range(shape, low, high)
        columns = ", ".join(quote_name(column) for column in sorted(shape.columns))
        blake = hashlib.blake2b
        for row in self._db.execute(f"SELECT {columns} FROM {shape.quoted} WHERE {where}", values):
            data = _encode(row)
            if _NEGATIVE_ZERO in data:
                data = _encode([0.0 if isinstance(value, float) and value == 0 else value for value in row])
            yield int.from_bytes(blake(data, digest_size=8).digest(), "big")

    def _range(self, shape: TableShape, low: Key, high: Key) -> tuple[str, list[Any]]:
        """The keys have no collation but BINARY (schema_rules), so both sides order them alike."""
        owner = shape.owner_column
        where, values = f"{owner} IS NOT NULL", list[Any]()
        if self._owners is not None:
            where, values = f"{owner} IN ({', '.join('?' * len(self._owners))})", list(self._owners)
        keys = ", ".join(quote_name(shape.columns[i]) for i in shape.key)
        marks = ", ".join("?" * len(shape.key))
        for key, sign in ((low, ">"), (high, "<=")):
            if key:
                where += f" AND ({keys}) {sign} ({marks})"
                values += key
        return where, values


def _with_names(shape: TableShape, sums: RangeSum) -> tuple[str, int, int]:
    """The sum of a whole table speaks of its columns too."""
    names = int.from_bytes(hashlib.blake2b(_encode(sorted(shape.columns)), digest_size=8).digest(), "big")
    return shape.name, sums[0], (sums[1] + names) % _MODULUS


class PrimarySums:
    """What a primary answers about sums, on a reading connection of its own.

    The sums of everybody's rows are kept until a row or the schema changes: all devices ask for them.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self.db = self._db = db
        self._log = LogTables(db)
        self._everybody: tuple[tuple[int, int], dict[str, RangeSum]] | None = None

    def compute(
        self, user_id: int, seq: int, table: str, low: Key, high: Key
    ) -> tuple[list[tuple[str, int, int]], list[Key]] | None:
        """(sums, bounds) of what a device of ``user_id`` should hold at ``seq``; None: it should hold something else
        now.

        ``table`` '': a sum for each table. Otherwise for each of some parts of a range, with the keys between them.
        """
        return self._at(user_id, seq, lambda: self._compute(user_id, table, low, high))

    def fetch(
        self, user_id: int, seq: int, table: str, low: Key, high: Key
    ) -> tuple[list[str], list[list[Any]]] | None:
        """(columns, rows) of a range; None as above, and where they are too many."""
        return self._at(user_id, seq, lambda: self._fetch(user_id, table, low, high))

    def close(self) -> None:
        self._db.close(True)

    def _at(self, user_id: int, seq: int, work: Callable[[], _T | None]) -> _T | None:
        self._db.execute("BEGIN")
        try:
            if max(self._log.newest(user_id), self._log.newest(EVERYBODY)) > seq:
                return None
            return work()
        except (apsw.SQLError, apsw.BindingsError, TypeError, OverflowError):
            return None  # a key with other columns than the table's, or of no SQL type: it was changed, or is forged
        finally:
            self._db.execute("COMMIT")

    def _compute(
        self, user_id: int, table: str, low: Key, high: Key
    ) -> tuple[list[tuple[str, int, int]], list[Key]] | None:
        if not table:
            return self._tables(user_id), []
        sums = Checksums(self._db, (user_id, EVERYBODY))
        shape = sums.table(table)
        if shape is None:
            return None
        bounds = sums.split(shape, low, high, _PARTS)
        return sums.parts(shape, low, high, bounds), bounds

    def _tables(self, user_id: int) -> list[tuple[str, int, int]]:
        shapes = Shapes.read(self._db)
        state = (self._log.newest(EVERYBODY), shapes.version)
        if self._everybody is None or self._everybody[0] != state:
            everybody = Checksums(self._db, (EVERYBODY,))
            self._everybody = (state, {s.name: everybody.of(s, [], []) for s in shapes.replicated()})
        own, kept = Checksums(self._db, (user_id,)), self._everybody[1]
        found = []
        for shape in sorted(shapes.replicated(), key=lambda shape: shape.name):
            mine, all_ = own.of(shape, [], []), kept[shape.name]
            found.append(_with_names(shape, (mine[0] + all_[0], mine[1] + all_[1])))
        return found

    def _fetch(self, user_id: int, table: str, low: Key, high: Key) -> tuple[list[str], list[list[Any]]] | None:
        sums = Checksums(self._db, (user_id, EVERYBODY))
        shape = sums.table(table)
        if shape is None:
            return None
        rows: list[list[Any]] = []
        size = 0
        for row in sums.rows(shape, low, high):
            rows.append(row)
            size += sum(len(value) for value in row if isinstance(value, str | bytes))
            if len(rows) > _FETCHED_ROWS_MAX or (size > _FETCHED_BYTES_MAX and len(rows) > 1):
                return None
        return list(shape.columns), rows
