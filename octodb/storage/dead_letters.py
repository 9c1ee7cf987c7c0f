"""Dead letters: transactions that the primary rejected, made again, dropped, or shown change by change.

What is made again is a transaction like any other: ``NodeStatements`` captures it and gives it the next number. A
transaction without a verdict is shown and never touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import apsw

from octodb.errors import IntegrityError, OperationalError, OwnershipError
from octodb.model.transactions import Body, Rejection, decode_body
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.apply import Applier, Refused
from octodb.storage.changesets import iterate
from octodb.storage.local_rows import DATA_ERRORS
from octodb.storage.meta import Meta, Outbox, OutboxRow, RejectedRow
from octodb.storage.node_statements import NodeStatements
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["EXPORT_COLUMNS", "drop", "export", "retry"]

EXPORT_COLUMNS: Final = ("table", "op", "key", "old", "new", "part")

_NO_IDS: Final = (0, -1)  # deleted row ids are noted by the capture
_LENGTH_MAX: Final = 1_000_000_000  # an application's connection may not read rows as long as ours can be

_Row = tuple[Any, ...]


def retry(statements: NodeStatements, nonce: int, now: float) -> int:
    """Make the rejected transaction ``nonce`` again; return the number that it has now. Its dead letter is gone then.

    ``statements`` are those of a connection without anything of the application's (TEMP triggers, foreign key
    actions): the transaction holds what these did already. ``now``: seconds since the epoch.
    Raises IntegrityError, OwnershipError or OperationalError where it cannot be made here; nothing was changed then.
    """
    db = statements.db
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    db.execute("PRAGMA foreign_keys = OFF")

    def work(shapes: Shapes) -> None:
        _Retrial(db, shapes, now).make(_letter(db, nonce, "retried"))

    def written(number: int) -> None:
        Outbox(db).forget_rejected(nonce, f"was retried as transaction {number}")

    try:
        number = statements.transaction(work, written)
    except Refused as error:
        raise _not_made(nonce, error.rejection) from error
    if number is None:
        raise OperationalError(
            f"transaction {nonce} would change nothing: the rows that it changes are gone, or are so already",
            hint=f"PRAGMA export_transaction({nonce}) shows it, PRAGMA drop_transaction({nonce}) forgets it",
        )
    return number


def drop(db: apsw.Connection, nonce: int) -> None:
    """Forget what the rejected transaction ``nonce`` held. Its number stays a rejected one's (P7).

    Part of the caller's transaction where one is open. Raises OperationalError for any other number.
    """
    _letter(db, nonce, "dropped")
    Outbox(db).forget_rejected(nonce, "was dropped")


def export(db: apsw.Connection, nonce: int) -> Iterator[tuple[object, ...]]:
    """The row changes of a transaction that is pending or rejected: (table, op, key, old, new, part).

    ``key``, ``old`` and ``new`` are JSON objects of column names and values; a BLOB is ``{"hex": "…"}``. ``old`` is
    NULL for an INSERT, ``new`` for a DELETE; an UPDATE has the columns that it changed. ``part`` is ``user`` for what
    goes to the primary, ``local`` for what stays here. Where a table is no longer as it was, its columns are
    ``column 1``, ``column 2``…. No rows for any other number.
    """
    db.execute("BEGIN")
    try:
        outbox = Outbox(db)
        row: OutboxRow | RejectedRow | None = outbox.get(nonce) or outbox.dead_letter(nonce)
        if row is None:
            return
        body = decode_body(row.body)
        columns = _Columns(Shapes.read(db), Meta(db).schema_changes(), body.schema_seq)
        for changeset in _changesets(body):
            yield from columns.rows(changeset, "user")
        yield from columns.rows(row.local or b"", "local")
    finally:
        db.execute("COMMIT")


def _letter(db: apsw.Connection, nonce: int, done: str) -> RejectedRow:
    """The dead letter; OperationalError says what else the number stands for."""
    outbox = Outbox(db)
    with _long_rows(db):
        letter = outbox.dead_letter(nonce)
    if letter is not None:
        return letter
    hint = f"PRAGMA rejected_transactions lists those that can be {done}"
    status = outbox.verdict_of(nonce)
    if status is None:
        last = outbox.last_nonce()
        reason = f"there is no transaction {nonce}: " + (f"the last one is {last}" if last else "there is none yet")
    elif status == "accepted":
        reason = f"transaction {nonce} cannot be {done}: it was accepted"
    elif status == "unprocessed":
        reason = f"transaction {nonce} cannot be {done}: it has no verdict yet and may be on its way to the primary"
        hint = "wait for its verdict; to take back what it did, undo that in a new transaction"
    else:
        reason = f"transaction {nonce} {outbox.why_forgotten(nonce)} already"
    raise OperationalError(reason, hint=hint)


@contextmanager
def _long_rows(db: apsw.Connection) -> Iterator[None]:
    limit = db.limit(apsw.SQLITE_LIMIT_LENGTH, _LENGTH_MAX)
    try:
        yield
    finally:
        db.limit(apsw.SQLITE_LIMIT_LENGTH, limit)


def _not_made(nonce: int, rejection: Rejection) -> IntegrityError | OperationalError:
    kinds = {"constraint": IntegrityError, "ownership": OwnershipError}
    first = "retry that one first; " if rejection.code == "dependent" else ""
    return kinds.get(rejection.code, OperationalError)(
        f"transaction {nonce} cannot be made again: {rejection.message}",
        hint=f"{first}it stays as it is, and PRAGMA export_transaction({nonce}) shows what it holds",
    )


def _changesets(body: Body) -> Iterator[bytes]:
    return (op.payload for op in body.ops if isinstance(op.payload, bytes))


# --- making again ------------------------------------------------------------------------------------------


class _Retrial:
    """Makes one dead letter's changes, within the caller's transaction."""

    def __init__(self, db: apsw.Connection, shapes: Shapes, now: float) -> None:
        self._db = db
        self._shapes = shapes
        self._now = now
        self._meta = Meta(db)
        self._aside: list[tuple[str, dict[str, Any], str]] = []

    def make(self, letter: RejectedRow) -> None:
        """Raises Refused where the user's part cannot be made whole. Of the local part what still fits is made."""
        body = decode_body(letter.body)
        self._check_schema(body)
        if letter.rejection.code == "dependent":
            self._check_foundation(body, letter.rejection.message)
        local = _LocalPart(self._db, self._shapes)
        # a local row may have to go before the user's rows can come, or the other way round
        left = local.make(list(_local_changes(letter.local or b"")))
        self._make_user_part(body)
        local.make(left)

    def _check_schema(self, body: Body) -> None:
        changed = self._meta.schema_changes()
        for changeset in _changesets(body):
            for _, _, table, _, _ in iterate(changeset):
                if changed.get(fold_name(table), 0) > body.schema_seq:
                    raise Refused(Rejection("schema", f"table {table} was changed on the primary since", table))

    def _check_foundation(self, body: Body, message: str) -> None:
        """What built on another rejected transaction would take half effect without it: an UPDATE of a row that is not
        there does nothing."""
        for changeset in _changesets(body):
            for _, op, table, old, _ in iterate(changeset):
                shape = self._shapes.get(table)
                if op == "INSERT" or shape is None:
                    continue
                sql = f"SELECT 1 FROM {shape.quoted} WHERE {shape.key_match}"
                if self._db.execute(sql, [old[i] for i in shape.key]).fetchone() is None:
                    raise Refused(Rejection("dependent", f"{message}, and they are not there", table))

    def _make_user_part(self, body: Body) -> None:
        user_id = self._meta.get("user_id", 0)
        applier = Applier(self._db, self._shapes, _NO_IDS, lambda *row: self._aside.append(row))
        for changeset in _changesets(body):
            # by the rules that the primary will judge it by, as far as its rows are here
            applier.apply_ordered([(user_id, changeset)], check_foreign_keys=True)
        if self._aside:
            self._judge_displaced({key for changeset in _changesets(body) for key in self._new_keys(changeset)})

    def _new_keys(self, changeset: bytes) -> Iterator[tuple[str, _Row]]:
        for _, op, table, _, new in iterate(changeset):
            shape = self._shapes.get(table)
            if op == "INSERT" and shape is not None:
                yield shape.name, tuple(new[i] for i in shape.key)

    def _judge_displaced(self, new_keys: set[tuple[str, _Row]]) -> None:
        """A local row that had to give way: the very row that the transaction gives an owner is kept as it was, in
        case; any other one is the application's to move."""
        for table, row, reason in self._aside:
            shape = self._shapes.get(table)
            assert shape is not None
            if (table, tuple(row[shape.columns[i]] for i in shape.key)) not in new_keys:
                raise Refused(Rejection("constraint", f"a local row of {table} is in the way: {reason}", table))
            self._meta.displace(table, row, reason, self._now)


