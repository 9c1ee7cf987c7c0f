"""Opening, functions and hooks, blobs, backup, dump, threads, errors."""

import os
import sqlite3
import sys
import threading
from contextlib import closing

import pytest

import octodb


@pytest.fixture
def connection():
    with closing(octodb.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        connection.executemany("INSERT INTO t(b) VALUES (?)", [("one",), ("two",)])
        connection.commit()
        yield connection


def test_the_module_has_every_public_name_of_sqlite3():
    names = {name for name in dir(sqlite3) if not name.startswith("_")} - {
        "collections",
        "datetime",
        "time",
        "dump",
    }  # modules
    assert names - set(dir(octodb)) == set()
    for kind in ("Connection", "Cursor", "Row", "Blob"):
        theirs = {name for name in dir(getattr(sqlite3, kind)) if not name.startswith("_")}
        assert theirs - set(dir(getattr(octodb, kind))) == set()


def test_constants_have_sqlite3s_values():
    for name in dir(sqlite3):
        if name.startswith(("SQLITE_", "PARSE_")):
            assert getattr(octodb, name) == getattr(sqlite3, name), name


def test_the_stdlib_module_is_never_loaded():
    import subprocess

    code = "import octodb, sys; print(sorted({'sqlite3', '_sqlite3'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_paths_uris_and_odd_names(tmp_path):
    for database in (tmp_path / "a.db", os.fsencode(tmp_path / "b.db"), str(tmp_path / "é.db")):
        with closing(octodb.connect(database)) as connection:
            connection.execute("CREATE TABLE t(a)")
        assert os.path.getsize(database) > 0
    readonly = f"file:{tmp_path}/a.db?mode=ro"
    refused = pytest.raises(octodb.OperationalError, match="readonly")
    with closing(octodb.connect(readonly, uri=True)) as connection, refused:
        connection.execute("CREATE TABLE u(a)")
    with pytest.raises(octodb.OperationalError, match="unable to open database file") as caught:
        octodb.connect(tmp_path / "nowhere" / "x.db")
    assert caught.value.sqlite_errorname == "SQLITE_CANTOPEN"


@pytest.mark.parametrize("uri", ["file::memory:?cache=shared", "file:shared?mode=memory&cache=shared"])
def test_a_database_in_memory_can_be_shared(uri):
    with closing(octodb.connect(uri, uri=True)) as one, closing(octodb.connect(uri, uri=True)) as two:
        one.execute("CREATE TABLE t(a)")
        assert two.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]


def test_a_factory_makes_the_connection():
    class Mine(octodb.Connection):
        pass

    for connection in (
        octodb.connect(":memory:", factory=Mine),
        octodb.connect(":memory:", 5, 0, None, True, Mine),
    ):
        with closing(connection):
            assert type(connection) is Mine


def test_functions_aggregates_windows_and_collations(connection):
    class Longest:
        def __init__(self):
            self.words = []

        def step(self, word):
            self.words.append(word)

        def inverse(self, word):
            self.words.remove(word)

        def value(self):
            return max(self.words, key=len, default=None)

        finalize = value

    connection.create_function("shout", 1, lambda text: text.upper() + "!", deterministic=True)
    connection.create_aggregate("longest", 1, Longest)
    connection.create_window_function("longest_here", 1, Longest)
    connection.create_collation("backwards", lambda x, y: (x < y) - (x > y))
    assert connection.execute("SELECT shout(b) FROM t").fetchall() == [("ONE!",), ("TWO!",)]
    assert connection.execute("SELECT longest(b) FROM t").fetchone() == ("one",)
    assert connection.execute("SELECT longest(b) FROM t WHERE 0").fetchone() == (None,)
    assert connection.execute("SELECT b FROM t ORDER BY b COLLATE backwards").fetchall() == [
        ("two",),
        ("one",),
    ]
    window = "SELECT longest_here(b) OVER (ORDER BY a ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) FROM t"
    assert connection.execute(window).fetchall() == [("one",), ("two",)]
    connection.create_function("shout", 1, None)
    with pytest.raises(octodb.OperationalError, match="shout"):
        connection.execute("SELECT shout('x')")


