"""Row ids belong to the node in whose range they lie: what a device may take, and what it may not (docs/limits.md)."""

import apsw
import pytest

from octodb.model.identities import AuthMode, Role
from octodb.model.transactions import Op, encode_body
from octodb.storage.changesets import build
from tests.unit.log.test_embedded_log import kinds

ADMIN = 1 << 32


@pytest.fixture
def nodes(pushing):
    """Ids of the device's own node, of another one of its user, and of one of user 5."""
    admit = pushing.primary.store.admit
    mine = pushing.device.record.node_id
    second = admit(b"s" * 32, 2, Role.SECONDARY, AuthMode.USER, "{}").node_id
    stranger = admit(b"o" * 32, 5, Role.SECONDARY, AuthMode.USER, "{}").node_id
    return mine, second, stranger


def number(value):
    return b"\x01" + value.to_bytes(8, "big")


def insert(pushing, row_id):
    db = pushing.primary.engine
    changes = build(db, [("INSERT", "item", (), (row_id, f"row {row_id}", 1, 2))])
    return kinds(pushing.push(encode_body(pushing.primary.log.head(), [Op(0, changes)])))


REFUSED = [("rejected", "ownership")]
TAKEN = [("accepted", None)]


def test_an_id_that_another_users_node_has_still_to_give(pushing, nodes):
    before = pushing.rows_of_others()
    for sequence in (1, 2, 1000, 0xFFFFFFFF):
        assert insert(pushing, (nodes[2] << 32) | sequence) == REFUSED
    assert pushing.rows_of_others() == before


def test_ids_of_the_users_own_nodes(pushing, nodes):
    assert insert(pushing, (nodes[0] << 32) | 9) == TAKEN
    assert insert(pushing, (nodes[1] << 32) | 9) == TAKEN  # a copy's queue, a row put back on the other device


def test_small_and_negative_ids_are_anybodys(pushing, nodes):
    assert [insert(pushing, row_id) for row_id in (100, 0xFFFFFFFF, 0, -5, -(1 << 40))] == [TAKEN] * 5


def test_an_id_that_the_primary_has_given_may_be_taken_again(pushing, nodes):
    (row_id,) = pushing.primary.run("INSERT INTO item (name, row_owner) VALUES ('for you', 2) RETURNING id")[0]
    assert row_id >> 32 == 1
    pushing.primary.run("DELETE FROM item WHERE id = ?", (row_id,))
    assert insert(pushing, row_id) == TAKEN
    assert insert(pushing, row_id + 1) == REFUSED


def test_no_new_node_has_a_range_with_rows(pushing, nodes):
    latest = max(nodes)
    for node_id in (latest + 1, latest + 2):
        assert insert(pushing, (node_id << 32) | 7) == TAKEN
    new = pushing.primary.store.admit(b"n" * 32, 5, Role.SECONDARY, AuthMode.USER, "{}")
    assert new.node_id == latest + 3


@pytest.mark.parametrize("make", [float, str, lambda row_id: str(row_id).encode()])
def test_an_id_in_another_form_is_no_way_around(pushing, nodes, make):
    assert insert(pushing, make((nodes[2] << 32) | 1)) == [("rejected", "malformed")]


def test_an_update_cannot_move_a_row_into_another_range(pushing, nodes):
    """SQLite's sessions make a DELETE and an INSERT of it; a forger may write what they never do."""
    theirs = (nodes[2] << 32) | 1
    # sqlite.org/session/changesetfmt.html: header of the table, UPDATE, not indirect, old values, new values
    head = b"T\x04\x01\x00\x00\x00item\x00\x17\x00"
    changes = head + number(1) + b"\x00" + number(0) + number(2) + number(theirs) + b"\x00" + number(8) + number(2)
    assert [change.op for change in apsw.Changeset.iter(changes)] == ["UPDATE"]
    pushing.push(encode_body(pushing.primary.log.head(), [Op(0, changes)]))
    assert pushing.primary.rows("SELECT id FROM item WHERE id = ?", theirs) == []
    moved = pushing.recorded(f"UPDATE item SET id = {theirs} WHERE id = 1")
    assert kinds(pushing.push(encode_body(pushing.primary.log.head(), [Op(0, moved)]))) == REFUSED


def test_rows_that_were_there_before_stay_usable(pushing, nodes):
    pushing.primary.run("INSERT INTO item (id, name, row_owner) VALUES (?, 'old', 2)", ((nodes[2] << 32) | 5,))
    changes = pushing.recorded(f"UPDATE item SET size = 5 WHERE id = {(nodes[2] << 32) | 5}", honest=True)
    assert kinds(pushing.push(encode_body(pushing.primary.log.head(), [Op(0, changes)]))) == TAKEN
