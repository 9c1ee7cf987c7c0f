"""Frames at their limits; any split of bytes is tests/properties/test_wire.py."""

import pytest

from octodb.errors import ProtocolError
from octodb.wire.frames import FRAME_BYTES_MAX, FrameDecoder, encode_frames


def header(length, bits=0):
    return (length | bits << 28).to_bytes(4, "big")


def test_a_message_is_a_length_and_its_bytes():
    assert encode_frames(b"hello") == b"\0\0\0\x05hello"
    assert encode_frames(b"") == b"\0\0\0\0"


def test_a_long_message_goes_on_in_the_next_frame():
    message = bytes(FRAME_BYTES_MAX) + b"end"
    frames = encode_frames(message)
    assert frames[:4] == header(FRAME_BYTES_MAX, bits=8)
    assert frames[4 + FRAME_BYTES_MAX :] == header(3) + b"end"
    assert FrameDecoder(2 * FRAME_BYTES_MAX).feed(frames) == [message]


def test_a_frame_may_have_one_mebibyte_and_not_one_byte_more():
    decoder = FrameDecoder(4 * FRAME_BYTES_MAX)
    assert decoder.feed(header(FRAME_BYTES_MAX) + bytes(FRAME_BYTES_MAX)) == [bytes(FRAME_BYTES_MAX)]
    with pytest.raises(ProtocolError, match="above the limit"):
        decoder.feed(header(FRAME_BYTES_MAX + 1))


def test_a_stranger_cannot_make_the_decoder_collect():
    decoder = FrameDecoder(10)
    assert decoder.feed(header(10) + bytes(10)) == [bytes(10)]
    with pytest.raises(ProtocolError, match="above the limit of 10"):
        FrameDecoder(10).feed(header(11))  # its header alone is enough
    assert decoder.feed(header(6, bits=8) + bytes(6)) == []
    with pytest.raises(ProtocolError, match="above the limit of 10"):
        decoder.feed(header(5))


def test_the_limit_is_raised_when_the_peer_has_proved_itself():
    decoder = FrameDecoder(10)
    decoder.message_bytes_max = 100
    assert decoder.feed(header(50) + bytes(50)) == [bytes(50)]


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_reserved_bits_are_refused(bits):
    with pytest.raises(ProtocolError, match="reserved"):
        FrameDecoder(100).feed(header(1, bits=bits))


def test_an_http_request_is_refused_at_once():
    with pytest.raises(ProtocolError):
        FrameDecoder(100).feed(b"GET / HTTP/1.1\r\n")


def test_empty_frames_without_end_are_refused():
    with pytest.raises(ProtocolError, match="empty frame"):
        FrameDecoder(100).feed(header(0, bits=8))
