"""Waiting for a device's database: a progress bar of the first download, and what to say on the way.

Writes narration to stderr only. It decides nothing about signing in.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from octocli.failure import Exit, Failure
from octocli.feed import Status, StatusFeed, error_text
from octocli.terminal import Terminal

__all__ = ["WaitDisplay", "in_sync", "sign_in_needed", "unreachable", "wait_ready", "wait_synced"]


class WaitDisplay(AbstractContextManager["WaitDisplay"]):
    """Shows one wait. A bar where stderr is a terminal, otherwise one line for each change."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._said = ""
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def show(self, status: Status) -> None:
        """Take a new status; repeated ones say nothing twice."""
        snapshot = status.get("snapshot")
        if snapshot and self._terminal.stderr_is_tty and not self._terminal.dumb:
            self._advance(snapshot)
            return
        text = "downloading" if snapshot else self._words(status)
        if text and text != self._said:
            self._said = text
            self._terminal.say(text)

    def _words(self, status: Status) -> str:
        if status.get("state") not in {"offline", "connecting", "error"}:
            return ""
        if problem := error_text(status):
            return f"not connected: {problem}; trying again"
        # A person should see that something happens; a script's log is told about trouble only.
        return "connecting…" if self._terminal.stderr_is_tty else ""

    def _advance(self, snapshot: dict[str, Any]) -> None:
        if self._terminal.quiet:
            return
        if self._bar is None:
            self._bar = _bar(self._terminal)
            self._task = self._bar.add_task("downloading", total=None)
            self._bar.start()
        total = snapshot.get("rows_total") or None
        self._bar.update(self._task, completed=snapshot.get("rows") or 0, total=total)


def wait_ready(feed: StatusFeed, terminal: Terminal, *, patience_s: float | None) -> None:
    """Wait until the database can be used. Raises Failure (exit 5) when nothing moves for too long."""
    with WaitDisplay(terminal) as display:
        status = feed.wait(lambda _status: feed.node.is_ready(), patience_s=patience_s, seen=display.show)
    if status is None:
        now = feed.now()
        if not now.get("connected"):
            raise unreachable(now)
        raise Failure(
            "the database is not ready yet",
            why=error_text(now) or f"the download did not move for {patience_s:g} s",
            fix="run the command again: the download starts anew",
            code=Exit.NETWORK,
        )


def wait_synced(feed: StatusFeed, terminal: Terminal, *, patience_s: float | None) -> None:
    """Wait until everything is sent and received. Raises Failure: exit 4 not signed in, exit 5 nothing moves."""
    with WaitDisplay(terminal) as display:
        status = feed.wait(
            lambda look: in_sync(look) or sign_in_needed(look) or is_revoked(look),
            patience_s=patience_s,
            seen=display.show,
        )
    if status is not None and is_revoked(status):
        raise revoked()
    if status is not None and sign_in_needed(status):
        raise Failure(
            "this device is not signed in",
            why="a primary gives nothing to a device it does not know",
            fix="octodb login, or octodb signup (.login and .signup in the shell)",
            code=Exit.AUTHORIZATION,
        )
    if status is None:
        now = feed.now()
        raise Failure(
            "not in sync",
            why=error_text(now) or f"state: {now.get('state')}",
            fix="what was written is safe in this file and is sent when a primary can be reached",
            code=Exit.NETWORK,
        )


def sign_in_needed(status: Status) -> bool:
    """Whether a primary waits for somebody to sign in: nothing will change until then."""
    auth = status.get("auth") or {}
    return bool(auth.get("required")) and not auth.get("pending") and not status.get("node_id")


def is_revoked(status: Status) -> bool:
    return status.get("state") == "revoked"


def revoked() -> Failure:
    """The Failure of a device that was cut off."""
    return Failure(
        "this device was revoked",
        why="an administrator cut it off; its data stays readable here, and what was not sent is kept",
        fix="sign in with a new database file",
        code=Exit.AUTHORIZATION,
    )


def in_sync(status: Status) -> bool:
    """Queue empty and at the primary's head, by the node's own word (design: honest status)."""
    pending = (status.get("transactions") or {}).get("pending")
    if status.get("node_type") == "primary":
        return bool(status.get("db_is_ready"))
    return status.get("state") == "in sync" and not pending


def unreachable(status: Status) -> Failure:
    """The Failure for a wait that ended without a connection."""
    why = error_text(status) or "no answer yet"
    if "certificate" in why or "network key" in why:
        fix = "give the pin that octodb serve prints, its CA, or the network's key; octodb doctor looks closer"
        return Failure("no primary can be trusted", why=why, fix=fix, code=Exit.NETWORK)
    return Failure(
        "cannot reach any primary",
        why=why,
        fix="check connect= in the URI, or start one: octodb serve primary.db --bind tcp://HOST:PORT",
        code=Exit.NETWORK,
    )


def _bar(terminal: Terminal) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True, no_color=not terminal.colour, safe_box=not terminal.unicode)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
    )
    return Progress(*columns, console=console, transient=True)
