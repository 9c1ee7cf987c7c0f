"""What a schema change says about itself."""

from __future__ import annotations

import pytest

from octodb.errors import ProgrammingError
from octodb.sql.ddl import Ddl, parse_ddl


def facts(sql: str) -> dict[str, object]:
    """The facts that differ from a Ddl that says nothing, names left out."""
    ddl = parse_ddl(sql)
    plain = Ddl("", "", "")
    fields = (field for field in Ddl.__dataclass_fields__ if field != "names")
    return {field: getattr(ddl, field) for field in fields if getattr(ddl, field) != getattr(plain, field)}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "CREATE TABLE t (id PRIMARY KEY, [a b] DEFAULT (max(1, 2)), 'c', CHECK (id), UNIQUE (c))",
            {
                "action": "create",
                "object": "table",
                "name": "t",
                "table": "t",
                "columns_added": ("id", "a b", "c"),
            },
        ),
        (
            "create temporary table if not exists T(a) without rowid",
            {
                "action": "create",
                "object": "table",
                "name": "T",
                "table": "T",
                "temporary": True,
                "if_not_exists": True,
                "columns_added": ("a",),
            },
        ),
        (
            "CREATE TABLE Main.t AS SELECT * FROM u",
            {
                "action": "create",
                "object": "table",
                "name": "t",
                "table": "t",
                "schema": "main",
                "as_select": True,
            },
        ),
        (
            "CREATE TABLE if (a)",
            {"action": "create", "object": "table", "name": "if", "table": "if", "columns_added": ("a",)},
        ),
        (
            "CREATE VIRTUAL TABLE f USING fts5(a, content='')",
            {"action": "create", "object": "virtual table", "name": "f", "table": "f"},
        ),
        (
            'CREATE UNIQUE INDEX temp.i ON "a b"(c)',
            {
                "action": "create",
                "object": "index",
                "name": "i",
                "schema": "temp",
                "temporary": True,
                "table": "a b",
                "unique": True,
            },
        ),
        ("CREATE INDEX i ON t(a)", {"action": "create", "object": "index", "name": "i", "table": "t"}),
        ("CREATE VIEW v(a) AS SELECT 1", {"action": "create", "object": "view", "name": "v"}),
        (
            "CREATE TEMP TRIGGER g INSTEAD OF UPDATE OF on_, b ON main.v BEGIN SELECT 1; END",
            {"action": "create", "object": "trigger", "name": "g", "temporary": True, "table": "v"},
        ),
        (
            "DROP TABLE IF EXISTS main.t",
            {
                "action": "drop",
                "object": "table",
                "name": "t",
                "schema": "main",
                "table": "t",
                "if_exists": True,
            },
        ),
        ("DROP INDEX i", {"action": "drop", "object": "index", "name": "i"}),
        ("DROP VIEW v", {"action": "drop", "object": "view", "name": "v"}),
        (
            "drop trigger temp.g",
            {"action": "drop", "object": "trigger", "name": "g", "schema": "temp", "temporary": True},
        ),
        (
            "ALTER TABLE main.t RENAME TO 'u'",
            {
                "action": "alter",
                "object": "table",
                "name": "t",
                "schema": "main",
                "table": "t",
                "change": "rename table",
                "new_name": "u",
            },
        ),
        (
            "ALTER TABLE t RENAME COLUMN [a b] TO c",
            {
                "action": "alter",
                "object": "table",
                "name": "t",
                "table": "t",
                "change": "rename column",
                "column": "a b",
                "new_name": "c",
            },
        ),
        (
            "ALTER TABLE t RENAME row_owner TO c",
            {
                "action": "alter",
                "object": "table",
                "name": "t",
                "table": "t",
                "change": "rename column",
                "column": "row_owner",
                "new_name": "c",
            },
        ),
        (
            "ALTER TABLE t ADD COLUMN row_owner",
            {
                "action": "alter",
                "object": "table",
                "name": "t",
                "table": "t",
                "change": "add column",
                "column": "row_owner",
                "columns_added": ("row_owner",),
            },
        ),
        (
            'ALTER TABLE t DROP "Row_Owner"',
            {
                "action": "alter",
                "object": "table",
                "name": "t",
                "table": "t",
                "change": "drop column",
                "column": "Row_Owner",
            },
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a)",
            {"action": "alter", "object": "table", "name": "t", "table": "t", "change": "other"},
        ),
        (
            "ALTER TABLE t ALTER a SET NOT NULL",
            {"action": "alter", "object": "table", "name": "t", "table": "t", "change": "other"},
        ),
    ],
)
def test_facts(sql: str, expected: dict[str, object]) -> None:
    assert facts(sql) == expected
    assert facts(f"-- CREATE TABLE x\n {sql} ;") == expected


