"""Whose rows go where (contract.md §5), with real nodes over TCP."""

import pytest

import octodb
from octodb.wire.messages import Entries, encode_message
from tests.integration.conftest import rows, wait_for
from tests.integration.raw_device import RawDevice

SCHEMA = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, row_owner);"


def names(connection):
    return {row[0] for row in connection.execute("SELECT text FROM note")}


@pytest.fixture
def family(world):
    """A primary, two devices of ada and one of ben."""
    primary = world.primary(SCHEMA, accounts=True)
    return (
        primary,
        world.device("phone", user="ada"),
        world.device("laptop", user="ada"),
        world.device("tablet", user="ben"),
    )


def test_a_users_row_reaches_their_devices_and_the_primary_only(family):
    primary, phone, laptop, tablet = family
    phone.execute("INSERT INTO note (text) VALUES ('mine')")
    phone.commit()
    wait_for(lambda: names(laptop) == {"mine"})
    assert names(primary) == {"mine"}
    assert tablet.wait_synced(10)
    assert names(tablet) == set()
    assert rows(laptop, "SELECT row_owner FROM note") == [(phone.sync_status["user_id"],)]


def test_global_rows_reach_everybody_and_devices_cannot_touch_them(family):
    primary, phone, _, tablet = family
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('for all', '*')")
    primary.commit()
    wait_for(lambda: names(phone) == names(tablet) == {"for all"})
    assert phone.execute("UPDATE note SET text = 'changed'").rowcount == 0
    assert phone.execute("DELETE FROM note").rowcount == 0
    phone.commit()
    assert names(phone) == {"for all"}


@pytest.mark.parametrize("owner", ["'*'", "1", "this_user() + 1", "'nobody'"])
def test_a_device_cannot_make_rows_for_others(family, owner):
    _, phone, _, _ = family
    with pytest.raises(octodb.OwnershipError) as caught:
        phone.execute(f"INSERT INTO note (text, row_owner) VALUES ('x', {owner})")
    assert caught.value.hint
    phone.rollback()
    with pytest.raises(octodb.OwnershipError):
        phone.execute(f"INSERT INTO note (text, row_owner) SELECT 'x', {owner}")
    phone.rollback()
    assert names(phone) == set()


def test_local_rows_never_leave(family, world):
    primary, phone, laptop, _ = family
    phone.execute("INSERT INTO note (text, row_owner) VALUES ('only here', NULL), ('sent', this_user())")
    phone.commit()
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('primary only', NULL)")
    primary.commit()
    wait_for(lambda: names(laptop) == {"sent"})
    assert phone.wait_synced(10)
    assert names(phone) == {"only here", "sent"}
    assert names(primary) == {"primary only", "sent"}
    for path in world.folder.glob("primary.db*"):
        assert b"only here" not in path.read_bytes()


def test_no_byte_of_another_users_row_reaches_a_device(family, world):
    primary, phone, laptop, tablet = family
    phone.execute("INSERT INTO note (text) VALUES ('SECRETMARKER')")
    phone.commit()
    wait_for(lambda: names(laptop) == {"SECRETMARKER"})
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('after', '*')")
    primary.commit()
    wait_for(lambda: names(tablet) == {"after"})
    ben = world.device("tablet2", user="ben")
    assert names(ben) == {"after"}
    for name in ("tablet", "tablet2"):
        for path in world.folder.glob(f"{name}.db*"):
            assert b"SECRETMARKER" not in path.read_bytes(), path


def found_in(folder, name, marker):
    """Names of the files of one node (database, WAL, shared memory, status) that hold the bytes of ``marker``."""
    return [path.name for path in folder.glob(f"{name}.db*") if marker.encode() in path.read_bytes()]


