"""A device's file as the engine sees it: identity, outbox, and bringing in what the primary sends (design.md §4.7).

Every method is one short transaction on the engine's connection. It decides nothing about the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import apsw

from octodb.errors import ProtocolError, SyncError
from octodb.model.identities import Identity, row_id_range
from octodb.model.owners import EVERYBODY
from octodb.model.status import QueueStatus
from octodb.model.transactions import Op, Rejection, body_hash, chain_hash, decode_body
from octodb.sql.ddl import Ddl, parse_ddl
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.apply import Applier, Refused
from octodb.storage.changesets import touched_tables
from octodb.storage.database import sync_wal
from octodb.storage.local_rows import DATA_ERRORS, LocalRows, LocalUndo
from octodb.storage.lookup import one_value
from octodb.storage.meta import Meta, Outbox, OutboxRow
from octodb.storage.schema_rules import lossy_tables
from octodb.storage.shapes import LOCAL_PREFIX, Shapes, schema_version
from octodb.storage.snapshot import SnapshotLoader

__all__ = ["DeviceCursor", "DeviceStore", "Incoming", "IncomingEntry", "RebaseResult"]

_NO_IDS: Final = (0, -1)
_T = TypeVar("_T")
# Displaced rows that each rebase tries to put back: there are hardly ever any.
_DISPLACED_TRIED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class DeviceCursor:
    """How far the device has applied the log, and the running hashes there."""

    epoch: bytes
    seq: int
    chain_all: bytes
    chain_user: bytes


@dataclass(frozen=True, slots=True)
class IncomingEntry:
    """One part of an entry. ``own_nonce`` > 0: this device's own transaction; its body is in the outbox."""

    seq: int
    everybody: bool
    own_nonce: int
    chain: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """What arrived: entries in order up to ``through``, and refusals of own transactions."""

    entries: list[IncomingEntry]
    rejections: list[tuple[int, Rejection]]
    through: int


@dataclass(frozen=True, slots=True)
class RebaseResult:
    """``tables``: names of tables whose rows changed by others' doing. ``accepted``: (nonce, seq).

    ``settled``: verdicts up to this nonce are stored.
    """

    cursor: DeviceCursor
    accepted: list[tuple[int, int]]
    rejected: list[tuple[int, Rejection]]
    tables: tuple[str, ...]
    settled: int
    has_pending: bool


