"""A device's file as the engine sees it: identity, outbox, and bringing in what the primary sends (design.md §4.7).

Every method is one short transaction on the engine's connection. It decides nothing about the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import apsw

from octodb.errors import ProtocolError
from octodb.model.identities import Identity, row_id_range
from octodb.model.snapshots import SnapshotTail
from octodb.model.status import QueueStatus
from octodb.model.transactions import Rejection, body_hash, chain_hash
from octodb.sql.tokens import quote_name
from octodb.storage.checksums import Checksums, Key
from octodb.storage.database import sync_wal
from octodb.storage.lookup import one_value
from octodb.storage.meta import Meta, Outbox
from octodb.storage.rebase import IncomingEntry, Rebase
from octodb.storage.rekeying import Rekeying
from octodb.storage.shapes import Shapes
from octodb.storage.snapshot import SnapshotLoader, check_sent_rows
from octodb.storage.staging import Staging

__all__ = [
    "Adoption",
    "DeviceCursor",
    "DeviceStore",
    "DeviceSums",
    "Incoming",
    "IncomingEntry",
    "NotOurOwn",
    "RebaseResult",
]

_T = TypeVar("_T")
_LOST = "the primary was restored from a backup and lacks it: it is offered again"


class NotOurOwn(Exception):  # noqa: N818 - a finding, not an error
    """The primary has another transaction of this device under a number than this file: the file is a copy."""


@dataclass(frozen=True, slots=True)
class DeviceCursor:
    """How far the device has applied the log, and the running hashes there."""

    epoch: bytes
    seq: int
    chain_all: bytes
    chain_user: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """What arrived: entries in order up to ``through``, and verdicts on own transactions.

    ``acceptances``: (nonce, seq) of those that the entries show as somebody else's, or that came before what this
    device was sent: they are in force once it is at ``seq``.
    """

    entries: list[IncomingEntry]
    rejections: list[tuple[int, Rejection]]
    through: int
    acceptances: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RebaseResult:
    """``tables``: names of tables whose rows changed by others' doing. ``accepted``: (nonce, seq).

    ``settled``: verdicts up to this nonce are stored, and the primary may forget them.
    """

    cursor: DeviceCursor
    accepted: list[tuple[int, int]]
    rejected: list[tuple[int, Rejection]]
    tables: tuple[str, ...]
    settled: int
    has_pending: bool
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Adoption:
    """The new identity of a copied file. ``known``: (nonce, seq) of its transactions that the primary has already."""

    private_key: bytes
    public_key: bytes
    node_id: int
    user_id: int
    session_token: bytes
    known: tuple[tuple[int, int], ...]


class DeviceStore:
    """The engine's side of a device file. ``clock`` gives seconds since the epoch."""

    def __init__(self, db: apsw.Connection, path: str, clock: Callable[[], float]) -> None:
        self._db = db
        self._path = path
        self._clock = clock
        self._meta = Meta(db)
        self._outbox = Outbox(db)
        self._rebase = Rebase(db, clock)
        self.snapshot = SnapshotLoader(db)
        self.staging = Staging(db)
        self._synced_nonce = 0
        self._settled = 0  # see settled_nonce: what is on the disk itself
        self._sync()

    def _sync(self) -> None:
        """Put everything that is committed on the disk itself."""
        settled = self._outbox.settled_nonce()
        sync_wal(self._path)
        self._settled = settled

    def close(self) -> None:
        """Close the engine's connection; a download that was going on leaves nothing behind."""
        self.snapshot.abandon()
        self._db.close(True)

    # --- identity ------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        return Identity.of(self._meta.get_all())

    def cursor(self) -> DeviceCursor:
        values = self._meta.get_all()
        return DeviceCursor(
            values.get("epoch", b""),
            values.get("cursor", 0),
            values.get("chain_all", b""),
            values.get("chain_user", b""),
        )

    def store_welcome(
        self, node_id: int, user_id: int, token: bytes, network_id: bytes, whereabouts: str
    ) -> tuple[int, int]:
        """Keep ids and session token durably before anything else is sent (design.md §8).

        The primary has spoken: this file is the device that it says it is. Returns the last nonce and the one up to
        which all have their verdicts.
        """

        def work() -> tuple[int, int]:
            before = self.identity()
            self._meta.set(node_id=node_id, user_id=user_id, session_token=token, network_id=network_id)
            self._meta.set(whereabouts=whereabouts, id_confirmed=self.id_counter(), revoked="")
            if before.provisional_id or before.node_id not in {0, node_id}:
                self._meta.set(provisional_id=0)
                self._meta.bump_generation()
            return self._outbox.last_nonce(), self._outbox.judged_nonce()

        nonces = self._in_transaction(work)
        self._sync()
        return nonces

    def store_revoked(self, reason: str) -> None:
        """A primary has cut this device off."""
        self._in_transaction(lambda: self._meta.set(revoked=reason))

    def claims(self) -> list[tuple[int, bytes, int]]:
        """(nonce, hash, seq) of the transactions of this file that a primary may know; seq 0: without a verdict."""
        pending = [(row.nonce, row.hash, 0) for row in self._outbox.pending()]
        return self._outbox.sent() + pending

    def adopt(self, adoption: Adoption, whereabouts: str) -> int:
        """This file is a copy: take its new identity, durably (design.md §8).

        Pending transactions that the primary has already come with the log or are in it; rows that may clash with those
        of the other copy are given ids of the new range; the rest of the queue stays as it is. Returns
        ``settled_nonce``.
        """
        self._in_transaction(lambda: self._adopt(adoption, whereabouts))
        self._sync()
        return self.settled_nonce()

    def _adopt(self, adoption: Adoption, whereabouts: str) -> None:
        old = self.identity()
        self._rebase.begin(old)
        self._rebase.undo(self._outbox.nonces())
        known = dict(adoption.known)
        for nonce, seq in known.items():
            if self._outbox.has(nonce):
                self._rebase.accept(nonce, seq)
        lost = [nonce for nonce, _, _ in self._outbox.sent() if nonce not in known]
        self._outbox.offer_again(lost, _LOST)
        self._outbox.forget_sent()
        new = Identity(adoption.node_id, adoption.user_id, ready=old.ready)
        Rekeying(self._db, self._rebase.shapes, old, new, self._meta.get("id_confirmed", 0)).run(lost)
        self._meta.set(
            private_key=adoption.private_key,
            public_key=adoption.public_key,
            node_id=adoption.node_id,
            user_id=adoption.user_id,
            session_token=adoption.session_token,
            provisional_id=0,
            id_confirmed=0,
            since_nonce=self._outbox.judged_nonce(),
            whereabouts=whereabouts,
        )
        self._meta.bump_generation()
        self._rebase.begin(new)
        self._rebase.redo([nonce for nonce in self._outbox.nonces() if nonce not in lost])
        self._rebase.forget_keys()
        self._rebase.finish()

    # --- queue ---------------------------------------------------------------------------------------

    def read_outbox(self, after: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes, bytes, int]]:
        """(nonce, hash, body, knew_rejected) to send, on the disk before they are."""
        found = self._outbox.read_to_send(after, count_max, bytes_max)
        if found and found[-1][0] > self._synced_nonce:
            self._sync()
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
        """See ``Outbox.settled_nonce``. Only what a power cut cannot undo counts: the primary forgets it."""
        return self._settled

    # --- incoming ------------------------------------------------------------------------------------

    def bring_in(self, incoming: Incoming) -> RebaseResult:
        """Apply what arrived and rebase the outbox on it, in one write transaction.

        Raises NotOurOwn, ProtocolError (the running hashes differ), SyncError; nothing is done then.
        """
        result = self._in_transaction(lambda: self._bring_in(incoming))
        if result.rejected:
            self._sync()  # refusals are confirmed at once, so that the primary need not keep them
        return replace(result, settled=self._settled)

    def _bring_in(self, incoming: Incoming) -> RebaseResult:
        self._rebase.begin(self.identity())
        now = self.cursor()
        cursor = self._next_cursor(now, incoming)
        groups = _by_position([entry for entry in incoming.entries if entry.seq > now.seq])
        own = [(group[0].own_nonce, group[0].seq) for group in groups if group[0].own_nonce]
        rejected = {nonce: reason for nonce, reason in incoming.rejections if self._outbox.has(nonce)}
        told = {nonce for nonce, _ in own}
        elsewhere = {nonce: seq for nonce, seq in incoming.acceptances if nonce not in told and self._outbox.has(nonce)}
        tables = None
        if not rejected and not elsewhere and self._are_oldest([nonce for nonce, _ in own]):
            tables = self._rebase.apply_directly(groups)
        direct = tables is not None
        if tables is None:
            tables = self._rebase_all(groups, rejected, elsewhere)
        self._rebase.finish()
        self._meta.set(cursor=cursor.seq, chain_all=cursor.chain_all, chain_user=cursor.chain_user)
        return RebaseResult(
            cursor,
            own + list(elsewhere.items()),
            list(rejected.items()),
            tuple(sorted(tables)),
            0,
            self._outbox.oldest() is not None,
            direct,
        )

    def _are_oldest(self, own: list[int]) -> bool:
        """Our own entries are the oldest pending ones, and what is pending is applied: nothing waits to be tried
        again."""
        return own == self._outbox.first_nonces(len(own)) and not self._outbox.any_suspended()

    def _rebase_all(
        self, groups: list[list[IncomingEntry]], rejected: dict[int, Rejection], elsewhere: dict[int, int]
    ) -> set[str]:
        """Undo the outbox newest first, apply in order, redo the rest oldest first."""
        lowest = 1 if groups else min([*rejected, *elsewhere], default=self._outbox.last_nonce() + 1)
        newest_first = sorted(rejected, reverse=True)
        local_rows = self._rebase.local_rows
        local = {nonce: self._rebase.begin_local_undo(nonce) for nonce in newest_first}
        undone = [nonce for nonce in self._outbox.nonces() if nonce >= lowest]
        self._rebase.undo(undone)
        tables = self._rebase.apply(groups)
        for nonce, seq in elsewhere.items():
            self._rebase.accept(nonce, seq)
        for nonce in newest_first:
            self._rebase.reject(nonce, rejected[nonce], local_rows.finish_undo(local[nonce]))
        self._rebase.redo([nonce for nonce in undone if self._outbox.has(nonce)])
        return tables

    def _next_cursor(self, now: DeviceCursor, incoming: Incoming) -> DeviceCursor:
        """Check the running hashes of what arrived (P4: the same history as the primary's)."""
        chain_all, chain_user = now.chain_all, now.chain_user
        for entry in incoming.entries:
            if entry.seq <= now.seq:
                continue
            own = self._outbox.hash_of(entry.own_nonce) if entry.own_nonce else None
            digest = body_hash(entry.body) if own is None else own
            chain = chain_hash(chain_all if entry.everybody else chain_user, entry.seq, digest)
            if chain != entry.chain and entry.own_nonce:
                raise NotOurOwn(f"transaction {entry.own_nonce} of this device is another one on the primary")
            if chain != entry.chain:
                raise ProtocolError(f"the running hash of the log differs at {entry.seq}")
            if entry.everybody:
                chain_all = chain
            else:
                chain_user = chain
        return DeviceCursor(now.epoch, max(now.seq, incoming.through), chain_all, chain_user)

    # --- downloading again ---------------------------------------------------------------------------

    def swap(self, tail: SnapshotTail, primary_nonce: int) -> tuple[int, int]:
        """Put what was downloaded again in the place of what is here, keeping the queue, in one write transaction.

        ``primary_nonce``: the newest of our transactions that the primary knows of. Accepted ones above it, which it
        has lost, are offered again. Returns how many, and how many cannot be: their bodies are not kept any more.
        """

        def work() -> tuple[int, int]:
            identity = self.identity()
            self._rebase.begin(identity)
            self._rebase.undo(self._outbox.nonces())
            self.staging.swap(tail, self._rebase, identity.row_ids)
            self._rebase.make_orphans_again()
            lost = sorted(nonce for nonce, _, _ in self._outbox.sent() if nonce > primary_nonce)
            since = max(primary_nonce, self._meta.get("since_nonce", 0))
            gone = self._outbox.count_gone(since)
            self._outbox.offer_again(lost, _LOST)
            self._rebase.redo(self._outbox.nonces())
            self._rebase.forget_keys()
            self._rebase.finish()
            return len(lost), gone

        counts = self._in_transaction(work)
        self._sync()
        self.staging.abandon()
        return counts

    # --- checksums -----------------------------------------------------------------------------------

    def repair(
        self, seq: int, table: str, low: Key, high: Key, columns: tuple[str, ...], rows: list[list[Any]]
    ) -> bool:
        """Make the rows of a range those that the primary has. False, and nothing done: this device is not at
        ``seq`` any more, or has a queue."""

        def work() -> bool:
            self._rebase.begin(self.identity())
            shape = self._rebase.shapes.get(table)
            if not _is_at(self._db, seq) or shape is None or shape.columns != columns:
                return False
            check_sent_rows(shape, columns, rows, self.identity().user_id)
            self._rebase.replace_range(shape, low, high, rows)
            self._rebase.finish()
            return True

        return self._in_transaction(work)

    def replicated_tables(self) -> tuple[str, ...]:
        return tuple(sorted(shape.name for shape in self._rebase.shapes.replicated()))

    def _in_transaction(self, work: Callable[[], _T]) -> _T:
        if self._db.in_transaction:
            return self._in_first_download(work)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            self._db.execute("COMMIT")
        except BaseException:
            self._rebase.failed()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return result

    def _in_first_download(self, work: Callable[[], _T]) -> _T:
        """A first download waits in its open transaction to be resumed: what is new about this device's identity is
        part of it. Should the process be killed before its end, the file passes for a copy's, and is given another
        identity; there is nothing in it yet."""
        try:
            with self._db:  # a savepoint
                result = work()
        except BaseException:
            self._rebase.failed()
            raise
        self.snapshot.keep(self._meta.get_all())
        return result


class DeviceSums:
    """A device's checksums, on a reading connection of its own: a large database takes seconds."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db

    def compute(
        self, seq: int, table: str, low: Key, high: Key, bounds: Sequence[Sequence[Any]]
    ) -> list[tuple[str, int, int]] | None:
        """(table, rows, sum) of every table, or of the parts of a range that ``bounds`` cut.

        None: this device is not at ``seq`` any more, or has a queue.
        """
        self.db.execute("BEGIN")
        try:
            if not _is_at(self.db, seq):
                return None
            sums = Checksums(self.db)
            if not table:
                return sums.tables()
            shape = sums.table(table)
            return None if shape is None else sums.parts(shape, low, high, bounds)
        finally:
            self.db.execute("COMMIT")


def _is_at(db: apsw.Connection, seq: int) -> bool:
    return bool(Meta(db).get("cursor", 0) == seq) and Outbox(db).oldest() is None


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
