"""Pokes between processes: one that commits to a file tells the one that runs its engine to look (design.md §10).

A datagram to a port of this machine, which a file beside the database names together with a word that only those know
who may read that file. (No socket in its place: programs that copy folders stumble over those.) Only a hint, which may
get lost: what is true stands in the database, and the engine looks there every now and then by itself
(``PRAGMA data_version``). So nothing here raises.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["POKE_SUFFIX", "PokeReceiver", "PokeSender"]

POKE_SUFFIX: Final = "-octodb.poke"
_HOST: Final = "127.0.0.1"
_WORD_BYTES: Final = 16
_FILE_BYTES_MAX: Final = 64
_READ_MAX: Final = 64


class PokeReceiver:
    """Calls ``poked()`` on the running loop when a process has committed to the database at ``path``.

    For the engine alone: the holder of its lock takes the place of one that was killed.
    """

    def __init__(self, path: str, poked: Callable[[], object]) -> None:
        self._path = path + POKE_SUFFIX
        self._loop = asyncio.get_running_loop()
        self._poked = poked
        self._word = secrets.token_bytes(_WORD_BYTES)
        self._socket: socket.socket | None = None
        with contextlib.suppress(OSError):
            self._open()

    def _open(self) -> None:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind((_HOST, 0))
            made.setblocking(False)
            self._publish(made.getsockname()[1])
        except OSError:
            made.close()
            raise
        self._socket = made
        self._loop.add_reader(made.fileno(), self._read)

    def _publish(self, port: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{port} {self._word.hex()}")

    def _read(self) -> None:
        """However many there are, they ask for one look."""
        assert self._socket is not None
        poked = False
        with contextlib.suppress(OSError):  # there are no more
            for _ in range(_READ_MAX):
                poked = secrets.compare_digest(self._socket.recv(_WORD_BYTES + 1), self._word) or poked
        if poked:
            self._poked()

    def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def forget_in_child(self) -> None:
        """This is a forked child: close its copy, which its parent goes on reading."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                os.close(self._socket.detach())
            self._socket = None


class PokeSender:
    """Pokes the engine of the database at ``path``, whichever process runs it. From any thread."""

    def __init__(self, path: str) -> None:
        self._path = path + POKE_SUFFIX
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._read_at: tuple[int, int] | None = None  # which file, and when it was written
        self._address, self._word = (_HOST, 0), b""

    def poke(self) -> None:
        """Never waits: an engine that has not read its last pokes yet will look anyway."""
        with self._lock, contextlib.suppress(OSError, ValueError, OverflowError):
            found = os.stat(self._path)
            if not stat.S_ISREG(found.st_mode):
                return
            if self._read_at != (found.st_ino, found.st_mtime_ns):
                with open(self._path) as file:
                    port, word = file.read(_FILE_BYTES_MAX).split()
                self._address, self._word = (_HOST, int(port)), bytes.fromhex(word)
                self._read_at = found.st_ino, found.st_mtime_ns
            if self._socket is None:
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(self._word, self._address)

    def close(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
