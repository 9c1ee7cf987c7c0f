"""The key that proofs of the network key are made with (wire/handshake.py), derived from what people type.

Argon2id as RFC 9106 recommends where memory is scarce (64 MiB): whoever pretends to be a primary is sent one proof, and
can try passphrases on it.
"""

from __future__ import annotations

from typing import Final

from argon2.low_level import Type, hash_secret_raw

from octodb.model.file_key import Secret

__all__ = ["derive_network_key"]

# The same in the whole network, which is all that both sides know before they trust each other.
_SALT: Final = b"octodb network key 1"


def derive_network_key(secret: Secret | None) -> bytes:
    """32 bytes, or b'' without a secret; takes about a tenth of a second."""
    if not secret:
        return b""
    return hash_secret_raw(
        secret.to_bytes(), _SALT, time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, type=Type.ID
    )
