"""Schema texts that a primary sends: run on a device with nothing allowed but what a schema needs.

A device takes its schema from its primary. It must not take anything else with it: no file attached, no setting
changed, no row of its own or of octodb's read or written. SQLite's authorizer is asked about every step of every
statement in the text (sqlite.org/c3ref/set_authorizer.html), so that nothing hangs on how we read it.
"""

from __future__ import annotations

from typing import Final

import apsw

from octodb.errors import ProgrammingError, ProtocolError
from octodb.sql.ddl import parse_ddl
from octodb.sql.statements import split_script
from octodb.sql.tokens import fold_name
from octodb.storage.meta import META_PREFIX

__all__ = ["run_sent_schema"]

_NOT_SENT: Final = (META_PREFIX, "sqlite_", "private_", "local_")
# Part of SQLite, and without a way to files or to the pages of the database.
_MODULES: Final = frozenset({"fts3", "fts4", "fts4aux", "fts5", "fts5vocab", "rtree", "rtree_i32", "geopoly"})
# What those modules ask for while they are made, and ADD COLUMN … CHECK where there are rows. They only read.
_PRAGMAS: Final = frozenset({"page_size", "data_version", "quick_check"})
_ROWS: Final = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_NEVER: Final = frozenset(
    {apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH, apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT, apsw.SQLITE_ANALYZE}
)
_FUNCTIONS_REFUSED: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


def run_sent_schema(db: apsw.Connection, sql: str) -> None:
    """Run one CREATE, ALTER or DROP that a primary sent.

    Raises ProtocolError for any other text, and for one that reaches further than a schema does; SQLite's errors as
    they are.
    """
    _check(sql)
    before = db.authorizer
    refused: list[str] = []

    def authorize(
        operation: int, first: str | None, second: str | None, schema: str | None, trigger: str | None
    ) -> int:
        if _is_schema_work(operation, first or "", second or ""):
            return apsw.SQLITE_OK
        refused.append(str(apsw.mapping_authorizer_function[operation]))
        return apsw.SQLITE_DENY

    db.authorizer = authorize
    try:
        db.execute(sql)
    except (apsw.AuthError, apsw.SQLError) as error:
        if refused:
            raise ProtocolError(f"the primary sent a schema that does more than that ({refused[0]})") from error
        raise
    finally:
        db.authorizer = before


def _check(sql: str) -> None:
    """What can be told from the text: it is one statement about an object that travels."""
    try:
        facts = parse_ddl(sql)
    except ProgrammingError as error:
        raise ProtocolError("the primary sent a schema that is none") from error
    if len([text for text in split_script(sql) if text.strip()]) != 1:
        raise ProtocolError("the primary sent more than one statement as one")
    if facts.temporary or facts.schema not in {"", "main"}:
        raise ProtocolError("the primary sent a schema for another database than this one")
    names = [fold_name(name) for name in (facts.name, facts.table, facts.new_name)]
    if META_PREFIX in fold_name(sql) or any(name.startswith(_NOT_SENT) for name in names):
        raise ProtocolError("the primary sent a schema for what is this device's own")
    if facts.object == "trigger" and any(name.startswith("local_") for name in facts.names):
        raise ProtocolError("the primary sent a trigger that reaches for what is this device's own")


def _is_schema_work(operation: int, first: str, second: str) -> bool:
    if operation in _NEVER:
        return False
    if operation == apsw.SQLITE_PRAGMA:
        return fold_name(first) in _PRAGMAS and (not second or fold_name(first) == "quick_check")
    if operation == apsw.SQLITE_FUNCTION:
        return fold_name(second) not in _FUNCTIONS_REFUSED
    if operation == apsw.SQLITE_CREATE_VTABLE:
        return fold_name(second) in _MODULES
    if operation in _ROWS or operation == apsw.SQLITE_READ:
        # rows of a table that is dropped, and those that a module puts into its own tables, belong to the work
        return not fold_name(first).startswith((META_PREFIX, "local_"))
    return True
