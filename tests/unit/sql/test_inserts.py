"""What is written into an INSERT that leaves out the row id or the owner."""

from __future__ import annotations

import pytest

from octodb.sql.inserts import InsertTarget, complete_insert, complete_trigger
from octodb.sql.tokens import fold_name

TABLES = {
    "t": InsertTarget("t", ("id", "a", "row_owner"), "id", "row_owner"),
    "it's": InsertTarget("it's", ("a", 'Row"Id', "Row_Owner"), 'Row"Id', "Row_Owner"),
    "text_key": InsertTarget("text_key", ("name", "a", "row_owner"), None, "row_owner"),
    "hidden": InsertTarget("hidden", ("id", "rowid", "row_owner"), "id", "row_owner"),
    "local": InsertTarget("local", ("id", "a"), "id", None),
}


def resolve(schema: str | None, table: str) -> InsertTarget | None:
    return TABLES.get(fold_name(table)) if schema in {None, "main"} else None


def completed(sql: str) -> str:
    return complete_insert(sql, resolve, owner_sql="3", next_id="nx")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # left out
        ("INSERT INTO t(a) VALUES (?)", """INSERT INTO t(a, "id", "row_owner") VALUES (?, nx('t'), 3)"""),
        (
            "INSERT INTO main.[T](a) VALUES (1),(2)",
            """INSERT INTO main.[T](a, "id", "row_owner") VALUES (1, nx('t'), 3),(2, nx('t'), 3)""",
        ),
        ("INSERT INTO t DEFAULT VALUES", """INSERT INTO t ("id", "row_owner") VALUES (nx('t'), 3)"""),
        (
            "REPLACE INTO t AS x /* c */ DEFAULT -- d\n VALUES RETURNING id",
            """REPLACE INTO t AS x ("id", "row_owner") /* c */ VALUES (nx('t'), 3) RETURNING id""",
        ),
        # quoted names
        (
            'INSERT INTO "it\'s"(a) VALUES (1)',
            """INSERT INTO "it's"(a, "Row""Id", "Row_Owner") VALUES (1, nx('it''s'), 3)""",
        ),
        # the key is listed
        (
            "INSERT INTO t(id, a) VALUES (?, 1)",
            """INSERT INTO t(id, a, "row_owner") VALUES (coalesce(?, nx('t')), 1, 3)""",
        ),
        ("INSERT INTO t(ID, row_owner) VALUES (NULL, 1)", "INSERT INTO t(ID, row_owner) VALUES (nx('t'), 1)"),
        (
            "INSERT INTO t(rowid, row_owner) VALUES (NULL, 1)",
            "INSERT INTO t(rowid, row_owner) VALUES (nx('t'), 1)",
        ),
        ("INSERT INTO t(id, a) VALUES (5, 1)", """INSERT INTO t(id, a, "row_owner") VALUES (5, 1, 3)"""),
        (
            "INSERT INTO t(id, row_owner) VALUES ((SELECT 1, 2), 4)",
            "INSERT INTO t(id, row_owner) VALUES (coalesce((SELECT 1, 2), nx('t')), 4)",
        ),
        # no list: all columns, in the order of the table
        ("INSERT INTO t VALUES (?, ?, ?)", "INSERT INTO t VALUES (coalesce(?, nx('t')), ?, ?)"),
        ("INSERT INTO t VALUES (null, 1, NULL)", "INSERT INTO t VALUES (nx('t'), 1, NULL)"),
        # another kind of key
        (
            "INSERT INTO text_key(name) VALUES ('x')",
            """INSERT INTO text_key(name, "row_owner") VALUES ('x', 3)""",
        ),
        ("INSERT INTO text_key DEFAULT VALUES", """INSERT INTO text_key ("row_owner") VALUES (3)"""),
        # a column may be called rowid without being the row id
        (
            "INSERT INTO hidden(rowid) VALUES (NULL)",
            """INSERT INTO hidden(rowid, "id", "row_owner") VALUES (NULL, nx('hidden'), 3)""",
        ),
        # upsert, comments, what follows
        (
            "INSERT INTO t(a) VALUES (1 -- )\n) ON CONFLICT(a) DO UPDATE SET a = excluded.a RETURNING *; SELECT 1",
            """INSERT INTO t(a, "id", "row_owner") VALUES (1 -- )\n, nx('t'), 3)"""
            " ON CONFLICT(a) DO UPDATE SET a = excluded.a RETURNING *; SELECT 1",
        ),
    ],
)
def test_values(sql: str, expected: str) -> None:
    assert completed(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "INSERT INTO t(a) SELECT x FROM s",
            'INSERT INTO t(a, "id", "row_owner") WITH _octo_source(c1) AS (SELECT x FROM s)'
            " SELECT c1, nx('t'), 3 FROM _octo_source",
        ),
        (
            "INSERT INTO t SELECT * FROM s ORDER BY 1 -- end",
            "INSERT INTO t WITH _octo_source(c1, c2, c3) AS MATERIALIZED (SELECT * FROM s ORDER BY 1)"
            " SELECT coalesce(c1, nx('t')), c2, c3 FROM _octo_source -- end",
        ),
        (
            "WITH q AS (SELECT 1) INSERT INTO t(a) SELECT * FROM q WHERE 1 ON CONFLICT DO NOTHING",
            'WITH q AS (SELECT 1) INSERT INTO t(a, "id", "row_owner") WITH _octo_source(c1) AS'
            " (SELECT * FROM q WHERE 1) SELECT c1, nx('t'), 3 FROM _octo_source"
            " WHERE true ON CONFLICT DO NOTHING",
        ),
        (
            "INSERT INTO t(a) WITH q AS (SELECT 1) SELECT 2 UNION VALUES (3) RETURNING id",
            'INSERT INTO t(a, "id", "row_owner") WITH _octo_source(c1) AS (WITH q AS (SELECT 1)'
            " SELECT CAST(NULL AS BLOB) WHERE 0 UNION ALL SELECT 2 UNION VALUES (3))"
            " SELECT c1, nx('t'), 3 FROM _octo_source RETURNING id",
        ),
        (
            "INSERT INTO text_key(name) SELECT _octo_source FROM s",
            'INSERT INTO text_key(name, "row_owner") WITH _octo_source_(c1) AS (SELECT _octo_source FROM s)'
            " SELECT c1, 3 FROM _octo_source_",
        ),
    ],
)
def test_select(sql: str, expected: str) -> None:
    assert completed(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "UPDATE t SET a = 1",
        "INSERT INTO unknown(a) VALUES (1)",
        "INSERT INTO temp.t(a) VALUES (1)",
        "INSERT INTO local(a) VALUES (1)",
        "INSERT INTO t(id, ROW_OWNER) VALUES (5, NULL)",
        "INSERT INTO text_key VALUES (1, 2, 3)",
        "INSERT INTO text_key SELECT * FROM s",
        "INSERT INTO t VALUES (5, 1, 3)",
        # for SQLite to complain about
        "INSERT INTO t(a) VALUES (1, 2)",
        "INSERT INTO t(a) VALUES (1), (2, 3)",
        "INSERT INTO t(a) VALUES ()",
        "INSERT INTO t VALUES (NULL)",
        "INSERT INTO t(a) DEFAULT VALUES",
        "INSERT INTO t(a)",
        "INSERT INTO t DEFAULT",
        "INSERT INTO t(a) VALUES (1",
        "INSERT INTO t(a) SELECT (1",
        "INSERT INTO",
        "",
    ],
)
def test_statements_that_stay_as_they_are(sql: str) -> None:
    assert completed(sql) is sql


