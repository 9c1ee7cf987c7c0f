"""The one table from APSW's exceptions to ours. Owns message texts and codes; never raises by itself.

SQLite's result code decides the class, exactly as CPython's ``sqlite3`` decides it, and the text is
SQLite's own (``sqlite3_errmsg``). APSW's own exceptions (no result code: misuse of a cursor, wrong bindings)
get the class and the text that ``sqlite3`` gives for the same mistake.
"""

from __future__ import annotations

import re

import apsw

from octodb.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)

__all__ = ["FOREIGN", "coded", "explained", "extended_code", "translated"]

FOREIGN = (apsw.Error, UnicodeDecodeError, OverflowError)
"""What running a statement may raise that applications must not see as it is."""


_BY_RESULT: dict[int, type[Error]] = {
    apsw.SQLITE_INTERNAL: InternalError,
    apsw.SQLITE_NOTFOUND: InternalError,
    apsw.SQLITE_ERROR: OperationalError,
    apsw.SQLITE_PERM: OperationalError,
    apsw.SQLITE_ABORT: OperationalError,
    apsw.SQLITE_BUSY: OperationalError,
    apsw.SQLITE_LOCKED: OperationalError,
    apsw.SQLITE_READONLY: OperationalError,
    apsw.SQLITE_INTERRUPT: OperationalError,
    apsw.SQLITE_IOERR: OperationalError,
    apsw.SQLITE_FULL: OperationalError,
    apsw.SQLITE_CANTOPEN: OperationalError,
    apsw.SQLITE_PROTOCOL: OperationalError,
    apsw.SQLITE_EMPTY: OperationalError,
    apsw.SQLITE_SCHEMA: OperationalError,
    apsw.SQLITE_CORRUPT: DatabaseError,
    apsw.SQLITE_TOOBIG: DataError,
    apsw.SQLITE_CONSTRAINT: IntegrityError,
    apsw.SQLITE_MISMATCH: IntegrityError,
    apsw.SQLITE_MISUSE: InterfaceError,
    apsw.SQLITE_RANGE: InterfaceError,
}

# What to do about trouble that is not the statement's.
_HINTS: dict[int, str] = {
    apsw.SQLITE_FULL: "make room on the disk; what was committed before is safe, and sync goes on by itself",
    apsw.SQLITE_IOERR: "check the disk, its room, and who may write to the database and the files beside it (-wal)",
    apsw.SQLITE_READONLY: "check that you may write to the database, the files beside it (-wal, -shm) and their folder",
    apsw.SQLITE_CANTOPEN: "check that the database and its folder are there and that you may write to them",
    apsw.SQLITE_CORRUPT: "the file is damaged: save what can be read, then restore its backup; a device can be"
    " downloaded anew into another file",
    apsw.SQLITE_NOTADB: "the file is damaged, or encrypted: restore its backup; a device can be downloaded anew into"
    " another file",
    apsw.SQLITE_BUSY: "another connection is writing: end its transaction, or wait longer (timeout= of connect)",
}

_BY_CLASS: tuple[tuple[type[apsw.Error], type[Error], str], ...] = (
    (apsw.ConnectionClosedError, ProgrammingError, "Cannot operate on a closed database."),
    (apsw.CursorClosedError, ProgrammingError, "Cannot operate on a closed cursor."),
    (apsw.ForkingViolationError, ProgrammingError, "SQLite objects cannot be used after a fork."),
    (apsw.ExtensionLoadingError, OperationalError, ""),
)

_BINDINGS_WANTED = re.compile(r"(?:uses|Statement has) (\d+)")
_BINDING_NAMELESS = re.compile(r"Binding (\d+) has no name")
_BINDINGS_GIVEN = re.compile(r"there are (\d+) supplied")


def coded(error: Error, extended_code: int) -> Error:
    """Give ``error`` SQLite's extended result code and its name, and return it."""
    error.sqlite_errorcode = extended_code
    name = apsw.mapping_extended_result_codes.get(extended_code) or apsw.mapping_result_codes.get(
        extended_code, "unknown"
    )
    error.sqlite_errorname = str(name)
    return error


def translated(error: Exception) -> Exception:
    """What an application sees instead of ``error``: one of ours, or ``error`` itself where that is right.

    Errors of callbacks and of octodb itself pass unchanged. The result is meant for
    ``raise translated(error) from None``; when it is ``error`` itself, its own traceback goes on.
    """
    if isinstance(error, apsw.Error):
        return _from_apsw(error)
    if isinstance(error, UnicodeDecodeError):
        text = error.object.decode("utf-8", "replace")
        return OperationalError(f"Could not decode to UTF-8 text '{text}'")
    if isinstance(error, OverflowError):
        return OverflowError("Python int too large to convert to SQLite INTEGER")
    return error


def explained(error: BaseException) -> str:
    """What went wrong in one line for a status: the message, and the hint where there is one."""
    if isinstance(error, apsw.Error):
        ours: BaseException = translated(error)
    else:
        ours = error
    if not isinstance(ours, Error):
        return f"{type(ours).__name__}: {ours}"
    return f"{ours} ({ours.hint})" if ours.hint else str(ours)


def _from_apsw(error: apsw.Error) -> Exception:
    text = str(error)
    # APSW sets both codes on the errors SQLite reported and leaves them out on its own
    result: int | None = getattr(error, "result", None)
    if isinstance(error, apsw.BindingsError):
        return _bindings_error(text)
    if isinstance(error, apsw.ThreadingViolationError):
        if "Re-using a cursor" in text:
            return ProgrammingError("Recursive use of cursors not allowed.")
        return ProgrammingError(text)
    for theirs, ours, fixed in _BY_CLASS:
        if isinstance(error, theirs):
            # "ExtensionLoadingError: no such file": the class name is APSW's, not part of the message
            return ours(fixed or text.removeprefix(f"{theirs.__name__}: "))
    if result is None:
        return ProgrammingError(text)
    if result == apsw.SQLITE_NOMEM:
        return MemoryError()
    hint = _HINTS.get(result & 0xFF, "")
    return coded(_BY_RESULT.get(result, DatabaseError)(text, hint=hint), extended_code(error))


def extended_code(error: apsw.Error) -> int:
    """SQLite's extended result code of an error that SQLite reported."""
    code: int = getattr(error, "extendedresult", apsw.SQLITE_ERROR)
    return code


def _bindings_error(text: str) -> ProgrammingError:
    wanted = _BINDINGS_WANTED.search(text)
    given = _BINDINGS_GIVEN.search(text)
    nameless = _BINDING_NAMELESS.match(text)
    if nameless is not None:
        return ProgrammingError(
            f"Binding {int(nameless[1]) + 1} has no name, but you supplied a dictionary (which has only names)."
        )
    if wanted is None:
        return ProgrammingError(text)
    return ProgrammingError(
        f"Incorrect number of bindings supplied. The current statement uses {wanted[1]},"
        f" and there are {given[1] if given else 0} supplied."
    )
