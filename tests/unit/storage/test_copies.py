"""A copied file's way: what the primary knows of it, what it keeps, and which ids its rows get."""

from octodb.log.embedded_log import PushedBody, PushRequest
from octodb.model.identities import row_id_range
from octodb.runtime.device_info import new_node_seed
from octodb.storage.device_store import Adoption

SCHEMA = (
    "CREATE TABLE item (id INTEGER PRIMARY KEY, a, row_owner);"
    "CREATE TABLE part (id INTEGER PRIMARY KEY, item REFERENCES item, row_owner);"
    "CREATE TABLE memo (item REFERENCES item, text);"
)


def adopt(primary, device):
    """As the engines do it between them; returns the new node id."""
    keys = new_node_seed()
    token = b"fresh"
    record, known, _ = primary.store.adopt_copy(device.record, keys.public_key, token, "{}", device.store.claims())
    device.store.adopt(
        Adoption(keys.private_key, keys.public_key, record.node_id, record.user_id, token, tuple(known)), "elsewhere"
    )
    device.record = record
    return record.node_id


def test_what_the_primary_has_already_is_not_sent_again(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO item (a) VALUES ('sent')")
    device.push()  # and the answer is lost with the copy
    device.run("INSERT INTO item (a) VALUES ('new')")
    node = adopt(primary, device)
    assert device.outbox().nonces() == [2], "transactions keep their numbers"
    assert device.rows("SELECT a FROM item") == [("new",)], "the other comes with the log"
    device.settle()
    assert primary.rows("SELECT a FROM item") == device.rows("SELECT a FROM item") == [("new",), ("sent",)]
    assert device.store.identity().node_id == node


def test_what_the_primary_had_before_its_log_was_cut_is_not_sent_again(world):
    primary, device = world(SCHEMA)
    for n in range(300):
        device.run("INSERT INTO item (a) VALUES (?)", (n,))
    device.push()
    primary.store.confirm_verdicts(device.record.node_id, 300)  # by the original, of which this is a copy
    device.run("INSERT INTO item (a) VALUES ('new')")
    for n in range(5):
        primary.run("INSERT INTO item (a, row_owner) VALUES (?, '*')", (n,))
    while primary.log.cut(1e9, 1):
        pass
    adopt(primary, device)
    assert device.outbox().nonces() == [301]


def test_what_the_original_sent_later_and_was_cut_off_since_is_not_applied_again(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO item (a) VALUES ('mine')")
    device.store.store_welcome(device.record.node_id, 2, b"token", b"network", "here")  # its row keeps its id
    original = device.record
    body = next(device.outbox().pending())
    adopt(primary, device)  # before the original has sent it
    primary.log.append([PushRequest(original.node_id, 2, [PushedBody(1, body.hash, body.body)])])
    primary.store.confirm_verdicts(original.node_id, 1)
    for n in range(5):
        primary.run("INSERT INTO item (a, row_owner) VALUES (?, '*')", (n,))
    while primary.log.cut(1e9, 1):
        pass
    device.push()
    assert primary.rows("SELECT count(*) FROM item WHERE a = 'mine'") == [(1,)]


def test_rows_made_since_a_primary_last_spoke_get_ids_of_the_new_range_and_references_follow(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO item (a) VALUES ('old')")
    device.store.store_welcome(device.record.node_id, 2, b"token", b"network", "here")
    old = device.rows("SELECT id FROM item")[0][0]
    device.run("INSERT INTO item (a) VALUES ('later')")
    later = device.rows("SELECT id FROM item WHERE a = 'later'")[0][0]
    device.run("INSERT INTO part (item) VALUES (?)", (later,))
    device.run("INSERT INTO memo VALUES (?, 'local')", (later,))
    device.run("UPDATE item SET a = 'latest' WHERE id = ?", (later,))
    low, high = row_id_range(adopt(primary, device))
    ids = dict(device.rows("SELECT a, id FROM item"))
    assert ids["old"] == old, "it was there before the copy was made"
    assert low <= ids["latest"] <= high
    assert device.rows("SELECT item FROM part") == device.rows("SELECT item FROM memo") == [(ids["latest"],)]
    device.settle()
    assert primary.rows("SELECT id, a FROM item") == device.rows("SELECT id, a FROM item")
    assert primary.rows("SELECT item FROM part") == [(ids["latest"],)]


def test_what_a_restored_primary_has_lost_is_offered_again(world):
    primary, device = world(SCHEMA)
    device.run("INSERT INTO item (a) VALUES ('accepted')")
    device.settle()
    primary.engine.execute("DELETE FROM _octodb_log WHERE nonce IS NOT NULL")  # as in a backup from before
    adopt(primary, device)
    assert device.outbox().nonces() == [1]
    assert next(device.outbox().pending()).suspended is not None


def test_a_key_is_adopted_once_and_by_its_own_copy_only(world):
    primary, one, two = world(SCHEMA, (2, 2))
    keys = new_node_seed()
    adopted = [primary.store.adopt_copy(one.record, keys.public_key, b"t", "{}", [])[0] for _ in range(2)]
    assert adopted[0].node_id == adopted[1].node_id, "asked again because the answer was lost"
    assert primary.store.adopt_copy(two.record, keys.public_key, b"t", "{}", [])[0] is None
    assert primary.store.adopt_copy(one.record, two.record.public_key, b"t", "{}", [])[0] is None


def test_revoking_a_node_revokes_the_copies_of_its_file_and_their_copies(world):
    primary, one, two = world(SCHEMA, (2, 2))
    original = one.record
    copy, of_copy = new_node_seed(), new_node_seed()
    first = primary.store.adopt_copy(original, copy.public_key, b"t", "{}", [])[0]
    second = primary.store.adopt_copy(first, of_copy.public_key, b"t", "{}", [])[0]
    primary.store.revoke(first.node_id)
    assert not primary.store.find(original.public_key).revoked
    assert primary.store.find(of_copy.public_key).revoked
    primary.store.revoke(original.node_id)
    assert [primary.store.find(key).revoked for key in (copy.public_key, two.record.public_key)] == [True, False]
    assert second.user_id == original.user_id


def test_the_same_transaction_of_two_copies_takes_effect_once(world):
    primary, one, two = world(SCHEMA, (2, 2))
    one.run("INSERT INTO item (a) VALUES ('once')")
    row = one.outbox().get(1)
    two.outbox().append(1, row.body, row.hash, b"", None, 1.0)  # two's file is a copy of one's
    primary.engine.execute(
        "UPDATE _octodb_nodes SET copy_of = ? WHERE node_id = ?", (one.record.node_id, two.record.node_id)
    )
    one.push()
    two.push()
    assert primary.rows("SELECT a FROM item") == [("once",)]
    assert primary.rows("SELECT count(*) FROM _octodb_log WHERE nonce = 1") == [(1,)]
