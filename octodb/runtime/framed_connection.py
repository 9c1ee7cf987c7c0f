"""One TCP connection carrying frames: bytes to messages and back, with bounds and counters. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any, Final

from octodb.errors import ProtocolError
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.messages import (
    HANDSHAKE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Message,
    decode_message,
    encode_message,
)

__all__ = ["FramedConnection", "close_inherited"]

# A peer that does not read what it is sent is cut off here: flow control keeps an honest one far below.
_UNSENT_BYTES_MAX: Final = 256 * 1024 * 1024
# The same for one that is not trusted: it is sent a few short messages, and answers to its pings.
_UNSENT_BYTES_STRANGER: Final = 1024 * 1024
# From here on a primary takes no more questions of a device that does not read the answers.
_READS_ON_BELOW_BYTES: Final = 16 * 1024 * 1024


def close_inherited(socket: Any) -> None:
    """Close the descriptor of a socket that belongs to the loop of a parent process."""
    with contextlib.suppress(OSError):
        os.close(socket.fileno())


class FramedConnection(asyncio.Protocol):
    """``received(message)`` is called for each message, ``lost(reason)`` once at the end.

    ``made()`` is called when an accepted connection is there; one that is given does not read on while the other side
    does not read. Only one side may be so, or both could wait for each other.
    """

    def __init__(
        self,
        received: Callable[[Message], None],
        lost: Callable[[str], None],
        made: Callable[[], None] | None = None,
    ) -> None:
        self._received = received
        self._lost = lost
        self._made = made
        self._decoder = FrameDecoder(HANDSHAKE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._reason = ""
        self._peer = ""
        self.host = ""
        self.handshake: asyncio.Task[None] | None = None  # while TLS is not agreed on yet
        self.refused = False  # closed before it was made
        self._wanted = True  # see read_on
        self.stuck = False  # the other side does not read, and is not read from
        self._reads = True
        self._unsent_bytes_max = _UNSENT_BYTES_STRANGER
        self.broke_protocol = False
        self.bytes_in = 0
        self.bytes_out = 0

    # --- asyncio.Protocol ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment] # uvloop's class is not asyncio's
        # kept: a primary's status lists all its devices, several times a second
        name = transport.get_extra_info("peername")
        self._peer = f"{name[0]}:{name[1]}" if name else ""
        self.host = str(name[0]) if name else ""
        if self._made is not None:
            with contextlib.suppress(NotImplementedError):
                transport.set_write_buffer_limits(high=_READS_ON_BELOW_BYTES)  # type: ignore[attr-defined]
            self._made()

    def pause_writing(self) -> None:
        self.stuck = self._made is not None
        self._set_reading()

    def resume_writing(self) -> None:
        self.stuck = False
        self._set_reading()

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        try:
            for payload in self._decoder.feed(data):
                if self._transport is None:
                    return
                self._received(decode_message(payload))
        except ProtocolError as error:
            self.broke_protocol = True
            self.close(str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        reason = self._reason or (str(error) if error else "the other side closed the connection")
        self._lost(reason)

    def never_made(self, reason: str) -> None:
        """TLS was not agreed on: ``lost`` is told, unless it is after ``connection_made``, when asyncio tells it."""
        if self._transport is None and not self._peer:
            self._lost(self._reason or reason)

    # --- ours ----------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """Address of the other side; '' when the connection is gone."""
        return "" if self._transport is None else self._peer

    @property
    def moved_bytes(self) -> int:
        """What came in, and what went out as far as this process can tell."""
        return self.bytes_in + self.bytes_out - self.unsent_bytes

    def forget(self) -> None:
        """Cut it without telling: who dialed knows why."""
        self._lost = lambda _: None
        self.abort("")

    @property
    def unsent_bytes(self) -> int:
        """What the other side has still to take."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    @property
    def closing(self) -> bool:
        """It was closed, and the other side has not taken yet what it was sent before."""
        return self._transport is not None and self._transport.is_closing()

    def forget_in_child(self) -> None:
        """This is a forked child: close its copy of the socket, which goes on in the parent."""
        socket = None if self._transport is None else self._transport.get_extra_info("socket")
        if socket is not None:
            close_inherited(socket)

    def trust(self) -> None:
        """The peer has proved who it is: it may send whole transactions."""
        self._decoder.message_bytes_max = MESSAGE_BYTES_MAX
        self._unsent_bytes_max = _UNSENT_BYTES_MAX

    @property
    def held_bytes(self) -> int:
        """What was received of a message that is not whole yet."""
        return self._decoder.held_bytes

    def send(self, message: Message) -> None:
        if self._transport is None:
            return
        data = encode_frames(encode_message(message))
        self.bytes_out += len(data)
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > self._unsent_bytes_max:
            self.abort("the other side does not read what it is sent")

    def read_on(self, wanted: bool) -> None:
        """Whether to take what the other side sends; False: it waits, in the end at the other side."""
        self._wanted = wanted
        self._set_reading()

    def _set_reading(self) -> None:
        reads = self._wanted and not self.stuck
        if self._transport is not None and reads != self._reads:
            self._reads = reads
            (self._transport.resume_reading if reads else self._transport.pause_reading)()

    def close(self, reason: str) -> None:
        """Send what is buffered and close. ``lost`` is called with ``reason``."""
        self.refused = self._transport is None
        if self.handshake is not None:
            self.abort(reason)
        elif self._transport is not None and not self._transport.is_closing():
            self._reason = self._reason or reason
            self._transport.close()

    def abort(self, reason: str) -> None:
        if self.handshake is not None and self._transport is None:
            self._reason = self._reason or reason
            self.handshake.cancel()
        elif self._transport is not None:
            self._reason = self._reason or reason
            self._transport.abort()