@pytest.mark.parametrize("result", [ZeroDivisionError(), OverflowError(), MemoryError(), object(), 2**70, "\ud800"])
def test_a_failing_function_fails_its_statement_as_in_sqlite3(result):
    def function():
        if isinstance(result, Exception):
            raise result
        return result

    def outcome(module):
        with closing(module.connect(":memory:")) as connection:
            connection.create_function("f", 0, function)
            try:
                return connection.execute("SELECT f()").fetchone()
            except (module.Error, MemoryError) as error:
                return type(error).__name__, str(error), getattr(error, "sqlite_errorname", None)

    assert outcome(octodb) == outcome(sqlite3)


def test_tracebacks_of_callbacks_are_shown_when_asked_for(connection, capsys, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)

    def failing():
        raise ZeroDivisionError("seen")

    connection.create_function("f", 0, failing)
    with pytest.raises(octodb.OperationalError):
        connection.execute("SELECT f()")
    assert capsys.readouterr().err == ""
    octodb.enable_callback_tracebacks(True)
    try:
        with pytest.raises(octodb.OperationalError):
            connection.execute("SELECT f()")
    finally:
        octodb.enable_callback_tracebacks(False)
    assert "ZeroDivisionError: seen" in capsys.readouterr().err


def test_authorizer_progress_and_trace(connection):
    traced = []
    connection.set_trace_callback(traced.append)
    with connection:
        connection.execute("INSERT INTO t(b) VALUES (?)", ("it's",))
    connection.set_trace_callback(None)
    assert traced == ["BEGIN ", "INSERT INTO t(b) VALUES ('it''s')", "COMMIT"]

    connection.set_authorizer(
        lambda action, *_: octodb.SQLITE_DENY if action == octodb.SQLITE_DELETE else octodb.SQLITE_OK
    )
    with pytest.raises(octodb.DatabaseError, match="not authorized"):
        connection.execute("DELETE FROM t")
    connection.set_authorizer(None)

    connection.set_progress_handler(lambda: 1, 1)
    with pytest.raises(octodb.OperationalError, match="interrupted"):
        connection.execute("SELECT count(*) FROM t, t, t").fetchall()
    connection.set_progress_handler(None, 1)
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (3,)


def test_interrupt_ends_a_statement_from_another_thread(connection):
    running = threading.Event()
    connection.create_function("started", 0, running.set)

    def interrupt():
        running.wait()
        connection.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT started() FROM n WHERE x < 0 OR x = 1"
    )
    with pytest.raises(octodb.OperationalError, match="interrupted") as caught:
        connection.execute(endless).fetchall()
    thread.join()
    assert caught.value.sqlite_errorname == "SQLITE_INTERRUPT"


def test_a_blob_is_read_and_written_in_pieces(connection):
    connection.execute("INSERT INTO t VALUES (9, zeroblob(8))")
    with connection.blobopen("t", "b", 9) as blob:
        assert len(blob) == 8
        blob.write(b"abc")
        blob[-1] = ord("z")
        blob[3:5] = b"de"
        assert (blob.tell(), blob[0], blob[::2]) == (3, ord("a"), b"ace\0")
        blob.seek(-2, os.SEEK_END)
        assert blob.read() == b"\0z"
        with pytest.raises(ValueError, match="data longer than blob"):
            blob.write(b"x")
        with pytest.raises(IndexError, match="Blob index out of range"):
            blob[8]
    with pytest.raises(octodb.ProgrammingError, match="closed blob"):
        blob.read()
    with connection.blobopen("t", "b", 9, readonly=True) as blob:
        with pytest.raises(octodb.OperationalError, match="readonly"):
            blob.write(b"x")
        connection.execute("UPDATE t SET b = 'changed' WHERE a = 9")
        with pytest.raises(octodb.OperationalError):
            blob.read()


def test_backup_in_steps_into_a_connection_with_open_cursors(connection, tmp_path):
    steps = []
    with closing(octodb.connect(tmp_path / "copy.db")) as target:
        kept = target.execute("SELECT 1")
        connection.backup(target, pages=1, progress=lambda *step: steps.append(step))
        assert target.execute("SELECT b FROM t").fetchall() == [("one",), ("two",)]
        assert kept.connection is target
    assert [status for status, _, _ in steps] == [octodb.SQLITE_OK] * (len(steps) - 1) + [octodb.SQLITE_DONE]
    with pytest.raises(ValueError, match="same connection"):
        connection.backup(connection)


