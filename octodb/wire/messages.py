"""The messages between a device and a primary, and their codec (docs/protocol.md, design.md §9).

Each message is a msgpack array whose first item is the message's number. Numbers are never reused; fields are
only added at the end, with a default. Owns shapes and limits of single fields; decides nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from octodb.errors import ProtocolError

__all__ = [
    "HANDSHAKE_BYTES_MAX",
    "IS_COPY",
    "KNOWS_COPIES",
    "KNOWS_DOWNLOADING_AGAIN",
    "MESSAGE_BYTES_MAX",
    "NOT_KNOWN",
    "NOT_TOLD",
    "PROTOCOL_VERSION",
    "Adopt",
    "Adopted",
    "Applied",
    "AskHead",
    "AskRows",
    "AskSums",
    "Challenge",
    "Claim",
    "Copied",
    "Denied",
    "Entries",
    "Head",
    "Hello",
    "Login",
    "Message",
    "NetworkProof",
    "Ping",
    "Pong",
    "ProblemReport",
    "Prove",
    "Push",
    "PushedTransaction",
    "RangeRows",
    "Revoked",
    "Signup",
    "SnapshotChunk",
    "SnapshotEnd",
    "SnapshotStart",
    "Subscribe",
    "Sums",
    "Unauthorized",
    "Verdict",
    "Verdicts",
    "Welcome",
    "WireEntry",
    "decode_message",
    "encode_message",
]

PROTOCOL_VERSION: Final = 1
# In a Pong: the device is behind, or it was a device that was asked.
NOT_KNOWN: Final = -1
# In a PushedTransaction of a device that does not tell.
NOT_TOLD: Final = -1
# Bits of Hello.features: the device understands Copied; it understands a snapshot that it did not ask for; its file is
# a copy, and it asks for an identity of its own.
KNOWS_COPIES: Final = 1
KNOWS_DOWNLOADING_AGAIN: Final = 2
IS_COPY: Final = 4
# Before a peer has proved its key it may send hello, prove and a login text, nothing larger.
HANDSHAKE_BYTES_MAX: Final = 64 * 1024
# A whole transaction body (BODY_BYTES_MAX) and its envelope, or a batch of entries with one such body.
MESSAGE_BYTES_MAX: Final = 72 * 1024 * 1024


# What a copied file claims: its queue and what it keeps of what was accepted. Each is looked for in one transaction.
CLAIMS_MAX: Final = 500_000

# Positions, nonces, ids and counters: what SQLite can store, and never negative.
Count = Annotated[int, msgspec.Meta(ge=0, le=0x7FFFFFFFFFFFFFFF)]


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Device → primary, first. ``session_token`` is b'' until one was stored.

    ``id_counter``: highest row id sequence this device has used in any table.
    """

    version: int
    public_key: bytes
    client_random: bytes
    database_id: bytes
    session_token: bytes
    id_counter: Count
    features: Count = 0


