"""Frames: how messages lie in a byte stream. Splits and joins bytes; knows nothing of their meaning.

A frame is a 4-byte big-endian header and its payload. The header's top bit says that the message goes on in the next
frame, the three bits below are reserved and must be 0, the low 28 bits are the payload's length. A frame is at most
1 MiB; a longer message is split, and a receiver bounds what it will join (docs/protocol.md).
"""

from __future__ import annotations

import struct
from typing import Final

from octodb.errors import ProtocolError

__all__ = ["FRAME_BYTES_MAX", "FrameDecoder", "encode_frames"]

FRAME_BYTES_MAX: Final = 1024 * 1024
_HEADER_BYTES: Final = 4
_MORE: Final = 0x8000_0000
_RESERVED: Final = 0x7000_0000
_LENGTH: Final = 0x0FFF_FFFF
_read_header: Final = struct.Struct(">I").unpack_from


def encode_frames(message: bytes) -> bytes:
    """One message as one or more frames."""
    if len(message) <= FRAME_BYTES_MAX:
        return len(message).to_bytes(_HEADER_BYTES, "big") + message
    parts: list[bytes] = []
    for start in range(0, len(message), FRAME_BYTES_MAX):
        payload = message[start : start + FRAME_BYTES_MAX]
        more = _MORE if start + FRAME_BYTES_MAX < len(message) else 0
        parts += [(len(payload) | more).to_bytes(_HEADER_BYTES, "big"), payload]
    return b"".join(parts)


class FrameDecoder:
    """Bytes in, whole messages out, however the bytes were cut.

    ``message_bytes_max`` bounds a joined message. It is small until the other side has proved who it is,
    so that a stranger cannot make this process hold memory, and is raised afterwards.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self.message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        self._message = bytearray()

    @property
    def held_bytes(self) -> int:
        """What is held of a message that is not whole yet."""
        return len(self._buffer) + len(self._message)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes from the stream and return the messages they complete, in order.

        Raises ProtocolError on a header with reserved bits or a length above the bounds; the stream cannot be
        read any further then and its connection must be closed.
        """
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        position = 0
        while len(buffer) - position >= _HEADER_BYTES:
            (header,) = _read_header(buffer, position)
            length = header & _LENGTH
            self._check(header, length)
            start, end = position + _HEADER_BYTES, position + _HEADER_BYTES + length
            if len(buffer) < end:
                break
            position = end
            if not header & _MORE and not self._message:
                messages.append(bytes(buffer[start:end]))  # the usual one: a message of one frame
                continue
            self._message += memoryview(buffer)[start:end]
            if not header & _MORE:
                messages.append(bytes(self._message))
                self._message.clear()
        if position:
            del buffer[:position]
        return messages

    def _check(self, header: int, length: int) -> None:
        if header & _RESERVED:
            raise ProtocolError("the stream is not OctoDB frames (reserved header bits are set)")
        if length > FRAME_BYTES_MAX:
            raise ProtocolError(f"a frame of {length} bytes is above the limit of {FRAME_BYTES_MAX}")
        if length == 0 and header & _MORE:
            raise ProtocolError("an empty frame says that more follows")
        if len(self._message) + length > self.message_bytes_max:
            raise ProtocolError(f"a message is above the limit of {self.message_bytes_max} bytes")