class _LocalChange(NamedTuple):
    table: str
    op: str
    old: _Row
    new: _Row
    column_count: int


def _local_changes(changeset: bytes) -> Iterator[_LocalChange]:
    for change, op, table, old, new in iterate(changeset):
        yield _LocalChange(table, op, old, new, change.column_count)


class _LocalPart:
    """Changes of rows that stay on this node: made where they find things as they were."""

    def __init__(self, db: apsw.Connection, shapes: Shapes) -> None:
        self._db = db
        self._shapes = shapes

    def make(self, changes: list[_LocalChange]) -> list[_LocalChange]:
        """Returns those that meet a constraint; a change of what is not there any more is left out for good."""
        found: list[tuple[_LocalChange, TableShape, _Row | None]] = []
        for change in changes:
            shape = self._shapes.get(change.table)
            if shape is None or change.column_count != len(shape.columns):
                continue
            there = None if change.op == "INSERT" else self._find(shape, change.old)
            if change.op == "INSERT" or there is not None:
                found.append((change, shape, there))
        left: list[_LocalChange] = []
        while failed := self._exchange(found):
            left += [found[i][0] for i in failed]
            found = [one for i, one in enumerate(found) if i not in failed]
        return left

    def _exchange(self, found: list[tuple[_LocalChange, TableShape, _Row | None]]) -> set[int]:
        """Take all rows out, then put them in as they shall be: they may exchange values. All of them or, where some
        do not fit, none; those are returned."""
        failed: set[int] = set()
        self._db.execute("SAVEPOINT octodb_local_part")
        for _, shape, there in found:
            if there is not None:
                self._db.execute(f"DELETE FROM {shape.quoted} WHERE {shape.key_match}", [there[i] for i in shape.key])
        for number, (change, shape, there) in enumerate(found):
            if change.op == "DELETE":
                continue
            row = change.new if there is None else _changed(there, change.new)
            names = ", ".join(quote_name(column) for column in shape.columns)
            try:
                self._db.execute(f"INSERT INTO {shape.quoted} ({names}) VALUES ({', '.join('?' * len(row))})", row)
            except DATA_ERRORS:
                failed.add(number)
        if failed:
            self._db.execute("ROLLBACK TO octodb_local_part")
        self._db.execute("RELEASE octodb_local_part")
        return failed

    def _find(self, shape: TableShape, values: _Row) -> _Row | None:
        """The whole local row that holds ``values`` (``apsw.no_change``: any)."""
        known = [i for i, value in enumerate(values) if value is not apsw.no_change]
        match = " AND ".join(f"{quote_name(shape.columns[i])} IS ?" for i in known)
        if shape.owner is not None:
            match += f" AND {shape.owner_column} IS NULL"
        columns = ", ".join(quote_name(column) for column in shape.columns)
        sql = f"SELECT {columns} FROM {shape.quoted} WHERE {match}"
        row = self._db.execute(sql, [values[i] for i in known]).fetchone()
        return None if row is None else tuple(row)


