"""The DB-API 2.0 module: everything ``sqlite3.dbapi2`` has, under the same names. Owns no behaviour."""

from __future__ import annotations

import datetime
import sys
import time
import warnings
from typing import Any

import apsw

from octodb.dbapi import constants
from octodb.dbapi.adapters import (
    PrepareProtocol,
    adapt,
    adapters,
    converters,
    register_adapter,
    register_converter,
)
from octodb.dbapi.blob import Blob
from octodb.dbapi.callbacks import enable_callback_tracebacks
from octodb.dbapi.connection import Connection
from octodb.dbapi.constants import *  # noqa: F403 - a hundred names that constants.__all__ lists
from octodb.dbapi.cursor import Cursor
from octodb.dbapi.row import Row
from octodb.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,
)

__all__ = [
    "Binary",
    "Blob",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "PrepareProtocol",
    "ProgrammingError",
    "Row",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "adapt",
    "adapters",
    "apilevel",
    "complete_statement",
    "connect",
    "converters",
    "enable_callback_tracebacks",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "sqlite_version",
    "sqlite_version_info",
    "threadsafety",
    "version",
    "version_info",
]
__all__ += constants.__all__

apilevel = "2.0"
paramstyle = "qmark"
threadsafety = 3
"""Threads may share connections (with ``check_same_thread=False``): calls wait for each other."""

version = "2.6.0"
"""The version of the interface, which is sqlite3's."""
version_info = tuple(int(part) for part in version.split("."))
sqlite_version = apsw.sqlite_lib_version()
sqlite_version_info = tuple(int(part) for part in sqlite_version.split("."))

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = memoryview


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802 - PEP 249's name
    """The local date at ``ticks`` seconds since the epoch."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802 - PEP 249's name
    """The local time of day at ``ticks`` seconds since the epoch."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802 - PEP 249's name
    """The local date and time at ``ticks`` seconds since the epoch."""
    return Timestamp(*time.localtime(ticks)[:6])


def complete_statement(statement: str) -> bool:
    """Whether the text ends with a complete SQL statement: a semicolon outside strings and triggers."""
    return apsw.complete(statement)


if sys.version_info < (3, 12):

    def enable_shared_cache(do_enable: bool) -> None:
        """Deprecated, and gone from Python 3.12. False changes nothing; True is a NotSupportedError.

        Databases in memory that connections share (``file:name?mode=memory&cache=shared``) need no call.
        """
        warnings.warn(
            "enable_shared_cache is deprecated and will be removed in Python 3.12.",
            DeprecationWarning,
            stacklevel=2,
        )
        if do_enable:
            raise NotSupportedError("this build of SQLite has no shared cache")

    __all__ += ["enable_shared_cache"]

_FACTORY_POSITION = 4
"""Among the positional arguments after ``database``."""


def connect(database: Any, *args: Any, **options: Any) -> Any:
    """Open a database and return a Connection (or what ``factory`` makes). Arguments as in sqlite3::

        connect(database, timeout=5.0, detect_types=0, isolation_level="", check_same_thread=True,
                factory=Connection, cached_statements=128, uri=False, *, autocommit=-1)

    Raises OperationalError when the file cannot be opened.
    """
    by_position = args[_FACTORY_POSITION : _FACTORY_POSITION + 1]
    factory = by_position[0] if by_position else options.get("factory", Connection)
    return factory(database, *args, **options)
