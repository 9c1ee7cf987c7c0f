"""Nothing of an encrypted node is on the disk in the clear; the same search finds it all in a plain twin."""

import contextlib
import shutil

import apsw
import pytest

import octodb
from octodb.model.identities import Role
from octodb.storage.meta import Meta
from tests.encryption.conftest import KEY
from tests.fixtures import dumps
from tests.integration.conftest import rows, wait_for
from tests.unit.storage.test_upgrades import FILES, FORMAT_1

SCHEMA = "CREATE TABLE secret_plan (id INTEGER PRIMARY KEY, text, row_owner);"
ROW, QUEUED, REFUSED, INFO = "a marked row", "a marked queue", "a marked refusal", "a marked note"


@pytest.fixture(params=["encrypted", "plain"])
def twin(request, vault):
    """The same story twice. ``is_plain``: then everything must be found."""
    vault.is_plain = request.param == "plain"
    if vault.is_plain:
        vault.keys = ""
    return vault


def private_keys(*nodes):
    return [Meta(node._db).get("private_key") for node in nodes]


def test_rows_outbox_log_keys_and_notes_of_a_running_node(twin):
    primary = twin.primary(SCHEMA)
    primary.execute("INSERT INTO secret_plan (text, row_owner) VALUES (?, '*')", (ROW,))
    primary.commit()
    device = twin.device("device")
    device.execute(f"PRAGMA node_info='{INFO}'")
    keys = private_keys(primary, device)
    twin.close(primary)
    device.execute("INSERT INTO secret_plan (text) VALUES (?)", (QUEUED,))
    device.commit()
    wait_for(lambda: not device.sync_status["connected"])

    marks = [text.encode() for text in (ROW, QUEUED, INFO, "secret_plan")] + keys
    while_open = {mark: twin.files_with(mark) for mark in marks}
    twin.close()
    closed = {mark: twin.files_with(mark) for mark in marks}
    if twin.is_plain:
        assert all(while_open.values())
        assert all(closed.values())
        assert "device.db-wal" in while_open[QUEUED.encode()]
    else:
        assert not any(while_open.values())
        assert not any(closed.values())
    assert not twin.files_with(KEY.encode())


def test_backups_and_what_is_restored_from_them(twin):
    primary = twin.primary(SCHEMA)
    primary.execute("INSERT INTO secret_plan (text, row_owner) VALUES (?, '*')", (ROW,))
    primary.commit()
    octodb.backup(twin.primary_uri(), twin.folder / "copy.db")
    assert octodb.check_backup(twin.plain_uri("copy") if twin.keys else twin.folder / "copy.db").entries
    restored = f"file:{twin.folder}/restored.db?node=primary{twin.keys}"
    octodb.restore(f"{twin.folder}/copy.db", restored)
    with contextlib.closing(octodb.connect(restored)) as again:
        assert rows(again, "SELECT text FROM secret_plan") == [(ROW,)]
        found = twin.files_with(ROW.encode(), *private_keys(primary))
    assert found >= {"copy.db", "restored.db"} if twin.is_plain else not found


def test_the_copy_that_an_upgrade_keeps(twin):
    path = twin.folder / "primary.db"
    dumps.load(path, (FORMAT_1 / f"{FILES[Role.PRIMARY]}.sql").read_text())
    if not twin.is_plain:
        (twin.folder / "primary.db.before-encryption").unlink(
            missing_ok=octodb.encrypt(path, twin.primary_uri("node")) == ""
        )
    with contextlib.closing(octodb.connect(f"file:{path}?node=primary{twin.keys}")) as primary:
        (key,) = private_keys(primary)
    assert (twin.folder / "primary.db-octodb.format1.bak").exists()
    found = twin.files_with(key)
    assert found >= {"primary.db", "primary.db-octodb.format1.bak"} if twin.is_plain else not found


def test_the_rollback_journal_of_a_database_that_is_no_node(twin):
    uri = twin.plain_uri("plain").removesuffix("?")
    with contextlib.closing(octodb.connect(uri, uri=True, isolation_level=None)) as conn:
        conn.execute("CREATE TABLE t (x)")
        conn.execute("INSERT INTO t VALUES (?)", (ROW * 300,))
        conn.execute("BEGIN")
        conn.execute("UPDATE t SET x = ?", (QUEUED * 300,))
        conn.execute("PRAGMA cache_spill = 1")
        conn.execute("PRAGMA cache_size = 1")
        conn.execute("WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 500) "
                     "INSERT INTO t SELECT randomblob(900) FROM n")  # fmt: skip
        assert (twin.folder / "plain.db-journal").stat().st_size
        found = twin.files_with(ROW.encode(), QUEUED.encode())
        conn.execute("ROLLBACK")
    assert "plain.db-journal" in found if twin.is_plain else not found


def test_sorts_and_temporary_tables_stay_in_memory_on_every_connection(vault):
    primary = vault.primary(SCHEMA)
    assert rows(primary, "PRAGMA temp_store") == [(2,)]
    with primary._node.onlooker() as onlooker:
        assert onlooker.pragma("temp_store") == 2
    assert primary._node._engine._db.pragma("temp_store") == 2
    for off in ("PRAGMA temp_store = FILE", "PRAGMA temp_store(1)", "PRAGMA temp_store = 0"):
        with pytest.raises(octodb.NotSupportedError, match="in the clear"):
            primary.execute(off)
    primary.execute("PRAGMA temp_store = MEMORY")


@pytest.mark.parametrize("pragma", ["rekey", "hexrekey", "key", "hexkey", "cipher"])
def test_an_open_node_keeps_its_key(vault, pragma):
    primary = vault.primary(SCHEMA)
    with pytest.raises(octodb.NotSupportedError, match="octodb encrypt changes it") as caught:
        primary.execute(f"PRAGMA {pragma} = '00ff'")
    assert "00ff" not in f"{caught.value} {caught.value.hint}"


def test_a_copied_file_is_as_unreadable_as_the_file(vault):
    vault.primary(SCHEMA)
    vault.close()
    shutil.copy(vault.folder / "primary.db", vault.folder / "stolen.db")
    with contextlib.closing(apsw.Connection(f"{vault.folder}/stolen.db")) as db, pytest.raises(apsw.NotADBError):
        db.execute("SELECT * FROM sqlite_schema").fetchall()
