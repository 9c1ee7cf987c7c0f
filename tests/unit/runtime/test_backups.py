"""Backups of nodes that are open, what is found in them, and nodes made from them."""

import contextlib
import os
import pathlib
import shutil
import stat

import apsw
import pytest

import octodb
from octodb.model.identities import FORMAT_NUMBER, PROVISIONAL_ID_MIN, NodeRecord, Role
from octodb.runtime.engine_lock import EngineLock
from octodb.storage.backups import IDENTITIES_SKIPPED, ROW_IDS_SKIPPED
from octodb.storage.meta import LogTables, Meta, NodeTable
from tests.fixtures import dumps

FORMAT_1 = pathlib.Path(__file__).parents[2] / "fixtures" / "format1"
SCHEMA = """
CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT, row_owner);
CREATE TABLE private_note (text);
CREATE INDEX task_by_title ON task (title);
INSERT INTO task (title, row_owner) VALUES ('everybody''s', '*');
INSERT INTO private_note VALUES ('secret');
"""


@pytest.fixture
def primary(tmp_path):
    """A primary that is open, with a log of a few entries."""
    node = octodb.connect(f"file:{tmp_path}/primary.db?node=primary")
    node.executescript(SCHEMA)
    for n in range(5):
        node.execute("INSERT INTO task (title, row_owner) VALUES (?, ?)", (f"task {n}", 1 + n % 2))
        node.commit()
    yield node
    node.close()


@pytest.fixture
def backup(primary, tmp_path):
    """A backup of it."""
    octodb.backup(tmp_path / "primary.db", tmp_path / "backup.db")
    return tmp_path / "backup.db"


@contextlib.contextmanager
def opened(path):
    with contextlib.closing(apsw.Connection(str(path))) as db:
        yield db


def dump(path):
    with opened(path) as db:
        return dumps.dump(db)


def values(path):
    with opened(path) as db:
        return Meta(db).get_all()


def names(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith("primary.db")}


# --- taking one ------------------------------------------------------------------------------------------


def test_a_backup_is_all_of_the_database(primary, tmp_path):
    report = octodb.backup(f"file:{tmp_path}/primary.db?node=primary", tmp_path / "backup.db")
    assert dump(tmp_path / "backup.db") == dump(tmp_path / "primary.db")
    assert names(tmp_path) == {"backup.db"}
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600
    assert report.to_dict() == {
        "path": f"{tmp_path}/backup.db",
        "role": "primary",
        "format": FORMAT_NUMBER,
        "bytes": (tmp_path / "backup.db").stat().st_size,
        "head": primary.execute("SELECT max(seq) FROM _octodb_log").fetchone()[0],
        "entries": primary.execute("SELECT count(*) FROM _octodb_log").fetchone()[0],
        "epoch": values(tmp_path / "primary.db")["epoch"].hex(),
        "nodes": 1,
        "pending": 0,
        "rejected": 0,
        "unchecked": [],
        "set_aside": "",
    }
    assert report.entries > 5


def test_an_open_transaction_is_not_in_it(primary, tmp_path):
    primary.execute("INSERT INTO task (title) VALUES ('not committed')")
    octodb.backup(tmp_path / "primary.db", tmp_path / "backup.db")
    primary.commit()
    with opened(tmp_path / "backup.db") as db:
        assert db.execute("SELECT count(*) FROM task WHERE title = 'not committed'").get == 0


def test_progress_is_told_to_the_end(primary, tmp_path):
    primary.execute("CREATE TABLE filler (data)")
    primary.execute("INSERT INTO filler VALUES (zeroblob(20000000))")
    primary.commit()
    told = []
    octodb.backup(
        tmp_path / "primary.db", tmp_path / "backup.db", progress=lambda done, total: told.append((done, total))
    )
    assert len(told) > 3
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 4000


