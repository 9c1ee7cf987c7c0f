"""Row, the row with column names. Owns access to one fetched row; never touches SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from octodb.dbapi.columns import Description, ResultColumns

if TYPE_CHECKING:
    from octodb.dbapi.cursor import Cursor

__all__ = ["Row"]


class Row:
    """A row whose columns are reached by index, by slice or by name (ASCII letter case does not count).

    Meant as ``connection.row_factory = octodb.Row``. Equal to another Row with the same names and values.
    """

    __slots__ = ("_columns", "_values")

    _columns: ResultColumns | None
    _values: tuple[Any, ...]

    def __new__(cls, cursor: Cursor, data: tuple[Any, ...], /) -> Row:
        # cursor.py imports this module, so what a cursor is has to be told by what it has
        if not hasattr(type(cursor), "_columns"):
            raise TypeError(f"Row() argument 1 must be octodb.Cursor, not {type(cursor).__name__}")
        if not issubclass(type(data), tuple):
            raise TypeError(f"Row() argument 2 must be tuple, not {type(data).__name__}")
        self = object.__new__(cls)
        self._columns = cursor._columns
        self._values = data
        return self

    @classmethod
    def _made(cls, columns: ResultColumns, data: tuple[Any, ...]) -> Row:
        """The quick way for cursors: nothing to check."""
        self = object.__new__(cls)
        self._columns = columns
        self._values = data
        return self

    @property
    def _description(self) -> Description | None:
        return None if self._columns is None else self._columns.description

    def keys(self) -> list[str]:
        """The column names, in order."""
        return [column[0] for column in self._description or ()]

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, str):
            if self._columns is None:
                raise IndexError("No item with that key")
            return self._values[self._columns.positions[index]]
        if isinstance(index, (int, slice)):
            return self._values[index]
        raise IndexError("Index must be int or string")

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __hash__(self) -> int:
        return hash(self._description) ^ hash(self._values)

    def __eq__(self, other: object, /) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return self._description == other._description and self._values == other._values


Sequence.register(Row)
