"""Where a watched status comes from: this process's own connection, or the file another one publishes.

A primary is never started only to be looked at: watching it must not make it serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from octocli.database import open_database
from octocli.feed import Status
from octocli.target import Target

if TYPE_CHECKING:
    import octodb

__all__ = ["StatusSource"]


class StatusSource:
    """``read()`` is cheap enough to be called four times a second."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._conn: octodb.Connection | None = None

    def open(self) -> None:
        """Take part in the node, so that a device syncs while it is watched."""
        if self._target.role == "secondary":
            self._conn = open_database(self._target)

    def read(self) -> Status:
        import octodb

        if self._conn is not None:
            return dict(self._conn.sync_status)
        return dict(octodb.read_status(self._target.uri))

    def reconnect(self) -> None:
        """Drop the connection and dial again, where this process runs the engine."""
        if self._conn is not None:
            self.close()
            self.open()

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
