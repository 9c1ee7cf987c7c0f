"""Encrypted databases on the command line: the key is in no argument that is needed, no output and no file."""

import os
import sys

import pytest

from tests.encryption.conftest import KEY
from tests.integration.test_cli_nodes import Place

pexpect = pytest.importorskip("pexpect")


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "the.key").touch(mode=0o600)
    (tmp_path / "the.key").write_text(KEY)
    yield place
    place.close()


KEYED = "cipher=chacha20&key_file=the.key"


def served(place):
    """An encrypted primary with a device that is encrypted with the same key file."""
    process = place.start("serve", f"file:primary.db?{KEYED}", "--bind", "tcp://127.0.0.1:0", "--init", "init.sql")
    line = process.stdout.readline()
    assert "listening on" in line, line + process.stderr.read()
    place.address = line.split()[-1]
    place.ok("connect", f"file:app.db?node=secondary&connect={place.address}&{KEYED}", "-c", "SELECT text FROM news")
    return process


def test_the_last_database_is_found_again_by_its_key_file(place):
    served(place)
    assert "welcome" in place.ok("connect", "-c", "SELECT text FROM news")
    assert "welcome" in place.ok("shell", f"file:app.db?{KEYED}", "-c", "SELECT text FROM news")
    assert '"encrypted": true' in place.ok("status", "--json")
    place.ok("whoami", f"file:app.db?{KEYED}")
    place.ok("verify")
    assert (place.folder / "app.db").read_bytes()[:6] != b"SQLite"


def test_the_key_in_the_environment(place):
    served(place)
    place.environment["OCTODB_KEY"] = KEY
    assert "welcome" in place.ok("shell", "file:app.db?cipher=chacha20", "-c", "SELECT text FROM news")


WRONG = {
    "app.db": (3, "cipher=chacha20&key_file="),
    "file:app.db?cipher=chacha20": (2, "OCTODB_KEY"),
    "file:app.db?cipher=chacha20&key=geheim": (3, "check the key"),
    "file:app.db?node=secondary&cipher=chacha20&key=geheim": (3, "check the key"),
    "file:app.db?cipher=xrc4&key=geheim": (2, "cipher=chacha20"),
    "file:app.db?cipher=chacha20&key_file=nowhere": (2, "only you can read"),
    "file:app.db?node=secondary&key=geheim": (2, "tls://"),
    "file:app.db?node=secondary&cipher=chacha20&key=ge&heim": (2, "%26"),
}


def test_what_is_wrong_with_a_key_is_told_in_three_lines(place):
    served(place)
    for database, (code, fix) in WRONG.items():
        for command in (("connect", database, "-c", "SELECT 1"), ("status", database), ("backup", database, "copy.db")):
            found, _, err = place.run(*command)
            assert found == code, (command, err)
            assert "Traceback" not in err
            assert "heim" not in err
            assert fix in err or (command[0] == "backup" and "add cipher= and key_file=" in err)
    assert not (place.folder / "copy.db").exists()


def test_encrypt_backup_and_restore(place):
    place.serve().terminate()
    place.close()
    out = place.run("encrypt", "primary.db", f"file:primary.db?{KEYED}")
    assert out[0] == 0, out
    assert "primary.db.before-encryption: delete it" in out[2]
    assert b"welcome" in (place.folder / "primary.db.before-encryption").read_bytes()
    place.ok("backup", f"file:primary.db?{KEYED}", "copy.db")
    place.ok("restore", f"file:copy.db?{KEYED}", "--check")
    place.ok("restore", "copy.db", f"file:again.db?{KEYED}")
    for name in ("primary.db", "copy.db", "again.db"):
        assert b"welcome" not in (place.folder / name).read_bytes()
    assert "welcome" in place.ok("shell", f"file:again.db?{KEYED}", "-c", "SELECT text FROM news")


def test_at_a_terminal_the_key_is_asked_for_and_kept_nowhere(place):
    served(place)
    shell = pexpect.spawn(
        sys.executable,
        ["-m", "octocli", "shell", "file:app.db?cipher=chacha20", "-c", "SELECT text FROM news"],
        env={**place.environment, "TERM": "dumb"},
        cwd=str(place.folder),
        encoding="utf-8",
        timeout=30,
    )
    shell.expect("key of app.db: ")
    shell.sendline(KEY)
    shell.expect("welcome")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 0
    kept = [path for path in place.folder.rglob("*") if path.is_file() and path.name != "the.key"]
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]
    assert any(path.name == "last-database" for path in kept)


def test_a_key_of_the_uri_is_not_remembered(place):
    served(place)
    place.ok("shell", "file:plain.db?cipher=chacha20&key=geheim", "-c", "CREATE TABLE t (x)")
    place.ok(
        "connect", f"file:two.db?node=secondary&connect={place.address}&cipher=chacha20&key=geheim", "-c", "SELECT 1"
    )
    remembered = [path.read_text() for path in place.folder.rglob("last-database")]
    assert ["cipher=chacha20" in text for text in remembered] == [True]
    assert "geheim" not in remembered[0]
    code, _, err = place.run("connect", "-c", "SELECT 1")
    assert (code, "OCTODB_KEY" in err) == (2, True), err
    assert os.path.exists(place.folder / "two.db")
