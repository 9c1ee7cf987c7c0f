"""What a connection to a node has beyond sqlite3: readiness, events, callbacks, status (contract.md §4).

Thin: every method asks the node. On a plain database they say that it is no node.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import apsw

from octodb.errors import OperationalError, ProgrammingError
from octodb.runtime.authorizer import CALLBACK_NAMES
from octodb.runtime.nodes import Node

__all__ = ["NodeMethods"]


class NodeMethods:
    """Methods of connections that were opened with ``node=``."""

    _db: apsw.Connection
    _node: Node | None = None

    @abstractmethod
    def _turn(self) -> AbstractContextManager[object]:
        """See Connection."""

    @abstractmethod
    def _admit_callback_thread(self) -> None:
        """See Connection."""

    def _require_node(self) -> Node:
        if self._node is None:
            raise ProgrammingError(
                "this connection is a plain database, not a node",
                hint="open it with a node URI: octodb.connect('file:app.db?node=secondary&connect=tcp://…')",
            )
        return self._node

    def is_ready(self) -> bool:
        """Whether the database can be used. Once true it stays true, offline too."""
        return self._require_node().is_ready()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the database is ready; False when ``timeout`` seconds were not enough."""
        node = self._require_node()
        return node.wait_until(node.is_ready, timeout)

    def wait_synced(self, timeout: float | None = None) -> bool:
        """Wait until every local transaction has a verdict and this node is at the primary's head.

        False when ``timeout`` seconds were not enough; nothing is lost then, the work goes on.
        """
        return self._require_node().wait_synced(lambda: self.sync_status, timeout)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every transaction committed on this file before this call is accepted or rejected.

        By any connection and process; which of them syncs does not matter. False when ``timeout`` seconds were not
        enough; nothing is lost then, the work goes on. On a primary True at once: its COMMIT is the verdict.
        Raises OperationalError where this connection's own open transaction keeps verdicts from being stored.
        """
        with self._turn():
            node = self._require_node()
        return node.flush(timeout, self._require_no_write)

    def _require_no_write(self) -> None:
        with self._turn():
            if self._db.txn_state("main") == apsw.SQLITE_TXN_WRITE:
                raise OperationalError(
                    "flush() would wait in vain: the open transaction keeps verdicts from being stored",
                    hint="commit() or rollback() first",
                )

    def on(self, event: str, callback: Callable[[dict[str, Any]], object]) -> None:
        """Call ``callback(info)`` on a worker thread at each ``event``.

        Events: ready, not_ready, sync (rows of others came), error, rejected, verdict, repaired (rows that differed
        from the primary's were mended), status.
        Raises ProgrammingError for another name.
        """
        self._require_node().events.on(event, callback)

    def register_function(self, name: str, nargs: int, function: Callable[..., Any] | None) -> None:
        """Set a callback of the authorization or notification logic; None removes it.

        Names: user_signup, user_login, new_node, sync_notification, transaction_notification. ``nargs`` is the number
        of arguments the function takes; -1: whatever it is given. It runs on a worker thread, which may use
        this connection.
        """
        node = self._require_node()
        if function is not None and not callable(function):
            raise ProgrammingError("function must be callable")
        self._admit_callback_thread()
        node.register_function(name, function)

    def _diverts_function(self, name: str, narg: int, func: Callable[..., Any] | None) -> bool:
        if self._node is None or name not in CALLBACK_NAMES:
            return False
        self.register_function(name, narg, func)
        return True

    def set_login_fields(self, fields: list[dict[str, Any]]) -> None:
        """On a primary: what a device's sign-in form asks, e.g. ``[{"name": "pin", "secret": True}]``."""
        self._require_node().set_login_fields(tuple(fields))

    def new_user_id(self) -> int:
        """On a primary: a user id that was never given before, for authorization logic that keeps its own users."""
        return self._require_node().new_user_id()

    @property
    def sync_status(self) -> dict[str, Any]:
        """The status of this node now (design.md §11); ``PRAGMA sync_status`` gives the same as JSON."""
        with self._turn():
            return self._require_node().status_dict()

    @property
    def node_uri(self) -> str:
        """The URI this node was opened with, without ``key`` and ``hexkey``."""
        return str(self._require_node().uri)
