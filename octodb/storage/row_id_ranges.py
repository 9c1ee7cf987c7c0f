"""Whose row ids are whose, on a primary: ``node_id << 32 | sequence`` belongs to that node (contract.md §5).

A device may number its rows itself. It may not take ids that another user's node, or the primary, has still to give:
that node's own row would meet it and be refused. Legal are ids below 2^32, ids of the user's own nodes (several
devices, and the file that a copy was made of), ids of ranges that no node has (a file that may be a copy takes one at
random; ``is_range_used`` keeps new nodes out of those in use), and those that the primary has given already: a user may
put a row back that was made for him.
"""

from __future__ import annotations

import apsw

from octodb.model.identities import ADMIN_ID, row_id_range
from octodb.model.transactions import Rejection
from octodb.sql.tokens import quote_name
from octodb.storage.lookup import one_value
from octodb.storage.meta import Meta, NodeTable
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["RowIdRanges", "is_range_used"]


class RowIdRanges:
    """Checks the row ids of one primary's devices. Call ``forget`` where nodes or rows may have changed."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._nodes = NodeTable(db)
        self._meta = Meta(db)
        self._users: dict[int, int | None] = {}
        self._given: dict[str, int] = {}

    def forget(self) -> None:
        self._users.clear()
        self._given.clear()

    def check(self, shape: TableShape, row_id: object, node_id: int, user_id: int) -> Rejection | None:
        """Whether a device of ``user_id`` may make a row with this id; otherwise why not."""
        if not isinstance(row_id, int):
            # SQLite would make a number of it, behind our back
            return Rejection("malformed", f"a new row of {shape.name} has a row id that is no integer", shape.name)
        owner = row_id >> 32
        if owner in (0, node_id):
            return None
        if owner not in self._users:
            record = self._nodes.by_id(owner)
            self._users[owner] = None if record is None else record.user_id
        whose = self._users[owner]
        if whose in (None, user_id) or (owner == ADMIN_ID and row_id <= self._highest_given(shape)):
            return None
        return Rejection("ownership", f"a new row of {shape.name} has a row id of another node's", shape.name)

    def _highest_given(self, shape: TableShape) -> int:
        """By the primary itself, in this table."""
        if shape.name not in self._given:
            assert shape.row_id_column is not None
            column = quote_name(shape.row_id_column)
            sql = f"SELECT max({column}) FROM {shape.quoted} WHERE {column} BETWEEN ? AND ?"
            self._given[shape.name] = self._meta.last_row_id(shape.name, *row_id_range(ADMIN_ID), sql)
        return self._given[shape.name]


def is_range_used(db: apsw.Connection, node_id: int) -> bool:
    """Whether any replicated table has a row with an id of a node that does not exist yet: then it never shall."""
    low, high = row_id_range(node_id)
    for shape in Shapes.read(db).replicated():
        if shape.row_id_column is not None:
            column = quote_name(shape.row_id_column)
            sql = f"SELECT EXISTS (SELECT 1 FROM {shape.quoted} WHERE {column} BETWEEN ? AND ?)"
            if one_value(db, sql, (low, high)):
                return True
    return False
