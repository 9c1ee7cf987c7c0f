"""The PRAGMAs of octodb: a table of names and what each answers (contract.md §4).

A whitelist of names, so that SQLite's own (``user_version``) are never taken. Holds no state.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import apsw

from octodb.errors import OperationalError, ProgrammingError
from octodb.model.admissions import DENIED
from octodb.model.identities import DESCRIBED, NodeRecord, Role
from octodb.model.node_uri import Address, parse_authorizer
from octodb.model.transactions import decode_body
from octodb.storage import dead_letters
from octodb.storage.changesets import touched_tables
from octodb.storage.meta import Meta, NodeTable, Outbox
from octodb.storage.node_statements import NodeStatements, PragmaAnswer
from octodb.storage.primary_store import LOG_KEEP_DAYS, PrimaryStore, node_rows
from octodb.wire.handshake import PUBLIC_KEY_BYTES

__all__ = ["PRAGMA_NAMES", "answer_pragma"]


class _NodeSide(Protocol):
    """What the PRAGMAs need of a node."""

    role: Role

    def status_dict(self) -> dict[str, Any]: ...
    def onlooker(self) -> AbstractContextManager[apsw.Connection]: ...
    def request_login(self, action: str, data: str) -> None: ...
    def connected_nodes(self) -> dict[int, str]: ...
    def waiting_nodes(self) -> list[tuple[bytes, str, str, str, float]]: ...
    def set_authorizer_service(self, address: Address | None) -> None: ...
    def committed(self) -> None: ...
    def writer(self, timeout_s: float) -> AbstractContextManager[NodeStatements]: ...
    def wait_synced(
        self, status: Callable[[], dict[str, Any]], timeout_s: float | None, look: Callable[[], None]
    ) -> bool: ...
    def check_rows(self, timeout_s: float, look: Callable[[], None]) -> str: ...


_SYNC_WAIT_S: Final = 60.0  # PRAGMA sync_wait without a number
_DESCRIBED: Final = tuple(key for key in DESCRIBED if key != "type")  # it has a column of its own
_ID_MAX: Final = 0x7FFFFFFFFFFFFFFF  # what SQLite can store
_REASON_CHARACTERS_MAX: Final = 500

_Answer = Callable[[_NodeSide, apsw.Connection, str | None], PragmaAnswer]


def answer_pragma(node: _NodeSide, db: apsw.Connection, name: str, argument: str | None) -> PragmaAnswer | None:
    """Column names and rows; None when the PRAGMA is not ours. Raises OperationalError on the wrong kind of node."""
    entry = _PRAGMAS.get(name)
    if entry is None:
        return None
    role, answer = entry
    if role is not None and role is not node.role:
        raise OperationalError(f"PRAGMA {name} is for a {role}; this is a {node.role}")
    if name not in _BY_THE_APPLICATION:
        with node.onlooker() as committed:
            return answer(node, committed, argument)
    return answer(node, db, argument)


def _sync_status(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    # programs search this very text ('"db_is_ready": true'), so its spacing is json.dumps's
    return ("sync_status",), [(json.dumps(node.status_dict()),)]


def _login(action: str) -> _Answer:
    def answer(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
        if argument is None:
            raise ProgrammingError(f"PRAGMA {action} needs the data to send: PRAGMA {action}='…'")
        node.request_login(action, argument)
        return (action,), []

    return answer


def _last_nonce(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    return ("last_nonce",), [(Outbox(db).last_nonce(),)]


def _transaction_status(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    status = Outbox(db).verdict_of(_nonce("transaction_status", argument))
    return ("transaction_status",), [] if status is None else [(status,)]


def _nonce(name: str, argument: str | None) -> int:
    if argument is None or not argument.isascii() or not argument.isdigit():
        raise ProgrammingError(
            f"PRAGMA {name} needs the number of a transaction"
            + ("" if argument is None else f", and {argument!r} is none"),
            hint=f"write PRAGMA {name}(17); PRAGMA last_nonce tells the newest number",
        )
    return min(int(argument.lstrip("0")[:20] or "0"), _ID_MAX)


def _retry_transaction(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    nonce = _nonce("retry_transaction", argument)
    _require_no_transaction(db, "PRAGMA retry_transaction makes a transaction of its own, and one is open")
    if db.readonly("main") or db.pragma("query_only"):
        raise OperationalError(
            "attempt to write a readonly database", hint="retry by a connection that may write (mode, query_only)"
        )
    with node.writer(db.pragma("busy_timeout") / 1000) as statements:
        number = dead_letters.retry(statements, nonce, time.time())
    return ("nonce",), [(number,)]


def _require_no_transaction(db: apsw.Connection, reason: str) -> None:
    """A transaction in which nothing was done yet, as ``autocommit=False`` always has one open, is none."""
    if db.in_transaction and db.txn_state("main") != apsw.SQLITE_TXN_NONE:
        raise OperationalError(reason, hint="COMMIT or ROLLBACK first")


def _drop_transaction(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    dead_letters.drop(db, _nonce("drop_transaction", argument))
    return ("drop_transaction",), []


def _export_transaction(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    return dead_letters.EXPORT_COLUMNS, list(dead_letters.export(db, _nonce("export_transaction", argument)))


def _sync_wait(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    timeout_s = _seconds("sync_wait", argument)
    look = _waiting(node, db, "sync_wait")
    return ("sync_wait",), [(int(node.wait_synced(node.status_dict, timeout_s, look)),)]


def _sync_check(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    timeout_s = _seconds("sync_check", argument)
    return ("sync_check",), [(node.check_rows(timeout_s, _waiting(node, db, "sync_check")),)]


def _waiting(node: _NodeSide, db: apsw.Connection, name: str) -> Callable[[], None]:
    """To wait outside SQLite: nothing is locked meanwhile. What it gives raises when ``conn.interrupt()`` ended the
    wait, as it ends any statement."""
    if node.role is Role.SECONDARY and db.txn_state("main") == apsw.SQLITE_TXN_WRITE:
        raise OperationalError(
            f"PRAGMA {name} would wait in vain: the open transaction keeps what arrives from being stored",
            hint="COMMIT or ROLLBACK first",
        )
    db.execute("SELECT 1").fetchall()  # forgets an interrupt of earlier

    def look() -> None:
        if db.is_interrupted:
            raise OperationalError("interrupted")

    return look


def _seconds(name: str, argument: str | None) -> float:
    if argument is None:
        return _SYNC_WAIT_S
    try:
        seconds = float(argument)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ProgrammingError(
            f"PRAGMA {name} takes a number of seconds, and {argument!r} is none",
            hint=f"write PRAGMA {name}(10), or leave it out for {_SYNC_WAIT_S:.0f} seconds",
        )
    return seconds


def _pending(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    # row by row: the bodies together may be larger than memory
    rows = [
        (row.nonce, _time_text(row.made_at), *_touched(row.body), len(row.body), row.suspended)
        for row in Outbox(db).pending()
    ]
    return ("nonce", "made_at", "tables", "rows", "bytes", "suspended"), list(rows)


def _rejected(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    names = (
        "nonce", "code", "reason", "table", "columns", "made_at", "rejected_at", "tables", "rows", "kept_local_rows",
    )  # fmt: skip
    rows = [
        (
            row.nonce,
            row.rejection.code,
            row.rejection.message,
            row.rejection.table,
            ", ".join(row.rejection.columns),
            _time_text(row.made_at),
            _time_text(row.rejected_at),
            *_touched(row.body),
            row.kept_local,
        )
        for row in Outbox(db).dead_letters()
    ]
    return names, list(rows)


def _nodes(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    names = (
        "node_id", "user_id", "node_type", "state", "public_key", "address", "hostname", "os", "architecture",
        "octodb", "extra", "last_nonce", "created_at", "last_seen", "asked", "waiting_since",
    )  # fmt: skip
    connected = node.connected_nodes()
    rows = []
    for row in node_rows(db):
        info, node_id = row["info"], row["node_id"]
        state = "connected" if node_id in connected else row["state"]
        described = tuple(info.get(key) for key in _DESCRIBED)
        rows.append(
            (
                node_id, row["user_id"], row["node_type"], state, row["public_key"], connected.get(node_id),
                *described, row["last_nonce"], _time_text(row["created_at"]), _time_text(row["last_seen"]),
                None, None,
            )
        )  # fmt: skip
    for public_key, info_text, address, asked, since in node.waiting_nodes():
        info = json.loads(info_text)
        described = tuple(info.get(key) for key in _DESCRIBED)
        waiting = 0, None, None, asked or None, _time_text(since)
        rows.append((0, 0, info.get("type"), "waiting", public_key.hex(), address, *described, *waiting))
    return names, rows


def _authorize_user(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    key, user = _key_and_rest("authorize_user", argument, "user_id")
    if _is_refusal(user):
        return _refused("authorize_user", node, db, key, user)
    if not user.isascii() or not user.isdigit() or int(user) > _ID_MAX:
        raise ProgrammingError("the user id is a number", hint="0 makes a new user, -1 refuses the device")
    return _admitted("authorize_user", node, PrimaryStore(db, time.time).authorize(key, int(user), Role.SECONDARY))


def _authorize_node(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    key, role = _key_and_rest("authorize_node", argument, "secondary")
    if _is_refusal(role):
        return _refused("authorize_node", node, db, key, role)
    if role not in set(Role):
        raise ProgrammingError(f"{role!r} is no role of a node", hint="write primary or secondary; -1 refuses it")
    return _admitted("authorize_node", node, PrimaryStore(db, time.time).authorize(key, None, Role(role)))


def _is_refusal(text: str) -> bool:
    return text.partition(":")[0].strip() == str(DENIED)


def _refused(name: str, node: _NodeSide, db: apsw.Connection, key: bytes, text: str) -> PragmaAnswer:
    """``text``: -1, and behind a colon the reason that the user reads."""
    reason = text.partition(":")[2].strip()[:_REASON_CHARACTERS_MAX] or "not authorized"
    PrimaryStore(db, time.time).refuse(key, reason)
    node.committed()
    return ("node_id", "user_id"), []


def _admitted(name: str, node: _NodeSide, record: NodeRecord) -> PragmaAnswer:
    node.committed()
    return ("node_id", "user_id"), [(record.node_id, record.user_id)]


def _revoke_node(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    text = (argument or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 2 * PUBLIC_KEY_BYTES:
        which: bytes | int = min(int(text), _ID_MAX)
    else:
        which = _public_key(text, "PRAGMA revoke_node='<public key>', or a node id")
    PrimaryStore(db, time.time).revoke(which)
    node.committed()
    return ("revoke_node",), []


def _key_and_rest(name: str, argument: str | None, rest: str) -> tuple[bytes, str]:
    form = f"PRAGMA {name}='<public key>:<{rest}>'"
    key, colon, value = (argument or "").strip().partition(":")
    if not colon:
        raise ProgrammingError(f"PRAGMA {name} needs a public key and what it is for", hint=f"write {form}")
    return _public_key(key, form), value.strip()


def _public_key(text: str, form: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise ProgrammingError(
            f"a public key is {2 * PUBLIC_KEY_BYTES} hexadecimal digits, as PRAGMA nodes shows it", hint=f"write {form}"
        )
    return key


def _log_keeps(key: str, default: float) -> _Answer:
    def answer(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
        meta = Meta(db)
        if argument is not None:
            text = argument.strip()
            if not text.isascii() or not text.replace(".", "", 1).isdigit() or (default == 0 and not text.isdigit()):
                raise ProgrammingError(f"PRAGMA {key} needs a number that is not negative", hint=f"PRAGMA {key} = 30")
            meta.set(**{key: float(text) if default else int(text)})
        return (key,), [(meta.get(key, default),)]

    return answer


def _sign_in_limit(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    store = PrimaryStore(db, time.time)
    if argument is not None:
        text = argument.strip()
        if not text.isascii() or not text.isdigit() or int(text) > _ID_MAX:
            hint = "PRAGMA sign_in_limit = 20 (0: addresses are not limited)"
            raise ProgrammingError("PRAGMA sign_in_limit needs a number that is not negative", hint=hint)
        store.set_sign_in_limit(int(text))
        node.committed()
    return ("sign_in_limit",), [(store.sign_in_limit(),)]


def _node_info(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    """Text of the application about this node; shown as ``extra`` in PRAGMA nodes from the next connection on."""
    meta = Meta(db)
    if argument is None:
        return ("node_info",), [(meta.get("node_info", ""),)]
    meta.set(node_info=argument)
    if node.role is Role.PRIMARY:
        NodeTable(db).set_extra(1, argument)
    return ("node_info",), []


def _touched(body: bytes) -> tuple[str, int]:
    """Names of the tables a body touches and how many rows."""
    counts: dict[str, int] = {}
    for op in decode_body(body).ops:
        if isinstance(op.payload, bytes):
            for table, rows in touched_tables(op.payload).items():
                counts[table] = counts.get(table, 0) + rows
    return sys.intern(", ".join(counts)), sum(counts.values())


def _time_text(seconds: float | None) -> str | None:
    """ISO 8601 in UTC, as SQLite's date functions read it."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _authorizer_service(node: _NodeSide, db: apsw.Connection, argument: str | None) -> PragmaAnswer:
    """Without an argument: the one that is asked, no row for none. An empty one: ask none."""
    if argument is not None:
        text = argument.strip()
        node.set_authorizer_service(parse_authorizer(text, "authorizer_service") if text else None)
    found = node.status_dict().get("authorizer")
    return ("authorizer_service",), [] if found is None else [(found["service"],)]