def test_a_completed_insert_is_complete() -> None:
    for sql in [
        "INSERT INTO t(a) VALUES (1)",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t(id, a) SELECT 1, 2",
    ]:
        once = completed(sql)
        assert complete_insert(once, lambda *_: None, owner_sql="3") is once
    assert completed(completed("INSERT INTO t(a, id) VALUES (1, 5)")) == completed("INSERT INTO t(a, id) VALUES (1, 5)")


def test_the_inserts_of_a_trigger() -> None:
    trigger = """CREATE TRIGGER g AFTER INSERT ON s WHEN NEW.begin BEGIN
      UPDATE t SET a = CASE WHEN 1 THEN 2 END;
      INSERT INTO t(a) VALUES (NEW.a); -- INSERT INTO t(a)
      INSERT OR IGNORE INTO t SELECT * FROM s;
      INSERT INTO unknown VALUES (1);
    END"""
    assert complete_trigger(trigger, resolve) == (
        """CREATE TRIGGER g AFTER INSERT ON s WHEN NEW.begin BEGIN
      UPDATE t SET a = CASE WHEN 1 THEN 2 END;
      INSERT INTO t(a, "id", "row_owner") VALUES (NEW.a, octo_next_id('t'), this_user()); -- INSERT INTO t(a)
      INSERT OR IGNORE INTO t WITH _octo_source(c1, c2, c3) AS (SELECT * FROM s)"""
        """ SELECT coalesce(c1, octo_next_id('t')), c2, c3 FROM _octo_source;
      INSERT INTO unknown VALUES (1);
    END"""
    )


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER g AFTER INSERT ON s BEGIN INSERT INTO t DEFAULT VALUES; END",
        "CREATE TRIGGER g AFTER INSERT ON begin BEGIN DELETE FROM t; END",
        "CREATE TRIGGER g AFTER INSERT ON s BEGIN",
        "CREATE TABLE t (a)",
        "",
    ],
)
def test_triggers_that_stay_as_they_are(sql: str) -> None:
    assert complete_trigger(sql, resolve) is sql
