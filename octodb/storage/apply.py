"""Applying changesets: the one place where rows of another node become rows of this file.

Each change becomes one plain SQL statement, so that SQLite names the constraint that failed, and a change that
meets a constraint is tried again after the others, as sqlite3changeset_apply does. For small changesets this costs a
quarter of sqlite3changeset_apply, which prepares its statements anew at every call (ARCHITECTURE.md, "Applying").

The rules of an *ordered* operation (design.md §4): a row of another owner counts as missing; an UPDATE or DELETE
of a missing row does nothing; the last UPDATE wins, column by column; any constraint ends the whole transaction; local
rows in the way are displaced. Never begins or commits: the caller has a savepoint around each transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import apsw

from octodb.errors import OwnershipError
from octodb.model.owners import EVERYBODY, normalise_owner
from octodb.model.transactions import Rejection
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.changesets import iterate
from octodb.storage.local_rows import DATA_ERRORS, LocalRows
from octodb.storage.local_triggers import LocalTriggers
from octodb.storage.shapes import ForeignKey, Shapes, TableShape

__all__ = ["Applier", "Refused"]

_RETRIES_MAX: Final = 64  # each round must place at least one change; deeper chains of UNIQUE hand-overs are refused


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """The transaction cannot take effect; ``rejection`` says why. The caller rolls its savepoint back."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


# table, op, old values, new values, owner whose row it must be (None: undo, whoever's it is)
_Change = tuple[TableShape, str, Any, Any, int | str | None]


