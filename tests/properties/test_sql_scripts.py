"""Scripts are cut where SQLite itself cuts them, and tokens lose nothing but white space and comments."""

from __future__ import annotations

from itertools import pairwise

import apsw
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octodb.sql.statements import classify, split_script
from octodb.sql.tokens import quote_name, quote_text, same_name, tokenize

SQLISH = st.text(alphabet="abeE'\"`[];-/*\n\t ()?:$@.01x|>=é\ufeffİK", max_size=40)
STATEMENTS = st.sampled_from(
    [
        "SELECT ';' AS \"a;b\", [c;d] FROM (SELECT 1 AS [c;d])",
        "SELECT 1 -- ; '\n",
        "/* ; ' */ SELECT 2",
        "INSERT INTO t VALUES ('it''s; END;')",
        "WITH q AS (SELECT 3) INSERT INTO t SELECT * FROM q",
        "CREATE TEMP TRIGGER IF NOT EXISTS g AFTER INSERT ON t BEGIN "
        "SELECT CASE WHEN 1 THEN 2 END; /* END; */ DELETE FROM t WHERE a = ';'; END",
        "CREATE TABLE IF NOT EXISTS [end] (begin)",
        "UPDATE t SET a = 1",
        "SAVEPOINT [;]; RELEASE [;]",
        "",
        "  -- nothing\n",
    ]
)


def texts(sql: str) -> list[str]:
    """The tokens of a statement, without the semicolons that SQLite leaves at its ends."""
    tokens = [token.text for token in tokenize(sql)]
    while tokens and tokens[0] == ";":
        del tokens[0]
    while tokens and tokens[-1] == ";":
        del tokens[-1]
    return tokens


def run_by_sqlite(script: str) -> list[str]:
    """The statements that SQLite finds in a script."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE t (a)")
    found: list[str] = []

    def trace(_: object, sql: str, __: object) -> bool:
        if texts(sql):
            found.append(sql)
        return True

    connection.exec_trace = trace
    for _ in connection.execute(script):
        pass
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(STATEMENTS, max_size=6), st.sampled_from([";", " ;\n", ";;", "; /* ; */"]))
def test_a_script_is_cut_where_sqlite_cuts_it(statements: list[str], separator: str) -> None:
    script = separator.join(statements)
    assert [texts(piece) for piece in split_script(script)] == list(map(texts, run_by_sqlite(script)))


@settings(max_examples=200, deadline=None)
@given(SQLISH)
@example("/*")
@example("'a''")
@example("\ufeff;")
def test_any_text_can_be_read(sql: str) -> None:
    tokens = tokenize(sql)
    assert all(sql[token.start : token.end] == token.text for token in tokens)
    assert all(left.end <= right.start for left, right in pairwise(tokens))
    statement = classify(sql)
    assert statement.text in sql
    assert sql.endswith(statement.tail)
    pieces = list(split_script(sql))
    assert (pieces[0] if pieces else "") == statement.text


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20).filter(lambda text: "\0" not in text and text.isprintable()), st.text(max_size=5))
def test_quoted_text_means_itself_to_sqlite(text: str, other: str) -> None:
    connection = apsw.Connection(":memory:")
    cursor = connection.execute(f"SELECT {quote_text(text)} AS {quote_name(text)}")
    assert cursor.description[0][0] == text
    assert cursor.fetchall() == [(text,)]
    if "\0" not in other and other.isprintable():
        same = connection.execute("SELECT ? = ? COLLATE NOCASE", (text, other)).fetchone()
        assert same is not None
        assert same_name(text, other) == bool(same[0])