def test_no_way_a_row_can_go_brings_its_bytes_to_a_strangers_device(world):
    """Changed, deleted, sent, of the primary alone, private, in the way of a rejected one: searched for as bytes.

    The stranger has three devices: one is online all the time, one catches up, one downloads everything later.
    """
    primary = world.primary(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, key TEXT UNIQUE, row_owner);"
        "CREATE TABLE private_note (id INTEGER PRIMARY KEY, text TEXT);",
        accounts=True,
    )
    phone, tablet = world.device("phone", user="ada"), world.device("tablet", user="ben")
    world.close(world.device("away", user="ben"))
    for statement in (
        "INSERT INTO note (text, key) VALUES ('MARKMADE', 'taken')",
        "UPDATE note SET text = 'MARKCHANGED'",
        "INSERT INTO note (text) VALUES ('MARKDELETED')",
        "DELETE FROM note WHERE text = 'MARKDELETED'",
    ):
        phone.execute(statement)
        phone.commit()
    assert phone.wait_synced(10)
    ada = phone.sync_status["user_id"]
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('MARKSENT', ?)", (ada,))
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('MARKLOCAL', NULL)")
    primary.execute("INSERT INTO private_note (text) VALUES ('MARKPRIVATE')")
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('for all', '*')")
    primary.commit()
    tablet.execute("INSERT INTO note (text, key) VALUES ('refused', 'taken')")
    tablet.commit()
    assert tablet.wait_synced(10)
    assert len(tablet.execute("PRAGMA rejected_transactions").fetchall()) == 1
    away, later = world.device("away"), world.device("later", user="ben")
    for device in (away, later):
        assert device.wait_synced(10)
    assert names(tablet) == names(away) == names(later) == {"for all"}
    assert phone.wait_synced(10)
    for marker in ("MARKMADE", "MARKCHANGED", "MARKDELETED", "MARKSENT"):
        assert found_in(world.folder, "phone", marker), "the search would find it"
    for marker in ("MARKMADE", "MARKCHANGED", "MARKDELETED", "MARKSENT", "MARKLOCAL", "MARKPRIVATE"):
        assert found_in(world.folder, "primary", marker), "the search would find it"
        for device in ("tablet", "away", "later"):
            assert found_in(world.folder, device, marker) == [], (device, marker)
    assert found_in(world.folder, "phone", "MARKLOCAL") == found_in(world.folder, "phone", "MARKPRIVATE") == []


def test_no_byte_of_another_users_row_is_on_the_wire(world):
    """A device refuses what is not its own, so that its file alone does not show what was sent to it."""
    primary = world.primary(SCHEMA)
    phone = world.device("phone")
    with RawDevice(world.address) as stranger:
        stranger.join()
        phone.execute("INSERT INTO note (text) VALUES ('WIREMADE')")
        phone.commit()
        assert phone.wait_synced(10)
        primary.execute("INSERT INTO note (text, row_owner) VALUES ('WIRESENT', ?)", (phone.sync_status["user_id"],))
        primary.execute("INSERT INTO note (text, row_owner) VALUES ('WIRELOCAL', NULL), ('for all', '*')")
        primary.commit()
        sent = b""
        while b"for all" not in sent:
            sent += encode_message(stranger.receive(Entries))
        assert b"WIRE" not in sent


