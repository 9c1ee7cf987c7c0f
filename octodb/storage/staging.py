"""Downloading again: a snapshot is gathered in TEMP tables and then takes the place of what is here (design.md §6).

TEMP tables need no room in the file, are private to the engine's connection and are gone when it is killed. Until
``swap``, which is part of the caller's transaction, the application works on undisturbed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import apsw

from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.sql.ddl import parse_ddl
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.local_rows import DATA_ERRORS
from octodb.storage.lookup import one_value
from octodb.storage.meta import Meta
from octodb.storage.rebase import Rebase
from octodb.storage.schema_rules import SchemaObject, shared_objects
from octodb.storage.sent_schema import run_sent_schema
from octodb.storage.shapes import Shapes, TableShape
from octodb.storage.snapshot import check_sent_rows

__all__ = ["Staging"]

_PREFIX: Final = "_octodb_stage_"


class Staging:
    """One download into a file that has been ready before."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._header: SnapshotHeader | None = None
        self._tables: dict[str, str] = {}  # folded name → quoted name of its TEMP table

    def is_loading(self, header: SnapshotHeader) -> bool:
        """Whether all parts of this download were loaded so far."""
        return self._header is header

    def begin(self, header: SnapshotHeader) -> None:
        self.abandon()
        self._shapes = _shapes_of(header)
        self._user_id = Meta(self._db).get("user_id", 0)
        for number, shape in enumerate(self._shapes.replicated()):
            table = f"temp.{_PREFIX}{number}"
            columns = ", ".join(quote_name(column) for column in shape.columns)
            key = ", ".join(quote_name(shape.columns[i]) for i in shape.key)
            # no types: the values stay what they are
            self._db.execute(f"CREATE TEMP TABLE {_PREFIX}{number} ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID")
            self._tables[fold_name(shape.name)] = table
        self._header = header

    def load(self, part: SnapshotRows) -> None:
        check_sent_rows(self._shapes.get(part.table), part.columns, part.rows, self._user_id)
        columns = ", ".join(quote_name(column) for column in part.columns)
        marks = ", ".join("?" * len(part.columns))
        sql = f"INSERT OR REPLACE INTO {self._tables[fold_name(part.table)]} ({columns}) VALUES ({marks})"
        self._db.execute("SAVEPOINT octodb_stage")  # one transaction; none of the file's
        try:
            self._db.executemany(sql, part.rows)
        finally:
            self._db.execute("RELEASE octodb_stage")

    def abandon(self) -> None:
        for table in self._tables.values():
            self._db.execute(f"DROP TABLE IF EXISTS {table}")
        self._tables.clear()
        self._header = None

    def swap(self, tail: SnapshotTail, rebase: Rebase, own_ids: tuple[int, int]) -> None:
        """Make schema and rows those of the snapshot. The caller has undone its queue, and redoes it afterwards."""
        header = self._header
        assert header is not None
        meta = Meta(self._db)
        rebuilt = self._swap_schema(header, tail, rebase)
        for shape in rebase.shapes.replicated():
            self._keep_highest_id(meta, shape, own_ids)
            with rebase.hearing_of_others():
                self._swap_rows(shape, rebase)
        rebase.before_schema_change()
        self._make_indexes(tail, rebase)
        rebase.fill_indexes()
        rebase.use_schema()
        meta.forget_schema_changes()
        meta.record_schema_changes(rebuilt, header.schema_seq)
        meta.set(
            epoch=header.epoch,
            cursor=header.seq,
            chain_all=header.chain_all,
            chain_user=header.chain_user,
            schema_seq=header.schema_seq,
        )

    def _swap_schema(self, header: SnapshotHeader, tail: SnapshotTail, rebase: Rebase) -> set[str]:
        """Drop what the snapshot lacks or has otherwise, make the tables that are missing. Returns their folded
        names."""
        wanted = dict.fromkeys(header.tables)
        old = [one for one in shared_objects(self._db) if not rebase.shapes.is_shadow(one.name)]
        changed = set()
        for one in old:
            if one.kind == "table" and one.sql not in wanted:
                changed.add(fold_name(one.name))
                rebase.set_local_rows_aside(one.name, "its table was dropped")
                if (shape := rebase.shapes.get(one.name)) is not None:
                    rebase.write_rows(f"DELETE FROM {shape.quoted}")  # its triggers, too, see the rows go
        rebase.before_schema_change()
        local_objects = rebase.local_objects()
        rebase.drop_local_objects()
        for one in reversed(old):
            if one.kind != "table" and one.sql not in tail.schema:
                self._drop(one)
        for one in reversed(old):
            if one.kind == "table" and fold_name(one.name) in changed:
                self._drop(one)
        there = {one.sql for one in shared_objects(self._db)}
        for text in wanted:
            if text not in there:
                facts = parse_ddl(text)
                run_sent_schema(self._db, text)
                changed.add(fold_name(facts.name))
                rebase.note_index(facts)
        there = {one.sql for one in shared_objects(self._db)}
        for text in tail.schema:
            facts = parse_ddl(text)
            if text not in there and facts.object != "index":
                run_sent_schema(self._db, text)
                rebase.note_index(facts)
        rebase.make_again(local_objects)
        rebase.use_schema()  # with the triggers that keep up local tables while rows change
        return changed

    def _make_indexes(self, tail: SnapshotTail, rebase: Rebase) -> None:
        """Those that are missing, now that the rows fit them: earlier rows may have had values in common. Local rows
        may have still."""
        there = {one.sql for one in shared_objects(self._db)}
        for text in tail.schema:
            facts = parse_ddl(text)
            if text in there or facts.object != "index":
                continue
            try:
                run_sent_schema(self._db, text)
            except DATA_ERRORS:
                rebase.set_local_rows_aside(facts.table, "an index that is new cannot hold it")
                run_sent_schema(self._db, text)

    def _drop(self, one: SchemaObject) -> None:
        self._db.execute(f"DROP {one.kind} IF EXISTS main.{quote_name(one.name)}")

    def _swap_rows(self, shape: TableShape, rebase: Rebase) -> None:
        """Delete the rows that are not in the snapshot just so, then insert those that are missing: what stays is part
        of a state in which every constraint holds, so only local rows can be in the way."""
        stage = self._tables[fold_name(shape.name)]
        columns = [quote_name(column) for column in shape.columns]
        # a plus sign keeps the other side's affinity away, so that the key of the TEMP table is used and values are
        # compared as they are (sqlite.org/datatype3.html §4.2)
        found = " AND ".join(f"s.{columns[i]} = +t.{columns[i]}" for i in shape.key)
        same = " AND ".join(f"s.{c} IS +t.{c} AND typeof(s.{c}) = typeof(t.{c})" for c in columns)
        rebase.write_rows(
            f"DELETE FROM {shape.quoted} AS t WHERE t.{shape.owner_column} IS NOT NULL"
            f" AND NOT EXISTS (SELECT 1 FROM {stage} AS s WHERE {found} AND {same})"
        )
        held = " AND ".join(f"t.{columns[i]} = +s.{columns[i]}" for i in shape.key)
        names, values = ", ".join(columns), ", ".join(f"s.{column}" for column in columns)
        insert = (
            f"INSERT INTO {shape.quoted} ({names}) SELECT {values} FROM {stage} AS s WHERE NOT EXISTS"
            f" (SELECT 1 FROM {shape.quoted} AS t WHERE {held} AND t.{shape.owner_column} IS NOT NULL)"
        )
        with suppress(*DATA_ERRORS):
            rebase.write_rows(insert)
            return
        rebase.set_local_rows_aside(shape.name, "a synced row takes its place")
        rebase.write_rows(insert)

    def _keep_highest_id(self, meta: Meta, shape: TableShape, own_ids: tuple[int, int]) -> None:
        """Rows of our own that go now must not give their ids to others."""
        if shape.row_id_column is not None:
            column = quote_name(shape.row_id_column)
            sql = f"SELECT max({column}) FROM {shape.quoted} WHERE {column} BETWEEN ? AND ?"
            highest = one_value(self._db, sql, own_ids)
            if highest is not None:
                meta.keep_row_id(shape.name, highest)


def _shapes_of(header: SnapshotHeader) -> Shapes:
    scratch = apsw.Connection(":memory:")
    try:
        for text in header.tables:
            run_sent_schema(scratch, text)
        return Shapes.read(scratch)
    finally:
        scratch.close()
