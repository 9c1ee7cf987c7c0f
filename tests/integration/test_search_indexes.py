"""Full-text indexes over synced tables that are made when rows are there already."""

import pytest

from tests.integration.conftest import rows, wait_for
from tests.integration.test_downloads import back_after_the_log_was_cut

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
INDEX = """
CREATE VIRTUAL TABLE words USING fts5 (a, content = 't', content_rowid = 'id');
CREATE TRIGGER t_in AFTER INSERT ON t BEGIN INSERT INTO words (rowid, a) VALUES (NEW.id, NEW.a); END;
CREATE TRIGGER t_out AFTER DELETE ON t BEGIN
    INSERT INTO words (words, rowid, a) VALUES ('delete', OLD.id, OLD.a); END;
CREATE TRIGGER t_new AFTER UPDATE ON t BEGIN
    INSERT INTO words (words, rowid, a) VALUES ('delete', OLD.id, OLD.a);
    INSERT INTO words (rowid, a) VALUES (NEW.id, NEW.a); END;
"""
BUILD = "INSERT INTO words (words) VALUES ('rebuild');"


def found(device, word):
    return rows(device, "SELECT t.a FROM words JOIN t ON t.id = words.rowid WHERE words MATCH ? ORDER BY 1", word)


@pytest.mark.parametrize("away", [False, True])
def test_an_index_that_comes_later_holds_the_rows_that_were_there(world, away):
    primary = world.primary(TABLE + "INSERT INTO t VALUES (1, 'red apple', '*'), (2, 'red plum', '*')")
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES ('red mine')")
    device.execute("INSERT INTO t (a, row_owner) VALUES ('red local', NULL)")
    device.commit()
    assert device.wait_synced(10)
    if away:
        device = back_after_the_log_was_cut(world, primary, device, INDEX + BUILD)
    else:
        primary.executescript(INDEX + BUILD)
        wait_for(lambda: rows(device, "SELECT name FROM sqlite_schema WHERE name = 't_new'"))
    assert found(device, "red") == [("red apple",), ("red local",), ("red mine",), ("red plum",)]
    primary.execute("UPDATE t SET a = 'green apple' WHERE id = 1")
    primary.execute("DELETE FROM t WHERE id = 2")
    primary.commit()
    wait_for(lambda: found(device, "green") == [("green apple",)])
    assert found(device, "red") == [("red local",), ("red mine",)]


def test_an_index_that_lacks_rows_holds_nobody_up(world):
    """Taking a row out of an index that does not have it is \"database disk image is malformed\" to SQLite."""
    primary = world.primary(TABLE)
    one, other = world.device("one"), world.device("other")
    one.execute("INSERT INTO t (a) VALUES ('red'), ('blue')")
    one.commit()
    assert one.wait_synced(10)
    primary.executescript(INDEX)  # and no rebuild
    wait_for(lambda: rows(one, "SELECT name FROM sqlite_schema WHERE name = 't_new'"))
    one.execute("DELETE FROM t WHERE a = 'blue'")
    one.execute("UPDATE t SET a = 'green' WHERE a = 'red'")
    one.commit()
    other.execute("INSERT INTO t (a) VALUES ('other')")
    other.commit()
    assert one.wait_synced(5), (one.sync_status, primary.sync_status)
    assert other.wait_synced(5), (other.sync_status, primary.sync_status)
    assert rows(primary, "SELECT a FROM t ORDER BY a") == [("green",), ("other",)]
    assert primary.sync_status["last_error"] is None


LOCAL = """
CREATE VIRTUAL TABLE local_words USING fts5 (a, content = 't', content_rowid = 'id');
INSERT INTO local_words (local_words) VALUES ('rebuild');
CREATE TRIGGER local_in AFTER INSERT ON t BEGIN INSERT INTO local_words (rowid, a) VALUES (NEW.id, NEW.a); END;
CREATE TRIGGER local_out AFTER DELETE ON t BEGIN
    INSERT INTO local_words (local_words, rowid, a) VALUES ('delete', OLD.id, OLD.a); END;
CREATE INDEX local_by_a ON t (a);
"""
REBUILT = """
BEGIN;
CREATE TABLE t2 (id INTEGER PRIMARY KEY, a, b, row_owner);
INSERT INTO t2 SELECT id, a, NULL, row_owner FROM t;
DROP TABLE t;
ALTER TABLE t2 RENAME TO t;
COMMIT;
"""
CHANGES = "DELETE FROM t WHERE id = 2; INSERT INTO t (id, a, row_owner) VALUES (3, 'green', '*');"


@pytest.mark.parametrize("schema", ["", "ALTER TABLE t ADD COLUMN b;", REBUILT])
@pytest.mark.parametrize("away", [False, True])
def test_an_index_of_the_devices_own_follows(world, away, schema):
    primary = world.primary(TABLE + "INSERT INTO t VALUES (1, 'red', '*'), (2, 'blue', '*')")
    device = world.device("device")
    device.executescript(LOCAL)
    if away:
        device = back_after_the_log_was_cut(world, primary, device, schema + CHANGES)
    else:
        primary.executescript(schema + CHANGES)
        primary.commit()
        wait_for(lambda: rows(device, "SELECT a FROM t WHERE id = 3") == [("green",)])
    sql = "SELECT rowid FROM local_words WHERE local_words MATCH ?"
    assert [rows(device, sql, word) for word in ("red", "blue", "green")] == [[(1,)], [], [(3,)]]
    sql = "SELECT name FROM sqlite_schema WHERE name IN ('local_in', 'local_out', 'local_by_a')"
    assert len(rows(device, sql)) == 3