_PRAGMAS: Final[dict[str, tuple[Role | None, _Answer]]] = {
    "sync_status": (None, _sync_status),
    "user_signup": (Role.SECONDARY, _login("user_signup")),
    "user_login": (Role.SECONDARY, _login("user_login")),
    "last_nonce": (Role.SECONDARY, _last_nonce),
    "transaction_status": (Role.SECONDARY, _transaction_status),
    "pending_transactions": (Role.SECONDARY, _pending),
    "rejected_transactions": (Role.SECONDARY, _rejected),
    "retry_transaction": (Role.SECONDARY, _retry_transaction),
    "drop_transaction": (Role.SECONDARY, _drop_transaction),
    "export_transaction": (Role.SECONDARY, _export_transaction),
    "sync_wait": (None, _sync_wait),
    "sync_check": (Role.SECONDARY, _sync_check),
    "nodes": (Role.PRIMARY, _nodes),
    "node_info": (None, _node_info),
    "authorize_user": (Role.PRIMARY, _authorize_user),
    "authorize_node": (Role.PRIMARY, _authorize_node),
    "revoke_node": (Role.PRIMARY, _revoke_node),
    "log_keep_days": (Role.PRIMARY, _log_keeps("log_keep_days", LOG_KEEP_DAYS)),
    "log_keep_entries": (Role.PRIMARY, _log_keeps("log_keep_entries", 0)),
    "sign_in_limit": (Role.PRIMARY, _sign_in_limit),
    "authorizer_service": (Role.PRIMARY, _authorizer_service),
}
# These write, or depend on what the application's connection is doing. The others show what is committed, whatever
# transaction is open.
_BY_THE_APPLICATION: Final = frozenset(
    {"node_info", "authorize_user", "authorize_node", "revoke_node", "log_keep_days", "log_keep_entries"}
    | {"sign_in_limit"}
    | {"retry_transaction", "drop_transaction", "sync_wait", "sync_check"}
    | {"authorizer_service"}  # it waits for the engine
)
PRAGMA_NAMES: Final = frozenset(_PRAGMAS)