class Challenge(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Primary → device. ``login_fields``: what a sign-in form should ask, e.g. ``{"name": "email"}``.

    ``network_id`` stays when a primary is restored from a backup, which gives it another epoch.
    ``wants_network_proof``: the primary has a network key; NetworkProof is next, both ways.
    """

    version: int
    server_random: bytes
    primary_key: bytes
    epoch: bytes
    auth_mode: str
    login_fields: list[dict[str, Any]]
    network_id: bytes = b""
    wants_network_proof: bool = False


class Prove(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """Device → primary: Ed25519 signature over the handshake text; device information as JSON."""

    signature: bytes
    node_info: str


class Welcome(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """Primary → device: it is authorized. ``last_nonce``: newest transaction of it that has a verdict."""

    node_id: Count
    user_id: Count
    session_token: bytes
    head: Count
    floor: Count
    last_nonce: Count


class Unauthorized(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """Primary → device. ``wanted``: 'login' (send signup or login) or 'decision' (wait)."""

    wanted: str


class Revoked(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Primary → device: cut off for good. Its data stays readable, its queue is kept."""

    reason: str


class Signup(msgspec.Struct, array_like=True, frozen=True, tag=7):
    data: str

    def __repr__(self) -> str:
        """A message may end up in a traceback or a log, and this one holds a password."""
        return "Signup(…)"


class Login(msgspec.Struct, array_like=True, frozen=True, tag=8):
    data: str

    def __repr__(self) -> str:
        return "Login(…)"


class Denied(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """Primary → device. ``code``: 'denied' (wrong data), 'error' (the authorizer failed; try later) or 'too_often'."""

    code: str
    reason: str


class PushedTransaction(msgspec.Struct, array_like=True, frozen=True):
    """``hash``: the first PUSHED_HASH_BYTES of the body's hash or all of it; damage on the way shows, and the primary
    computes it anew. ``knew_rejected``: the newest rejected one the device knew of when it made this one, or NOT_TOLD.

    An empty hash and body: everything up to ``nonce`` that the primary does not know has had its verdict, from a
    primary that was restored since or under another identity; it will not come again.
    """

    nonce: Count
    hash: bytes
    body: bytes
    knew_rejected: Annotated[int, msgspec.Meta(ge=-1, le=0x7FFFFFFFFFFFFFFF)] = NOT_TOLD


class Push(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """Device → primary: transactions in order of nonce, at most 4096."""

    transactions: Annotated[list[PushedTransaction], msgspec.Meta(max_length=4096)]


class Verdict(msgspec.Struct, array_like=True, frozen=True):
    """``seq`` > 0: accepted there. ``seq`` 0: rejected, for the reason named by the other fields."""

    nonce: Count
    seq: Count
    code: str = ""
    message: str = ""
    table: str = ""
    columns: list[str] = []


class Verdicts(msgspec.Struct, array_like=True, frozen=True, tag=12):
    verdicts: list[Verdict]


class Subscribe(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """Device → primary: confirms the session token as stored, and asks for entries after a cursor.

    ``epoch`` b'' asks for a snapshot first. ``confirmed_nonce``: verdicts up to it are stored durably and need not be
    kept. ``resume_token`` and ``resume_parts``: of a download that was cut off, and how much of it is here.
    """

    session_token: bytes
    epoch: bytes
    cursor: Count
    chain_all: bytes
    chain_user: bytes
    confirmed_nonce: Count
    resume_token: bytes = b""
    resume_parts: Count = 0


class WireEntry(msgspec.Struct, array_like=True, frozen=True):
    """One owner's part of the entry at ``seq``. ``everybody``: of the '*' stream, otherwise of the user's.

    ``nonce`` > 0 and an empty body: the device's own transaction, whose bytes it has.
    """

    seq: Count
    everybody: bool
    nonce: Count
    chain: bytes
    body: bytes


class Entries(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """Primary → device. ``through``: with these, the device has everything up to that position.

    ``more``: there is more in the log already, and it follows as soon as the flow control lets it.
    """

    entries: list[WireEntry]
    through: Count
    more: bool = False


class SnapshotStart(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """Primary → device: a frozen state at ``seq``. ``tables``: CREATE TABLE texts, in order.

    ``token`` names this download. ``parts``: so many of its chunks the device has already, and they are left out.
    ``triggers``: those of SnapshotEnd that are on the tables.
    """

    seq: Count
    epoch: bytes
    chain_all: bytes
    chain_user: bytes
    schema_seq: Count
    tables: list[str]
    rows_total: Count
    token: bytes = b""
    parts: Count = 0
    triggers: list[str] = []


class SnapshotChunk(msgspec.Struct, array_like=True, frozen=True, tag=16):
    table: str
    columns: list[str]
    rows: list[list[Any]]


class SnapshotEnd(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """``schema``: indexes, views and triggers, made after the rows are in."""

    schema: list[str]


class Applied(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """Device → primary: stored durably up to ``cursor``; ``messages`` more may be sent (flow control)."""

    cursor: Count
    confirmed_nonce: Count
    messages: int


class Ping(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """``sent_at``: the sender's clock, given back in the pong."""

    sent_at: float


class Pong(msgspec.Struct, array_like=True, frozen=True, tag=21):
    """``through``: position up to which the device has been sent everything, or NOT_KNOWN."""

    sent_at: float
    through: int


class ProblemReport(msgspec.Struct, array_like=True, frozen=True, tag=22):
    """Either way, before closing. ``code``: see docs/protocol.md."""

    code: str
    reason: str


class AskHead(msgspec.Struct, array_like=True, frozen=True, tag=23):
    """Device → primary: where is the log now? ``asked_at``: the device's clock, given back in the answer."""

    asked_at: float


class Head(msgspec.Struct, array_like=True, frozen=True, tag=24):
    """Primary → device: everything committed before the question came is at or below ``through``, and was sent."""

    asked_at: float
    through: Count


class Copied(msgspec.Struct, array_like=True, frozen=True, tag=25):
    """Primary → device: another file with this key has synced since; take an identity of your own (Adopt)."""

    reason: str


class Claim(msgspec.Struct, array_like=True, frozen=True):
    """A transaction that the primary may know. ``seq`` > 0: it was accepted there."""

    nonce: Count
    hash: bytes
    seq: Count


class Adopt(msgspec.Struct, array_like=True, frozen=True, tag=26):
    """Device → primary: its new public key, and that key's signature over the adoption text (wire/handshake.py)."""

    public_key: bytes
    signature: bytes
    claims: Annotated[list[Claim], msgspec.Meta(max_length=CLAIMS_MAX)]


class Adopted(msgspec.Struct, array_like=True, frozen=True, tag=27):
    """Primary → device: its new identity. ``known``: [nonce, seq] of the claims that the primary has; it has lost the
    other accepted ones."""

    node_id: Count
    user_id: Count
    session_token: bytes
    head: Count
    known: list[tuple[Count, Count]]


class AskSums(msgspec.Struct, array_like=True, frozen=True, tag=28):
    """Device → primary: the checksums of what it should hold at ``seq``, where it is.

    ``table`` '': of all tables. Otherwise of the rows with ``low`` < key ≤ ``high`` ([]: no end), in parts.
    """

    seq: Count
    table: str
    low: list[Any]
    high: list[Any]


class Sums(msgspec.Struct, array_like=True, frozen=True, tag=29):
    """Primary → device: [table, rows, sum] of each table or part. ``seq`` 0: its log has moved on for this device.

    ``bounds``: the keys between the parts.
    """

    seq: Count
    sums: list[tuple[str, Count, Count]]
    bounds: list[list[Any]]


class AskRows(msgspec.Struct, array_like=True, frozen=True, tag=30):
    """Device → primary: the rows of a range, which should be small."""

    seq: Count
    table: str
    low: list[Any]
    high: list[Any]


class RangeRows(msgspec.Struct, array_like=True, frozen=True, tag=31):
    """Primary → device: all rows of the range asked for. ``seq`` 0: the log has moved on, or they are too many or too
    large for one message."""

    seq: Count
    columns: list[str]
    rows: list[list[Any]]


class NetworkProof(msgspec.Struct, array_like=True, frozen=True, tag=32):
    """Device → primary after the challenge, then primary → device: its sender knows the network key
    (wire/handshake.py)."""

    proof: bytes


Message = (
    Hello
    | Challenge
    | Prove
    | Welcome
    | Unauthorized
    | Revoked
    | Signup
    | Login
    | Denied
    | Push
    | Verdicts
    | Subscribe
    | Entries
    | SnapshotStart
    | SnapshotChunk
    | SnapshotEnd
    | Applied
    | Ping
    | Pong
    | ProblemReport
    | AskHead
    | Head
    | Copied
    | Adopt
    | Adopted
    | AskSums
    | Sums
    | AskRows
    | RangeRows
    | NetworkProof
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Message)


def encode_message(message: Message) -> bytes:
    return _encoder.encode(message)


def decode_message(data: bytes) -> Message:
    """Raises ProtocolError on anything that is not one whole message of a known number and shape."""
    try:
        decoded: Message = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise ProtocolError(f"not an OctoDB message: {error}") from error
    return decoded
