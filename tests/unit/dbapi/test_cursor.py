"""Running statements and fetching rows."""

import sqlite3
from contextlib import closing

import pytest

import octodb


@pytest.fixture
def connection():
    with closing(octodb.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)")
        connection.executemany("INSERT INTO t(b) VALUES (?)", [("one",), ("two",), ("three",)])
        connection.commit()
        yield connection


def test_rows_come_by_every_way_of_fetching(connection):
    cursor = connection.cursor()
    everything = [(1, "one"), (2, "two"), (3, "three")]
    assert cursor.execute("SELECT * FROM t").fetchall() == everything
    assert list(cursor.execute("SELECT * FROM t")) == everything
    cursor.execute("SELECT * FROM t")
    assert cursor.fetchone() == (1, "one")
    assert next(cursor) == (2, "two")
    assert cursor.fetchmany(5) == [(3, "three")]
    assert cursor.fetchone() is None
    assert cursor.fetchall() == []
    cursor.arraysize = 2
    assert cursor.execute("SELECT a FROM t").fetchmany() == [(1,), (2,)]


def test_a_fresh_cursor_has_no_rows_and_knows_nothing(connection):
    cursor = connection.cursor()
    assert cursor.fetchone() is None
    assert cursor.fetchall() == []
    assert (cursor.description, cursor.rowcount, cursor.lastrowid, cursor.arraysize) == (None, -1, None, 1)
    assert cursor.connection is connection


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a, b AS other FROM t",
        "SELECT a, b FROM t WHERE 0",
        "PRAGMA table_info(t)",
        "PRAGMA table_info(absent)",
        "PRAGMA foreign_keys = 1",
        "EXPLAIN SELECT 1",
        "WITH w AS (SELECT 1 AS x) SELECT x FROM w",
        "INSERT INTO t(b) VALUES ('x') RETURNING a, b",
        "UPDATE t SET b = 'x' WHERE 0 RETURNING a",
        "INSERT INTO t(b) VALUES ('y')",
        "CREATE TABLE u(a)",
        "BEGIN",
        "-- nothing",
    ],
)
def test_description_is_what_sqlite3_says(sql):
    def described(module):
        with closing(module.connect(":memory:", isolation_level=None)) as connection:
            connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)")
            cursor = connection.execute(sql)
            before = cursor.description
            cursor.fetchall()
            return before, cursor.description

    assert described(octodb) == described(sqlite3)


def test_description_sees_a_column_added_meanwhile(connection):
    cursor = connection.execute("SELECT * FROM t")
    assert len(cursor.description) == 2
    connection.execute("ALTER TABLE t ADD COLUMN c")
    assert len(cursor.execute("SELECT * FROM t").description) == 3


def test_iterating_goes_on_while_the_same_connection_writes_and_commits(connection):
    seen = []
    for (a,) in connection.execute("SELECT a FROM t"):
        seen.append(a)
        connection.execute("UPDATE t SET b = 'seen' WHERE a = ?", (a,))
        connection.commit()
    assert seen == [1, 2, 3]
    assert connection.execute("SELECT count(*) FROM t WHERE b = 'seen'").fetchone() == (3,)


def test_a_loop_that_breaks_leaves_the_cursor_usable(connection):
    cursor = connection.execute("SELECT a FROM t")
    for row in cursor:
        assert row == (1,)
        break
    assert cursor.fetchall() == [(2,), (3,)]


def test_a_subclass_keeps_its_own_next(connection):
    class Loud(octodb.Cursor):
        def __next__(self):
            return ("loud", *super().__next__())

    assert list(connection.cursor(Loud).execute("SELECT a FROM t")) == [("loud", 1), ("loud", 2), ("loud", 3)]


def test_returning_rows_count_and_id_are_known_at_once(connection):
    cursor = connection.execute("INSERT INTO t(b) VALUES ('x'), ('y') RETURNING a, b")
    assert (cursor.rowcount, cursor.lastrowid) == (2, 5)
    assert cursor.fetchone() == (4, "x")
    assert list(cursor) == [(5, "y")]
    connection.commit()


