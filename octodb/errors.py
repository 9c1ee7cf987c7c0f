"""Every exception octodb raises, as a tree. Owns the names and the hint; never touches SQLite.

::

    Warning
    Error (PEP 249 names as in sqlite3; sqlite_errorcode, sqlite_errorname; plus hint)
    ├─ InterfaceError ─ ConfigError
    └─ DatabaseError ─ DataError · InternalError · ProgrammingError · NotSupportedError
       ├─ IntegrityError ─ OwnershipError
       └─ OperationalError ─ NotReadyError · NotAuthorizedError · TransactionRejected
                           └ SyncError ─ ConnectError · ProtocolError · SyncTimeout
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ConnectError",
    "DataError",
    "DatabaseError",
    "Error",
    "InsecureWarning",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotAuthorizedError",
    "NotReadyError",
    "NotSupportedError",
    "OperationalError",
    "OwnershipError",
    "ProgrammingError",
    "ProtocolError",
    "SyncError",
    "SyncTimeout",
    "TransactionRejected",
    "Warning",
]


class Warning(Exception):  # noqa: N818 - PEP 249 and sqlite3 give it this name
    """As in sqlite3."""


class InsecureWarning(UserWarning):
    """What is secret crosses a network that others can read (by the ``warnings`` module, once for each text)."""


class Error(Exception):
    """Base of all errors. ``hint`` says what to do; it is '' where SQLite's own text is all there is.

    ``sqlite_errorcode`` (int) and ``sqlite_errorname`` (str) exist only on errors that SQLite itself
    raised, as in the sqlite3 module.
    """

    hint: str = ""
    sqlite_errorcode: int
    sqlite_errorname: str

    def __init__(self, *args: object, hint: str = "") -> None:
        super().__init__(*args)
        if hint:
            self.hint = hint


class InterfaceError(Error):
    """Misuse of the interface itself, as in sqlite3."""


class ConfigError(InterfaceError):
    """A URI, a role or a setting is wrong. The message names the part, the hint the remedy."""


class DatabaseError(Error):
    """As in sqlite3."""


class DataError(DatabaseError):
    """As in sqlite3."""


class InternalError(DatabaseError):
    """As in sqlite3."""


class ProgrammingError(DatabaseError):
    """As in sqlite3."""


class NotSupportedError(DatabaseError):
    """As in sqlite3; also schema that cannot be replicated."""


class IntegrityError(DatabaseError):
    """As in sqlite3."""


class OwnershipError(IntegrityError):
    """A row was written for an owner this node may not write for (contract.md §5)."""


class OperationalError(DatabaseError):
    """As in sqlite3."""


class NotReadyError(OperationalError):
    """The database has not been downloaded yet: wait_ready(), or sign in first (contract.md §3)."""


class NotAuthorizedError(OperationalError):
    """The primary refused this device or this user."""


class TransactionRejected(OperationalError):  # noqa: N818 - the name of design.md's error tree
    """The primary rejected a transaction; PRAGMA rejected_transactions has the reason."""


class SyncError(OperationalError):
    """Something between this node and its primary failed."""


class ConnectError(SyncError):
    """No address could be reached or bound."""


class ProtocolError(SyncError):
    """The other side sent something the protocol does not allow."""


class SyncTimeout(SyncError):  # noqa: N818 - the name of design.md's error tree
    """A wait ended before its condition came true; the work itself goes on."""
