"""Running an application's SQL on a node file: every statement classified, completed, guarded and captured.

The node version of ``Statements``. It owns this connection's transaction: it begins one around each writing statement
outside a transaction, keeps the capture in step with savepoints, and writes the transaction down before COMMIT.
PRAGMAs of octodb are answered by the port given to it. Knows nothing of networks and threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import apsw

from octodb.errors import NotReadyError, NotSupportedError, OperationalError, OwnershipError
from octodb.model.identities import Identity, Role
from octodb.model.owners import normalise_owner
from octodb.model.transactions import BODY_BYTES_MAX
from octodb.sql.ddl import parse_ddl
from octodb.sql.inserts import complete_insert, generates_row_ids, inserts_plain_values
from octodb.sql.statements import Statement, StatementKind
from octodb.sql.tokens import TokenKind, fold_name, quote_name, tokenize
from octodb.storage.capture import Capture
from octodb.storage.guards import install_guards
from octodb.storage.inserted_rows import InsertedRows
from octodb.storage.meta import META_PREFIX, Meta
from octodb.storage.recording import DeviceRecorder, Recorder
from octodb.storage.schema_rules import (
    SchemaChange,
    check_elsewhere,
    check_result,
    incomplete_triggers,
    index_owners,
    plan_schema_change,
    recorded_text,
    resolver,
    temporary_tables,
    untriggered,
    without_row_id,
)
from octodb.storage.shapes import Shapes, TableShape, schema_version
from octodb.storage.splitting import check_new_owner
from octodb.storage.statements import Bindings, Columns, Outcome, PlainStatements, refuse_attached_node

__all__ = ["NodePort", "NodeStatements", "PragmaAnswer"]

PragmaAnswer = tuple[tuple[str, ...], list[tuple[object, ...]]]

_BEFORE_NAMES: Final = frozenset(
    {"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "TRIGGER", "INDEX", "VIEW", "EXISTS", "ON", "."}
    | {"REPLACE", "IGNORE", "ABORT", "FAIL", "ROLLBACK"}
)
_LENGTH_OF_OURS_MAX: Final = 1_000_000_000
_ENVELOPE_BYTES: Final = 64 * 1024
_ROWS_OF_A_STATEMENT_MAX: Final = 1 << 31
_PLANS_MAX: Final = 512  # texts of writing statements; an application has far fewer different ones
# Setting these would take the file from under sync's feet.
_FIXED_PRAGMAS: Final = {
    "journal_mode": "a node file is in WAL mode",
    "locking_mode": "several connections share a node file",
    "writable_schema": "the schema of a node file changes by CREATE, ALTER and DROP only",
    "schema_version": "octodb watches it to see schema changes",
    "auto_vacuum": "it is set when the file is made",
    "recursive_triggers": "ownership is guarded by triggers that REPLACE must fire",
    "temp_store": "temporary tables and sorts of an encrypted file would be on the disk in the clear",
    # of SQLite3MC: the engine's connections would be left with the old key
    **dict.fromkeys(
        ("key", "hexkey", "textkey", "rekey", "hexrekey", "textrekey", "cipher"),
        "a node's key is named by its URI (cipher=, key_file=), and octodb encrypt changes it",
    ),
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """``statement`` is what is run. ``only_own_rows``: it can do nothing but add plain rows of our user.

    ``generates_ids``: no row id comes about but by ``octo_next_id``. ``inserted``: where ``only_own_rows``, how to have
    the rows without a session. ``unnumbered``: where ``only_own_rows`` and ``generates_ids``, the text that leaves the
    row ids to SQLite, and the shape of its table.
    """

    statement: Statement
    only_own_rows: bool = False
    generates_ids: bool = False
    inserted: InsertedRows | None = None
    unnumbered: tuple[str, TableShape] | None = None


class NodePort(Protocol):
    """What this module needs from the engine's side of the node."""

    def identity(self) -> Identity:
        """The ids of this node as last known; read again from the file while it is not ready."""

    def recorder(self, db: apsw.Connection, identity: Identity) -> Recorder:
        """Where a connection's transactions are written down."""

    def committed(self) -> None:
        """A transaction with something to send was committed: wake the engine."""

    def pragma(self, db: apsw.Connection, name: str, argument: str | None) -> PragmaAnswer | None:
        """Answer a PRAGMA of octodb: column names and rows; None when it is not one of ours."""


