"""Files of earlier formats (tests/fixtures/format1): they are upgraded whole or not at all, and a copy is kept."""

import contextlib
import pathlib
import shutil
import stat

import apsw
import pytest

import octodb
from octodb.model.identities import FORMAT_NUMBER, VERSION, Role
from octodb.model.node_uri import parse_node_uri
from octodb.storage import upgrades
from octodb.storage.database import connect_file, open_node_file
from octodb.storage.meta import Meta, create_meta_tables, tables
from tests.fixtures import dumps

ROOT = pathlib.Path(__file__).parents[3]
FORMAT_1 = ROOT / "tests/fixtures/format1"
FILES = {Role.PRIMARY: "primary", Role.SECONDARY: "device"}


@pytest.fixture(params=list(Role), ids=str)
def old(request, tmp_path):
    """A node file of format 1."""
    return OldFile(tmp_path / "app.db", request.param)


@pytest.fixture
def old_device(tmp_path):
    return OldFile(tmp_path / "app.db", Role.SECONDARY)


class OldFile:
    def __init__(self, path, role):
        self.path, self.role = path, role
        self.backup = pathlib.Path(f"{path}-octodb.format1.bak")
        self.text = (FORMAT_1 / f"{FILES[role]}.sql").read_text()
        dumps.load(path, self.text)

    def open(self, parameters="", **options):
        """Open and close it as nodes are opened; return its single values."""
        uri = parse_node_uri(f"file:{self.path}?node={self.role}{parameters}")
        with contextlib.closing(connect_file(uri, 1.0)) as db:
            return open_node_file(db, uri, None, **options)

    def dump(self, path=None):
        with contextlib.closing(apsw.Connection(str(path or self.path))) as db:
            return dumps.dump(db)

    def files(self):
        names = (path.name.removeprefix(self.path.name) for path in self.path.parent.iterdir())
        return {name for name in names if name not in {"", "-wal", "-shm"}}

    def is_untouched(self):
        return self.dump() == self.text


