"""Many devices in one process: ``python -m benchmarks.load_devices ADDRESS DEVICES COUNT PUSH``.

They cost almost nothing and have no files. Each goes through the handshake and the first download and prepares all
bytes it will send. When all are that far they push COUNT transactions of one row each, PUSH of them in a message. So
the primary is what is measured. Prints one JSON object; see ``LoadResult``.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import apsw
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from benchmarks.nodes import NOTE_TABLE
from octodb.model.identities import row_id_range
from octodb.model.node_uri import Address
from octodb.model.transactions import CHAIN_START, Op, body_hash, encode_body
from octodb.storage.changesets import build
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.handshake import handshake_text, sign
from octodb.wire.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    Applied,
    Challenge,
    Entries,
    Hello,
    Message,
    Prove,
    Push,
    PushedTransaction,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Welcome,
    decode_message,
    encode_message,
)

__all__ = ["LoadResult"]

# Sent and not yet judged, of one device. A real device allows itself 1024.
_IN_FLIGHT_MAX: Final = 200
_NODE_INFO: Final = '{"type": "secondary"}'
_RUN_S_MAX: Final = 300.0


class LoadResult(msgspec.Struct):
    """``seconds``: from the first push to the last verdict; ``busy_seconds``: this process computing meanwhile."""

    transactions: int
    seconds: float
    busy_seconds: float


class _Device(asyncio.Protocol):
    """One connection. ``joined`` and ``finished`` are futures, which fail when the primary says anything unexpected."""

    def __init__(self, make_body: Callable[[int, int, int], bytes], count: int, push_count: int) -> None:
        loop = asyncio.get_running_loop()
        self.joined: asyncio.Future[None] = loop.create_future()
        self.finished: asyncio.Future[None] = loop.create_future()
        self._make_body = make_body
        self._count = count
        self._push_count = push_count
        self._decoder = FrameDecoder(MESSAGE_BYTES_MAX)
        self._key = Ed25519PrivateKey.generate()
        self._pushes: list[bytes] = []
        self._sent_pushes = 0
        self._judged = 0
        self._sent_again = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._hello = Hello(PROTOCOL_VERSION, public, secrets.token_bytes(32), secrets.token_bytes(16), b"", 0)
        self._send(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection was lost: {error}")

    def data_received(self, data: bytes) -> None:
        for payload in self._decoder.feed(data):
            self._receive(decode_message(payload))

    def close(self) -> None:
        self._transport.close()

    def prepare(self) -> None:
        """Encode every push."""
        first_id, _ = row_id_range(self._welcome.node_id)
        for start in range(0, self._count, self._push_count):
            transactions = []
            for nonce in range(start + 1, min(start + self._push_count, self._count) + 1):
                body = self._make_body(self._welcome.user_id, first_id + nonce - 1, nonce)
                transactions.append(PushedTransaction(nonce, body_hash(body), body))
            self._pushes.append(encode_frames(encode_message(Push(transactions))))

    def push(self) -> None:
        """Send as many pushes as the window allows; the first one twice, as after a lost connection."""
        room = (self._judged + _IN_FLIGHT_MAX) // self._push_count
        end = min(max(room, 1), len(self._pushes))
        if end > self._sent_pushes:
            self._transport.write(b"".join(self._pushes[self._sent_pushes : end]))
            self._sent_pushes = end
        if not self._sent_again and self._judged >= self._count // 2:
            self._sent_again = True
            self._transport.write(self._pushes[0])

    def _receive(self, message: Message) -> None:
        if isinstance(message, Entries):
            self._judged += sum(entry.nonce > 0 for entry in message.entries)
            self._send(Applied(message.through, self._judged, 1))
            if self._judged < self._count:
                self.push()
            elif not self.finished.done():
                self.finished.set_result(None)
        elif isinstance(message, Challenge):
            text = handshake_text(self._hello, message, _NODE_INFO)
            private = self._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            self._send(Prove(sign(private, text), _NODE_INFO))
        elif isinstance(message, Welcome):
            self._welcome = message
            self._send(Subscribe(message.session_token, b"", 0, CHAIN_START, CHAIN_START, 0))
        elif isinstance(message, SnapshotStart | SnapshotChunk | SnapshotEnd):
            self._send(Applied(0, 0, 1))
            if isinstance(message, SnapshotEnd):
                self.joined.set_result(None)
        else:
            self._fail(f"unexpected: {message}")

    def _send(self, message: Message) -> None:
        self._transport.write(encode_frames(encode_message(message)))

    def _fail(self, reason: str) -> None:
        for future in (self.joined, self.finished):
            if not future.done():
                future.set_exception(ConnectionError(reason))


async def _run(address: Address, device_count: int, count: int, push_count: int) -> LoadResult:
    loop = asyncio.get_running_loop()
    db = apsw.Connection(":memory:")
    db.execute(NOTE_TABLE)

    def make_body(user_id: int, row_id: int, nonce: int) -> bytes:
        row = (row_id, f"note {nonce} of user {user_id}", nonce, user_id)
        return encode_body(0, [Op(0, build(db, [("INSERT", "note", (), row)]))])

    devices: list[_Device] = []
    for _ in range(device_count):
        _, device = await loop.create_connection(
            lambda: _Device(make_body, count, push_count), address.host, address.port
        )
        devices.append(device)
    await asyncio.gather(*(device.joined for device in devices))
    for device in devices:
        device.prepare()
    start, busy_start = time.perf_counter(), time.process_time()
    for device in devices:
        device.push()
    await asyncio.gather(*(device.finished for device in devices))
    seconds, busy_seconds = time.perf_counter() - start, time.process_time() - busy_start
    for device in devices:
        device.close()
    return LoadResult(device_count * count, seconds, busy_seconds)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def main() -> None:
    host, _, port = sys.argv[1].removeprefix("tcp://").rpartition(":")
    device_count, count, push_count = map(int, sys.argv[2:5])
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        run = _run(Address(host, int(port)), device_count, count, push_count)
        result = runner.run(asyncio.wait_for(run, _RUN_S_MAX))
    print(json.dumps(msgspec.to_builtins(result)))


if __name__ == "__main__":
    main()
