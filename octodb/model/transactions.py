"""What one COMMIT made: ordered ops, their encoded body and its hash. Never applies anything.

A *body* is the msgpack array ``[schema_seq, [[position, payload], …]]``. ``payload`` is a SQLite changeset
(bytes) or a DDL text (str). ``position`` orders the ops of one transaction across the parts of several
owners. ``schema_seq`` is the log position of the newest schema change the maker had applied, by which a
primary tells whether the body still fits its schema (design.md §7).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from octodb.errors import ProtocolError

__all__ = [
    "BODY_BYTES_MAX",
    "CHAIN_START",
    "HASH_BYTES",
    "PUSHED_HASH_BYTES",
    "Body",
    "Op",
    "Rejection",
    "body_hash",
    "chain_hash",
    "decode_body",
    "encode_body",
]

HASH_BYTES: Final = 16
# Of a hash that is sent with its body: damage shows, and who receives it computes the whole.
PUSHED_HASH_BYTES: Final = 8
# One transaction must fit a primary's memory many times over; larger ones are refused when they are made.
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
CHAIN_START: Final = bytes(HASH_BYTES)


class Op(msgspec.Struct, array_like=True, frozen=True):
    """One step of a transaction: a changeset (bytes) or a DDL text (str)."""

    position: int
    payload: Any  # bytes | str, which msgspec cannot tell apart by type; decode_body does


class Body(msgspec.Struct, array_like=True, frozen=True):
    """All steps of a transaction that one owner's stream carries."""

    schema_seq: int
    ops: list[Op]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a primary refused a transaction. Holds names only, never another row's values (design.md §4.7).

    code: 'constraint', 'ownership', 'schema', 'malformed' or 'dependent'.
    """

    code: str
    message: str
    table: str = ""
    columns: tuple[str, ...] = ()


_body_decoder = msgspec.msgpack.Decoder(Body)
_body_encoder = msgspec.msgpack.Encoder()


def encode_body(schema_seq: int, ops: list[Op]) -> bytes:
    return _body_encoder.encode(Body(schema_seq, ops))


def decode_body(data: bytes) -> Body:
    """Raises ProtocolError when ``data`` is no body."""
    try:
        body = _body_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a transaction body: {error}") from error
    if not all(isinstance(op.payload, bytes | str) for op in body.ops):
        raise ProtocolError("not a transaction body: an op is neither a changeset nor a text")
    return body


def body_hash(body: bytes) -> bytes:
    """BLAKE2b with a 16-byte digest (RFC 7693): names a body for deduplication and in the running hash."""
    return hashlib.blake2b(body, digest_size=HASH_BYTES).digest()


def chain_hash(previous: bytes, seq: int, hash_of_body: bytes) -> bytes:
    """The running hash of one owner's stream after the entry at ``seq`` (design.md §5)."""
    return hashlib.blake2b(previous + seq.to_bytes(8, "big") + hash_of_body, digest_size=HASH_BYTES).digest()
