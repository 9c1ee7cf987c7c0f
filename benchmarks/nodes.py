"""Real nodes to measure: a primary in a process of its own, ready devices in this one, and the plain file beside them.

The primary has its own process because it would otherwise share the interpreter lock with what is measured.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

import octodb

__all__ = [
    "NOTE_INSERT",
    "NOTE_TABLE",
    "PROJECT",
    "ServedPrimary",
    "check_same_settings",
    "offline_device",
    "open_device",
    "plain_file",
    "primary_process",
    "ready_device",
]

NOTE_TABLE: Final = "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT NOT NULL, n INTEGER, row_owner)"
NOTE_INSERT: Final = "INSERT INTO note(title, n) VALUES (?, ?)"
PROJECT: Final = Path(__file__).resolve().parent.parent
_READY_S_MAX: Final = 120.0
_STOP_S_MAX: Final = 30.0
# What decides how fast SQLite writes and reads a file, and can be set. Not wal_autocheckpoint: the WAL of both is
# written back at 1000 pages, a device's by its engine, and its connections have a higher limit (octodb/storage/wal.py).
_SETTINGS: Final = (
    "journal_mode", "synchronous", "page_size", "cache_size", "mmap_size", "secure_delete", "foreign_keys",
    "locking_mode",
)  # fmt: skip


class ServedPrimary(NamedTuple):
    """A primary in a process of its own."""

    address: str
    pid: int


def plain_file(path: Path, rows: Iterable[tuple[Any, ...]] = (), *, autocommit: bool = False) -> sqlite3.Connection:
    """A stdlib connection to a new file with the note table and ``rows``, set as a device's file is: WAL, NORMAL."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    # on or off as it is in the SQLite of nodes: systems build theirs with it on, apsw-sqlite3mc does, apsw does not
    connection.execute(f"PRAGMA secure_delete = {apsw.Connection(':memory:').pragma('secure_delete')}")
    connection.execute(NOTE_TABLE)
    connection.executemany("INSERT INTO note VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    if autocommit:
        connection.isolation_level = None
    return connection


def check_same_settings(connections: Mapping[str, Any]) -> None:
    """Raises RuntimeError unless all connections write with the same settings: otherwise they are no peers."""
    found = {
        name: [connection.execute(f"PRAGMA {setting}").fetchone() for setting in _SETTINGS]
        for name, connection in connections.items()
    }
    if len({str(settings) for settings in found.values()}) != 1:
        raise RuntimeError(f"the files have different settings ({', '.join(_SETTINGS)}): {found}")


@contextmanager
def primary_process(path: Path, rows: Iterable[tuple[Any, ...]] = (), *, auth: str = "none") -> Iterator[ServedPrimary]:
    """Serve a primary. A new file gets the note table and ``rows`` (owner included).

    With ``auth='user'`` a device that signs in with a number belongs to the user of that number.
    """
    if not path.exists():
        plain_file(path, rows).close()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serve_primary", str(path), auth],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the primary did not start; its message is above")
        yield ServedPrimary(address, process.pid)
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # tells it to stop
        try:
            process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def open_device(path: Path, address: str = "", *, user: int = 0, autocommit: bool = False) -> octodb.Connection:
    """A device, ready to use. Without ``address`` it stays offline; ``user``: signed in as that user (auth=user)."""
    uri = f"file:{path}?node=secondary" + (f"&connect={address}" if address else "")
    device: octodb.Connection = octodb.connect(uri, isolation_level=None if autocommit else "")
    try:
        if user and not device.is_ready():
            device.execute(f"PRAGMA user_login='{user}'")
        if not device.wait_ready(_READY_S_MAX):
            raise RuntimeError(f"the device did not get ready: {device.sync_status}")
    except BaseException:
        device.close()
        raise
    return device


@contextmanager
def ready_device(path: Path, address: str, *, user: int = 0, autocommit: bool = False) -> Iterator[octodb.Connection]:
    """A connected device whose database is downloaded; it syncs while it is measured."""
    with closing(open_device(path, address, user=user, autocommit=autocommit)) as device:
        yield device


@contextmanager
def offline_device(path: Path, address: str, *, autocommit: bool = False) -> Iterator[octodb.Connection]:
    """A device that was made ready and then opened again without ``connect=``: its engine has nothing to do."""
    open_device(path, address).close()
    with closing(open_device(path, autocommit=autocommit)) as device:
        yield device
