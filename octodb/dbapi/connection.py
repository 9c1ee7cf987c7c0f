"""Connection: opening, transactions and settings as in sqlite3. Owns the DB-API rules (when a transaction
begins, which thread may use what); never runs SQL itself: that is its Statements' work, and never syncs.

Names that begin with one underscore are for the other modules of this package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock, get_ident
from types import TracebackType
from typing import Any, Literal, Self
from weakref import ref

import apsw

from octodb import errors
from octodb.dbapi.backup import copy_database
from octodb.dbapi.blob import Blob
from octodb.dbapi.constants import LEGACY_TRANSACTION_CONTROL
from octodb.dbapi.cursor import Cursor
from octodb.dbapi.dump import dump_lines
from octodb.dbapi.node_methods import NodeMethods
from octodb.dbapi.opening import node_of, open_database, shown
from octodb.dbapi.registration import CallbackMethods
from octodb.errors import DataError, ProgrammingError
from octodb.model.node_uri import NodeUri
from octodb.sql.statements import Statement, StatementKind, classify
from octodb.sql.tokens import spans
from octodb.storage.apsw_errors import translated
from octodb.storage.statements import Statements, columns_of

__all__ = ["Connection", "Prepared"]

_UNINITIALIZED = "Base Connection.__init__ not called."
_CLOSED = "Cannot operate on a closed database."
_INHERITED = "This connection is of the process that was forked: open the database anew in the child."
_ISOLATION_LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")
_READERS_MAX = 256  # cursors kept in mind before a look at which of them are gone

Database = str | bytes | os.PathLike[str] | os.PathLike[bytes] | NodeUri


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement and whether sqlite3 counts it as DML: INSERT, UPDATE, DELETE or REPLACE not behind WITH."""

    statement: Statement
    is_dml: bool


