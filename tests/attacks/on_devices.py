"""A primary that means its devices harm: what it sends must not reach what is the device's own, nor end it."""

import os
from contextlib import contextmanager
from unittest import mock

import apsw

import octodb
from octodb.storage import apply, device_store, rebase, snapshot, staging
from octodb.storage.apply import Applier
from tests.attacks.arena import attack_list, changes
from tests.attacks.hostile_primary import TABLE, USER, HostilePrimary
from tests.attacks.on_rows import NO, any_table, together
from tests.integration.conftest import wait_for

ATTACKS, attack = attack_list()
LOCAL = """
CREATE TABLE local_notes (a);
INSERT INTO local_notes VALUES ('mine alone');
INSERT INTO t (id, a, row_owner) VALUES (50, 'not synced', NULL);
"""


def any_text():
    """A text that a primary sends is run as it is."""

    def run(db, sql):
        db.execute(sql)

    return together(*(mock.patch.object(module, "run_sent_schema", run) for module in (rebase, snapshot, staging)))


def any_rows():
    return together(
        *(mock.patch.object(one, "check_sent_rows", return_value=None) for one in (snapshot, staging, device_store))
    )


class Device:
    """A real device at a hostile primary."""

    def __init__(self, folder, primary):
        self.path = os.path.join(folder, f"device{len(os.listdir(folder))}.db")
        self.uri = f"file:{self.path}?node=secondary&connect={primary.address}"
        self.connection = octodb.connect(self.uri)

    def wait_until_it_said(self, what):
        wait_for(lambda: what(self.connection.sync_status))
        return self.connection.sync_status

    def rows(self, sql):
        db = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return db.execute(sql).fetchall()
        except apsw.SQLError:
            return []
        finally:
            db.close()


@contextmanager
def device_of(arena, **sends):
    """A device of a primary that sends these things, before it is ready."""
    primary = HostilePrimary(**sends)
    try:
        device = Device(arena.folder, primary)
        try:
            yield device, primary
            assert device.rows("PRAGMA integrity_check") == [("ok",)]
            assert device.connection.sync_status["state"]  # it lives
        finally:
            device.connection.close()
    finally:
        primary.close()


def refused_or_ready(status):
    return status["db_is_ready"] or status["state"] == "error"


def after_download(arena, check, *, entries=(), messages=()):
    """A device that is ready and has things of its own; then comes the harm. What ``check(device)`` finds."""
    with device_of(arena) as (device, primary):
        assert device.connection.wait_ready(10)
        device.connection.executescript(LOCAL)
        device.connection.commit()
        device.connection.execute("INSERT INTO t (id, a) VALUES (60, 'in the queue')")
        device.connection.commit()
        device.connection.close()
        primary.entries, primary.messages = list(entries), list(messages)
        device.connection = octodb.connect(device.uri)
        device.wait_until_it_said(
            lambda status: status["state"] == "error" or (entries and status["log"]["applied"] == 10 + len(entries))
        )
        return check(device)


def in_snapshot(arena, check, **sends):
    with device_of(arena, **sends) as (device, _):
        device.wait_until_it_said(refused_or_ready)
        return check(device)


def there(sql, got):
    return lambda device: got if device.rows(sql) else ""


def gone(sql, got):
    return lambda device: "" if device.rows(sql) else got


def another_database(arena):
    """A file of another application of the same user."""
    path = os.path.join(arena.folder, "another.db")
    db = apsw.Connection(path)
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    return path


def written(path):
    """Whether somebody wrote into it."""

    def check(_device):
        db = apsw.Connection(path)
        try:
            return "another database was written" if db.execute("SELECT 1 FROM theirs").fetchone() else ""
        finally:
            db.close()

    return check


@attack(any_text)
def attach_a_file_by_the_schema_of_a_download(arena):
    path = another_database(arena)
    texts = (TABLE, f"COMMIT; ATTACH '{path}' AS stolen; INSERT INTO stolen.theirs VALUES (1); BEGIN")
    return in_snapshot(arena, written(path), tables=texts)


