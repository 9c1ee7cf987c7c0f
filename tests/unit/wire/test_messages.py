"""The codec of messages: numbers that never change, and garbage that is refused with one kind of error."""

import msgspec
import pytest

from octodb.errors import ProtocolError
from octodb.wire.messages import (
    Applied,
    AskHead,
    Challenge,
    Denied,
    Entries,
    Head,
    Hello,
    Login,
    Ping,
    Pong,
    ProblemReport,
    Prove,
    Push,
    PushedTransaction,
    Revoked,
    Signup,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Unauthorized,
    Verdict,
    Verdicts,
    Welcome,
    WireEntry,
    decode_message,
    encode_message,
)

# The number of each message is part of the protocol: a device of years ago still speaks it.
EXAMPLES = {
    1: Hello(1, b"key", b"random", b"id", b"", 5),
    2: Challenge(1, b"random", b"key", b"epoch", "user", [{"name": "password", "secret": True}]),
    3: Prove(b"signature", "{}"),
    4: Welcome(7, 3, b"token", 10, 0, 2),
    5: Unauthorized("login"),
    6: Revoked("lost"),
    7: Signup('{"email":"é"}'),
    8: Login(""),
    10: Denied("denied", "no"),
    11: Push([PushedTransaction(1, b"hash", b"body"), PushedTransaction(2, b"", b"")]),
    12: Verdicts([Verdict(1, 9), Verdict(2, 0, "constraint", "UNIQUE", "t", ["a"])]),
    13: Subscribe(b"token", b"epoch", 4, b"a", b"u", 3),
    14: Entries([WireEntry(5, True, 0, b"chain", b"body")], 6, True),
    15: SnapshotStart(1, b"epoch", b"a", b"u", 1, ["CREATE TABLE t (a)"], 99),
    16: SnapshotChunk("t", ["a", "b"], [[None, 1], [1.5, b"\xff"], ["text", -(2**63)]]),
    17: SnapshotEnd(["CREATE INDEX i ON t (a)"]),
    18: Applied(5, 3, 2),
    20: Ping(1.25),
    21: Pong(1.25, 17),
    22: ProblemReport("closing", "bye"),
    23: AskHead(7.5),
    24: Head(7.5, 12),
}


@pytest.mark.parametrize(("number", "message"), EXAMPLES.items(), ids=lambda value: type(value).__name__)
def test_a_message_keeps_its_number_and_its_fields(number, message):
    data = encode_message(message)
    assert msgspec.msgpack.decode(data)[0] == number
    assert decode_message(data) == message


def test_fields_of_a_later_version_are_passed_over():
    later = msgspec.msgpack.encode([20, 1.5, "new in a later version"])
    assert decode_message(later) == Ping(1.5)


def test_a_missing_field_with_a_default_is_filled_in():
    assert decode_message(msgspec.msgpack.encode([12, [[3, 8]]])) == Verdicts([Verdict(3, 8)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(5),
        msgspec.msgpack.encode({"a": 1}),
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode([9, "signup"]),
        msgspec.msgpack.encode([99]),
        msgspec.msgpack.encode(["Ping", 1.0]),
        msgspec.msgpack.encode([20]),
        msgspec.msgpack.encode([20, "now"]),
        msgspec.msgpack.encode([4, "7", 3, b"", 1, 0, 0]),
        msgspec.msgpack.encode([11, [[1, "hash as text", b""]]]),
        encode_message(Ping(1.0)) + b"\0",
        encode_message(Login("name"))[:-1],
        b"\x92\x08\xa1\xff",
        b"\x94\x10\xa1t\x90" + b"\x91" * 5000 + b"\xc0",
    ],
    ids=[
        *("nothing", "never used", "a number", "a map", "no number", "retired number", "unknown number"),
        *("name", "too short", "text for time", "text for id", "text for hash", "bytes behind it", "cut off"),
        *("bad utf-8", "deeply nested"),
    ],
)
def test_garbage_is_a_protocol_error(data):
    with pytest.raises(ProtocolError, match="not an OctoDB message"):
        decode_message(data)
