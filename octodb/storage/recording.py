"""What a COMMIT adds to the transaction it commits: the outbox row on a device, the log entry on a primary.

Runs inside the application's own write transaction; begins and ends none (design.md §4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import apsw

from octodb.errors import OperationalError
from octodb.model.identities import ADMIN_ID, Identity, row_id_range
from octodb.model.owners import EVERYBODY
from octodb.model.transactions import BODY_BYTES_MAX, Op, body_hash, encode_body
from octodb.storage.capture import CapturedDdl, CapturedOp
from octodb.storage.meta import Meta, Outbox
from octodb.storage.schema_rules import lossy_tables

__all__ = ["AdminLog", "DeviceRecorder", "PrimaryRecorder", "Recorder"]


class Recorder(Protocol):
    """Writes down a transaction that is about to be committed."""

    def record(self, ops: list[CapturedOp]) -> int | None:
        """Store ``ops``; return what ``forget`` needs, None when there is nothing to send."""

    def forget(self, number: int) -> None:
        """COMMIT failed and the transaction stays open: take back what ``record`` stored."""

    def invalidate(self) -> None:
        """Another connection committed, or a transaction was rolled back: what was remembered may be wrong."""


class AdminLog(Protocol):
    """The part of TxnLog that a primary's own COMMIT needs."""

    def append_admin(self, parts: dict[int | str, bytes]) -> int:
        """Append one entry with a part for each owner; return its position."""

    def retract_admin(self, seq: int) -> None:
        """Remove the entry just appended in this transaction."""


class DeviceRecorder:
    """Puts a device's transaction into the outbox. ``clock`` gives seconds since the epoch."""

    def __init__(self, db: apsw.Connection, identity: Identity, clock: Callable[[], float]) -> None:
        self._meta = Meta(db)
        self._outbox = Outbox(db)
        self._user_id = identity.user_id
        self._own_ids = identity.row_ids
        self._clock = clock
        self._last: tuple[int, int] | None = None  # last nonce, newest rejected one
        self.schema_seq = 0

    def record(self, ops: list[CapturedOp]) -> int | None:
        body_ops: list[Op] = []
        undo: bytes | None = None
        local = b""
        for op in ops:
            assert not isinstance(op, CapturedDdl), "a device records no schema changes"
            if self._user_id in op.parts:
                body_ops.append(Op(0, op.parts[self._user_id]))
            undo, local = op.undo, op.local
            keep_deleted_ids(self._meta, op.deleted_ids, self._own_ids)
        if not body_ops:
            return None
        body = encode_body(self.schema_seq, body_ops)
        _check_size(len(body))
        last, rejected = self._last or (self._outbox.last_nonce(), self._outbox.last_rejected())
        self._outbox.append(last + 1, body, body_hash(body), undo, local or None, self._clock(), rejected)
        self._last = (last + 1, rejected)
        return last + 1

    def forget(self, number: int) -> None:
        self._outbox.drop(number)
        self._last = None

    def invalidate(self) -> None:
        self._last = None


class PrimaryRecorder:
    """Puts a primary's own transaction straight into the log: its COMMIT is the ordering."""

    def __init__(self, db: apsw.Connection, log: AdminLog) -> None:
        self._meta = Meta(db)
        self._log = log
        self._own_ids = row_id_range(ADMIN_ID)

    def record(self, ops: list[CapturedOp]) -> int | None:
        parts: dict[int | str, list[Op]] = {}
        changed: set[str] = set()
        has_ddl = False
        for position, op in enumerate(ops):
            if isinstance(op, CapturedDdl):
                has_ddl = True
                changed |= lossy_tables(op.facts)
                parts.setdefault(EVERYBODY, []).append(Op(position, op.text))
                continue
            keep_deleted_ids(self._meta, op.deleted_ids, self._own_ids)
            for owner, changeset in op.parts.items():
                parts.setdefault(owner, []).append(Op(position, changeset))
        if not parts:
            return None
        bodies = {owner: encode_body(0, part) for owner, part in parts.items()}
        for_all = len(bodies.get(EVERYBODY, b""))
        for owner, body in bodies.items():
            # a device gets everybody's part and its user's in one message
            _check_size(for_all if owner == EVERYBODY else for_all + len(body))
        seq = self._log.append_admin(bodies)
        if has_ddl:
            self._meta.record_schema_changes(changed, seq)
            self._meta.set(schema_seq=seq)
        return seq

    def forget(self, number: int) -> None:
        self._log.retract_admin(number)

    def invalidate(self) -> None:
        """Head and running hashes are read anew for each entry: nothing is remembered."""


def _check_size(size: int) -> None:
    """A body that no message could carry would jam the line for everything behind it."""
    if size > BODY_BYTES_MAX:
        raise OperationalError(
            f"this transaction is {size:,} bytes; a transaction may have {BODY_BYTES_MAX:,}",
            hint="roll back and write it in several transactions",
        )


def keep_deleted_ids(meta: Meta, deleted: tuple[tuple[str, int], ...], own_ids: tuple[int, int]) -> None:
    """Remember the highest deleted row id of each table in our range: the table no longer shows it."""
    highest: dict[str, int] = {}
    for table, row_id in deleted:
        if own_ids[0] <= row_id <= own_ids[1]:
            highest[table] = max(row_id, highest.get(table, 0))
    for table, row_id in highest.items():
        meta.keep_row_id(table, row_id)