def test_no_way_a_local_row_can_go_brings_its_bytes_to_the_primary(world):
    """Beside a row that is sent, changed, deleted, in a table without owners, of a rejected transaction."""
    primary = world.primary(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT, key TEXT UNIQUE, row_owner);"
        "CREATE TABLE setting (name TEXT PRIMARY KEY, value);"
        "INSERT INTO note (key) VALUES ('taken');"
    )
    device = world.device("device")
    device.execute("INSERT INTO note (text, row_owner) VALUES ('HEREMADE', NULL), ('sent', this_user())")
    device.execute("INSERT INTO setting VALUES ('x', 'HERESETTING')")
    device.commit()
    device.execute("UPDATE note SET text = text || 'HERECHANGED' WHERE row_owner IS NULL")
    device.execute("UPDATE note SET text = 'sent again' WHERE text = 'sent'")
    device.commit()
    device.execute("INSERT INTO note (text, row_owner) VALUES ('HEREREFUSED', NULL), ('x', this_user())")
    device.execute("INSERT INTO note (key) VALUES ('taken')")
    device.commit()
    device.execute("DELETE FROM note WHERE row_owner IS NULL")
    device.execute("INSERT INTO note (text) VALUES ('last')")
    device.commit()
    assert device.wait_synced(10), device.sync_status
    assert len(device.execute("PRAGMA rejected_transactions").fetchall()) == 1
    assert names(primary) == {None, "sent again", "last"}
    assert found_in(world.folder, "primary", "sent again"), "the search would find it"
    for marker in ("HEREMADE", "HERESETTING", "HERECHANGED", "HEREREFUSED"):
        assert found_in(world.folder, "device", marker), "the search would find it"
        assert found_in(world.folder, "primary", marker) == [], marker


def test_a_row_sent_to_one_user_waits_for_their_device_and_is_theirs(family, world):
    primary, phone, laptop, tablet = family
    user, uri = phone.sync_status["user_id"], world.device_uri("phone")
    world.close(phone)
    primary.execute("INSERT INTO note (text, row_owner) VALUES ('to ada', ?)", (user,))
    primary.commit()
    phone = octodb.connect(uri)
    world.open.append(phone)
    wait_for(lambda: names(phone) == {"to ada"})
    phone.execute("UPDATE note SET text = 'done'")
    phone.commit()
    wait_for(lambda: names(laptop) == names(primary) == {"done"})
    assert tablet.wait_synced(10)
    assert names(tablet) == set()


def test_owners_widen_only(family):
    primary, phone, laptop, tablet = family
    phone.execute("INSERT INTO note (text, row_owner) VALUES ('kept', NULL)")
    phone.commit()
    phone.execute("UPDATE note SET row_owner = this_user() WHERE text = 'kept'")
    phone.commit()
    wait_for(lambda: names(laptop) == {"kept"})
    for owner in ("NULL", "'*'", "1"):
        with pytest.raises(octodb.OwnershipError):
            phone.execute(f"UPDATE note SET row_owner = {owner}")
        phone.rollback()
    primary.execute("UPDATE note SET row_owner = '*'")
    primary.commit()
    wait_for(lambda: names(tablet) == {"kept"})
    wait_for(lambda: rows(phone, "SELECT row_owner FROM note") == [("*",)])
    for owner in ("NULL", "5"):
        with pytest.raises(octodb.OwnershipError):
            primary.execute(f"UPDATE note SET row_owner = {owner}")
        primary.rollback()


def test_replace_and_upsert_cannot_take_rows_of_others(family):
    primary, phone, _, _ = family
    primary.execute("INSERT INTO note (id, text, row_owner) VALUES (1, 'for all', '*')")
    primary.commit()
    wait_for(lambda: names(phone) == {"for all"})
    with pytest.raises(octodb.Error), phone:
        phone.execute("REPLACE INTO note (id, text) VALUES (1, 'stolen')")
    phone.execute("INSERT INTO note (id, text) VALUES (1, 'x') ON CONFLICT DO UPDATE SET text = 'stolen'")
    phone.commit()
    assert names(phone) == {"for all"}


def test_private_tables_and_their_views_stay_on_the_primary(world):
    primary = world.primary(
        SCHEMA
        + "CREATE TABLE private_log (id INTEGER PRIMARY KEY, text, row_owner);"
        + "CREATE VIEW audited AS SELECT * FROM private_log; CREATE VIEW titles AS SELECT text FROM note;"
        + "CREATE TRIGGER audit AFTER INSERT ON note BEGIN INSERT INTO private_log (text) VALUES (NEW.text); END;"
    )
    device = world.device("phone")
    objects = {name for (name,) in device.execute("SELECT name FROM sqlite_schema WHERE name NOT GLOB '_octodb_*'")}
    assert objects == {"note", "titles"}
    primary.execute("CREATE INDEX private_idx ON private_log (text)")
    primary.execute("CREATE TABLE plain (a)")
    primary.commit()
    wait_for(lambda: device.execute("SELECT 1 FROM sqlite_schema WHERE name = 'plain'").fetchone())
    assert not device.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE 'private%'").fetchone()


