"""Encrypted nodes sync as others do: in several processes, after forks, with accounts, downloads and checks."""

import contextlib
import os

import pytest

import octodb
from tests.encryption.conftest import KEY
from tests.integration.conftest import rows, sign_in, wait_for

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, row_owner);"


def test_an_encrypted_primary_and_devices_with_keys_of_their_own(vault):
    primary = vault.primary(SCHEMA)
    primary.execute("INSERT INTO t (x, row_owner) VALUES ('for all', '*')")
    primary.commit()
    first = vault.device("first")
    vault.keys = "&cipher=sqlcipher&hexkey=00ff00ff"
    second = vault.device("second")
    vault.keys = ""
    third = vault.device("third")
    for device in (first, second, third):
        device.execute("INSERT INTO t (x) VALUES ('mine')")
        device.commit()
        assert device.wait_synced(15)
        assert rows(device, "SELECT x FROM t") == [("for all",), ("mine",)]
        assert rows(device, "PRAGMA sync_check(15)") == [("ok",)]
    assert len(rows(primary, "SELECT * FROM t")) == 4
    assert [d.sync_status["encrypted"] for d in (primary, first, second, third)] == [True, True, True, False]


def test_accounts_on_an_encrypted_primary(vault):
    primary = vault.primary(SCHEMA, auth="user", keys="&cipher=chacha20&key=x")
    vault.open.append(octodb.Accounts(primary))
    device = vault.device("device", ready=False)
    sign_in(device, "ada")
    assert device.wait_ready(15)


def test_a_later_download_is_gathered_in_memory(vault):
    primary = vault.primary(SCHEMA)
    primary.execute("INSERT INTO t (x, row_owner) VALUES ('before', '*')")
    primary.commit()
    vault.device("device")
    vault.close()
    octodb.backup(vault.primary_uri(), vault.folder / "copy.db")
    octodb.restore(f"{vault.folder}/copy.db", vault.primary_uri(), force=True)
    primary = vault.primary()
    primary.execute("UPDATE t SET x = 'after'")
    primary.commit()
    device = vault.device("device")
    wait_for(lambda: rows(device, "SELECT x FROM t") == [("after",)])
    assert not vault.files_with(b"before", b"after")


PROGRAM = """
import sys, octodb
conn = octodb.connect(sys.argv[1])
assert conn.wait_ready(15)
conn.execute("INSERT INTO t (x) VALUES ('of another process')")
conn.commit()
print(conn.sync_status["encrypted"], conn.sync_status["engine"]["pid"])
"""


def test_two_processes_with_one_file(vault, programs):
    primary = vault.primary(SCHEMA)
    vault.device("device")
    out = programs.run(PROGRAM, vault.device_uri("device"))
    assert out.split() == ["True", str(os.getpid())]
    wait_for(lambda: rows(primary, "SELECT x FROM t") == [("of another process",)])


KILLED = """
import os, sys, octodb
conn = octodb.connect(sys.argv[1])
assert conn.wait_ready(15)
for number in range(50):
    conn.execute("INSERT INTO t (x) VALUES (?)", ("before " + "the kill",))
    conn.commit()
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_loses_nothing(vault, programs):
    primary = vault.primary(SCHEMA)
    process = programs.start(KILLED, vault.device_uri("device"))
    assert process.wait(30) == -9
    assert not vault.files_with(b"before the kill")
    device = vault.device("device")
    assert device.wait_synced(15)
    assert rows(primary, "SELECT count(*) FROM t") == rows(device, "SELECT count(*) FROM t") == [(50,)]


FORK = """
import os, sys, octodb
conn = octodb.connect(sys.argv[1])
assert conn.wait_ready(15)
if (child := os.fork()) == 0:
    mine = octodb.connect(sys.argv[1])
    mine.execute("INSERT INTO t (x) VALUES ('of the child')")
    mine.commit()
    mine.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert conn.wait_synced(15)
print(conn.execute("SELECT x FROM t").fetchall())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_it_anew(vault, programs):
    vault.primary(SCHEMA)
    assert "of the child" in programs.run(FORK, vault.device_uri("forked"))


