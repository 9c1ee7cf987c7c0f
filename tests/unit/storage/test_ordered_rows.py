"""Rows that are somebody's: who may change them, in what form owners are stored, and how they are applied again."""

import apsw
import pytest

from octodb.errors import DataError, NotSupportedError, OwnershipError
from tests.properties.offline_world import Device, assert_converged

TABLE = "CREATE TABLE item (id INTEGER PRIMARY KEY, place UNIQUE, row_owner {type})"
ROWS = "; INSERT INTO item VALUES (1, 1, 2), (2, 2, 2), (3, 3, 2)"
SWAP = ("BEGIN", "UPDATE item SET place = 99 WHERE id = 1", "UPDATE item SET place = 1 WHERE id = 2",
        "UPDATE item SET place = 2 WHERE id = 1", "COMMIT")  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "INTEGER",
        "REAL",
        "BLOB",
        pytest.param(
            "TEXT",
        ),
    ],
)
def test_a_device_changes_its_own_rows_whatever_the_type_of_row_owner(world, kind):
    primary, device, twin = world(TABLE.format(type=kind) + ROWS, (2, 2))
    device.run("UPDATE item SET place = place + 10")
    device.run("DELETE FROM item WHERE id = 3")
    assert device.rows("SELECT id, place FROM item") == [(1, 11), (2, 12)]
    device.settle()
    twin.settle()
    assert_converged(primary, [device, twin], ["item"])


@pytest.mark.parametrize("owner", ["'2'", "2.0"])
def test_owners_are_stored_as_integers(world, owner):
    primary, device = world(TABLE.format(type=""))
    primary.run(f"INSERT INTO item (id, place, row_owner) VALUES (1, 1, {owner})")
    device.run(f"INSERT INTO item (id, place, row_owner) VALUES (2, 2, {owner})")
    device.settle()
    newcomer = Device(f"{device.path}-newcomer", primary, 2)
    try:
        for node in (primary, device, newcomer):
            assert node.rows("SELECT id, typeof(row_owner) FROM item") == [(1, "integer"), (2, "integer")]
    finally:
        newcomer.close()


def test_rows_of_others_are_left_out(world):
    primary, device = world(TABLE.format(type=""))
    primary.run("INSERT INTO item VALUES (1, 1, '*'), (2, 2, 2)")
    device.settle()
    assert device.run("UPDATE item SET place = place + 10 RETURNING id") == [(2,)]
    device.run("DELETE FROM item")
    assert device.rows("SELECT id FROM item") == [(1,)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO item (id, row_owner) VALUES (9, '*')",
        "INSERT INTO item (id, row_owner) VALUES (9, 5)",
        "INSERT INTO item (id, row_owner) VALUES (9, 'bob')",
        "UPDATE item SET row_owner = '*' WHERE id = 2",
        "UPDATE item SET row_owner = NULL WHERE id = 2",
        "REPLACE INTO item VALUES (1, 1, 2)",
    ],
)
def test_a_device_cannot_take_or_give_rows(world, sql):
    _, device = world(TABLE.format(type="") + "; INSERT INTO item VALUES (1, 1, '*'), (2, 2, 2)")
    before = device.rows("SELECT * FROM item")
    with pytest.raises((OwnershipError, apsw.ConstraintError)):
        device.run(sql)
    assert device.rows("SELECT * FROM item") == before
    assert device.outbox().last_nonce() == 0


def test_a_device_may_exchange_unique_values(world):
    primary, device = world(TABLE.format(type="") + ROWS)
    for sql in SWAP:
        device.run(sql)
    device.settle()
    assert device.outbox().rejected() == []
    assert primary.rows("SELECT id, place FROM item") == [(1, 2), (2, 1), (3, 3)]
    assert_converged(primary, [device], ["item"])


def test_an_exchange_of_unique_values_can_be_undone(world):
    primary, device = world(TABLE.format(type="") + ROWS)
    for sql in SWAP:
        device.run(sql)
    primary.run("INSERT INTO item VALUES (7, 7, '*')")
    device.pull()
    assert device.rows("SELECT id, place FROM item") == [(1, 2), (2, 1), (3, 3), (7, 7)]


def test_a_primary_may_exchange_unique_values(world):
    primary, device = world(TABLE.format(type="") + ROWS)
    for sql in SWAP:
        primary.run(sql)
    device.settle()
    assert_converged(primary, [device], ["item"])


def test_unique_values_may_move_along_a_chain(world):
    primary, device = world(TABLE.format(type="") + ROWS)
    device.run("BEGIN")
    for number in (3, 2, 1):
        device.run("UPDATE item SET place = place + 1 WHERE id = ?", (number,))
    device.run("COMMIT")
    primary.run("INSERT INTO item VALUES (7, 7, '*')")
    device.settle()
    assert primary.rows("SELECT id, place FROM item WHERE id < 4") == [(1, 2), (2, 3), (3, 4)]
    assert_converged(primary, [device], ["item"])


@pytest.mark.parametrize("table", ["item (place)", "note"])
def test_text_that_is_not_utf8_is_refused_at_commit(world, table):
    _, device = world(TABLE.format(type="") + "; CREATE TABLE note (text PRIMARY KEY)")
    with pytest.raises(DataError):
        device.run(f"INSERT INTO {table} VALUES (CAST(x'ff' AS TEXT))")
    assert not device.db.in_transaction


def test_a_row_that_a_new_index_cannot_hold_is_rejected(world):
    primary, device = world(TABLE.format(type=""))
    device.run("INSERT INTO item (place) VALUES ('not json')")
    primary.run("CREATE INDEX inside ON item (json_extract(place, '$.a'))")
    device.settle()
    (letter,) = device.outbox().rejected()
    assert letter.rejection.code == "constraint"


def test_what_builds_on_a_rejected_transaction_is_rejected_too(world):
    primary, device = world(TABLE.format(type=""))
    device.run("INSERT INTO item (id, place) VALUES (50, 1)")
    device.run("UPDATE item SET place = 2 WHERE id = 50")
    primary.run("INSERT INTO item (place, row_owner) VALUES (1, '*')")
    device.settle()
    assert [letter.rejection.code for letter in device.outbox().rejected()] == ["constraint", "dependent"]


def test_a_temp_table_may_have_the_name_of_a_replicated_one(world):
    _, device = world(TABLE.format(type=""))
    device.run("CREATE TEMP TABLE item (id INTEGER PRIMARY KEY, place)")
    device.run("INSERT INTO item (place) VALUES (1)")
    assert device.rows("SELECT place FROM temp.item") == [(1,)]
    assert device.outbox().last_nonce() == 0


def test_row_ids_are_never_reused(world):
    primary, device = world(TABLE.format(type=""))
    node = device.record.node_id << 32
    device.run("INSERT INTO item (place) VALUES (1)")
    device.run("DELETE FROM item")
    device.run("INSERT INTO item (place) VALUES (2)")
    assert device.rows("SELECT id FROM item") == [(node + 2,)]
    primary.run("INSERT INTO item (place, row_owner) VALUES (2, '*')")
    device.settle()
    device.run("INSERT INTO item (place) VALUES (3)")
    assert device.rows("SELECT id FROM item WHERE place = 3") == [(node + 3,)]


@pytest.mark.parametrize("rowid", ["", " WITHOUT ROWID"])
def test_a_key_with_a_collation_is_refused(world, rowid):
    # sessions compare keys byte by byte: 'abc' changed to 'ABC' would be an UPDATE of one row and an INSERT of another
    with pytest.raises(NotSupportedError, match="collation"):
        world("CREATE TABLE word (word TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, row_owner)" + rowid)
