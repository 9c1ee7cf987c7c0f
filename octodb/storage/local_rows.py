"""Rows without an owner that stand in the way of what is ordered: moved aside, put back, or displaced (design.md §4).

A local row never decides whether an entry, a body or a schema change takes effect. What cannot be put back is kept in
``_octodb_displaced`` and reported. Runs inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.changesets import iterate
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["DATA_ERRORS", "LocalRows", "LocalUndo"]

# What the values of a row can make SQLite say: constraints, a key of the wrong type, an expression in an index or CHECK
# that fails for them, a row that is too large.
DATA_ERRORS: Final = (apsw.ConstraintError, apsw.MismatchError, apsw.SQLError, apsw.TooBigError)

_Row = tuple[Any, ...]
# What one change gives back: the table, the row that is there now (None: none), the row from before (None: none)
_Return = tuple[TableShape, _Row | None, _Row | None]


@dataclass(frozen=True, slots=True)
class LocalUndo:
    """The undoing of a rejected transaction's local part. ``kept``: rows that somebody changed since."""

    kept: int
    later: list[_Return]


class LocalRows:
    """``displaced(table, row, reason)`` is told of each row that cannot stay."""

    def __init__(self, db: apsw.Connection, displaced: Callable[[str, dict[str, Any], str], None]) -> None:
        self._db = db
        self._displaced = displaced

    def displace_equal(self, shape: TableShape, row: list[Any]) -> bool:
        """Displace the local rows that have a key or UNIQUE columns in common with ``row``; False: there is none.

        ``row`` holds ``apsw.no_change`` where a value is not known.
        """
        found = False
        for columns in self._unique_column_sets(shape):
            if any(i >= len(row) or row[i] is apsw.no_change or row[i] is None for i in columns):
                continue
            match = " AND ".join(f"{quote_name(shape.columns[i])} = ?" for i in columns)
            reason = f"a synced row has the same {', '.join(shape.columns[i] for i in columns)}"
            taken = self._take(shape, match, [row[i] for i in columns])
            for one in taken:
                if not _same_but_owner(shape, one, row):
                    self._displace(shape, one, reason)
            found = found or bool(taken)
        return found

    def move_aside(self, shape: TableShape) -> list[_Row]:
        """Take all local rows out of a table."""
        return self._take(shape, "1", [])

    def put_back(self, old: TableShape, rows: list[_Row], shapes: Shapes, reason: str) -> None:
        """Insert rows of ``old`` into the table as it is now; displace those that it cannot hold."""
        shape = shapes.get(old.name)
        for row in rows:
            kept = [] if shape is None else [i for i, column in enumerate(old.columns) if column in shape.columns]
            if shape is None or len(kept) < len(row):
                self._displace(old, row, reason)
                continue
            try:
                self._insert(shape, [old.columns[i] for i in kept], [row[i] for i in kept])
            except DATA_ERRORS:
                self._displace(old, row, reason)

    def begin_undo(self, changeset: bytes, shapes: Shapes, following: frozenset[str] = frozenset()) -> LocalUndo:
        """Undo what a rejected transaction did to local rows, where they still hold what it wrote.

        ``kept_up``: folded names of tables that triggers keep up with the synced rows, so that they follow by
        themselves.

        What does not fit while the transaction's other rows are there is taken out for ``finish_undo``, which is to be
        called when they are undone.
        """
        returns: list[_Return] = []
        kept = 0
        for change, op, table, old, new in iterate(apsw.Changeset.invert(changeset)):
            if fold_name(table) in following:
                continue
            shape = shapes.get(table)
            if shape is None or change.column_count != len(shape.columns):
                kept += 1
                continue
            there = None if op == "INSERT" else self._find(shape, old)
            if op != "INSERT" and there is None:
                kept += 1
                continue
            returns.append((shape, there, _before(op, there, new)))
        later: list[_Return] = []
        while failed := self._give_back(returns):
            later += failed
            returns = _without(returns, failed)
        for shape, there, _ in later:
            self._remove(shape, there)
        return LocalUndo(kept, later)

    def finish_undo(self, undo: LocalUndo) -> int:
        """Put back what ``begin_undo`` took out. Returns how many rows of the transaction were left as they are.

        A row whose place was taken since keeps its new values, or is displaced.
        """
        kept = undo.kept
        returns: list[_Return] = [(shape, None, before) for shape, _, before in undo.later]
        present = {id(one): there for one, (_, there, _) in zip(returns, undo.later, strict=True)}
        while failed := self._give_back(returns):
            for one in failed:
                shape, _, before = one
                row = before if (there := present[id(one)]) is None else there
                kept += there is not None
                if row is not None:
                    self._put_or_displace(shape, row)
            returns = _without(returns, failed)
        return kept

    def _put_or_displace(self, shape: TableShape, row: _Row) -> None:
        try:
            self._insert(shape, shape.columns, row)
        except DATA_ERRORS:
            self._displace(shape, row, "it comes back from a rejected transaction, and its place is taken")

    def _give_back(self, returns: list[_Return]) -> list[_Return]:
        """Take all rows out, then put the earlier ones in: they may have exchanged values. All of them or, when some do
        not fit, none; those are returned."""
        self._db.execute("SAVEPOINT octodb_give_back")
        for shape, there, _ in returns:
            self._remove(shape, there)
        failed: list[_Return] = []
        for one in returns:
            shape, _, row = one
            try:
                if row is not None:
                    self._insert(shape, shape.columns, row)
            except DATA_ERRORS:
                failed.append(one)
        if failed:
            self._db.execute("ROLLBACK TO octodb_give_back")
        self._db.execute("RELEASE octodb_give_back")
        return failed

    def _remove(self, shape: TableShape, row: _Row | None) -> None:
        if row is not None:
            self._db.execute(f"DELETE FROM {shape.quoted} WHERE {shape.key_match}", [row[i] for i in shape.key])

    def _find(self, shape: TableShape, values: _Row) -> _Row | None:
        """The whole row that holds ``values`` (``apsw.no_change``: any)."""
        known = [i for i, value in enumerate(values) if value is not apsw.no_change]
        match = " AND ".join(f"{quote_name(shape.columns[i])} IS ?" for i in known)
        columns = ", ".join(quote_name(column) for column in shape.columns)
        sql = f"SELECT {columns} FROM {shape.quoted} WHERE {match}"
        row = self._db.execute(sql, [values[i] for i in known]).fetchone()
        return None if row is None else tuple(row)

    def _insert(self, shape: TableShape, columns: Sequence[str], row: Sequence[Any]) -> None:
        names = ", ".join(quote_name(column) for column in columns)
        self._db.execute(f"INSERT INTO {shape.quoted} ({names}) VALUES ({', '.join('?' * len(columns))})", row)

    def has_other_unique_indexes(self, shape: TableShape) -> bool:
        """Whether UNIQUE indexes exist that ``displace_equal`` cannot compare: partial, on expressions, collated."""
        sql = (
            "SELECT 1 FROM pragma_index_list(?1, 'main') AS l, pragma_index_xinfo(l.name, 'main') AS x"
            " WHERE l.\"unique\" AND x.key AND (l.partial OR x.name IS NULL OR x.coll <> 'BINARY'"
            " OR x.name NOT IN (SELECT name FROM pragma_table_info(?1, 'main')))"
        )
        return self._db.execute(sql, (shape.name,)).fetchone() is not None

    def _take(self, shape: TableShape, match: str, values: list[Any]) -> list[_Row]:
        local = "1" if shape.owner is None else f"{shape.owner_column} IS NULL"
        where = f"WHERE {match} AND {local}"
        columns = ", ".join(quote_name(column) for column in shape.columns)
        rows = self._db.execute(f"SELECT {columns} FROM {shape.quoted} {where}", values).fetchall()
        if rows:
            self._db.execute(f"DELETE FROM {shape.quoted} {where}", values)
        return [tuple(row) for row in rows]

    def _displace(self, shape: TableShape, row: _Row, reason: str) -> None:
        self._displaced(shape.name, dict(zip(shape.columns, row, strict=True)), reason)

    def _unique_column_sets(self, shape: TableShape) -> list[tuple[int, ...]]:
        sets = [shape.key] if shape.key else []
        index = {column: i for i, column in enumerate(shape.columns)}
        sql = "SELECT name FROM pragma_index_list(?, 'main') WHERE \"unique\" AND NOT partial"
        for (name,) in self._db.execute(sql, (shape.name,)).fetchall():
            found = self._db.execute("SELECT name FROM pragma_index_info(?, 'main')", (name,)).fetchall()
            names = [row[0] for row in found]
            if all(column in index for column in names):
                sets.append(tuple(index[str(column)] for column in names))
        return sets


def _without(returns: list[_Return], failed: list[_Return]) -> list[_Return]:
    gone = {id(one) for one in failed}
    return [one for one in returns if id(one) not in gone]


def _before(op: str, there: _Row | None, new: _Row) -> _Row | None:
    """The row as it was before a change whose inverse is ``op`` with the values ``new``."""
    if op == "DELETE" or there is None:
        return None if op == "DELETE" else new
    return tuple(value if new[i] is apsw.no_change else new[i] for i, value in enumerate(there))


def _same_but_owner(shape: TableShape, stored: _Row, row: list[Any]) -> bool:
    """Whether ``row`` is the stored one with an owner: it takes its place, and nothing is lost."""
    return len(stored) == len(row) and all(i == shape.owner or value == row[i] for i, value in enumerate(stored))
