"""Rebasing a device's outbox on what the primary sends: undo, apply, redo; or apply directly (design.md §4.7, §4.8).

Works inside the transaction of ``DeviceStore``. Redo always applies ``body``, undo inverts ``undo``; neither touches
the body itself. Schema changes of the primary are replayed here too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any, Final

import apsw

from octodb.errors import SyncError
from octodb.model.identities import Identity
from octodb.model.owners import EVERYBODY
from octodb.model.transactions import Op, Rejection, decode_body
from octodb.sql.ddl import Ddl, parse_ddl
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.apply import Applier, Refused
from octodb.storage.changesets import touched_tables
from octodb.storage.checksums import Checksums, Key
from octodb.storage.local_rows import DATA_ERRORS, LocalRows, LocalUndo
from octodb.storage.meta import Meta, Outbox, OutboxRow
from octodb.storage.row_keys import PendingKeys
from octodb.storage.schema_rules import lossy_tables
from octodb.storage.sent_schema import run_sent_schema
from octodb.storage.shapes import LOCAL_PREFIX, Shapes, TableShape, schema_version

__all__ = ["IncomingEntry", "Rebase"]

_NO_IDS: Final = (0, -1)
# Displaced rows that each rebase tries to put back: there are hardly ever any.
_DISPLACED_TRIED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class IncomingEntry:
    """One part of an entry. ``own_nonce`` > 0: this device's own transaction; its body is in the outbox."""

    seq: int
    everybody: bool
    own_nonce: int
    chain: bytes
    body: bytes


