"""Nodes of this process: one ``Node`` for each node file that is open, shared by all its connections.

Owns the registry, the start and end of engines, and the answers that connections need from the engine's side
(``NodePort``). An engine runs as long as a connection to its file is open.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import apsw

from octodb.errors import ConfigError, DatabaseError, InsecureWarning, OperationalError, ProgrammingError
from octodb.installation import check_fit
from octodb.log.embedded_log import AdminAppender
from octodb.model.admissions import Admission
from octodb.model.identities import AuthMode, Identity, NodeRecord, Role
from octodb.model.node_uri import Address, NodeUri, parse_node_uri
from octodb.model.status import NodeState, QueueStatus, SyncStatus
from octodb.runtime.authorizer import CALLBACK_NAMES, CallbackAuthorizer
from octodb.runtime.device_engine import DeviceEngine
from octodb.runtime.device_info import new_node_seed, notice_of
from octodb.runtime.engine_lock import EngineLock
from octodb.runtime.engine_thread import EngineThread
from octodb.runtime.events import TRANSACTION_NOTIFICATION, EventThread
from octodb.runtime.file_identity import FileIdentity
from octodb.runtime.poke import PokeSender
from octodb.runtime.pragmas import answer_pragma
from octodb.runtime.primary_engine import PrimaryEngine, check_addresses
from octodb.runtime.status_file import CONNECTED_NODES, WAITING_NODES, read_status_file
from octodb.runtime.surroundings import Surroundings
from octodb.runtime.tls import load_certificate
from octodb.storage.admission import admit_as_told
from octodb.storage.apsw_errors import explained, translated
from octodb.storage.database import close_in_child, connect_file, open_node_file, reading_connection
from octodb.storage.device_store import queue_status
from octodb.storage.encryption import find_key, open_connection, why_not_readable
from octodb.storage.meta import Meta, Outbox, is_node_file
from octodb.storage.node_statements import NodeStatements, PragmaAnswer
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.recording import DeviceRecorder, PrimaryRecorder, Recorder

__all__ = ["Node", "open_node", "read_status", "remembered_uri"]

_START_S_MAX: Final = 30.0
_STOP_S_MAX: Final = 15.0
_POLL_S: Final = 0.05
# A fork waits this long for an engine to come out of SQLite: longer than that waits for a lock (database.py).
_HOLD_S_MAX: Final = 2.0
# What a primary takes before it knows who sends it (wire HANDSHAKE_BYTES_MAX), less the message around it.
_LOGIN_BYTES_MAX: Final = 60_000
_LOOK_BUSY_MS: Final = 2000
# The storage thread of the authorization service asks again, so that a fork need not wait for it.
_ADMISSION_LOCK_S: Final = 1.0
_ADMISSION_S_MAX: Final = 10.0
_STEPS_BETWEEN_LOOKS: Final = 10_000


class Node:
    """One node file in this process."""

    def __init__(self, uri: NodeUri, values: dict[str, Any]) -> None:
        assert uri.role is not None
        self.uri = uri
        self.role = uri.role
        self.connections = 0
        self.statements: weakref.WeakSet[NodeStatements] = weakref.WeakSet()
        self.events = EventThread("octodb-events")
        self.authorizer = CallbackAuthorizer(self.events)
        self._tells_verdicts = False
        self.public_key: bytes = values["public_key"]
        self._auth = values.get("auth")
        self._ready = bool(values.get("ready"))
        self._queue = QueueStatus()  # as last read
        self._onlooker: apsw.Connection | None = None
        self._onlooker_lock = threading.RLock()
        self._changed = threading.Condition()
        self._poke = PokeSender(uri.path)
        self._thread: EngineThread | None = None
        self._engine: DeviceEngine | PrimaryEngine
        if self.role is Role.PRIMARY:
            self._engine = PrimaryEngine(uri, self.authorizer, self._emit, Surroundings(), self._admit_as_told)
        else:
            self._engine = DeviceEngine(uri, self._emit, Surroundings())

    # --- life ----------------------------------------------------------------------------------------

    def start(self, thread: EngineThread) -> None:
        """Run the engine. A node that is opened to be read only (mode=ro) is not started: it has none."""
        self._thread = thread
        thread.run(self._engine.start(), _START_S_MAX)

    def stop(self) -> None:
        try:
            if self._thread is not None:
                self._thread.run(self._engine.stop(), _STOP_S_MAX)
        finally:
            self.events.close()
            self._poke.close()
            with self._onlooker_lock:
                if self._onlooker is not None:
                    self._onlooker.close()
                    self._onlooker = None

    def hold(self, timeout_s: float) -> Callable[[], None]:
        """Keep the engine out of SQLite until what is returned is called."""
        return self._engine.hold(timeout_s)

    def forget_in_child(self) -> bool:
        """This is a forked child: give up what goes on in the parent. False: the file cannot be used here."""
        self._onlooker_lock = threading.RLock()  # another thread may have had it
        inherited = [statements.db for statements in self.statements]
        for statements in self.statements:
            if statements.inherited is not None:
                statements.inherited()
        inherited += [] if self._onlooker is None else [self._onlooker]
        return all([self._engine.forget_in_child(), *map(close_in_child, inherited)])

    # --- NodePort ------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        with self.onlooker() as db:
            return Identity.of(Meta(db).get_all())

    @contextmanager
    def onlooker(self) -> Iterator[apsw.Connection]:
        """A connection that sees what is committed, whatever transactions applications have open."""
        with self._onlooker_lock:
            try:
                if self._onlooker is None:
                    self._onlooker = reading_connection(self.uri.path, self.uri.file_key)
                yield self._onlooker
            except apsw.Error as error:
                raise translated(error) from None

    @contextmanager
    def writer(self, timeout_s: float) -> Iterator[NodeStatements]:
        """Statements on a connection of their own, without the triggers, functions and settings of an application.
        ``timeout_s``: how long to wait for the write lock."""
        db = connect_file(self.uri, timeout_s)
        try:
            yield NodeStatements(db, self.role, self)
        finally:
            db.close(True)

    def recorder(self, db: apsw.Connection, identity: Identity) -> Recorder:
        if self.role is Role.PRIMARY:
            return PrimaryRecorder(db, AdminAppender(db, time.time))
        return DeviceRecorder(db, identity, time.time)

    def committed(self) -> None:
        """Wake the engine, once for all that is committed until it has looked; in another process by a poke."""
        if not self._engine.running:
            self._poke.poke()
        elif self._thread is not None and self._engine.wants_poke:
            self._engine.wants_poke = False
            self._thread.call(self._engine.committed)

    def pragma(self, db: apsw.Connection, name: str, argument: str | None) -> PragmaAnswer | None:
        return answer_pragma(self, db, name, argument)

    # --- what applications ask -------------------------------------------------------------------------

    def status(self) -> SyncStatus:
        """The status now. The queue is read from the file; the rest is the engine's."""
        status = replace(self._engine.status(), encrypted=self.uri.cipher is not None)
        if self.role is Role.PRIMARY:
            return status
        try:
            with self.onlooker() as db:
                self._queue = queue_status(db, time.time())
        except DatabaseError as error:  # the status must tell of it, not fail of it
            status = replace(status, state=NodeState.ERROR, last_error=status.last_error or explained(error))
        return status.with_queue(self._queue)

    def status_dict(self) -> dict[str, Any]:
        """As ``status``, or what the process that runs the engine last published, with its age."""
        if not self._engine.running:
            published = read_status_file(self.uri.path)
            if published is not None:
                try:
                    with self.onlooker() as db:
                        return _with_queue(published, db, self.role)
                except DatabaseError as error:
                    return {**published, "state": str(NodeState.ERROR), "last_error": explained(error)}
        result = self.status().to_dict()
        if not self._engine.running:
            identity = self.identity()
            result["node_id"], result["user_id"] = identity.node_id, identity.user_id
            result["db_is_ready"], result["public_key"] = identity.ready, self.public_key.hex()
            if self.role is Role.PRIMARY:
                result["auth"]["mode"] = self._auth
        return result

    def request_login(self, action: str, data: str) -> None:
        """Send, or keep until it can be sent, a signup or login (contract.md §3).

        Raises ProgrammingError for a text that no primary would take, OperationalError where another process syncs the
        file: only that one can sign it in.
        """
        if len(data.encode("utf-8", "surrogatepass")) > _LOGIN_BYTES_MAX:
            raise ProgrammingError(
                f"the text of {action} is longer than {_LOGIN_BYTES_MAX:,} bytes",
                hint="send a token, not the data itself",
            )
        if self.identity().node_id and not self._engine.status().auth.required:
            return  # repeated by an authorized device it changes nothing
        if self.uri.read_only:
            raise OperationalError(
                "this device is open with mode=ro, so it cannot be signed in from here",
                hint="open it without mode=ro",
            )
        _warn_of_plain(
            self.uri.connect, "others on the network can read how this device signs in; use tls:// in connect="
        )
        if isinstance(self._engine, DeviceEngine) and self._thread is not None:
            engine = self._engine
            if not engine.running and EngineLock(self.uri.path).is_held_by_somebody():
                raise OperationalError(
                    "another process syncs this file, so it cannot be signed in from here",
                    hint="sign in there, or close it first",
                )
            # waited for, so that the next look at the status already shows the request
            self._thread.run(_as_coroutine(lambda: engine.request_login(action, data)), _START_S_MAX)

    def new_user_id(self) -> int:
        """A fresh user id. Raises OperationalError on a device."""
        if not isinstance(self._engine, PrimaryEngine):
            raise OperationalError("user ids are given by primaries")
        try:
            if self._thread is None or not self._engine.running:  # beside the process that serves
                with self.writer(_LOOK_BUSY_MS / 1000) as statements:
                    return PrimaryStore(statements.db, time.time).new_user_id()
            return self._thread.run(self._engine.new_user_id(), _START_S_MAX)
        except apsw.Error as error:
            raise translated(error) from None

    def set_login_fields(self, fields: tuple[dict[str, Any], ...]) -> None:
        if isinstance(self._engine, PrimaryEngine) and self._thread is not None:
            self._thread.call(self._engine.set_login_fields, fields)

    def connected_nodes(self) -> dict[int, str]:
        """As ``PrimaryEngine.connected_nodes``, or as the process that serves the file last published it."""
        if isinstance(self._engine, PrimaryEngine) and self._engine.running:
            return self._engine.connected_nodes()
        published = (read_status_file(self.uri.path) or {}).get(CONNECTED_NODES, {})
        return {int(node_id): address for node_id, address in published.items()}

    def waiting_nodes(self) -> list[tuple[bytes, str, str, str, float]]:
        """As ``PrimaryEngine.waiting_nodes``, or what the process that serves the file last published of it."""
        if isinstance(self._engine, PrimaryEngine) and self._engine.running:
            return self._engine.waiting_nodes()
        published = (read_status_file(self.uri.path) or {}).get(WAITING_NODES, ())
        return [(bytes.fromhex(key), *rest) for key, *rest in published]

    def set_authorizer_service(self, address: Address | None) -> None:
        """Ask the service at ``address``, or the callbacks again. Raises OperationalError where this process does not
        serve the primary: it asks nobody."""
        if not isinstance(self._engine, PrimaryEngine) or self._thread is None or not self._engine.running:
            raise OperationalError(
                "this process does not serve the primary, so it asks no authorization service",
                hint="set it in the process that does, or start that with authorizer= in its URI",
            )
        self._thread.run(self._engine.set_service(address), _START_S_MAX)

    def _admit_as_told(self, admission: Admission, node_info: str) -> NodeRecord:
        """On the storage thread of the authorization service."""
        deadline = time.monotonic() + _ADMISSION_S_MAX
        with self.writer(_ADMISSION_LOCK_S) as statements:
            # the SQL is somebody else's, and meanwhile no device's transaction is accepted
            statements.db.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            record = admit_as_told(statements, time.time, admission, node_info)
        self.committed()
        return record

    def register_function(self, name: str, function: Callable[..., Any] | None) -> None:
        """Set a callback of contract.md §4. Raises ProgrammingError for another name."""
        if name not in CALLBACK_NAMES:
            raise ProgrammingError(
                f"{name!r} is no callback", hint=f"known callbacks: {', '.join(sorted(CALLBACK_NAMES))}"
            )
        self.authorizer.register(name, function)
        if name == TRANSACTION_NOTIFICATION and function is not None and not self._tells_verdicts:
            self._tells_verdicts = True
            self.events.listen(TRANSACTION_NOTIFICATION, self._tell_verdict)

    def is_ready(self) -> bool:
        self._ready = self._ready or self.identity().ready  # once it is, it stays so
        return self._ready

    def wait_until(self, condition: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait until ``condition()`` holds; False when ``timeout_s`` seconds were not enough."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not condition():
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            with self._changed:
                # another process may run the engine: then nothing wakes us and the file is asked again
                self._changed.wait(_POLL_S if left_s is None else min(_POLL_S, left_s))
        return True

    def flush(self, timeout_s: float | None, look: Callable[[], None]) -> bool:
        """Wait until every transaction that is committed now has a verdict; False when ``timeout_s`` seconds were not
        enough. ``look`` is called now and then while there is something to wait for: what it raises ends the waiting.
        """
        if self.role is Role.PRIMARY:
            return True  # a commit on a primary is the log itself
        with self.onlooker() as db:
            newest = Outbox(db).last_nonce()

        def settled() -> bool:
            with self.onlooker() as db:
                oldest = Outbox(db).oldest()
            if oldest is None or oldest[0] > newest:
                return True
            look()
            return False

        return self.wait_until(settled, timeout_s)

    def wait_synced(
        self,
        status: Callable[[], dict[str, Any]],
        timeout_s: float | None,
        look: Callable[[], None] = lambda: None,
    ) -> bool:
        """``status`` gives the status as a dict. What the primary said of its head before this call does not count.
        ``look`` as for ``flush``."""
        if self.role is Role.PRIMARY:
            return True  # a commit on a primary is the log itself
        engine, asked_at = self._engine, time.monotonic()
        if isinstance(engine, DeviceEngine) and self._thread is not None:
            self._thread.call(engine.ask_head)

        def synced() -> bool:
            look()
            if isinstance(engine, DeviceEngine) and engine.running and (engine.head_known_at or 0) < asked_at:
                return False
            return bool(status()["state"] == str(NodeState.IN_SYNC))

        return self.wait_until(synced, timeout_s)

    def check_rows(self, timeout_s: float, look: Callable[[], None]) -> str:
        """Compare a device's rows with the primary's, and mend what differs (design.md §11).

        'ok'; 'repaired: …' and 'different: …' with the tables; 'unknown' when ``timeout_s`` seconds were not enough,
        offline for example. Raises OperationalError where another process syncs the file.
        """
        engine = self._engine
        checking = engine.checking if isinstance(engine, DeviceEngine) else None
        if checking is None or self._thread is None or not isinstance(engine, DeviceEngine):
            raise OperationalError("another process syncs this file, so it cannot be checked from here")
        before = checking.finished
        self._thread.call(engine.check_rows)

        def finished() -> bool:
            look()
            return checking.finished > before

        if not self.wait_until(finished, timeout_s):
            return "unknown"
        if not checking.ok:
            return f"different: {', '.join(checking.different)}"
        return f"repaired: {', '.join(checking.mended)}" if checking.mended else "ok"

    def _emit(self, event: str, info: dict[str, Any]) -> None:
        """On the engine thread."""
        with self._changed:
            self._changed.notify_all()
        self.events.emit(event, info)
        if event == "sync" and (function := self.authorizer.get("sync_notification")) is not None:
            self.events.submit(function)
        if event == "verdict":
            self.events.emit(TRANSACTION_NOTIFICATION, info)

    def _tell_verdict(self, info: dict[str, Any]) -> None:
        """On the event thread."""
        if (function := self.authorizer.get(TRANSACTION_NOTIFICATION)) is not None:
            function(info["nonce"], info["status"])


class _Registry:
    """The nodes of this process by file, and the thread their engines run on."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._nodes: dict[tuple[str, bool], Node] = {}  # by file, and whether it is only read
        self._thread: EngineThread | None = None
        self._inherited: list[object] = []  # kept: to let go of a connection would close it
        self._unusable: set[str] = set()  # files of which the parent's connections could not be closed here
        self._releases: list[Callable[[], None]] = []
        atexit.register(self.close_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._hold_still, after_in_parent=self._go_on, after_in_child=self._forget)

    def enter(self, uri: NodeUri, values: dict[str, Any]) -> Node:
        with self._lock:
            node = self._nodes.get((uri.path, uri.read_only))
            if node is None:
                node = Node(uri, values)
                if not uri.read_only:
                    self._start(node)
                self._nodes[uri.path, uri.read_only] = node
            elif (node.uri.connect, node.uri.bind) != (uri.connect, uri.bind):
                raise ConfigError(
                    f"{uri.path} is open in this process already, with another connect= or bind=",
                    hint="close it first, or use the same URI",
                )
            elif uri.authorizer not in {None, node.uri.authorizer}:
                raise ConfigError(
                    f"{uri.path} is open in this process already, with another authorizer=",
                    hint="PRAGMA authorizer_service sets another one",
                )
            node.connections += 1
            return node

    def _start(self, node: Node) -> None:
        if self._thread is None:
            self._thread = EngineThread()
        try:
            node.start(self._thread)
        except BaseException:
            node.events.close()
            raise

    def leave(self, node: Node) -> None:
        with self._lock:
            node.connections -= 1
            key = node.uri.path, node.uri.read_only
            if node.connections == 0 and self._nodes.get(key) is node:
                del self._nodes[key]
                node.stop()

    def close_all(self) -> None:
        """The process ends: send what can be sent, leave the lock."""
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
            for node in nodes:
                node.stop()
            if self._thread is not None:
                self._thread.stop()
                self._thread = None

    def check_usable(self, path: str) -> None:
        """Raises OperationalError in a forked child that has a part of its parent's write transaction."""
        if path in self._unusable:
            raise OperationalError(
                f"{path} was being written when this process was forked, so it cannot be used here",
                hint="commit before the fork, or start the child anew (multiprocessing: 'spawn' or 'forkserver')",
            )

    def _hold_still(self) -> None:
        """Before a fork: nobody is inside SQLite, but threads of the application."""
        self._lock.acquire()
        self._releases = [node.hold(_HOLD_S_MAX) for node in self._nodes.values()]

    def _go_on(self) -> None:
        for release in self._releases:
            release()
        self._releases = []
        self._lock.release()

    def _forget(self) -> None:
        """After fork the child has none of the threads: it starts clean (design.md §10). What it inherited is its
        parent's: sockets and databases are closed here, in a way that the parent does not notice."""
        self._lock = threading.RLock()
        self._releases = []
        self._unusable |= {node.uri.path for node in list(self._nodes.values()) if not node.forget_in_child()}
        self._inherited += [*self._nodes.values(), self._thread]
        self._nodes = {}
        self._thread = None


_registry: Final = _Registry()


class _OpenNodeStatements(NodeStatements):
    """Node statements that keep their node's engine running until they are closed."""

    def __init__(self, db: apsw.Connection, node: Node) -> None:
        super().__init__(db, node.role, node)
        self.node = node
        self.encrypted = node.uri.cipher is not None
        self._file = FileIdentity(node.uri.path)
        node.statements.add(self)
        self._open = True

    def _commit(self) -> None:
        if self._fresh:  # it has written, or may have
            self._file.check_often()  # what is committed to a file that is gone is lost without a word
        super()._commit()

    def close(self) -> None:
        super().close()
        if self._open:
            self._open = False
            _registry.leave(self.node)


def open_node(uri: NodeUri, timeout_s: float) -> _OpenNodeStatements:
    """Open a node's file, start its engine when this process has none for it yet, and return what runs its SQL.

    Raises ConfigError, ConnectError (bind= cannot be had), DatabaseError, OperationalError.
    """
    check_fit()
    uri = find_key(_absolute(uri))
    _registry.check_usable(uri.path)
    if not os.path.exists(uri.path):
        if uri.tls.certificate is not None:
            load_certificate(uri.tls)
        check_addresses(uri.bind)  # a file keeps its role and auth mode: none is made for a mistyped address
    db = connect_file(uri, timeout_s)
    try:
        engine_runs = EngineLock(uri.path).is_held_by_somebody
        values = open_node_file(db, uri, new_node_seed, notice_of(uri.path), engine_runs)
        node = _registry.enter(uri, values)
    except BaseException:
        db.close(True)
        raise
    try:
        if values.get("auth") == str(AuthMode.USER):
            _warn_of_plain(uri.bind, "others on the network can read how users sign in; use tls:// in bind=")
        return _OpenNodeStatements(db, node)
    except BaseException:
        db.close(True)
        _registry.leave(node)
        raise


def remembered_uri(path: str) -> str | None:
    """The URI that the node file at ``path`` was last opened with; None when it is no node.

    It names this file, also when the file was moved since. ``path`` may be a URI: an encrypted file's, with its
    ``cipher=`` and key, of which what is returned repeats the cipher alone. Raises ConfigError where the key cannot
    be had, DatabaseError where it does not open the file.
    """
    named = parse_node_uri(path)
    path = named.path
    if not os.path.isfile(path):
        return None
    try:
        db = open_connection(path, apsw.SQLITE_OPEN_READONLY, find_key(named).file_key)
    except apsw.Error:
        return None
    try:
        db.set_busy_timeout(_LOOK_BUSY_MS)  # another process may be recovering the WAL of one that was killed
        if named.cipher is not None:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        remembered = Meta(db).get("uri") if is_node_file(db) else None
    except apsw.NotADBError:
        raise why_not_readable(path, find_key(named).file_key) from None
    finally:
        db.close()
    if remembered is None:
        return None
    # how it is encrypted now: what was remembered may be of before octodb encrypt
    return str(_absolute(replace(parse_node_uri(remembered), path=path, cipher=named.cipher, secret=None)))


def read_status(path_or_uri: str) -> dict[str, Any]:
    """The status of a node file without starting an engine: what the process that syncs it last published, or what the
    file alone tells. Raises ConfigError when it is no node, or one of a later octodb."""
    uri = _absolute(parse_node_uri(path_or_uri))
    path = uri.path
    if not os.path.isfile(path):
        raise ConfigError(f"there is no file {path}", hint="connect it first: octodb connect URI")
    key = find_key(uri).file_key
    try:
        db = open_connection(path, apsw.SQLITE_OPEN_READWRITE, key)
        db.set_busy_timeout(_LOOK_BUSY_MS)
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        known = is_node_file(db)
    except apsw.NotADBError:
        raise why_not_readable(path, key) from None
    except apsw.Error as error:
        raise _cannot_read(path, error) from None
    if not known:
        db.close()
        raise ConfigError(f"{path} is no node", hint="open it with node=secondary or node=primary once")
    try:
        Meta(db).check_format(earlier=True)
        values = Meta(db).get_all()
        role = Role(values["role"])
        published = read_status_file(path)
        if published is not None:
            return _with_queue(published, db, role)
        queue = queue_status(db, time.time()) if role is Role.SECONDARY else None
        return {**_offline_status(values, role, queue), "encrypted": key is not None}
    except apsw.Error as error:
        raise _cannot_read(path, error) from None
    finally:
        db.close()


def _cannot_read(path: str, error: apsw.Error) -> OperationalError:
    return OperationalError(f"cannot read {path}: {error}", hint=getattr(translated(error), "hint", ""))


def _offline_status(values: dict[str, Any], role: Role, queue: QueueStatus | None) -> dict[str, Any]:
    status = SyncStatus(
        node_id=values.get("node_id", 0),
        user_id=values.get("user_id", 0),
        node_type=str(role),
        public_key=values["public_key"].hex(),
        db_is_ready=bool(values.get("ready")),
        state=NodeState.REVOKED if values.get("revoked") else NodeState.OFFLINE,
        last_error=values.get("revoked") or None,
    )
    result = (status if queue is None else status.with_queue(queue)).to_dict()
    if values.get("epoch"):
        result["log"]["epoch"] = values["epoch"].hex()
    result["log"]["applied"] = values.get("cursor", 0)
    result["auth"]["mode"] = values.get("auth")
    return result


def _with_queue(published: dict[str, Any], db: apsw.Connection, role: Role) -> dict[str, Any]:
    """The queue is read from the file: it is newer than what the engine published."""
    published.pop(WAITING_NODES, None)
    published.pop(CONNECTED_NODES, None)
    if role is Role.SECONDARY:
        queue = queue_status(db, time.time())
        published["transactions"] = {
            "last_nonce": queue.last_nonce,
            "pending": queue.pending,
            "oldest_pending_s": queue.oldest_pending_s,
            "rejected": queue.rejected,
        }
        if queue.pending and published.get("state") == str(NodeState.IN_SYNC):
            published["state"] = published["upstream_state"] = str(NodeState.SYNCING)
    return published


def _absolute(uri: NodeUri) -> NodeUri:
    """It is remembered, and may be opened from another folder."""
    tls = uri.tls
    paths = {
        name: os.path.abspath(path)
        for name in ("certificate", "private_key", "ca")
        if (path := getattr(tls, name)) is not None
    }
    return replace(uri, path=os.path.realpath(uri.path), tls=replace(tls, **paths))


def _warn_of_plain(addresses: tuple[Address, ...], text: str) -> None:
    """Sign-ins cross a network that others can read. The warnings module tells each text once."""
    plain = next((address for address in addresses if not address.tls and not address.is_loopback), None)
    if plain is not None:
        warnings.warn(f"{plain} is a plain connection: {text}", InsecureWarning, stacklevel=2)


async def _as_coroutine(function: Callable[[], object]) -> None:
    function()
