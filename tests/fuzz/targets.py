"""What is fuzzed: each target takes bytes and fails when they make the code do what it never should.

``seeds`` gives bytes to begin with, so that no corpus needs to be kept. Used by ``python -m tests.fuzz`` (atheris,
coverage-guided, for long runs) and by tests/properties/test_fuzz_targets.py (hypothesis, a few hundred a run).
"""

import json
import struct
import tempfile
from pathlib import Path

import msgspec

from octodb.errors import ProtocolError
from octodb.log.embedded_log import PushedBody, PushRequest
from octodb.model.transactions import Op, body_hash, decode_body, encode_body
from octodb.storage.changesets import build, iterate
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.messages import Message, decode_message, encode_message
from octodb.wire.service_messages import TextSplitter, framed, read_answer, request_text
from tests.properties.hostile_messages import DevicePlay, PrimaryPlay
from tests.properties.offline_world import Device, Primary
from tests.unit.log.conftest import SCHEMA, Pushing

__all__ = ["TARGETS", "Target"]

_FRAME_LIMIT = 4096


class Target:
    """``run(data)`` raises where something is wrong with how ``data`` was taken."""

    def __init__(self):
        pass

    def seeds(self):
        return [b""]

    def run(self, data):
        raise NotImplementedError

    def close(self):
        pass


class Frames(Target):
    """The first byte says into pieces of what size the others are cut."""

    def seeds(self):
        stream = encode_frames(b"x" * 10) + encode_frames(b"") + encode_frames(b"y" * 300)
        return [bytes([size]) + stream for size in (1, 3, 255)] + [b"\x07\x80\x00\x00\x02abcd\x00\x00\x00\x01e"]

    def run(self, data):
        size = max(1, data[0]) if data else 1
        pieces, whole = FrameDecoder(_FRAME_LIMIT), FrameDecoder(_FRAME_LIMIT)
        stream = data[1:]
        received = []
        ended = False
        try:
            for start in range(0, len(stream), size):
                received += pieces.feed(stream[start : start + size])
                assert pieces.held_bytes <= _FRAME_LIMIT + size + 8
        except ProtocolError:
            ended = True
        try:
            assert whole.feed(stream) == received
            assert not ended
        except ProtocolError:
            assert ended
        assert all(len(message) <= _FRAME_LIMIT for message in received)


def _example(kind):
    """A value of a message's field, or a message."""
    if isinstance(kind, msgspec.inspect.StructType):
        return kind.cls(**{field.name: _example(field.type) for field in kind.fields})
    if isinstance(kind, msgspec.inspect.ListType):
        return [_example(kind.item_type)]
    if isinstance(kind, msgspec.inspect.TupleType):
        return tuple(_example(one) for one in kind.item_types)
    if isinstance(kind, msgspec.inspect.DictType):
        return {"name": "email"}
    plain = {
        msgspec.inspect.IntType: 3,
        msgspec.inspect.FloatType: 1.5,
        msgspec.inspect.StrType: "t",
        msgspec.inspect.BytesType: b"0123456789abcdef" * 2,
        msgspec.inspect.BoolType: True,
    }
    return plain.get(type(kind), 7)


EXAMPLES = [_example(kind) for kind in msgspec.inspect.type_info(Message).types]


class Messages(Target):
    def seeds(self):
        return [encode_message(message) for message in EXAMPLES]

    def run(self, data):
        try:
            message = decode_message(data)
        except ProtocolError:
            return
        assert decode_message(encode_message(message)) == message or b"\xcb" in data  # a float that is no number


class _Machine(Target):
    """The first byte says how far an honest conversation goes; then messages, each with its length (2 bytes) in front;
    length 0: the storage answers, 1: an honest step, 2: time passes."""

    def seeds(self):
        texts = [struct.pack(">H", len(data)) + data for data in map(encode_message, EXAMPLES)]
        return [bytes([n]) + text for n in (0, 3, 6, 9) for text in texts] + [b"\x05" + b"\x00\x00\x00\x01\x00\x02" * 4]

    def make(self, first):
        raise NotImplementedError

    def run(self, data):
        first, data = data[:1] or b"\x00", data[1:]
        play = self.make(first[0])
        for _ in range(first[0] % 12):
            play.advance()
        while len(data) >= 2:
            (length,) = struct.unpack(">H", data[:2])
            text, data = data[2 : 2 + length], data[2 + length :]
            if length < 3:
                (play.answer, play.advance, play.wait)[length]()
                continue
            try:
                message = decode_message(text)
            except ProtocolError:
                continue
            play.receive(message)


