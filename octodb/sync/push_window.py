"""What a device has sent and awaits a verdict on: how much more may go, and what is skipped. Pure bookkeeping.

Transactions go in the order of their numbers. Where numbers are missing above what the primary knows, their
transactions have had their verdicts (from a primary that was restored since, or under another identity of this device),
and a skip tells the primary to count them.
"""

from __future__ import annotations

from typing import Final

from octodb.model.transactions import HASH_BYTES
from octodb.wire.messages import Push, PushedTransaction

__all__ = ["PushWindow"]

# Pushed and not yet judged: enough to fill a primary's group commits over a slow line, little to send again.
_COUNT_MAX: Final = 1024
_BYTES_MAX: Final = 4 * 1024 * 1024


class PushWindow:
    """One connection's. ``primary_nonce``: the newest transaction of this device that the primary has judged.

    ``hash_bytes``: how much of a hash is sent.
    """

    def __init__(self, primary_nonce: int = 0, hash_bytes: int = HASH_BYTES) -> None:
        self._hash_bytes = hash_bytes
        self.sent_nonce = 0
        self._counted = (
            primary_nonce  # the primary will have judged everything up to here when it has read what is sent
        )
        self._sizes: dict[int, int] = {}
        self._bytes = 0

    @property
    def busy(self) -> bool:
        return bool(self._sizes)

    @property
    def room(self) -> int:
        """How many more transactions may be sent now."""
        return _COUNT_MAX - len(self._sizes) if self._bytes < _BYTES_MAX else 0

    def push(self, found: list[tuple[int, bytes, bytes, int]]) -> Push:
        """The message for (nonce, hash, body, knew_rejected) of the next transactions, at least one."""
        transactions: list[PushedTransaction] = []
        for nonce, digest, body, knew_rejected in found:
            if nonce > self._counted + 1:
                transactions.append(PushedTransaction(nonce - 1, b"", b""))
            transactions.append(PushedTransaction(nonce, digest[: self._hash_bytes], body, knew_rejected))
            self._counted = max(self._counted, nonce)
            self._sizes[nonce] = len(body)
            self._bytes += len(body)
        self.sent_nonce = found[-1][0]
        return Push(transactions)

    def judged(self, nonces: set[int]) -> None:
        for nonce in nonces:
            self._bytes -= self._sizes.pop(nonce, 0)
