"""The port through which a connection runs SQL, and its version for plain files.

``Statements`` owns one ``apsw.Connection`` and everything an application can make it do: statements,
transactions, blobs opened for writing, a backup or a serialized database written into it. It knows nothing
of DB-API rules: when to begin a transaction and which text counts as DML is decided above it. Errors leave
it as APSW raises them; ``apsw_errors`` translates them once, at the top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import apsw

from octodb.errors import NotSupportedError
from octodb.sql.statements import Statement
from octodb.sql.tokens import quote_name
from octodb.storage.meta import is_node_file

__all__ = [
    "Bindings",
    "Columns",
    "Outcome",
    "PlainStatements",
    "Statements",
    "columns_of",
    "refuse_attached_node",
    "text_of_real",
]

Bindings = Sequence[Any] | Mapping[str, Any]
Columns = tuple[tuple[str, str | None], ...]
"""Name and declared type of each column of a result."""

_WRITING_VERBS = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE"})


@dataclass(slots=True)
class Outcome:
    """What a statement did, where that is more than leaving rows on the cursor.

    ``changes``  rows inserted, updated or deleted, as ``sqlite3_changes()`` counts them; -1: not known
    ``rowid``    ``last_insert_rowid()`` right after the statement
    ``columns``  of its rows; None when it returns none
    ``rows``     its rows when they were fetched already (RETURNING); None: they are on the cursor
    """

    changes: int
    rowid: int
    columns: Columns | None = None
    rows: list[tuple[Any, ...]] | None = None


class Statements(Protocol):
    """Everything a connection can make its database do. One thread at a time; the caller sees to that."""

    @property
    def db(self) -> apsw.Connection:
        """The APSW connection, for reading its state and registering callbacks, never for SQL that writes."""

    release_snapshot: Callable[[], None] | None
    """Called when half-read results keep an old snapshot from becoming a write transaction: read them to the end."""
    inherited: Callable[[], None] | None
    """Called in a forked child, where ``db`` was closed: it is the parent's."""

    def run(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome | None:
        """Run one statement on ``cursor`` up to its first row.

        None: it ran as it is written and wrote no rows; what it returns is on ``cursor``. Any statement
        that writes rows, and any whose text was replaced, gives an Outcome.
        """

    def run_many(self, cursor: apsw.Cursor, statement: Statement, many: Iterable[Bindings]) -> Outcome:
        """Run one statement once for each bindings; rows it returns are dropped, changes are summed."""

    def begin(self, text: str) -> None:
        """Open a transaction with ``text`` (BEGIN, BEGIN IMMEDIATE …)."""

    def begin_lazily(self) -> None:
        """Open a transaction that the application did not ask for at this moment (autocommit=False)."""

    def commit(self) -> None:
        """Commit the open transaction; nothing when none is open."""

    def rollback(self) -> None:
        """Roll the open transaction back; nothing when none is open."""

    def total_changes(self) -> int:
        """Rows that the application's statements have changed since the connection was opened."""

    def open_blob(self, schema: str, table: str, column: str, rowid: int, *, writable: bool) -> apsw.Blob:
        """Open one value for reading or writing in pieces."""

    def backup_from(self, source: apsw.Connection, schema: str) -> apsw.Backup:
        """Start replacing the main database by a copy of ``schema`` of ``source``."""

    def deserialize(self, schema: str, data: bytes) -> None:
        """Replace ``schema`` by an in-memory database whose file contents are ``data``."""

    def close(self) -> None:
        """Roll back what is open and close the connection; harmless when it is closed already."""


class PlainStatements:
    """Statements for a file that does not sync: SQLite does what the text says, nothing else."""

    release_snapshot: Callable[[], None] | None = None
    inherited: Callable[[], None] | None = None

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self._control = db.cursor()
        self._changes = db.changes
        self._last_rowid = db.last_insert_rowid

    def run(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome | None:
        cursor.execute(statement.text, bindings)
        if statement.verb not in _WRITING_VERBS:
            if statement.verb == "ATTACH":
                refuse_attached_node(self.db)
            return None
        return self._outcome(cursor, statement, bindings)

    def _outcome(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome:
        """What a writing statement did that ``cursor`` has executed."""
        if not statement.has_returning:
            return Outcome(self._changes(), self._last_rowid())
        columns = columns_of(self.db, cursor, statement.text, bindings)
        # fetched at once: a half-stepped RETURNING keeps its transaction open and its changes uncounted
        rows = cursor.fetchall()
        return Outcome(self._changes(), self._last_rowid(), columns, rows)

    def run_many(self, cursor: apsw.Cursor, statement: Statement, many: Iterable[Bindings]) -> Outcome:
        total = 0

        def counted() -> Iterator[Bindings]:
            # APSW asks for the next bindings when it is through with the last: the moment to count
            nonlocal total
            for bindings in many:
                yield bindings
                total += self._changes()

        for _row in cursor.executemany(statement.text, counted()):
            pass
        return Outcome(total, self._last_rowid())

    def begin(self, text: str) -> None:
        self._control.execute(text)

    def begin_lazily(self) -> None:
        self._control.execute("BEGIN")

    def commit(self) -> None:
        if self.db.in_transaction:
            self._control.execute("COMMIT")

    def rollback(self) -> None:
        if self.db.in_transaction:
            self._control.execute("ROLLBACK")

    def total_changes(self) -> int:
        return self.db.total_changes()

    def open_blob(self, schema: str, table: str, column: str, rowid: int, *, writable: bool) -> apsw.Blob:
        return self.db.blob_open(schema, table, column, rowid, writable)

    def backup_from(self, source: apsw.Connection, schema: str) -> apsw.Backup:
        return self.db.backup("main", source, schema)

    def deserialize(self, schema: str, data: bytes) -> None:
        self.db.deserialize(schema, data)

    def close(self) -> None:
        self.db.close(True)


def columns_of(db: apsw.Connection, cursor: apsw.Cursor, text: str, bindings: Bindings = ()) -> Columns | None:
    """The columns of what ``cursor`` just executed; None when the statement returns no rows by its kind.

    APSW forgets them as soon as the last row is fetched, or when there is none. Then the statement is
    prepared once more (from the statement cache) and stopped before its first step.
    """
    try:
        return cursor.get_description()
    except apsw.ExecutionCompleteError:
        pass
    found: Columns = ()

    def look(probe: apsw.Cursor, _text: str, _bindings: object) -> bool:
        nonlocal found
        found = probe.get_description()
        return False

    probe = db.cursor()
    probe.exec_trace = look
    with suppress(apsw.ExecTraceAbort):
        probe.execute(text, bindings)
    return found or None


def text_of_real(db: apsw.Connection, value: float) -> str:
    """``value`` as this SQLite writes it; Python and other versions write other digits."""
    cursor = db.cursor()
    # its own tracer hides it from the application's
    cursor.exec_trace = lambda *_: True
    return str(cursor.execute("SELECT CAST(? AS TEXT)", (value,)).get)


def refuse_attached_node(db: apsw.Connection) -> None:
    """Writes into an attached node file would pass by its capture, so such a file is detached again."""
    for _, found, _ in db.execute("PRAGMA database_list").fetchall():
        name = str(found)
        if name not in {"main", "temp"} and is_node_file(db, name):
            db.execute(f"DETACH {quote_name(name)}")
            raise NotSupportedError(
                "a node's database cannot be attached: what is written there would not be synced",
                hint="open it with octodb.connect() and its node URI",
            )
