"""The signature of the handshake is good for one connection, one primary and one device."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from octodb.wire.handshake import RANDOM_BYTES, handshake_text, sign, verify
from octodb.wire.messages import PROTOCOL_VERSION, Challenge, Hello

PRIVATE_KEY = bytes(range(32))
PUBLIC_KEY = Ed25519PrivateKey.from_private_bytes(PRIVATE_KEY).public_key().public_bytes_raw()
HELLO = Hello(PROTOCOL_VERSION, PUBLIC_KEY, b"c" * RANDOM_BYTES, b"database", b"token", 5)
CHALLENGE = Challenge(PROTOCOL_VERSION, b"s" * RANDOM_BYTES, b"primary", b"epoch", "user", [])
TEXT = handshake_text(HELLO, CHALLENGE, "{}")


def test_the_right_signature_is_accepted():
    assert verify(PUBLIC_KEY, sign(PRIVATE_KEY, TEXT), TEXT)


@pytest.mark.parametrize(
    "text",
    [
        handshake_text(replace(HELLO, version=2), CHALLENGE, "{}"),
        handshake_text(replace(HELLO, client_random=b"d" * RANDOM_BYTES), CHALLENGE, "{}"),
        handshake_text(replace(HELLO, public_key=bytes(32)), CHALLENGE, "{}"),
        handshake_text(replace(HELLO, database_id=b"other"), CHALLENGE, "{}"),
        handshake_text(replace(HELLO, session_token=b"other"), CHALLENGE, "{}"),
        handshake_text(replace(HELLO, session_token=b""), CHALLENGE, "{}"),
        handshake_text(HELLO, replace(CHALLENGE, server_random=b"t" * RANDOM_BYTES), "{}"),
        handshake_text(HELLO, replace(CHALLENGE, primary_key=b"other"), "{}"),
        handshake_text(HELLO, replace(CHALLENGE, epoch=b"other"), "{}"),
        handshake_text(HELLO, CHALLENGE, '{"a": 1}'),
        handshake_text(HELLO, CHALLENGE, "{}", b"channel"),
        # a byte moved from one field to the next is another text
        handshake_text(replace(HELLO, database_id=b"databaset", session_token=b"oken"), CHALLENGE, "{}"),
        handshake_text(HELLO, replace(CHALLENGE, primary_key=b"primarye", epoch=b"poch"), "{}"),
    ],
)
def test_every_field_is_bound(text):
    assert text != TEXT
    assert not verify(PUBLIC_KEY, sign(PRIVATE_KEY, TEXT), text)


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_a_wrong_signature_is_refused(signature):
    assert not verify(PUBLIC_KEY, signature, TEXT)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), b"\xff" * 32])
def test_a_key_that_is_none_is_refused(key):
    assert not verify(key, sign(PRIVATE_KEY, TEXT), TEXT)


def test_another_device_cannot_sign_for_this_one():
    assert not verify(PUBLIC_KEY, sign(bytes(32), TEXT), TEXT)
