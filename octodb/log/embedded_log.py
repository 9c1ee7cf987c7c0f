"""The embedded log: entries and data in one SQLite file, committed together (design.md §4.4, §5).

Owns the order of transactions on a single primary and the verdict on each. Runs in the caller's thread, on a
connection of its own; never talks to a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import apsw

from octodb.errors import ProtocolError
from octodb.model.entries import AppendOutcome, CommittedBatch, LogEntry, Outcome
from octodb.model.identities import ADMIN_ID, row_id_range
from octodb.model.owners import EVERYBODY
from octodb.model.transactions import (
    BODY_BYTES_MAX,
    CHAIN_START,
    PUSHED_HASH_BYTES,
    Body,
    Rejection,
    body_hash,
    chain_hash,
    decode_body,
)
from octodb.sql.tokens import fold_name
from octodb.storage.apply import Applier, Refused
from octodb.storage.changesets import touched_tables
from octodb.storage.meta import LogTables, Meta, NodeTable
from octodb.storage.row_id_ranges import RowIdRanges
from octodb.storage.row_keys import changed_rows, digests, made_rows
from octodb.storage.shapes import Shapes, TableShape, schema_version

__all__ = ["AdminAppender", "EmbeddedLog", "PushRequest", "PushedBody"]


@dataclass(frozen=True, slots=True)
class PushedBody:
    """``hash``: as pushed, all of it or its beginning. ``knew_rejected``: see PushedTransaction; NOT_TOLD (-1) where
    the device does not tell."""

    nonce: int
    hash: bytes
    body: bytes
    knew_rejected: int = -1


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Transactions of one node in order. ``confirmed_nonce``: verdicts up to it are stored on the device."""

    node_id: int
    user_id: int
    transactions: list[PushedBody]


