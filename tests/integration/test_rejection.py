"""A transaction the primary cannot take is rejected whole, with its reason; what is behind it goes on (P3, P7)."""

import pytest

import octodb
from tests.integration.conftest import rows, wait_for

SCHEMA = """
CREATE TABLE contact (id INTEGER PRIMARY KEY, email TEXT, row_owner, UNIQUE (email));
CREATE TABLE phone (id INTEGER PRIMARY KEY, number TEXT CHECK (length(number) < 9), row_owner);
CREATE TABLE visit (id INTEGER PRIMARY KEY, contact REFERENCES contact, row_owner);
"""


def reasons(device):
    cursor = device.execute("PRAGMA rejected_transactions")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


@pytest.mark.parametrize("second_user", ["ada", "ben"])
def test_a_unique_violation_across_two_devices(world, second_user):
    primary = world.primary(SCHEMA, accounts=True)
    first, second = world.device("first", user="ada"), world.device("second", user=second_user)
    heard = []
    uri = world.device_uri("second")
    world.close(second)  # it writes offline
    second = octodb.connect(f"file:{world.folder}/second.db?node=secondary")
    second.execute("INSERT INTO phone (number) VALUES ('1')")
    second.commit()
    second.execute("INSERT INTO contact (email) VALUES ('same@example.org')")
    second.execute("INSERT INTO phone (number) VALUES ('2')")
    second.execute("UPDATE phone SET number = 'changed' WHERE number = '1'")
    second.execute("INSERT INTO phone (number, row_owner) VALUES ('local', NULL)")
    second.commit()
    second.execute("INSERT INTO phone (number) VALUES ('3')")
    second.commit()
    second.close()

    first.execute("INSERT INTO contact (email) VALUES ('same@example.org')")
    first.commit()
    assert first.wait_synced(10)

    second = octodb.connect(uri)
    world.open.append(second)
    second.on("rejected", heard.append)
    assert second.wait_synced(15), second.sync_status
    assert rows(second, "SELECT number FROM phone") == [("1",), ("3",)]
    assert rows(primary, "SELECT number FROM phone") == [("1",), ("3",)]
    assert len(rows(primary, "SELECT * FROM contact")) == 1
    (reason,) = reasons(second)
    assert (reason["nonce"], reason["code"]) == (2, "constraint")
    assert (reason["table"], reason["columns"]) == ("contact", "email")
    assert reason["reason"] == "UNIQUE constraint failed: contact.email"
    assert reason["rows"] == 3
    assert "same@example.org" not in str(reason)
    assert [second.execute(f"PRAGMA transaction_status({n})").fetchone()[0] for n in (1, 2, 3)] == [
        "accepted",
        "rejected",
        "accepted",
    ]
    assert second.execute("PRAGMA pending_transactions").fetchall() == []
    wait_for(lambda: heard)
    assert heard[0]["nonce"] == 2
    assert second.sync_status["transactions"]["rejected"] == 1


def test_notification_callbacks_hear_of_every_verdict(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    primary.execute("INSERT INTO contact (email, row_owner) VALUES ('taken', 77)")
    primary.commit()
    verdicts, syncs = [], []
    device.register_function("transaction_notification", 2, lambda nonce, status: verdicts.append((nonce, status)))
    device.register_function("sync_notification", 0, lambda: syncs.append(1))
    device.execute("INSERT INTO contact (email) VALUES ('free')")
    device.commit()
    device.execute("INSERT INTO contact (email) VALUES ('taken')")
    device.commit()
    wait_for(lambda: len(verdicts) == 2)
    assert sorted(verdicts) == [(1, "accepted"), (2, "rejected")]
    primary.execute("INSERT INTO contact (email, row_owner) VALUES ('news', '*')")
    primary.commit()
    wait_for(lambda: syncs)


def test_foreign_keys_are_judged_by_the_primary(world):
    primary = world.primary(SCHEMA, accounts=True)
    ada, ben = world.device("ada", user="ada"), world.device("ben", user="ben")
    ada.execute("INSERT INTO contact (id, email) VALUES (5, 'x')")
    ada.execute("INSERT INTO visit (contact) VALUES (5)")
    ada.commit()
    assert ada.wait_synced(10)
    # SQLite does not enforce foreign keys unless asked, so ben's device takes it; the primary does not
    ben.execute("INSERT INTO visit (contact) VALUES (5)")
    ben.commit()
    assert ben.wait_synced(10)
    (reason,) = reasons(ben)
    assert reason["code"] == "constraint"
    assert reason["reason"].startswith("FOREIGN KEY constraint failed: visit.contact")
    assert rows(ben, "SELECT * FROM visit") == []
    ada.execute("DELETE FROM contact")
    ada.commit()
    assert ada.wait_synced(10)
    assert len(reasons(ada)) == 1
    assert len(rows(ada, "SELECT * FROM contact")) == len(rows(primary, "SELECT * FROM visit")) == 1


def test_edits_of_one_row_merge_column_by_column(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, row_owner);", accounts=True)
    one, two = world.device("one", user="ada"), world.device("two", user="ada")
    one.execute("INSERT INTO t (id, a, b) VALUES (1, 'a', 'b')")
    one.commit()
    wait_for(lambda: rows(two, "SELECT * FROM t"))
    world.close(one, two)
    for name, change in (("one", "a = 'one'"), ("two", "b = 'two'")):
        offline = octodb.connect(f"file:{world.folder}/{name}.db?node=secondary")
        offline.execute(f"UPDATE t SET {change}")
        offline.commit()
        offline.close()
    one, two = world.device("one"), world.device("two")
    assert one.wait_synced(10)
    assert two.wait_synced(10)
    for node in (one, two, primary):
        wait_for(lambda node=node: rows(node, "SELECT a, b FROM t") == [("one", "two")])


def test_a_change_of_a_rejected_row_is_rejected_with_it(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    primary.execute("INSERT INTO contact (email, row_owner) VALUES ('taken', 77)")
    primary.commit()
    world.close(device)
    device = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
    device.execute("INSERT INTO contact (email) VALUES ('taken')")
    device.commit()
    device.execute("UPDATE contact SET email = 'better'")
    device.commit()
    device.execute("INSERT INTO phone (number) VALUES ('1')")
    device.commit()
    device.close()
    device = world.device("device")
    assert device.wait_synced(10)
    assert [(reason["nonce"], reason["code"]) for reason in reasons(device)] == [(1, "constraint"), (2, "dependent")]
    assert rows(primary, "SELECT number FROM phone") == [("1",)]