def _changed(row: _Row, new: _Row) -> _Row:
    return tuple(value if new[i] is apsw.no_change else new[i] for i, value in enumerate(row))


# --- showing -----------------------------------------------------------------------------------------------


class _Columns:
    """Names the columns of changes that were made when the schema was at ``schema_seq``."""

    def __init__(self, shapes: Shapes, changed: dict[str, int], schema_seq: int) -> None:
        self._shapes = shapes
        self._changed = changed
        self._schema_seq = schema_seq

    def rows(self, changeset: bytes, part: str) -> Iterator[tuple[object, ...]]:
        for change, op, table, old, new in iterate(changeset):
            key = sorted(change.pk_columns)
            names = self._names(table, change.column_count, key)
            values = new if op == "INSERT" else old
            shown = range(len(values)) if op != "UPDATE" else _differing(old, new)
            yield (
                table,
                op,
                _json(names, values, key),
                None if op == "INSERT" else _json(names, old, shown),
                None if op == "DELETE" else _json(names, new, shown),
                part,
            )

    def _names(self, table: str, count: int, key: list[int]) -> Sequence[str]:
        shape = self._shapes.get(table)
        changed = self._changed.get(fold_name(table), 0) > self._schema_seq
        if shape is None or changed or count > len(shape.columns) or sorted(shape.key) != key:
            return [f"column {number}" for number in range(1, count + 1)]
        return shape.columns


def _differing(old: _Row, new: _Row) -> list[int]:
    """The columns that an UPDATE changes. It names the row's owner besides, for the primary to check."""
    return [
        i
        for i, value in enumerate(new)
        if value is not apsw.no_change and (type(value), value) != (type(old[i]), old[i])
    ]


def _json(names: Sequence[str], values: _Row, which: Iterable[int]) -> str:
    return "{" + ", ".join(f"{_text(names[i])}: {_value(values[i])}" for i in which) + "}"


def _value(value: object) -> str:
    if isinstance(value, bytes):
        return json.dumps({"hex": value.hex()})
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:
        return "9e999" if value > 0 else "-9e999"  # JSON has no word for it; every reader makes an infinity of this
    return _text(value)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