def test_serialize_and_deserialize(connection):
    data = connection.serialize()
    with closing(octodb.connect(":memory:")) as other:
        other.deserialize(data)
        assert other.execute("SELECT b FROM t").fetchall() == [("one",), ("two",)]
        other.deserialize(b"nonsense")
        with pytest.raises(octodb.DatabaseError, match="file is not a database"):
            other.execute("SELECT * FROM t")


def test_iterdump_gives_what_sqlite3_gives():
    script = """
        CREATE TABLE "odd ""name"(a INTEGER PRIMARY KEY AUTOINCREMENT, "b c" TEXT, d REAL, e BLOB);
        INSERT INTO "odd ""name" VALUES (3, 'it''s', 1.5, X'00ff'), (4, NULL, -2, 'x');
        CREATE INDEX i ON "odd ""name"(d);
        CREATE VIEW v AS SELECT 1;
        CREATE TRIGGER tr AFTER INSERT ON "odd ""name" BEGIN SELECT 1; END;
        CREATE TABLE plain(a);
        ANALYZE;
    """

    def dumped(module):
        with closing(module.connect(":memory:")) as connection:
            connection.executescript(script)
            return list(connection.iterdump())

    assert dumped(octodb) == dumped(sqlite3)


def in_thread(function):
    """Run ``function`` in a thread; return the exception it ended with, or None."""
    ended = []

    def run():
        try:
            function()
            ended.append(None)
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return ended[0]


def test_another_thread_is_refused(connection):
    cursor = connection.execute("SELECT 1")
    for use in (cursor.fetchone, connection.commit, connection.close, lambda: connection.execute("SELECT 1")):
        error = in_thread(use)
        assert isinstance(error, octodb.ProgrammingError)
        assert "can only be used in that same thread" in str(error)
    assert cursor.fetchone() == (1,)


def test_threads_may_share_a_connection_that_allows_it(tmp_path):
    with closing(octodb.connect(tmp_path / "a.db", check_same_thread=False, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t(a)")
        errors = []

        def work():
            try:
                for n in range(200):
                    connection.execute("INSERT INTO t VALUES (?)", (n,))
                    list(connection.execute("SELECT a FROM t LIMIT 3"))
            except Exception as error:
                errors.append(error)

        connection.execute("PRAGMA synchronous = OFF")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (800,)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1, 'x')",
        "INSERT INTO t VALUES (7, 'b')",
        "INSERT INTO t VALUES (7, NULL)",
        "INSERT INTO t VALUES ('x', 'y')",
        "SELECT * FROM absent",
        "SELECT absent(1)",
        "SELECT 'unclosed",
        "CREATE TABLE t(a)",
        "DROP INDEX absent",
        "RELEASE absent",
        "SELECT zeroblob(2000000000)",
        "SELECT abs(-9223372036854775808)",
    ],
)
def test_errors_have_the_class_text_and_code_of_sqlite3(sql):
    def failed(module):
        with closing(module.connect(":memory:")) as connection:
            connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE NOT NULL CHECK (b <> 'b'))")
            connection.execute("INSERT INTO t VALUES (1, 'a')")
            with pytest.raises(module.Error) as caught:
                connection.execute(sql).fetchall()
            error = caught.value
            return type(error).__name__, str(error), error.sqlite_errorcode, error.sqlite_errorname

    assert failed(octodb) == failed(sqlite3)


def test_limits(connection):
    before = connection.setlimit(octodb.SQLITE_LIMIT_SQL_LENGTH, 20)
    assert connection.getlimit(octodb.SQLITE_LIMIT_SQL_LENGTH) == 20
    with pytest.raises(octodb.DataError, match="query string is too large"):
        connection.execute("SELECT 'more than twenty bytes'")
    assert connection.setlimit(octodb.SQLITE_LIMIT_SQL_LENGTH, before) == 20
    with pytest.raises(octodb.ProgrammingError, match="out of bounds"):
        connection.getlimit(999)


def test_complete_statement():
    assert octodb.complete_statement("SELECT 1;")
    assert not octodb.complete_statement("SELECT 'unfinished;")