def test_tables_without_row_owner_hold_local_rows(world):
    primary = world.primary(SCHEMA + "CREATE TABLE setting (name TEXT PRIMARY KEY, value);")
    phone = world.device("phone")
    phone.execute("INSERT INTO setting VALUES ('volume', 7)")
    phone.commit()
    assert phone.sync_status["transactions"]["last_nonce"] == 0
    assert rows(primary, "SELECT * FROM setting") == []


def test_row_owner_added_to_a_filled_table_leaves_its_rows_local(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a); INSERT INTO t VALUES (1, 'old');")
    phone = world.device("phone")
    phone.execute("INSERT INTO t (id, a) VALUES (9, 'phone old')")
    phone.commit()
    primary.execute("ALTER TABLE t ADD COLUMN row_owner")
    primary.execute("INSERT INTO t (a, row_owner) VALUES ('new', '*')")
    primary.commit()
    wait_for(lambda: rows(phone, "SELECT a FROM t") == [("new",), ("phone old",)])
    assert rows(primary, "SELECT a, row_owner FROM t") == [("new", "*"), ("old", None)]


def test_row_ids_are_in_the_nodes_range_and_lastrowid_tells_them(family):
    _, phone, laptop, _ = family
    for device in (phone, laptop):
        cursor = device.execute("INSERT INTO note (text) VALUES ('x')")
        assert cursor.lastrowid >> 32 == device.sync_status["node_id"]
        (returned,) = device.execute("INSERT INTO note (text) VALUES ('y') RETURNING id").fetchone()
        assert returned == cursor.lastrowid + 1
        device.commit()


def test_a_deleted_row_id_is_never_used_again(family):
    _, phone, _, _ = family
    first = phone.execute("INSERT INTO note (text) VALUES ('x')").lastrowid
    phone.commit()
    phone.execute("DELETE FROM note")
    phone.commit()
    assert phone.execute("INSERT INTO note (text) VALUES ('y')").lastrowid == first + 1


def test_a_generated_row_id_is_never_one_that_was_given_by_hand(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE, row_owner);")
    device = world.device("device")
    first = device.execute("INSERT INTO t (a) VALUES ('generated')").lastrowid
    device.execute("INSERT INTO t (id, a) VALUES (?, 'by hand')", (first + 1,))
    assert device.execute("REPLACE INTO t (a) VALUES ('next')").lastrowid == first + 2
    mixed = "INSERT INTO t (id, a) VALUES (NULL, 'x'), (?, 'y'), (NULL, 'z') RETURNING id - ?"
    assert [row[0] for row in device.execute(mixed, (first + 10, first))] == [3, 10, 4]
    device.execute("UPDATE t SET id = id + 100 WHERE a = 'y'")
    assert device.execute("INSERT OR IGNORE INTO t (a) VALUES ('last')").lastrowid == first + 111
    copied = device.execute("INSERT INTO t (id, a) SELECT NULL, a || '!' FROM t RETURNING id - ?", (first,)).fetchall()
    assert [row[0] for row in copied] == [112 + n for n in range(7)]
    device.commit()
    assert device.wait_synced(10)
    assert rows(device, "SELECT * FROM t") == rows(primary, "SELECT * FROM t")
    assert len(rows(primary, "SELECT * FROM t")) == 14