class NodeStatements(PlainStatements):
    """Statements on a primary's or a device's file."""

    encrypted = False
    """Whether the file is."""

    def __init__(self, db: apsw.Connection, role: Role, port: NodePort) -> None:
        super().__init__(db)
        self._role = role
        self._port = port
        self._meta = Meta(db)
        self._identity = Identity()
        self._capture = Capture(db, role, 0)
        self._recorder: Recorder | None = None
        self._plans: dict[str, _Plan] = {}
        self._temp_triggers = False  # the application made some: they may do anything
        # As SQLite counted commits after our last one (SQLITE_FCNTL_DATA_VERSION: unlike the PRAGMA's number, it counts
        # our own, too, and costs a tenth).
        self._data_version = -1
        self._id_counters: dict[str, Iterator[int]] = {}  # what is left of our ids, where we know that
        self._last_ids: dict[str, int] = {}  # the last one given to the statement that runs now
        self._generates_ids = False  # so does what runs now: what we remember of ids holds
        self._own_ids = (0, 0)
        self._gone_ids: dict[str, int] = {}  # highest id of a table that was deleted in the open transaction
        self._generation = 0  # of the identity: a file that proves to be a copy is given another
        self._own_changes = 0  # rows of ours that the application did not change
        self._fresh = False  # schema looked at in this transaction
        self._version = -1  # of the schema that shapes, guards and cached texts were made for
        self._guards_unsettled = False  # they were made in the open transaction and would go with it
        self._explicit = False  # the open transaction began with BEGIN, not with SAVEPOINT
        self._lazy = False  # it was opened by itself (autocommit=False)
        # a row must fit a transaction and a chunk of a download, however it grew (sqlite.org/limits.html)
        db.limit(apsw.SQLITE_LIMIT_LENGTH, min(db.limit(apsw.SQLITE_LIMIT_LENGTH), BODY_BYTES_MAX - _ENVELOPE_BYTES))
        db.create_scalar_function("this_user", self._this_user, 0)
        db.create_scalar_function("this_node", self._this_node, 0)
        db.create_scalar_function("octo_next_id", self._next_id, 1)
        db.create_scalar_function("octo_id_gone", self._id_gone, 2)
        db.create_scalar_function("octo_checked_owner", self._checked_owner, 1)
        self._handlers: dict[StatementKind, Callable[..., Outcome | None]] = {
            StatementKind.INSERT: self._run_write,
            StatementKind.UPDATE: self._run_write,
            StatementKind.DELETE: self._run_write,
            StatementKind.DDL: self._run_ddl,
            StatementKind.BEGIN: self._run_begin,
            StatementKind.COMMIT: self._run_commit,
            StatementKind.ROLLBACK: self._run_rollback,
            StatementKind.SAVEPOINT: self._run_savepoint,
            StatementKind.RELEASE: self._run_release,
            StatementKind.ROLLBACK_TO: self._run_rollback_to,
            StatementKind.PRAGMA: self._run_pragma,
            StatementKind.ATTACH: self._run_attach,
        }
        self._look_whether_ready()

    # --- the port ------------------------------------------------------------------------------------

    def run(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome | None:
        kind = statement.kind
        if not self._identity.ready and kind not in {
            StatementKind.PRAGMA,
            StatementKind.ROLLBACK,
            StatementKind.COMMIT,
        }:
            return self._run_unready(cursor, statement, bindings)
        handler = self._handlers.get(kind)
        if handler is None:
            cursor.execute(statement.text, bindings)
            return None
        return handler(cursor, statement, bindings)

    def run_many(self, cursor: apsw.Cursor, statement: Statement, many: Iterable[Bindings]) -> Outcome:
        self._require_ready()
        if not statement.is_write:
            return super().run_many(cursor, statement, many)
        own = self._begin_write()
        try:
            plan = self._completed(statement)
            if plan.only_own_rows:
                outcome = self._run_many_own_rows(cursor, plan, many)
            else:
                outcome = super().run_many(cursor, plan.statement, many)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._after_error()
            # as in sqlite3, the rows before the one that failed stay
            if own and self.db.in_transaction:
                self._commit()
            raise self._as_ours(error) from None
        if own:
            self._commit_or_roll_back()
        return outcome

    def _run_many_own_rows(self, cursor: apsw.Cursor, plan: _Plan, many: Iterable[Bindings]) -> Outcome:
        """No trigger adds to the count of all changes, so one look at it before and after is enough."""
        before = self.db.total_changes()
        text, shape = plan.unnumbered or (plan.statement.text, None)
        if shape is not None and not self._sqlite_numbers(shape):
            text, shape = plan.statement.text, None
        for _row in cursor.executemany(text, many):
            pass
        if shape is not None:
            self._id_counters.pop(shape.name, None)  # it has not counted these
            self._last_ids.pop(shape.name, None)
        return Outcome(self.db.total_changes() - before, self._last_rowid())

    def _sqlite_numbers(self, shape: TableShape) -> bool:
        """Whether SQLite, which goes on above the highest row of the table, gives the ids that we would give, for as
        many rows as any statement adds. Calling ``octo_next_id`` is a fifth of what a row costs."""
        last = max(self._gone_ids.get(shape.name, 0), self._highest_id(shape.name))
        assert shape.row_id_column is not None
        highest = self._control.execute(f"SELECT max({quote_name(shape.row_id_column)}) FROM {shape.quoted}").get
        return bool(highest == last and last + _ROWS_OF_A_STATEMENT_MAX <= self._own_ids[1])

    def begin(self, text: str) -> None:
        self._require_ready()
        # a deferred BEGIN whose snapshot grows old cannot write any more, whatever the timeout; and DML follows
        if "EXCLUSIVE" in text.upper():
            self._control.execute(text)
        else:
            self._begin_immediate()
        self._began()

    def begin_lazily(self) -> None:
        """It takes no lock: somebody who is idle or reads must not keep the engine from writing."""
        self._control.execute("BEGIN")
        self._explicit = self._lazy = True
        self._fresh = False

    def commit(self) -> None:
        if self.db.in_transaction:
            self._commit()

    def rollback(self) -> None:
        if self.db.in_transaction:
            self._control.execute("ROLLBACK")
        self._rolled_back()

    def transaction(self, work: Callable[[Shapes], None], written: Callable[[int], None]) -> int | None:
        """What ``work`` does on this connection, as one transaction of the application: captured, written down under
        the next number, which ``written`` is told before COMMIT. Returns the number; None where there was nothing to
        send: then nothing was done at all.

        No transaction may be open. Raises what the two raise, and what COMMIT may; nothing was done then either.
        """
        self._require_ready()
        assert not self.db.in_transaction, "it would commit what is not its own"
        self._begin_write()
        try:
            self._capture.wrote_more_than_own_inserts()
            work(self._capture.shapes)
            number = self._write_down()
            if number is None:
                self.rollback()
                return None
            written(number)
            self._commit_written(number)
        except BaseException:
            self.rollback()
            raise
        return number

    def total_changes(self) -> int:
        return self.db.total_changes() - self._own_changes

    def open_blob(self, schema: str, table: str, column: str, rowid: int, *, writable: bool) -> apsw.Blob:
        self._require_ready()
        if writable:
            raise NotSupportedError(
                "a BLOB of a node's database cannot be written in place: the change would not be captured",
                hint="read it, and write the whole value with UPDATE",
            )
        return super().open_blob(schema, table, column, rowid, writable=False)

    def backup_from(self, source: apsw.Connection, schema: str) -> apsw.Backup:
        raise NotSupportedError("a node's database cannot be replaced by a backup", hint="copy rows with SQL instead")

    def deserialize(self, schema: str, data: bytes) -> None:
        if fold_name(schema) == "main":
            raise NotSupportedError("a node's database cannot be replaced", hint="use an attached database")
        super().deserialize(schema, data)

    # --- readiness -----------------------------------------------------------------------------------

    def _look_whether_ready(self) -> bool:
        """Ready once is ready for ever; until then the file is asked again."""
        if self._identity.ready:
            return True
        self._identity = self._port.identity()
        if self._identity.ready:
            self._own_ids = self._identity.row_ids
            self._generation = self._meta.get("generation", 0)
            self._capture = Capture(self.db, self._role, self._identity.user_id)
            self._recorder = self._port.recorder(self.db, self._identity)
        return self._identity.ready

    def _require_ready(self) -> None:
        if not self._look_whether_ready():
            raise NotReadyError(
                "the database is not ready: it has not been downloaded yet",
                hint="wait for it (conn.wait_ready()); if sync_status says unauthorized, sign in first"
                " (PRAGMA user_login or user_signup)",
            )

    def _run_unready(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome | None:
        if self._look_whether_ready():
            return self.run(cursor, statement, bindings)
        if statement.kind is not StatementKind.SELECT:
            self._require_ready()
        # a SELECT that reads no table is as good before the download as after
        touched = False

        def authorizer(action: int, name: str | None, _b: object, _c: object, _d: object) -> int:
            nonlocal touched
            if action == apsw.SQLITE_READ and not (name or "").lower().startswith("pragma_"):
                touched = True
                return apsw.SQLITE_DENY
            return apsw.SQLITE_OK

        before = self.db.authorizer
        self.db.authorizer = authorizer
        try:
            cursor.execute(statement.text, bindings)
        except apsw.AuthError:
            if touched:
                self._require_ready()
            raise
        except apsw.SQLError as error:
            if "no such table" in str(error):
                self._require_ready()
            raise
        finally:
            self.db.authorizer = before
        return None

    # --- writing statements --------------------------------------------------------------------------

    def _run_write(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome | None:
        plan = self._plans.get(statement.text)
        if plan is not None and plan.only_own_rows and self._goes_on(plan):
            try:
                cursor.execute(plan.statement.text, bindings)
            except BaseException as error:  # noqa: BLE001 - it is raised again
                self._after_error()
                raise self._as_ours(error) from None
            return Outcome(self._changes(), self._last_rowid())
        own = self._begin_write(watching=False)
        try:
            plan = self._completed(statement)
            if own and plan.inserted is not None:
                outcome = self._insert_alone(cursor, plan.statement, plan.inserted, bindings)
            else:
                self._capture.watch()
                cursor.execute(plan.statement.text, bindings)
                outcome = self._outcome(cursor, plan.statement, bindings)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            self._after_error()
            if own and not self._capture.watching:
                self.rollback()
            elif own and self.db.in_transaction:
                # what a failing statement leaves is nothing, or with OR FAIL the rows before the one that failed
                self._commit_or_roll_back()
            raise self._as_ours(error) from None
        if own:
            self._commit_or_roll_back()
        return outcome

    def _goes_on(self, plan: _Plan) -> bool:
        """Whether one more of many plain INSERTs in a transaction has nothing to prepare."""
        return (
            self._fresh
            and plan.generates_ids
            and self._generates_ids
            and self._capture.watching
            and self.db.in_transaction
        )

    def _insert_alone(
        self, cursor: apsw.Cursor, statement: Statement, inserted: InsertedRows, bindings: Bindings
    ) -> Outcome:
        """A transaction of one plain INSERT: the commonest, and the one that a session costs most."""
        cursor.execute(statement.text + inserted.returning, bindings)
        self._capture.tell(inserted.changeset(cursor.fetchall()))
        return Outcome(self._changes(), self._last_rowid())

    def _begin_write(self, *, watching: bool = True) -> bool:
        """Make sure that a write transaction with a capture is open. True when this call opened it.

        ``watching``: as for ``Capture.begin``, when it opens one.
        """
        if self.db.in_transaction:
            if self._fresh:
                return False  # a statement before this one has seen to all that
            if not self._capture.active:
                self._capture.begin()
            self._lock_late()
            self._refresh()
            return False
        self._begin_immediate()
        self._began(watching=watching)
        return True

    def _lock_late(self) -> None:
        """The first write after BEGIN DEFERRED locks as BEGIN IMMEDIATE does, which waits its turn: where nothing was
        read yet, or where the application did not ask for a transaction when it read."""
        state = self.db.txn_state("main")
        may_begin_anew = state == apsw.SQLITE_TXN_NONE or (self._lazy and state == apsw.SQLITE_TXN_READ)
        if self._fresh or self._capture.marks or not may_begin_anew:
            return
        self._control.execute("COMMIT")
        try:
            self._begin_immediate()
        except BaseException:
            self._control.execute("BEGIN")  # the transaction that was open stays open
            raise

    def _begin_immediate(self) -> None:
        """The engine writes at any time, so a result that the application has half read may hold a snapshot that
        cannot become a write transaction any more (SQLITE_BUSY_SNAPSHOT). With one connection to a plain file
        that never happens; here the rest of such results is fetched and the lock asked for again."""
        try:
            self._control.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            if self.release_snapshot is None:
                raise
            self.release_snapshot()
            self._control.execute("BEGIN IMMEDIATE")

    def _began(self, *, watching: bool = True) -> None:
        self._explicit = True
        self._fresh = False
        try:
            self._refresh()
        except BaseException:
            self.rollback()  # no statement of the application has run: it must not find a transaction open
            raise
        self._capture.begin(watching=watching)

    def _refresh(self) -> None:
        """Once a transaction, with the lock held: has another connection committed, and changed the schema?"""
        if self._fresh:
            return
        self._fresh = True
        if self.db.data_version("main") != self._data_version:
            self._data_version = -1
            self._forget_remembered()
            if self._role is Role.SECONDARY and self._meta.get("generation", 0) != self._generation:
                self._identity_changed()
            if schema_version(self.db) != self._version:
                self._schema_changed()
        elif self._version == -1:
            self._schema_changed()

    def _identity_changed(self) -> None:
        values = self._meta.get_all()
        self._generation = values["generation"]
        self._identity = Identity.of(values)
        self._own_ids = self._identity.row_ids
        self._recorder = self._port.recorder(self.db, self._identity)
        self._version = -1  # the recorder asks for the schema's position

    def _forget_remembered(self) -> None:
        """The last row ids and the last nonce hold as long as only this connection commits."""
        self._forget_ids()
        if self._recorder is not None:
            self._recorder.invalidate()

    def _schema_changed(self) -> None:
        shapes = Shapes.read(self.db)
        self._version = shapes.version
        self._capture.shapes = shapes
        self._plans.clear()
        self._forget_ids()
        if isinstance(self._recorder, DeviceRecorder):
            self._recorder.schema_seq = self._meta.get("schema_seq", 0)
        changes = self.db.total_changes()
        install_guards(self.db, shapes, self._role, self._identity.user_id, self._own_ids)
        self._own_changes += self.db.total_changes() - changes
        self._guards_unsettled = True

    def _completed(self, statement: Statement) -> _Plan:
        """What is run for a writing statement. Worked out once for each text and schema."""
        plan = self._plans.get(statement.text)
        if plan is None:
            plan = self._plan(statement)
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[statement.text] = plan
        if not plan.only_own_rows:
            self._capture.wrote_more_than_own_inserts()
        if not (plan.generates_ids and self._generates_ids):
            self._forget_ids()
            self._generates_ids = plan.generates_ids
        return plan

    def _plan(self, statement: Statement) -> _Plan:
        """An INSERT is given the row id and the owner that it leaves out. Raises for one into our own tables."""
        self._check_meta_names(statement)
        if statement.kind is not StatementKind.INSERT:
            return _Plan(statement)
        shapes = self._capture.shapes
        resolve = resolver(shapes, temporary_tables(self.db))
        owner = str(self._identity.user_id)
        text = complete_insert(statement.text, resolve, owner_sql=owner, owner_check="octo_checked_owner")
        completed = replace(statement, text=text)
        if self._temp_triggers:
            return _Plan(completed)
        alone = untriggered(resolve, shapes)
        generates_ids = generates_row_ids(statement.text, alone)
        shape = shapes.get(inserts_plain_values(statement.text, alone) or "")
        if shape is None:
            return _Plan(completed, generates_ids=generates_ids)
        unnumbered = None
        if generates_ids and shape.row_id_column is not None and not self._is_autoincrement(shape):
            text = complete_insert(statement.text, without_row_id(resolve), owner_sql=owner)
            unnumbered = text, shape
        return _Plan(completed, True, generates_ids, InsertedRows(shape), unnumbered)

    def _is_autoincrement(self, shape: TableShape) -> bool:
        """SQLite then goes on above the highest id that a row ever had."""
        sql = self._control.execute("SELECT sql FROM main.sqlite_schema WHERE name = ?", (shape.name,)).get
        return "AUTOINCREMENT" in str(sql).upper()

    def _this_user(self, *_: Any) -> int:
        return self._identity.user_id

    def _this_node(self, *_: Any) -> int:
        return self._identity.node_id

    def _next_id(self, *arguments: Any) -> int:
        """SQL function octo_next_id(table): one above every id of our range that the table has or had."""
        counter = self._id_counters.get(arguments[0])
        new_id = self._first_id(*arguments) if counter is None else next(counter, None)
        if new_id is None:
            raise OperationalError(f"{arguments[0]} has no row ids left for node {self._identity.node_id}")
        return new_id

    def _first_id(self, table: str) -> int | None:
        """The next id where none is remembered, or where what is remembered need not hold; None when all are used."""
        last = max(self._last_ids.get(table, 0), self._gone_ids.get(table, 0), self._highest_id(table))
        counter = iter(range(last + 1, self._own_ids[1] + 1))
        if self._generates_ids:
            self._id_counters[table] = counter
        self._last_ids[table] = last + 1
        return next(counter, None)

    def _id_gone(self, *arguments: Any) -> None:
        """SQL function octo_id_gone(table, id): it was the highest. It is not given again, in this transaction
        either."""
        table, row_id = arguments
        self._gone_ids[table] = max(row_id, self._gone_ids.get(table, 0))
        self._forget_ids()

    def _forget_ids(self) -> None:
        self._id_counters.clear()
        self._last_ids.clear()

    def _highest_id(self, table: str) -> int:
        shape = self._capture.shapes.get(table)
        assert shape is not None
        assert shape.row_id_column is not None
        column = quote_name(shape.row_id_column)
        highest = f"SELECT max({column}) FROM {shape.quoted} WHERE {column} BETWEEN ? AND ?"
        return self._meta.last_row_id(shape.name, *self._own_ids, highest)

    def _checked_owner(self, *arguments: Any) -> Any:
        """SQL function octo_checked_owner(owner): what an INSERT lists, refused now rather than at COMMIT."""
        value = arguments[0]
        if self._role is Role.SECONDARY:
            check_new_owner(value, self._identity.user_id)
        return normalise_owner(value)

    def _after_error(self) -> None:
        """A failed statement may have used up ids, or have rolled the whole transaction back (OR ROLLBACK)."""
        self._forget_ids()
        if not self.db.in_transaction:
            self._rolled_back()

    def _as_ours(self, error: BaseException) -> BaseException:
        if isinstance(error, apsw.ConstraintError) and "octodb: row_owner" in str(error):
            return OwnershipError(
                "row_owner can only widen: NULL to a user, and on primaries NULL or a user to '*'",
                hint="to give a row to somebody else, delete it and insert it again",
            )
        return error

    # --- ending transactions -------------------------------------------------------------------------

    def _commit_or_roll_back(self) -> None:
        """Commit a transaction that one statement made: nothing of it stays when that fails."""
        try:
            self._commit()
        except BaseException:
            self.rollback()
            raise

    def _commit(self) -> None:
        self._commit_written(self._write_down())

    def _commit_written(self, number: int | None) -> None:
        try:
            self._control.execute("COMMIT")
        except apsw.Error:
            self._take_back(number)
            raise
        self._data_version = self.db.data_version("main")
        self._committed(number)

    def _write_down(self) -> int | None:
        """Put what was captured into the outbox or the log, in this very transaction."""
        if not self._capture.active or self._recorder is None:
            return None
        ops = self._capture.collect()
        if not ops:
            return None
        row_id, changes = self._last_rowid(), self.db.total_changes()
        # the rows of the outbox and the log hold whole transactions
        limit = self.db.limit(apsw.SQLITE_LIMIT_LENGTH, _LENGTH_OF_OURS_MAX)
        try:
            number = self._recorder.record(ops)
        finally:
            self.db.limit(apsw.SQLITE_LIMIT_LENGTH, limit)
        self.db.set_last_insert_rowid(row_id)
        self._own_changes += self.db.total_changes() - changes
        return number

    def _take_back(self, number: int | None) -> None:
        """COMMIT failed: the transaction is open still (deferred constraints, busy) or gone (disk full)."""
        if not self.db.in_transaction:
            self._rolled_back()
        elif number is not None and self._recorder is not None:
            self._recorder.forget(number)

    def _rolled_back(self) -> None:
        self._ended()
        self._forget_remembered()
        if self._guards_unsettled:
            # TEMP triggers made in a transaction go with it
            self._guards_unsettled = False
            self._version = -1

    def _ended(self) -> None:
        self._capture.end()
        self._gone_ids.clear()
        self._fresh = False
        self._explicit = self._lazy = False

    def _committed(self, number: int | None) -> None:
        self._ended()
        self._guards_unsettled = False
        if number is not None:
            self._port.committed()

    # --- transaction control written as SQL ------------------------------------------------------------

    def _run_begin(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        """A BEGIN that does not say how takes the write lock: the engine may commit at any time, and a transaction that
        has read before such a commit could not write after it. BEGIN DEFERRED is for transactions that only read."""
        if statement.text.upper().split() in (["BEGIN"], ["BEGIN", "TRANSACTION"]) and self._lock_for_writing():
            self._began()
            return
        cursor.execute(statement.text, bindings)
        self._explicit = True
        self._fresh = False
        self._capture.begin()

    def _lock_for_writing(self) -> bool:
        """BEGIN IMMEDIATE, where this connection may write at all and is in no transaction."""
        if self.db.in_transaction or self.db.readonly("main") or self._control.execute("PRAGMA query_only").get:
            return False
        self._begin_immediate()
        return True

    def _run_commit(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        if self.db.in_transaction:
            self._commit()
        else:
            cursor.execute(statement.text, bindings)  # SQLite says that no transaction is active

    def _run_rollback(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        cursor.execute(statement.text, bindings)
        self._rolled_back()

    def _run_savepoint(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        if self._lock_for_writing():
            # as with BEGIN; its RELEASE is a COMMIT (_run_release)
            self._began()
            self._explicit = False
        elif self._lazy:
            self._begin_write()
        self._capture.savepoint(statement.name)
        cursor.execute(statement.text, bindings)

    def _run_release(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        """RELEASE of the outermost savepoint of a transaction that SAVEPOINT began is its COMMIT."""
        if not self._explicit and self._capture.active and self._capture.is_outermost(statement.name):
            self._commit()
            return
        cursor.execute(statement.text, bindings)
        self._capture.released(statement.name)

    def _run_rollback_to(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        cursor.execute(statement.text, bindings)
        self._capture.rolled_back_to(statement.name)
        self._forget_ids()
        if self._guards_unsettled:
            self._schema_changed()

    # --- schema ----------------------------------------------------------------------------------------

    def _run_ddl(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        self._check_meta_names(statement)
        own = self._begin_write()
        try:
            self._change_schema(cursor, statement, bindings)
        except BaseException:
            self._after_error()
            if own:
                self.rollback()
            raise
        if own:
            self._commit_or_roll_back()

    def _change_schema(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        change = plan_schema_change(self.db, self._capture.shapes, self._role, statement.text)
        self._plans.clear()  # also for TEMP objects, which may hide others of their name
        if change.facts.temporary:
            self._temp_triggers = self._temp_triggers or change.facts.object == "trigger"
        self._empty_before_drop(change)
        # a session that sees its table dropped or its columns renamed loses what it has (sqlite-notes)
        before = self._capture.before_ddl()
        version = schema_version(self.db)
        self._control.execute("SAVEPOINT _octodb_ddl")
        try:
            cursor.execute(change.text, bindings)
            changed = schema_version(self.db) != version
            if changed:
                if self._role is Role.PRIMARY:
                    index_owners(self.db, Shapes.read(self.db))
                self._schema_changed()
            if changed and change.travels:
                check_result(self.db, self._capture.shapes, change.facts)
                check_elsewhere(self.db, self._capture.shapes, change.facts)
                if change.facts.change == "rename table":
                    self._meta.rename_row_ids(change.facts.table, change.facts.new_name)
        except BaseException:
            if self.db.in_transaction:
                self._control.execute("ROLLBACK TO _octodb_ddl")
                self._control.execute("RELEASE _octodb_ddl")
                self._schema_changed()
            raise
        self._control.execute("RELEASE _octodb_ddl")
        if changed and change.travels:
            self._capture.add_ddl(recorded_text(self.db, change), change.facts, before)
        self._capture.renew()
        for text in incomplete_triggers(self.db, self._capture.shapes) if self._role is Role.PRIMARY else ():
            # the table that they insert into has only now become one whose rows have owners
            for sql in (f"DROP TRIGGER {quote_name(parse_ddl(text).name)}", text):
                self._change_schema(cursor, replace(statement, text=sql), ())

    def _empty_before_drop(self, change: SchemaChange) -> None:
        """With foreign keys on, DROP TABLE deletes the rows first, without triggers but with what that does to the
        rows that refer to them (sqlite.org/foreignkeys.html §5). Done here, where a session sees it."""
        shape = self._capture.shapes.get(change.facts.name)
        if change.facts.action != "drop" or shape is None or not shape.referenced_by or not change.travels:
            return
        if self._control.execute("PRAGMA foreign_keys").get:
            self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            try:
                self._control.execute(f"DELETE FROM {shape.quoted}")
            finally:
                self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)

    # --- PRAGMA, ATTACH, our own tables ------------------------------------------------------------------

    def _run_pragma(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> Outcome | None:
        changes = self.db.total_changes()
        answer = self._port.pragma(self.db, statement.name, statement.argument)
        if answer is not None:
            self._own_changes += self.db.total_changes() - changes
            names, rows = answer
            columns: Columns = tuple((name, None) for name in names)
            return Outcome(-1, self._last_rowid(), columns, [tuple(row) for row in rows])
        reason = _FIXED_PRAGMAS.get(statement.name)
        sets_wal = statement.name == "journal_mode" and (statement.argument or "").lower() == "wal"
        in_memory = statement.name == "temp_store" and (
            not self.encrypted or (statement.argument or "").lower() in {"memory", "2"}
        )
        if reason is not None and statement.argument is not None and not sets_wal and not in_memory:
            raise NotSupportedError(f"PRAGMA {statement.name} cannot be set: {reason}", hint="leave it out")
        cursor.execute(statement.text, bindings)
        return None

    def _run_attach(self, cursor: apsw.Cursor, statement: Statement, bindings: Bindings) -> None:
        cursor.execute(statement.text, bindings)
        refuse_attached_node(self.db)

    def _check_meta_names(self, statement: Statement) -> None:
        """Our tables are no place for an application to write."""
        if META_PREFIX not in statement.text.lower():
            return
        before = ""
        for token in tokenize(statement.text):
            is_name = token.kind in {TokenKind.WORD, TokenKind.QUOTED}
            # SQLite takes a string for a name where one must stand
            is_name = is_name or (token.kind is TokenKind.STRING and before in _BEFORE_NAMES)
            if is_name and fold_name(token.name).startswith(META_PREFIX):
                raise OperationalError(f"{token.name} is octodb's own and is not for applications to change")
            before = token.word or token.text
