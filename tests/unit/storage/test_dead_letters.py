"""Rejected transactions made again, dropped and shown: what of them takes effect, what stays, what is said."""

import json
from contextlib import closing

import pytest

from octodb.errors import IntegrityError, OperationalError
from octodb.model.identities import Role
from octodb.model.transactions import Rejection
from octodb.storage import dead_letters
from octodb.storage.database import connect_file
from octodb.storage.device_store import Incoming
from octodb.storage.meta import Meta, NodeTable
from octodb.storage.node_statements import NodeStatements
from tests.properties.offline_world import Port

SCHEMA = """
CREATE TABLE contact (id INTEGER PRIMARY KEY, email TEXT UNIQUE, note, row_owner);
CREATE TABLE visit (id INTEGER PRIMARY KEY, contact REFERENCES contact, row_owner);
CREATE TABLE setting (name TEXT NOT NULL PRIMARY KEY, value UNIQUE);
"""


def reject(device):
    """Reject the newest transaction; returns its number."""
    nonce = device.outbox().last_nonce()
    NodeTable(device.primary.engine).set_last_nonce(device.record.node_id, nonce)  # it has judged it
    refusal = (nonce, Rejection("constraint", "said the test"))
    device.store.bring_in(Incoming([], [refusal], device.store.cursor().seq))
    assert device.outbox().verdict_of(nonce) == "rejected"
    return nonce


def retry(device, nonce):
    with closing(connect_file(device.uri, 0.1)) as db:
        return dead_letters.retry(NodeStatements(db, Role.SECONDARY, Port(device.path, Role.SECONDARY)), nonce, 99.0)


def export(device, nonce):
    """(table, op, key, old, new, part) of each change, read from its JSON."""
    return sorted(
        (
            (table, op, *(None if text is None else json.loads(text) for text in texts), part)
            for table, op, *texts, part in dead_letters.export(device.db, nonce)
        ),
        key=repr,
    )


def tables(device):
    return [device.rows(f"SELECT * FROM {table}") for table in ("contact", "visit", "setting")]


# --- making again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        ("", "INSERT INTO contact (email) VALUES ('a'), ('b')"),
        ("INSERT INTO contact VALUES (1, 'a', 'b', 2)", "UPDATE contact SET note = 'c'"),
        ("INSERT INTO contact VALUES (1, 'a', 'b', 2)", "DELETE FROM contact"),
        ("INSERT INTO contact VALUES (1, 'a', 'b', NULL)", "UPDATE contact SET row_owner = this_user()"),
        (
            "INSERT INTO contact VALUES (1, 'a', 1, 2), (2, 'b', 2, 2)",
            "UPDATE contact SET email = 'x' WHERE id = 1; UPDATE contact SET email = 'a' WHERE id = 2;"
            " UPDATE contact SET email = 'b' WHERE id = 1",
        ),
        (
            "INSERT INTO setting VALUES ('a', 1), ('b', 2), ('c', 3)",
            "INSERT INTO contact (email) VALUES ('a'); DELETE FROM setting WHERE name = 'c';"
            " UPDATE setting SET value = 9 WHERE name = 'a'; INSERT INTO setting VALUES ('d', 1)",
        ),
        (
            "INSERT INTO setting VALUES ('a', 1), ('b', 2)",
            "INSERT INTO contact (email) VALUES ('a'); UPDATE setting SET value = 9 WHERE name = 'a';"
            " UPDATE setting SET value = 1 WHERE name = 'b'; UPDATE setting SET value = 2 WHERE name = 'a'",
        ),
        (
            "INSERT INTO contact VALUES (1, 'a', 'local', NULL)",
            "DELETE FROM contact WHERE id = 1; INSERT INTO contact (email) VALUES ('a')",
        ),
        (
            "INSERT INTO contact VALUES (1, 'a', 'own', 2)",
            "DELETE FROM contact WHERE id = 1; INSERT INTO contact VALUES (5, 'a', 'local', NULL)",
        ),
    ],
    ids=[
        "new rows",
        "update",
        "delete",
        "a local row gets an owner",
        "exchanged values",
        "local rows too",
        "local rows exchange values",
        "takes a local row's place",
        "gives its place to a local row",
    ],
)
def test_what_is_made_again_is_what_was_made(world, made, changed):
    primary, device = world(SCHEMA)
    device.script(made)
    device.settle()
    before = tables(device)
    device.script(f"BEGIN; {changed}; COMMIT")
    after = tables(device)
    old = device.outbox().get(device.outbox().last_nonce())
    nonce = reject(device)
    assert tables(device) == before
    assert retry(device, nonce) == nonce + 1
    assert tables(device) == after
    again = device.outbox().get(nonce + 1)
    assert (again.body, again.local) == (old.body, old.local)
    assert device.outbox().rejected() == []
    assert device.outbox().verdict_of(nonce) == "rejected", "its number must not pass for an accepted one"
    assert device.rows("SELECT * FROM _octodb_displaced") == []
    device.settle()
    assert tables(device) == after
    assert primary.rows("SELECT * FROM contact WHERE row_owner = 2") == device.rows(
        "SELECT * FROM contact WHERE row_owner = 2"
    )


