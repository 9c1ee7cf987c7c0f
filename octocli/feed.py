"""Waiting on a node's status: wakes at every change the node reports, and looks now and then anyway.

Owns no state of the node; it only reads ``sync_status``. The waiting thread can always be interrupted.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["Node", "Status", "StatusFeed", "error_text", "servers_of"]

Status = dict[str, Any]

# When another process runs the engine no event may reach us, so the status is read at this rate too.
LOOK_S: Final = 0.2


class Node(Protocol):
    """The part of a connection that signing in and waiting need."""

    @property
    def sync_status(self) -> Status: ...

    def on(self, event: str, fn: Callable[[dict[str, Any]], object], /) -> object: ...

    def execute(self, sql: str, /) -> Any: ...

    def is_ready(self) -> bool: ...


class StatusFeed:
    """The status of one connection, to look at and to wait on."""

    def __init__(self, node: Node) -> None:
        self.node = node
        # A SimpleQueue because its put() may be called from any thread, its get() woken by Ctrl-C.
        self._changes: queue.SimpleQueue[None] = queue.SimpleQueue()
        for event in ("status", "ready", "not_ready", "error"):
            node.on(event, self._changed)

    def now(self) -> Status:
        return dict(self.node.sync_status)

    def wait(
        self,
        done: Callable[[Status], bool],
        *,
        patience_s: float | None,
        seen: Callable[[Status], None] = lambda _status: None,
    ) -> Status | None:
        """Wait until ``done(status)``; every new status goes to ``seen`` first.

        Returns that status, or None after ``patience_s`` seconds in which ``progress_of`` did not move.
        """
        last = None
        progress = None
        quiet_since = time.monotonic()
        while True:
            status = self.now()
            if status != last:
                seen(status)
                last = status
            if done(status):
                return status
            if progress_of(status) != progress:
                progress = progress_of(status)
                quiet_since = time.monotonic()
            left_s = LOOK_S
            if patience_s is not None:
                left_s = min(LOOK_S, quiet_since + patience_s - time.monotonic())
                if left_s <= 0:
                    return None
            self._await_change(left_s)

    def _changed(self, _info: dict[str, Any]) -> None:
        self._changes.put(None)

    def _await_change(self, seconds: float) -> None:
        try:
            self._changes.get(timeout=seconds)
            while True:  # several changes at once are one look
                self._changes.get_nowait()
        except queue.Empty:
            return


def progress_of(status: Status) -> tuple[object, ...]:
    """What must move for a wait to be worth while: rows downloaded, entries applied, queue sent."""
    snapshot = status.get("snapshot") or {}
    log = status.get("log") or {}
    transactions = status.get("transactions") or {}
    return (
        snapshot.get("rows"),
        log.get("applied"),
        transactions.get("pending"),
        status.get("node_id"),
    )


def error_text(status: Status) -> str:
    """The last error of the node as words, '' if there is none."""
    error = status.get("last_error")
    if isinstance(error, dict):
        return str(error.get("reason") or error.get("code") or "")
    return "" if error is None else str(error)


def servers_of(status: Status, connect: tuple[str, ...] = ()) -> list[str]:
    """The primaries' addresses without the scheme, the connected one first."""
    current = status.get("server")
    names = [current] if current else []
    names += [address for address in connect if address != current]
    return [name.removeprefix("tcp://").removeprefix("tls://") for name in names]
