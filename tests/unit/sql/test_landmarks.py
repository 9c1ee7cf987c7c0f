"""Where statements end: what may hide a semicolon or a keyword, and what may not."""

from __future__ import annotations

import pytest

from octodb.sql.landmarks import end_of_statement, read_clauses, verb_behind_with


@pytest.mark.parametrize(
    "hiding",
    ["';'", '";"', "`;`", "[;]", "-- ;\n", "/* ; */", "'it'';'", "$a(;)", "x';'", "a - b / c ? @x #1"],
)
def test_a_semicolon_ends_a_statement_unless_hidden(hiding: str) -> None:
    sql = f"SELECT {hiding} , 1; SELECT 2"
    assert sql[end_of_statement(sql, 0) :] == "; SELECT 2"


def test_without_a_semicolon_the_text_is_the_statement() -> None:
    for sql in ["", "SELECT 1", "SELECT 'open ;", "SELECT /* open ;", "SELECT [open ;"]:
        assert end_of_statement(sql, 0) == len(sql)


def test_a_trigger_ends_behind_its_end() -> None:
    sql = "TRIGGER g AFTER DELETE ON t BEGIN SELECT CASE 1 WHEN 1 THEN 2 END; DELETE FROM t; END; SELECT 1"
    assert sql[end_of_statement(sql, 0, may_be_trigger=True) :] == "; SELECT 1"
    assert sql[end_of_statement(sql, 0) :].startswith("; DELETE")


@pytest.mark.parametrize(
    ("sql", "clauses"),
    [
        ("t SET a = 1 WHERE b", (False, True)),
        ("t SET a = (1 WHERE b) RETURNING c", (True, False)),
        ("t SET a = :where, b = nowhere, c = where_, d = @returning", (False, False)),
        ("t SET a = é where b", (False, True)),
        ("t SET a=1where", (False, True)),
        ("t; WHERE a RETURNING b", (False, False)),
    ],
)
def test_only_clauses_of_the_statement_itself_count(sql: str, clauses: tuple[bool, bool]) -> None:
    _, has_returning, has_where = read_clauses(sql, 0)
    assert (has_returning, has_where) == clauses


@pytest.mark.parametrize(
    ("sql", "verb"),
    [
        (" a AS (SELECT 1) SELECT 2", "SELECT"),
        (" replace AS (SELECT (1)), b(x) AS MATERIALIZED (SELECT 1)/**/UPDATE t SET a = 1", "UPDATE"),
        (" a AS (SELECT 1)", "WITH"),
        (" a AS (SELECT 1); DELETE FROM t", "WITH"),
        (" a AS (SELECT 1) (SELECT 2)", "WITH"),
        (" a AS (SELECT 1)) DELETE FROM t", "WITH"),
    ],
)
def test_the_verb_stands_behind_the_last_parenthesis(sql: str, verb: str) -> None:
    assert verb_behind_with(sql, 0)[0] == verb
