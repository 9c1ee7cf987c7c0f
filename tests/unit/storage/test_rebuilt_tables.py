"""A device's own indexes and triggers on a table that the primary rebuilds, in one transaction or step by step."""

import itertools

import pytest

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner); INSERT INTO t VALUES (1, 'red', '*'), (2, 'blue', '*');"
LOCAL = """
CREATE VIRTUAL TABLE local_words USING fts5 (a, content = 't', content_rowid = 'id');
INSERT INTO local_words (local_words) VALUES ('rebuild');
CREATE TRIGGER local_in AFTER INSERT ON t BEGIN INSERT INTO local_words (rowid, a) VALUES (NEW.id, NEW.a); END;
CREATE TRIGGER local_out AFTER DELETE ON t BEGIN
    INSERT INTO local_words (local_words, rowid, a) VALUES ('delete', OLD.id, OLD.a); END;
CREATE INDEX local_by_a ON t (a);
"""
REBUILD = (
    "CREATE TABLE t2 (id INTEGER PRIMARY KEY, a, b, row_owner)",
    "INSERT INTO t2 SELECT id, a, NULL, row_owner FROM t",
    "DROP TABLE t",
    "ALTER TABLE t2 RENAME TO t",
)
CHANGES = ("DELETE FROM t WHERE id = 2", "INSERT INTO t (id, a, row_owner) VALUES (3, 'green', '*')")


def found(device):
    words = "SELECT rowid FROM local_words WHERE local_words MATCH ?"
    return [device.rows(words, word) for word in ("red", "blue", "green")]


def local_objects(device):
    return device.rows("SELECT name FROM sqlite_schema WHERE name IN ('local_in', 'local_out', 'local_by_a')")


@pytest.mark.parametrize("pulls", list(itertools.product([False, True], repeat=2)), ids=str)
def test_what_comes_after_a_rebuild_is_for_them_too(world, pulls):
    """However much arrives at once."""
    primary, device = world(TABLE)
    device.script(LOCAL)
    primary.script("; ".join(("BEGIN", *REBUILD, "COMMIT")))
    for sql, pull in zip(CHANGES, pulls, strict=True):
        if pull:
            device.pull()
        primary.run(sql)
    device.pull()
    assert found(device) == [[(1,)], [], [(3,)]]
    assert len(local_objects(device)) == 3


@pytest.mark.parametrize("reopens", [False, True])
def test_a_rebuild_that_comes_step_by_step_takes_nothing_away(world, reopens):
    primary, device = world(TABLE)
    device.script(LOCAL)
    for sql in (*REBUILD, *CHANGES):
        primary.run(sql)
        device.pull()
        if reopens:
            device.reopen()  # another process, say, runs the engine now
    assert found(device) == [[(1,)], [], [(3,)]]
    assert len(local_objects(device)) == 3
    assert device.rows("SELECT value FROM _octodb_meta WHERE key = 'orphans'") == [("[]",)]


def test_one_that_the_application_has_made_again_is_left_alone(world):
    primary, device = world(TABLE)
    device.script(LOCAL)
    for sql in REBUILD[:3]:
        primary.run(sql)
        device.pull()
    primary.script("CREATE TABLE other (id INTEGER PRIMARY KEY, row_owner)")
    device.pull()
    device.run("CREATE INDEX local_by_a ON other (id)")
    primary.run(REBUILD[3])
    device.pull()
    assert device.rows("SELECT tbl_name FROM sqlite_schema WHERE name = 'local_by_a'") == [("other",)]
    assert device.rows("SELECT value FROM _octodb_meta WHERE key = 'orphans'") == [("[]",)]
