"""How the command line fails: exit codes, and errors as three lines (error, why, fix).

Owns the one table from the library's errors to exit codes. It imports no library and prints nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["Exit", "Failure", "failure_of"]


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    CANNOT_OPEN = 3
    AUTHORIZATION = 4
    NETWORK = 5
    REJECTED = 6
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Failure(Exception):  # noqa: N818 - it reads as what it is: raise Failure(...)
    """Ends a command: what happened, why, what to do about it, and the exit code."""

    def __init__(self, what: str, *, why: str = "", fix: str = "", code: Exit = Exit.ERROR) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.code = code

    def lines(self) -> list[str]:
        """The text for a person: ``error:``, ``why:`` and ``fix:``, without those that are empty."""
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return lines


# By name and most derived first, so that this module need not import the library it describes.
CODES: Final = {
    "ConfigError": Exit.USAGE,
    "NotAuthorizedError": Exit.AUTHORIZATION,
    "TransactionRejected": Exit.REJECTED,
    "SyncError": Exit.NETWORK,
}

# SQLite's result codes (https://sqlite.org/rescode.html) that mean "this file, not this statement".
FILE_ERRORS: Final = frozenset({"SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_PERM"})

# In the words of the command line: the library's hints name its functions.
OWN_FIXES: Final = {
    "NotReadyError": "octodb connect signs in and waits for it; in the shell .login or .signup, then .sync",
}

FIXES: Final = {
    "SQLITE_CANTOPEN": "check that the folder exists and that you may write to it",
    "SQLITE_NOTADB": "name another file: this one is no SQLite database, or it is encrypted",
    "SQLITE_CORRUPT": "restore a backup, or download the database again into a new file",
    "SQLITE_PERM": "check the permissions of the file and its folder",
    "SQLITE_BUSY": "end the transaction that another connection has open, then run it again",
    "SQLITE_READONLY": "open the database without --readonly, or check the file's permissions",
    "SQLITE_FULL": "free some space on the disk, then run it again",
    "SQLITE_CONSTRAINT": "change the values so that the constraint holds",
}


def failure_of(error: Exception, *, opening: bool = False) -> Failure:
    """Describe any exception as a Failure.

    ``opening`` is true while a database is being opened: then an error of SQLite is about the file.
    """
    if isinstance(error, Failure):
        return error
    names = [cls.__name__ for cls in type(error).__mro__]
    code = next((CODES[name] for name in names if name in CODES), Exit.ERROR)
    sqlite_name = _primary_name(error)
    if code is Exit.ERROR and "DatabaseError" in names and (opening or sqlite_name in FILE_ERRORS):
        code = Exit.CANNOT_OPEN
    what = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    own_fix = next((OWN_FIXES[name] for name in names if name in OWN_FIXES), "")
    return Failure(what, why=_cause(error), fix=own_fix or _fix(error, sqlite_name), code=code)


def _primary_name(error: Exception) -> str:
    """``SQLITE_CANTOPEN`` for ``SQLITE_CANTOPEN_ISDIR``; "" for errors SQLite did not raise."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return "_".join(name.split("_")[:2])


def _cause(error: Exception) -> str:
    cause = error.__cause__
    if cause is None or not str(cause) or str(cause) in str(error):
        return ""
    return str(cause)


def _fix(error: Exception, sqlite_name: str) -> str:
    hint = str(getattr(error, "hint", ""))
    if hint:
        return hint
    text = str(error)
    if text.startswith(("no such table", "no such view")):
        return "list what there is: .tables in the shell"
    if text.startswith("no such column") or " has no column named " in text:
        return "look at the table's columns: .schema TABLE in the shell"
    if "syntax error" in text or text == "incomplete input":
        return "correct the statement"
    return FIXES.get(sqlite_name, "")
