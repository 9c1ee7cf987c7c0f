"""A primary made of a socket and the codec, which sends a device whatever an attack wants."""

import secrets
import socket
import threading
from contextlib import suppress

from octodb.errors import ProtocolError
from octodb.model.transactions import CHAIN_START, Op, body_hash, chain_hash, encode_body
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.messages import (
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
    Challenge,
    Entries,
    Hello,
    Ping,
    Pong,
    Prove,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Welcome,
    WireEntry,
    decode_message,
    encode_message,
)

__all__ = ["TABLE", "USER", "HostilePrimary"]

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)"
NODE = USER = 7


class HostilePrimary:
    """Serves devices one after the other on a free port. ``tables``, ``chunks``, ``schema``: its snapshot.

    ``entries``: payloads of everybody's entries after it (a text or a changeset each), sent to a device that has the
    snapshot; ``messages``: sent after them as they are.
    """

    def __init__(self, tables=(TABLE,), chunks=(), schema=(), entries=(), messages=()):
        self._snapshot = (list(tables), list(chunks), list(schema))
        self.entries, self.messages = list(entries), list(messages)
        self.heard = []
        self.epoch, self.network = secrets.token_bytes(8), secrets.token_bytes(16)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"
        self._connections = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                with suppress(OSError, ProtocolError):
                    self._talk(connection)
                connection.close()

    def _talk(self, connection):
        decoder = FrameDecoder(MESSAGE_BYTES_MAX)
        while data := connection.recv(65536):
            for payload in decoder.feed(data):
                message = decode_message(payload)
                self.heard.append(message)
                for answer in self._answers(message):
                    connection.sendall(encode_frames(encode_message(answer)))

    def _answers(self, message):
        if isinstance(message, Hello):
            random = secrets.token_bytes(32)
            yield Challenge(PROTOCOL_VERSION, random, bytes(32), self.epoch, "none", [], self.network)
        elif isinstance(message, Prove):
            yield Welcome(NODE, USER, secrets.token_bytes(16), 10, 0, 0)
        elif isinstance(message, Ping):
            yield Pong(message.sent_at, -1)
        elif isinstance(message, Subscribe):
            if not message.epoch:
                yield from self._download()
            yield from self._later(message.cursor or 10)

    def _download(self):
        tables, chunks, schema = self._snapshot
        yield SnapshotStart(10, self.epoch, CHAIN_START, CHAIN_START, 1, tables, 1, secrets.token_bytes(16))
        yield from (SnapshotChunk(*chunk) for chunk in chunks)
        yield SnapshotEnd(schema)

    def _later(self, cursor):
        chain, found = CHAIN_START, []
        for seq, payload in enumerate(self.entries, 11):
            body = encode_body(1, [Op(0, payload)])
            chain = chain_hash(chain, seq, body_hash(body))
            if seq > cursor:
                found.append(WireEntry(seq, True, 0, chain, body))
        if found:
            yield Entries(found, 10 + len(self.entries))
        yield from self.messages

    def close(self):
        for one in (self._listening, *self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join()
