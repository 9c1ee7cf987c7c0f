"""The changeset of one INSERT that adds nothing but plain rows, made from the rows that it returns.

For a transaction of one such statement this is what a session records (sqlite.org/session/changesetfmt.html), at half
the price: to give its changeset a session prepares two statements and reads the row again. Knows nothing of owners.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

from octodb.sql.tokens import quote_name
from octodb.storage.shapes import TableShape

__all__ = ["InsertedRows"]

_INSERT: Final = b"\x12\x00"  # SQLITE_INSERT, and not as an effect of something else
_NULL: Final = b"\x05"
_integer = struct.Struct(">Bq").pack
_real = struct.Struct(">Bd").pack


class InsertedRows:
    """``returning``: the clause to put behind the INSERT, whose rows ``changeset`` takes."""

    def __init__(self, shape: TableShape) -> None:
        self.returning = f"\nRETURNING {', '.join(map(quote_name, shape.columns))}"
        places = {column: place for place, column in enumerate(shape.key, 1)}
        key = bytes(places.get(column, 0) for column in range(len(shape.columns)))
        self._header = b"T" + _varint(len(shape.columns)) + key + shape.name.encode() + b"\0"

    def changeset(self, rows: Iterable[tuple[Any, ...]]) -> bytes:
        """All columns that are not generated, as they are stored."""
        parts = [self._header]
        for row in rows:
            parts.append(_INSERT)
            parts += map(_encoded, row)
        return b"".join(parts)


def _encoded(value: Any) -> bytes:
    if value is None:
        return _NULL
    if isinstance(value, int):
        return _integer(1, value)
    if isinstance(value, float):
        return _real(2, value)
    if isinstance(value, str):
        raw = value.encode()
        return b"\x03" + _varint(len(raw)) + raw
    return b"\x04" + _varint(len(value)) + bytes(value)


def _varint(number: int) -> bytes:
    """A number as SQLite's file format writes lengths (sqlite.org/fileformat2.html#varint); below 2^56."""
    if number < 0x80:
        return bytes((number,))
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(number & 0x7F | 0x80)
    return bytes(reversed(groups))