class AdminAppender:
    """Appends a primary's own transaction, inside the write transaction of the connection that made it."""

    def __init__(self, db: apsw.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._tables = LogTables(db)
        self._clock = clock

    def append_admin(self, parts: dict[int | str, bytes]) -> int:
        """One entry with a part for each owner. Head and running hashes are read under the write lock."""
        seq = self._tables.head() + 1
        now = self._clock()
        for owner, body in parts.items():
            previous = self._tables.chain(owner)
            digest = body_hash(body)
            chain = chain_hash(CHAIN_START if previous is None else previous[1], seq, digest)
            self._tables.append(LogEntry(seq, owner, ADMIN_ID, None, digest, chain, body), now)
        return seq

    def retract_admin(self, seq: int) -> None:
        self._tables.remove(seq)


class EmbeddedLog:
    """Judges pushed transactions in group commits and reads entries back, on the engine's connection."""

    def __init__(self, db: apsw.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._control = db.cursor()  # one for all savepoints: making a cursor costs as much as the statement
        self._clock = clock
        self._tables = LogTables(db)
        self._nodes = NodeTable(db)
        self._meta = Meta(db)
        self._applier = Applier(db, Shapes.read(db), row_id_range(ADMIN_ID), self._displace)
        self._row_ids = RowIdRanges(db)
        self._lossy: dict[str, int] = self._meta.schema_changes()
        self._refusals = _Refusals(self._tables)
        self._stale = False  # what was made in a transaction that was rolled back is gone
        for name in ("this_user", "this_node"):
            db.create_scalar_function(name, _admin, 0)

    # --- appending -----------------------------------------------------------------------------------

    def append(self, requests: list[PushRequest]) -> tuple[list[Outcome], CommittedBatch]:
        """Judge every transaction and commit them all with one fsync.

        Any error but a refusal (disk full, IO, busy) abandons the whole batch without verdicts and is raised: devices
        send again (design.md §4.5).
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._refresh()
            batch = _Batch(self._tables, self._nodes, self._refusals)
            self._row_ids.forget()
            with self._applier.triggers.hearing_of_others():
                outcomes = [self._append_request(request, batch) for request in requests]
            batch.store_nonces()
            for table, row_id in self._applier.deleted_ids.items():
                self._meta.keep_row_id(table, row_id)
            self._applier.deleted_ids.clear()
            last_id = self._tables.last_id()  # in this transaction: another connection may commit right after it
            self._db.execute("COMMIT")
        except BaseException:
            self._stale = True
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return outcomes, CommittedBatch(batch.base_id, last_id, batch.entries)

    def _append_request(self, request: PushRequest, batch: _Batch) -> Outcome:
        outcomes: list[AppendOutcome] = []
        for pushed in request.transactions:
            outcome = self._append_one(request, pushed, batch)
            outcomes.append(outcome)
            if outcome.kind not in {"accepted", "rejected", "skipped"}:
                break
        return Outcome(request.node_id, outcomes)

    def _append_one(self, request: PushRequest, pushed: PushedBody, batch: _Batch) -> AppendOutcome:
        """nonce = last + 1: judge it. Not above last: the stored verdict again, if it is the same body."""
        last = batch.last_nonce(request.node_id)
        if last is None:
            return AppendOutcome(pushed.nonce, "revoked")
        if not pushed.hash and not pushed.body:
            batch.set_last_nonce(request.node_id, max(last, pushed.nonce))
            return AppendOutcome(pushed.nonce, "skipped")
        if pushed.nonce > last + 1:
            return AppendOutcome(pushed.nonce, "gap")
        digest = body_hash(pushed.body)
        if len(pushed.hash) < PUSHED_HASH_BYTES or not digest.startswith(pushed.hash):
            return AppendOutcome(pushed.nonce, "corrupt")
        pushed = replace(pushed, hash=digest)
        if pushed.nonce <= last:
            return self._known(request.node_id, pushed)
        batch.set_last_nonce(request.node_id, pushed.nonce)
        elsewhere = batch.accepted_elsewhere(request.node_id, pushed)
        if elsewhere:
            self._tables.keep_acceptance(request.node_id, pushed.nonce, pushed.hash, elsewhere)
            return AppendOutcome(pushed.nonce, "accepted", elsewhere, elsewhere=True)
        rejection = batch.builds_on_refused(request.node_id, pushed) or self._judge(
            request.user_id, pushed.body, request.node_id
        )
        if rejection is not None:
            batch.refuse(request.node_id, pushed, rejection)
            return AppendOutcome(pushed.nonce, "rejected", rejection=rejection)
        seq = batch.add(request.user_id, request.node_id, pushed.nonce, pushed.hash, pushed.body, self._clock())
        return AppendOutcome(pushed.nonce, "accepted", seq)

    def _known(self, node_id: int, pushed: PushedBody) -> AppendOutcome:
        verdict = self._tables.verdict(node_id, pushed.nonce)
        if verdict is None or verdict[0] != pushed.hash:
            return AppendOutcome(pushed.nonce, "fork")
        _, seq, rejection, elsewhere = verdict
        if rejection is not None:
            return AppendOutcome(pushed.nonce, "rejected", rejection=rejection)
        return AppendOutcome(pushed.nonce, "accepted", seq, elsewhere=elsewhere)

    def _judge(self, user_id: int, data: bytes, node_id: int) -> Rejection | None:
        """Apply a body of a node in a savepoint. None: it took effect. Otherwise nothing of it did."""
        if len(data) > BODY_BYTES_MAX:
            return Rejection("malformed", f"a transaction of {len(data):,} bytes; it may have {BODY_BYTES_MAX:,}")

        def new_row(shape: TableShape, row_id: object) -> None:
            rejection = self._row_ids.check(shape, row_id, node_id, user_id)
            if rejection is not None:
                raise Refused(rejection)

        self._control.execute("SAVEPOINT octodb_judge")
        try:
            body = decode_body(data)
            self._check_schema(body)
            for op in body.ops:
                if not isinstance(op.payload, bytes):
                    raise Refused(Rejection("schema", "a device cannot change the schema"))
                self._applier.apply_ordered([(user_id, op.payload)], check_foreign_keys=True, new_row=new_row)
        except (Refused, ProtocolError) as error:
            self._control.execute("ROLLBACK TO octodb_judge")
            self._control.execute("RELEASE octodb_judge")
            if isinstance(error, Refused):
                return error.rejection
            return Rejection("malformed", str(error))
        self._control.execute("RELEASE octodb_judge")
        return None

    def _check_schema(self, body: Body) -> None:
        """A body made before a table lost or renamed something does not fit any more (design.md §7)."""
        if not self._lossy or body.schema_seq >= max(self._lossy.values()):
            return
        for op in body.ops:
            if isinstance(op.payload, bytes):
                for table in touched_tables(op.payload):
                    if self._lossy.get(fold_name(table), 0) > body.schema_seq:
                        raise Refused(
                            Rejection("schema", f"table {table} was changed on the primary in the meantime", table)
                        )

    def _refresh(self) -> None:
        if self._stale or schema_version(self._db) != self._applier.shapes.version:
            self._stale = False
            self._refusals.clear()
            self._applier.use(Shapes.read(self._db))
            self._lossy = self._meta.schema_changes()

    def _displace(self, table: str, row: dict[str, Any], reason: str) -> None:
        self._meta.displace(table, row, reason, self._clock())

    # --- reading -------------------------------------------------------------------------------------

    def head(self) -> int:
        return self._tables.head()

    def read_streams(self, user_id: int, after: int, bytes_max: int) -> tuple[list[LogEntry], int]:
        """Entries of the user and of everybody above ``after``, and the position they reach up to."""
        self._db.execute("BEGIN")
        try:
            head = self._tables.head()
            entries, complete = self._tables.read_streams((user_id, EVERYBODY), after, bytes_max)
        finally:
            self._db.execute("COMMIT")
        return entries, head if complete else entries[-1].seq

    def cursor_matches(self, user_id: int, cursor: int, chain_user: bytes, chain_all: bytes) -> bool:
        """Whether a device that says it has applied everything up to ``cursor`` has our history, and the log goes back
        as far (design.md §5)."""
        if cursor > self._tables.head() or cursor < self._tables.floor():
            return False
        for owner, claimed in ((user_id, chain_user), (EVERYBODY, chain_all)):
            found = self._tables.chain(owner, at_most=cursor)
            if claimed != (CHAIN_START if found is None else found[1]):
                return False
        return True

    def cut(self, keep_s: float, keep_entries: int, rows_max: int = 1000) -> bool:
        """Cut off what is older than ``keep_s`` seconds, or beyond the newest ``keep_entries`` (0: however many), a
        part of it in one short transaction. True: there is more.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            floor = self._tables.floor()
            upto = self._tables.oldest_kept(floor, self._clock() - keep_s)
            if keep_entries:
                upto = max(upto, self._tables.head() - keep_entries)
            reached = self._tables.cut(upto, rows_max) if upto > floor else floor
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return reached < upto

    def last_id(self) -> int:
        return self._tables.last_id()

    def read_after_id(self, after_id: int, count_max: int = 1000) -> list[tuple[int, LogEntry]]:
        """Parts of all owners stored after ``after_id``: what other processes committed shows here too."""
        return self._tables.read_after_id(after_id, count_max)


def _admin(*_: Any) -> int:
    return ADMIN_ID


class _Refusals:
    """The rows that each device's refused transactions would have made, by digest: those that are kept, in memory too.

    A queue of which much is refused is looked at in many batches; each would read and compare all that came before.
    """

    _ROWS_MAX: Final = 1_000_000  # some hundred bytes each

    def __init__(self, tables: LogTables) -> None:
        self._tables = tables
        self._kept: dict[int, tuple[int, int]] = {}  # first and last nonce of those that are here
        self._rows: dict[int, dict[bytes, int]] = {}  # by node; the newest transaction that would have made it

    def clear(self) -> None:
        """What was added in a transaction that was rolled back is not in the table."""
        self._kept.clear()
        self._rows.clear()

    def begin(self) -> None:
        if sum(map(len, self._rows.values())) > self._ROWS_MAX:
            self.clear()

    def newest(self, node_id: int) -> int:
        """The newest refused transaction that is kept; 0 when none is. Reads them where they have changed."""
        kept = self._tables.refused_range(node_id)
        if self._kept.get(node_id, (0, 0)) != kept:
            self._kept[node_id] = kept
            self._rows[node_id] = {}
            for nonce, made in self._tables.refused(node_id):
                self._note(node_id, nonce, made)
        return kept[1]

    def that_made(self, node_id: int, rows: set[bytes]) -> int:
        """The newest refused transaction that would have made one of the rows; 0: none."""
        there = self._rows.get(node_id, {})
        return max((there.get(row, 0) for row in rows), default=0)

    def add(self, node_id: int, nonce: int, made: bytes) -> None:
        """One was refused; it is in the table too. Call ``newest`` before the first of a batch."""
        self._kept[node_id] = (self._kept.get(node_id, (0, 0))[0] or nonce, nonce)
        self._note(node_id, nonce, made)

    def _note(self, node_id: int, nonce: int, made: bytes) -> None:
        rows = self._rows.setdefault(node_id, {})
        for digest in digests(made):
            rows[digest] = nonce


class _Batch:
    """The state of one group commit: positions, running hashes and nonces, read once under the write lock."""

    def __init__(self, tables: LogTables, nodes: NodeTable, refusals: _Refusals) -> None:
        self._tables = tables
        self._nodes = nodes
        self._refusals = refusals
        self._refusals.begin()
        self.base_id = tables.last_id()
        self.head = tables.head()
        self.entries: list[LogEntry] = []
        self._chains: dict[int | str, bytes] = {}
        self._nonces: dict[int, int] = {}
        self._families: dict[int, list[int]] = {}
        self._newest_refused: dict[int, int] = {}
        self._changed: set[int] = set()

    def last_nonce(self, node_id: int) -> int | None:
        """None: the node was revoked, and nothing of it counts any more."""
        if node_id not in self._nonces:
            record = self._nodes.by_id(node_id)
            if record is not None and record.revoked:
                return None
            self._nonces[node_id] = 0 if record is None else record.last_nonce
        return self._nonces[node_id]

    def set_last_nonce(self, node_id: int, nonce: int) -> None:
        self._nonces[node_id] = nonce
        self._changed.add(node_id)

    def store_nonces(self) -> None:
        for node_id in self._changed:
            self._nodes.set_last_nonce(node_id, self._nonces[node_id])

    def accepted_elsewhere(self, node_id: int, pushed: PushedBody) -> int:
        """Position at which the very same transaction, made before the file was copied, was accepted from another copy;
        0: it was not."""
        if node_id not in self._families:
            self._families[node_id] = self._nodes.family(node_id)
        for copy in self._families[node_id]:
            seq = self._tables.took_effect(copy, pushed.nonce, pushed.hash)
            if seq:
                return seq
        return 0

    def builds_on_refused(self, node_id: int, pushed: PushedBody) -> Rejection | None:
        """A transaction that changes rows made by a refused one, of whose refusal its maker did not know, cannot take
        effect: the rows are not there, or they are somebody else's (design.md §4.7)."""
        if node_id not in self._newest_refused:
            self._newest_refused[node_id] = self._refusals.newest(node_id)
        if not self._newest_refused[node_id] > pushed.knew_rejected >= 0:
            return None
        try:
            changed = changed_rows(pushed.body)
        except ProtocolError:
            return None  # the judge says what is wrong with it
        nonce = self._refusals.that_made(node_id, changed)
        if nonce > pushed.knew_rejected:
            return Rejection("dependent", f"it changes rows made by transaction {nonce}, which was rejected")
        return None

    def refuse(self, node_id: int, pushed: PushedBody, rejection: Rejection) -> None:
        try:
            made = made_rows(pushed.body)
        except ProtocolError:
            made = b""
        self._tables.refuse(node_id, pushed.nonce, pushed.hash, rejection, made)
        self._refusals.add(node_id, pushed.nonce, made)
        self._newest_refused[node_id] = pushed.nonce

    def add(self, owner: int, origin: int, nonce: int, digest: bytes, body: bytes, now: float) -> int:
        if owner not in self._chains:
            found = self._tables.chain(owner)
            self._chains[owner] = CHAIN_START if found is None else found[1]
        self.head += 1
        chain = self._chains[owner] = chain_hash(self._chains[owner], self.head, digest)
        entry = LogEntry(self.head, owner, origin, nonce, digest, chain, body)
        self._tables.append(entry, now)
        self.entries.append(entry)
        return self.head
