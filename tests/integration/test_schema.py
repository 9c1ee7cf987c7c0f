"""The schema is made on the primary and replicated in order with the rows around it (P10)."""

import sqlite3

import pytest

import octodb
from tests.integration.conftest import rows, wait_for

LISTED = "SELECT type, name FROM sqlite_schema WHERE name NOT GLOB '_octodb_*' AND name NOT GLOB 'sqlite_*'"


def synced(*devices):
    for device in devices:
        assert device.wait_synced(15), device.sync_status


def test_objects_are_made_changed_and_dropped_everywhere(world):
    primary = world.primary()
    device = world.device("device")
    for step, expected in (
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)", {("table", "t")}),
        ("CREATE INDEX i ON t (a)", {("table", "t"), ("index", "i")}),
        ("CREATE VIEW v AS SELECT a FROM t", {("table", "t"), ("index", "i"), ("view", "v")}),
        ("DROP INDEX i", {("table", "t"), ("view", "v")}),
        ("DROP VIEW v", {("table", "t")}),
        ("ALTER TABLE t RENAME TO u", {("table", "u")}),
        ("ALTER TABLE u RENAME COLUMN a TO b", {("table", "u")}),
        ("CREATE TABLE copied AS SELECT 1 AS x", {("table", "u"), ("table", "copied")}),
        ("DROP TABLE u", {("table", "copied")}),
    ):
        primary.execute(step)
        primary.commit()
        synced(device)
        assert set(device.execute(LISTED)) == expected == set(primary.execute(LISTED)), step


def test_an_open_connection_writes_on_after_its_table_was_dropped(world):
    """Its guards are TEMP triggers on a table that is gone, and SQLite does not find them to drop them."""
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner); CREATE TABLE u (id INTEGER PRIMARY KEY, a, row_owner);"
    )
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES (1)")
    device.commit()
    synced(device)
    for step in ("DROP TABLE t", "CREATE TABLE t (other INTEGER PRIMARY KEY)", "DROP TABLE t"):
        primary.execute(step)
        primary.commit()
        synced(device)
        device.execute("INSERT INTO u (a) VALUES (?)", (step,))
        device.execute("UPDATE u SET a = a")
        device.commit()
    synced(device)
    assert len(rows(primary, "SELECT * FROM u")) == 3


def test_rows_and_schema_of_one_transaction_arrive_in_order_and_at_once(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    primary.execute("BEGIN")
    primary.execute("INSERT INTO t (a, row_owner) VALUES (1, '*')")
    primary.execute("ALTER TABLE t ADD COLUMN b DEFAULT 'old'")
    primary.execute("INSERT INTO t (a, b, row_owner) VALUES (2, 'new', '*')")
    primary.execute("ALTER TABLE t DROP COLUMN a")
    primary.execute("SAVEPOINT s")
    primary.execute("CREATE TABLE never (x)")
    primary.execute("INSERT INTO t (b, row_owner) VALUES ('never', '*')")
    primary.execute("ROLLBACK TO s")
    primary.execute("INSERT INTO t (b, row_owner) VALUES ('last', '*')")
    primary.commit()
    synced(device)
    assert rows(device, "SELECT b FROM t") == [("last",), ("new",), ("old",)]
    assert set(device.execute(LISTED)) == {("table", "t")}


def test_an_offline_device_with_a_full_outbox_meets_a_new_schema(world):
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE TABLE gone (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE TABLE same (id INTEGER PRIMARY KEY, a, row_owner);"
    )
    device = world.device("device")
    world.close(device)
    device = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
    for table in ("t", "gone", "same"):
        device.execute(f"INSERT INTO {table} (a) VALUES ('offline')")
        device.commit()
    device.close()
    primary.executescript(
        "ALTER TABLE t ADD COLUMN b DEFAULT 5; DROP TABLE gone; ALTER TABLE same RENAME COLUMN a TO c;"
    )
    device = world.device("device")
    synced(device)
    assert rows(device, "SELECT a, b FROM t") == rows(primary, "SELECT a, b FROM t") == [("offline", 5)]
    # a column was renamed under it and a table is gone: those are refused whole, and say why
    assert rows(device, "SELECT * FROM same") == rows(primary, "SELECT * FROM same") == []
    refused = device.execute("PRAGMA rejected_transactions").fetchall()
    assert [(row[0], row[1], row[3]) for row in refused] == [(2, "schema", "gone"), (3, "schema", "same")]


def test_a_trigger_on_a_device_makes_rows_of_its_user(world):
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE TABLE history (id INTEGER PRIMARY KEY, what, row_owner);"
        "CREATE TRIGGER note AFTER UPDATE ON t BEGIN"
        " INSERT INTO history (what) VALUES (OLD.a || ' to ' || NEW.a); END;",
        accounts=True,
    )
    phone, laptop = world.device("phone", user="ada"), world.device("laptop", user="ada")
    phone.execute("INSERT INTO t (a) VALUES ('x')")
    phone.execute("UPDATE t SET a = 'y'")
    phone.commit()
    synced(phone)
    wait_for(lambda: rows(laptop, "SELECT what FROM history") == [("x to y",)])
    (row,) = rows(primary, "SELECT id, row_owner FROM history")
    assert (row[0] >> 32, row[1]) == (phone.sync_status["node_id"], phone.sync_status["user_id"])


