"""The parameters of execute(), checked and adapted for APSW. Knows adapters; never sees a statement.

SQLite's own values pass untouched. Everything else goes through the adapters, one value at a time and
only when it is bound, so a dictionary may hold values the statement never asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from octodb.dbapi.adapters import PLAIN_TYPES, PrepareProtocol, adapt
from octodb.errors import ProgrammingError

__all__ = ["Bindings", "bindable"]

Bindings = tuple[Any, ...] | list[Any] | dict[str, Any]


def bindable(parameters: Any) -> Bindings:
    """``parameters`` as APSW takes them: a tuple or list for ``?``, a dictionary for ``:name``.

    Raises ProgrammingError for anything that is neither, and for a value that no adapter makes storable.
    """
    kind = type(parameters)
    if kind is tuple or kind is list:
        for value in parameters:
            if type(value) not in PLAIN_TYPES:
                return _adapted_sequence(parameters)
        return parameters  # type: ignore[no-any-return] # the type was compared by identity, for speed
    if isinstance(parameters, dict):
        return _AdaptedNames(parameters)
    # sqlite3 takes whatever has items and a length, be it a string or a range
    if hasattr(kind, "__getitem__") and hasattr(kind, "__len__"):
        return _adapted_sequence(parameters)
    raise ProgrammingError("parameters are of unsupported type")


class _AdaptedNames(dict[str, Any]):
    """A view of a dictionary that adapts a value when APSW looks it up, and names the key it misses."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self._given = given
        self._asked = 0

    def __missing__(self, name: str) -> Any:
        # APSW asks in the order of the parameters, so counting gives the position messages name
        self._asked += 1
        try:
            value = self._given[name]
        except LookupError:
            raise ProgrammingError(f"You did not supply a value for binding parameter :{name}.") from None
        return value if type(value) in PLAIN_TYPES else _adapted(value, self._asked)


def _adapted_sequence(parameters: Sequence[Any]) -> list[Any]:
    # by index and not by iteration: an adapter may change the list, which must be an IndexError
    return [_adapted(parameters[i], i + 1) for i in range(len(parameters))]


def _adapted(value: Any, position: int) -> Any:
    if type(value) not in PLAIN_TYPES:
        value = adapt(value, PrepareProtocol, value)
    if value is None or isinstance(value, (int, float, str, bytes)):
        return value
    try:
        view = memoryview(value)
    except TypeError:
        raise ProgrammingError(
            f"Error binding parameter {position}: type '{type(value).__name__}' is not supported"
        ) from None
    if not view.c_contiguous:
        raise BufferError("underlying buffer is not C-contiguous")
    return view
