"""What is said where a URI asks for encryption and the installed apsw has none, or is in pieces."""

import importlib
import sys
import types
from importlib import metadata

import apsw
import pytest

import octodb
from octodb import installation
from octodb.model.node_uri import parse_node_uri
from octodb.storage import encryption

URI = "file:{}/app.db?node=primary&cipher=chacha20&key=geheim"


@pytest.fixture
def plain_build(monkeypatch):
    """As the package apsw makes the module."""
    monkeypatch.delattr(apsw, "mc_version", raising=False)
    monkeypatch.delenv("OCTODB_KEY", raising=False)

    def packages(*names):
        def version(name):
            if name in names:
                return "3.54"
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "version", version)

    return packages


@pytest.mark.parametrize(
    ("packages", "message"),
    [(("apsw",), "is the build without encryption"), (("apsw", "apsw-sqlite3mc"), "apsw was installed over it")],
)
@pytest.mark.parametrize("uri", [URI, "file:{}/app.db?cipher=chacha20&key=geheim"])
def test_without_encryption_no_file_is_made_and_the_command_is_told(plain_build, tmp_path, packages, message, uri):
    plain_build(*packages)
    with pytest.raises(octodb.ConfigError, match=message) as caught:
        octodb.connect(uri.format(tmp_path))
    assert installation.INSTALL_ENCRYPTION in caught.value.hint
    assert "geheim" not in f"{caught.value} {caught.value.hint}"
    assert not list(tmp_path.iterdir())


def test_a_plain_file_needs_no_encryption(plain_build, tmp_path):
    plain_build("apsw")
    assert encryption.find_key(parse_node_uri(f"file:{tmp_path}/app.db?node=primary")).file_key is None


@pytest.mark.parametrize("hollow", [types.ModuleType("apsw"), None], ids=["in pieces", "missing"])
def test_a_module_in_pieces_is_told_at_import(monkeypatch, hollow):
    monkeypatch.setitem(sys.modules, "apsw", hollow)
    with pytest.raises(ImportError, match="--force-reinstall --no-deps 'apsw") as caught:
        importlib.reload(installation)
    assert "one was removed" in str(caught.value)
    monkeypatch.undo()
    importlib.reload(installation)


def test_a_build_that_reads_old_states_is_not_used_for_nodes(monkeypatch, tmp_path):
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.54.0")
    with pytest.raises(octodb.ConfigError, match="reading an old state") as caught:
        octodb.connect(f"file:{tmp_path}/app.db?node=primary")
    assert "!=3.54.0" in caught.value.hint
    octodb.connect(tmp_path / "plain.db").close()
