"""Cutting a transaction's changeset by owner: what goes to whom, what stays here, what may not be (design.md §4).

Reads rows where a change does not say whose they are; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import apsw

from octodb.errors import DataError, OwnershipError, ProtocolError
from octodb.model.identities import Role
from octodb.model.owners import EVERYBODY, Owner, normalise_owner
from octodb.sql.tokens import quote_name
from octodb.storage.changesets import Change, build, iterate
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["SplitChangeset", "check_new_owner", "split_changeset"]

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SplitChangeset:
    """``parts``: the changeset of each owner's stream. ``undo``: what takes the user's part back
    where that is not simply its inverse, else None. ``local``: what stays on this node. ``deleted_ids``: (table, row
    id) of deleted rows; a device leaves out those below a row that is still there: their ids cannot come again."""

    parts: dict[int | str, bytes]
    undo: bytes | None
    local: bytes
    deleted_ids: tuple[tuple[str, int], ...]


def split_changeset(db: apsw.Connection, shapes: Shapes, changeset: bytes, role: Role, user_id: int) -> SplitChangeset:
    """Cut ``changeset``, whose rows stand in the open transaction.

    Raises OwnershipError for a row this node may not write, DataError for text that is not UTF-8.
    """
    splitter = _Splitter(db, shapes, role, user_id)
    try:
        for _, op, table, old, new in iterate(changeset):
            splitter.add(op, table, old, new)
    except ProtocolError as error:
        raise DataError(
            "a text value in this transaction is not valid UTF-8, which cannot be synced",
            hint="store such bytes as a BLOB",
        ) from error
    return splitter.result(changeset)


def check_new_owner(value: object, user_id: int) -> None:
    """Whether a device of user ``user_id`` may insert a row owned by ``value``. Raises OwnershipError."""
    owner = normalise_owner(value)
    if owner == EVERYBODY:
        raise OwnershipError(
            "a device cannot make rows for everybody (row_owner '*')",
            hint="leave row_owner out to make your own row; rows for everybody are made on a primary",
        )
    if owner is not None and owner != user_id:
        raise OwnershipError(
            f"a device of user {user_id} cannot make rows for user {owner} (row_owner)",
            hint="leave row_owner out, or use this_user()",
        )


class _Splitter:
    def __init__(self, db: apsw.Connection, shapes: Shapes, role: Role, user_id: int) -> None:
        self._db = db
        self._shapes = shapes
        self._role = role
        self._user_id = user_id
        self._parts: dict[int | str, list[Change]] = {}
        self._undo: list[Change] = []
        self._local: list[Change] = []
        self._deleted_ids: list[tuple[TableShape, int]] = []
        self._verbatim = True  # the whole changeset is one stream's, byte for byte
        self._undo_differs = False

    def add(self, op: str, table: str, old: _Row, new: _Row) -> None:
        shape = self._shapes.get(table)
        if shape is None or not shape.replicated:
            self._keep_local((op, table, old, new))
            return
        self._note_deleted(shape, op, old)
        if op == "INSERT":
            self._route(shape, _stored_owner(shape, new[shape.owner or 0]), (op, shape.name, old, new), is_new=True)
        elif op == "DELETE":
            owner = normalise_owner(old[shape.owner or 0])
            self._route(shape, owner, (op, shape.name, old, new))
        else:
            self._add_update(shape, old, new)

    def _add_update(self, shape: TableShape, old: _Row, new: _Row) -> None:
        index = shape.owner
        assert index is not None
        if index in shape.key:
            # a key that changes is a DELETE and an INSERT; here it stays, and is in ``old``
            self._route(shape, normalise_owner(old[index]), ("UPDATE", shape.name, old, new))
            return
        if new[index] is apsw.no_change:
            stored = self._current(shape, old, (shape.columns[index],))[0]
            owner = normalise_owner(stored)
            # with the owner on both sides the change says whose row it is wherever it is read again
            self._verbatim = False
            old = (*old[:index], stored, *old[index + 1 :])
            new = (*new[:index], stored, *new[index + 1 :])
            if owner is None:
                self._keep_local(("UPDATE", shape.name, old, new))
            else:
                self._route(shape, owner, ("UPDATE", shape.name, old, new))
            return
        self._change_owner(shape, old, new)

    def _change_owner(self, shape: TableShape, old: _Row, new: _Row) -> None:
        """An UPDATE that moves a row between streams: a DELETE for the old one, a full INSERT for the new one."""
        index = shape.owner
        assert index is not None
        before, after = normalise_owner(old[index]), _stored_owner(shape, new[index])
        if before == after:
            self._route(shape, after, ("UPDATE", shape.name, old, new))
            return
        self._check_widening(shape, before, after)
        self._verbatim = False
        row = self._current(shape, old, shape.columns)
        was = tuple(row[i] if value is apsw.no_change else value for i, value in enumerate(old))
        if before is not None:
            self._parts.setdefault(before, []).append(("DELETE", shape.name, was, ()))
        if after is not None:
            self._parts.setdefault(after, []).append(("INSERT", shape.name, (), row))
        self._undo.append(("UPDATE", shape.name, old, new))
        self._undo_differs = True

    def _route(self, shape: TableShape, owner: Owner, change: Change, *, is_new: bool = False) -> None:
        if owner is None:
            self._keep_local(change)
            return
        if self._role is Role.SECONDARY and owner != self._user_id:
            self._refuse(shape, owner, is_new)
        self._parts.setdefault(owner, []).append(change)
        self._undo.append(change)

    def _keep_local(self, change: Change) -> None:
        self._verbatim = False
        self._local.append(change)

    def _refuse(self, shape: TableShape, owner: Owner, is_new: bool) -> None:
        if is_new:
            check_new_owner(owner, self._user_id)
        raise OwnershipError(
            f"this transaction changes a row of {shape.name} that belongs to "
            + ("everybody" if owner == EVERYBODY else f"user {owner}"),
            hint="change only your own rows (REPLACE and cascades count as changes)",
        )

    def _check_widening(self, shape: TableShape, before: Owner, after: Owner) -> None:
        """On a primary the guard has refused a narrowing UPDATE; what arrives here deleted the row and inserted it
        again under the same key, which SQLite records as one UPDATE."""
        if self._role is Role.SECONDARY and not (before is None and after == self._user_id):
            raise OwnershipError(
                f"row_owner of {shape.name} cannot go from {_say(before)} to {_say(after)}",
                hint="owners only widen: NULL to a user, and on primaries NULL or a user to '*'",
            )

    def _note_deleted(self, shape: TableShape, op: str, old: _Row) -> None:
        if op == "DELETE" and shape.row_id_column is not None:
            self._deleted_ids.append((shape, old[shape.key[0]]))

    def _current(self, shape: TableShape, old: _Row, columns: tuple[str, ...]) -> _Row:
        names = ", ".join(quote_name(column) for column in columns)
        sql = f"SELECT {names} FROM {shape.quoted} WHERE {shape.key_match}"
        row = self._db.execute(sql, [old[i] for i in shape.key]).fetchone()
        assert row is not None, "an UPDATE in a changeset is of a row that exists"
        return tuple(row)

    def result(self, changeset: bytes) -> SplitChangeset:
        if self._verbatim and len(self._parts) <= 1:
            parts = dict.fromkeys(self._parts, changeset)
            return SplitChangeset(parts, None, b"", self._gone_ids())
        return SplitChangeset(
            {owner: build(self._db, changes) for owner, changes in self._parts.items()},
            build(self._db, self._undo) if self._undo_differs else None,
            # a local table may have been dropped since: then there is nothing to keep
            build(self._db, [change for change in self._local if self._shapes.get(change[1])]) if self._local else b"",
            self._gone_ids(),
        )

    def _gone_ids(self) -> tuple[tuple[str, int], ...]:
        """A look at the table is cheaper than what is written down. On a primary the table may be dropped before the
        transaction ends."""
        if self._role is Role.PRIMARY:
            return tuple((shape.name, row_id) for shape, row_id in self._deleted_ids)
        highest: dict[tuple[str, int], tuple[TableShape, int]] = {}
        for shape, row_id in self._deleted_ids:
            place = shape.name, row_id >> 32
            if place not in highest or row_id > highest[place][1]:
                highest[place] = shape, row_id
        return tuple((shape.name, row_id) for shape, row_id in highest.values() if not self._stays_above(shape, row_id))

    def _stays_above(self, shape: TableShape, row_id: int) -> bool:
        """Whether the highest row of the same node's range is above ``row_id``, and none that sync may set aside."""
        assert shape.row_id_column is not None
        column = quote_name(shape.row_id_column)
        sql = (
            f"SELECT {shape.owner_column} IS NOT NULL FROM {shape.quoted}"
            f" WHERE {column} > ? AND {column} <= ? ORDER BY {column} DESC LIMIT 1"
        )
        found = self._db.execute(sql, (row_id, row_id | 0xFFFFFFFF)).fetchone()
        return found is not None and bool(found[0])


def _stored_owner(shape: TableShape, value: object) -> Owner:
    """The owner of a row that was written just now. The text '3' in a column that does not turn it into a number
    would be nobody's wherever owners are compared."""
    owner = normalise_owner(value)
    if isinstance(value, str) and owner != EVERYBODY and not shape.owner_is_text:
        raise OwnershipError(
            f"row_owner of {shape.name} holds the text {value!r}, not a number",
            hint="store a number (CAST(… AS INTEGER)), or declare the column: row_owner INTEGER",
        )
    return owner


def _say(owner: Owner) -> str:
    return "NULL" if owner is None else "'*'" if owner == EVERYBODY else f"user {owner}"
