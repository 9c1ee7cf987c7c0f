"""Python functions as SQLite calls them: each wrapped so that its errors come out as sqlite3 lets them.

Owns what a failing callback means (an SQL error, a refusal, an interruption) and the tracebacks of
``enable_callback_tracebacks()``. Never registers anything: the connection does.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import apsw

from octodb.errors import DataError, Error, OperationalError
from octodb.storage.apsw_errors import coded

__all__ = [
    "aggregate",
    "authorizer",
    "collation",
    "enable_callback_tracebacks",
    "progress",
    "scalar",
    "trace",
    "window",
]

_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**63 - 1
_C_INT_MIN, _C_INT_MAX = -(2**31), 2**31 - 1


class _Tracebacks:
    """The process-wide switch of enable_callback_tracebacks()."""

    enabled = False


@dataclass
class _Unraisable:
    """The argument of sys.unraisablehook, whose own type Python does not let us make."""

    exc_type: type[BaseException]
    exc_value: BaseException | None
    exc_traceback: TracebackType | None
    err_msg: str | None
    object: object


def enable_callback_tracebacks(enable: bool, /) -> None:
    """Show the errors of callbacks through ``sys.unraisablehook``, or (the default) do not."""
    _Tracebacks.enabled = bool(enable)


def scalar(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as an SQL function."""

    def call(*arguments: Any) -> Any:
        try:
            return _storable(function(*arguments))
        except Exception as error:
            raise _failure(function, error, "user-defined function raised exception") from error

    return call


def aggregate(factory: Callable[[], Any]) -> Callable[[], _Aggregate]:
    """A class with step() and finalize() as APSW wants it."""
    return lambda: _Aggregate(factory)


def window(factory: Callable[[], Any]) -> Callable[[], _Window]:
    """A class with step(), inverse(), value() and finalize() as APSW wants it."""
    return lambda: _Window(factory)


def collation(function: Callable[[str, str], int]) -> Callable[[str, str], int]:
    """``function`` as a collation; what fails or is no integer counts as equal."""

    def compare(first: str, second: str) -> int:
        try:
            result = function(first, second)
            return (result > 0) - (result < 0)
        except Exception as error:  # noqa: BLE001 - sqlite3 treats it as equal, whatever it is
            _report(function, error)
            return 0

    return compare


def authorizer(function: Callable[..., int]) -> Callable[..., int]:
    """``function`` as an authorizer; what fails or returns no C integer denies."""

    def authorize(*arguments: Any) -> int:
        try:
            result = function(*arguments)
            if isinstance(result, int) and _C_INT_MIN <= result <= _C_INT_MAX:
                return result
            raise TypeError(f"an authorizer returns a small integer, not {result!r}")
        except Exception as error:  # noqa: BLE001 - when in doubt, deny
            _report(function, error)
            return apsw.SQLITE_DENY

    return authorize


def progress(function: Callable[[], object]) -> Callable[[], bool]:
    """``function`` as a progress handler; failing interrupts."""

    def tick() -> bool:
        try:
            return bool(function())
        except Exception as error:  # noqa: BLE001 - sqlite3 interrupts, whatever it is
            _report(function, error)
            return True

    return tick


def trace(function: Callable[[str], object]) -> Callable[[apsw.Cursor, str, Any], bool]:
    """``function`` as an execution tracer that gets the SQL with its values filled in."""

    def seen(cursor: apsw.Cursor, sql: str, _bindings: Any) -> bool:
        try:
            text = cursor.expanded_sql
        except Exception as error:  # noqa: BLE001 - too long to expand, by SQLite's own limit
            text = None
            _report(function, DataError(f"Expanded SQL string exceeds the maximum string length: {error}"))
        else:
            if text is None:
                _report(function, DataError("Expanded SQL string exceeds the maximum string length"))
        try:
            function(sql if text is None else text)
        except Exception as error:  # noqa: BLE001 - tracing must not disturb the statement
            _report(function, error)
        return True

    return seen


class _Aggregate:
    """One run of an aggregate. The class is instantiated by the first row: no rows, no instance, NULL."""

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory
        self._instance: Any = None
        self._failed = False

    def step(self, *arguments: Any) -> None:
        if self._instance is None:
            try:
                self._instance = self._factory()
            except Exception as error:
                self._failed = True
                text = "user-defined aggregate's '__init__' method raised error"
                raise _failure(self._factory, error, text) from error
        self._call("step", *arguments)

    def final(self) -> Any:
        # after a failure SQLite still asks for the result, to clean up
        return None if self._instance is None or self._failed else self._call("finalize")

    def _call(self, method: str, *arguments: Any) -> Any:
        bound = None
        try:
            bound = getattr(self._instance, method)
            result = bound(*arguments)
            return _storable(result) if method in {"finalize", "value"} else None
        except Exception as error:
            self._failed = True
            missing = bound is None and isinstance(error, AttributeError)
            what = "method not defined" if missing else "method raised error"
            text = f"user-defined aggregate's '{method}' {what}"
            raise _failure(self._factory, error, text) from error


class _Window(_Aggregate):
    """One run of a window function, or of an aggregate made by the same class."""

    _has_given_values = False

    def value(self) -> Any:
        self._has_given_values = True
        return None if self._instance is None or self._failed else self._call("value")

    def inverse(self, *arguments: Any) -> None:
        if self._instance is not None and not self._failed:
            self._call("inverse", *arguments)

    def final(self) -> Any:
        if not self._has_given_values:
            return super().final()
        # Behind OVER the result was given by value(); SQLite drops errors of this last call.
        with suppress(Exception):
            super().final()
        return None


def _storable(value: Any) -> Any:
    """``value`` when SQLite can hold it. Raises OverflowError, TypeError, BufferError, UnicodeError."""
    if isinstance(value, int):
        if not _INTEGER_MIN <= value <= _INTEGER_MAX:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
    elif isinstance(value, str):
        if not value.isascii():
            value.encode()
    elif value is not None and not isinstance(value, (float, bytes)):
        view = memoryview(value)
        if not view.c_contiguous:
            raise BufferError("memoryview: underlying buffer is not C-contiguous")
    return value


def _failure(function: object, error: Exception, text: str) -> Exception:
    """What the statement fails with when a callback raised ``error``."""
    _report(function, error)
    if isinstance(error, MemoryError):
        return MemoryError()
    if isinstance(error, OverflowError):
        return coded(DataError("string or blob too big"), apsw.SQLITE_TOOBIG)
    if isinstance(error, Error) and error.args == (text,):
        return error
    return coded(OperationalError(text), apsw.SQLITE_ERROR)


def _report(function: object, error: Exception) -> None:
    if not _Tracebacks.enabled:
        return
    if sys.unraisablehook is sys.__unraisablehook__:
        lines = traceback.format_exception(error)
        sys.stderr.write(f"Exception ignored in: {function!r}\n{''.join(lines)}")
    else:
        sys.unraisablehook(_Unraisable(type(error), error, error.__traceback__, None, function))
