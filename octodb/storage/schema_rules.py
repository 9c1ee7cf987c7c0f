"""Which schema changes a node may make, which travel, and in what text (contract.md §5, design.md §7).

Looks at statements and at the schema before and after them; runs nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import apsw

from octodb.errors import NotSupportedError, OperationalError, ProgrammingError
from octodb.model.identities import Role
from octodb.model.owners import OWNER_COLUMN
from octodb.sql.ddl import Ddl, parse_ddl
from octodb.sql.inserts import InsertTarget, Resolve, complete_trigger
from octodb.sql.tokens import fold_name
from octodb.storage.lookup import one_value
from octodb.storage.meta import META_PREFIX, create_owner_index
from octodb.storage.shapes import LOCAL_PREFIX, PRIVATE_PREFIX, Shapes, TableShape

__all__ = [
    "SchemaChange",
    "SchemaObject",
    "check_elsewhere",
    "check_replicable",
    "check_result",
    "incomplete_triggers",
    "index_owners",
    "insert_target",
    "lossy_tables",
    "plan_schema_change",
    "recorded_text",
    "resolver",
    "shared_objects",
    "temporary_tables",
    "untriggered",
    "without_row_id",
]


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """``text`` is what is run here. ``travels``: it is recorded and replayed on every node."""

    facts: Ddl
    text: str
    travels: bool


class SchemaObject(NamedTuple):
    """A row of ``sqlite_schema``. ``sql`` None: SQLite made it by itself, e.g. the index of a UNIQUE constraint."""

    kind: str
    name: str
    table: str
    sql: str | None


_NOT_SHARED: Final = (META_PREFIX, "sqlite_", PRIVATE_PREFIX, LOCAL_PREFIX)


def plan_schema_change(db: apsw.Connection, shapes: Shapes, role: Role, sql: str) -> SchemaChange:
    """Decide on a CREATE, ALTER or DROP before it runs.

    Raises NotSupportedError for what can never be replicated, OperationalError for what this node may not do.
    Text that cannot be read is left to SQLite and its message.
    """
    try:
        facts = parse_ddl(sql)
    except ProgrammingError:
        # SQLite will refuse it with a better message
        return SchemaChange(Ddl("other", "", ""), sql, travels=False)
    if facts.temporary or facts.schema not in {"", "main"} or _is_temporary(db, facts):
        if facts.action == "create" and facts.object == "trigger":
            # its INSERTs make rows as any other: without an owner they would be local
            sql = complete_trigger(sql, resolver(shapes, temporary_tables(db)))
        return SchemaChange(facts, sql, travels=False)
    _check_names(facts, shapes)
    if facts.object == "virtual table" and facts.action == "create" and OWNER_COLUMN in facts.names:
        raise NotSupportedError(
            f"the virtual table {facts.name} cannot have a column row_owner: SQLite does not capture its rows",
            hint="keep the rows in an ordinary table",
        )
    if role is Role.SECONDARY:
        _check_local(facts, shapes)
    if fold_name(facts.name).startswith(LOCAL_PREFIX):
        return SchemaChange(facts, sql, travels=False)
    if facts.action == "create" and facts.object == "trigger":
        sql = complete_trigger(sql, resolver(shapes))
    travels = not _is_private(db, facts)
    if travels and META_PREFIX in fold_name(sql):
        raise NotSupportedError(
            f"devices take no schema that names octodb's own tables ({META_PREFIX}…)",
            hint="leave the name out, also of comments and texts",
        )
    return SchemaChange(facts, sql, travels=travels)


def check_result(db: apsw.Connection, shapes: Shapes, facts: Ddl) -> None:
    """Whether what the statement made can be replicated. Raises NotSupportedError: the caller rolls it back."""
    shape = shapes.get(_renamed_table(facts) or facts.table or facts.name)
    if shape is not None and shape.owner is None and _has_generated_owner(db, shape):
        raise NotSupportedError(
            f"row_owner of {shape.name} is a generated column, so no owner can be stored",
            hint="make it an ordinary column",
        )
    if shape is None or not shape.replicated:
        return
    if not shape.key:
        raise NotSupportedError(
            f"table {shape.name} has a row_owner column but no PRIMARY KEY, so its rows cannot be synced",
            hint="add one, e.g. id INTEGER PRIMARY KEY",
        )
    if shape.nullable_key:
        raise NotSupportedError(
            f"a PRIMARY KEY column of {shape.name} may be NULL; SQLite does not capture such rows",
            hint="declare its key columns NOT NULL",
        )
    if shape.collated_key:
        raise NotSupportedError(
            f"a PRIMARY KEY column of {shape.name} has a collation; SQLite's sessions tell keys apart byte by byte",
            hint="declare the key without COLLATE and add a UNIQUE index with it",
        )
    clauses = _stored_conflict_clauses(db, shape)
    if clauses:
        raise NotSupportedError(
            f"table {shape.name} has a constraint with ON CONFLICT {clauses[0]},"
            " which would change other rows while syncing",
            hint="leave the clause out and write INSERT OR … where it is wanted",
        )


def index_owners(db: apsw.Connection, shapes: Shapes) -> None:
    """On a primary every replicated table has an index by owner, for downloads."""
    for shape in shapes.replicated():
        assert shape.owner is not None
        create_owner_index(db, shape.name, shape.columns[shape.owner])


def recorded_text(db: apsw.Connection, change: SchemaChange) -> str:
    """The text that other nodes replay. CREATE TABLE … AS SELECT travels as the table it made."""
    if change.facts.as_select:
        sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"
        return str(one_value(db, sql, (change.facts.name,)))
    return change.text


def lossy_tables(facts: Ddl) -> set[str]:
    """Folded names of the tables for which bodies made before this change no longer fit (design.md §7)."""
    if facts.object not in {"table", "virtual table"} or facts.change == "add column":
        return set()
    return {fold_name(name) for name in (facts.name, _renamed_table(facts)) if name}


def shared_objects(db: apsw.Connection) -> list[SchemaObject]:
    """What of ``sqlite_schema`` belongs to every node, in the order it was made: not ours, not SQLite's, not private.

    A view or trigger that names what is private, or a ``local_`` object, is private itself.
    """
    objects = [
        SchemaObject(str(row[0]), str(row[1]), str(row[2]), None if row[3] is None else str(row[3]))
        for row in db.execute("SELECT type, name, tbl_name, sql FROM main.sqlite_schema ORDER BY rowid").fetchall()
    ]
    private = {fold_name(one.name) for one in objects if fold_name(one.name).startswith(_NOT_SHARED)}
    while found := {fold_name(one.name) for one in objects if _stays_here(one, private)} - private:
        private |= found
    return [one for one in objects if one.sql is not None and fold_name(one.name) not in private]


def _stays_here(one: SchemaObject, private: set[str]) -> bool:
    if one.kind in {"index", "trigger"} and fold_name(one.table) in private:
        return True
    return one.kind in {"view", "trigger"} and one.sql is not None and _names_private(parse_ddl(one.sql), private)


def _names_private(facts: Ddl, private: set[str]) -> bool:
    # a private_ table may be made later than what names it
    return not private.isdisjoint(facts.names) or any(name.startswith(PRIVATE_PREFIX) for name in facts.names)


def incomplete_triggers(db: apsw.Connection, shapes: Shapes) -> list[str]:
    """Triggers whose INSERTs leave out row ids and owners of replicated tables, in the text they should have."""
    sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND name NOT LIKE ? ESCAPE '\\' ORDER BY rowid"
    stored = [str(row[0]) for row in db.execute(sql, ("local\\_%",)).fetchall()]
    texts = [(text, complete_trigger(text, resolver(shapes))) for text in stored]
    return [completed for text, completed in texts if completed != text]


def check_elsewhere(db: apsw.Connection, shapes: Shapes, facts: Ddl) -> None:
    """Whether a table or an index can be made on other nodes, which have not the functions and collations that this
    application registered. Raises NotSupportedError: the caller rolls it back."""
    if facts.object not in {"table", "index"} or facts.action == "drop":
        return
    elsewhere = apsw.Connection(":memory:")
    try:
        for one in shared_objects(db):
            if one.kind in {"table", "index"} and not shapes.is_shadow(one.name):
                elsewhere.execute(one.sql or "")
    except apsw.SQLError as error:
        raise NotSupportedError(
            f"{facts.name} cannot be made on other nodes: {error}",
            hint="use only functions and collations that are part of SQLite",
        ) from None
    finally:
        elsewhere.close()


def temporary_tables(db: apsw.Connection) -> frozenset[str]:
    """Folded names of TEMP tables and views: an unqualified name means them first (sqlite.org/lang_naming.html)."""
    sql = "SELECT name FROM temp.sqlite_schema WHERE type IN ('table', 'view')"
    return frozenset(fold_name(str(name)) for (name,) in db.execute(sql))


def resolver(shapes: Shapes, hidden: frozenset[str] = frozenset()) -> Resolve:
    """How complete_insert finds a table: only replicated tables of main are completed.

    ``hidden``: folded names that mean something else when no schema is written.
    """

    def resolve(schema: str | None, table: str) -> InsertTarget | None:
        if (schema is not None and fold_name(schema) != "main") or (schema is None and fold_name(table) in hidden):
            return None
        return insert_target(shapes.get(table))

    return resolve


def untriggered(resolve: Resolve, shapes: Shapes) -> Resolve:
    """As ``resolve``, but only for tables without triggers."""

    def resolve_untriggered(schema: str | None, table: str) -> InsertTarget | None:
        shape = shapes.get(table)
        return None if shape is None or shape.has_triggers else resolve(schema, table)

    return resolve_untriggered


def without_row_id(resolve: Resolve) -> Resolve:
    """As ``resolve``, but the row ids are left to SQLite."""

    def resolve_without_row_id(schema: str | None, table: str) -> InsertTarget | None:
        target = resolve(schema, table)
        return None if target is None else replace(target, key_column=None)

    return resolve_without_row_id


def insert_target(shape: TableShape | None) -> InsertTarget | None:
    if shape is None or not shape.replicated or shape.owner is None:
        return None
    return InsertTarget(shape.name, shape.columns, shape.row_id_column, shape.columns[shape.owner])


def _renamed_table(facts: Ddl) -> str:
    """The new name of a table that is renamed, else ''; a renamed column has a new name too."""
    return facts.new_name if facts.change == "rename table" else ""


def _is_temporary(db: apsw.Connection, facts: Ddl) -> bool:
    """An unqualified name means a TEMP object first (sqlite.org/lang_naming.html)."""
    if facts.schema or facts.action == "create":
        return False
    sql = "SELECT 1 FROM temp.sqlite_schema WHERE name = ? COLLATE NOCASE"
    return db.execute(sql, (facts.name,)).fetchone() is not None


def _check_names(facts: Ddl, shapes: Shapes) -> None:
    for name in (facts.name, _renamed_table(facts), facts.table):
        if fold_name(name).startswith(META_PREFIX):
            raise OperationalError(f"{name} is octodb's own", hint=f"choose a name without {META_PREFIX}")
    shape = shapes.get(facts.table)
    if shape is None:
        return
    adds_owner = facts.change == "add column" and fold_name(facts.column) == OWNER_COLUMN
    if adds_owner and not facts.names.isdisjoint({"default", "as", "generated"}):
        raise NotSupportedError(
            f"row_owner of {shape.name} cannot have a DEFAULT or be computed: the rows that are there stay local",
            hint="add it without, then UPDATE the rows that shall be somebody's",
        )
    if facts.change == "rename column" and fold_name(facts.new_name) == OWNER_COLUMN and not shape.private:
        raise NotSupportedError(
            f"a column of {shape.name} cannot become row_owner by renaming: its values would be taken for owners",
            hint="ALTER TABLE … ADD COLUMN row_owner, then UPDATE it",
        )
    takes_owner = fold_name(facts.column) == OWNER_COLUMN and facts.change in {"rename column", "drop column"}
    if takes_owner and shape.replicated:
        raise NotSupportedError(
            f"row_owner of {shape.name} cannot be renamed or dropped: it says whose the rows are",
            hint="make a new table without it and copy the rows",
        )
    if facts.change == "rename table" and fold_name(facts.new_name).startswith(PRIVATE_PREFIX) != shape.private:
        raise NotSupportedError(
            f"{shape.name} cannot be renamed to {facts.new_name}: private_ tables exist on primaries only",
            hint="create the other table and copy the rows",
        )


def _check_local(facts: Ddl, shapes: Shapes) -> None:
    name = fold_name(facts.name)
    renamed = fold_name(_renamed_table(facts))
    if name.startswith(LOCAL_PREFIX) and (not renamed or renamed.startswith(LOCAL_PREFIX)):
        shape = shapes.get(facts.table)
        if facts.object == "index" and facts.unique and shape is not None and shape.replicated:
            raise NotSupportedError(
                f"a UNIQUE index on the replicated table {shape.name} would refuse rows that the primary accepted",
                hint="make the index without UNIQUE, or make it on a primary",
            )
        return
    raise OperationalError(
        f"the schema is made on a primary: this device cannot {facts.action} {facts.object} {facts.name}",
        hint="run it on a primary, or use TEMP objects or names that begin with local_",
    )


def _is_private(db: apsw.Connection, facts: Ddl) -> bool:
    if fold_name(facts.table or facts.name).startswith(PRIVATE_PREFIX):
        return True
    if facts.action == "create" and facts.object in {"view", "trigger", "index"}:
        rows = db.execute("SELECT name FROM main.sqlite_schema").fetchall()
        private = {fold_name(str(name)) for (name,) in rows} - {fold_name(one.name) for one in shared_objects(db)}
        if facts.object == "index":
            return fold_name(facts.table) in private
        return _names_private(facts, private)
    if facts.action == "drop" and facts.object in {"index", "view", "trigger"}:
        sql = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE name = ? COLLATE NOCASE"
        row = db.execute(sql, (facts.name,)).fetchone()
        return row is not None and all(one.name != row[1] for one in shared_objects(db))
    return False


def _has_generated_owner(db: apsw.Connection, shape: TableShape) -> bool:
    sql = "SELECT 1 FROM pragma_table_xinfo(?, 'main') WHERE name = ? COLLATE NOCASE"
    return db.execute(sql, (shape.name, OWNER_COLUMN)).fetchone() is not None


def _stored_conflict_clauses(db: apsw.Connection, shape: TableShape) -> tuple[str, ...]:
    sql = "SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?"
    return parse_ddl(one_value(db, sql, (shape.name,))).conflict_clauses


def check_replicable(db: apsw.Connection, shapes: Shapes) -> None:
    """Whether every table that an existing database brings along can be replicated. Raises NotSupportedError."""
    for shape in shapes.replicated():
        check_result(db, shapes, Ddl("create", "table", shape.name))
