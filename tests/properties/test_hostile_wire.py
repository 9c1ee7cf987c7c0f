"""Whatever bytes and messages come, in whatever phase: a message, a ProtocolError, or a step of the machine."""

import tracemalloc

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from octodb.errors import ProtocolError
from octodb.model.transactions import decode_body, encode_body
from octodb.storage.changesets import iterate
from octodb.sync import effects as to_do
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.messages import IS_COPY, KNOWS_COPIES, MESSAGE_BYTES_MAX, decode_message, encode_message
from tests.properties.hostile_messages import DevicePlay, PrimaryPlay, bent, by_type, garbage_values, messages

LIMIT = 64 * 1024


@settings(max_examples=500, deadline=None)
@given(bent())
def test_a_bent_message_is_one_or_none(data):
    try:
        message = decode_message(data)
    except ProtocolError:
        return
    encode_message(message)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 40), st.lists(garbage_values, max_size=9))
def test_the_number_of_a_message_and_anything_behind_it(number, values):
    try:
        decode_message(msgspec.msgpack.encode([number, *values]))
    except ProtocolError:
        return


def test_nesting_without_end_is_no_message():
    for opening in (b"\x91", b"\x81\xa1a"):
        for depth in (100, 10_000, 1_000_000):
            for data in (b"\x95\x1c\x00\xa0" + opening * depth, opening * depth):
                try:
                    decode_message(data)
                except ProtocolError:
                    continue
                raise AssertionError("such a message was taken")


def test_announced_lengths_take_no_memory():
    """A msgpack array, map, text or blob says its length before it comes (github.com/msgpack/msgpack, spec.md)."""
    tracemalloc.start()
    try:
        for head in (
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\xff\xff\xff\xff",
        ):
            for front in (b"", b"\x92\x0b", b"\x93\x1d\x00", b"\x95\x1c\x00\xa0"):
                try:
                    decode_message(front + head)
                except ProtocolError:
                    continue
                raise AssertionError("such a message was taken")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.binary(max_size=30), messages.map(encode_message).map(encode_frames)), max_size=6), st.data()
)
def test_a_decoder_holds_no_more_than_its_limit(pieces, data):
    decoder = FrameDecoder(LIMIT)
    stream = b"".join(pieces)
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        piece, stream = stream[:size], stream[size:]
        try:
            received = decoder.feed(piece)
        except ProtocolError:
            return
        assert all(len(message) <= LIMIT for message in received)
        assert decoder.held_bytes <= LIMIT + 8


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_for_a_body_and_for_a_changeset(data):
    for read in (decode_body, lambda data: list(iterate(data))):
        try:
            read(data)
        except ProtocolError:
            continue


@settings(max_examples=300, deadline=None)
@given(garbage_values, garbage_values)
def test_a_body_of_other_values(first, second):
    for value in ([first, second], [1, [[first, second]]], [first, [[1, second]]], first):
        try:
            body = decode_body(msgspec.msgpack.encode(value))
        except ProtocolError:
            continue
        encode_body(body.schema_seq, body.ops)


hostile = st.one_of(messages, messages, st.one_of(*by_type.values()))
features = st.sampled_from([0, KNOWS_COPIES, KNOWS_COPIES | IS_COPY])
steps = st.lists(st.one_of(st.just("answer"), st.just("advance"), st.just("wait"), hostile), max_size=25)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["none", "node", "user"]), st.integers(0, 9), features, steps)
def test_a_primary_takes_any_message_at_any_time(auth, honest_steps, features, steps):
    play = PrimaryPlay(auth, features)
    for _ in range(honest_steps):
        play.advance()
    for step in steps:
        if isinstance(step, str):
            getattr(play, step)()
        else:
            play.receive(step)
        assert play.session._outstanding <= 17
    for effect in play.all_effects:
        assert isinstance(effect, to_do.Effect.__args__), effect
        if isinstance(effect, to_do.Send):
            assert decode_message(encode_message(effect.message)) == effect.message


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.integers(0, 5), steps)
def test_a_device_takes_any_message_at_any_time(ready, honest_steps, steps):
    play = DevicePlay(ready)
    for _ in range(honest_steps):
        play.advance()
    for step in steps:
        if isinstance(step, str):
            getattr(play, step)()
        else:
            play.receive(step)
    for effect in play.all_effects:
        assert isinstance(effect, to_do.Effect.__args__), effect


def test_what_a_device_may_send_is_what_one_message_can_carry():
    assert len(encode_message(by_type_example())) < MESSAGE_BYTES_MAX


def by_type_example():
    from octodb.wire.messages import Push, PushedTransaction

    return Push([PushedTransaction(1, bytes(16), bytes(64 << 20))])
