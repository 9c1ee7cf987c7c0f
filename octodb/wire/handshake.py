"""The handshake's signed text and its Ed25519 signature (RFC 8032); proofs of the network key (HMAC, RFC 2104).

Makes no keys and no random bytes. Both randoms, the public keys, the epoch and the channel binding are in the texts,
each with its length in front, so that a signature or proof is good for one connection to one primary only. The channel
binding is that of the primary's certificate (``channel_binding``): a relay has another one.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from octodb.wire.messages import Challenge, Hello

__all__ = [
    "PUBLIC_KEY_BYTES",
    "RANDOM_BYTES",
    "adoption_text",
    "channel_binding",
    "handshake_text",
    "network_proof",
    "sign",
    "verify",
    "verify_network_proof",
]

RANDOM_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
_CONTEXT: Final = b"octodb handshake 1"
_ADOPTION: Final = b"octodb adoption 1"
_NETWORK: Final = b"octodb network key 1"


def channel_binding(certificate: bytes) -> bytes:
    """Of a TLS connection to the primary that has this certificate (DER): tls-server-end-point (RFC 5929 §4), with
    SHA-256 whatever the certificate's own hash is."""
    return hashlib.sha256(certificate).digest()


def handshake_text(hello: Hello, challenge: Challenge, node_info: str, binding: bytes = b"") -> bytes:
    """The bytes that a device signs. ``binding`` is b'' on plain TCP."""
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
        binding,
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


def network_proof(key: bytes, side: str, hello: Hello, challenge: Challenge, binding: bytes) -> bytes:
    """What shows that ``side`` ('device' or 'primary') knows the network key, and nothing of the key itself.

    ``key``: 32 bytes derived from it (runtime/network_key.py).
    """
    parts = (
        _NETWORK,
        side.encode(),
        hello.client_random,
        hello.public_key,
        hello.database_id,
        challenge.server_random,
        challenge.primary_key,
        challenge.epoch,
        challenge.network_id,
        binding,
    )
    return hmac.digest(key, _joined(parts), "sha256")


def verify_network_proof(
    proof: bytes, key: bytes, side: str, hello: Hello, challenge: Challenge, binding: bytes
) -> bool:
    """Whether ``side`` has made ``proof`` with the same key, on this very connection."""
    return hmac.compare_digest(proof, network_proof(key, side, hello, challenge, binding))


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