@pytest.mark.parametrize(
    ("sql", "clauses"),
    [
        (
            "CREATE TABLE t (a PRIMARY KEY ON CONFLICT REPLACE, UNIQUE (a) ON CONFLICT ignore)",
            ("REPLACE", "IGNORE"),
        ),
        (
            "CREATE TABLE t (a NOT NULL ON CONFLICT ROLLBACK, CHECK (a) ON CONFLICT FAIL)",
            ("ROLLBACK", "FAIL"),
        ),
        ("CREATE TABLE t (a UNIQUE ON CONFLICT ABORT, b DEFAULT 'ON CONFLICT REPLACE')", ()),
        ("CREATE TABLE t (a REFERENCES u ON DELETE CASCADE, [ON] CONFLICT, fail)", ()),
        ("ALTER TABLE t ADD a NOT NULL ON CONFLICT IGNORE DEFAULT 1", ("IGNORE",)),
        (
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO u SELECT 1 ON CONFLICT REPLACE; END",
            (),
        ),
        ("CREATE VIEW v AS SELECT 'ON CONFLICT REPLACE' FROM a JOIN b ON conflict REPLACE", ()),
    ],
)
def test_conflict_clauses_of_constraints(sql: str, clauses: tuple[str, ...]) -> None:
    assert parse_ddl(sql).conflict_clauses == clauses


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIEW v AS SELECT * FROM Private_Keys",
        "CREATE VIEW v AS SELECT * FROM a, 'private_keys'",
        "CREATE VIEW v AS SELECT * FROM a, (SELECT 1 WHERE 2), 'private_keys'",
        "CREATE VIEW v AS SELECT * FROM ('private_keys')",
        "CREATE VIEW v AS SELECT * FROM main.'private_keys' AS k",
        "CREATE VIEW v AS SELECT 1 WHERE 2 IN 'private_keys'",
        'CREATE VIEW v AS SELECT "private_keys".a FROM k',
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO [private_keys] VALUES (1); END",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE OR IGNORE `private_keys` SET a = 1; END",
        "CREATE TABLE t (a REFERENCES 'private_keys')",
        "DROP TABLE IF EXISTS 'PRIVATE_KEYS'",
    ],
)
def test_a_private_table_is_among_the_names(sql: str) -> None:
    assert "private_keys" in parse_ddl(sql).names


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE VIEW v AS SELECT 'private_keys', a FROM b WHERE a IN ('x', 'private_keys')",
        "CREATE VIEW v AS SELECT 1 -- private_keys",
        "CREATE TABLE t (a DEFAULT 'private_keys')",
    ],
)
def test_text_that_only_says_private_is_not(sql: str) -> None:
    assert "private_keys" not in parse_ddl(sql).names


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1",
        "CREATE",
        "CREATE SOMETHING x",
        "CREATE TABLE",
        "CREATE TABLE t",
        "CREATE TABLE main. (a)",
        "CREATE INDEX i",
        "CREATE TRIGGER g AFTER INSERT",
        "DROP",
        "DROP TABLE 5",
        "DROP VIRTUAL TABLE t",
        "ALTER VIEW v RENAME TO w",
        "ALTER TABLE t RENAME TO",
        "ALTER TABLE t RENAME a b",
        "ALTER TABLE t ADD",
    ],
)
def test_text_that_cannot_be_read_is_an_error(sql: str) -> None:
    with pytest.raises(ProgrammingError, match="expected"):
        parse_ddl(sql)
