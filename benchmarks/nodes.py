"""Real nodes to measure: a primary in a process of its own, ready devices in this one, and the plain file beside them.

The primary has its own process because it would otherwise share the interpreter lock with what is measured.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import octodb

__all__ = ["NOTE_TABLE", "PROJECT", "offline_device", "plain_file", "primary_process", "ready_device"]

NOTE_TABLE: Final = "CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT NOT NULL, n INTEGER, row_owner)"
PROJECT: Final = Path(__file__).resolve().parent.parent
_READY_S_MAX: Final = 120.0
_STOP_S_MAX: Final = 30.0


def plain_file(path: Path, rows: Iterable[tuple[Any, ...]] = (), *, autocommit: bool = False) -> sqlite3.Connection:
    """A stdlib connection to a new file with the note table and ``rows``, set as a device's file is: WAL, NORMAL."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(NOTE_TABLE)
    connection.executemany("INSERT INTO note VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    if autocommit:
        connection.isolation_level = None
    return connection


@contextmanager
def primary_process(path: Path, rows: Iterable[tuple[Any, ...]] = ()) -> Iterator[str]:
    """Serve a new primary with the note table and ``rows`` (owner included); gives the address it listens on."""
    plain_file(path, rows).close()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serve_primary", str(path)],
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
        yield address
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()  # tells it to stop
        try:
            process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def ready_device(path: Path, address: str, *, autocommit: bool = False) -> Iterator[octodb.Connection]:
    """A connected device whose database is downloaded; it syncs while it is measured."""
    uri = f"file:{path}?node=secondary&connect={address}"
    with closing(octodb.connect(uri, isolation_level=None if autocommit else "")) as device:
        if not device.wait_ready(_READY_S_MAX):
            raise RuntimeError(f"the device did not get ready: {device.sync_status}")
        yield device


@contextmanager
def offline_device(path: Path, address: str, *, autocommit: bool = False) -> Iterator[octodb.Connection]:
    """A device that was made ready and then opened again without ``connect=``: its engine has nothing to do."""
    with ready_device(path, address):
        pass
    uri = f"file:{path}?node=secondary"
    with closing(octodb.connect(uri, isolation_level=None if autocommit else "")) as device:
        yield device
