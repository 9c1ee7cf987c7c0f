"""The columns of one result: their description, their names by position, and the way from stored values
to what the application gets. Owns converters' lookup and text factories; never touches SQLite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from octodb.dbapi.adapters import converters
from octodb.dbapi.constants import PARSE_COLNAMES, PARSE_DECLTYPES
from octodb.storage.statements import Columns

__all__ = ["Description", "ResultColumns", "Value", "value_converters"]

Description = tuple[tuple[str, None, None, None, None, None, None], ...]
Value = Callable[[Any], Any]


class ResultColumns:
    """The columns of one executed statement, shared by the cursor and the rows it made."""

    __slots__ = ("description", "positions")

    def __init__(self, columns: Columns, *, detect_types: int) -> None:
        self.description: Description = tuple(
            (_bare_name(name) if detect_types & PARSE_COLNAMES else name, None, None, None, None, None, None)
            for name, _declared in columns
        )
        self.positions = _Positions()
        """Name to index of the first column of that name, ASCII letter case aside; IndexError if none is."""
        for index, column in enumerate(self.description):
            self.positions.setdefault(_folded(column[0]), index)


class _Positions(dict[str, int]):
    """Positions by folded name; a name spelled otherwise is folded when it is looked up."""

    def __missing__(self, name: str) -> int:
        position = self.get(_folded(name))
        if position is None:
            raise IndexError("No item with that key")
        return position


def value_converters(
    columns: Columns, detect_types: int, real_text: Callable[[float], str]
) -> list[Value | None] | None:
    """One converter or None a column, by declared type and column name; None when no column has one.

    ``real_text`` writes a float as SQLite does: converters get the text of numbers.
    """
    found = [_converter(name, declared, detect_types) for name, declared in columns]
    if not any(found):
        return None
    return [None if converter is None else _on_bytes(converter, real_text) for converter in found]


def _converter(name: str, declared: str | None, detect_types: int) -> Callable[[bytes], Any] | None:
    if detect_types & PARSE_COLNAMES and name.endswith("]") and "[" in name:
        by_name = converters.get(name[name.index("[") + 1 : -1].upper())
        if by_name is not None:
            return by_name
    if detect_types & PARSE_DECLTYPES and declared:
        # "number(10)" and "number unsigned" are both "number"
        words = declared.replace("(", " ").split(None, 1)
        return converters.get(words[0].upper()) if words else None
    return None


def _on_bytes(converter: Callable[[bytes], Any], real_text: Callable[[float], str]) -> Value:
    """``converter`` for a value as APSW gives it: it gets what ``sqlite3_column_blob()`` would give."""

    def convert(value: Any) -> Any:
        if isinstance(value, bytes):
            raw = value
        elif isinstance(value, float):
            raw = real_text(value).encode()
        else:
            raw = str(value).encode()
        # SQLite gives no pointer for an empty value, which sqlite3 has always taken for NULL
        return converter(raw) if raw else None

    return convert


def _bare_name(name: str) -> str:
    """``x [timestamp]`` without the part that names a converter."""
    cut = name.find("[")
    if cut < 0:
        return name
    return name[: cut - 1] if cut > 0 and name[cut - 1] == " " else name[:cut]


_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _folded(name: str) -> str:
    # only A-Z, as sqlite3_stricmp() does: str.lower() would make more names equal than SQLite does
    return name.lower() if name.isascii() else name.translate(_ASCII_LOWER)