class DeviceStore:
    """The engine's side of a device file. ``clock`` gives seconds since the epoch."""

    def __init__(self, db: apsw.Connection, path: str, clock: Callable[[], float]) -> None:
        self._db = db
        self._path = path
        self._clock = clock
        self._meta = Meta(db)
        self._outbox = Outbox(db)
        self.snapshot = SnapshotLoader(db)
        self._applier = Applier(db, Shapes.read(db), _NO_IDS, self._displace)
        self._local_rows = LocalRows(db, self._displace)
        self._aside: list[tuple[str, dict[str, Any], str]] = []
        self._user_id = 0
        self._synced_nonce = 0

    def close(self) -> None:
        """Close the engine's connection; a download that was going on leaves nothing behind."""
        self.snapshot.abandon()
        self._db.close(True)

    # --- identity ------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        values = self._meta.get_all()
        return Identity(values.get("node_id", 0), values.get("user_id", 0), bool(values.get("ready", 0)))

    def cursor(self) -> DeviceCursor:
        values = self._meta.get_all()
        return DeviceCursor(
            values.get("epoch", b""),
            values.get("cursor", 0),
            values.get("chain_all", b""),
            values.get("chain_user", b""),
        )

    def store_welcome(self, node_id: int, user_id: int, token: bytes) -> None:
        """Keep ids and session token durably before anything else is sent (design.md §8)."""
        self._in_transaction(lambda: self._meta.set(node_id=node_id, user_id=user_id, session_token=token))
        sync_wal(self._path)

    # --- queue ---------------------------------------------------------------------------------------

    def read_outbox(self, after: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes, bytes]]:
        """(nonce, hash, body) to send, on the disk before they are."""
        found = self._outbox.read_to_send(after, count_max, bytes_max)
        if found and found[-1][0] > self._synced_nonce:
            sync_wal(self._path)
            self._synced_nonce = found[-1][0]
        return found

    def queue(self) -> QueueStatus:
        return queue_status(self._db, self._clock())

    def id_counter(self) -> int:
        """The highest sequence this device has used for a row id in any table."""
        node_id = self.identity().node_id
        low, high = row_id_range(node_id)
        used = [self._meta.id_counter(node_id)]
        for shape in Shapes.read(self._db).replicated():
            if shape.row_id_column is not None:
                column = quote_name(shape.row_id_column)
                sql = f"SELECT coalesce(max({column}), 0) FROM {shape.quoted} WHERE {column} BETWEEN ? AND ?"
                used.append(one_value(self._db, sql, (low, high)) & 0xFFFFFFFF)
        return max(used)

    def settled_nonce(self) -> int:
        """Every transaction up to this nonce has its verdict stored."""
        oldest = self._outbox.oldest()
        return self._outbox.last_nonce() if oldest is None else oldest[0] - 1

    # --- incoming ------------------------------------------------------------------------------------

    def bring_in(self, incoming: Incoming) -> RebaseResult:
        """Apply what arrived and rebase the outbox on it, in one write transaction."""
        result = self._in_transaction(lambda: self._bring_in(incoming))
        if result.rejected:
            sync_wal(self._path)  # the primary forgets a refusal once it is confirmed: a power cut must not undo it
        return result

    def _bring_in(self, incoming: Incoming) -> RebaseResult:
        self._refresh()
        self._aside.clear()
        cursor = self._next_cursor(incoming)
        pending = self._outbox.nonces()
        rejected = [(nonce, reason) for nonce, reason in incoming.rejections if nonce in set(pending)]
        groups = _by_position([entry for entry in incoming.entries if entry.seq > self.cursor().seq])
        accepted = [(group[0].own_nonce, group[0].seq) for group in groups if group[0].own_nonce]
        tables: set[str] = set()
        if self._only_oldest_accepted(groups, rejected, pending):
            for nonce, seq in accepted:
                self._outbox.accept(nonce, seq)
        else:
            tables = self._rebase(groups, dict(rejected), pending)
        self._put_back()
        self._store(cursor)
        has_pending = self._outbox.oldest() is not None
        return RebaseResult(cursor, accepted, rejected, tuple(sorted(tables)), self.settled_nonce(), has_pending)

    def _only_oldest_accepted(self, groups: list[list[IncomingEntry]], rejected: list[Any], pending: list[int]) -> bool:
        """Our oldest transactions were accepted and nothing came between: the rows already are as they should be."""
        nonces = [group[0].own_nonce for group in groups]
        if rejected or 0 in nonces or nonces != pending[: len(nonces)]:
            return False
        return all((row := self._outbox.get(nonce)) is not None and row.suspended is None for nonce in nonces)

    def _rebase(
        self, groups: list[list[IncomingEntry]], rejected: dict[int, Rejection], pending: list[int]
    ) -> set[str]:
        """Undo the outbox newest first, apply in order, redo the rest oldest first."""
        lowest = 1 if groups else min(rejected)
        newest_first = sorted(rejected, reverse=True)
        local = {nonce: self._begin_local_undo(nonce) for nonce in newest_first}
        undone = [nonce for nonce in reversed(pending) if nonce >= lowest]
        for nonce in undone:
            self._undo(self._row(nonce))
        tables: set[str] = set()
        done: set[int] = set()
        for group in groups:
            own = group[0].own_nonce
            if own:
                self._apply_own(own, group[0].seq)
                done.add(own)
            else:
                tables |= self._apply_group(group)
        for nonce in newest_first:
            kept = self._local_rows.finish_undo(local[nonce])
            self._outbox.reject(nonce, rejected[nonce], self._clock(), kept)
            done.add(nonce)
        for nonce in reversed(undone):
            if nonce not in done:
                self._redo(self._row(nonce))
        return tables

    def _row(self, nonce: int) -> OutboxRow:
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
        session.table_filter(lambda name: self._applier.shapes.get(name) is not None)
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

    def _apply_own(self, nonce: int, seq: int) -> None:
        body = decode_body(self._row(nonce).body)
        for op in body.ops:
            assert isinstance(op.payload, bytes)
            self._apply([(self._user_id, op.payload)], seq)
        self._outbox.accept(nonce, seq)

    def _apply_group(self, group: list[IncomingEntry]) -> set[str]:
        """All parts of one position: ops in order, the user's rows and everybody's together."""
        seq = group[0].seq
        steps: dict[int, list[tuple[int | str, bytes | str]]] = {}
        for entry in sorted(group, key=lambda entry: entry.everybody):
            owner: int | str = EVERYBODY if entry.everybody else self._user_id
            for op in decode_body(entry.body).ops:
                steps.setdefault(op.position, []).append((owner, op.payload))
        tables: set[str] = set()
        for _, parts in sorted(steps.items()):
            changesets = [(owner, payload) for owner, payload in parts if isinstance(payload, bytes)]
            self._apply(changesets, seq)
            for _, changeset in changesets:
                tables |= touched_tables(changeset).keys()
            for _, payload in parts:
                if isinstance(payload, str):
                    self._change_schema(payload, seq)
        return tables

    def _apply(self, parts: list[tuple[int | str, bytes]], seq: int) -> None:
        try:
            self._applier.apply_ordered(parts)
        except Refused as error:
            raise SyncError(
                f"the entry at {seq} cannot be applied: {error}",
                hint="download the database anew into another file; this file keeps its queue",
            ) from error

    def _begin_local_undo(self, nonce: int) -> LocalUndo:
        return self._local_rows.begin_undo(self._row(nonce).local or b"", self._applier.shapes)

    def _check_schema(self, schema_seq: int, ops: list[Op]) -> None:
        changes = self._meta.schema_changes()
        for op in ops:
            for table in touched_tables(op.payload) if isinstance(op.payload, bytes) else ():
                if changes.get(fold_name(table), 0) > schema_seq:
                    raise Refused(Rejection("schema", f"table {table} was changed on the primary", table))

    # --- schema --------------------------------------------------------------------------------------

    def _change_schema(self, sql: str, seq: int) -> None:
        facts = parse_ddl(sql)
        shape = self._applier.shapes.get(facts.name)
        if facts.action == "drop" and facts.object == "table" and shape is not None:
            for row in self._local_rows.move_aside(shape):
                # a table that is rebuilt has its name again at the end of the rebase, and the row its place
                self._displace(shape.name, dict(zip(shape.columns, row, strict=True)), "its table was dropped")
        try:
            self._db.execute(sql)
        except DATA_ERRORS:
            self._change_schema_past_local_things(sql, facts)
        if facts.change == "rename table":
            self._meta.rename_row_ids(facts.table, facts.new_name)
        self._meta.record_schema_changes(lossy_tables(facts), seq)
        self._meta.set(schema_seq=seq)
        self._applier.use(Shapes.read(self._db))

    def _change_schema_past_local_things(self, sql: str, facts: Ddl) -> None:
        """Indexes, triggers and views of this device's own (``local_…``) and its local rows may stand in the way: the
        objects are made anew, the rows put back where the new schema can hold them."""
        objects = self._db.execute(
            "SELECT type, name, sql FROM main.sqlite_schema WHERE type IN ('index', 'trigger', 'view')"
            " AND name LIKE ? ESCAPE '\\' AND sql IS NOT NULL ORDER BY rowid",
            (LOCAL_PREFIX.replace("_", "\\_") + "%",),
        ).fetchall()
        for kind, name, _ in reversed(objects):
            self._db.execute(f"DROP {kind} IF EXISTS main.{quote_name(str(name))}")
        shape = self._applier.shapes.get(facts.table)
        rows = [] if shape is None else self._local_rows.move_aside(shape)
        self._db.execute(sql)
        if shape is not None:
            self._local_rows.put_back(shape, rows, Shapes.read(self._db), "the new schema cannot hold it")
        for _, _, text in objects:
            try:
                self._db.execute(str(text))
            except DATA_ERRORS:
                continue  # it names what is gone; a local object cannot hold up the schema

    def _refresh(self) -> None:
        if not self._user_id:
            identity = self.identity()
            self._user_id = identity.user_id
            self._applier = Applier(self._db, Shapes.read(self._db), row_id_range(identity.node_id), self._displace)
        elif schema_version(self._db) != self._applier.shapes.version:
            self._applier.use(Shapes.read(self._db))

    # --- cursor --------------------------------------------------------------------------------------

    def _next_cursor(self, incoming: Incoming) -> DeviceCursor:
        """Check the running hashes of what arrived (P4: the same history as the primary's)."""
        now = self.cursor()
        chain_all, chain_user = now.chain_all, now.chain_user
        for entry in incoming.entries:
            if entry.seq <= now.seq:
                continue
            digest = self._row(entry.own_nonce).hash if entry.own_nonce else body_hash(entry.body)
            chain = chain_hash(chain_all if entry.everybody else chain_user, entry.seq, digest)
            if chain != entry.chain:
                raise ProtocolError(f"the running hash of the log differs at {entry.seq}")
            if entry.everybody:
                chain_all = chain
            else:
                chain_user = chain
        return DeviceCursor(now.epoch, max(now.seq, incoming.through), chain_all, chain_user)

    def _store(self, cursor: DeviceCursor) -> None:
        self._meta.set(cursor=cursor.seq, chain_all=cursor.chain_all, chain_user=cursor.chain_user)
        for table, row_id in self._applier.deleted_ids.items():
            self._meta.keep_row_id(table, row_id)
        self._applier.deleted_ids.clear()

    def _displace(self, table: str, row: dict[str, Any], reason: str) -> None:
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

    def _in_transaction(self, work: Callable[[], _T]) -> _T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return result


def queue_status(db: apsw.Connection, now: float) -> QueueStatus:
    """The queue as the file has it now."""
    outbox = Outbox(db)
    oldest = outbox.oldest()
    return QueueStatus(
        last_nonce=outbox.last_nonce(),
        pending=0 if oldest is None else outbox.count(),
        oldest_pending_s=None if oldest is None else round(max(0.0, now - oldest[1]), 3),
        rejected=outbox.count_rejected(),
    )


def _by_position(entries: list[IncomingEntry]) -> list[list[IncomingEntry]]:
    groups: list[list[IncomingEntry]] = []
    for entry in entries:
        if groups and groups[-1][0].seq == entry.seq:
            groups[-1].append(entry)
        else:
            groups.append([entry])
    return groups
