"""When a transaction begins and ends, compared with the sqlite3 module statement by statement."""

import sqlite3
from contextlib import closing

import pytest

import octodb

STORY = [
    "CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)",
    "SELECT 1",
    "INSERT INTO t(b) VALUES ('x'), ('y')",
    "CREATE TABLE inside(a)",
    "UPDATE t SET b = 'z'",
    "COMMIT",
    "WITH w(b) AS (VALUES ('w')) INSERT INTO t(b) SELECT b FROM w",
    "/* a comment */ REPLACE INTO t VALUES (1, 'r')",
    "SAVEPOINT s",
    "DELETE FROM t WHERE a = 2",
    "ROLLBACK TO s",
    "RELEASE s",
    "PRAGMA user_version",
    "ROLLBACK",
    "DELETE FROM t",
    "VALUES (1), (2)",
    "EXPLAIN DELETE FROM t",
    "",
]


def told(module, isolation_level):
    """What a program sees after each statement of the story."""
    seen = []
    with closing(module.connect(":memory:", isolation_level=isolation_level)) as connection:
        cursor = connection.cursor()
        for sql in STORY:
            try:
                cursor.execute(sql)
                outcome = "ok"
            except module.Error as error:
                outcome = f"{type(error).__name__}: {error}"
            seen.append((sql, outcome, connection.in_transaction, cursor.rowcount, cursor.lastrowid))
    return seen


@pytest.mark.parametrize("isolation_level", ["", "DEFERRED", "IMMEDIATE", "EXCLUSIVE", None])
def test_transactions_open_and_close_where_sqlite3_opens_and_closes_them(isolation_level):
    assert told(octodb, isolation_level) == told(sqlite3, isolation_level)


@pytest.fixture
def connection():
    with closing(octodb.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t(a UNIQUE)")
        yield connection


def rows(connection):
    return [a for (a,) in connection.execute("SELECT a FROM t")]


def test_with_commits_and_rolls_back(connection):
    with connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(octodb.IntegrityError), connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(2,), (1,)])
    assert rows(connection) == [1]
    assert not connection.in_transaction


def test_with_rolls_back_when_commit_itself_fails():
    with closing(octodb.connect(":memory:")) as connection:
        connection.executescript(
            "PRAGMA foreign_keys = 1; CREATE TABLE parent(id PRIMARY KEY);"
            "CREATE TABLE t(a REFERENCES parent DEFERRABLE INITIALLY DEFERRED)"
        )
        with pytest.raises(octodb.IntegrityError, match="FOREIGN KEY"), connection:
            connection.execute("INSERT INTO t VALUES (1)")
        assert not connection.in_transaction
        assert rows(connection) == []


def test_switching_to_autocommit_commits(connection):
    connection.execute("INSERT INTO t VALUES (1)")
    connection.isolation_level = None
    assert not connection.in_transaction
    connection.execute("INSERT INTO t VALUES (2)")
    assert not connection.in_transaction


def test_isolation_level_is_checked_and_kept(connection):
    with pytest.raises(ValueError, match="isolation_level string must be"):
        connection.isolation_level = "BOGUS"
    with pytest.raises(TypeError):
        connection.isolation_level = 1
    assert connection.isolation_level == ""
    connection.isolation_level = "immediate"
    assert connection.isolation_level == "IMMEDIATE"


def test_autocommit_false_is_always_in_a_transaction():
    with closing(octodb.connect(":memory:", autocommit=False)) as connection:
        assert connection.in_transaction
        connection.execute("CREATE TABLE t(a)")
        connection.commit()
        assert connection.in_transaction
        connection.execute("INSERT INTO t VALUES (1)")
        connection.rollback()
        assert rows(connection) == []
        connection.autocommit = True
        assert not connection.in_transaction
        connection.execute("INSERT INTO t VALUES (1)")
        connection.rollback()
        assert rows(connection) == [1]


def test_a_locked_file_is_an_operational_error_with_its_code(tmp_path):
    path = tmp_path / "app.db"
    with closing(octodb.connect(path)) as first, closing(octodb.connect(path, timeout=0)) as second:
        first.execute("CREATE TABLE t(a)")
        first.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(octodb.OperationalError, match="database is locked") as caught:
            second.execute("INSERT INTO t VALUES (2)")
        assert caught.value.sqlite_errorcode == octodb.SQLITE_BUSY
        assert caught.value.sqlite_errorname == "SQLITE_BUSY"
        first.commit()
        second.execute("INSERT INTO t VALUES (2)")
        second.commit()
        assert rows(first) == [1, 2]


def test_closing_rolls_back(tmp_path):
    path = tmp_path / "app.db"
    with closing(octodb.connect(path)) as connection:
        connection.execute("CREATE TABLE t(a)")
        connection.execute("INSERT INTO t VALUES (1)")
    with closing(sqlite3.connect(path)) as connection:
        assert rows(connection) == []


def test_executescript_commits_first_and_drops_rows(connection):
    connection.execute("INSERT INTO t VALUES (1)")
    connection.executescript(
        """
        -- a semicolon in a comment; is no end
        INSERT INTO t VALUES ('two;three');
        CREATE TRIGGER copies AFTER INSERT ON t WHEN new.a < 5 BEGIN
            INSERT INTO t VALUES (new.a + 10);
        END;
        SELECT * FROM t; INSERT INTO t VALUES (4)
        """
    )
    assert rows(connection) == [1, "two;three", 4, 14]
    assert not connection.in_transaction


def test_executescript_stops_at_the_first_error(connection):
    with pytest.raises(octodb.OperationalError, match='near "nonsense": syntax error'):
        connection.executescript("INSERT INTO t VALUES (1); nonsense; INSERT INTO t VALUES (2)")
    assert rows(connection) == [1]