def test_devices_make_temp_and_local_objects_only(world):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    for statement in (
        "CREATE TABLE u (a)",
        "CREATE INDEX i ON t (a)",
        "DROP TABLE t",
        "ALTER TABLE t ADD COLUMN b",
        "CREATE UNIQUE INDEX local_i ON t (a)",
    ):
        with pytest.raises(octodb.Error) as caught:
            device.execute(statement)
        assert caught.value.hint
        device.rollback()
    device.execute("CREATE TABLE local_draft (id INTEGER PRIMARY KEY, text)")
    device.execute("CREATE INDEX local_i ON t (a)")
    device.execute("CREATE TEMP TABLE scratch (a)")
    device.execute("INSERT INTO local_draft (text) VALUES ('x')")
    device.execute("INSERT INTO scratch VALUES (1)")
    device.commit()
    assert device.sync_status["transactions"]["last_nonce"] == 0


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("CREATE TABLE u (a, row_owner)", "PRIMARY KEY"),
        ("CREATE TABLE u (a TEXT PRIMARY KEY, row_owner)", "NULL"),
        ("CREATE TABLE u (id INTEGER PRIMARY KEY, a UNIQUE ON CONFLICT REPLACE, row_owner)", "ON CONFLICT"),
        ("ALTER TABLE t RENAME COLUMN row_owner TO owner", "row_owner"),
        ("ALTER TABLE t DROP COLUMN row_owner", "row_owner"),
        ("ALTER TABLE t RENAME TO private_t", "private_"),
        ("ALTER TABLE plain ADD COLUMN row_owner", "PRIMARY KEY"),
        ("CREATE TABLE _octodb_x (a)", "octodb's own"),
        ("DELETE FROM _octodb_log", "octodb's own"),
        ("PRAGMA journal_mode = DELETE", "journal_mode"),
        ("PRAGMA writable_schema = ON", "writable_schema"),
    ],
)
def test_what_cannot_be_synced_is_refused_when_it_is_made(world, statement, word):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner); CREATE TABLE plain (a);")
    before = set(primary.execute("SELECT name, sql FROM sqlite_schema"))
    with pytest.raises(octodb.Error, match=word):
        primary.execute(statement)
    primary.rollback()
    assert set(primary.execute("SELECT name, sql FROM sqlite_schema")) == before
    primary.execute("INSERT INTO t (a) VALUES (1)")
    primary.commit()


def test_a_table_is_rebuilt_as_orms_do_it_without_losing_owners(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);", accounts=True)
    devices = {name: world.device(name, user=name) for name in ("ada", "ben")}
    for name, device in devices.items():
        device.execute("INSERT INTO t (a) VALUES (?)", (name,))
        device.commit()
    synced(*devices.values())
    primary.executescript(
        "BEGIN; CREATE TABLE new (id INTEGER PRIMARY KEY, a TEXT NOT NULL, b, row_owner);"
        " INSERT INTO new (id, a, row_owner) SELECT id, a, row_owner FROM t;"
        " DROP TABLE t; ALTER TABLE new RENAME TO t; COMMIT;"
    )
    for name, device in devices.items():
        synced(device)
        assert rows(device, "SELECT a, b FROM t") == [(name, None)]
        device.execute("UPDATE t SET b = 'new'")
        device.commit()
        synced(device)
    assert rows(primary, "SELECT a, b FROM t") == [("ada", "new"), ("ben", "new")]


def test_a_table_made_again_under_its_old_name(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES ('old')")
    device.commit()
    synced(device)
    primary.execute("DROP TABLE t")
    primary.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, b, row_owner)")
    primary.commit()
    synced(device)
    device.execute("INSERT INTO t (b) VALUES ('new')")
    device.commit()
    synced(device)
    assert rows(device, "SELECT b FROM t") == rows(primary, "SELECT b FROM t") == [("new",)]


