"""What is left of transactions that were cut off the log: the beginnings of their hashes, eight bytes each, for ever.

A copy of a device's file may come back years later with a transaction in its queue that the original had accepted. Its
hash tells that it took effect (P2: a device transaction takes effect once or not at all).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import apsw

__all__ = ["CutHashes"]

_HASH_BYTES: Final = 8
_BLOCK_COUNT: Final = 256  # nonces in a row of the table: two kilobytes, which fit in a page
_UNKNOWN: Final = bytes(_HASH_BYTES)


class CutHashes:
    """A row has the hashes of the nonces from 256 · block on; zeros where none was accepted."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def keep(self, accepted: Iterable[tuple[int, int, bytes]]) -> None:
        """(node_id, nonce, hash) of transactions whose entries are being cut off."""
        blocks: dict[tuple[int, int], bytearray] = {}
        for node_id, nonce, digest in accepted:
            number, place = divmod(nonce, _BLOCK_COUNT)
            block = blocks.get((node_id, number))
            if block is None:
                block = blocks[node_id, number] = bytearray(self._read(node_id, number))
            end = (place + 1) * _HASH_BYTES
            block.extend(bytes(max(0, end - len(block))))
            block[end - _HASH_BYTES : end] = digest[:_HASH_BYTES]
        self._db.executemany(
            "INSERT OR REPLACE INTO _octodb_cut_hashes VALUES (?, ?, ?)",
            ((node_id, number, bytes(block)) for (node_id, number), block in blocks.items()),
        )

    def find(self, node_id: int, nonce: int) -> bytes | None:
        """The first bytes of the hash of an accepted transaction that is cut off; None: nothing is known of it."""
        number, place = divmod(nonce, _BLOCK_COUNT)
        found = self._read(node_id, number)[place * _HASH_BYTES : (place + 1) * _HASH_BYTES]
        return None if found in {b"", _UNKNOWN} else found

    def _read(self, node_id: int, number: int) -> bytes:
        sql = "SELECT hashes FROM _octodb_cut_hashes WHERE node_id = ? AND block = ?"
        row = self._db.execute(sql, (node_id, number)).fetchone()
        return b"" if row is None else row[0]
