"""Which rows a changeset touches, by table and key: to tell whether two transactions can meet (design.md §4.7, §4.8).

Reads changesets only. A key's values are compared as SQLite compares them under BINARY: 1 and 1.0 are one key.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from octodb.model.transactions import decode_body
from octodb.sql.tokens import fold_name
from octodb.storage.changesets import iterate
from octodb.storage.shapes import Shapes

__all__ = ["PendingKeys", "RowKey", "changed_rows", "changeset_keys", "digests", "made_rows"]

# (folded table name, values of the key columns)
RowKey = tuple[str, tuple[object, ...]]

_DIGEST_BYTES: Final = 8
_INTEGERS: Final = 2.0**63
_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode  # a forged changeset may leave a key value out


def changeset_keys(changeset: bytes) -> Iterator[tuple[str, RowKey]]:
    """(op, key) of each change. Raises ProtocolError where bytes make no sense."""
    for change, op, table, old, new in iterate(changeset):
        values = new if op == "INSERT" else old
        yield op, (fold_name(table), tuple(values[i] for i in sorted(change.pk_columns)))


def _body_keys(body: bytes) -> Iterator[tuple[str, RowKey]]:
    for op in decode_body(body).ops:
        if isinstance(op.payload, bytes):
            yield from changeset_keys(op.payload)


def made_rows(body: bytes) -> bytes:
    """The rows that a body inserts, as digests one after the other: what is remembered of a refused one."""
    return b"".join(_digest(key) for op, key in _body_keys(body) if op == "INSERT")


def changed_rows(body: bytes) -> set[bytes]:
    """Digests of the rows that a body takes to be there: those that it updates or deletes."""
    return {_digest(key) for op, key in _body_keys(body) if op != "INSERT"}


def digests(made: bytes) -> Iterator[bytes]:
    """What ``made_rows`` has put together."""
    return (made[i : i + _DIGEST_BYTES] for i in range(0, len(made), _DIGEST_BYTES))


def _digest(key: RowKey) -> bytes:
    table, values = key
    same = [_as_integer(value) if isinstance(value, float) else value for value in values]
    return hashlib.blake2b(_encode([table, same]), digest_size=_DIGEST_BYTES).digest()


def _as_integer(value: float) -> int | float:
    """1.0 is the key 1; what no integer of SQLite's can be equal to stays as it is."""
    return int(value) if value.is_integer() and -_INTEGERS <= value < _INTEGERS else value


class PendingKeys:
    """The rows that a device's pending transactions touch, and the tables in which they update or delete some. In
    memory; eight bytes and a count for each.
    """

    def __init__(self) -> None:
        self._by_nonce: dict[int, array[int]] = {}
        self._counts: dict[int, int] = {}
        self.newest = 0  # the highest nonce that was added since ``clear``

    def add(self, nonce: int, body: bytes, undo: bytes | None) -> None:
        hashes: set[int] = set()
        for op, key in (*_body_keys(body), *(changeset_keys(undo) if undo else ())):
            hashes.add(hash(key))
            if op != "INSERT":
                hashes.add(hash(key[0]))
        self._by_nonce[nonce] = array("q", hashes)
        self.newest = max(self.newest, nonce)
        for one in hashes:
            self._counts[one] = self._counts.get(one, 0) + 1

    def remove(self, nonce: int) -> None:
        for one in self._by_nonce.pop(nonce, ()):
            self._counts[one] -= 1
            if not self._counts[one]:
                del self._counts[one]

    def clear(self) -> None:
        self._by_nonce.clear()
        self._counts.clear()
        self.newest = 0

    def meet(self, changeset: bytes, shapes: Shapes) -> bool:
        """Whether a pending transaction touches a row of ``changeset`` (or, by a rare accident, seems to), or may have
        set a UNIQUE value free that a row of ``changeset`` takes: it could not be undone beside that row."""
        for op, key in changeset_keys(changeset):
            if hash(key) in self._counts:
                return True
            shape = shapes.get(key[0])
            if op != "DELETE" and (shape is None or shape.unique) and hash(key[0]) in self._counts:
                return True
        return False
