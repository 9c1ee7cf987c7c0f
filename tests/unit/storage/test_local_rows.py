"""Rows without an owner stay on their node, and never stand in the way of what is ordered (P6, design.md §4)."""

import pytest

ITEM = "CREATE TABLE item (id INTEGER PRIMARY KEY, name, size, row_owner)"
UNIQUE_ITEM = "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size, row_owner)"
LOCAL_N = "INSERT INTO item (name, row_owner) VALUES ('n', NULL)"
EVERYBODYS_N = "INSERT INTO item (name, row_owner) VALUES ('n', '*')"


def displaced(node):
    return node.rows("SELECT table_name, json_extract(row, '$.name') FROM _octodb_displaced")


def test_a_local_row_gives_way_to_a_synced_one_and_is_kept(world):
    primary, device = world(UNIQUE_ITEM)
    device.run(LOCAL_N)
    primary.run(EVERYBODYS_N)
    device.settle()
    assert device.rows("SELECT name, row_owner FROM item") == [("n", "*")]
    assert displaced(device) == [("item", "n")]


def test_a_local_row_of_a_primary_does_not_influence_its_verdict(world):
    primary, device = world(UNIQUE_ITEM)
    primary.run(LOCAL_N)
    device.run("INSERT INTO item (name) VALUES ('n')")
    device.settle()
    assert device.outbox().rejected() == []
    assert displaced(primary) == [("item", "n")]


@pytest.mark.parametrize(
    "index",
    [
        "CREATE UNIQUE INDEX one ON item (name) WHERE size IS NULL",
        "CREATE UNIQUE INDEX one ON item (lower(name))",
        "ALTER TABLE item ADD COLUMN small AS (lower(name)); CREATE UNIQUE INDEX one ON item (small)",
        "CREATE UNIQUE INDEX one ON item (name COLLATE NOCASE)",
    ],
)
def test_a_local_row_gives_way_under_any_unique_index(world, index):
    primary, device = world(ITEM + ";" + index)
    device.run("INSERT INTO item (name, row_owner) VALUES ('N', NULL)" if "WHERE" not in index else LOCAL_N)
    primary.run(EVERYBODYS_N)
    device.settle()
    assert device.rows("SELECT name, row_owner FROM item") == [("n", "*")]
    assert len(displaced(device)) == 1


@pytest.mark.parametrize(
    "change",
    [
        "CREATE UNIQUE INDEX one ON item (name)",
        "ALTER TABLE item ADD COLUMN must NOT NULL",
        "ALTER TABLE item ADD COLUMN must CHECK (name <> 'n')",
        "ALTER TABLE item ADD COLUMN made DEFAULT CURRENT_TIMESTAMP",
        "CREATE INDEX inside ON item (json_extract(name, '$.a'))",
    ],
)
def test_local_rows_give_way_to_schema_changes(world, change):
    primary, device = world(ITEM)
    device.run(LOCAL_N)
    device.run(LOCAL_N)
    primary.run(change)
    device.settle()
    assert device.rows("SELECT count(*) FROM item")[0][0] + len(displaced(device)) == 2


def test_a_rebase_leaves_local_rows_where_they_are(world):
    primary, device = world(UNIQUE_ITEM + "; INSERT INTO item VALUES (1, 'Bob', 0, 2)")
    for sql in ("BEGIN", "UPDATE item SET name = 'Eve'", "INSERT INTO item VALUES (9, 'Bob', 0, NULL)", "COMMIT"):
        device.run(sql)
    primary.run("INSERT INTO item VALUES (5, 'other', 0, '*')")
    device.settle()
    assert device.rows("SELECT name FROM item WHERE row_owner IS NULL") == [("Bob",)]
    assert displaced(device) == []


def test_a_row_that_becomes_ones_own_is_not_reported_as_displaced(world):
    primary, device = world(UNIQUE_ITEM)
    device.run(LOCAL_N)
    device.run("UPDATE item SET row_owner = this_user()")
    primary.run("INSERT INTO item (name, row_owner) VALUES ('other', '*')")
    device.settle()
    assert device.rows("SELECT name, row_owner FROM item WHERE name = 'n'") == [("n", 2)]
    assert displaced(device) == []


def test_a_rejected_transaction_takes_its_local_rows_back_unless_they_changed(world):
    primary, device = world(UNIQUE_ITEM + "; CREATE TABLE note (id INTEGER PRIMARY KEY, text)")
    for sql in (
        "BEGIN",
        "INSERT INTO item (name) VALUES ('n')",
        "INSERT INTO note VALUES (1, 'a'), (2, 'b')",
        "COMMIT",
    ):
        device.run(sql)
    device.run("UPDATE note SET text = 'changed' WHERE id = 2")
    primary.run(EVERYBODYS_N)
    device.settle()
    (letter,) = device.outbox().rejected()
    assert letter.kept_local == 1
    assert device.rows("SELECT * FROM note") == [(2, "changed")]


def test_a_transaction_of_local_rows_only_is_nobody_elses(world):
    primary, device = world(ITEM + "; CREATE TABLE note (id INTEGER PRIMARY KEY, text)")
    head = primary.log.head()
    device.run(LOCAL_N)
    device.run("INSERT INTO note (text) VALUES ('a')")
    primary.run(LOCAL_N)
    assert device.outbox().last_nonce() == 0
    assert primary.log.head() == head


def test_local_rows_survive_a_table_rebuild(world):
    primary, device = world(ITEM)
    device.run(LOCAL_N)
    for sql in (
        "BEGIN",
        "CREATE TABLE new_item (id INTEGER PRIMARY KEY, name TEXT, size INTEGER, row_owner)",
        "INSERT INTO new_item SELECT id, name, size, row_owner FROM item",
        "DROP TABLE item",
        "ALTER TABLE new_item RENAME TO item",
        "COMMIT",
    ):
        primary.run(sql)
    device.settle()
    assert (device.rows("SELECT name FROM item WHERE row_owner IS NULL"), displaced(device)) == ([("n",)], [])


def test_a_displaced_row_comes_back_when_its_place_is_free(world):
    primary, device = world(UNIQUE_ITEM)
    device.run(LOCAL_N)
    primary.run(EVERYBODYS_N)
    device.settle()
    primary.run("DELETE FROM item")
    device.settle()
    assert device.rows("SELECT name, row_owner FROM item") == [("n", None)]
    assert displaced(device) == []
