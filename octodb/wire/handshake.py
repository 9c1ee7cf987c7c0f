"""The handshake's signed text and its Ed25519 signature (RFC 8032). Makes no keys and no random bytes.

Both randoms, the public keys, the epoch and the channel binding are in the text, each with its length in front,
so that a signature is good for one connection to one primary only.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from octodb.wire.messages import Challenge, Hello

__all__ = ["PUBLIC_KEY_BYTES", "RANDOM_BYTES", "adoption_text", "handshake_text", "sign", "verify"]

RANDOM_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
_CONTEXT: Final = b"octodb handshake 1"
_ADOPTION: Final = b"octodb adoption 1"


def handshake_text(hello: Hello, challenge: Challenge, node_info: str, channel_binding: bytes = b"") -> bytes:
    """The bytes that a device signs. ``channel_binding`` is b'' on plain TCP."""
    parts = (
        _CONTEXT,
        hello.version.to_bytes(4, "big"),
        hello.client_random,
        hello.public_key,
        hello.database_id,
        hello.session_token,
        challenge.server_random,
        challenge.primary_key,
        challenge.epoch,
        node_info.encode(),
        channel_binding,
    )
    return _joined(parts)


def adoption_text(hello: Hello, challenge: Challenge, public_key: bytes) -> bytes:
    """What the new key of a copied file signs. The old key has signed the handshake of the same connection."""
    parts = (
        _ADOPTION,
        hello.client_random,
        hello.public_key,
        public_key,
        challenge.server_random,
        challenge.primary_key,
    )
    return _joined(parts)


def _joined(parts: tuple[bytes, ...]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def sign(private_key: bytes, text: bytes) -> bytes:
    """``private_key``: the 32 raw bytes."""
    return Ed25519PrivateKey.from_private_bytes(private_key).sign(text)


def verify(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether ``signature`` over ``text`` was made by the holder of ``public_key``."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
