"""Python values to SQLite values and back: the two registries and their defaults. Never touches SQLite.

``adapters`` and ``converters`` are plain dictionaries, as in sqlite3, so programs may look into them and
change them. They belong to the process, not to a connection: that is what sqlite3 promises.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from octodb.errors import ProgrammingError

__all__ = [
    "PLAIN_TYPES",
    "PrepareProtocol",
    "adapt",
    "adapters",
    "converters",
    "register_adapter",
    "register_converter",
]


class PrepareProtocol:
    """The protocol object that ``__conform__`` gets when a value is about to be bound."""


adapters: dict[tuple[type, type], Callable[[Any], Any]] = {}
"""(type, PrepareProtocol) to the function that makes a value SQLite can store."""

converters: dict[str, Callable[[bytes], Any]] = {}
"""Upper-case name of a declared type to the function that gets the stored value as bytes."""

PLAIN_TYPES: set[type] = {int, float, bool, str, bytes, bytearray, type(None)}
"""Types bound as they are, without asking an adapter; a type leaves when it gets an adapter."""

_NOT_GIVEN = object()


def register_adapter(type: type, adapter: Callable[[Any], Any], /) -> None:
    """Make ``adapter`` the function that turns values of exactly ``type`` into what SQLite can store."""
    PLAIN_TYPES.discard(type)
    adapters[(type, PrepareProtocol)] = adapter


def register_converter(typename: str, converter: Callable[[bytes], Any], /) -> None:
    """Make ``converter`` the function for columns declared as ``typename`` (any letter case)."""
    converters[typename.upper()] = converter


def adapt(obj: Any, proto: type = PrepareProtocol, alt: Any = _NOT_GIVEN, /) -> Any:
    """``obj`` as something SQLite can store: by its adapter, ``proto.__adapt__`` or its ``__conform__``.

    Raises ProgrammingError ("can't adapt") when nothing applies and no ``alt`` was given.
    """
    adapter = adapters.get((type(obj), proto))
    if adapter is not None:
        return adapter(obj)
    for owner, method, argument in ((proto, "__adapt__", obj), (obj, "__conform__", proto)):
        hook = getattr(owner, method, None)
        if hook is None:
            continue
        try:
            adapted = hook(argument)
        except TypeError:
            # as in sqlite3: a hook that does not fit the protocol counts as no hook
            continue
        if adapted is not None:
            return adapted
    if alt is not _NOT_GIVEN:
        return alt
    raise ProgrammingError("can't adapt")


def _adapt_date(value: datetime.date) -> str:
    return value.isoformat()


def _adapt_datetime(value: datetime.datetime) -> str:
    return value.isoformat(" ")


def _convert_date(value: bytes) -> datetime.date:
    return datetime.date(*map(int, value.split(b"-")))


def _convert_timestamp(value: bytes) -> datetime.datetime:
    date, _, time = value.partition(b" ")
    if not time:
        raise ValueError(f"not a timestamp: {value!r}")
    year, month, day = map(int, date.split(b"-"))
    clock, _, fraction = time.partition(b".")
    hours, minutes, seconds = map(int, clock.split(b":"))
    # digits after the sixth are cut, missing ones are zeros: .5 is 500000 microseconds
    microseconds = int(fraction[:6].ljust(6, b"0")) if fraction else 0
    return datetime.datetime(year, month, day, hours, minutes, seconds, microseconds)


register_adapter(datetime.date, _adapt_date)
register_adapter(datetime.datetime, _adapt_datetime)
register_converter("date", _convert_date)
register_converter("timestamp", _convert_timestamp)