class Applier:
    """Applies changesets on the engine's connection (triggers and foreign key actions off).

    ``displaced(table, row, reason)`` is told of each local row that had to give way.
    """

    def __init__(
        self,
        db: apsw.Connection,
        shapes: Shapes,
        own_ids: tuple[int, int],
        displaced: Callable[[str, dict[str, Any], str], None],
    ) -> None:
        self._db = db
        self._own_ids = own_ids
        # highest id of this node's range deleted in each table: the caller stores them (Meta.keep_row_id)
        self.deleted_ids: dict[str, int] = {}
        self._cursor = db.cursor()
        self._local_rows = LocalRows(db, displaced)
        self._sql: dict[tuple[Any, ...], str] = {}
        self._shapes = shapes
        self.triggers = LocalTriggers(db)
        self.triggers.install(shapes)

    @property
    def shapes(self) -> Shapes:
        return self._shapes

    @property
    def own_ids(self) -> tuple[int, int]:
        return self._own_ids

    def use(self, shapes: Shapes) -> None:
        """The schema changed, or a transaction in which it did was rolled back: forget what was derived from the old
        one.

        ``triggers.drop()`` is to be called before it changes.
        """
        self._shapes = shapes
        self._sql.clear()
        self.triggers.install(shapes)

    def apply_ordered(
        self,
        parts: list[tuple[int | str, bytes]],
        *,
        check_foreign_keys: bool = False,
        new_row: Callable[[TableShape, object], None] | None = None,
    ) -> None:
        """Apply (owner, changeset) parts that belong together: what one stream lets go another may take.

        ``check_foreign_keys``: a primary judging a device's transaction. Only rows that ordered operations made are
        looked at, so that a verdict is the same on every primary. ``new_row(table, row id)`` is called for each row
        that is inserted, and may raise Refused.
        Raises Refused; ProtocolError for bytes that are no changeset.
        """
        failed: list[_Change] = []
        checks: list[_ForeignKeyChecks] = []
        for owner, changeset in parts:
            keys = _ForeignKeyChecks(self._db, self._shapes, owner) if check_foreign_keys else None
            for change, op, table, old, new in iterate(changeset):
                shape = self._shape_for(change, table)
                _check_values(shape, op, old, new)
                _check_owner(shape, op, old, new, owner)
                row = _with_owner(shape, new, owner) if op == "INSERT" else new
                if new_row is not None and op == "INSERT" and shape.row_id_column is not None:
                    new_row(shape, new[shape.key[0]])
                effective = self._try((shape, op, old, row, owner), failed)
                if keys is not None and effective and (shape.foreign_keys or shape.referenced_by):
                    keys.note(shape, op, old, new)
            checks += [] if keys is None else [keys]
        self._settle(failed)
        for keys in checks:
            keys.check()

    def apply_plainly(self, parts: list[tuple[int | str, bytes]]) -> bool:
        """As ``apply_ordered``, as long as every change finds its row or its place at once. False: one did not, and the
        caller rolls its savepoint back."""
        for owner, changeset in parts:
            for change, op, table, old, new in iterate(changeset):
                try:
                    shape = self._shape_for(change, table)
                    _check_values(shape, op, old, new)
                    _check_owner(shape, op, old, new, owner)
                    row = _with_owner(shape, new, owner) if op == "INSERT" else new
                    if not self._execute(shape, op, old, row, owner):
                        return False
                except (Refused, *DATA_ERRORS):
                    return False
                except apsw.CorruptError as error:
                    if not self.triggers.to_blame(error):
                        raise
                    return False
        return True

    def apply_exact(self, changeset: bytes) -> None:
        """Apply as recorded, whoever owns the rows: for undoing what this file itself did.

        Raises Refused when a constraint stands in the way even after displacing local rows.
        """
        failed: list[_Change] = []
        for change, op, table, old, new in iterate(changeset):
            shape = self._shapes.get(table)
            if shape is not None and change.column_count <= len(shape.columns):
                self._try((shape, op, old, new, None), failed)
        self._settle(failed)

    def _shape_for(self, change: apsw.TableChange, name: str) -> TableShape:
        """The table a change is for. A changeset for a table that lacks columns would be skipped silently by
        SQLite (sqlite-notes), so that is looked at first."""
        shape = self._shapes.get(name)
        if shape is None:
            raise Refused(Rejection("schema", f"there is no table {name} any more", name))
        if not shape.replicated:
            raise Refused(Rejection("ownership", f"rows of {name} are not replicated", name))
        fits = (shape.owner or 0) < change.column_count <= len(shape.columns)
        if not fits or change.pk_columns != set(shape.key):
            raise Refused(Rejection("schema", f"the columns of {name} changed since", name))
        return shape

    def _try(self, change: _Change, failed: list[_Change]) -> bool:
        """Whether the change took, or may yet take, effect."""
        try:
            return self._execute(*change)
        except DATA_ERRORS:
            failed.append(change)
            return True
        except apsw.CorruptError as error:
            if not self.triggers.to_blame(error):
                raise
        with self.triggers.off():
            return self._try(change, failed)

    def _settle(self, failed: list[_Change]) -> None:
        """Place what met a constraint: again and again while that helps, displacing local rows, exchanging values."""
        failed = self._place(failed)
        while failed and self._displace_for(failed):
            failed = self._place(failed)
        if failed:
            aside = self._move_aside(failed)
            failed = self._exchange(self._place(failed))
            for shape, rows in aside:
                self._local_rows.put_back(shape, rows, self._shapes, "a synced row takes its place")
        if failed and self.triggers.any:
            with self.triggers.off():
                failed = self._place(failed)
        if failed:
            self._refuse(failed[0])

    def _place(self, failed: list[_Change]) -> list[_Change]:
        """Try again until nothing more fits; return what is left."""
        for _ in range(_RETRIES_MAX):
            remaining: list[_Change] = []
            for change in failed:
                self._try(change, remaining)
            if len(remaining) == len(failed):
                break
            failed = remaining
        return failed

    def _exchange(self, failed: list[_Change]) -> list[_Change]:
        """UPDATEs that hand UNIQUE values round in a circle: take the rows out, and put them in as they shall be."""
        updates = [change for change in failed if change[1] == "UPDATE"]
        if not updates:
            return failed
        inserts = [change for change in failed if change[1] == "INSERT"]
        for shape, _, old, new, owner in updates:
            where = f"WHERE {shape.key_match}" + ("" if owner is None else f" AND {shape.owner_column} = ?")
            values = [old[i] for i in shape.key] + ([] if owner is None else [owner])
            columns = ", ".join(quote_name(column) for column in shape.columns)
            row = self._db.execute(f"SELECT {columns} FROM {shape.quoted} {where}", values).fetchone()
            if row is None:
                continue
            self.triggers.run(f"DELETE FROM {shape.quoted} {where}", values)
            full = tuple(
                new[i] if i < len(new) and new[i] is not apsw.no_change else value for i, value in enumerate(row)
            )
            inserts.append((shape, "INSERT", (), full, owner))
        return self._place(inserts)

    def _move_aside(self, failed: list[_Change]) -> list[tuple[TableShape, list[Any]]]:
        """Local rows that a UNIQUE index of a kind we cannot compare may set against the changes."""
        shapes = {change[0].name: change[0] for change in failed if change[0].owner is not None}
        return [
            (shape, self._local_rows.move_aside(shape))
            for shape in shapes.values()
            if self._local_rows.has_other_unique_indexes(shape)
        ]

    def _refuse(self, change: _Change) -> None:
        try:
            with self.triggers.off():
                self._execute(*change)
        except DATA_ERRORS as error:
            raise Refused(rejection_of(error, change[0])) from error
        raise Refused(Rejection("constraint", "UNIQUE rows change places", change[0].name))

    def _execute(self, shape: TableShape, op: str, old: Any, new: Any, owner: int | str | None) -> bool:
        """Run one change. False: the row was not there."""
        if op == "INSERT":
            sql = self._sql.get(("I", shape.name, len(new)))
            if sql is None:
                columns = ", ".join(quote_name(column) for column in shape.columns[: len(new)])
                marks = ", ".join("?" * len(new))
                sql = f"INSERT INTO {shape.quoted} ({columns}) VALUES ({marks})"
                self._sql["I", shape.name, len(new)] = sql
            self._cursor.execute(sql, new)
            return True
        values: list[Any] = []
        if op == "DELETE":
            sql = f"DELETE FROM {shape.quoted}"
        else:
            changed = tuple(
                i
                for i, value in enumerate(new)
                if value is not apsw.no_change and not (i == shape.owner and owner is not None)
            )
            if not changed:
                return True
            sql = self._sql.get(("U", shape.name, changed), "")
            if not sql:
                assign = ", ".join(f"{quote_name(shape.columns[i])} = ?" for i in changed)
                sql = f"UPDATE {shape.quoted} SET {assign}"
                self._sql["U", shape.name, changed] = sql
            values += [new[i] for i in changed]
        values += [old[i] for i in shape.key]
        sql += f" WHERE {shape.key_match}"
        if owner is not None:
            sql += f" AND {shape.owner_column} = ?"
            values.append(owner)
        self._cursor.execute(sql, values)
        effective = self._db.changes() > 0
        if effective and op == "DELETE" and shape.row_id_column is not None:
            self._note_deleted(shape, old[shape.key[0]])
        return effective

    def _note_deleted(self, shape: TableShape, row_id: object) -> None:
        # a forged key may be of any type
        if isinstance(row_id, int) and self._own_ids[0] <= row_id <= self._own_ids[1]:
            self.deleted_ids[shape.name] = max(row_id, self.deleted_ids.get(shape.name, 0))

    def _displace_for(self, changes: list[_Change]) -> bool:
        """Move local rows out of the way of the changes; False when there was none."""
        found = False
        for shape, op, old, new, _ in changes:
            if op != "DELETE" and shape.owner is not None:
                row = [old[i] if value is apsw.no_change else value for i, value in enumerate(new)]
                found = self._local_rows.displace_equal(shape, row) or found
        return found


