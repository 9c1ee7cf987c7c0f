"""A device that is a socket and the codec only: it costs next to nothing, so thousands of them fit one process.

Goes through the handshake (signing in where it is asked to) and the first download, whose rows it drops. What it does
afterwards is for its subclasses.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from octodb.model.node_uri import Address
from octodb.model.transactions import CHAIN_START
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.handshake import handshake_text, sign
from octodb.wire.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    Applied,
    Challenge,
    Entries,
    Hello,
    Login,
    Message,
    Ping,
    Pong,
    Prove,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Unauthorized,
    Verdicts,
    Welcome,
    decode_message,
    encode_message,
)

__all__ = ["RawDevice", "address_of", "new_loop"]

_NODE_INFO: Final = '{"type": "secondary"}'


class RawDevice(asyncio.Protocol):
    """One connection. ``joined`` is a future, which fails when the primary says anything unexpected.

    ``user``: what it signs in with when the primary asks for that.
    """

    def __init__(self, user: int = 0) -> None:
        self.joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.welcome: Welcome | None = None
        self.last_contact = time.monotonic()
        self.lost = False
        self._user = user
        self._decoder = FrameDecoder(MESSAGE_BYTES_MAX)
        self._key = Ed25519PrivateKey.generate()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._hello = Hello(PROTOCOL_VERSION, public, secrets.token_bytes(32), secrets.token_bytes(16), b"", 0)
        self.send(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.fail(f"the connection was lost: {error}")

    def data_received(self, data: bytes) -> None:
        self.last_contact = time.monotonic()
        for payload in self._decoder.feed(data):
            self._receive(decode_message(payload))

    def close(self) -> None:
        self._transport.close()

    def send(self, message: Message) -> None:
        self._transport.write(encode_frames(encode_message(message)))

    def ping_when_quiet(self, after_s: float) -> None:
        """As devices do; see sync/device.py."""
        now = time.monotonic()
        if now - self.last_contact >= after_s and not self.lost:
            self.send(Ping(now))

    def on_entries(self, message: Entries) -> None:
        """Entries came. Acknowledges them."""
        self.send(Applied(message.through, 0, 1))

    def fail(self, reason: str) -> None:
        if not self.joined.done():
            self.joined.set_exception(ConnectionError(reason))

    def _receive(self, message: Message) -> None:
        if isinstance(message, Entries):
            self.on_entries(message)
        elif isinstance(message, Challenge):
            text = handshake_text(self._hello, message, _NODE_INFO)
            private = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            self.send(Prove(sign(private, text), _NODE_INFO))
        elif isinstance(message, Unauthorized):
            self.send(Login(str(self._user)))
        elif isinstance(message, Welcome):
            self.welcome = message
            self.send(Subscribe(message.session_token, b"", 0, CHAIN_START, CHAIN_START, 0))
        elif isinstance(message, SnapshotStart | SnapshotChunk | SnapshotEnd):
            self.send(Applied(0, 0, 1))
            if isinstance(message, SnapshotEnd):
                self.joined.set_result(None)
        elif isinstance(message, Verdicts) and all(verdict.seq for verdict in message.verdicts):
            pass  # what was sent twice was accepted the first time
        elif not isinstance(message, Pong):
            self.fail(f"unexpected: {message}")


def address_of(text: str) -> Address:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    return Address(host, int(port))


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