def test_an_owner_may_be_part_of_the_key(world):
    primary = world.primary("CREATE TABLE s (row_owner NOT NULL, k NOT NULL, v, PRIMARY KEY (row_owner, k));")
    device = world.device("device")
    device.execute("INSERT INTO s (k, v) VALUES ('colour', 'red')")
    primary.execute("INSERT INTO s (row_owner, k, v) VALUES ('*', 'colour', 'grey')")
    device.commit()
    primary.commit()
    assert device.wait_synced(10)
    device.execute("UPDATE s SET v = 'blue' WHERE k = 'colour'")
    primary.execute("UPDATE s SET v = 'white' WHERE row_owner = '*'")
    device.commit()
    primary.commit()
    assert device.wait_synced(10)
    everything = "SELECT quote(row_owner), k, v FROM s"
    assert rows(device, everything) == rows(primary, everything)
    assert rows(device, "SELECT v FROM s") == [("blue",), ("white",)]


@pytest.mark.parametrize("statement", ["UPDATE t SET row_owner = '9'", "INSERT INTO source (who) VALUES ('9')"])
def test_an_owner_that_is_a_text_is_refused_where_it_would_be_nobodys(world, statement):
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner); CREATE TABLE source (who TEXT);"
        "CREATE TRIGGER tr AFTER INSERT ON source BEGIN INSERT INTO t (row_owner) VALUES (NEW.who); END;"
        "INSERT INTO t (a, row_owner) VALUES (1, NULL)"
    )
    primary.execute(statement)
    with pytest.raises(octodb.OwnershipError, match="text") as caught:
        primary.commit()
    assert "CAST" in caught.value.hint
    primary.rollback()


def test_executemany_names_the_owner_as_the_reason_too(world):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES (1)")
    with pytest.raises(octodb.OwnershipError):
        device.executemany("UPDATE t SET row_owner = ?", [("*",)])
    device.rollback()


def test_a_table_is_what_its_name_means_after_a_temporary_one_is_gone(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    insert = "INSERT INTO t (a) VALUES ('x')"
    for statement in ("CREATE TEMP TABLE t (id INTEGER PRIMARY KEY, a)", insert, "DROP TABLE t", insert):
        device.execute(statement)
    device.commit()
    assert device.wait_synced(10)
    assert rows(primary, "SELECT a, row_owner FROM t") == [("x", device.sync_status["user_id"])]


def test_our_tables_are_not_for_applications_however_they_are_named(world):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    for statement in (
        "DELETE FROM '_octodb_outbox'",
        "UPDATE OR IGNORE '_octodb_outbox' SET nonce = 1",
        "INSERT INTO main.'_octodb_ids' VALUES ('t', 1)",
        "DROP TRIGGER '_octodb_guard_0_update'",
    ):
        with pytest.raises(octodb.OperationalError, match="octodb's own"):
            device.execute(statement)
    device.execute("INSERT INTO t (a) VALUES ('_octodb_outbox')")
    device.commit()


@pytest.mark.parametrize(
    "gone",
    ["DELETE FROM t WHERE a = 2", "DELETE FROM t",
     "REPLACE INTO t (id, a) SELECT max(id) - 100, 9 FROM t; DELETE FROM t", "UPDATE t SET id = id - 1000"],
)  # fmt: skip
def test_a_row_id_is_not_used_again_in_the_transaction_in_which_its_row_goes(world, gone):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)")
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES (1), (2)")
    device.commit()
    highest = device.execute("SELECT max(id) FROM t").fetchone()[0]
    for statement in gone.split(";"):
        device.execute(statement)
    device.execute("INSERT INTO t (a, row_owner) VALUES (3, NULL)")
    assert device.execute("SELECT id FROM t WHERE a = 3").fetchone()[0] > highest
    device.execute("DELETE FROM t WHERE a = 3")
    device.execute("INSERT INTO t (a) VALUES (4)")
    device.commit()
    assert device.execute("SELECT id FROM t WHERE a = 4").fetchone()[0] == highest + 2
    assert device.wait_synced(10)
