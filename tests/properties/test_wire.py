"""Any message survives the wire, however the stream is cut; nothing else is taken for one."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octodb.errors import ProtocolError
from octodb.model.transactions import Op, decode_body, encode_body
from octodb.wire.frames import FRAME_BYTES_MAX, FrameDecoder, encode_frames
from octodb.wire.messages import Message, decode_message, encode_message

LIMIT = 4 * FRAME_BYTES_MAX
number = st.integers(-(1 << 63), (1 << 63) - 1)
value = st.one_of(st.none(), number, st.floats(allow_nan=False), st.text(max_size=20), st.binary(max_size=20))
BY_TYPE = {
    int: number,
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=64),
    bool: st.booleans(),
}


def values_of(kind):
    """A strategy for the type of a field, read from the message itself so that a new one is covered at once."""
    if isinstance(kind, msgspec.inspect.StructType):
        return st.builds(kind.cls, **{field.name: values_of(field.type) for field in kind.fields})
    if isinstance(kind, msgspec.inspect.ListType):
        return st.lists(values_of(kind.item_type), max_size=4)
    if isinstance(kind, msgspec.inspect.TupleType):
        return st.tuples(*(values_of(one) for one in kind.item_types))
    if isinstance(kind, msgspec.inspect.DictType):
        return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
    if isinstance(kind, msgspec.inspect.AnyType):
        return value
    if isinstance(kind, msgspec.inspect.IntType) and kind.ge is not None:
        return st.integers(kind.ge, kind.le)
    plain = {
        msgspec.inspect.IntType: int,
        msgspec.inspect.FloatType: float,
        msgspec.inspect.StrType: str,
        msgspec.inspect.BytesType: bytes,
        msgspec.inspect.BoolType: bool,
    }
    return BY_TYPE[plain[type(kind)]]


messages = st.one_of([values_of(kind) for kind in msgspec.inspect.type_info(Message).types])


@settings(max_examples=300, deadline=None)
@given(messages)
def test_a_message_comes_back_as_it_was(message):
    assert decode_message(encode_message(message)) == message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_is_no_message(data):
    try:
        message = decode_message(data)
    except ProtocolError:
        return
    assert decode_message(encode_message(message)) == message


@settings(max_examples=200, deadline=None)
@given(messages, st.data())
def test_a_damaged_message_is_another_one_or_none(message, data):
    damaged = bytearray(encode_message(message))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] = data.draw(st.integers(0, 255))
    try:
        decode_message(bytes(damaged))
    except ProtocolError:
        return


@settings(max_examples=100, deadline=None)
@given(messages)
def test_half_a_message_is_none(message):
    data = encode_message(message)
    for end in {0, 1, len(data) // 2, len(data) - 1}:
        with pytest.raises(ProtocolError):
            decode_message(data[:end])


def cut(stream, places):
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


sizes = st.one_of(
    st.integers(0, 300), st.integers(FRAME_BYTES_MAX - 2, FRAME_BYTES_MAX + 2), st.just(2 * FRAME_BYTES_MAX)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(sizes, max_size=5), st.lists(st.integers(0, 1 << 40), max_size=12))
def test_any_cut_of_the_stream_gives_the_same_messages(lengths, places):
    sent = [bytes([number]) * length for number, length in enumerate(lengths)]
    decoder = FrameDecoder(LIMIT)
    received = [message for piece in cut(b"".join(map(encode_frames, sent)), places) for message in decoder.feed(piece)]
    assert received == sent


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(max_size=5), max_size=4))
def test_byte_by_byte_gives_the_same_messages(sent):
    decoder = FrameDecoder(LIMIT)
    stream = b"".join(map(encode_frames, sent))
    assert [message for byte in stream for message in decoder.feed(bytes([byte]))] == sent


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=10))
def test_garbage_never_makes_a_decoder_hold_more_than_its_limit(pieces):
    decoder = FrameDecoder(16)
    for piece in pieces:
        try:
            received = decoder.feed(piece)
        except ProtocolError:
            return
        assert all(len(message) <= 16 for message in received)


payloads = st.one_of(st.binary(max_size=30), st.text(max_size=30))


@settings(max_examples=100, deadline=None)
@given(number, st.lists(st.builds(Op, st.integers(0, 100), payloads), max_size=5))
def test_a_body_comes_back_as_it_was(schema_seq, ops):
    body = decode_body(encode_body(schema_seq, ops))
    assert (body.schema_seq, body.ops) == (schema_seq, ops)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40))
def test_garbage_is_no_body(data):
    try:
        body = decode_body(data)
    except ProtocolError:
        return
    assert all(isinstance(op.payload, bytes | str) for op in body.ops)
