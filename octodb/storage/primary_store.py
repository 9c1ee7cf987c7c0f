"""A primary's file as the engine sees it, apart from the log: which nodes it knows, their sessions, their admission.

Every method is one short write transaction on the engine's connection, or part of the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import apsw

from octodb.errors import ConfigError, ProgrammingError
from octodb.model.file_key import Secret
from octodb.model.identities import ADMIN_ID, PROVISIONAL_ID_MIN, AuthMode, NodeRecord, Role
from octodb.storage.meta import LogTables, Meta, NodeTable
from octodb.storage.row_id_ranges import is_range_used

__all__ = ["LOG_KEEP_DAYS", "SIGN_IN_LIMIT", "PrimaryStore", "node_rows"]

_T = TypeVar("_T")
# Devices that come back later download anew and keep their queue.
LOG_KEEP_DAYS: Final = 90.0
# Sign-ins from one address that may fail before the next have to wait.
SIGN_IN_LIMIT: Final = 20


class PrimaryStore:
    """``clock`` gives seconds since the epoch. ``db`` may be an application's connection, in a transaction or not."""

    def __init__(self, db: apsw.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        self._meta = Meta(db)
        self._nodes = NodeTable(db)
        self._log = LogTables(db)

    def log_keeps(self) -> tuple[float, int]:
        """How many days and entries the log goes back; 0 entries: however many there are."""
        return float(self._meta.get("log_keep_days", LOG_KEEP_DAYS)), int(self._meta.get("log_keep_entries", 0))

    def certificate(self, make: Callable[[], tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """This primary's own certificate and private key (PEM), which devices pin; ``make`` gives them the first
        time."""

        def work() -> tuple[bytes, bytes]:
            if self._meta.get("tls_private_key") is None:  # another process may have been first
                chain, private_key = make()
                self._meta.set(tls_certificate=chain, tls_private_key=private_key)
            return self._meta.get("tls_certificate"), self._meta.get("tls_private_key")

        return self._write(work)

    def note_network_key(self, secret: Secret | None) -> None:
        """A primary that had a network key is not served without one by mistake: everybody could join. Raises
        ConfigError; an empty one says that this is meant."""
        had = bool(self._meta.get("has_network_key", 0))
        if had and secret is None:
            raise ConfigError(
                "this primary has a network key, and none is given: whoever reaches it could join",
                hint="give it: network_key=… or OCTODB_NETWORK_KEY; network_key= with nothing behind it drops it",
            )
        if had is not bool(secret):
            self._write(lambda: self._meta.set(has_network_key=int(bool(secret))))

    def sign_in_limit(self) -> int:
        """How many sign-ins from one address may fail before the next have to wait; 0: any number."""
        return int(self._meta.get("sign_in_limit", SIGN_IN_LIMIT))

    def set_sign_in_limit(self, count: int) -> None:
        def work() -> None:
            self._meta.set(sign_in_limit=count)
            self._meta.bump_generation()

        self._write(work)

    def values(self) -> dict[str, Any]:
        return self._meta.get_all()

    def find(self, public_key: bytes) -> NodeRecord | None:
        return self._nodes.by_key(public_key)

    def admit(self, public_key: bytes, user_id: int, node_type: Role, auth: AuthMode, info: str) -> NodeRecord:
        """Give a node its ids for ever. ``user_id`` 0: a new user; without users the node is its own."""
        return self._write(lambda: self._admit(public_key, user_id, node_type, auth, info))

    def _admit(
        self, public_key: bytes, user_id: int, node_type: Role, auth: AuthMode, info: str, node_id: int = 0
    ) -> NodeRecord:
        known = self._nodes.by_key(public_key)
        if known is not None:
            return known
        if auth is AuthMode.USER:
            user = self._meta.next_identity(user_id) if node_type is Role.SECONDARY else ADMIN_ID
            node_id = self._node_id(node_id)
        else:
            user = node_id = self._node_id(node_id)
        record = NodeRecord(node_id, user, node_type, public_key)
        self._nodes.add(record, info, self._clock())
        self._meta.forget_refusals([public_key])
        return record

    def _node_id(self, wanted: int) -> int:
        """The next node id, or the one that somebody else chose, if no node has it."""
        if wanted and not ADMIN_ID < wanted < PROVISIONAL_ID_MIN:
            raise ProgrammingError(f"{wanted} cannot be a node id", hint=f"those are below {PROVISIONAL_ID_MIN:,}")
        if wanted and self._nodes.by_id(wanted) is not None:
            raise ProgrammingError(f"node {wanted} is another device")
        if wanted:
            return self._meta.next_identity(wanted)
        return self._next_node_id()

    def _next_node_id(self) -> int:
        """Rows that applications numbered themselves may lie in the range of a node that is still to come, which would
        meet them with its first rows."""
        node_id = self._meta.next_identity()
        while is_range_used(self._db, node_id):
            node_id = self._meta.next_identity()
        return node_id

    def authorize(
        self, public_key: bytes, user_id: int | None, node_type: Role, *, info: str = "{}", node_id: int = 0
    ) -> NodeRecord:
        """Admit a device by its key, whether it waits for that, comes later, or is known already.

        ``user_id``: whose it is on a primary with auth=user (0: a new user's), None elsewhere. ``node_id``: the one it
        gets; 0: the next.
        Raises ProgrammingError when the mode asks for the other PRAGMA, or the key or the id is another's.
        """
        auth = AuthMode(self._meta.get("auth"))
        if (user_id is None) != (auth is not AuthMode.USER or node_type is Role.PRIMARY):
            other = "authorize_user" if user_id is None else "authorize_node"
            what = "for a user" if auth is AuthMode.USER else "as a node, not for a user"
            raise ProgrammingError(
                f"this primary has auth={auth}: a device is admitted {what}", hint=f"use PRAGMA {other}"
            )

        def work() -> NodeRecord:
            record = self._admit(public_key, user_id or 0, node_type, auth, info, node_id)
            if user_id and record.user_id != user_id:
                raise ProgrammingError(f"that device belongs to user {record.user_id} already, for ever")
            self._meta.bump_generation()
            return record

        return self._write(work)

    def refuse(self, public_key: bytes, reason: str) -> None:
        """Say no to a device that waits, or to its next request when it is away. Raises ProgrammingError where nobody
        is asked, or the device was let in already."""

        def work() -> None:
            if AuthMode(self._meta.get("auth")) is AuthMode.NONE:
                raise ProgrammingError("this primary has auth=none: nobody is asked")
            if self._nodes.by_key(public_key) is not None:
                raise ProgrammingError("that device is admitted already", hint="PRAGMA revoke_node cuts it off")
            self._meta.add_refusal(public_key, reason)
            self._meta.bump_generation()

        self._write(work)

    def refusals(self) -> dict[bytes, str]:
        """Devices that were refused and have not been told, and why."""
        return self._meta.refusals()

    def forget_refusals(self, public_keys: list[bytes]) -> None:
        """They were told."""
        self._write(lambda: self._meta.forget_refusals(public_keys))

    def revoke(self, node: bytes | int) -> None:
        """Cut a node off for good, by its public key or its id. Raises ProgrammingError for one that is not known."""

        def work() -> None:
            record = self._nodes.by_key(node) if isinstance(node, bytes) else self._nodes.by_id(node)
            if record is None:
                raise ProgrammingError("no such node is known here", hint="PRAGMA nodes lists them")
            if record.node_id == ADMIN_ID:
                raise ProgrammingError("this primary cannot revoke itself")
            self._nodes.revoke(record.node_id)
            self._meta.bump_generation()

        self._write(work)

    def generation(self) -> int:
        """Moves when ``authorize``, ``refuse`` or ``revoke`` ran on any connection of any process."""
        return int(self._meta.get("generation", 0))

    def find_all(self, public_keys: list[bytes]) -> list[NodeRecord]:
        """Those of the nodes that are known."""
        return [record for key in public_keys if (record := self._nodes.by_key(key)) is not None]

    def new_user_id(self) -> int:
        """A user id that was never given before."""
        return int(self._write(self._meta.next_identity))

    def open_session(self, node_id: int, presented: bytes, token: bytes, info: str) -> bool:
        """Give a session token, keeping the one presented until the new one is confirmed (design.md §8).

        False, and nothing changed: the presented token is unknown, so the file is a copy or an old restore.
        """

        def work() -> bool:
            current, previous = self._nodes.tokens(node_id)
            restored = not current and previous is None  # from a backup: it cannot know the newest token
            if not restored and presented != current and (previous is None or presented != previous):
                return False
            self._nodes.set_tokens(node_id, token, presented, info, self._clock())
            return True

        return self._write(work)

    def adopt_copy(
        self, original: NodeRecord, public_key: bytes, token: bytes, info: str, claims: list[tuple[int, bytes, int]]
    ) -> tuple[NodeRecord | None, list[tuple[int, int]], int]:
        """Give a copied file an identity of its own under the same user (design.md §8).

        ``claims``: (nonce, hash, seq) of its transactions. Returns its record (None: the key is another node's),
        (nonce, seq) of the claims that this primary has, and the head of its log.
        """

        def work() -> tuple[NodeRecord | None, list[tuple[int, int]], int]:
            now = self._nodes.by_id(original.node_id)
            if now is None or now.revoked:
                return None, [], 0  # meanwhile: revoking it is revoking its copies
            record = self._nodes.by_key(public_key)
            if record is None:
                record = NodeRecord(self._next_node_id(), original.user_id, original.node_type, public_key)
                self._nodes.add(record, info, self._clock())
                self._nodes.set_copy_of(record.node_id, original.node_id)
            elif self._nodes.copy_of(record.node_id) != original.node_id or record.last_nonce:
                return None, [], 0
            self._nodes.set_tokens(record.node_id, token, b"", info, self._clock())
            known = [found for claim in claims if (found := self._known(original.node_id, *claim)) is not None]
            return record, known, self._log.head()

        return self._write(work)

    def _known(self, node_id: int, nonce: int, digest: bytes, seq: int) -> tuple[int, int] | None:
        """(nonce, seq) when the node's transaction is in the log; or was, in the part that is cut off."""
        found = self._log.took_effect(node_id, nonce, digest)
        if found is not None:
            return (nonce, found) if found else None
        record = self._nodes.by_id(node_id)
        judged = record is not None and nonce <= record.last_nonce
        return (nonce, seq) if judged and 0 < seq <= self._log.floor() else None

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
        self._log.forget_verdicts(node_id, confirmed_nonce)

    def _write(self, work: Callable[[], _T]) -> _T:
        if self._db.in_transaction:
            return work()  # an application's: it commits when it does
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
