"""A device made of a socket and the codec only, which may send whatever a test wants. Never reconnects by itself."""

import json
import secrets
import socket

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octodb.errors import ProtocolError
from octodb.model.transactions import CHAIN_START, Op, body_hash, encode_body
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.handshake import handshake_text, sign
from octodb.wire.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    Challenge,
    Hello,
    Prove,
    Push,
    PushedTransaction,
    SnapshotEnd,
    Subscribe,
    Welcome,
    decode_message,
    encode_message,
)

RAW = serialization.Encoding.Raw
NODE_INFO = json.dumps({"public_key": "", "type": "secondary"})


class Closed(Exception):
    """The primary closed the connection."""


class RawDevice:
    """One connection to ``address``. Waits at most ``timeout_s`` for anything."""

    def __init__(self, address, timeout_s=10):
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self._decoder = FrameDecoder(MESSAGE_BYTES_MAX)
        self._received = []
        self._private = Ed25519PrivateKey.generate().private_bytes(
            RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        public = Ed25519PrivateKey.from_private_bytes(self._private).public_key()
        self.hello = Hello(
            PROTOCOL_VERSION,
            public.public_bytes(RAW, serialization.PublicFormat.Raw),
            secrets.token_bytes(32),
            secrets.token_bytes(16),
            b"",
            0,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send_bytes(self, data):
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Closed from error

    def end_sending(self):
        self._socket.shutdown(socket.SHUT_WR)

    def send(self, message):
        self.send_bytes(encode_frames(encode_message(message)))

    def receive(self, wanted=object):
        """The next message of the class ``wanted``; raises Closed at the end of the stream."""
        while True:
            while self._received:
                message = self._received.pop(0)
                if isinstance(message, wanted):
                    return message
            try:
                data = self._socket.recv(65536)
            except ConnectionError as error:
                raise Closed from error
            if not data:
                raise Closed
            try:
                self._received += [decode_message(payload) for payload in self._decoder.feed(data)]
            except ProtocolError as error:  # pragma: no cover - it would be the primary's fault
                raise AssertionError("the primary sent what is no message") from error

    def until_closed(self):
        """Read until the primary closes the connection. Returns the messages on the way."""
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except Closed:
            return messages

    def prove(self, node_info=NODE_INFO):
        self.send(self.hello)
        challenge = self.receive(Challenge)
        self.send(Prove(self.sign(handshake_text(self.hello, challenge, node_info)), node_info))
        return challenge

    def sign(self, text):
        return sign(self._private, text)

    def take_key_of(self, other):
        """Be a copy of another device."""
        self._private = other._private
        self.hello = msgspec.structs.replace(self.hello, public_key=other.hello.public_key)

    def join(self, node_info=NODE_INFO):
        """Go through the whole handshake of auth=none and the first download."""
        self.prove(node_info)
        self.welcome = self.receive(Welcome)
        self.subscribe()
        self.receive(SnapshotEnd)

    def subscribe(self, cursor=0, confirmed_nonce=0, epoch=b"", resume=(b"", 0)):
        token = self.welcome.session_token
        self.send(Subscribe(token, epoch, cursor, CHAIN_START, CHAIN_START, confirmed_nonce, *resume))

    def push(self, nonce, body, digest=None):
        self.send(Push([PushedTransaction(nonce, body_hash(body) if digest is None else digest, body)]))

    def push_changesets(self, nonce, *changesets, schema_seq=1 << 40):
        self.push(nonce, encode_body(schema_seq, [Op(i, changeset) for i, changeset in enumerate(changesets)]))
