"""One connection on a transport that only remembers: bytes to messages and back, bounds, one end."""

import asyncio

import pytest

from octodb.runtime.framed_connection import FramedConnection
from octodb.wire.frames import encode_frames
from octodb.wire.messages import HANDSHAKE_BYTES_MAX, Login, Ping, decode_message, encode_message


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__({"peername": ("10.0.0.1", 1234)})
        self.written = b""
        self.unsent = 0
        self.ended = ""
        self.reads = True

    def pause_reading(self):
        self.reads = False

    def resume_reading(self):
        self.reads = True

    def write(self, data):
        self.written += data

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return bool(self.ended)

    def close(self):
        self.ended = self.ended or "closed"

    def abort(self):
        self.ended = "aborted"


class Story:
    def __init__(self):
        self.messages, self.ends = [], []
        self.connection = FramedConnection(self.messages.append, self.ends.append)
        self.transport = Transport()
        self.connection.connection_made(self.transport)


@pytest.fixture
def story():
    return Story()


def frame(message):
    return encode_frames(encode_message(message))


def test_messages_go_both_ways_and_are_counted(story):
    story.connection.data_received(frame(Ping(1.0)) + frame(Ping(2.0))[:3])
    story.connection.data_received(frame(Ping(2.0))[3:])
    assert story.messages == [Ping(1.0), Ping(2.0)]
    story.connection.send(Ping(3.0))
    assert story.transport.written == frame(Ping(3.0))
    assert (story.connection.bytes_in, story.connection.bytes_out) == (2 * len(frame(Ping(1.0))), len(frame(Ping(3.0))))
    assert story.connection.peer == "10.0.0.1:1234"


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", encode_frames(b"\xc1")], ids=["frames", "message"])
def test_what_is_not_our_protocol_ends_the_connection(story, data):
    story.connection.data_received(data)
    assert story.transport.ended == "closed"
    assert story.messages == []


def test_a_stranger_may_send_little(story):
    story.connection.data_received(frame(Login("x" * HANDSHAKE_BYTES_MAX)))
    assert (story.transport.ended, story.messages) == ("closed", [])


def test_a_trusted_peer_may_send_much(story):
    story.connection.trust()
    story.connection.data_received(frame(Login("x" * HANDSHAKE_BYTES_MAX)))
    assert len(story.messages) == 1


def test_the_reason_of_the_first_to_close_is_told(story):
    story.connection.close("this device was revoked")
    story.connection.abort("later")
    story.connection.connection_lost(OSError("reset"))
    assert story.ends == ["this device was revoked"]


@pytest.mark.parametrize(
    ("error", "reason"), [(None, "the other side closed the connection"), (OSError("reset"), "reset")]
)
def test_a_lost_connection_tells_why(story, error, reason):
    story.connection.connection_lost(error)
    assert story.ends == [reason]
    assert story.connection.peer == ""


def test_nothing_is_sent_after_the_end(story):
    story.connection.connection_lost(None)
    story.connection.send(Ping(1.0))
    story.connection.close("x")
    story.connection.abort("x")
    assert (story.transport.written, story.connection.bytes_out, story.transport.ended) == (b"", 0, "")


def test_a_peer_that_does_not_read_is_cut_off_with_what_was_kept_for_it(story):
    story.transport.unsent = 1024 * 1024 * 1024
    story.connection.send(Ping(1.0))
    assert story.transport.ended == "aborted"


def test_what_is_sent_can_be_read(story):
    story.connection.send(Login("é"))
    assert decode_message(story.transport.written[4:]) == Login("é")


def test_a_stranger_who_does_not_read_is_cut_off_soon(story):
    story.transport.unsent = 2 << 20
    story.connection.trust()
    story.connection.send(Ping(1.0))
    assert story.transport.ended == ""
    stranger = Story()
    stranger.transport.unsent = 2 << 20
    stranger.connection.send(Ping(1.0))
    assert stranger.transport.ended == "aborted"


def test_an_accepted_connection_is_not_read_from_while_the_other_side_does_not_read():
    connection = FramedConnection(lambda message: None, lambda reason: None, lambda: None)
    transport = Transport()
    connection.connection_made(transport)
    connection.pause_writing()
    connection.read_on(True)
    assert not transport.reads
    connection.read_on(False)
    connection.resume_writing()
    assert not transport.reads  # for the other reason, still
    connection.read_on(True)
    assert transport.reads


def test_a_device_always_reads(story):
    story.connection.pause_writing()
    assert story.transport.reads


def test_what_is_held_of_a_message_is_told(story):
    story.connection.data_received(frame(Ping(1.0))[:-1])
    assert story.connection.held_bytes == len(frame(Ping(1.0))) - 1
    story.connection.data_received(frame(Ping(1.0))[-1:])
    assert story.connection.held_bytes == 0


def test_who_breaks_the_protocol_is_marked(story):
    story.connection.data_received(b"\xff" * 4)
    assert story.connection.broke_protocol
