"""What a primary may send as its schema, and what it may not."""

import apsw
import pytest

from octodb.errors import ProtocolError
from octodb.storage.sent_schema import run_sent_schema
from octodb.storage.shapes import Shapes
from octodb.storage.snapshot import check_sent_rows

THERE = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);
INSERT INTO t VALUES (1, 'x', '*');
CREATE TABLE gone (id INTEGER PRIMARY KEY AUTOINCREMENT, b);
CREATE TABLE _octodb_meta (key PRIMARY KEY, value);
INSERT INTO _octodb_meta VALUES ('private_key', 'secret');
CREATE TABLE local_notes (a);
INSERT INTO local_notes VALUES ('mine');
CREATE INDEX local_by_a ON t (a);
"""


@pytest.fixture
def db():
    db = apsw.Connection(":memory:")
    db.execute(THERE)
    yield db
    db.close()


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE n (id INTEGER PRIMARY KEY AUTOINCREMENT, a CHECK (length(a) < 9), row_owner)",
        "CREATE TABLE IF NOT EXISTS n (a PRIMARY KEY, b DEFAULT (random())) WITHOUT ROWID;",
        "CREATE UNIQUE INDEX i ON t (lower(a))",
        "CREATE VIEW v AS SELECT a, count(*) FROM t GROUP BY a",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET a = 1; DELETE FROM gone; END",
        "ALTER TABLE t ADD COLUMN b NOT NULL DEFAULT 1 CHECK (b > 0)",
        "ALTER TABLE t RENAME COLUMN a TO b",
        "ALTER TABLE gone DROP COLUMN b",
        "ALTER TABLE gone RENAME TO other",
        "DROP TABLE gone",
        "CREATE VIRTUAL TABLE words USING fts5 (a, content = 't')",
        "CREATE VIRTUAL TABLE places USING rtree (id, x0, x1)",
    ],
)
def test_a_schema_is_run(db, sql):
    before = db.execute("PRAGMA schema_version").fetchone()
    run_sent_schema(db, sql)
    assert db.execute("PRAGMA schema_version").fetchone() != before
    db.execute("SELECT * FROM _octodb_meta")  # what is denied is denied to that text only


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH 'stolen.db' AS other",
        "SELECT load_extension('evil.so')",
        "PRAGMA writable_schema = ON",
        "PRAGMA journal_mode = DELETE",
        "VACUUM INTO 'stolen.db'",
        "DELETE FROM t",
        "COMMIT",
        "",
        "no sql",
        "CREATE TABLE n (a); ATTACH 'stolen.db' AS other",
        "CREATE TABLE n (a); DELETE FROM local_notes",
        "CREATE TABLE n (a);;CREATE TABLE m (a)",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END; PRAGMA writable_schema = ON",
        "CREATE TABLE n AS SELECT * FROM _octodb_meta",
        "CREATE TABLE n AS SELECT * FROM local_notes",
        "CREATE TABLE n AS SELECT load_extension('evil.so')",
        "DROP TABLE _octodb_meta",
        "DROP TABLE local_notes",
        "DROP INDEX local_by_a",
        "ALTER TABLE _octodb_meta ADD COLUMN x",
        "ALTER TABLE local_notes RENAME TO t9",
        "ALTER TABLE t RENAME TO _octodb_outbox",
        "ALTER TABLE t RENAME TO local_t",
        "CREATE INDEX i ON _octodb_meta (key)",
        "CREATE VIEW v AS SELECT * FROM _octodb_meta",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN DELETE FROM _octodb_outbox; END",
        "CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO t (a) SELECT a FROM local_notes; END",
        "CREATE TEMP TRIGGER tr AFTER INSERT ON main.t BEGIN SELECT 1; END",
        "CREATE TABLE temp.n (a)",
        "CREATE TABLE private_n (a)",
        "CREATE TABLE local_n (a)",
        "CREATE VIRTUAL TABLE pages USING sqlite_dbpage",
        "CREATE VIRTUAL TABLE words USING fts5 (key, content = '_octodb_meta')",
        "DROP TABLE sqlite_sequence",
    ],
)
def test_what_does_more_than_a_schema_is_refused(db, sql, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = db.execute("SELECT * FROM sqlite_schema").fetchall(), db.execute("SELECT * FROM local_notes").fetchall()
    with pytest.raises(ProtocolError), db:
        run_sent_schema(db, sql)
    after = db.execute("SELECT * FROM sqlite_schema").fetchall(), db.execute("SELECT * FROM local_notes").fetchall()
    assert (after, list(tmp_path.iterdir())) == (before, [])


@pytest.mark.parametrize(
    ("table", "columns", "row"),
    [
        ("_octodb_meta", ("key", "value"), ["ready", 1]),
        ("local_notes", ("a",), ["x"]),
        ("gone", ("id", "b"), [1, 2]),
        ("nowhere", ("a",), [1]),
        ("t", ("id", "a"), [2, "x"]),
        ("t", ("id", "a", "row_owner"), [2, "x", None]),
        ("t", ("id", "a", "row_owner"), [2, "x", 8]),
        ("t", ("id", "a", "row_owner"), [2, "x", b"7"]),
        ("t", ("id", "a", "row_owner"), [2, "x"]),
        ("t", ("id", "row_owner", "row_owner"), [2, 7, None]),
    ],
)
def test_rows_for_what_is_the_devices_own_are_refused(db, table, columns, row):
    with pytest.raises(ProtocolError):
        check_sent_rows(Shapes.read(db).get(table), columns, [row], 7)


def test_rows_of_the_user_and_of_everybody_are_taken(db):
    rows = [[2, "x", 7], [3, "x", "*"], [4, "x", "7"], [5, "x", 7.0]]
    check_sent_rows(Shapes.read(db).get("t"), ("id", "a", "row_owner"), rows, 7)