class _Turn:
    """The use of a connection: holds its lock, if threads share it, and translates APSW's errors."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)
        if isinstance(error, apsw.Error):
            raise translated(error) from None


_ALONE = _Turn(nullcontext())


class Connection(NodeMethods, CallbackMethods):
    """A database, open. As ``sqlite3.Connection``, on any file that SQLite can open.

    Every method raises ProgrammingError when the connection is closed, or when another thread than the one
    that made it calls (unless ``check_same_thread=False``; then calls wait for each other).
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    row_factory: Callable[[Any, Any], Any] | None = None
    """What new cursors get as their row_factory."""

    _refusal: str | None = _UNINITIALIZED
    """Why the connection cannot be used; None: it can."""
    _shared_with_callbacks = False
    """Whether only the node's callback thread, not every thread, may take turns with the owner."""
    _owner: int | None = None
    """The thread that may use it without waiting for others; None: ask _turn()."""

    def __init__(
        self,
        database: Database,
        timeout: float = 5.0,
        detect_types: int = 0,
        isolation_level: str | None = "",
        check_same_thread: bool = True,
        factory: type[Connection] | None = None,
        cached_statements: int = 128,
        uri: bool = False,
        *,
        autocommit: bool | Literal[-1] = LEGACY_TRANSACTION_CONTROL,
    ) -> None:
        self._refusal, self._owner = _UNINITIALIZED, None
        self._isolation_level = _checked_level(isolation_level)
        self._autocommit = _checked_autocommit(autocommit)
        self._implicit_begin: str | None
        self._settle_implicit_begin()
        sys.audit("sqlite3.connect", shown(database))
        with _ALONE:
            self._statements: Statements = open_database(
                database, timeout_s=timeout, uri=uri, cached_statements=cached_statements
            )
        self._db = self._statements.db
        self._node = node_of(self._statements)
        # Those that may have rows left. By their place in memory, where the next one takes the place of one that is
        # gone: a WeakSet costs a third of a short SELECT.
        self._readers: dict[int, ref[Cursor]] | None = None
        self._readers_max = _READERS_MAX
        if self._node is not None:
            self._readers = {}
            self._statements.release_snapshot = self._read_to_the_end
            self._statements.inherited = self._leave_to_parent
        self._last_rowid = self._db.last_insert_rowid
        self._detect_types = detect_types
        self._text_factory: Callable[[bytes], Any] = str
        self._shapes_rows = bool(detect_types)
        self.row_factory = None
        self._prepared = lru_cache(maxsize=max(1, cached_statements))(self._prepare)
        self._thread = get_ident()
        self._shared = None if check_same_thread else _Turn(RLock())
        self._owner = self._thread if check_same_thread else None
        self._refusal = None
        sys.audit("sqlite3.connect/handle", self)
        self._begin_if_always_in_transaction()

    # --- cursors and statements ------------------------------------------------------------------

    def cursor(self, factory: Callable[[Connection], Cursor] = Cursor) -> Any:
        """A new cursor, made by ``factory(connection)``, with this connection's ``row_factory``."""
        if get_ident() == self._owner:
            cursor = factory(self)
            if factory is Cursor and self.row_factory is None:
                return cursor
        else:
            with self._turn():
                cursor = factory(self)
        if not issubclass(type(cursor), Cursor):
            raise TypeError(f"factory must return a cursor, not {type(cursor).__name__}")
        if self.row_factory is not None:
            cursor.row_factory = self.row_factory
        return cursor

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """A new cursor that has executed ``sql``."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
        """A new cursor that has executed ``sql`` once for each item of ``parameters``."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> Any:
        """A new cursor that has executed all statements of ``sql_script``."""
        return self.cursor().executescript(sql_script)

    def __call__(self, sql: str, /) -> Prepared:
        """Compile ``sql`` without running it, to see whether it is valid."""
        with self._turn():
            prepared = self._prepared(sql)
            self._compile(prepared.statement)
            return prepared

    # --- transactions ----------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit the open transaction; nothing when none is open."""
        with self._turn():
            if self._autocommit is True:
                return
            self._statements.commit()
            self._begin_if_always_in_transaction()

    def rollback(self) -> None:
        """Roll the open transaction back; nothing when none is open."""
        with self._turn():
            if self._autocommit is True:
                return
            self._statements.rollback()
            self._begin_if_always_in_transaction()

    def close(self) -> None:
        """Roll back what is open and close the file. Closing twice is no error."""
        if self._refusal in {_CLOSED, _INHERITED}:
            return
        with self._turn():
            self._refusal, self._owner = _CLOSED, None
            self._statements.close()

    def __enter__(self) -> Self:
        with self._turn():
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Literal[False]:
        """Commit, or roll back after an exception or when COMMIT itself fails."""
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False

    @property
    def isolation_level(self) -> str | None:
        """'', DEFERRED, IMMEDIATE or EXCLUSIVE: how a transaction begins before DML; None: it does not."""
        with self._turn():
            return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        level = _checked_level(level)
        if level is None:
            # as in sqlite3: switching to autocommit ends what is open
            with self._turn():
                self._statements.commit()
        self._isolation_level = level
        self._settle_implicit_begin()

    @property
    def autocommit(self) -> bool | Literal[-1]:
        """False: always in a transaction; True: never by itself; LEGACY_TRANSACTION_CONTROL: isolation_level
        rules, as ever."""
        with self._turn():
            return self._autocommit

    @autocommit.setter
    def autocommit(self, mode: bool | Literal[-1]) -> None:
        mode = _checked_autocommit(mode)
        with self._turn():
            if mode is True:
                self._statements.commit()
            self._autocommit = mode
            self._settle_implicit_begin()
            self._begin_if_always_in_transaction()

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        with self._turn():
            return self._db.in_transaction

    @property
    def total_changes(self) -> int:
        """Rows inserted, updated or deleted since the connection was opened."""
        with self._turn():
            return self._statements.total_changes()

    # --- values --------------------------------------------------------------------

    @property
    def text_factory(self) -> Callable[[bytes], Any]:
        """What makes TEXT values: str, or anything that takes the UTF-8 bytes."""
        return self._text_factory

    @text_factory.setter
    def text_factory(self, factory: Callable[[bytes], Any]) -> None:
        self._text_factory = factory
        self._shapes_rows = bool(self._detect_types) or factory is not str

    # --- the file as a whole ---------------------------------------------------------------------

    def backup(
        self,
        target: Connection,
        *,
        pages: int = -1,
        progress: Callable[[int, int, int], object] | None = None,
        name: str = "main",
        sleep: float = 0.250,
    ) -> None:
        """Copy database ``name`` into ``target``, ``pages`` at a time (all: -1), waiting ``sleep`` seconds
        when it is locked; ``progress(status, remaining, total)`` is called after each piece."""
        if not isinstance(target, Connection):
            raise TypeError(f"backup() argument 'target' must be octodb.Connection, not {type(target).__name__}")
        with self._turn(), target._turn():
            if target is self:
                raise ValueError("target cannot be the same connection instance")
            if progress is not None and not callable(progress):
                raise TypeError("progress argument must be a callable")
            process = target._statements.backup_from(self._db, name)
            copy_database(process, pages=pages, progress=progress, sleep_s=sleep)

    def blobopen(self, table: str, column: str, row: int, /, *, readonly: bool = False, name: str = "main") -> Blob:
        """Open the value of ``column`` in the row with id ``row`` for reading and writing in pieces."""
        with self._turn():
            raw = self._statements.open_blob(name, table, column, row, writable=not readonly)
            return Blob._opened(self, raw)

    def serialize(self, *, name: str = "main") -> bytes:
        """The contents the file of database ``name`` has, or would have."""
        with self._turn():
            return self._db.serialize(name)

    def deserialize(self, data: Any, /, *, name: str = "main") -> None:
        """Replace database ``name`` by an in-memory one with the file contents ``data``."""
        with self._turn():
            view = memoryview(data)
            if not view.c_contiguous:
                raise BufferError("memoryview: underlying buffer is not C-contiguous")
            self._statements.deserialize(name, bytes(view))

    def iterdump(self) -> Iterator[str]:
        """The database as SQL text, statement by statement."""
        with self._turn():
            return dump_lines(self)

    def interrupt(self) -> None:
        """Make running statements end with OperationalError; may be called from any thread."""
        if self._refusal is not None:
            raise ProgrammingError(self._refusal)
        self._db.interrupt()

    def getlimit(self, category: int, /) -> int:
        """The run-time limit ``category`` (``SQLITE_LIMIT_…``)."""
        return self.setlimit(category, -1)

    def setlimit(self, category: int, limit: int, /) -> int:
        """Set a run-time limit and return the one before; a negative ``limit`` changes nothing."""
        with self._turn():
            before = self._db.limit(category, limit)
            if before < 0:
                raise ProgrammingError("'category' is out of bounds")
            return before

    def enable_load_extension(self, enable: bool, /) -> None:
        """Allow or forbid load_extension()."""
        with self._turn():
            sys.audit("sqlite3.enable_load_extension", self, enable)
            self._db.enable_load_extension(bool(enable))

    def load_extension(self, name: str, /, *, entrypoint: str | None = None) -> None:
        """Load an SQLite extension from a shared library."""
        with self._turn():
            sys.audit("sqlite3.load_extension", self, name)
            self._db.load_extension(name, entrypoint)

    # --- inside ----------------------------------------------------------------------------------

    def _turn(self) -> AbstractContextManager[object]:
        """Check that the connection may be used here and now; hold the result while using it."""
        if self._refusal is not None:
            raise ProgrammingError(self._refusal)
        if self._shared is not None and self._may_share():
            return self._shared
        if self._thread != get_ident():
            raise ProgrammingError(
                "SQLite objects created in a thread can only be used in that same thread. The object was"
                f" created in thread id {self._thread} and this is thread id {get_ident()}."
            )
        return _ALONE

    def _read_to_the_end(self) -> None:
        """Fetch what open cursors have not read yet, so that none of them holds an old snapshot."""
        for reader in list((self._readers or {}).values()):
            cursor = reader()
            if cursor is not None:
                cursor._buffer_rows()

    def _forget_readers(self) -> None:
        """Drop those that are gone."""
        assert self._readers is not None
        self._readers = {place: reader for place, reader in self._readers.items() if reader() is not None}
        self._readers_max = _READERS_MAX + 2 * len(self._readers)

    def _leave_to_parent(self) -> None:
        self._refusal, self._owner = _INHERITED, None

    def _may_share(self) -> bool:
        """Whether this thread is one that may take turns: any, or with check_same_thread the callbacks' too."""
        if not self._shared_with_callbacks:
            return True
        assert self._node is not None
        return self._thread == get_ident() or self._node.events.is_current_thread()

    def _admit_callback_thread(self) -> None:
        """Callbacks run on a worker thread and use their primary's connection: calls take turns from now on."""
        if self._shared is None:
            self._shared_with_callbacks = True
            self._shared, self._owner = _Turn(RLock()), None

    def _prepare(self, sql: str) -> Prepared:
        self._check_text(sql, method="execute")
        statement = classify(sql)
        # a comment that is opened as the very last thing counts as a comment in sqlite3
        if statement.tail and classify(statement.tail + " ").kind is not StatementKind.EMPTY:
            raise ProgrammingError("You can only execute one statement at a time.")
        return Prepared(statement, statement.is_write and not _begins_with_with(statement.text))

    def _compile(self, statement: Statement) -> None:
        """Raise what SQLite has against the statement; do not run it."""
        with suppress(apsw.BindingsError):  # it compiled; only running it needs values
            columns_of(self._db, self._db.cursor(), statement.text)

    def _check_text(self, sql: str, *, method: str) -> None:
        if not isinstance(sql, str):
            raise TypeError(f"{method}() argument 1 must be str, not {type(sql).__name__}")
        if len(sql.encode()) > self._db.limit(apsw.SQLITE_LIMIT_SQL_LENGTH):
            raise DataError("query string is too large")
        if "\0" in sql:
            if method == "executescript":
                raise ValueError("embedded null character")
            raise ProgrammingError("the query contains a null character")

    def _settle_implicit_begin(self) -> None:
        """Work out what the next DML outside a transaction begins one with; None: nothing."""
        legacy = self._autocommit == LEGACY_TRANSACTION_CONTROL
        self._implicit_begin = _begin_text(self._isolation_level) if legacy else None

    def _begin_if_always_in_transaction(self) -> None:
        if self._autocommit is False and not self._db.in_transaction:
            self._statements.begin_lazily()


def _checked_level(level: object) -> str | None:
    if level is None:
        return None
    if not isinstance(level, str):
        raise TypeError(f"isolation_level must be str or None, not {type(level).__name__}")
    level = str.upper(level)
    if level not in _ISOLATION_LEVELS:
        raise ValueError("isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'")
    return level


def _begin_text(level: str | None) -> str | None:
    # with its space even where nothing follows: that is what sqlite3 sends, and trace callbacks show
    return None if level is None else f"BEGIN {level}"


def _checked_autocommit(mode: object) -> bool | Literal[-1]:
    if mode is True or mode is False:
        return mode
    if mode == LEGACY_TRANSACTION_CONTROL:
        return LEGACY_TRANSACTION_CONTROL
    raise ValueError("autocommit must be True, False, or octodb.LEGACY_TRANSACTION_CONTROL")


def _begins_with_with(text: str) -> bool:
    # sqlite3 looks at the first word only: WITH … INSERT begins no transaction and has no rowcount
    first = next(spans(text), None)
    return first is not None and text[first[1] : first[2]].upper() == "WITH"