def test_what_is_made_again_can_be_taken_back_again(world):
    _, device = world(SCHEMA)
    device.script("INSERT INTO setting VALUES ('a', 1)")
    before = tables(device)
    device.script("BEGIN; INSERT INTO contact (email) VALUES ('a'); UPDATE setting SET value = 2; COMMIT")
    second = retry(device, reject(device))
    assert reject(device) == second
    assert tables(device) == before
    assert [letter.nonce for letter in device.outbox().rejected()] == [second]


def test_triggers_do_not_fire_twice(world):
    _, device = world(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE TABLE log (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE TRIGGER logs AFTER INSERT ON t BEGIN INSERT INTO log (a) VALUES (NEW.a); END;"
    )
    device.run("INSERT INTO t (a) VALUES (1)")
    assert device.rows("SELECT a FROM log") == [(1,)]
    nonce = reject(device)
    assert device.rows("SELECT a FROM log") == []
    retry(device, nonce)
    assert device.rows("SELECT a FROM log") == [(1,)]


def test_a_conflict_that_is_still_there_is_named_and_nothing_changes(world):
    _, device = world(SCHEMA)
    device.run("INSERT INTO contact (email) VALUES ('a')")
    device.script("INSERT INTO setting VALUES ('a', 1)")
    nonce = reject(device)
    device.run("INSERT INTO contact (email) VALUES ('a')")
    device.script("UPDATE setting SET value = 5")
    before = tables(device)
    with pytest.raises(IntegrityError, match=r"UNIQUE constraint failed: contact\.email") as caught:
        retry(device, nonce)
    assert f"export_transaction({nonce})" in caught.value.hint
    assert tables(device) == before
    assert [letter.nonce for letter in device.outbox().rejected()] == [nonce]
    assert device.outbox().last_nonce() == nonce + 1


def test_a_reference_that_points_nowhere_is_found_here(world):
    _, device = world(SCHEMA)
    device.run("INSERT INTO visit (contact) VALUES (77)")
    nonce = reject(device)
    with pytest.raises(IntegrityError, match=r"FOREIGN KEY constraint failed: visit\.contact"):
        retry(device, nonce)
    device.run("INSERT INTO contact (id) VALUES (77)")
    assert retry(device, nonce) == nonce + 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DROP TABLE visit", "visit"),
        ("ALTER TABLE visit RENAME TO stay", "visit"),
        ("ALTER TABLE visit RENAME COLUMN contact TO person", "visit was changed"),
    ],
)
def test_a_schema_that_changed_since_is_named(world, change, reason):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO visit (contact) VALUES (NULL)")
    nonce = reject(device)
    primary.run(change)
    device.pull()
    with pytest.raises(OperationalError, match=reason):
        retry(device, nonce)
    assert [letter.nonce for letter in device.outbox().rejected()] == [nonce]
    assert device.outbox().count() == 0