def test_rowcount_of_executemany_leaves_out_what_triggers_change(connection):
    connection.execute("CREATE TABLE log(a)")
    connection.execute("CREATE TRIGGER tr AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (1); END")
    cursor = connection.executemany("UPDATE t SET b = ? WHERE a >= ?", [("x", 1), ("y", 3), ("z", 9)])
    assert cursor.rowcount == 4
    assert connection.execute("SELECT count(*) FROM log").fetchone() == (4,)


def test_executemany_is_for_writes_only_and_checks_its_statement(connection):
    with pytest.raises(octodb.ProgrammingError, match="only execute DML"):
        connection.executemany("SELECT ?", [(1,)])
    with pytest.raises(octodb.OperationalError, match="no such table: absent"):
        connection.executemany("INSERT INTO absent VALUES (?)", [])
    assert connection.executemany("INSERT INTO t(b) VALUES (?)", []).rowcount == 0


def test_executemany_undoes_only_the_failing_row(connection):
    with pytest.raises(octodb.IntegrityError):
        connection.executemany("INSERT INTO t VALUES (?, 'x')", [(10,), (1,), (11,)])
    assert connection.execute("SELECT a FROM t WHERE a > 3").fetchall() == [(10,)]


def test_a_cursor_does_not_run_inside_itself(connection):
    cursor = connection.cursor()

    def parameters():
        cursor.execute("SELECT 1")
        yield (1,)

    with pytest.raises(octodb.ProgrammingError, match="Recursive use of cursors not allowed"):
        cursor.executemany("INSERT INTO t(a) VALUES (?)", parameters())


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?", ()),
        ("SELECT ?", (1, 2)),
        ("SELECT :a, :b", {"a": 1}),
        ("SELECT :a", {"a": 1, "never asked for": object()}),
        ("SELECT ?", {"a": 1}),
        ("SELECT ?", 5),
        ("SELECT ?", {1}),
        ("SELECT ?", None),
        ("SELECT ?, ?", "ab"),
        ("SELECT ?", range(1)),
        ("SELECT ?", (object(),)),
        ("SELECT :a", {"a": object()}),
        ("SELECT ?", (2**63,)),
        ("SELECT typeof(?), ?", (True, False)),
        ("SELECT typeof(?)", (memoryview(b"x"),)),
        ("SELECT typeof(?)", (float("nan"),)),
        ("SELECT ?3", (1, 2, 3)),
        ("SELECT 1; SELECT 2", ()),
        ("SELECT 1; -- and a comment", ()),
        ("SELECT 1\0", ()),
        ("SELECT", ()),
        ("SELECT * FROM absent", ()),
        ("SELECT '\ud800'", ()),
    ],
)
def test_parameters_are_taken_and_refused_as_in_sqlite3(sql, parameters):
    def outcome(module):
        with closing(module.connect(":memory:")) as connection:
            try:
                return connection.execute(sql, parameters).fetchall()
            except (module.Error, OverflowError, UnicodeError) as error:
                return type(error).__name__, str(error)

    assert outcome(octodb) == outcome(sqlite3)


def test_a_mapping_may_make_up_its_values(connection):
    class Upper(dict):
        def __missing__(self, key):
            return key.upper()

    assert connection.execute("SELECT :x || :y", Upper(x="given")).fetchone() == ("givenY",)


def test_text_that_is_not_utf8_names_its_column(connection):
    with pytest.raises(octodb.OperationalError, match="Could not decode to UTF-8 column 'x' with text"):
        connection.execute("SELECT CAST(X'ff41' AS TEXT) AS x").fetchone()


def test_closed_cursors_and_connections_say_so(connection):
    cursor = connection.execute("SELECT 1")
    cursor.close()
    cursor.close()
    for use in (cursor.fetchone, cursor.fetchall, lambda: cursor.execute("SELECT 1")):
        with pytest.raises(octodb.ProgrammingError, match="closed cursor"):
            use()
    other = connection.execute("SELECT 1")
    connection.close()
    connection.close()
    for use in (connection.cursor, connection.commit, other.fetchall, lambda: connection.total_changes):
        with pytest.raises(octodb.ProgrammingError, match="Cannot operate on a closed database"):
            use()
