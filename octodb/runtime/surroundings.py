"""What an engine takes from the world outside: clocks, randomness, threads for SQLite, its lock, the status sidecar.

The network is the event loop's. The simulator has surroundings and a loop of its own, under which the very same
engines run in virtual time (tests/simulation/).
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import apsw

from octodb.model.file_key import FileKey
from octodb.model.identities import Role
from octodb.runtime.device_info import collect_node_info, new_key_pair, whereabouts
from octodb.runtime.engine_lock import EngineLock
from octodb.runtime.engine_thread import StorageThread
from octodb.runtime.poke import PokeReceiver
from octodb.runtime.status_file import remove_status_file, write_status_file
from octodb.storage.database import engine_connection, reading_connection

__all__ = ["Lock", "Pokes", "Storage", "Surroundings"]

_T = TypeVar("_T")


class Storage(Protocol):
    """Runs the SQLite work of one engine, in order, off the event loop."""

    async def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run ``function(*arguments)`` and return or raise what it does."""

    async def run_patiently(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """As ``run``; while an application holds the write lock, ask again."""

    def hold(self, timeout_s: float) -> Callable[[], None]:
        """Stand still from now until what is returned is called."""

    def close(self) -> None:
        """End after what was asked."""


class Lock(Protocol):
    """Which process runs the engine of a file."""

    def acquire(self) -> bool:
        """Take it if no other process has it."""

    def release(self) -> None:
        """Give it up."""

    def forget_in_child(self) -> None:
        """This is a forked child: the lock is its parent's."""


class Pokes(Protocol):
    """Hears of commits of other processes."""

    def close(self) -> None:
        """Hear no more."""

    def forget_in_child(self) -> None:
        """This is a forked child: they are its parent's."""


class Surroundings:
    """The real ones."""

    def monotonic(self) -> float:
        """Seconds, for time-outs."""
        return time.monotonic()

    def wall_clock(self) -> float:
        """Seconds since the epoch, for people to read."""
        return time.time()

    def random_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)

    def jitter(self) -> float:
        """Between 0 and 1: it spreads reconnections, it hides nothing."""
        return random.random()  # noqa: S311

    def new_keys(self) -> tuple[bytes, bytes]:
        """A private and a public Ed25519 key, raw."""
        return new_key_pair()

    def whereabouts(self, path: str) -> str:
        """What is different for a copy of the file (design.md §8)."""
        return whereabouts(path)

    def node_info(self, public_key: bytes, node_type: str, extra: str) -> str:
        return collect_node_info(public_key, node_type, extra)

    def storage(self, name: str) -> Storage:
        return StorageThread(name)

    def lock(self, path: str) -> Lock:
        return EngineLock(path)

    def pokes(self, path: str, poked: Callable[[], object]) -> Pokes:
        """Call ``poked()`` on the running loop when another process has committed to the file."""
        return PokeReceiver(path, poked)

    def engine_connection(self, path: str, role: Role, key: FileKey | None) -> apsw.Connection:
        return engine_connection(path, role, key)

    def reading_connection(self, path: str, key: FileKey | None) -> apsw.Connection:
        return reading_connection(path, key)

    def publish(self, path: str, status: dict[str, Any]) -> None:
        write_status_file(path, status)

    def withdraw(self, path: str) -> None:
        """No engine runs any more: take back what was published."""
        remove_status_file(path)