def test_a_constraint_made_while_a_device_was_offline(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    world.close(device)
    device = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
    for _ in range(2):
        device.execute("INSERT INTO t (a) VALUES ('same')")
        device.commit()
    device.close()
    primary.execute("CREATE UNIQUE INDEX u ON t (a)")
    primary.commit()
    device = world.device("device")
    synced(device)
    assert rows(device, "SELECT a FROM t") == rows(primary, "SELECT a FROM t") == [("same",)]
    assert [row[:2] for row in device.execute("PRAGMA rejected_transactions")] == [(2, "constraint")]


@pytest.mark.parametrize("table", ["CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)", "CREATE TABLE t (id, a)"])
def test_local_rows_never_hold_up_the_schema(world, table):
    primary = world.primary(f"{table};")
    device = world.device("device")
    owner = ", row_owner" if "row_owner" in table else ""
    null = ", NULL" if owner else ""
    for n in (1, 2):
        device.execute(f"INSERT INTO t (id, a{owner}) VALUES ({n}, 'same'{null})")
    device.commit()
    primary.execute("CREATE UNIQUE INDEX u ON t (a)")
    primary.execute("CREATE TABLE after (a)")
    primary.commit()
    synced(device)
    assert set(device.execute(LISTED)) == set(primary.execute(LISTED))
    kept = device.execute("SELECT count(*) FROM t").fetchone()[0]
    displaced = device.execute("SELECT count(*) FROM _octodb_displaced").fetchone()[0]
    assert (kept, displaced) in {(1, 1), (0, 2)}


def test_local_objects_survive_a_schema_change(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    for statement in (
        "CREATE TABLE local_seen (what)",
        "CREATE INDEX local_i ON t (a)",
        "CREATE VIEW local_v AS SELECT a FROM t",
        "CREATE TRIGGER local_tr AFTER INSERT ON t BEGIN INSERT INTO local_seen VALUES (NEW.id); END",
    ):
        device.execute(statement)
    device.execute("INSERT INTO t (a) VALUES (1)")
    device.commit()
    synced(device)
    primary.execute("ALTER TABLE t ADD COLUMN b")
    primary.execute("ALTER TABLE t RENAME COLUMN a TO c")
    primary.commit()
    synced(device)
    device.execute("INSERT INTO t (c) VALUES (2)")
    device.commit()
    synced(device)
    assert rows(device, "SELECT count(*) FROM local_seen") == [(2,)]
    names = {name for _, name in device.execute(LISTED)}
    assert {"local_seen", "local_i", "local_v", "local_tr"} <= names
    assert len(rows(primary, "SELECT * FROM t")) == 2


def test_an_insert_in_a_trigger_that_is_older_than_its_table(world):
    """Row id and owner are filled in from when the table's rows have owners, in a database that is older too."""
    with sqlite3.connect(f"{world.folder}/primary.db") as plain:
        plain.execute("CREATE TABLE au (id INTEGER PRIMARY KEY, msg, row_owner)")
        plain.execute("CREATE TABLE ev (id INTEGER PRIMARY KEY, msg, row_owner)")
        plain.execute("CREATE TRIGGER old AFTER INSERT ON ev BEGIN INSERT INTO au (msg) VALUES ('old'); END")
    plain.close()
    primary = world.primary(
        "CREATE TABLE later (id INTEGER PRIMARY KEY, msg);"
        "CREATE TRIGGER b AFTER INSERT ON ev BEGIN INSERT INTO later (msg) SELECT NEW.msg; END;"
        "CREATE TRIGGER c AFTER INSERT ON ev BEGIN INSERT INTO last (msg) VALUES (NEW.msg); END;"
        "ALTER TABLE later ADD COLUMN row_owner;"
    )
    device = world.device("device")
    primary.execute("CREATE TABLE last (id INTEGER PRIMARY KEY, msg, row_owner)")
    primary.commit()
    synced(device)
    device.execute("INSERT INTO ev (msg) VALUES ('x')")
    device.commit()
    synced(device)
    user = device.sync_status["user_id"]
    for table in ("au", "later", "last"):
        (row,) = rows(primary, f"SELECT id >> 32, row_owner FROM {table}")
        assert row == (user, user), table
        assert rows(device, f"SELECT * FROM {table}") == rows(primary, f"SELECT * FROM {table}")


def test_what_names_something_private_or_local_is_private_itself(world):
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE TABLE private_p (x); CREATE VIEW v1 AS SELECT x FROM private_p; CREATE VIEW v2 AS SELECT x FROM v1;"
        "CREATE TABLE local_count (n); CREATE VIEW counted AS SELECT n FROM local_count;"
        "CREATE TRIGGER counts AFTER INSERT ON t BEGIN UPDATE local_count SET n = n + 1; END;"
    )
    device = world.device("device")
    primary.execute("CREATE VIEW v3 AS SELECT x FROM v2")
    primary.execute("ALTER TABLE t RENAME COLUMN a TO b")
    primary.execute("DROP VIEW v3")
    primary.commit()
    device.execute("INSERT INTO t (b) VALUES (1)")
    device.commit()
    synced(device)
    assert {name for _, name in device.execute(LISTED)} == {"t"}
    assert rows(primary, "SELECT b FROM t") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE bad (id INTEGER PRIMARY KEY, a CHECK (is_fine(a)), row_owner)",
        "CREATE TABLE bad (id INTEGER PRIMARY KEY, a TEXT UNIQUE COLLATE backwards, row_owner)",
        "CREATE INDEX bad ON t (a COLLATE backwards)",
        "ALTER TABLE t ADD COLUMN bad CHECK (is_fine(bad))",
        "ALTER TABLE plain ADD COLUMN row_owner DEFAULT '*'",
        "CREATE TABLE bad (id INTEGER PRIMARY KEY, row_owner AS ('*'))",
    ],
)
def test_what_other_nodes_could_not_have_is_refused_when_it_is_made(world, statement):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner); CREATE TABLE plain (id, a);")
    primary.create_function("is_fine", 1, lambda value: 1, deterministic=True)
    primary.create_collation("backwards", lambda a, b: (a < b) - (a > b))
    device = world.device("device")
    with pytest.raises(octodb.NotSupportedError) as caught:
        primary.execute(statement)
    assert caught.value.hint
    primary.execute("CREATE TABLE good (id INTEGER PRIMARY KEY, a, row_owner)")
    primary.commit()
    synced(device)
    assert set(device.execute(LISTED)) == set(primary.execute(LISTED))


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
def test_dropping_a_table_with_foreign_keys_on_reaches_the_rows_that_refer_to_it(world, action):
    primary = world.primary(
        "CREATE TABLE p (id INTEGER PRIMARY KEY, row_owner);"
        f"CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE {action}, row_owner);"
    )
    device = world.device("device")
    primary.execute("PRAGMA foreign_keys = ON")
    primary.execute("INSERT INTO p (id, row_owner) VALUES (1, '*')")
    primary.execute("INSERT INTO c (id, p, row_owner) VALUES (1, 1, '*')")
    primary.commit()
    synced(device)
    primary.execute("DROP TABLE p")
    primary.commit()
    synced(device)
    assert rows(device, "SELECT * FROM c") == rows(primary, "SELECT * FROM c")
    assert rows(primary, "SELECT p FROM c") == ([] if action == "CASCADE" else [(None,)])