def meta_schema(db):
    """What counts of our tables: columns, keys, defaults, indexes, kind."""
    tables = db.execute(
        "SELECT name, wr, strict FROM pragma_table_list WHERE schema = 'main' AND name LIKE '\\_octodb%' ESCAPE '\\'"
    )
    found = {}
    for name, *kind in tables.fetchall():
        columns = db.execute(
            'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_xinfo(?) ORDER BY cid', (name,)
        )
        indexes = db.execute('SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (name,))
        found[name] = (kind, columns.fetchall(), sorted(indexes.fetchall()))
    return found


def test_an_upgraded_file_has_the_tables_of_a_new_one(old):
    old.open()
    with (
        contextlib.closing(apsw.Connection(":memory:")) as fresh,
        contextlib.closing(apsw.Connection(str(old.path))) as db,
    ):
        create_meta_tables(fresh, old.role)
        assert meta_schema(db) == meta_schema(fresh)


def all_rows(path):
    """Rows as dictionaries, by table."""
    with contextlib.closing(apsw.Connection(str(path))) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
        found = {}
        for name in names:
            columns = [column for (column,) in db.execute("SELECT name FROM pragma_table_info(?)", (name,))]
            rows = db.execute(f'SELECT * FROM "{name}"')
            found[name] = [dict(zip(columns, row, strict=True)) for row in rows]
        return found


def test_everything_is_kept(old):
    before = all_rows(old.path)
    values = old.open()
    after = all_rows(old.path)
    assert len(before) > 10
    for table, rows in before.items():
        if table != "_octodb_meta":
            kept = [{name: row[name] for name in was} for was, row in zip(rows, after[table], strict=True)]
            assert kept == rows, table
    was = {row["key"]: row["value"] for row in before["_octodb_meta"]}
    assert was == {key: was["format"] if key == "format" else values[key] for key in was}
    assert (values["format"], values["made_by"]) == (FORMAT_NUMBER, VERSION)


def test_what_the_new_columns_say_of_old_rows(old):
    old.open()
    after = all_rows(old.path)
    assert after["_octodb_ids"]
    assert all(row["node_id"] == row["last"] >> 32 for row in after["_octodb_ids"])
    if old.role is Role.SECONDARY:
        # nonce 8 had been rejected before they were made
        assert {row["nonce"]: row["knew_rejected"] for row in after["_octodb_outbox"]} == {9: 8, 10: 8, 11: 8, 12: 8}
    else:
        assert {row["made"] for row in after["_octodb_refusals"]} == {b""}
        assert {row["copy_of"] for row in after["_octodb_nodes"]} == {None}


def test_a_transaction_made_before_a_refusal_was_known_did_not_know_it(old_device):
    with contextlib.closing(apsw.Connection(str(old_device.path))) as db:
        db.execute("UPDATE _octodb_rejected SET rejected_at = (SELECT made_at FROM _octodb_outbox WHERE nonce = 10)")
    old_device.open()
    assert [row["knew_rejected"] for row in all_rows(old_device.path)["_octodb_outbox"]] == [0, 8, 8, 8]


def test_the_copy_is_exact_and_for_its_user_only(old):
    old.open()
    assert old.dump(old.backup) == old.text
    assert stat.S_IMODE(old.backup.stat().st_mode) == 0o600


def test_a_file_of_this_format_is_left_alone(old):
    old.open()
    copied, first = old.backup.stat(), old.open()
    assert old.open() == first
    assert old.backup.stat() == copied
    assert old.files() == {"-octodb.format1.bak"}


def test_schema_that_only_the_application_understands_does_not_matter(old):
    with contextlib.closing(apsw.Connection(str(old.path))) as db:
        db.create_scalar_function("unknown_function", lambda _: 1, 1, deterministic=True)
        db.execute("CREATE VIEW broken AS SELECT * FROM gone; CREATE TABLE t (a CHECK (unknown_function(a)))")
    assert old.open()["format"] == FORMAT_NUMBER


# --- copies that are there already -----------------------------------------------------------------------


def test_a_copy_of_this_very_state_is_not_made_twice(old, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(upgrades, "upgrade_meta_tables", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            old.open()
    assert old.is_untouched()
    assert old.files() == {"-octodb.format1.bak"}
    old.open()
    assert old.files() == {"-octodb.format1.bak"}


def test_the_copy_of_an_earlier_upgrade_stays(old_device):
    """Somebody went back to the earlier octodb, wrote with it, and upgrades again."""
    shutil.copy(old_device.path, old_device.backup)
    with contextlib.closing(apsw.Connection(str(old_device.path))) as db:
        db.execute("UPDATE task SET title = 'written after going back' WHERE title = 'task 0'")
    before = old_device.dump()
    old_device.open()
    assert old_device.dump(old_device.backup) == old_device.text
    assert old_device.dump(f"{old_device.path}-octodb.format1.2.bak") == before


def test_what_a_killed_upgrade_left_is_cleared_away(old):
    pathlib.Path(f"{old.path}-octodb.format1.bak.abc123.partial").write_bytes(b"half")
    other = pathlib.Path(f"{old.path}.someone-elses.partial")
    other.write_bytes(b"mine")
    old.open()
    assert old.files() == {"-octodb.format1.bak", ".someone-elses.partial"}


# --- what is in the way ----------------------------------------------------------------------------------


def test_without_room_for_the_copy_nothing_happens(old, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(octodb.OperationalError, match=r"no room for .*app\.db.*takes 0\.\d MB") as caught:
        old.open()
    assert "free some space" in caught.value.hint
    monkeypatch.undo()
    assert old.is_untouched()
    assert old.files() == set()


def test_a_damaged_file_is_not_upgraded(old):
    with contextlib.closing(apsw.Connection(str(old.path))) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'place')"
            " WHERE name = 'task_by_title'"
        )
    with pytest.raises(octodb.DatabaseError, match=r"app\.db is damaged"):
        old.open()
    assert Meta(apsw.Connection(str(old.path))).get("format") == 1
    assert old.files() == set()


def test_an_error_in_mid_upgrade_undoes_all_of_it(old, monkeypatch):
    steps = tuple(step + "SELECT no_such_function();" for step in tables.UPGRADES[1])
    monkeypatch.setitem(tables.UPGRADES, 1, steps)
    with pytest.raises(apsw.SQLError, match="no_such_function"):
        old.open()
    assert old.is_untouched()


def test_a_file_that_an_earlier_octodb_syncs_is_not_taken_from_under_it(old):
    with pytest.raises(octodb.OperationalError, match="in use by another process") as caught:
        old.open(engine_runs=lambda: True)
    assert "close it there" in caught.value.hint
    assert old.is_untouched()
    assert old.files() == set()


def test_it_is_not_upgraded_where_it_can_only_be_read(old):
    with pytest.raises(octodb.ConfigError, match="has format 1, of an earlier octodb") as caught:
        old.open("&mode=ro")
    assert "without mode=ro" in caught.value.hint
    assert old.is_untouched()


def test_it_is_not_upgraded_when_it_is_another_role_that_was_meant(old):
    old.role = next(role for role in Role if role is not old.role)
    with pytest.raises(octodb.ConfigError, match="the URI opens it as a"):
        old.open()
    assert old.is_untouched()
    assert old.files() == set()


def test_a_file_that_another_process_writes_for_long_is_named(old, monkeypatch):
    monkeypatch.setattr(upgrades, "_BUSY_MS", 1)
    with contextlib.closing(apsw.Connection(str(old.path))) as other:
        other.execute("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").fetchall()
        with pytest.raises(octodb.OperationalError, match="another process is writing to it"):
            old.open()
        other.execute("ROLLBACK")
    assert old.open()["format"] == FORMAT_NUMBER


# --- later formats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "&mode=ro"])
def test_a_later_format_is_refused_with_the_version_that_is_needed(old, mode):
    with contextlib.closing(apsw.Connection(str(old.path))) as db:
        Meta(db).set(format=FORMAT_NUMBER + 1, made_by="7.8.9")
    before = old.dump()
    with pytest.raises(octodb.ConfigError, match=rf"format {FORMAT_NUMBER + 1}, of octodb 7\.8\.9") as caught:
        old.open(mode)
    assert caught.value.hint == "install octodb 7.8.9 or later"
    with pytest.raises(octodb.ConfigError, match=r"octodb 7\.8\.9"):
        octodb.read_status(str(old.path))
    assert old.dump() == before
    assert old.files() == set()


def test_the_version_that_files_name_is_the_one_of_the_package():
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()


def test_there_is_a_step_from_every_earlier_format():
    assert list(tables.UPGRADES) == list(range(1, FORMAT_NUMBER))
