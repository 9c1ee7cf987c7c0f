"""Blob: one value read and written in pieces. Owns the position and sqlite3's index rules; never resizes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from operator import index as as_index
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import apsw

from octodb.errors import ProgrammingError

if TYPE_CHECKING:
    from octodb.dbapi.connection import Connection

__all__ = ["Blob"]

_OFFSET_MAX = 2**31 - 1
"""SQLite counts offsets in a blob with an int."""


class Blob:
    """As ``sqlite3.Blob``, made by ``connection.blobopen()``. Length is fixed: zeroblob(n) makes room.

    Every method raises ProgrammingError on a closed blob or database, OperationalError when the row was
    changed meanwhile.
    """

    _connection: Connection
    _raw: apsw.Blob | None
    _offset: int

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        raise TypeError(f"cannot create '{cls.__module__}.{cls.__qualname__}' instances")

    @classmethod
    def _opened(cls, connection: Connection, raw: apsw.Blob) -> Blob:
        self = object.__new__(cls)
        self._connection = connection
        self._raw = raw
        self._offset = 0
        return self

    def close(self) -> None:
        """Close the blob. Closing twice is no error."""
        with self._connection._turn():
            raw, self._raw = self._raw, None
            if raw is not None:
                raw.close(True)

    def read(self, length: int = -1, /) -> bytes:
        """``length`` bytes from the position on (default: all that are left); the position moves."""
        with self._turn() as raw:
            left = raw.length() - self._offset
            data = self._get(raw, self._offset, left if length < 0 else min(length, left))
            self._offset += len(data)
            return data

    def write(self, data: Any, /) -> None:
        """Write ``data`` at the position, which moves. ValueError when it does not fit."""
        with self._turn() as raw:
            view = _contiguous(data)
            if view.nbytes > raw.length() - self._offset:
                raise ValueError("data longer than blob")
            self._put(raw, self._offset, view)
            self._offset += view.nbytes

    def seek(self, offset: int, origin: int = os.SEEK_SET, /) -> None:
        """Set the position, counted from the start, from here (1) or from the end (2)."""
        with self._turn() as raw:
            if origin == os.SEEK_SET:
                base = 0
            elif origin == os.SEEK_CUR:
                base = self._offset
            elif origin == os.SEEK_END:
                base = raw.length()
            else:
                raise ValueError("'origin' should be os.SEEK_SET, os.SEEK_CUR, or os.SEEK_END")
            if base and offset > _OFFSET_MAX - base:
                raise OverflowError("seek offset results in overflow")
            if not 0 <= base + offset <= raw.length():
                raise ValueError("offset out of blob range")
            self._offset = base + offset

    def tell(self) -> int:
        """The position in bytes."""
        with self._turn():
            return self._offset

    def __len__(self) -> int:
        with self._turn() as raw:
            return raw.length()

    def __getitem__(self, key: Any, /) -> int | bytes:
        with self._turn() as raw:
            if isinstance(key, slice):
                start, stop, step = key.indices(raw.length())
                if step == 1:
                    return self._get(raw, start, max(0, stop - start))
                return self._get(raw, 0, raw.length())[key]
            return self._get(raw, _position(key, raw.length()), 1)[0]

    def __setitem__(self, key: Any, value: Any, /) -> None:
        with self._turn() as raw:
            if isinstance(key, slice):
                self._set_slice(raw, key, value)
                return
            position = _position(key, raw.length())
            if not hasattr(type(value), "__index__"):
                raise TypeError(f"'{type(value).__name__}' object cannot be interpreted as an integer")
            byte = as_index(value)
            if not 0 <= byte <= 255:
                raise ValueError("byte must be in range(0, 256)")
            self._put(raw, position, memoryview(bytes((byte,))))

    def __delitem__(self, key: Any, /) -> None:
        with self._turn():
            raise TypeError("Blob object doesn't support item deletion")

    def __contains__(self, value: object, /) -> bool:
        raise TypeError(f"argument of type '{type(self).__name__}' is not iterable")

    __iter__ = None  # as in sqlite3: indexing alone makes no sequence of it

    def __enter__(self) -> Self:
        with self._turn():
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Literal[False]:
        with self._turn():
            self.close()
        return False

    def _turn(self) -> _RawTurn:
        return _RawTurn(self._connection._turn(), self._raw)

    def _set_slice(self, raw: apsw.Blob, key: slice, value: Any) -> None:
        start, stop, step = key.indices(raw.length())
        size = len(range(start, stop, step))
        view = _contiguous(value)
        if view.nbytes != size:
            raise IndexError("Blob slice assignment is wrong size")
        if size == 0:
            return
        if step == 1:
            self._put(raw, start, view)
            return
        whole = bytearray(self._get(raw, 0, raw.length()))
        whole[key] = view.tobytes()
        self._put(raw, 0, memoryview(whole))

    @staticmethod
    def _get(raw: apsw.Blob, start: int, size: int) -> bytes:
        raw.seek(start)
        return raw.read(size)

    @staticmethod
    def _put(raw: apsw.Blob, start: int, data: memoryview) -> None:
        raw.seek(start)
        raw.write(data)


class _RawTurn:
    """Hold the connection while using the APSW blob, which must be open."""

    def __init__(self, turn: AbstractContextManager[object], raw: apsw.Blob | None) -> None:
        if raw is None:
            raise ProgrammingError("Cannot operate on a closed blob.")
        self._turn = turn
        self._raw = raw

    def __enter__(self) -> apsw.Blob:
        self._turn.__enter__()
        return self._raw

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.__exit__(kind, error, trace)


def _contiguous(data: Any) -> memoryview:
    view = memoryview(data)
    if not view.c_contiguous:
        raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return view.cast("B")


def _position(key: Any, length: int) -> int:
    if not hasattr(type(key), "__index__"):
        raise TypeError("Blob indices must be integers")
    position = as_index(key)
    if not -(2**63) <= position < 2**63:
        raise IndexError("cannot fit 'int' into an index-sized integer")
    if position < 0:
        position += length
    if not 0 <= position < length:
        raise IndexError("Blob index out of range")
    return position