def test_a_column_that_was_added_since_is_no_obstacle(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO visit (id, contact) VALUES (5, NULL)")
    nonce = reject(device)
    primary.run("ALTER TABLE visit ADD COLUMN rating DEFAULT 3")
    device.pull()
    assert retry(device, nonce) == nonce + 1
    assert device.rows("SELECT id, rating FROM visit") == [(5, 3)]
    device.settle()
    assert primary.rows("SELECT id, rating FROM visit") == [(5, 3)]


def test_a_transaction_that_would_change_nothing_is_none(world):
    _, device = world(SCHEMA)
    device.run("INSERT INTO contact VALUES (1, 'a', NULL, 2)")
    device.script("BEGIN; UPDATE contact SET note = 'x'; INSERT INTO setting VALUES ('a', 1); COMMIT")
    nonce = reject(device)
    device.run("DELETE FROM contact")
    with pytest.raises(OperationalError, match="would change nothing") as caught:
        retry(device, nonce)
    assert f"drop_transaction({nonce})" in caught.value.hint
    assert device.rows("SELECT * FROM setting") == []
    assert [letter.nonce for letter in device.outbox().rejected()] == [nonce]


def test_local_changes_are_made_where_they_find_things_as_they_were(world):
    _, device = world(SCHEMA)
    device.script("INSERT INTO setting VALUES ('changed', 1), ('gone', 2), ('same', 3)")
    device.script(
        "BEGIN; INSERT INTO contact (email) VALUES ('a'); UPDATE setting SET value = value + 10;"
        " INSERT INTO setting VALUES ('taken', 4), ('new', 5); COMMIT"
    )
    nonce = reject(device)
    device.script("UPDATE setting SET value = 7 WHERE name = 'changed'; DELETE FROM setting WHERE name = 'gone'")
    device.run("INSERT INTO setting VALUES ('taken', 6)")
    retry(device, nonce)
    assert device.rows("SELECT * FROM setting") == [("changed", 7), ("new", 5), ("same", 13), ("taken", 6)]
    assert device.rows("SELECT email FROM contact") == [("a",)]


def test_a_local_row_in_the_way_is_the_applications_to_move(world):
    _, device = world(SCHEMA)
    device.run("INSERT INTO contact (email) VALUES ('a')")
    nonce = reject(device)
    device.run("INSERT INTO contact (email, row_owner) VALUES ('a', NULL)")
    before = tables(device)
    with pytest.raises(IntegrityError, match=r"a local row of contact is in the way.*same email"):
        retry(device, nonce)
    assert tables(device) == before
    device.run("DELETE FROM contact")
    assert retry(device, nonce) == nonce + 1


def test_a_local_row_that_gets_an_owner_and_other_values_is_kept_beside(world):
    _, device = world(SCHEMA)
    device.run("INSERT INTO contact VALUES (1, 'a', 'before', NULL)")
    device.run("UPDATE contact SET row_owner = this_user(), note = 'after'")
    nonce = reject(device)
    assert device.rows("SELECT note, row_owner FROM contact") == [("before", None)]
    retry(device, nonce)
    assert device.rows("SELECT note, row_owner FROM contact") == [("after", 2)]
    assert [row["note"] for _, row, _ in Meta(device.db).take_displaced(10)] == ["before"]
    reject(device)
    assert device.rows("SELECT note, row_owner FROM contact") == [("before", None)]


# --- other numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [retry, lambda device, nonce: dead_letters.drop(device.db, nonce)])
def test_other_numbers_are_told_apart(world, verb):
    _, device = world(SCHEMA)
    with pytest.raises(OperationalError, match="there is no transaction 1: there is none yet"):
        verb(device, 1)
    device.run("INSERT INTO contact (email) VALUES ('a')")
    device.settle()
    with pytest.raises(OperationalError, match=r"transaction 1 cannot be .*: it was accepted"):
        verb(device, 1)
    device.run("INSERT INTO contact (email) VALUES ('b')")
    with pytest.raises(OperationalError, match=r"transaction 2 cannot be .*may be on its way"):
        verb(device, 2)
    with pytest.raises(OperationalError, match="there is no transaction 3: the last one is 2"):
        verb(device, 3)
    dead_letters.drop(device.db, reject(device))
    with pytest.raises(OperationalError, match="transaction 2 was dropped already"):
        verb(device, 2)
    device.run("INSERT INTO contact (email) VALUES ('c')")
    retry(device, reject(device))
    with pytest.raises(OperationalError, match="transaction 3 was retried as transaction 4 already"):
        verb(device, 3)


def test_a_dropped_one_is_gone_for_good_and_its_number_stays_a_rejected_ones(world):
    _, device = world(SCHEMA)
    device.script("BEGIN; INSERT INTO contact (email) VALUES ('secret'); INSERT INTO setting VALUES ('s', 1); COMMIT")
    nonce = reject(device)
    dead_letters.drop(device.db, nonce)
    outbox = device.outbox()
    assert (outbox.rejected(), outbox.count_rejected(), outbox.dead_letter(nonce)) == ([], 0, None)
    assert (outbox.verdict_of(nonce), outbox.last_nonce()) == ("rejected", nonce)
    assert export(device, nonce) == []
    (kept,) = device.rows("SELECT code, table_name, columns, body, local FROM _octodb_rejected")
    assert kept == ("", "", "[]", b"", None)


# --- showing ---------------------------------------------------------------------------------------------

VALUES = [None, 0, -(2**63), 2**63 - 1, 1.0, 0.1, 1e300, float("inf"), float("-inf"), "", "né\0\"'☂", b"", b"\0\xff"]


@pytest.mark.parametrize("rejected", [False, True])
def test_every_value_comes_back_from_its_json(world, rejected):
    _, device = world("CREATE TABLE t (id INTEGER PRIMARY KEY, value, row_owner);")
    device.run("BEGIN")
    for number, value in enumerate(VALUES, 1):
        device.run("INSERT INTO t (id, value) VALUES (?, ?)", (number, value))
    device.run("COMMIT")
    nonce = reject(device) if rejected else device.outbox().last_nonce()
    found = {key["id"]: new["value"] for _, _, key, _, new, _ in export(device, nonce)}
    values = [bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for _, v in sorted(found.items())]
    assert values == VALUES
    assert [type(value) for value in values] == [type(value) for value in VALUES]


def test_an_export_shows_what_each_row_was_and_is(world):
    _, device = world(SCHEMA)
    device.script("INSERT INTO contact VALUES (1, 'a', 'x', 2), (2, 'b', 'y', 2); INSERT INTO setting VALUES ('s', 1)")
    device.script(
        "BEGIN; UPDATE contact SET note = 1 WHERE id = 1; DELETE FROM contact WHERE id = 2;"
        " INSERT INTO contact (id, email) VALUES (3, 'c'); UPDATE setting SET value = 2; COMMIT"
    )
    expected = [
        (
            "contact",
            "DELETE",
            {"id": 2},
            {"id": 2, "email": "b", "note": "y", "row_owner": 2},
            None,
            "user",
        ),
        ("contact", "INSERT", {"id": 3}, None, {"id": 3, "email": "c", "note": None, "row_owner": 2}, "user"),
        ("contact", "UPDATE", {"id": 1}, {"note": "x"}, {"note": 1}, "user"),
        ("setting", "UPDATE", {"name": "s"}, {"value": 1}, {"value": 2}, "local"),
    ]
    nonce = device.outbox().last_nonce()
    assert export(device, nonce) == expected
    assert reject(device) == nonce
    assert export(device, nonce) == expected
    assert (export(device, 0), export(device, nonce + 1)) == ([], [])


def test_columns_that_cannot_be_named_any_more_are_numbered(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO visit VALUES (5, NULL, 2)")
    nonce = reject(device)
    primary.run("ALTER TABLE visit RENAME COLUMN contact TO person")
    device.pull()
    new = {"column 1": 5, "column 2": None, "column 3": 2}
    assert export(device, nonce) == [("visit", "INSERT", {"column 1": 5}, None, new, "user")]
    primary.run("DROP TABLE visit")
    device.pull()
    assert export(device, nonce) == [("visit", "INSERT", {"column 1": 5}, None, new, "user")]
