"""Giving the rows that a copied file made row ids of its own (design.md §8).

Two copies of a device's file hand out the same row ids. The one that is given a new identity rewrites those ids in its
pending transactions, before anybody has seen them, and in the columns that declare a reference to such a row.
References that are not declared cannot be found. Runs inside the caller's transaction, while the queue is undone.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

from octodb.model.identities import Identity, row_id_range
from octodb.model.transactions import Op, body_hash, decode_body, encode_body
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.changesets import Change, build, iterate
from octodb.storage.meta import Outbox, OutboxRow
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["Rekeying"]

_SEQUENCE: Final = 0xFFFFFFFF


class Rekeying:
    """``confirmed``: the highest sequence in use when a primary last spoke to this file. Rows up to it were there
    before the copy was made, or were not made by a copy at all: they keep their ids."""

    def __init__(self, db: apsw.Connection, shapes: Shapes, old: Identity, new: Identity, confirmed: int) -> None:
        self._db = db
        self._shapes = shapes
        self._outbox = Outbox(db)
        self._range = row_id_range(old.node_id)
        self._first = row_id_range(new.node_id)[0]
        self._confirmed = confirmed
        self._ids: dict[str, dict[int, int]] = {}  # folded table → old id → new id

    def run(self, skip: list[int]) -> int:
        """Rewrite the pending transactions but those of ``skip``. Returns how many rows have another id now."""
        rows = [nonce for nonce in self._outbox.nonces() if nonce not in set(skip)]
        for nonce in rows:
            self._collect(self._pending(nonce))
        if self._ids:
            for nonce in rows:
                self._rewrite(self._pending(nonce))
            self._follow_local_references()
        return sum(len(ids) for ids in self._ids.values())

    def _pending(self, nonce: int) -> OutboxRow:
        row = self._outbox.get(nonce)
        assert row is not None
        return row

    def _collect(self, row: OutboxRow) -> None:
        for op in decode_body(row.body).ops:
            for change, kind, table, _, new in iterate(op.payload):
                shape = self._shapes.get(table)
                if kind == "INSERT" and self._fits(shape, change) and shape is not None and shape.row_id_column:
                    self._give(shape, new[shape.key[0]])

    def _give(self, shape: TableShape, row_id: object) -> None:
        low, high = self._range
        if isinstance(row_id, int) and low <= row_id <= high and row_id & _SEQUENCE > self._confirmed:
            ids = self._ids.setdefault(fold_name(shape.name), {})
            ids.setdefault(row_id, self._first + len(ids))

    def _fits(self, shape: TableShape | None, change: apsw.TableChange) -> bool:
        """A body of before a column was added cannot be built anew: should its ids clash, the primary says so."""
        return shape is not None and change.column_count == len(shape.columns)

    def _rewrite(self, row: OutboxRow) -> None:
        body = decode_body(row.body)
        ops: list[Op] = []
        changed = False
        for op in body.ops:
            changes, differ, fit = self._rewritten(op.payload)
            if not fit:
                return
            changed = changed or differ
            ops.append(Op(op.position, build(self._db, changes) if differ else op.payload))
        if changed:
            data = encode_body(body.schema_seq, ops)
            self._outbox.set_body(row.nonce, data, body_hash(data))

    def _rewritten(self, changeset: bytes) -> tuple[list[Change], bool, bool]:
        """The changes with new ids; whether any differs; whether all of them could be built anew."""
        found: list[Change] = []
        differ = False
        for change, kind, table, old, new in iterate(changeset):
            shape = self._shapes.get(table)
            if shape is None or not self._fits(shape, change):
                return [], False, False
            before, after = self._mapped(shape, old), self._mapped(shape, new)
            differ = differ or before != old or after != new
            found.append((kind, shape.name, before, after))
        return found, differ, True

    def _mapped(self, shape: TableShape, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            return values
        result = list(values)
        for i, parent in self._id_columns(shape):
            ids = self._ids.get(fold_name(parent), {})
            if isinstance(result[i], int):
                result[i] = ids.get(result[i], result[i])
        return tuple(result)

    def _id_columns(self, shape: TableShape) -> list[tuple[int, str]]:
        """(index, table) of the columns that hold row ids of a table: the own one, and declared references."""
        found = [(shape.key[0], shape.name)] if shape.row_id_column is not None else []
        for foreign in shape.foreign_keys:
            parent = self._shapes.get(foreign.parent)
            if parent is None or parent.row_id_column is None:
                continue
            for i, name in zip(foreign.columns, foreign.parent_columns, strict=True):
                if fold_name(name) == fold_name(parent.row_id_column):
                    found.append((i, parent.name))
        return found

    def _follow_local_references(self) -> None:
        """Local rows that refer to a row that has another id now."""
        for shape in self._shapes.tables.values():
            for i, parent in self._id_columns(shape):
                if i in shape.key and shape.row_id_column is not None:
                    continue
                column = quote_name(shape.columns[i])
                local = "" if shape.owner is None else f" AND {shape.owner_column} IS NULL"
                sql = f"UPDATE OR IGNORE {shape.quoted} SET {column} = ? WHERE {column} = ?{local}"
                ids = self._ids.get(fold_name(parent), {})
                self._db.executemany(sql, [(new, old) for old, new in ids.items()])
