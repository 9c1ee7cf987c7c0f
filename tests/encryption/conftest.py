"""Real nodes whose files are encrypted. They need apsw with encryption, which ``make test-encryption`` fetches."""

import os
import pathlib

import pytest

import octodb
from octodb.installation import can_encrypt
from tests.integration.conftest import Programs, World

KEY = "correct horse battery staple"
HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(items):
    if not can_encrypt():
        skip = pytest.mark.skip(reason="this apsw is the build without encryption: make test-encryption")
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(skip)


class Vault(World):
    """As World. ``keys``: the part of every URI that tells how its file is encrypted; "" for plain files."""

    def __init__(self, folder):
        super().__init__(folder)
        self.key_file = folder / "the.key"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(KEY + "\n")
        self.keys = f"&cipher=chacha20&key_file={self.key_file}"

    def primary_uri(self, auth="none", keys=None):
        keys = self.keys if keys is None else keys
        return f"file:{self.folder}/primary.db?node=primary&bind=tcp://127.0.0.1:0&auth={auth}{keys}"

    def primary(self, schema="", *, auth="none", keys=None):
        primary = octodb.connect(self.primary_uri(auth, keys))
        self.open.append(primary)
        primary.executescript(schema)
        primary.commit()
        self.address = primary.sync_status["bind"][0]
        return primary

    def device_uri(self, name, connect=None, keys=None):
        return super().device_uri(name, connect) + (self.keys if keys is None else keys)

    def plain_uri(self, name, keys=None):
        return f"file:{self.folder}/{name}.db?" + (self.keys if keys is None else keys).removeprefix("&")

    def files_with(self, *marks):
        """Names of files in the folder that hold one of ``marks``, bytes, in the clear."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path != self.key_file]
        return {path.name for path in files if any(mark in path.read_bytes() for mark in marks)}


@pytest.fixture(autouse=True)
def _no_key_around(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OCTODB_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def vault(tmp_path):
    """See Vault; everything is closed at the end."""
    vault = Vault(tmp_path)
    yield vault
    vault.close()


@pytest.fixture
def programs(tmp_path):
    programs = Programs(tmp_path)
    yield programs
    programs.close()
