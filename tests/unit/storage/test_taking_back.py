"""What a rejection takes back of local rows that the transaction had changed too."""

import pytest

from octodb.model.transactions import Rejection
from octodb.storage.device_store import Incoming

SCHEMA = """
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, row_owner);
CREATE TABLE setting (name TEXT UNIQUE, id INTEGER PRIMARY KEY);
"""


def reject(device, nonce):
    refusal = (nonce, Rejection("constraint", "said the test"))
    device.store.bring_in(Incoming([], [refusal], device.store.cursor().seq))


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        ("INSERT INTO item VALUES (1, 'local', NULL)", "UPDATE item SET id = 2 WHERE id = 1"),
        ("INSERT INTO setting VALUES ('a', 1)", "UPDATE setting SET id = 2"),
        ("INSERT INTO setting VALUES ('a', 1)", "REPLACE INTO setting VALUES ('a', 2)"),
        (
            "INSERT INTO setting VALUES ('a', 1), ('b', 2)",
            "UPDATE setting SET name = 'x' WHERE id = 1; UPDATE setting SET name = 'a' WHERE id = 2;"
            " UPDATE setting SET name = 'b' WHERE id = 1",
        ),
        (
            "INSERT INTO item VALUES (1, 'local', NULL), (2, 'earlier', 2)",
            "REPLACE INTO item VALUES (1, 'earlier', NULL)",
        ),
        (
            "INSERT INTO item VALUES (1, 'local', NULL)",
            "DELETE FROM item WHERE id = 1; UPDATE item SET name = 'local' WHERE name = 'own'",
        ),
    ],
    ids=[
        "key of a local row",
        "key",
        "replaced",
        "exchanged",
        "takes an own row's place",
        "gives its place to an own row",
    ],
)
def test_local_rows_come_back_whatever_the_order_of_their_changes(world, made, changed):
    _, device = world(SCHEMA)
    device.script(made)
    before = device.rows("SELECT * FROM item"), device.rows("SELECT * FROM setting")
    device.script(f"BEGIN; INSERT INTO item (name) VALUES ('own'); {changed}; COMMIT")
    reject(device, device.outbox().last_nonce())
    assert (device.rows("SELECT * FROM item"), device.rows("SELECT * FROM setting")) == before