def test_one_that_is_interrupted_leaves_nothing(primary, tmp_path):
    def interrupt(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        octodb.backup(tmp_path / "primary.db", tmp_path / "backup.db", progress=interrupt)
    assert names(tmp_path) == set()


def test_nothing_is_overwritten(primary, tmp_path):
    for kind in ("file", "folder", "dangling link"):
        target = tmp_path / kind
        if kind == "file":
            target.write_text("mine")
        elif kind == "folder":
            target.mkdir()
        else:
            target.symlink_to(tmp_path / "nowhere")
        with pytest.raises(octodb.ConfigError, match="exists already"):
            octodb.backup(tmp_path / "primary.db", target)
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == {"file", "folder", "dangling link"}


def test_a_name_that_is_taken_while_the_copy_is_made_is_left_alone(primary, tmp_path):
    with pytest.raises(octodb.ConfigError, match="exists already"):
        octodb.backup(
            tmp_path / "primary.db",
            tmp_path / "backup.db",
            progress=lambda *_: (tmp_path / "backup.db").write_text("x"),
        )
    assert (tmp_path / "backup.db").read_text() == "x"
    assert names(tmp_path) == {"backup.db"}


def test_without_room_nothing_is_made(primary, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(octodb.OperationalError, match="no room for"):
        octodb.backup(tmp_path / "primary.db", tmp_path / "backup.db")
    assert names(tmp_path) == set()


def test_a_folder_that_does_not_exist_is_named(primary, tmp_path):
    with pytest.raises(octodb.OperationalError, match="No such file or directory") as caught:
        octodb.backup(tmp_path / "primary.db", tmp_path / "missing" / "backup.db")
    assert str(tmp_path / "missing") in caught.value.hint


def test_what_is_no_node_is_not_backed_up(tmp_path):
    (tmp_path / "text").write_text("no database " * 1000)
    with opened(tmp_path / "plain.db") as db:
        db.execute("CREATE TABLE t (a)")
    for source, error, text in (
        ("missing.db", octodb.ConfigError, "there is no file"),
        ("text", octodb.DatabaseError, "not a SQLite database"),
        ("plain.db", octodb.ConfigError, "no node's"),
    ):
        with pytest.raises(error, match=text):
            octodb.backup(tmp_path / source, tmp_path / "backup.db")
    assert names(tmp_path) == {"text", "plain.db"}


def test_a_device_of_an_earlier_format_is_backed_up_as_it_is(tmp_path):
    dumps.load(tmp_path / "device.db", (FORMAT_1 / "device.sql").read_text())
    report = octodb.backup(tmp_path / "device.db", tmp_path / "backup.db")
    assert (report.role, report.format, report.pending, report.rejected) == ("secondary", 1, 4, 1)
    assert report.head == values(tmp_path / "device.db")["cursor"] > 0
    assert dump(tmp_path / "backup.db") == dump(tmp_path / "device.db")


def test_a_later_format_is_refused_with_the_version_it_needs(primary, backup):
    with opened(backup) as db:
        Meta(db).set(format=FORMAT_NUMBER + 1, made_by="7.8.9")
    with pytest.raises(octodb.ConfigError, match=r"octodb 7\.8\.9"):
        octodb.check_backup(backup)


# --- what is found in one --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("UPDATE _octodb_log SET body = x'00' WHERE seq = 4", "entry at 4 .* does not fit its hash"),
        ("UPDATE _octodb_log SET chain = zeroblob(16) WHERE seq = 4", "running hash of the log differs at 4"),
        ("UPDATE _octodb_log SET owner = 77 WHERE seq = 7", "running hash of the log differs at 7"),
        ("DELETE FROM _octodb_log WHERE seq = 4", "position 5 of the log comes after 3"),
        ("UPDATE _octodb_log SET seq = 3 WHERE seq = 5", "position 3 of the log comes after 4"),
        ("UPDATE _octodb_meta SET value = 'neither' WHERE key = 'role'", "its role is 'neither'"),
        ("UPDATE _octodb_meta SET value = 'x' WHERE key = 'format'", "has format x"),
    ],
)
def test_damage_that_sqlite_does_not_see_is_found(backup, damage, text):
    with opened(backup) as db:
        db.execute(damage)
        assert db.changes() >= 1
    with pytest.raises(octodb.Error, match=text):
        octodb.check_backup(backup)


def test_damage_of_the_file_is_found(backup):
    whole = backup.read_bytes()
    backup.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(octodb.DatabaseError, match=r"backup\.db is damaged") as caught:
        octodb.check_backup(backup)
    assert caught.value.sqlite_errorname == "SQLITE_CORRUPT"
    found = 0
    for at in range(0, len(whole), 4096):  # the first bytes of every page say what it is
        backup.write_bytes(whole[:at] + b"\xff" * 16 + whole[at + 16 :])
        with contextlib.suppress(octodb.Error):
            octodb.check_backup(backup)
            continue
        found += 1
    assert found == len(whole) // 4096