@pytest.fixture
def filled(vault):
    """A plain primary and a device with something in its queue, both closed."""
    primary = vault.primary(SCHEMA + "PRAGMA user_version = 7;", keys="")
    primary.execute("INSERT INTO t (x, row_owner) VALUES ('a marked row', '*')")
    primary.execute("CREATE TABLE loose (x)")
    primary.execute("INSERT INTO loose (rowid, x) VALUES (99, 'a marked row')")
    primary.commit()
    vault.device_keys, vault.keys = vault.keys, ""
    vault.device("device")
    vault.close(primary)
    device = vault.open[0]
    device.execute("INSERT INTO t (x) VALUES ('queued')")
    device.commit()
    vault.close()
    vault.keys = vault.device_keys
    return vault


def test_existing_nodes_are_encrypted_rekeyed_and_decrypted_and_stay_who_they_are(filled):
    vault = filled
    device = f"{vault.folder}/device.db"
    who = octodb.read_status(device)
    kept = [
        octodb.encrypt(f"{vault.folder}/primary.db", vault.primary_uri()),
        octodb.encrypt(device, vault.device_uri("device")),
    ]
    assert kept == [f"{vault.folder}/{name}.db.before-encryption" for name in ("primary", "device")]
    for name in kept:
        os.remove(name)
    assert not vault.files_with(b"a marked row", b"queued")

    primary = vault.primary()
    again = vault.device("device")
    assert again.wait_synced(15)
    assert (again.sync_status["node_id"], again.sync_status["public_key"]) == (who["node_id"], who["public_key"])
    assert rows(primary, "SELECT x FROM t") == [("a marked row",), ("queued",)]
    assert rows(primary, "SELECT rowid FROM loose") == [(99,)]
    assert rows(primary, "PRAGMA user_version") == [(7,)]
    vault.close()

    other = "&cipher=aes256cbc&hexkey=c0ffee"
    os.remove(octodb.encrypt(vault.primary_uri(), vault.primary_uri(keys=other)))
    with pytest.raises(octodb.DatabaseError):
        octodb.connect(vault.primary_uri())
    octodb.connect(vault.primary_uri(keys=other)).close()
    os.remove(octodb.encrypt(vault.primary_uri(keys=other), vault.primary_uri(keys="")))
    assert vault.files_with(b"a marked row") == {"primary.db"}
    assert "cipher" not in octodb.remembered_uri(f"{vault.folder}/primary.db")


def test_a_database_in_use_is_not_encrypted(filled):
    vault = filled
    uri = vault.primary_uri(keys="")
    for other in (uri, f"file:{vault.folder}/primary.db?mode=ro"):  # one with an engine, one without
        with contextlib.closing(octodb.connect(other, uri=True)) as conn:
            conn.execute("SELECT * FROM t").fetchall()
            with pytest.raises(octodb.OperationalError, match="in use"):
                octodb.encrypt(uri, vault.primary_uri())
    assert not list(vault.folder.glob("*before-encryption*")) + list(vault.folder.glob("*.partial"))
    with contextlib.closing(octodb.connect(uri)) as conn:
        assert rows(conn, "PRAGMA journal_mode") == [("wal",)]


def test_what_cannot_be_encrypted_stays_as_it_is(filled):
    vault = filled
    path = vault.folder / "primary.db"
    before = path.read_bytes()
    for database, to, error in (
        (f"file:{path}?cipher=chacha20&key=x", vault.primary_uri(), octodb.DatabaseError),
        (path, vault.plain_uri("elsewhere"), octodb.ConfigError),
        (path, f"file:{path}", octodb.ConfigError),
        (vault.folder / "nowhere.db", vault.plain_uri("nowhere"), octodb.ConfigError),
    ):
        with pytest.raises(error):
            octodb.encrypt(database, to)
    assert path.read_bytes() == before
    assert not list(vault.folder.glob("*before-encryption*")) + list(vault.folder.glob("*.partial"))


def test_a_plain_database_is_encrypted_too(vault):
    path = vault.folder / "notes.db"
    with contextlib.closing(octodb.connect(path)) as conn:
        conn.execute("CREATE TABLE note AS SELECT 'a marked row' AS x")
        conn.commit()
    os.remove(octodb.encrypt(path, vault.plain_uri("notes")))
    assert not vault.files_with(b"a marked row")
    with contextlib.closing(octodb.connect(vault.plain_uri("notes"))) as conn:
        assert rows(conn, "SELECT x FROM note") == [("a marked row",)]
    assert KEY not in vault.plain_uri("notes")