def _check_values(shape: TableShape, op: str, old: Any, new: Any) -> None:
    """A change names its row, and a new row all its values. SQLite's sessions see to that; a forger need not."""
    values = new if op == "INSERT" else old
    if op == "INSERT" and apsw.no_change in new:
        raise Refused(Rejection("malformed", f"a new row of {shape.name} lacks values", shape.name))
    for i in shape.key:
        if values[i] is None or values[i] is apsw.no_change:
            raise Refused(Rejection("malformed", f"a change of {shape.name} names no key", shape.name))
        if op == "UPDATE" and new[i] is not apsw.no_change and new[i] != old[i]:
            raise Refused(Rejection("malformed", f"an update of {shape.name} changes its key", shape.name))


def _check_owner(shape: TableShape, op: str, old: Any, new: Any, owner: int | str) -> None:
    """What a changeset *claims* must fit its stream; what is *there* is checked by the WHERE of the statement."""
    assert shape.owner is not None
    claimed = []
    if op != "INSERT":
        claimed.append(old[shape.owner])
    if op != "DELETE" and (op == "INSERT" or new[shape.owner] is not apsw.no_change):
        claimed.append(new[shape.owner])
    for value in claimed:
        if value != owner and (value is apsw.no_change or _owner_or_none(value) != owner):
            raise Refused(Rejection("ownership", f"a row of {shape.name} is another owner's", shape.name))


def _with_owner(shape: TableShape, row: Any, owner: int | str) -> Any:
    """A row whose owner was written as a text ('31') holds the number: comparisons would miss it otherwise."""
    index = shape.owner or 0
    return row if row[index] == owner else (*row[:index], owner, *row[index + 1 :])


