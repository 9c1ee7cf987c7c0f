"""Cursor: one statement at a time and its rows. Owns fetching and what description, rowcount and lastrowid
say; never decides what a statement does to the file: that is the connection's Statements.

Rows come straight from APSW, at C speed, unless a row factory, a converter or a text factory has to see
them. Names that begin with one underscore are for the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain, islice
from threading import get_ident
from typing import TYPE_CHECKING, Any, Self
from weakref import ref

import apsw

from octodb.dbapi.arguments import bindable
from octodb.dbapi.columns import Description, ResultColumns, Value, value_converters
from octodb.dbapi.constants import LEGACY_TRANSACTION_CONTROL
from octodb.dbapi.row import Row
from octodb.errors import OperationalError, ProgrammingError
from octodb.sql.statements import StatementKind, classify, split_script
from octodb.storage.apsw_errors import FOREIGN, translated
from octodb.storage.statements import Columns, columns_of, text_of_real

if TYPE_CHECKING:
    from octodb.dbapi.connection import Connection

__all__ = ["Cursor"]

_UNINITIALIZED = "Base Cursor.__init__ not called."
_CLOSED = "Cannot operate on a closed cursor."
_RECURSIVE = "Recursive use of cursors not allowed."

_NO_PARAMETERS: tuple[()] = ()
_WITH_COLUMNS = frozenset({"SELECT", "VALUES", "EXPLAIN", "PRAGMA", "WITH", ""})
"""Verbs that may return rows without writing any."""
_NOT_FOR_MANY = frozenset(
    {
        StatementKind.SELECT,
        StatementKind.PRAGMA,
        StatementKind.BEGIN,
        StatementKind.COMMIT,
        StatementKind.ROLLBACK,
        StatementKind.SAVEPOINT,
        StatementKind.RELEASE,
        StatementKind.ROLLBACK_TO,
        StatementKind.ATTACH,
        StatementKind.DETACH,
    }
)

_RowMaker = Callable[[tuple[Any, ...]], Any]


class Cursor:
    """As in sqlite3: made by ``connection.cursor()``, runs SQL, hands out rows.

    Every method raises ProgrammingError when the cursor or its connection is closed, when another thread
    than the connection's uses it (unless ``check_same_thread=False``), or when it is used by a function
    or converter that its own statement called.
    """

    _refusal: str | None = _UNINITIALIZED
    """Why the cursor cannot be used now; None: it can."""
    _connection: Connection
    _raw: apsw.Cursor
    _source: apsw.Cursor | _FetchedRows
    """Where the next row comes from."""
    # What a new cursor knows. On the class, because programs make a cursor for each statement they run.
    _row_factory: Callable[[Cursor, tuple[Any, ...]], Any] | None = None
    _raw_columns: Columns | None = None
    _columns: ResultColumns | None = None
    _make_row: _RowMaker | None = None
    _rowcount: int = -1
    _lastrowid: int | None = None
    arraysize: int = 1
    """How many rows fetchmany() fetches when it is not told."""

    def __init__(self, connection: Connection, /) -> None:
        if self._refusal is not _UNINITIALIZED:
            if self._refusal == _RECURSIVE:
                raise ProgrammingError(_RECURSIVE)
            self._raw_columns = self._columns = self._make_row = self._row_factory = self._lastrowid = None
            self._rowcount, self.arraysize = -1, 1
        try:
            self._source = self._raw = connection._db.cursor()
        except AttributeError:
            # connection.py imports this module, so what a connection is has to be told by what it has
            if hasattr(type(connection), "_begin_if_always_in_transaction"):
                raise
            raise TypeError(f"Cursor() argument 1 must be octodb.Connection, not {type(connection).__name__}") from None
        self._connection = connection
        self._refusal = None

    # --- running ---------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Any = _NO_PARAMETERS, /) -> Self:
        """Run one statement; ``parameters`` is a sequence for ``?`` or a mapping for ``:name``."""
        if self._refusal is None and get_ident() == self._connection._owner:
            return self._execute(sql, parameters)
        with self._turn():
            return self._execute(sql, parameters)

    def executemany(self, sql: str, seq_of_parameters: Iterable[Any], /) -> Self:
        """Run one writing statement once for each item of ``seq_of_parameters``."""
        with self._turn():
            return self._execute_many(sql, seq_of_parameters)

    def executescript(self, sql_script: str, /) -> Self:
        """Commit what is open, then run every statement of ``sql_script``; rows are dropped.

        With ``autocommit=True`` or ``False`` nothing is committed first.
        """
        with self._turn():
            return self._execute_script(sql_script)

    def _execute(self, sql: str, parameters: Any) -> Self:
        connection = self._connection
        prepared = connection._prepared(sql)
        statement = prepared.statement
        raw = self._raw
        self._source = raw
        self._raw_columns = self._columns = self._make_row = None
        self._rowcount = -1
        bindings = () if parameters is _NO_PARAMETERS else bindable(parameters)
        try:
            if prepared.is_dml and connection._implicit_begin and not connection._db.in_transaction:
                connection._statements.begin(connection._implicit_begin)
            outcome = connection._statements.run(raw, statement, bindings)
            if outcome is None:
                self._lastrowid = connection._last_rowid()
                if statement.verb not in _WITH_COLUMNS:
                    return self
                if connection._readers is not None:
                    connection._readers[id(self)] = ref(self)
                    if len(connection._readers) > connection._readers_max:
                        connection._forget_readers()
                columns: Columns | None
                try:
                    columns = raw.get_description()
                except apsw.ExecutionCompleteError:  # it has no rows, or is none that could have
                    columns = columns_of(connection._db, raw, statement.text, bindings)
            else:
                self._lastrowid = outcome.rowid
                if prepared.is_dml:
                    self._rowcount = outcome.changes
                columns = outcome.columns
                if outcome.rows is not None:
                    self._source = _FetchedRows(outcome.rows)
        except FOREIGN as error:
            raise self._visible(error) from None
        self._raw_columns = columns
        if columns is not None and (connection._shapes_rows or self._row_factory is not None):
            self._shape_rows()
        return self

    def _execute_many(self, sql: str, many: Iterable[Any]) -> Self:
        connection = self._connection
        prepared = connection._prepared(sql)
        statement = prepared.statement
        if statement.kind in _NOT_FOR_MANY:
            raise ProgrammingError("executemany() can only execute DML statements.")
        bindings = map(bindable, many)
        self._source = self._raw
        self._raw_columns = self._columns = self._make_row = None
        self._rowcount = -1
        self._refusal = _RECURSIVE
        try:
            if prepared.is_dml and connection._implicit_begin and not connection._db.in_transaction:
                connection._statements.begin(connection._implicit_begin)
            first = next(bindings, None)
            if first is None:
                # nothing to run, but the statement must be valid all the same
                connection._compile(statement)
                self._rowcount = 0 if prepared.is_dml else -1
                return self
            outcome = connection._statements.run_many(self._raw, statement, chain((first,), bindings))
        except FOREIGN as error:
            raise self._visible(error) from None
        finally:
            self._refusal = None
        if prepared.is_dml:
            self._rowcount = outcome.changes
        return self

    def _execute_script(self, script: str) -> Self:
        connection = self._connection
        connection._check_text(script, method="executescript")
        self._source = self._raw
        self._raw_columns = self._columns = self._make_row = None
        self._refusal = _RECURSIVE
        try:
            if connection._autocommit == LEGACY_TRANSACTION_CONTROL:
                connection._statements.commit()
            for text in split_script(script):
                outcome = connection._statements.run(self._raw, classify(text), ())
                if outcome is None or outcome.rows is None:
                    for _row in self._raw:
                        pass
        except FOREIGN as error:
            raise self._visible(error) from None
        finally:
            self._refusal = None
        return self

    # --- fetching --------------------------------------------------------------------------------

    def fetchone(self) -> Any:
        """The next row; None after the last."""
        if self._refusal is None and self._make_row is None and get_ident() == self._connection._owner:
            try:
                return self._source.fetchone()
            except FOREIGN as error:
                raise self._visible(error) from None
        with self._turn():
            return self._fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """The next ``size`` rows (default: ``arraysize``), fewer at the end. 0 means all, as in sqlite3."""
        with self._turn():
            wanted = self.arraysize if size is None else size
            try:
                rows = list(islice(self._source, wanted if wanted > 0 else None))
            except FOREIGN as error:
                raise self._visible(error) from None
            return rows if self._make_row is None else self._made(rows)

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        with self._turn():
            try:
                rows = self._source.fetchall()
            except FOREIGN as error:
                raise self._visible(error) from None
            return rows if self._make_row is None else self._made(rows)

    def __iter__(self) -> Iterator[Any]:
        # A generator hands rows out with half the work of __next__; a subclass's own __next__ still counts.
        if self._refusal is None and type(self).__next__ is Cursor.__next__ and get_ident() == self._connection._owner:
            return self._stream()
        return self

    def __next__(self) -> Any:
        with self._turn():
            row = self._fetchone()
        if row is None:
            raise StopIteration
        return row

    def _fetchone(self) -> Any:
        try:
            row = self._source.fetchone()
        except FOREIGN as error:
            raise self._visible(error) from None
        return row if row is None or self._make_row is None else self._made((row,))[0]

    def _stream(self) -> Iterator[Any]:
        make = self._make_row
        try:
            if make is None:
                # not "yield from", which would close the APSW cursor when the loop breaks
                source = None
                while source is not self._source:  # the rest may have been buffered while a row was out
                    source = self._source
                    for row in source:
                        yield row
                return
        except FOREIGN as error:
            raise self._visible(error) from None
        while True:
            try:
                row = self._source.fetchone()
            except FOREIGN as error:
                raise self._visible(error) from None
            if row is None:
                return
            self._refusal = _RECURSIVE
            try:
                made = make(row)
            finally:
                self._refusal = None
            yield made

    def _made(self, rows: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The rows as converters, text factory and row factory want them."""
        make = self._make_row
        assert make is not None
        self._refusal = _RECURSIVE
        try:
            return [make(row) for row in rows]
        finally:
            self._refusal = None

    # --- what is known about the statement ---------------------------------------------------------

    @property
    def connection(self) -> Connection:
        """The connection the cursor belongs to."""
        return self._connection

    @property
    def description(self) -> Description | None:
        """One 7-tuple a column, the name first and six times None; None when there are no columns."""
        columns = self._columns
        if columns is None:
            if self._raw_columns is None:
                return None
            columns = self._named_columns(self._raw_columns)
        return columns.description

    @property
    def rowcount(self) -> int:
        """Rows changed by INSERT, UPDATE, DELETE or REPLACE; -1 for anything else."""
        return self._rowcount

    @property
    def lastrowid(self) -> int | None:
        """Row id of the last row inserted by execute(); None before the first."""
        return self._lastrowid

    @property
    def row_factory(self) -> Callable[[Cursor, tuple[Any, ...]], Any] | None:
        """Called with the cursor and a tuple to make each row; None: the tuples themselves."""
        return self._row_factory

    @row_factory.setter
    def row_factory(self, factory: Callable[[Any, tuple[Any, ...]], Any] | None) -> None:
        self._row_factory = factory
        if self._raw_columns is not None:
            self._shape_rows()

    def setinputsizes(self, sizes: Any, /) -> None:
        """Required by DB-API; does nothing."""

    def setoutputsize(self, size: Any, column: Any = None, /) -> None:
        """Required by DB-API; does nothing."""

    def close(self) -> None:
        """Close the cursor; the rows that are left are gone. Closing twice is no error."""
        if self._refusal == _CLOSED:
            return
        if self._refusal is not None:
            raise ProgrammingError(self._refusal)
        with self._connection._turn():
            self._raw.close()
            self._source = self._raw
            self._refusal = _CLOSED

    # --- inside ------------------------------------------------------------------------------------

    def _buffer_rows(self) -> None:
        """Fetch the rows that are left, so that the statement ends; they are handed out as before."""
        if self._source is self._raw and self._refusal != _CLOSED:
            self._source = _FetchedRows(self._raw.fetchall())

    def _turn(self) -> AbstractContextManager[object]:
        """Check that the cursor may be used here and now; hold the result while using it."""
        if self._refusal is not None:
            raise ProgrammingError(self._refusal)
        return self._connection._turn()

    def _shape_rows(self) -> None:
        """Prepare the way rows take from APSW to the application for the statement just executed."""
        connection, columns, factory = self._connection, self._raw_columns, self._row_factory
        assert columns is not None
        named = self._named_columns(columns)
        convert: Value | None = None
        if connection._shapes_rows:
            of_column = value_converters(columns, connection._detect_types, partial(text_of_real, connection._db)) or [
                None
            ] * len(columns)
            convert = _values_converter(connection, of_column)
        if factory is None:
            self._make_row = convert
        elif factory is Row and convert is None:
            self._make_row = partial(Row._made, named)
        elif convert is None:
            self._make_row = lambda row: factory(self, row)
        else:
            self._make_row = lambda row: factory(self, convert(row))

    def _named_columns(self, columns: Columns) -> ResultColumns:
        if self._columns is None:
            self._columns = ResultColumns(columns, detect_types=self._connection._detect_types)
        return self._columns

    def _visible(self, error: Exception) -> Exception:
        """What the application sees instead of ``error``."""
        if isinstance(error, UnicodeDecodeError):
            columns = self._raw_columns or ()
            # APSW does not say which column it was
            which = f"column '{columns[0][0]}'" if len(columns) == 1 else "a column"
            text = error.object.decode("utf-8", "replace")
            return OperationalError(f"Could not decode to UTF-8 {which} with text '{text}'")
        return translated(error)


class _FetchedRows:
    """Rows that were fetched when the statement ran, with the fetching methods of an APSW cursor."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def __next__(self) -> tuple[Any, ...]:
        return next(self._rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)


def _values_converter(connection: Connection, of_column: list[Value | None]) -> Value:
    def convert(row: tuple[Any, ...]) -> tuple[Any, ...]:
        text = connection.text_factory
        return tuple(
            [
                value
                if value is None
                else (
                    of_value(value)
                    if of_value is not None
                    else (_text(text, value) if type(value) is str and text is not str else value)
                )
                for value, of_value in zip(row, of_column, strict=True)
            ]
        )

    return convert


def _text(factory: Callable[[bytes], Any], value: str) -> Any:
    raw = value.encode()
    return raw if factory is bytes else factory(raw)