@attack(any_text)
def attach_a_file_behind_a_schema(arena):
    path = another_database(arena)
    texts = (f"{TABLE}; COMMIT; ATTACH '{path}' AS stolen; INSERT INTO stolen.theirs VALUES (1); BEGIN",)
    return in_snapshot(arena, written(path), tables=texts)


@attack(any_text)
def copy_the_database_by_a_download(arena):
    stolen = os.path.join(arena.folder, "..", "copied.db")
    text = f"CREATE VIEW v AS SELECT 1; COMMIT; VACUUM INTO '{stolen}'; BEGIN"
    got = in_snapshot(arena, lambda device: "a file was made" if os.path.exists(stolen) else "", schema=(text,))
    if os.path.exists(stolen):
        os.unlink(stolen)
    return got


@attack(any_text)
def make_the_schema_writable(arena):
    text = "CREATE VIEW v AS SELECT 1; PRAGMA writable_schema = ON;"
    text += "UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 't'"
    return in_snapshot(arena, there("SELECT 1 FROM sqlite_schema WHERE sql LIKE '%) '", "written"), schema=(text,))


@attack(any_text)
def drop_the_queue(arena):
    check = gone("SELECT 1 FROM sqlite_schema WHERE name = '_octodb_rejected'", "gone")
    return in_snapshot(arena, check, schema=("DROP TABLE _octodb_rejected",))


@attack(any_text)
def drop_a_table_of_the_devices_own(arena):
    check = gone("SELECT 1 FROM local_notes", "the local table is gone")
    return after_download(arena, check, entries=("DROP TABLE local_notes",))


@attack(any_text)
def watch_what_is_the_devices_own_by_a_trigger(arena):
    check = there("SELECT 1 FROM sqlite_schema WHERE name = 'spy'", "it is there")
    text = "CREATE TRIGGER spy AFTER INSERT ON t BEGIN UPDATE t SET a = (SELECT max(a) FROM local_notes); END"
    return after_download(arena, check, entries=(text,))


@attack(any_text)
def throw_the_queue_away_by_a_trigger(arena):
    check = there("SELECT 1 FROM sqlite_schema WHERE name = 'eater'", "it is there")
    text = "CREATE TRIGGER eater AFTER INSERT ON t BEGIN DELETE FROM _octodb_outbox; END"
    return after_download(arena, check, entries=(text,))


@attack(any_rows)
def fill_the_meta_table_by_a_download(arena):
    check = there("SELECT 1 FROM _octodb_meta WHERE key = 'planted'", "planted")
    return in_snapshot(arena, check, chunks=[("_octodb_meta", ["key", "value"], [["planted", 1]])])


@attack(any_rows)
def plant_local_rows_by_a_download(arena):
    check = there("SELECT 1 FROM t WHERE row_owner IS NULL", "planted")
    return in_snapshot(arena, check, chunks=[("t", ["id", "a", "row_owner"], [[1, "planted", None]])])


@attack(any_rows)
def plant_rows_of_another_user_by_a_download(arena):
    check = there("SELECT 1 FROM t WHERE row_owner = 8", "planted")
    return in_snapshot(arena, check, chunks=[("t", ["id", "a", "row_owner"], [[1, "planted", USER + 1]])])


def whoever_on_devices():
    execute = Applier._execute
    return together(
        mock.patch.object(apply, "_check_owner", return_value=None),
        mock.patch.object(
            Applier, "_execute", lambda self, shape, op, old, new, owner: execute(self, shape, op, old, new, None)
        ),
    )


@attack(whoever_on_devices)
def change_a_local_row_by_an_entry(arena):
    check = gone("SELECT 1 FROM t WHERE a = 'not synced'", "it was changed")
    entry = changes(("UPDATE", "t", (50, "not synced", "*"), (NO, "changed", "*")))
    return after_download(arena, check, entries=(entry,))


@attack(any_table)
def change_the_meta_table_by_an_entry(arena):
    check = there("SELECT 1 FROM _octodb_meta WHERE key = 'planted'", "planted")
    return after_download(arena, check, entries=(changes(("INSERT", "_octodb_meta", (), ("planted", 1))),))