def _owner_or_none(value: object) -> object:
    try:
        return normalise_owner(value)
    except OwnershipError:
        return None


def rejection_of(error: apsw.Error, shape: TableShape) -> Rejection:
    """SQLite's message names the constraint, table and columns, and no values."""
    message = re.sub(r"^\w+Error: ", "", str(error))
    columns = tuple(re.findall(rf"\b{re.escape(shape.name)}\.(\w+)", message)) if ":" in message else ()
    return Rejection("constraint", message, shape.name, columns)


class _ForeignKeyChecks:
    """Foreign keys of the rows one transaction touched, looked at when all of it is in place.

    SQLite's own enforcement would run cascades onto other owners' rows, which a primary must not do for a device.
    """

    def __init__(self, db: apsw.Connection, shapes: Shapes, owner: int | str) -> None:
        self._db = db
        self._shapes = shapes
        self._owner = owner
        self._needed: list[tuple[ForeignKey, TableShape, tuple[Any, ...]]] = []
        self._orphaned: list[tuple[ForeignKey, tuple[Any, ...]]] = []

    def note(self, shape: TableShape, op: str, old: Any, new: Any) -> None:
        """Remember what a change needs (its parents) and what it may have left behind (its children)."""
        if op != "DELETE":
            key = tuple((new if op == "INSERT" else old)[i] for i in shape.key)
            for foreign in shape.foreign_keys:
                if any(i < len(new) and new[i] is not apsw.no_change for i in foreign.columns):
                    self._needed.append((foreign, shape, key))
        if op != "INSERT":
            for foreign in shape.referenced_by:
                index = [shape.columns.index(_exact(shape, name)) for name in foreign.parent_columns]
                values = tuple(old[i] if i < len(old) else None for i in index)
                gone = op == "DELETE" or any(i < len(new) and new[i] is not apsw.no_change for i in index)
                if gone and apsw.no_change not in values and None not in values:
                    self._orphaned.append((foreign, values))

    def check(self) -> None:
        """Raises Refused for the first reference that points nowhere."""
        for foreign, shape, key in self._needed:
            columns = ", ".join(quote_name(shape.columns[i]) for i in foreign.columns)
            sql = f"SELECT {columns} FROM {shape.quoted} WHERE {shape.key_match}"
            row = self._db.execute(sql, key).fetchone()
            if row is not None and None not in row and not self._parent_exists(foreign, row, visible=True):
                self._refuse(foreign)
        for foreign, values in self._orphaned:
            if self._child_exists(foreign, values) and not self._parent_exists(foreign, values, visible=False):
                self._refuse(foreign)

    def _parent_exists(self, foreign: ForeignKey, values: tuple[Any, ...], *, visible: bool) -> bool:
        """``visible``: only a parent that the device can have, its own or everybody's, counts."""
        parent = self._shapes.get(foreign.parent)
        if parent is None or not parent.replicated:
            return True  # local rows never influence a verdict
        match = " AND ".join(f"{quote_name(name)} = ?" for name in foreign.parent_columns)
        sql = f"SELECT 1 FROM {parent.quoted} WHERE {match} AND {parent.owner_column} IS NOT NULL"
        if visible:
            sql += f" AND {parent.owner_column} IN (?, ?)"
            values = (*values, self._owner, EVERYBODY)
        return self._db.execute(sql, values).fetchone() is not None

    def _child_exists(self, foreign: ForeignKey, values: tuple[Any, ...]) -> bool:
        child = self._shapes.get(foreign.child)
        if child is None or not child.replicated:
            return False
        match = " AND ".join(f"{quote_name(child.columns[i])} = ?" for i in foreign.columns)
        sql = f"SELECT 1 FROM {child.quoted} WHERE {match} AND {child.owner_column} IS NOT NULL"
        return self._db.execute(sql, values).fetchone() is not None

    def _refuse(self, foreign: ForeignKey) -> None:
        child = self._shapes.get(foreign.child)
        assert child is not None
        columns = tuple(child.columns[i] for i in foreign.columns)
        message = f"FOREIGN KEY constraint failed: {', '.join(f'{child.name}.{c}' for c in columns)} → {foreign.parent}"
        raise Refused(Rejection("constraint", message, child.name, columns))


def _exact(shape: TableShape, name: str) -> str:
    return next(column for column in shape.columns if fold_name(column) == fold_name(name))
