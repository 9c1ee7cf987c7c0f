"""Opening databases for commands, and the way a device becomes usable (sign in, download).

The only module that calls ``octodb.connect``; what is done with the connection is others' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from octocli.failure import Exit, failure_of
from octocli.feed import StatusFeed
from octocli.options import PATIENCE_S
from octocli.progress import wait_ready, wait_synced
from octocli.signin import Action, is_signed_in, sign_in
from octocli.target import Target, with_parameters
from octocli.terminal import Terminal

if TYPE_CHECKING:
    import octodb

__all__ = ["Wait", "become_usable", "open_database", "patience"]

Wait = Literal["ready", "synced", "none"]


def open_database(target: Target, *, read_only: bool = False) -> octodb.Connection:
    """Open it for the command line: any thread, autocommit as in the sqlite3 shell.

    Raises Failure: exit 2 for a wrong URI, 3 for a file that cannot be opened, 5 for an address.
    """
    import octodb

    uri = target.uri
    if read_only and target.role is None:
        uri = with_parameters(uri, mode="ro")
    try:
        conn: octodb.Connection = octodb.connect(
            uri, uri=uri.startswith("file:"), check_same_thread=False, isolation_level=None
        )
        try:
            if target.role is None:
                # SQLite reads the file at the first statement; a file that is none is found out here.
                conn.execute("PRAGMA schema_version").fetchone()
            elif read_only:
                # The engine must go on writing what it receives; only this connection may not.
                conn.execute("PRAGMA query_only=1")
        except BaseException:
            conn.close()
            raise
    except octodb.Error as error:
        failure = failure_of(error, opening=True)
        if failure.code is Exit.CANNOT_OPEN and target.path not in failure.what:
            failure.what = f"cannot open {target.path}: {failure.what}"
        raise failure from error
    return conn


def patience(timeout_s: float | None, terminal: Terminal) -> float | None:
    """How long to wait without progress: as told, for ever with a person, PATIENCE_S in scripts."""
    if timeout_s is not None:
        return timeout_s
    return None if terminal.can_ask else PATIENCE_S


def become_usable(
    feed: StatusFeed,
    terminal: Terminal,
    *,
    wait: Wait = "ready",
    action: Action | None = None,
    data: str | None = None,
    patience_s: float | None = None,
) -> None:
    """Sign the device in if needed and wait as asked. A node that is ready already only waits if told."""
    if wait == "none" and data is None:
        return
    if not feed.node.is_ready():
        known = is_signed_in(feed.now())
        status = sign_in(feed, terminal, action=action, data=data, patience_s=patience_s)
        if not known and status.get("user_id"):
            terminal.say(f"signed in as user {status['user_id']}, node {status['node_id']}")
    if wait != "none":
        _wait(feed, terminal, wait, patience_s)


def _wait(feed: StatusFeed, terminal: Terminal, wait: Wait, patience_s: float | None) -> None:
    try:
        wait_ready(feed, terminal, patience_s=patience_s)
        if wait == "synced":
            wait_synced(feed, terminal, patience_s=patience_s)
    except KeyboardInterrupt:
        terminal.complain("stopped waiting; the login stays valid, an unfinished download starts anew next time")
        raise