def test_a_log_whose_beginning_was_cut_off_is_checked_behind_that(backup):
    with opened(backup) as db:
        count = db.execute("SELECT count(*) FROM _octodb_log WHERE seq > 4").get
        assert LogTables(db).cut(4, 100) == 4
    assert octodb.check_backup(backup).entries == count > 1
    with opened(backup) as db:
        db.execute("UPDATE _octodb_log SET chain = zeroblob(16) WHERE seq = 4")
    with pytest.raises(octodb.DatabaseError, match="running hash"):
        octodb.check_backup(backup)


def test_tables_that_only_the_application_understands_are_listed(primary, backup):
    with opened(backup) as db:
        db.create_scalar_function("mine", lambda a: a, 1, deterministic=True)
        db.execute("CREATE TABLE private_odd (a); CREATE INDEX private_index ON private_odd (mine(a))")
        db.execute("INSERT INTO private_odd VALUES (1)")
    assert octodb.check_backup(backup).unchecked == ("private_odd",)
    with opened(backup) as db:
        db.execute("UPDATE _octodb_log SET body = x'00' WHERE seq = 4")
    with pytest.raises(octodb.DatabaseError, match="does not fit its hash"):
        octodb.check_backup(backup)


def test_checking_leaves_no_trace_beside_the_backup(backup, tmp_path):
    before = backup.read_bytes()
    octodb.check_backup(backup)
    assert names(tmp_path) == {"backup.db"}
    assert backup.read_bytes() == before


def test_a_copy_made_by_hand_is_read_with_its_wal(primary, tmp_path):
    primary.execute("INSERT INTO task (title) VALUES ('in the WAL only')")
    primary.commit()
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path}/primary.db{suffix}", f"{tmp_path}/copy.db{suffix}")
    head = primary.execute("SELECT max(seq) FROM _octodb_log").fetchone()[0]
    assert octodb.check_backup(tmp_path / "copy.db").head == head
    octodb.restore(tmp_path / "copy.db", tmp_path / "restored.db")
    with opened(tmp_path / "restored.db") as db:
        assert db.execute("SELECT count(*) FROM task WHERE title = 'in the WAL only'").get == 1


# --- making a node from one ------------------------------------------------------------------------------


def test_a_restored_primary_begins_a_new_epoch_and_repeats_no_id(primary, backup, tmp_path):
    with opened(backup) as db:
        NodeTable(db).add(NodeRecord(7, 3, Role.SECONDARY, b"key"), "{}", 1.0)
        NodeTable(db).set_tokens(7, b"token", b"before", None, 2.0)
    bytes_before = backup.read_bytes()
    report = octodb.restore(backup, tmp_path / "restored.db")
    assert backup.read_bytes() == bytes_before
    before, after = values(backup), values(tmp_path / "restored.db")
    changed = {key for key in after if after[key] != before.get(key)}
    assert changed == {"epoch", "identity_counter", "restored_at"}
    assert before.keys() <= after.keys()
    assert len(after["epoch"]) == 16
    assert report.epoch == after["epoch"].hex()
    assert after["identity_counter"] == before["identity_counter"] + IDENTITIES_SKIPPED
    assert after["restored_at"] > before["created_at"]
    with opened(tmp_path / "restored.db") as db, opened(backup) as old:
        assert NodeTable(db).tokens(7) == (b"", None)
        assert all(row == was for row, was in zip(NodeTable(db).all(), NodeTable(old).all(), strict=True))
    restored = octodb.connect(f"file:{tmp_path}/restored.db?node=primary")
    rows = "SELECT * FROM task ORDER BY id"
    assert restored.execute(rows).fetchall() == primary.execute(rows).fetchall()
    for node in (primary, restored):
        node.execute("INSERT INTO task (title) VALUES ('the next')")
        node.commit()
    ids = [node.execute("SELECT max(id) FROM task").fetchone()[0] for node in (primary, restored)]
    assert ids[1] - ids[0] == ROW_IDS_SKIPPED
    restored.close()


def test_two_restores_of_one_backup_are_two_epochs(backup, tmp_path):
    epochs = {octodb.restore(backup, tmp_path / f"{n}.db").epoch for n in "ab"} | {octodb.check_backup(backup).epoch}
    assert len(epochs) == 3


def test_ids_end_where_they_end(backup, tmp_path):
    with opened(backup) as db:
        Meta(db).set(identity_counter=PROVISIONAL_ID_MIN - 6)
        Meta(db).keep_row_id("task", (1 << 32) + 0xFFFF_FFF0)
    octodb.restore(backup, tmp_path / "restored.db")
    assert values(tmp_path / "restored.db")["identity_counter"] == PROVISIONAL_ID_MIN - 1
    restored = octodb.connect(f"file:{tmp_path}/restored.db?node=primary")
    with pytest.raises(octodb.OperationalError, match="no row ids left"):
        restored.execute("INSERT INTO task (title) VALUES ('x')")
    restored.close()


