"""A download: what a user may see, all of one position, and nothing where it breaks off."""

import pytest

from octodb.model.identities import Role
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.storage.database import engine_connection
from octodb.storage.schema_rules import shared_objects
from octodb.storage.snapshot import EverybodysParts, SnapshotReader
from tests.properties.offline_world import Primary

SCHEMA = """
CREATE TABLE t (a, id INTEGER PRIMARY KEY, double AS (2 * a) STORED, row_owner);
CREATE TABLE "odd name" (k TEXT NOT NULL PRIMARY KEY, row_owner) WITHOUT ROWID;
CREATE TABLE plain (id INTEGER PRIMARY KEY, a);
CREATE TABLE private_t (id INTEGER PRIMARY KEY, a, row_owner);
CREATE INDEX by_a ON t (a);
CREATE INDEX by_secret ON private_t (a);
CREATE VIEW seen AS SELECT a FROM t;
CREATE VIEW secret AS SELECT a FROM private_t;
CREATE TRIGGER watch AFTER INSERT ON t WHEN NEW.a < 0 BEGIN INSERT INTO t (a) VALUES (1); END;
CREATE VIRTUAL TABLE words USING fts5(text);
INSERT INTO t (a, row_owner) VALUES (1, 2), (2, '*'), (3, 5), (4, NULL), (x'00ff', 2), (-0.0, 2), ('\u00e9', '*');
INSERT INTO "odd name" VALUES ('mine', 2), ('other''s', 5), ('all''s', '*');
INSERT INTO plain (a) VALUES ('stays');
INSERT INTO private_t (a) VALUES ('stays');
INSERT INTO words VALUES ('stays');
"""


def shared_schema(node):
    return sorted(shared_objects(node.db))


@pytest.fixture
def primary(tmp_path):
    node = Primary(tmp_path / "primary.db", SCHEMA)
    yield node
    node.close()


@pytest.fixture
def reader(primary):
    opened = SnapshotReader(engine_connection(primary.path, Role.PRIMARY), 2, b"download", 2)
    yield opened
    opened.close()


def test_a_new_device_gets_the_schema_and_its_rows(world):
    primary, mine, other = world(SCHEMA, users=(2, 5))
    for device in (mine, other):
        assert shared_schema(device) == shared_schema(primary)
        assert "secret" not in str(device.rows("SELECT sql FROM sqlite_schema"))
        for table in ("t", '"odd name"'):
            visible = primary.rows(f"SELECT * FROM {table} WHERE row_owner IN ('*', ?)", device.user_id)
            assert device.rows(f"SELECT * FROM {table}") == visible
    assert mine.rows("SELECT * FROM plain") == mine.rows("SELECT * FROM words") == []
    assert mine.rows("SELECT a, double FROM t WHERE a = 1") == [(1, 2)]


def test_nobody_elses_value_leaves_the_primary(primary, reader):
    primary.run("INSERT INTO t (a, row_owner) VALUES ('topsecret', 5), ('topsecret', NULL)")
    sent = repr((reader.open(), list(reader.all_parts())))
    assert "topsecret" not in sent
    assert "other's" not in sent
    assert "stays" not in sent
    assert "private_" not in sent


def test_own_rows_come_first_and_all_are_counted(reader):
    header = reader.open()
    *chunks, tail = reader.all_parts()
    assert isinstance(tail, SnapshotTail)
    assert header.rows_total == sum(len(chunk.rows) for chunk in chunks) == 7
    assert [{row[-1] for row in chunk.rows} for chunk in chunks] == [{2}, {2}, {"*"}, {"*"}]


def test_what_is_committed_meanwhile_is_no_part_of_it(primary, reader):
    header = reader.open()
    primary.run("INSERT INTO t (a, row_owner) VALUES ('late', '*')")
    primary.run("DELETE FROM t WHERE a = 2")
    primary.run("CREATE TABLE later (id INTEGER PRIMARY KEY, row_owner)")
    rows = [row for part in reader.all_parts() if isinstance(part, SnapshotRows) for row in part.rows]
    assert "late" not in str(rows)
    assert 2 in [row[0] for row in rows]
    assert header.seq == primary.log.head() - 3
    assert "later" not in str(header.tables)


def test_many_rows_come_in_chunks_of_bounded_size(primary, reader):
    primary.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4500)"
        " INSERT INTO t (a, row_owner) SELECT i, '*' FROM n"
    )
    primary.run("INSERT INTO t (a, row_owner) VALUES (zeroblob(300000), '*'), (zeroblob(300000), '*')")
    header = reader.open()
    chunks = [part for part in reader.all_parts() if isinstance(part, SnapshotRows)]
    assert max(len(chunk.rows) for chunk in chunks) <= 2000
    assert all(sum(len(row[0]) for row in chunk.rows if isinstance(row[0], bytes)) <= 300_010 for chunk in chunks)
    assert sum(len(chunk.rows) for chunk in chunks) == header.rows_total


def test_everybodys_rows_are_read_once_for_all_who_come_while_they_are_the_same(primary):
    everybodys = EverybodysParts()
    read = []

    def download(user):
        db = engine_connection(primary.path, Role.PRIMARY)
        db.exec_trace = lambda cursor, sql, bindings: read.append((sql, bindings)) or True
        reader = SnapshotReader(db, user, b"download", 2, everybodys)
        reader.open()
        read.clear()
        parts = list(reader.all_parts())
        reader.close()
        tables = [sql for sql, bindings in read if bindings == ("*",) and "_octodb_log" not in sql]
        return parts, len(tables)

    first, count = download(2)
    assert count == 2
    second, count = download(5)
    assert count == 0
    theirs = [part for part in first[:-1] if part.rows[0][-1] == "*"]
    assert [part for part in second[:-1] if part.rows[0][-1] == "*"] == theirs
    assert {row[-1] for part in second[:-1] for row in part.rows} == {5, "*"}
    primary.run("UPDATE t SET a = 'new' WHERE a = 2")
    third, count = download(5)
    assert count == 2
    assert "new" in str(third)
    primary.run("ALTER TABLE t ADD COLUMN more")
    assert download(2)[1] == 2


def test_a_download_that_breaks_off_leaves_nothing(world):
    _, device = world(SCHEMA)
    before = device.rows("SELECT * FROM sqlite_schema"), device.store.cursor()
    header = SnapshotHeader(99, b"epoch", b"all", b"user", 99, ("CREATE TABLE n (a PRIMARY KEY, row_owner)",), 1)
    loader = device.store.snapshot
    loader.begin(header)
    loader.load(SnapshotRows("n", ("a", "row_owner"), [[1, "*"]]))
    assert loader.is_loading(header)
    loader.begin(header)  # the next connection, before anybody said that the first is gone
    loader.abandon()
    loader.abandon()
    assert not loader.is_loading(header)
    assert (device.rows("SELECT * FROM sqlite_schema"), device.store.cursor()) == before