def test_a_create_that_changes_nothing_does_not_travel(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    world.close(device)
    device = world.device("device", connect="tcp://127.0.0.1:1")
    device.execute("INSERT INTO t (a) VALUES ('offline')")
    device.commit()
    world.close(device)
    primary.execute("INSERT INTO t (a, row_owner) VALUES (1, '*')")
    primary.commit()
    primary.execute("VACUUM")
    primary.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a, row_owner)")
    primary.commit()
    device = world.device("device")
    synced(device)
    assert device.execute("PRAGMA rejected_transactions").fetchall() == []
    assert len(rows(primary, "SELECT * FROM t")) == 2


def test_row_ids_are_not_used_again_after_a_table_is_renamed(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);")
    device = world.device("device")
    used, of_primary = (node.execute("INSERT INTO t (a) VALUES (1)").lastrowid for node in (device, primary))
    for node in (device, primary):
        node.commit()
        node.execute("DELETE FROM t")
        node.commit()
    primary.execute("ALTER TABLE t RENAME TO u")
    primary.commit()
    synced(device)
    assert device.execute("INSERT INTO u (a) VALUES (2)").lastrowid == used + 1
    assert primary.execute("INSERT INTO u (a) VALUES (2)").lastrowid == of_primary + 1
    device.commit()
    primary.commit()


def test_a_full_text_index_holds_what_was_synced(world):
    primary = world.primary(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
        "CREATE VIRTUAL TABLE words USING fts5 (a, content = 't', content_rowid = 'id');"
        "CREATE TRIGGER t_words AFTER INSERT ON t BEGIN"
        " INSERT INTO words (rowid, a) VALUES (NEW.id, NEW.a); END;"
    )
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES ('hello from a device')")
    device.commit()
    primary.execute("INSERT INTO t (a, row_owner) VALUES ('hello from the primary', '*')")
    primary.commit()
    synced(device)
    for node in (primary, device):
        assert len(rows(node, "SELECT a FROM words WHERE words MATCH 'hello'")) == 2
