"""The parts of an INSERT, and the texts that are none."""

from __future__ import annotations

import pytest

from octodb.sql.insert_text import Head, Text, read_head, read_rows, read_select


@pytest.mark.parametrize(
    ("sql", "schema", "table", "columns"),
    [
        ("INSERT INTO t VALUES (1)", None, "t", None),
        ("insert or replace into main.t (a, [b c], 'd') values (1)", "main", "t", ("a", "b c", "d")),
        ('REPLACE INTO "a""b" AS x ("c""d") VALUES (1)', None, 'a"b', ('c"d',)),
        ("WITH replace AS (SELECT 1), q(x) AS (SELECT (2)) INSERT INTO t VALUES (1)", None, "t", None),
        ("EXPLAIN INSERT INTO t VALUES (1)", None, "t", None),
        ("EXPLAIN QUERY PLAN INSERT INTO t VALUES (1)", None, "t", None),
        ("INSERT INTO replace(replace) VALUES (1)", None, "replace", ("replace",)),
    ],
)
def test_head(sql: str, schema: str | None, table: str, columns: tuple[str, ...] | None) -> None:
    text = Text(sql)
    head = read_head(text)
    assert head == Head(schema, table, columns, head.body if head else -1)
    assert head is not None
    assert text.word(head.body) == "VALUES"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1",
        "INSERT t VALUES (1)",
        "INSERT INTO",
        "INSERT INTO 5 VALUES (1)",
        "INSERT INTO main.",
        "INSERT INTO t (a, VALUES (1)",
        "INSERT INTO t () VALUES (1)",
        "INSERT INTO t (a b) VALUES (1)",
        "INSERT INTO t (a.b) VALUES (1)",
        "WITH a AS (SELECT 1) UPDATE t SET a = 1",
        "WITH a AS (SELECT 1",
        "UPDATE OR REPLACE t SET a = 1",
    ],
)
def test_texts_that_are_no_insert(sql: str) -> None:
    assert read_head(Text(sql)) is None


def rows_of(sql: str) -> list[list[str]] | None:
    text = Text(sql)
    rows = read_rows(text, 0)
    if rows is None:
        return None
    return [[sql[text.start(first) : text.end(behind - 1)] for first, behind in row.values] for row in rows]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("(1)", [["1"]]),
        ("(f(1, 2), (3)), (4, ')' /* ) */)", [["f(1, 2)", "(3)"], ["4", "')'"]]),
        ("(1) ON CONFLICT DO NOTHING", [["1"]]),
        ("(1) ON CONFLICT (a) DO NOTHING", [["1"]]),
        ("(1) RETURNING a", [["1"]]),
        ("(1);", [["1"]]),
        ("(1) UNION SELECT 2", None),
        ("(1), ", None),
        ("(1", None),
        ("()", None),
        ("(1,)", None),
        ("(,1)", None),
        ("", None),
    ],
)
def test_rows(sql: str, rows: list[list[str]] | None) -> None:
    assert rows_of(sql) == rows


@pytest.mark.parametrize(
    ("sql", "query", "main", "flags"),
    [
        ("SELECT 1", "SELECT 1", "SELECT", ""),
        ("SELECT a FROM b RETURNING c", "SELECT a FROM b", "SELECT", ""),
        (
            "SELECT a FROM b WHERE true ON CONFLICT DO NOTHING",
            "SELECT a FROM b WHERE true",
            "SELECT",
            "upsert",
        ),
        ("SELECT a FROM b JOIN c ON conflict = 1", "SELECT a FROM b JOIN c ON conflict = 1", "SELECT", ""),
        ("SELECT 1 UNION ALL SELECT 2;", "SELECT 1 UNION ALL SELECT 2", "SELECT", "compound"),
        ("VALUES (1) EXCEPT SELECT 2", "VALUES (1) EXCEPT SELECT 2", "VALUES", "compound"),
        ("WITH a AS (SELECT 1 UNION SELECT 2) SELECT 3", None, "SELECT 3", ""),
        ("SELECT * FROM (SELECT 1 ORDER BY 1)", None, "SELECT *", "ordered"),
    ],
)
def test_select(sql: str, query: str | None, main: str, flags: str) -> None:
    text = Text(sql)
    select = read_select(text, 0)
    assert select is not None
    assert sql[: text.end(select.behind - 1)] == (query or sql)
    assert sql[text.start(select.main) :].startswith(main)
    found = {"compound": select.is_compound, "ordered": select.is_ordered, "upsert": select.has_upsert}
    assert {flag for flag, is_set in found.items() if is_set} == set(flags.split())


@pytest.mark.parametrize("sql", ["", "DEFAULT VALUES", "SELECT (1", "SELECT 1)", "WITH a AS (SELECT 1)"])
def test_texts_that_are_no_query(sql: str) -> None:
    assert read_select(Text(sql), 0) is None