def test_a_backup_of_an_earlier_format_is_restored_to_this_one(tmp_path):
    dumps.load(tmp_path / "backup.db", (FORMAT_1 / "primary.sql").read_text())
    report = octodb.restore(tmp_path / "backup.db", tmp_path / "restored.db")
    assert report.format == FORMAT_NUMBER
    assert values(tmp_path / "backup.db")["format"] == 1
    assert names(tmp_path) == {"backup.db", "restored.db", "restored.db-octodb.lock"}
    octodb.connect(f"file:{tmp_path}/restored.db?node=primary").close()


def test_a_device_comes_back_as_it_was(tmp_path):
    dumps.load(tmp_path / "backup.db", (FORMAT_1 / "device.sql").read_text())
    octodb.restore(tmp_path / "backup.db", tmp_path / "restored.db")
    assert dump(tmp_path / "restored.db") == dump(tmp_path / "backup.db")


# --- what is in the way of a restore ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
def test_a_restore_replaces_nothing(backup, tmp_path, suffix):
    """A WAL without its database would be played into the restored one."""
    there = tmp_path / f"app.db{suffix}"
    there.write_bytes(b"mine")
    with pytest.raises(octodb.ConfigError, match=f"app.db{suffix} exists already") as caught:
        octodb.restore(backup, tmp_path / "app.db")
    assert "--force" in caught.value.hint
    assert there.read_bytes() == b"mine"
    assert names(tmp_path) == {"backup.db", there.name}


def test_with_force_the_old_database_is_kept_with_its_wal(backup, tmp_path):
    old = octodb.connect(f"file:{tmp_path}/app.db?node=primary")
    old.execute("CREATE TABLE t (a)")
    old.commit()
    for suffix in ("", "-wal"):
        shutil.copy(f"{tmp_path}/app.db{suffix}", f"{tmp_path}/killed.db{suffix}")
    old.close()
    report = octodb.restore(backup, tmp_path / "killed.db", force=True)
    assert report.set_aside == f"{tmp_path}/killed.db.before-restore"
    with opened(report.set_aside) as db:
        assert db.execute("SELECT count(*) FROM t").get == 0
    with opened(tmp_path / "killed.db") as db:
        assert db.execute("SELECT count(*) FROM task").get == 6
    again = octodb.restore(backup, tmp_path / "killed.db", force=True)
    assert again.set_aside == f"{tmp_path}/killed.db.before-restore-2"


def test_a_database_in_use_is_not_replaced(backup, tmp_path):
    (tmp_path / "app.db").write_bytes(b"mine")
    lock = EngineLock(f"{tmp_path}/app.db")
    assert lock.acquire()
    with pytest.raises(octodb.OperationalError, match="is in use"):
        octodb.restore(backup, tmp_path / "app.db", force=True)
    lock.release()
    assert names(tmp_path) == {"backup.db", "app.db", "app.db-octodb.lock"}
    assert (tmp_path / "app.db").read_bytes() == b"mine"


@pytest.mark.parametrize("force", [False, True])
def test_a_backup_that_cannot_be_restored_costs_nothing(backup, tmp_path, force, monkeypatch):
    (tmp_path / "text").write_text("no database " * 1000)
    if force:
        (tmp_path / "app.db").write_bytes(b"mine")
    before = names(tmp_path)
    for source, error in (
        ("missing", octodb.ConfigError),
        ("text", octodb.DatabaseError),
        (".", octodb.ConfigError),
    ):
        with pytest.raises(error):
            octodb.restore(tmp_path / source, tmp_path / "app.db", force=force)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(octodb.OperationalError, match="no room"):
        octodb.restore(backup, tmp_path / "app.db", force=force)
    assert names(tmp_path) - {"app.db-octodb.lock"} == before
    assert not force or (tmp_path / "app.db").read_bytes() == b"mine"


def test_a_backup_is_not_restored_onto_itself_or_a_folder(backup, tmp_path):
    os.symlink(backup, tmp_path / "link.db")
    for target, text in (
        (backup, "the backup itself"),
        (tmp_path / "link.db", "the backup itself"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(octodb.ConfigError, match=text):
            octodb.restore(backup, target, force=True)
    octodb.check_backup(backup)
