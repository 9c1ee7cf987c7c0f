"""Letting a device in as an authorization service says (contract.md §7): its SQL and the admission, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import apsw

from octodb.errors import NotAuthorizedError, ProgrammingError
from octodb.model.admissions import Admission
from octodb.model.identities import ADMIN_ID, NodeRecord, Role
from octodb.sql.statements import StatementKind, classify
from octodb.storage.node_statements import NodeStatements
from octodb.storage.primary_store import PrimaryStore

__all__ = ["admit_as_told"]

# Not the service's: the transaction is the primary's, and nothing outside it may change.
_NOT_ALLOWED: Final = frozenset(
    {StatementKind.PRAGMA, StatementKind.ATTACH, StatementKind.DETACH, StatementKind.VACUUM}
)
_ID_MAX: Final = 0x7FFFFFFFFFFFFFFF


def admit_as_told(
    statements: NodeStatements, clock: Callable[[], float], admission: Admission, node_info: str
) -> NodeRecord:
    """Run what ``admission`` says on a connection of its own, as one transaction of the primary.

    A device that is known already is left as it is and nothing is run: a service may answer twice. Raises
    NotAuthorizedError when ``find`` finds nobody, ProgrammingError for what a service may not ask, and SQLite's errors;
    nothing was done then. apsw.BusyError: somebody else writes, try again.
    """
    statements.begin("BEGIN IMMEDIATE")
    try:
        record = _admit(statements, PrimaryStore(statements.db, clock), admission, node_info)
        statements.commit()
    except BaseException:
        statements.rollback()
        raise
    return record


def _admit(statements: NodeStatements, store: PrimaryStore, admission: Admission, node_info: str) -> NodeRecord:
    key, user_id = admission.public_key, admission.user_id
    known = store.find(key)
    if known is not None:
        if user_id and known.user_id != user_id:
            raise ProgrammingError(f"that device belongs to user {known.user_id} already, for ever")
        return known
    if admission.node_type is not None:
        record = store.authorize(key, None, admission.node_type, info=node_info, node_id=admission.node_id)
        _run_all(statements, admission.execute, record)
        return record
    if admission.find:
        user_id = _found_user(statements, admission.find)
    if user_id is None:
        return store.authorize(key, _inserted_user(statements, admission.execute), Role.SECONDARY, info=node_info)
    record = store.authorize(key, user_id, Role.SECONDARY, info=node_info)
    _run_all(statements, admission.execute, record)
    return record


def _found_user(statements: NodeStatements, sql: str) -> int:
    cursor = statements.db.cursor()
    _run(statements, cursor, sql, {}, {StatementKind.SELECT})
    row = next(cursor, None)
    if row is None:
        raise NotAuthorizedError("not authorized")
    names = [column[0].lower() for column in cursor.get_description()]
    if "user_id" not in names and len(names) > 1:
        raise ProgrammingError("find gives no column user_id", hint="SELECT id AS user_id FROM …")
    value = row[names.index("user_id") if "user_id" in names else 0]
    cursor.close()
    if not isinstance(value, int) or not 0 < value <= _ID_MAX:
        raise ProgrammingError("find gives a user_id that is no number above 0")
    return value


def _inserted_user(statements: NodeStatements, execute: tuple[str, ...]) -> int:
    """The row id of the last row that ``execute`` inserts is the user's."""
    statements.db.set_last_insert_rowid(0)
    _run_all(statements, execute, None)
    user_id = statements.db.last_insert_rowid()
    if user_id <= 0:
        raise ProgrammingError("execute inserted no row, so there is no user id", hint="answer with a user_id as well")
    if user_id == ADMIN_ID:
        raise ProgrammingError(
            f"execute gave the user id {ADMIN_ID}, which is the administrators'",
            hint=f"put a row with the id {ADMIN_ID} into the table first, so that users begin at {ADMIN_ID + 1}",
        )
    return user_id


def _run_all(statements: NodeStatements, execute: tuple[str, ...], record: NodeRecord | None) -> None:
    ids = {} if record is None else {"node_id": record.node_id, "user_id": record.user_id}
    for sql in execute:
        cursor = statements.db.cursor()
        _run(statements, cursor, sql, ids)
        for _row in cursor:
            pass  # RETURNING, say: a statement is finished when its rows are fetched


def _run(
    statements: NodeStatements,
    cursor: apsw.Cursor,
    sql: str,
    ids: dict[str, Any],
    allowed: set[StatementKind] | None = None,
) -> None:
    statement = classify(sql)
    if statement.tail:
        raise ProgrammingError("one text has several statements", hint="execute is a list: one statement each")
    kind = statement.kind
    if statement.is_transaction_control or kind in _NOT_ALLOWED or (allowed is not None and kind not in allowed):
        raise ProgrammingError(f"{statement.verb or 'that'} is no statement for an authorization service")
    statements.run(cursor, statement, ids)
