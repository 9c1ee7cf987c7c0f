"""What a statement is, where it ends, what follows it."""

from __future__ import annotations

import pytest

from octodb.sql.statements import Statement, StatementKind, classify, split_script

K = StatementKind
TRIGGER = """CREATE TEMP TRIGGER g AFTER INSERT ON begin WHEN 1 BEGIN
  SELECT CASE WHEN 1 THEN 2 END; -- END;
  INSERT INTO t VALUES ('; END;'); END"""


@pytest.mark.parametrize(
    ("sql", "kind", "verb"),
    [
        ("select 1", K.SELECT, "SELECT"),
        ("VALUES (1)", K.SELECT, "VALUES"),
        ("EXPLAIN QUERY PLAN DELETE FROM t", K.SELECT, "EXPLAIN"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", K.SELECT, "SELECT"),
        ("WITH a AS (VALUES (1)) VALUES (2)", K.SELECT, "VALUES"),
        ("INSERT INTO t VALUES (1)", K.INSERT, "INSERT"),
        ("replace into t values (1)", K.INSERT, "REPLACE"),
        (
            "WITH RECURSIVE a(x) AS NOT MATERIALIZED (SELECT 1) INSERT INTO t SELECT * FROM a",
            K.INSERT,
            "INSERT",
        ),
        ("WITH replace AS (SELECT 1), b AS (SELECT 2) DELETE FROM t", K.DELETE, "DELETE"),
        ("WITH a AS (SELECT 1) -- )\n UPDATE t SET x = 1", K.UPDATE, "UPDATE"),
        ("WITH a AS (SELECT 1)", K.OTHER, "WITH"),
        ("UPDATE t SET x = 1", K.UPDATE, "UPDATE"),
        ("DELETE FROM t", K.DELETE, "DELETE"),
        ("CREATE TABLE t (a)", K.DDL, "CREATE"),
        ("ALTER TABLE t RENAME TO u", K.DDL, "ALTER"),
        ("DROP TABLE t", K.DDL, "DROP"),
        ("BEGIN IMMEDIATE", K.BEGIN, "BEGIN"),
        ("COMMIT", K.COMMIT, "COMMIT"),
        ("END TRANSACTION", K.COMMIT, "END"),
        ("ROLLBACK", K.ROLLBACK, "ROLLBACK"),
        ("ROLLBACK TRANSACTION", K.ROLLBACK, "ROLLBACK"),
        ("PRAGMA foreign_keys", K.PRAGMA, "PRAGMA"),
        ("ATTACH 'a' AS b", K.ATTACH, "ATTACH"),
        ("DETACH b", K.DETACH, "DETACH"),
        ("VACUUM", K.VACUUM, "VACUUM"),
        ("ANALYZE", K.ANALYZE, "ANALYZE"),
        ("REINDEX", K.REINDEX, "REINDEX"),
        ("", K.EMPTY, ""),
        (" ; -- nothing\n; /* here */", K.EMPTY, ""),
        ("nonsense", K.OTHER, "NONSENSE"),
        ("(SELECT 1)", K.OTHER, ""),
        ("'text'", K.OTHER, ""),
    ],
)
def test_kind_and_verb(sql: str, kind: StatementKind, verb: str) -> None:
    for text in (sql, f"\n -- SELECT ;\n /* x */ {sql}", f";; {sql}", f"\ufeff{sql};"):
        found = classify(text)
        assert (found.kind, found.verb) == (kind, verb)
        assert found.tail == ""


def test_kinds_that_write_and_kinds_that_steer_transactions() -> None:
    assert {kind for kind in K if Statement(kind, "").is_write} == {K.INSERT, K.UPDATE, K.DELETE}
    assert {kind for kind in K if Statement(kind, "").is_transaction_control} == {
        K.BEGIN,
        K.COMMIT,
        K.ROLLBACK,
        K.SAVEPOINT,
        K.RELEASE,
        K.ROLLBACK_TO,
    }


@pytest.mark.parametrize(
    ("sql", "text", "tail"),
    [
        ("SELECT 1", "SELECT 1", ""),
        ("SELECT 1 ;", "SELECT 1", ""),
        ("  SELECT 1;  ; -- end\n;", "SELECT 1", ""),
        ("SELECT ';' AS [;]; SELECT 2; SELECT 3", "SELECT ';' AS [;]", " SELECT 2; SELECT 3"),
        ("SELECT 1 -- ;\n; x", "SELECT 1 -- ;", " x"),
        ("/* a */; ; /* b */ SELECT 1; ?", "/* b */ SELECT 1", " ?"),
        ("INSERT INTO t VALUES (1); DELETE FROM t", "INSERT INTO t VALUES (1)", " DELETE FROM t"),
        ("? ; SELECT 1", "?", " SELECT 1"),
        (f"{TRIGGER}; SELECT 1", TRIGGER, " SELECT 1"),
        (f"EXPLAIN {TRIGGER}", f"EXPLAIN {TRIGGER}", ""),
        (TRIGGER.replace(" TEMP", "") + " ;", TRIGGER.replace(" TEMP", ""), ""),
        ("CREATE TRIGGER x; SELECT 1", "CREATE TRIGGER x", " SELECT 1"),
        ("CREATE TABLE trigger_ (a); SELECT 1", "CREATE TABLE trigger_ (a)", " SELECT 1"),
    ],
)
def test_text_and_tail(sql: str, text: str, tail: str) -> None:
    found = classify(sql)
    assert (found.text, found.tail) == (text, tail)


@pytest.mark.parametrize(
    ("sql", "has_returning", "has_where"),
    [
        ("INSERT INTO t VALUES (1) RETURNING id", True, False),
        ("INSERT INTO t SELECT 1 WHERE true ON CONFLICT DO NOTHING", False, False),
        ("INSERT INTO t VALUES ('returning', \"returning\", :returning, xreturning)", False, False),
        ("INSERT INTO t VALUES ((SELECT returning), 'x') -- returning", False, False),
        ("UPDATE t SET a = 1", False, False),
        ("UPDATE t SET a = (SELECT b FROM u WHERE c)", False, False),
        ("UPDATE t SET a = 1 wHERE id = ? reTURNING *; DELETE FROM t", True, True),
        ("DELETE FROM t", False, False),
        ("DELETE FROM t WHERE x IN (SELECT 1)", False, True),
        ("WITH a AS (SELECT 1 WHERE 1) DELETE FROM t", False, False),
        ("SELECT 1 WHERE 1", False, False),
    ],
)
def test_clauses(sql: str, has_returning: bool, has_where: bool) -> None:
    found = classify(sql)
    assert (found.has_returning, found.has_where) == (has_returning, has_where)


@pytest.mark.parametrize(
    ("sql", "kind", "name"),
    [
        ("SAVEPOINT a", K.SAVEPOINT, "a"),
        ('SAVEPOINT "A b"', K.SAVEPOINT, "A b"),
        ("SAVEPOINT savepoint", K.SAVEPOINT, "savepoint"),
        ("RELEASE a", K.RELEASE, "a"),
        ("RELEASE SAVEPOINT 'it''s'", K.RELEASE, "it's"),
        ("ROLLBACK TO a", K.ROLLBACK_TO, "a"),
        ("ROLLBACK TRANSACTION TO SAVEPOINT [x]", K.ROLLBACK_TO, "x"),
        ("ROLLBACK /* TO b */ TO -- c\n a;", K.ROLLBACK_TO, "a"),
        ("SAVEPOINT", K.SAVEPOINT, ""),
    ],
)
def test_savepoint_names(sql: str, kind: StatementKind, name: str) -> None:
    found = classify(sql)
    assert (found.kind, found.name) == (kind, name)


@pytest.mark.parametrize(
    ("sql", "schema", "name", "argument"),
    [
        ("PRAGMA sync_status", "", "sync_status", None),
        ("pragma Sync_Status ;", "", "sync_status", None),
        ("PRAGMA main.user_version = 5", "main", "user_version", "5"),
        ('PRAGMA "temp".[x](-1)', "temp", "x", "-1"),
        ("PRAGMA x = - 1.5", "", "x", "-1.5"),
        ("PRAGMA x = +2", "", "x", "2"),
        ("PRAGMA x(ON)", "", "x", "ON"),
        ("PRAGMA user_login='it''s \"me\"; '", "", "user_login", 'it\'s "me"; '),
        ('PRAGMA user_signup="{""a"": \'b\'}"', "", "user_signup", "{\"a\": 'b'}"),
        ("PRAGMA user_login=''", "", "user_login", ""),
        ("PRAGMA transaction_status(17)", "", "transaction_status", "17"),
        ("PRAGMA /* a = 1 */ x -- = 2\n", "", "x", None),
    ],
)
def test_pragmas(sql: str, schema: str, name: str, argument: str | None) -> None:
    found = classify(sql)
    assert found.kind is K.PRAGMA
    assert (found.schema, found.name, found.argument) == (schema, name, argument)


@pytest.mark.parametrize(
    "sql", ["PRAGMA", "PRAGMA 1", "PRAGMA x =", "PRAGMA x = ?", "PRAGMA x = a b", "PRAGMA x y", "PRAGMA x()"]
)
def test_a_pragma_that_is_none_is_left_to_sqlite(sql: str) -> None:
    found = classify(sql)
    assert (found.kind, found.verb, found.name) == (K.OTHER, "PRAGMA", "")


def test_a_script_is_split_into_its_statements() -> None:
    script = f"-- head\nCREATE TABLE t (a); {TRIGGER};; \n/* b; */ SELECT ';'; -- rest ;\n SELECT 2"
    assert list(split_script(script)) == [
        "-- head\nCREATE TABLE t (a)",
        TRIGGER,
        "/* b; */ SELECT ';'",
        "-- rest ;\n SELECT 2",
    ]


@pytest.mark.parametrize("script", ["", ";;", " -- nothing", "/* ; */ ;"])
def test_a_script_of_nothing_has_no_statements(script: str) -> None:
    assert list(split_script(script)) == []


def test_every_piece_of_a_script_is_one_statement() -> None:
    for piece in split_script(f"SELECT 1; {TRIGGER}; nonsense; ?; UPDATE t SET a = 1"):
        assert classify(piece).text == piece
        assert classify(piece).tail == ""


def test_a_statement_of_many_rows_costs_no_recursion() -> None:
    sql = "INSERT INTO t VALUES " + "((1), 'a;')," * 50_000 + "(2, 'b') RETURNING a; SELECT 1"
    found = classify(sql)
    assert found.has_returning
    assert found.tail == " SELECT 1"
