"""What the state machines ask their caller to do. Values only: an effect never acts by itself (design.md §3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from octodb.model.identities import AuthMode, Role
from octodb.model.node_uri import Address
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.transactions import Rejection
from octodb.wire.messages import Message, PushedTransaction, WireEntry

__all__ = [
    "AbandonSnapshot",
    "Admit",
    "AppendPush",
    "AskAuthorizer",
    "BringIn",
    "CloseConnection",
    "ConfirmSession",
    "ConfirmVerdicts",
    "Dial",
    "Effect",
    "FindNode",
    "LoadSnapshotPart",
    "Notify",
    "OpenSession",
    "OpenSnapshot",
    "ReadEntries",
    "ReadHead",
    "ReadOutbox",
    "ReadSnapshot",
    "Send",
    "StoreWelcome",
]


@dataclass(frozen=True, slots=True)
class Send:
    message: Message


@dataclass(frozen=True, slots=True)
class CloseConnection:
    reason: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the application: ``event`` is one of the names of ``Connection.on``."""

    event: str
    info: dict[str, Any]


# --- of a device ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    address: Address


@dataclass(frozen=True, slots=True)
class StoreWelcome:
    """Answer with ``DeviceSync.welcome_stored`` once it is on the disk."""

    node_id: int
    user_id: int
    session_token: bytes


@dataclass(frozen=True, slots=True)
class ReadOutbox:
    """Answer with ``DeviceSync.outbox_read``. ``connection`` tells answers of a lost connection apart."""

    connection: int
    after: int
    count_max: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class BringIn:
    """Answer with ``DeviceSync.brought_in``."""

    connection: int
    entries: list[WireEntry]
    rejections: list[tuple[int, Rejection]]
    through: int


@dataclass(frozen=True, slots=True)
class LoadSnapshotPart:
    """Answer with ``DeviceSync.snapshot_loaded``. ``header`` is that of the download the part belongs to."""

    connection: int
    header: SnapshotHeader
    part: SnapshotHeader | SnapshotRows | SnapshotTail


@dataclass(frozen=True, slots=True)
class AbandonSnapshot:
    """The download broke off: roll back what was loaded."""


# --- of a primary -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindNode:
    """Answer with ``PrimarySession.node_found``."""

    public_key: bytes


@dataclass(frozen=True, slots=True)
class AskAuthorizer:
    """Answer with ``PrimarySession.authorized``. action: 'user_signup', 'user_login' or 'new_node'."""

    action: str
    data: str
    public_key: bytes
    node_info: str


@dataclass(frozen=True, slots=True)
class Admit:
    """Answer with ``PrimarySession.node_found``. ``user_id`` 0: a new user."""

    public_key: bytes
    user_id: int
    node_type: Role
    auth: AuthMode
    node_info: str


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Make a token, keep it, and answer with ``PrimarySession.session_opened``."""

    node_id: int
    presented: bytes
    node_info: str


@dataclass(frozen=True, slots=True)
class ConfirmSession:
    """Answer with ``PrimarySession.session_confirmed``."""

    node_id: int
    user_id: int
    token: bytes
    confirmed_nonce: int
    epoch: bytes
    cursor: int
    chain_user: bytes
    chain_all: bytes


@dataclass(frozen=True, slots=True)
class ConfirmVerdicts:
    node_id: int
    confirmed_nonce: int


@dataclass(frozen=True, slots=True)
class AppendPush:
    """Answer with ``PrimarySession.appended``."""

    node_id: int
    user_id: int
    transactions: list[PushedTransaction]


@dataclass(frozen=True, slots=True)
class ReadEntries:
    """Answer with ``PrimarySession.entries_read``."""

    user_id: int
    after: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Tell the sessions of everything that is in the log now, and answer with ``PrimarySession.head_read``."""


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """Answer with ``PrimarySession.snapshot_read``, the header first."""

    user_id: int


@dataclass(frozen=True, slots=True)
class ReadSnapshot:
    """Answer with ``PrimarySession.snapshot_read``: the next part."""


Effect = (
    Send
    | CloseConnection
    | Notify
    | Dial
    | StoreWelcome
    | ReadOutbox
    | BringIn
    | LoadSnapshotPart
    | AbandonSnapshot
    | FindNode
    | AskAuthorizer
    | Admit
    | OpenSession
    | ConfirmSession
    | ConfirmVerdicts
    | AppendPush
    | ReadEntries
    | ReadHead
    | OpenSnapshot
    | ReadSnapshot
)
