"""A transaction cut by owner: what goes to whom, what stays here, what undoes it, what may not be."""

import apsw
import pytest

from octodb.errors import DataError, OwnershipError
from octodb.model.identities import Role
from octodb.storage.changesets import iterate
from octodb.storage.shapes import Shapes
from octodb.storage.splitting import split_changeset

SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, row_owner);
CREATE TABLE plain (id INTEGER PRIMARY KEY, a);
INSERT INTO t VALUES (1, 'mine', 1, 3), (2, 'everybody''s', 2, '*'), (3, 'another''s', 3, 4), (4, 'local', 4, NULL);
INSERT INTO plain VALUES (1, 'x');
"""
KEEP = apsw.no_change


@pytest.fixture
def db():
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    yield connection
    connection.close()


def record(db, sql):
    session = apsw.Session(db, "main")
    session.attach()
    db.execute(sql)
    return session.changeset()


def split(db, sql, role=Role.SECONDARY):
    return split_changeset(db, Shapes.read(db), record(db, sql), role, 3)


def changes(changeset):
    return sorted(((op, old, new) for _, op, _, old, new in iterate(changeset)), key=repr)


def test_only_own_inserts_are_passed_on_byte_for_byte(db):
    changeset = record(db, "INSERT INTO t VALUES (5, 'a', 'b', 3), (6, 'c', 'd', 3); DELETE FROM t WHERE id = 1")
    found = split_changeset(db, Shapes.read(db), changeset, Role.SECONDARY, 3)
    assert found.parts == {3: changeset}
    assert (found.undo, found.local) == (None, b"")


@pytest.mark.parametrize(
    ("highest_owner", "sql", "told"),
    [
        (3, "DELETE FROM t WHERE id = 1", ()),
        (3, "DELETE FROM t WHERE id IN (1, 5)", (("t", 5),)),
        (3, "INSERT INTO t VALUES (6, 'c', 'd', 3); DELETE FROM t WHERE id = 5", ()),
        (None, "DELETE FROM t WHERE id = 1", (("t", 1),)),  # sync may set a local row aside
    ],
)
def test_a_device_tells_of_deleted_ids_that_could_come_again(db, highest_owner, sql, told):
    """The next id is one above the highest that is there or was told of."""
    db.execute("INSERT INTO t VALUES (5, 'highest', 5, ?)", (highest_owner,))
    assert split(db, sql).deleted_ids == told


def test_a_primary_tells_of_all_deleted_ids(db):
    """The table with the rows above them may be dropped in the same transaction."""
    db.execute("INSERT INTO t VALUES (5, 'mine too', 5, 3)")
    assert split(db, "DELETE FROM t WHERE id = 1", Role.PRIMARY).deleted_ids == (("t", 1),)


def test_an_update_says_whose_row_it_is(db):
    found = split(db, "UPDATE t SET a = 'new' WHERE id = 1")
    assert changes(found.parts[3]) == [("UPDATE", (1, "mine", KEEP, 3), (KEEP, "new", KEEP, 3))]
    assert found.undo is None, "its inverse"


def test_local_rows_stay(db):
    found = split(db, "UPDATE t SET a = 'new' WHERE id = 4; INSERT INTO plain VALUES (2, 'y')")
    assert found.parts == {}
    assert changes(found.local) == [
        ("INSERT", (), (2, "y")),
        ("UPDATE", (4, "local", KEEP, None), (KEEP, "new", KEEP, None)),
    ]


def test_own_and_local_rows_are_parted(db):
    found = split(db, "UPDATE t SET b = 0 WHERE row_owner IS NULL OR row_owner = 3")
    assert changes(found.parts[3]) == [("UPDATE", (1, KEEP, 1, 3), (KEEP, KEEP, 0, 3))]
    assert changes(found.local) == [("UPDATE", (4, KEEP, 4, None), (KEEP, KEEP, 0, None))]


def test_a_local_row_that_becomes_ones_own_is_sent_whole_and_undone_to_local(db):
    found = split(db, "UPDATE t SET row_owner = 3, a = 'new' WHERE id = 4")
    assert changes(found.parts[3]) == [("INSERT", (), (4, "new", 4, 3))]
    assert changes(found.undo) == [("UPDATE", (4, "local", KEEP, None), (KEEP, "new", KEEP, 3))]


def test_on_a_primary_a_row_that_becomes_everybodys_leaves_its_owners_stream(db):
    found = split(db, "UPDATE t SET row_owner = '*', b = 0 WHERE id = 3", Role.PRIMARY)
    assert changes(found.parts[4]) == [("DELETE", (3, "another's", 3, 4), ())]
    assert changes(found.parts["*"]) == [("INSERT", (), (3, "another's", 0, "*"))]


def test_a_primary_writes_for_everyone(db):
    found = split(db, "INSERT INTO t VALUES (7, '', '', 9), (8, '', '', '*'), (9, '', '', NULL)", Role.PRIMARY)
    assert set(found.parts) == {9, "*"}
    assert changes(found.local) == [("INSERT", (), (9, "", "", None))]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("INSERT INTO t VALUES (5, '', '', 4)", "a device of user 3 cannot make rows for user 4"),
        ("INSERT INTO t VALUES (5, '', '', '*')", "cannot make rows for everybody"),
        ("INSERT INTO t VALUES (5, '', '', 'bob')", "neither a user id"),
        ("UPDATE t SET a = '' WHERE id = 2", "changes a row of t that belongs to everybody"),
        ("DELETE FROM t WHERE id = 3", "changes a row of t that belongs to user 4"),
        ("UPDATE t SET row_owner = NULL WHERE id = 1", "cannot go from user 3 to NULL"),
        ("UPDATE t SET row_owner = '*' WHERE id = 1", "cannot go from user 3 to '*'"),
        ("UPDATE t SET row_owner = 3 WHERE id = 3", "cannot go from user 4 to user 3"),
        ("UPDATE t SET row_owner = 4 WHERE id = 4", "cannot go from NULL to user 4"),
    ],
)
def test_what_a_device_may_not_write(db, sql, message):
    with pytest.raises(OwnershipError) as caught:
        split(db, sql)
    assert message in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("owner", "streams"),
    [("4", {3: "DELETE", 4: "INSERT"}), ("'*'", {3: "DELETE", "*": "INSERT"}), ("NULL", {3: "DELETE"})],
)
def test_a_primary_may_delete_a_row_and_insert_its_key_for_somebody_else(db, owner, streams):
    """SQLite records one UPDATE of the owner."""
    found = split(db, f"DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'x', 'y', {owner})", Role.PRIMARY)
    assert {stream: changes(part)[0][0] for stream, part in found.parts.items()} == streams


def test_text_that_is_not_utf8_cannot_be_synced(db):
    with pytest.raises(DataError, match="not valid UTF-8"):
        split(db, "INSERT INTO t VALUES (5, CAST(x'ff' AS TEXT), '', 3)")


@pytest.mark.parametrize(("kind", "stored"), [("TEXT", "3"), ("REAL", 3.0), ("INTEGER", 3)])
def test_the_type_of_the_owner_column_does_not_matter(kind, stored):
    db = apsw.Connection(":memory:")
    db.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner {kind})")
    found = split(db, "INSERT INTO t VALUES (1, 'x', 3)")
    assert changes(found.parts[3]) == [("INSERT", (), (1, "x", stored))]
    found = split(db, "UPDATE t SET a = 'y'")
    assert set(found.parts) == {3}