class PrimaryMachine(_Machine):
    def make(self, first):
        return PrimaryPlay(("none", "node", "user")[first % 3], (0, 1, 5)[first // 12 % 3])


class DeviceMachine(_Machine):
    def make(self, first):
        return DevicePlay(first % 2 == 1)


MORE_SCHEMA = """
CREATE TABLE private_account (id INTEGER PRIMARY KEY, hash, row_owner);
INSERT INTO private_account VALUES (1, 'secret', 2);
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a);
"""


class Changesets(Target):
    """A transaction of a device, judged by a primary on a real database: the first byte 0 says that a body follows,
    anything else that a changeset does, which is put into one."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory()
        self._primary = Primary(Path(self._folder.name) / "primary.db", SCHEMA + MORE_SCHEMA)
        self._device = Device(Path(self._folder.name) / "device.db", self._primary, 2)
        self._pushing = Pushing(self._primary, self._device)
        self._nonce = 0
        self._before = self._rows_of_others()

    def seeds(self):
        db = self._primary.engine
        sqls = (
            "INSERT INTO item VALUES (50, '50', 1, 2), (51, 'b', 1.5, 2)",
            "UPDATE item SET name = 'n', size = 8 WHERE id = 1",
            "UPDATE item SET row_owner = 2, name = 'taken' WHERE id = 3",
            "DELETE FROM part",
            "DELETE FROM item WHERE id = 3",
            "INSERT INTO private_note VALUES (9, 'x', 2)",
            "UPDATE private_account SET hash = 'x'",
            "UPDATE _octodb_meta SET value = 1 WHERE key = 'auth'",
            "DELETE FROM _octodb_nodes",
            "DELETE FROM setting",
        )
        found = [b"\x01" + self._pushing.recorded(sql, as_patchset=p) for sql in sqls for p in (False, True)]
        found.append(b"\x01" + build(db, [("INSERT", "item", (), ((5 << 32) | 1, "x", 1, 2))]))
        found += [b"\x00" + encode_body(1 << 40, [Op(0, one[1:]), Op(1, one[1:])]) for one in found[:4]]
        return [*found, b"\x00" + encode_body(1, [Op(0, "DROP TABLE item")])]

    def run(self, data):
        body = data[1:] if data[:1] == b"\x00" else encode_body(1 << 40, [Op(0, data[1:])])
        for read in (decode_body, lambda body: [list(iterate(op.payload)) for op in decode_body(body).ops]):
            try:
                read(body)
            except (ProtocolError, TypeError):
                continue  # TypeError: a text, which is no changeset
        self._nonce += 1
        request = PushRequest(self._device.record.node_id, 2, [PushedBody(self._nonce, body_hash(body), body, 0)])
        (outcome,), _ = self._primary.log.append([request])
        (one,) = outcome.outcomes
        assert one.kind in {"accepted", "rejected"}, one
        assert self._rows_of_others() == self._before
        if self._nonce % 500 == 0:
            assert self._primary.rows("PRAGMA integrity_check") == [("ok",)]

    def _rows_of_others(self):
        found = [
            self._primary.rows(f"SELECT * FROM {table}")
            for table in ("setting", "private_note", "private_account", "counted", "sqlite_sequence", "_octodb_meta")
        ]
        found.append(self._primary.rows("SELECT name, sql FROM sqlite_schema"))
        found.append(self._primary.rows("SELECT node_id, user_id, revoked, public_key FROM _octodb_nodes"))
        for table in ("item", "part"):
            sql = f"SELECT * FROM {table} WHERE coalesce(CAST(row_owner AS TEXT), '') NOT IN ('2', '2.0')"
            found.append(self._primary.rows(sql))
        for table in ("item",):  # nobody's range but the device's own, the user's, and what is nobody's
            sql = f"SELECT id FROM {table} WHERE id >> 32 = 1"
            found.append(self._primary.rows(sql))
        return found

    def close(self):
        self._device.close()
        self._primary.close()
        self._folder.cleanup()


class ServiceProtocol(Target):
    """What a service sends, cut into pieces of the size that the first byte says; and the bytes as what a device sent,
    which a service must be able to read."""

    KEY = bytes(range(32))

    def seeds(self):
        answers = (
            {"user_id": 7},
            {"user_id": -1, "reason": "no"},
            {"node_type": "secondary", "node_id": 9},
            {"execute": ["INSERT INTO users (name) VALUES ('x')"]},
            {"find": "SELECT id AS user_id FROM users"},
        )
        texts = [json.dumps({"pubkey": self.KEY.hex(), **answer}).encode() for answer in answers]
        return [bytes([size]) + b"".join(map(framed, texts)) for size in (1, 5, 255)] + [b"\x03" + texts[0]]

    def run(self, data):
        size = max(1, data[0]) if data else 1
        pieces, whole, received = TextSplitter(), TextSplitter(), []
        try:
            for start in range(1, len(data), size):
                received += pieces.feed(data[start : start + size])
        except ProtocolError:
            received = None
        try:
            expected = whole.feed(data[1:])
        except ProtocolError:
            expected = None
        assert received == expected or None in (received, expected)
        for text in [*(expected or []), data[1:]]:
            self.read(text)
        self.write(data[1:].decode(errors="replace"))

    def read(self, text):
        try:
            answer = read_answer(text)
        except ProtocolError:
            return
        assert len(answer.public_key) == 32
        if answer.admission is None:
            assert answer.code in {-1, -2, -3}
        else:
            assert answer.admission.public_key == answer.public_key
            assert answer.admission.user_id is None or answer.admission.user_id >= 0

    def write(self, text):
        for data, info in ((text, "{}"), ("", text), (text, text)):
            sent = msgspec.json.decode(request_text("user_login", data, self.KEY, info))
            assert (sent["action"], sent["pubkey"], sent["public_key"]) == ("user_login", *[self.KEY.hex()] * 2)


TARGETS = {
    "frames": Frames,
    "messages": Messages,
    "primary": PrimaryMachine,
    "device": DeviceMachine,
    "changesets": Changesets,
    "service": ServiceProtocol,
}