class Rebase:
    """``clock`` gives seconds since the epoch."""

    def __init__(self, db: apsw.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        self._meta = Meta(db)
        self._outbox = Outbox(db)
        self._applier = Applier(db, Shapes.read(db), _NO_IDS, self.displace)
        self.local_rows = LocalRows(db, self.displace)
        self._aside: list[tuple[str, dict[str, Any], str]] = []
        self._keys = PendingKeys()
        # texts of this device's own indexes and triggers whose table was dropped; None: as the file has it
        self._orphans: list[str] | None = None
        self._unfilled: set[str] = set()  # full-text indexes that may lack rows
        self._user_id = 0
        self._identity = Identity()

    @property
    def shapes(self) -> Shapes:
        return self._applier.shapes

    def begin(self, identity: Identity) -> None:
        """Call first in each transaction: another connection may have changed the schema, a failed one left traces."""
        self._aside.clear()
        self._unfilled.clear()
        if self._orphans is None:
            self._orphans = json.loads(self._meta.get("orphans", "[]"))
        if self._identity != identity:
            self._identity = identity
            self._db.create_scalar_function("this_user", lambda *_: identity.user_id, 0)
            self._db.create_scalar_function("this_node", lambda *_: identity.node_id, 0)
        if self._user_id != identity.user_id or self._applier.own_ids != identity.row_ids:
            self._user_id = identity.user_id
            self._applier = Applier(self._db, Shapes.read(self._db), identity.row_ids, self.displace)
        elif schema_version(self._db) != self._applier.shapes.version:
            self.use_schema()

    def finish(self) -> None:
        """Call last in each transaction: keep what must not be forgotten."""
        self._put_back()
        for table, row_id in self._applier.deleted_ids.items():
            self._meta.keep_row_id(table, row_id)
        self._applier.deleted_ids.clear()

    def failed(self) -> None:
        """The transaction was rolled back."""
        self._keys.clear()
        self._orphans = None
        self._user_id = 0  # the next one begins with a new applier

    def use_schema(self) -> None:
        """The schema changed in this transaction or before it."""
        self._applier.use(Shapes.read(self._db))

    # --- the whole rebase ----------------------------------------------------------------------------

    def undo(self, nonces: list[int]) -> None:
        """Take the given pending transactions back. ``nonces``: in order; the newest is undone first."""
        for nonce in reversed(nonces):
            self._undo(self.row(nonce))

    def redo(self, nonces: list[int]) -> None:
        for nonce in nonces:
            self._redo(self.row(nonce))

    def apply(self, groups: list[list[IncomingEntry]]) -> set[str]:
        """Apply entries in order, own ones from the outbox. Returns the tables whose rows others changed."""
        tables: set[str] = set()
        for group in groups:
            if group[0].own_nonce:
                self._apply_own(group[0].own_nonce, group[0].seq)
            else:
                before = self.shapes.version
                tables |= self._apply_group(group)
                if self.shapes.version != before:  # what follows is for the triggers of this device, too
                    self.make_orphans_again()
        self.fill_indexes()
        return tables

    def accept(self, nonce: int, seq: int) -> None:
        """The primary has it at ``seq``, and the rows are as they should be."""
        self._keys.remove(nonce)
        self._outbox.accept(nonce, seq)

    def reject(self, nonce: int, rejection: Rejection, kept_local: int) -> None:
        self._keys.remove(nonce)
        self._outbox.reject(nonce, rejection, self._clock(), kept_local)

    def begin_local_undo(self, nonce: int) -> LocalUndo:
        """See ``LocalRows.begin_undo``; ``local_rows.finish_undo`` is to follow."""
        following = self._applier.triggers.following
        return self.local_rows.begin_undo(self.row(nonce).local or b"", self.shapes, following)

    def before_schema_change(self) -> None:
        """Call before any schema change; ``use_schema`` afterwards."""
        self._applier.triggers.drop()

    def hearing_of_others(self) -> AbstractContextManager[None]:
        """Around what comes from others: see ``LocalTriggers``."""
        return self._applier.triggers.hearing_of_others()

    def without_triggers(self) -> AbstractContextManager[None]:
        """What only this node has is not kept up meanwhile: it must not keep rows from being what they should."""
        return self._applier.triggers.off()

    def write_rows(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Run one statement; what only this node has is kept up, unless it stands in the way."""
        self._applier.triggers.run(sql, values)

    def forget_keys(self) -> None:
        """The outbox was changed by other means than ``accept`` and ``reject``."""
        self._keys.clear()

    def row(self, nonce: int) -> OutboxRow:
        row = self._outbox.get(nonce)
        if row is None:
            raise SyncError(f"the primary speaks of transaction {nonce}, which is not in this device's outbox")
        return row

    def _undo(self, row: OutboxRow) -> None:
        if row.undo is not None:
            changesets = [row.undo] if row.undo else []
        else:
            changesets = [op.payload for op in decode_body(row.body).ops if isinstance(op.payload, bytes)]
        for changeset in reversed(changesets):
            try:
                self._applier.apply_exact(apsw.Changeset.invert(changeset))
            except Refused as error:
                raise SyncError(f"transaction {row.nonce} cannot be undone: {error}") from error

    def _redo(self, row: OutboxRow) -> None:
        """Apply the body again under a fresh session; what the primary would refuse now is suspended."""
        self._db.execute("SAVEPOINT octodb_redo")
        session = apsw.Session(self._db, "main")
        session.table_filter(self._is_replicated)
        try:
            body = decode_body(row.body)
            self._check_schema(body.schema_seq, body.ops)
            for op in body.ops:
                assert isinstance(op.payload, bytes)
                self._applier.apply_ordered([(self._user_id, op.payload)])
            undo: bytes = session.changeset()
            suspended = None
        except Refused as error:
            self._db.execute("ROLLBACK TO octodb_redo")
            undo, suspended = b"", str(error)
        finally:
            session.close()
        self._db.execute("RELEASE octodb_redo")
        self._outbox.set_undo(row.nonce, undo, suspended)

    def _is_replicated(self, table: str) -> bool:
        """What triggers do to local tables on redo, they undo on undo."""
        shape = self._applier.shapes.get(table)
        return shape is not None and shape.replicated

    def _apply_own(self, nonce: int, seq: int) -> None:
        body = decode_body(self.row(nonce).body)
        for op in body.ops:
            assert isinstance(op.payload, bytes)
            self._apply([(self._user_id, op.payload)], seq)
        self.accept(nonce, seq)

    def _apply_group(self, group: list[IncomingEntry]) -> set[str]:
        """All parts of one position: ops in order, the user's rows and everybody's together."""
        seq = group[0].seq
        tables: set[str] = set()
        for parts in self._steps(group):
            changesets = [(owner, payload) for owner, payload in parts if isinstance(payload, bytes)]
            with self.hearing_of_others():
                self._apply(changesets, seq)
            for _, changeset in changesets:
                tables |= touched_tables(changeset).keys()
            for _, payload in parts:
                if isinstance(payload, str):
                    self._change_schema(payload, seq)
        return tables

    def _steps(self, group: list[IncomingEntry]) -> list[list[tuple[int | str, bytes | str]]]:
        """(owner, payload) of the ops of one position, step by step."""
        steps: dict[int, list[tuple[int | str, bytes | str]]] = {}
        for entry in sorted(group, key=lambda entry: entry.everybody):
            owner: int | str = EVERYBODY if entry.everybody else self._user_id
            for op in decode_body(entry.body).ops:
                steps.setdefault(op.position, []).append((owner, op.payload))
        return [parts for _, parts in sorted(steps.items())]

    def _apply(self, parts: list[tuple[int | str, bytes]], seq: int) -> None:
        try:
            self._applier.apply_ordered(parts)
        except Refused as error:
            raise SyncError(
                f"the entry at {seq} cannot be applied: {error}",
                hint="download the database anew into another file; this file keeps its queue",
            ) from error

    def _check_schema(self, schema_seq: int, ops: list[Op]) -> None:
        changes = self._meta.schema_changes()
        for op in ops:
            for table in touched_tables(op.payload) if isinstance(op.payload, bytes) else ():
                if changes.get(fold_name(table), 0) > schema_seq:
                    raise Refused(Rejection("schema", f"table {table} was changed on the primary", table))

    def replace_range(self, shape: TableShape, low: Key, high: Key, rows: list[list[Any]]) -> None:
        """Mend what differs from the primary: the rows of a key range become ``rows``. Nothing may be pending."""
        index = {tuple(row[i] for i in shape.key): row for row in rows}
        there = list(Checksums(self._db).rows(shape, low, high))
        kept = {
            tuple(row[i] for i in shape.key) for row in there if _same(row, index.get(tuple(row[i] for i in shape.key)))
        }
        for row in there:
            key = tuple(row[i] for i in shape.key)
            if key not in kept:
                self.write_rows(f"DELETE FROM {shape.quoted} WHERE {shape.key_match}", key)
        wanted = [row for key, row in index.items() if key not in kept]
        columns = ", ".join(quote_name(column) for column in shape.columns)
        sql = f"INSERT INTO {shape.quoted} ({columns}) VALUES ({', '.join('?' * len(shape.columns))})"
        for row in wanted:
            self.local_rows.displace_equal(shape, row)
            self._replace(shape, sql, row)

    def _replace(self, shape: TableShape, sql: str, row: list[Any]) -> None:
        try:
            self.write_rows(sql, row)
        except DATA_ERRORS:
            # a damaged row elsewhere holds a UNIQUE value of this one: it is wrong too, and its range is next
            with self.without_triggers():
                self._db.execute(sql.replace("INSERT", "INSERT OR REPLACE", 1), row)

    # --- the direct path -----------------------------------------------------------------------------

    def apply_directly(self, groups: list[list[IncomingEntry]]) -> set[str] | None:
        """Apply entries beside the pending transactions, without undoing them. None: that is not sure to be right, and
        nothing was done.

        It is when no incoming row is touched by a pending transaction and no schema changes; every change must find
        its row or its place. Own entries must be the oldest pending ones, in order: their rows are there already.
        """
        foreign = [self._steps(group) for group in groups if not group[0].own_nonce]
        if not all(self._stays_apart(steps) for steps in foreign):
            return None
        self._db.execute("SAVEPOINT octodb_direct")
        tables: set[str] = set()
        for steps in foreign:
            for parts in steps:
                changesets = [(owner, payload) for owner, payload in parts if isinstance(payload, bytes)]
                with self.hearing_of_others():
                    fits = self._applier.apply_plainly(changesets)
                if not fits:
                    self._db.execute("ROLLBACK TO octodb_direct")
                    self._db.execute("RELEASE octodb_direct")
                    return None
                for _, changeset in changesets:
                    tables |= touched_tables(changeset).keys()
        self._db.execute("RELEASE octodb_direct")
        own = [(group[0].own_nonce, group[0].seq) for group in groups if group[0].own_nonce]
        for nonce, _ in own:
            self._keys.remove(nonce)
        self._outbox.accept_oldest(own)
        return tables

    def _stays_apart(self, steps: list[list[tuple[int | str, bytes | str]]]) -> bool:
        self._track_keys()
        return all(
            isinstance(payload, bytes) and not self._keys.meet(payload, self.shapes)
            for parts in steps
            for _, payload in parts
        )

    def _track_keys(self) -> None:
        """Learn the keys of what applications have committed since the last time."""
        for row in self._outbox.pending(after=self._keys.newest):
            self._keys.add(row.nonce, row.body, row.undo)

    # --- schema --------------------------------------------------------------------------------------

    def _change_schema(self, sql: str, seq: int) -> None:
        facts = parse_ddl(sql)
        shape = self._applier.shapes.get(facts.name)
        if facts.action == "drop" and facts.object == "table" and shape is not None:
            # a table that is rebuilt has its name again at the end of the rebase, and the row its place
            self.set_local_rows_aside(shape.name, "its table was dropped")
            self._keep_orphans([*(self._orphans or []), *self.local_objects(shape.name)])
        try:
            self.before_schema_change()
            run_sent_schema(self._db, sql)
        except DATA_ERRORS:
            self._applier.triggers.install(self.shapes)
            self._change_schema_past_local_things(sql, facts)
        self.note_index(facts)
        if facts.change == "rename table":
            self._meta.rename_row_ids(facts.table, facts.new_name)
        self._meta.record_schema_changes(lossy_tables(facts), seq)
        self._meta.set(schema_seq=seq)
        self.use_schema()

    def _change_schema_past_local_things(self, sql: str, facts: Ddl) -> None:
        """Indexes, triggers and views of this device's own (``local_…``) and its local rows may stand in the way: the
        objects are made anew, the rows put back where the new schema can hold them."""
        shape = self._applier.shapes.get(facts.table)
        rows = [] if shape is None else self.local_rows.move_aside(shape)
        objects = self.local_objects()
        self.before_schema_change()
        self.drop_local_objects()
        run_sent_schema(self._db, sql)
        self.make_again(objects)
        self.use_schema()
        if shape is not None:
            self.local_rows.put_back(shape, rows, self.shapes, "the new schema cannot hold it")

    def note_index(self, facts: Ddl) -> None:
        """A full-text index was made, or a trigger that keeps one up: the rows that are there already are not in it.
        What the primary does about that is no change of rows, and does not travel."""
        if facts.action == "create" and facts.object in {"virtual table", "trigger"}:
            names = facts.names | {fold_name(facts.name)}
            sql = (
                "SELECT name FROM main.sqlite_schema WHERE type = 'table'"
                " AND sql LIKE 'CREATE VIRTUAL TABLE%USING fts%'"
            )
            self._unfilled |= {str(name) for (name,) in self._db.execute(sql) if fold_name(str(name)) in names}

    def fill_indexes(self) -> None:
        """Build the full-text indexes anew that were noted (sqlite.org/fts5.html, the 'rebuild' command)."""
        for name in sorted(self._unfilled):
            quoted = quote_name(name)
            with suppress(*DATA_ERRORS):  # gone again, contentless, or over what is not there
                self._db.execute(f"INSERT INTO main.{quoted} ({quoted}) VALUES ('rebuild')")
        self._unfilled.clear()

    def make_orphans_again(self) -> None:
        """Where a table has its name again: a rebuild may be one transaction, or several that come one by one."""
        if self._orphans:
            self.before_schema_change()
            self._keep_orphans([text for text in self._orphans if not self._made_again(text)])
            self.use_schema()

    def _made_again(self, text: str) -> bool:
        """False: what it names is not there (yet)."""
        try:
            self._db.execute(text)
        except DATA_ERRORS as error:
            return "already exists" in str(error)
        return True

    def _keep_orphans(self, texts: list[str]) -> None:
        if texts != self._orphans:
            self._orphans = texts
            self._meta.set(orphans=json.dumps(texts))

    def local_objects(self, table: str = "") -> list[str]:
        """The texts that make this device's own indexes, triggers and views, in order; ``table``: those on that one."""
        return [text for _, _, on, text in self._local_objects() if fold_name(table) in {"", fold_name(on)}]

    def drop_local_objects(self) -> None:
        for kind, name, _, _ in reversed(self._local_objects()):
            self._db.execute(f"DROP {kind} IF EXISTS main.{quote_name(name)}")

    def _local_objects(self) -> list[tuple[str, str, str, str]]:
        """(type, name, table, text)"""
        objects = self._db.execute(
            "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE type IN ('index', 'trigger', 'view')"
            " AND name LIKE ? ESCAPE '\\' AND sql IS NOT NULL ORDER BY rowid",
            (LOCAL_PREFIX.replace("_", "\\_") + "%",),
        ).fetchall()
        return [(str(kind), str(name), str(table), str(text)) for kind, name, table, text in objects]

    def make_again(self, objects: list[str]) -> None:
        for text in objects:
            try:
                self._db.execute(text)
            except DATA_ERRORS:
                continue  # it names what is gone; a local object cannot hold up the schema

    # --- local rows ----------------------------------------------------------------------------------

    def set_local_rows_aside(self, table: str, reason: str) -> None:
        """Take all local rows out of a table; ``finish`` puts back those that it can."""
        shape = self._applier.shapes.get(table)
        if shape is not None:
            for row in self.local_rows.move_aside(shape):
                self.displace(shape.name, dict(zip(shape.columns, row, strict=True)), reason)

    def displace(self, table: str, row: dict[str, Any], reason: str) -> None:
        """Remembered until the end of the rebase, which may well clear the place again."""
        self._aside.append((table, row, reason))

    def _put_back(self) -> None:
        """Local rows that gave way, now or earlier, go back where they can; the others are kept as displaced."""
        aside, self._aside = self._meta.take_displaced(_DISPLACED_TRIED_MAX) + self._aside, []
        for table, row, reason in aside:
            shape = self._applier.shapes.get(table)
            columns = [] if shape is None else [column for column in row if column in shape.columns]
            if shape is None or len(columns) < len(row):
                self._meta.displace(table, row, reason, self._clock())
                continue
            names = ", ".join(quote_name(column) for column in columns)
            sql = f"INSERT INTO {shape.quoted} ({names}) VALUES ({', '.join('?' * len(columns))})"
            try:
                self._db.execute(sql, [row[column] for column in columns])
            except DATA_ERRORS:
                self._meta.displace(table, row, reason, self._clock())


def _same(row: list[Any], other: list[Any] | None) -> bool:
    return other is not None and all(type(a) is type(b) and a == b for a, b in zip(row, other, strict=True))
