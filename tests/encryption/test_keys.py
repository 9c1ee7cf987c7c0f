"""Where a key may come from, and what is said when it is wrong, missing, or not what the file needs."""

import contextlib
import os

import pytest

import octodb
from octodb.storage.encryption import CIPHERS
from tests.encryption.conftest import KEY
from tests.integration.conftest import rows

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, row_owner);"
OTHERS = {
    "wrong key": "&cipher=chacha20&key=wrong",
    "another cipher": "&cipher=aes256cbc&key=correct%20horse%20battery%20staple",
    "no key": "",
}


def refused(error, uri, **options):
    with pytest.raises(error) as caught:
        octodb.connect(uri, **options).close()
    return f"{caught.value} | {caught.value.hint}"


@pytest.mark.parametrize("keys", OTHERS.values(), ids=OTHERS)
def test_what_does_not_open_a_node_says_so_and_changes_nothing(vault, keys):
    vault.primary(SCHEMA)
    vault.close()
    before = (vault.folder / "primary.db").read_bytes()
    text = refused(octodb.DatabaseError, vault.primary_uri(keys=keys))
    assert "cannot be read with this key" in text if keys else "encrypted, add cipher= and key_file=" in text
    assert "wrong" not in text
    with pytest.raises(octodb.Error):
        octodb.read_status(f"{vault.folder}/primary.db")
    with pytest.raises(octodb.DatabaseError):
        octodb.backup(vault.primary_uri(keys=keys), vault.folder / "copy.db")
    assert not (vault.folder / "copy.db").exists()
    assert (vault.folder / "primary.db").read_bytes() == before


def test_a_plain_node_is_not_opened_with_a_key(vault):
    vault.primary(SCHEMA, keys="")
    vault.close()
    text = refused(octodb.DatabaseError, vault.primary_uri())
    assert "is not encrypted" in text
    assert "octodb encrypt" in text
    assert octodb.remembered_uri(f"{vault.folder}/primary.db")  # still plain


def test_the_key_may_be_in_the_environment(vault, monkeypatch):
    vault.primary(SCHEMA)
    vault.close()
    bare = vault.primary_uri(keys="&cipher=chacha20")
    assert "cipher=chacha20 without a key" in refused(octodb.ConfigError, bare)
    monkeypatch.setenv("OCTODB_KEY", KEY)
    octodb.connect(bare).close()
    assert octodb.read_status(f"file:{vault.folder}/primary.db?cipher=chacha20")["encrypted"] is True
    assert "two keys" in refused(octodb.ConfigError, vault.primary_uri())


def test_key_key_file_and_hexkey_of_the_same_bytes_open_the_same_file(vault):
    vault.primary(SCHEMA)
    vault.close()
    for keys in ("key=" + KEY.replace(" ", "%20"), "hexkey=" + KEY.encode().hex()):
        octodb.connect(vault.primary_uri(keys=f"&cipher=chacha20&{keys}")).close()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_file_that_others_can_read_is_refused(vault):
    vault.key_file.chmod(0o640)
    assert "chmod 600" in refused(octodb.ConfigError, vault.primary_uri())
    assert not (vault.folder / "primary.db").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"a\0b", b"\xff\xfe", b"x" * 70_000])
def test_a_key_file_without_a_passphrase_is_refused(vault, content):
    vault.key_file.write_bytes(content)
    assert str(vault.key_file) in refused(octodb.ConfigError, vault.primary_uri())


def test_a_key_file_that_is_not_there(vault):
    vault.key_file.unlink()
    assert "No such file" in refused(octodb.ConfigError, vault.primary_uri())


def test_an_unknown_cipher_names_the_nearest(vault):
    assert "did you mean cipher=chacha20?" in refused(
        octodb.ConfigError, vault.primary_uri(keys="&cipher=chaha20&key=x")
    )
    assert not (vault.folder / "primary.db").exists()


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cipher_that_is_listed_works(vault, cipher):
    uri = vault.plain_uri("plain", f"cipher={cipher}&key=x")
    with contextlib.closing(octodb.connect(uri)) as conn:
        conn.execute("CREATE TABLE t AS SELECT 'a marked row' AS x")
    with contextlib.closing(octodb.connect(uri, uri=True)) as conn:
        assert rows(conn, "SELECT x FROM t") == [("a marked row",)]
    assert not vault.files_with(b"a marked row")
    assert "cannot be read with this key" in refused(
        octodb.DatabaseError, vault.plain_uri("plain", f"cipher={cipher}&key=y")
    )


def test_nothing_that_a_node_tells_holds_the_key(vault, capfd):
    keys = "&cipher=chacha20&key=geheim%20wort"
    primary = vault.primary(SCHEMA, keys=keys)
    uri = primary._node.uri
    told = [primary.node_uri, str(uri), repr(uri), repr(primary._node.__dict__), str(primary.sync_status)]
    told += [str(rows(primary, f"PRAGMA {name}")) for name in ("sync_status", "nodes", "database_list")]
    told += [octodb.remembered_uri(f"file:{vault.folder}/primary.db?{keys[1:]}"), *map(str, capfd.readouterr())]
    for row in primary.execute("SELECT * FROM _octodb_meta"):
        told.append(str(tuple(row)))
    assert "chacha20" in "".join(told)
    assert not [text for text in told if "geheim" in text]
    assert not vault.files_with(b"geheim")


def test_audit_hooks_see_no_key(vault, programs):
    text = """
import sys, octodb
seen = []
sys.addaudithook(lambda event, arguments: seen.append(arguments) if event == "sqlite3.connect" else None)
octodb.connect("file:a.db?cipher=chacha20&key=geheim&mode=rwc").close()
print(seen)
"""
    assert "geheim" not in (out := programs.run(text))
    assert "cipher=chacha20" in out
