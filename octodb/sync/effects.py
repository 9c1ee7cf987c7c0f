"""What the state machines ask their caller to do. Values only: an effect never acts by itself (design.md §3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from octodb.model.identities import AuthMode, NodeRecord, Role
from octodb.model.node_uri import Address
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.transactions import Rejection
from octodb.wire.messages import Adopted, AskRows, AskSums, Claim, Message, PushedTransaction, WireEntry

__all__ = [
    "AbandonSnapshot",
    "Admit",
    "AdoptCopy",
    "AppendPush",
    "AskAuthorizer",
    "BringIn",
    "CloseConnection",
    "ComputeSums",
    "ConfirmSession",
    "ConfirmVerdicts",
    "Dial",
    "Effect",
    "FetchRows",
    "FindNode",
    "LoadSnapshotPart",
    "Notify",
    "OpenSession",
    "OpenSnapshot",
    "ReadClaims",
    "ReadEntries",
    "ReadHead",
    "ReadOutbox",
    "ReadSnapshot",
    "ReadSums",
    "RepairRange",
    "Send",
    "StoreAdoption",
    "StoreRevoked",
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
class StoreRevoked:
    """Keep in the file that this device was cut off, and why: it says so offline, too. No answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class StoreWelcome:
    """Answer with ``DeviceSync.welcome_stored`` once it is on the disk."""

    node_id: int
    user_id: int
    session_token: bytes = field(repr=False)
    network_id: bytes


@dataclass(frozen=True, slots=True)
class ReadClaims:
    """Answer with ``DeviceSync.claims_read``: a key pair of its own for a copied file, and what the file claims."""

    connection: int


@dataclass(frozen=True, slots=True)
class StoreAdoption:
    """Take the new identity, and answer with ``DeviceSync.adoption_stored`` once it is on the disk."""

    adopted: Adopted


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
    acceptances: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadSnapshotPart:
    """Answer with ``DeviceSync.snapshot_loaded``. ``header`` is that of the download the part belongs to.

    ``again``: it replaces what is here. ``primary_nonce``: the newest transaction of this device that the primary
    knows.
    """

    connection: int
    header: SnapshotHeader
    part: SnapshotHeader | SnapshotRows | SnapshotTail
    again: bool = False
    primary_nonce: int = 0


@dataclass(frozen=True, slots=True)
class ReadSums:
    """Answer with ``DeviceSync.sums_read``: our sums where the device is at ``seq`` and has no queue.

    ``table`` '': of all tables. Otherwise of the parts of a range that ``bounds`` cut.
    """

    seq: int
    table: str
    low: list[Any]
    high: list[Any]
    bounds: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class RepairRange:
    """Make the rows of a range those given, if the device is at ``seq`` and has no queue; answer with
    ``DeviceSync.repaired``."""

    seq: int
    table: str
    low: list[Any]
    high: list[Any]
    columns: tuple[str, ...]
    rows: list[list[Any]]


@dataclass(frozen=True, slots=True)
class AbandonSnapshot:
    """The download broke off and will not be resumed: forget what was loaded."""


# --- of a primary -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindNode:
    """Answer with ``PrimarySession.node_found``."""

    public_key: bytes


@dataclass(frozen=True, slots=True)
class AskAuthorizer:
    """Answer with ``PrimarySession.authorized``. action: 'user_signup', 'user_login' or 'new_node'."""

    action: str
    data: str = field(repr=False)
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
    presented: bytes = field(repr=False)
    node_info: str


@dataclass(frozen=True, slots=True)
class AdoptCopy:
    """Give a copied file an identity of its own, make a token, and answer with ``PrimarySession.adopted``."""

    node: NodeRecord
    public_key: bytes
    node_info: str
    claims: list[Claim]


@dataclass(frozen=True, slots=True)
class ConfirmSession:
    """Answer with ``PrimarySession.session_confirmed``."""

    node_id: int
    user_id: int
    token: bytes = field(repr=False)
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
class ComputeSums:
    """Answer with ``PrimarySession.sums_computed``."""

    user_id: int
    asked: AskSums


@dataclass(frozen=True, slots=True)
class FetchRows:
    """Answer with ``PrimarySession.rows_fetched``."""

    user_id: int
    asked: AskRows


@dataclass(frozen=True, slots=True)
class ReadHead:
    """Tell the sessions of everything that is in the log now, and answer with ``PrimarySession.head_read``."""


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """Answer with ``PrimarySession.snapshot_opened``. ``token``: of a download to resume, if it is still kept."""

    user_id: int
    token: bytes
    parts: int


@dataclass(frozen=True, slots=True)
class ReadSnapshot:
    """Answer with ``PrimarySession.snapshot_read``. ``number``: 1 for the first part after the header."""

    number: int


Effect = (
    Send
    | CloseConnection
    | Notify
    | Dial
    | StoreRevoked
    | StoreWelcome
    | ReadClaims
    | StoreAdoption
    | ReadOutbox
    | BringIn
    | LoadSnapshotPart
    | ReadSums
    | RepairRange
    | AbandonSnapshot
    | FindNode
    | AskAuthorizer
    | Admit
    | OpenSession
    | AdoptCopy
    | ConfirmSession
    | ConfirmVerdicts
    | AppendPush
    | ReadEntries
    | ComputeSums
    | FetchRows
    | ReadHead
    | OpenSnapshot
    | ReadSnapshot
)
