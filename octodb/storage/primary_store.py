"""A primary's file as the engine sees it, apart from the log: which nodes it knows, their sessions, their admission.

Every method is one short write transaction on the engine's connection, or part of the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import apsw

from octodb.model.identities import AuthMode, NodeRecord, Role
from octodb.storage.meta import LogTables, Meta, NodeTable

__all__ = ["PrimaryStore", "node_rows"]

_T = TypeVar("_T")


class PrimaryStore:
    """``clock`` gives seconds since the epoch."""

    def __init__(self, db: apsw.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        self._meta = Meta(db)
        self._nodes = NodeTable(db)
        self._log = LogTables(db)

    def values(self) -> dict[str, Any]:
        return self._meta.get_all()

    def find(self, public_key: bytes) -> NodeRecord | None:
        return self._nodes.by_key(public_key)

    def admit(self, public_key: bytes, user_id: int, node_type: Role, auth: AuthMode, info: str) -> NodeRecord:
        """Give a node its ids for ever. ``user_id`` 0: a new user; without users the node is its own."""

        def work() -> NodeRecord:
            known = self._nodes.by_key(public_key)
            if known is not None:
                return known
            if auth is AuthMode.USER:
                user = self._meta.next_identity(user_id) if node_type is Role.SECONDARY else 1
                node_id = self._meta.next_identity()
            else:
                node_id = self._meta.next_identity()
                user = node_id
            record = NodeRecord(node_id, user, node_type, public_key)
            self._nodes.add(record, info, self._clock())
            return record

        return self._write(work)

    def new_user_id(self) -> int:
        """A user id that was never given before."""
        return int(self._write(self._meta.next_identity))

    def open_session(self, node_id: int, presented: bytes, token: bytes, info: str) -> bool:
        """Give a session token, keeping the one presented until the new one is confirmed (design.md §8).

        False, and nothing changed: the presented token is unknown, so the file is a copy or an old restore.
        """

        def work() -> bool:
            current, previous = self._nodes.tokens(node_id)
            if presented != current and (previous is None or presented != previous):
                return False
            self._nodes.set_tokens(node_id, token, presented, info, self._clock())
            return True

        return self._write(work)

    def confirm_session(self, node_id: int, token: bytes, confirmed_nonce: int) -> bool:
        """The device has stored ``token``: the one before is worth nothing from now on."""

        def work() -> bool:
            if self._nodes.tokens(node_id)[0] != token:
                return False
            self._nodes.confirm_token(node_id)
            self._confirm(node_id, confirmed_nonce)
            return True

        return self._write(work)

    def confirm_verdicts(self, node_id: int, confirmed_nonce: int) -> None:
        """Verdicts up to ``confirmed_nonce`` are stored on the device: they need not be told again."""
        self._write(lambda: self._confirm(node_id, confirmed_nonce))

    def _confirm(self, node_id: int, confirmed_nonce: int) -> None:
        self._nodes.set_confirmed(node_id, confirmed_nonce)
        self._log.forget_refusals(node_id, confirmed_nonce)

    def _write(self, work: Callable[[], _T]) -> _T:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            result = work()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return result


def node_rows(db: apsw.Connection) -> list[dict[str, Any]]:
    """Every known node, for PRAGMA nodes. ``info`` is what the device said of itself."""
    return [
        {
            "node_id": node_id,
            "user_id": user_id,
            "node_type": node_type,
            "public_key": bytes(public_key).hex(),
            "last_nonce": last_nonce,
            "state": "revoked" if revoked else "known",
            "info": json.loads(info),
            "created_at": created_at,
            "last_seen": last_seen,
        }
        for node_id, user_id, node_type, public_key, last_nonce, revoked, info, created_at, last_seen in NodeTable(
            db
        ).all()
    ]
