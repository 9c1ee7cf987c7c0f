"""The engine of a primary's file: listens, drives a ``PrimarySession`` for each connection, commits in groups.

Runs on the engine thread; SQLite work goes to the storage thread, in order. Pushes that arrive while a batch is being
committed make the next batch: one fsync for all of them.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Final

import apsw

from octodb.errors import ConnectError, OperationalError, ProtocolError
from octodb.log.embedded_log import EmbeddedLog, PushedBody, PushRequest
from octodb.model.admissions import Admission
from octodb.model.entries import LogEntry, Outcome
from octodb.model.identities import ADMIN_ID, DESCRIBED, AuthMode, NodeRecord, Role
from octodb.model.node_uri import Address, NodeUri
from octodb.model.owners import EVERYBODY
from octodb.model.snapshots import SnapshotTail
from octodb.model.status import AuthStatus, LogStatus, NodeState, SyncStatus
from octodb.runtime.authorizer import CallbackAuthorizer
from octodb.runtime.authorizer_service import AuthorizerService
from octodb.runtime.file_identity import FileIdentity
from octodb.runtime.framed_connection import FramedConnection, close_inherited
from octodb.runtime.network_key import derive_network_key
from octodb.runtime.refusals import Refusals
from octodb.runtime.status_file import CONNECTED_NODES, WAITING_NODES
from octodb.runtime.surroundings import Pokes, Surroundings
from octodb.runtime.tls import (
    Certificate,
    check_certificate,
    fingerprint,
    load_certificate,
    make_certificate,
    server_context,
)
from octodb.runtime.tls_listener import TlsListener, listening_sockets
from octodb.storage.apsw_errors import explained
from octodb.storage.checksums import PrimarySums
from octodb.storage.database import close_in_child
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.snapshot import EverybodysParts, SnapshotReader
from octodb.sync.allowance import Allowance
from octodb.sync.effects import (
    Admit,
    AdoptCopy,
    AppendPush,
    AskAuthorizer,
    CloseConnection,
    ComputeSums,
    ConfirmSession,
    ConfirmVerdicts,
    Effect,
    FetchRows,
    FindNode,
    OpenSession,
    OpenSnapshot,
    ReadEntries,
    ReadHead,
    ReadSnapshot,
    Send,
)
from octodb.sync.primary import WINDOW_MESSAGES, Decision, PrimaryFacts, PrimarySession, SessionPhase
from octodb.sync.sign_in_limits import SignInLimits
from octodb.sync.strangers import CONNECTIONS_MAX, Strangers, network_of
from octodb.wire.handshake import channel_binding
from octodb.wire.messages import Denied, Message, ProblemReport, RangeRows, Sums

__all__ = ["DEFAULT_LOGIN_FIELDS", "PrimaryEngine", "check_addresses"]

DEFAULT_LOGIN_FIELDS: Final = ({"name": "email"}, {"name": "password", "secret": True})
# Pushed and not yet committed: more than an honest device has on its way, its window and one large transaction.
_PUSHED_BYTES_MAX: Final = 80 * 1024 * 1024
# The same of all devices together: beyond it each may have little on its way, and most wait.
_ALL_PUSHED_BYTES_MAX: Final = 512 * 1024 * 1024
_PUSHED_BYTES_SCARCE: Final = 1024 * 1024
# What is held of messages that are not whole yet, of all devices together: the largest is cut off beyond it.
_HELD_BYTES_MAX: Final = 512 * 1024 * 1024
# A connection that is closed has so long to take what it is still sent.
_CLOSING_S_MAX: Final = 10.0
# What a device on a slow line must take or send within the time in which it would else have to be heard.
_PROGRESS_BYTES: Final = 64 * 1024
# Downloads from their beginning, of one device: each reads its rows and holds a read transaction.
_DOWNLOADS_BURST: Final = 30
_DOWNLOADS_PER_S: Final = 0.2
# New identities for copies of one file: each is a node for ever.
_ADOPTIONS_BURST: Final = 10
_ADOPTIONS_PER_S: Final = 1 / 60
# Files that the process needs beside its connections.
_FILES_BESIDE: Final = 128
# Transactions in one group commit: bounds how long a batch holds the write lock.
_BATCH_TRANSACTIONS_MAX: Final = 4096
_LOOK_EVERY_S: Final = 0.1
_TROUBLE_S: Final = 1.0
_PUBLISH_EVERY_S: Final = 0.25
_HEARTBEAT_S: Final = 4.0
# How long a sign-in waits for a program that has opened its primary but not registered its callbacks yet.
_FUNCTION_S_MAX: Final = 5.0
# Devices that wait, as other processes see them, and characters of each thing they say of themselves.
_WAITING_PUBLISHED_MAX: Final = 100
_SAID_CHARACTERS_MAX: Final = 200
# How long a stop waits for what callbacks and administrators have decided to be written down.
_CHORES_S_MAX: Final = 2.0
_LISTEN_BACKLOG: Final = 1024
# How long the frozen state of a download that was cut off is kept, and how many: each holds a read transaction.
_RESUMABLE_S: Final = 60.0
_RESUMABLE_COUNT_MAX: Final = 64
# How often the log is looked at for what is older than it shall go back; days and entries it goes back by default.
_CUT_EVERY_S: Final = 600.0


@dataclass(eq=False, slots=True)
class _Client:
    """One connection: its session, its socket, and its download while there is one."""

    session: PrimarySession
    connection: FramedConnection
    snapshot: SnapshotReader | None = None
    effects: asyncio.Queue[Effect] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    subscribed: bool = False
    pushed_bytes: int = 0
    asked: AskAuthorizer | None = None
    waits: bool = False  # its key is proved, and nobody knows it
    known: bool = False  # it is no stranger
    closing_since: float | None = None
    seen_bytes: int = 0  # had come in when it last counted as heard
    unsent_bytes: int = 0  # when it last took some of it


class PrimaryEngine:
    """``emit(event, info)`` tells the application; it is called on the engine thread. ``admit`` does what an
    authorization service answers, on a thread; without it none can be asked."""

    def __init__(
        self,
        uri: NodeUri,
        authorizer: CallbackAuthorizer,
        emit: Callable[[str, dict[str, Any]], None],
        surroundings: Surroundings,
        admit: Callable[[Admission, str], NodeRecord] | None = None,
    ) -> None:
        self._uri = uri
        self._authorizer = authorizer
        self._admit_as_told = admit
        self._service = None if admit is None else AuthorizerService(surroundings, self._admit, emit, self._soon)
        self._denials: dict[bytes, str] = {}  # by public key: to be told when their devices ask
        self._emit = emit
        self._surroundings = surroundings
        self._lock = surroundings.lock(uri.path)
        self._storage = surroundings.storage("octodb-storage")
        self._reading = surroundings.storage("octodb-snapshots")
        self._pokes: Pokes | None = None
        self._log: EmbeddedLog | None = None
        self._store: PrimaryStore | None = None
        self._facts: PrimaryFacts | None = None
        self.login_fields: tuple[dict[str, Any], ...] = DEFAULT_LOGIN_FIELDS
        self._clients: dict[_Client, None] = {}  # in the order they came
        self._by_user: dict[int, dict[_Client, None]] = {}
        self._by_node: dict[int, _Client] = {}  # the served ones
        self._servers: list[asyncio.Server | TlsListener] = []
        self._certificate: Certificate | None = None  # with tls:// addresses
        self._tasks: list[asyncio.Task[None]] = []
        self._chores: set[asyncio.Task[None]] = set()  # the loop alone would forget them
        self._pushes: deque[tuple[_Client, AppendPush]] = deque()
        self._push_came = asyncio.Event()
        self._log_moved = asyncio.Event()
        self.wants_poke = True  # a commit should call ``committed``; False while one call is on its way
        self._dispatched_id = 0
        self._dispatched_seq = 0
        self._generation = 0
        self.bind: tuple[str, ...] = ()
        self._bytes = [0, 0]
        self._publish_soon = True
        self._last_error: str | None = None
        self._checksums: PrimarySums | None = None
        self._everybodys = EverybodysParts()
        self._resumable: dict[bytes, tuple[SnapshotReader, float]] = {}  # by token, until when
        self._gone = False  # the file is not at its path any more
        self._connections_max = _connections_possible()
        self._strangers: Strangers[_Client] = Strangers(self._connections_max)
        self._sign_ins = SignInLimits()
        self._refusals = Refusals()
        self._pushed_bytes = 0
        self._downloads: dict[int, Allowance] = {}  # by node
        self._adoptions: dict[int, Allowance] = {}  # by the node whose copies they are

    # --- life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen on every address of ``bind=``. Raises ConnectError naming the one that cannot be had.

        Without ``bind=`` there is nothing to run: this process commits to the log, and the one that serves the file
        tells the devices.
        """
        if not self._uri.bind:
            return
        if not self._lock.acquire():
            self._storage.close()
            self._reading.close()
            raise ConnectError(
                f"another process already serves {self._uri.path}",
                hint="connect to that one, or open the file without bind= to work on it beside the server",
            )
        try:
            await self._storage.run(self._open_store)
            if self._uri.authorizer is not None:
                await self.set_service(self._uri.authorizer)
            for address in self._uri.bind:
                self._servers.append(await self._listen(address))
        except BaseException:
            await self._close_all()
            raise
        self.bind = tuple(
            str(replace(address, port=server.sockets[0].getsockname()[1]))
            for address, server in zip(self._uri.bind, self._servers, strict=True)
        )
        self._pokes = self._surroundings.pokes(self._uri.path, self.committed)
        self._tasks = [
            asyncio.create_task(self._commit_pushes()),
            asyncio.create_task(self._follow_log()),
            asyncio.create_task(self._watch_file()),
            asyncio.create_task(self._tick()),
            asyncio.create_task(self._publish()),
            asyncio.create_task(self._cut_log()),
        ]

    def _open_store(self) -> None:
        db = self._surroundings.engine_connection(self._uri.path, Role.PRIMARY, self._uri.file_key)
        self._db = db
        self._file = FileIdentity(self._uri.path)
        self._log = EmbeddedLog(db, self._surroundings.wall_clock)
        self._store = PrimaryStore(db, self._surroundings.wall_clock)
        values = self._store.values()
        if any(address.tls for address in self._uri.bind):
            self._certificate = self._own_certificate(self._store)
        self._store.note_network_key(self._uri.network_key)
        self._facts = PrimaryFacts(
            values["public_key"],
            values["epoch"],
            AuthMode(values["auth"]),
            self.login_fields,
            values["database_id"],
            derive_network_key(self._uri.network_key),
        )
        self._dispatched_id = self._log.last_id()
        self._dispatched_seq = self._log.head()
        self._generation = self._store.generation()
        self._denials = self._store.refusals()
        self._sign_ins.limit_addresses(self._store.sign_in_limit())

    def _own_certificate(self, store: PrimaryStore) -> Certificate:
        """Of ``tls_cert=``; or one that this primary makes for itself once, and keeps in its file."""
        if self._uri.tls.certificate is not None:
            return load_certificate(self._uri.tls)
        return check_certificate(*store.certificate(lambda: make_certificate(self._uri.bind)))

    async def _listen(self, address: Address) -> asyncio.Server | TlsListener:
        loop = asyncio.get_running_loop()
        try:
            if address.tls:
                assert self._certificate is not None
                binding = channel_binding(self._certificate.der)
                sockets = await listening_sockets(address.host, address.port, _LISTEN_BACKLOG)
                context = server_context(self._certificate)
                return TlsListener(sockets, context, lambda host: self._knocked(host, binding))
            return await loop.create_server(
                lambda: self._accept(b"").connection,
                address.host,
                address.port,
                backlog=_LISTEN_BACKLOG,
                reuse_address=True,
            )
        except OSError as error:
            raise _cannot_listen(address, error) from None

    async def stop(self) -> None:
        await self._close_all()

    async def _close_all(self) -> None:
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.connection.send(ProblemReport("closing", "the primary is shutting down"))
            client.connection.close("the primary is shutting down")
            if client.task is not None:
                client.task.cancel()
        if self._chores:
            await asyncio.wait(self._chores, timeout=_CHORES_S_MAX)
        self._tasks += self._chores
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._service is not None:
            await self._service.close()
        await self._storage.run(self._close_store)
        for reader, _ in self._resumable.values():
            await self._reading.run(reader.close)
        self._resumable.clear()
        if self._checksums is not None:
            await self._reading.run(self._checksums.close)
        self._storage.close()
        self._reading.close()
        if self._pokes is not None:
            self._pokes.close()
        if self.running:
            self._surroundings.withdraw(self._uri.path)
        self._lock.release()

    def hold(self, timeout_s: float) -> Callable[[], None]:
        """Keep out of SQLite from now until what is returned is called: this process forks."""
        releases = [self._storage.hold(timeout_s), self._reading.hold(timeout_s)]
        releases += [] if self._service is None else [self._service.hold(timeout_s)]

        def release() -> None:
            for one in releases:
                one()

        return release

    def forget_in_child(self) -> bool:
        """This is a forked child: close what is the parent's. False: the file is not to be used here."""
        self._lock.forget_in_child()
        if self._pokes is not None:
            self._pokes.forget_in_child()
        if self._service is not None:
            self._service.forget_in_child()
        for server in self._servers:
            for listening in server.sockets:
                close_inherited(listening)
        inherited = [] if self._store is None else [self._db]
        inherited += [] if self._checksums is None else [self._checksums.db]
        inherited += [reader.db for reader, _ in self._resumable.values()]
        for client in self._clients:
            client.connection.forget_in_child()
            inherited += [] if client.snapshot is None else [client.snapshot.db]
        return all([close_in_child(db) for db in inherited])  # noqa: C419 - each is closed

    def _close_store(self) -> None:
        if self._store is not None:
            self._db.close(True)
            self._store = None

    # --- from other threads, by way of the engine thread ------------------------------------------------

    def committed(self) -> None:
        """This process, or one that pokes it, committed to the log: tell the devices."""
        self.wants_poke = True
        self._log_moved.set()

    async def new_user_id(self) -> int:
        assert self._store is not None
        return await self._storage.run_patiently(self._store.new_user_id)

    async def set_service(self, address: Address | None) -> None:
        """Ask the authorization service at ``address`` from now on; None: the callbacks again."""
        assert self._service is not None
        for request, answer in await self._service.set_address(address):
            self._ask_callbacks(request, answer)
        if address is not None:
            for request, answer in self._authorizer.take_waiting():
                self._service.ask(request, answer)

    def set_login_fields(self, fields: tuple[dict[str, Any], ...]) -> None:
        self.login_fields = fields
        if self._facts is not None:
            self._facts = replace(self._facts, login_fields=fields)

    @property
    def running(self) -> bool:
        return self._facts is not None

    @property
    def _state(self) -> NodeState:
        if not self.running:
            return NodeState.OFFLINE
        return NodeState.IN_SYNC if self._last_error is None else NodeState.ERROR

    def connected_nodes(self) -> dict[int, str]:
        """Node id → address of each device that is being served. From any thread."""
        return {
            client.session.node.node_id: client.connection.peer
            for client in list(self._clients)
            if client.session.node is not None and client.session.phase is SessionPhase.SERVING
        }

    def waiting_nodes(self) -> list[tuple[bytes, str, str, str, float]]:
        """(public key, device information, address, what was asked about it, since when) of each connection that waits
        to be admitted. From any thread."""
        began = self._surroundings.wall_clock() - self._surroundings.monotonic()
        return [
            (session.public_key, session.node_info, client.connection.peer, session.asked, began + session.waits_since)
            for client in list(self._clients)
            if (session := client.session).awaits_admission
        ]

    def _waiting_to_publish(self) -> list[tuple[str, str, str, str, float]]:
        """For PRAGMA nodes of other processes: the file is rewritten often, so it holds little of what a stranger's
        device says."""
        waiting = sorted(self.waiting_nodes(), key=lambda node: node[4])[:_WAITING_PUBLISHED_MAX]
        return [(key.hex(), _short_info(info), peer, asked, at) for key, info, peer, asked, at in waiting]

    def status(self) -> SyncStatus:
        """May be called from any thread: it reads immutable values."""
        facts = self._facts
        return SyncStatus(
            encrypted=self._uri.cipher is not None,
            node_id=ADMIN_ID,
            user_id=ADMIN_ID,
            node_type=str(Role.PRIMARY),
            public_key=facts.public_key.hex() if facts is not None else "",
            db_is_ready=True,
            state=self._state,
            connected=self.running,
            auth=AuthStatus(mode=str(facts.auth) if facts else None, fields=self.login_fields),
            log=LogStatus(facts.epoch.hex() if facts else None, self._dispatched_seq, self._dispatched_seq),
            bytes_in=self._bytes[0] + sum(client.connection.bytes_in for client in list(self._clients)),
            bytes_out=self._bytes[1] + sum(client.connection.bytes_out for client in list(self._clients)),
            bind=self.bind,
            certificate=None if self._certificate is None else fingerprint(self._certificate.der),
            nodes=len(self._by_node),
            authorizer=None if self._service is None else self._service.status(),
            engine_pid=os.getpid() if self.running else None,
            engine_age_s=0.0 if self.running else None,
            last_error=self._last_error,
            refused=self._refusals.counts,
        )

    # --- connections ---------------------------------------------------------------------------------

    def _accept(self, binding: bytes) -> _Client:
        assert self._facts is not None
        session = PrimarySession(
            self._facts,
            self._surroundings.random_bytes(32),
            lambda: self._dispatched_seq,
            self._surroundings.monotonic(),
            binding,
            self._sign_ins,
        )
        connection = FramedConnection(
            lambda message: self._received(client, message),
            lambda reason: self._lost(client, reason),
            lambda: self._made(client),
        )
        client = _Client(session, connection)
        self._clients[client] = None
        return client

    def _knocked(self, host: str, binding: bytes) -> FramedConnection:
        """Somebody wants to speak TLS; counted from now on."""
        client = self._accept(binding)
        self._came(client, host)
        return client.connection

    def _made(self, client: _Client) -> None:
        if not client.session.address:
            self._came(client, client.connection.host)

    def _came(self, client: _Client, host: str) -> None:
        """It is known now where the connection comes from."""
        session = client.session
        session.address = network_of(host)
        if len(self._clients) > self._connections_max:
            self._refuse(client, "connections", f"there are {self._connections_max:,} connections")
            return
        for crowded_out in self._strangers.came(session.address, client):
            self._refuse(crowded_out, "crowded_out", "too many connections that have not signed in")

    def _refuse(self, client: _Client, kind: str, reason: str) -> None:
        self._note(client, kind, reason)
        client.connection.send(ProblemReport("busy", reason))
        client.connection.close(reason)

    def _note(self, client: _Client, kind: str, reason: str, count: int = 1) -> None:
        node = client.session.node
        who = client.session.address if node is None else f"node {node.node_id} at {client.session.address}"
        self._refusals.note(kind, who, reason, self._surroundings.monotonic(), count)
        self._publish_soon = True

    def _received(self, client: _Client, message: Message) -> None:
        try:
            self._handle(client, client.session.receive(message, self._surroundings.monotonic()))
        except ProtocolError as error:
            client.connection.broke_protocol = True
            client.connection.send(ProblemReport("protocol", str(error)))
            client.connection.close(str(error))

    def _lost(self, client: _Client, reason: str) -> None:
        self._clients.pop(client, None)
        self._strangers.left(client.session.address, client)
        if client.connection.broke_protocol:
            self._note(client, "protocol_errors", reason)
        self._bytes[0] += client.connection.bytes_in
        self._bytes[1] += client.connection.bytes_out
        if client.session.node is not None:
            self._by_user.get(client.session.node.user_id, {}).pop(client, None)
            if self._by_node.get(client.session.node.node_id) is client:
                del self._by_node[client.session.node.node_id]
        self._handle(client, client.session.closed(self._surroundings.monotonic()))
        if self._service is not None and client.asked is not None:
            self._service.device_left(client.asked)
        self._keep_download(client)
        if client.task is not None:
            client.effects.put_nowait(CloseConnection(reason))
        self._publish_soon = True

    def _keep_download(self, client: _Client) -> None:
        """Its device may come back for the rest."""
        if client.snapshot is not None:
            reader, client.snapshot = client.snapshot, None
            for token, (other, _) in list(self._resumable.items()):
                if other.node_id == reader.node_id:  # a device comes back to its last one
                    del self._resumable[token]
                    asyncio.create_task(self._reading.run(other.close))  # noqa: RUF006 - the storage thread holds it
            self._resumable[reader.token] = (reader, self._surroundings.monotonic() + _RESUMABLE_S)
            self._close_resumable(_RESUMABLE_COUNT_MAX)

    def _handle(self, client: _Client, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                client.connection.send(effect.message)
                self._note_refusal(client, effect.message)
            elif isinstance(effect, CloseConnection):
                client.connection.close(effect.reason)
            elif isinstance(effect, AppendPush):
                self._pushes.append((client, effect))
                self._push_came.set()
                self._count_pushed(client, effect, 1)
            elif isinstance(effect, AskAuthorizer):
                self._ask(client, effect)
            else:
                if client.task is None:
                    client.task = asyncio.create_task(self._work(client))
                client.effects.put_nowait(effect)
        self._note_standing(client)
        self._note_subscription(client)

    def _note_refusal(self, client: _Client, message: Message) -> None:
        if isinstance(message, ProblemReport) and message.code in _REFUSALS:
            self._note(client, _REFUSALS[message.code], message.reason)
        elif isinstance(message, Denied):
            # its reason is the application's, and may hold what was sent
            kind = "sign_ins_too_often" if message.code == "too_often" else "sign_ins"
            self._note(client, kind, f"answered {message.code}")

    def _note_standing(self, client: _Client) -> None:
        """Strangers are counted otherwise than devices that are known here."""
        session = client.session
        if session.awaits_admission and not client.waits:
            client.waits = True
            for crowded_out in self._strangers.waits(session.address, client):
                self._refuse(crowded_out, "crowded_out", "too many devices wait to be admitted")
        elif session.node is not None and not client.known:
            client.known = True
            self._strangers.left(session.address, client)

    def _count_pushed(self, client: _Client, push: AppendPush, sign: int) -> None:
        """A device that sends faster than can be committed is not read from, or it would fill the memory."""
        count = sign * sum(len(one.body) for one in push.transactions)
        client.pushed_bytes += count
        self._pushed_bytes += count
        allowed = _PUSHED_BYTES_MAX if self._pushed_bytes <= _ALL_PUSHED_BYTES_MAX else _PUSHED_BYTES_SCARCE
        if sign < 0 or client.pushed_bytes > allowed:
            client.connection.read_on(client.pushed_bytes <= allowed)

    def _note_subscription(self, client: _Client) -> None:
        if not client.subscribed and client.session.phase is SessionPhase.SERVING:
            node = client.session.node
            assert node is not None
            client.subscribed = True
            self._take_over(client, node.node_id)
            self._by_user.setdefault(node.user_id, {})[client] = None
            self._publish_soon = True

    def _take_over(self, newest: _Client, node_id: int) -> None:
        """A device has one connection. An older one is dead; or it is that of a copy of the device's file, as shows
        when that comes back with its token."""
        older = self._by_node.get(node_id)
        self._by_node[node_id] = newest
        if older is not None:
            self._keep_download(older)  # now: that its line is dead may show in minutes only
            older.connection.send(ProblemReport("session", "another connection of this device has taken over"))
            older.connection.close("taken over")

    def _ask(self, client: _Client, request: AskAuthorizer) -> None:
        if request.public_key in self._denials:
            self._deny([client])
            return
        client.asked = request
        self._publish_soon = True
        loop = asyncio.get_running_loop()

        def answer(decision: Decision) -> None:
            loop.call_soon_threadsafe(self._decided, client, request, decision)

        if self._service is not None and self._service.address is not None:
            self._service.ask(request, answer)
        else:
            self._ask_callbacks(request, answer)

    def _ask_callbacks(self, request: AskAuthorizer, answer: Callable[[Decision], None]) -> None:
        self._authorizer.ask(request, answer)
        asyncio.get_running_loop().call_later(_FUNCTION_S_MAX, self._authorizer.give_up, request)

    def _decided(self, client: _Client, request: AskAuthorizer, decision: Decision) -> None:
        if client.session.phase is SessionPhase.CLOSED and decision.kind in {"user", "node"}:
            self._background(self._admit_absent(request, decision))
        else:
            self._handle(client, client.session.authorized(decision, self._surroundings.monotonic()))

    async def _admit_absent(self, request: AskAuthorizer, decision: Decision) -> None:
        """Its line was cut while the callback was at work, which may have made a user: asked again it would say that
        there is one already. The device is let in when it comes back, or now if it has."""
        store, facts = self._store, self._facts
        if store is None or facts is None:
            return
        try:
            node = await self._storage.run_patiently(
                store.admit, request.public_key, decision.user_id, decision.node_type, facts.auth, request.node_info
            )
        except Exception as error:  # noqa: BLE001 - it will ask again
            self._in_trouble(error)
            return
        for client in list(self._clients):
            if client.session.public_key == request.public_key and client.session.awaits_admission:
                self._handle(client, client.session.node_found(node))

    def _deny(self, clients: list[_Client]) -> None:
        """Tell devices that wait what PRAGMA authorize_user or authorize_node said to them."""
        told = list(dict.fromkeys(client.session.public_key for client in clients))
        for client in clients:
            reason = self._denials[client.session.public_key]
            self._handle(client, client.session.authorized(Decision("denied", reason=reason)))
        for key in told:
            del self._denials[key]
            if self._service is not None:
                self._service.settled(key)
        self._background(self._forget_refusals(told))

    async def _forget_refusals(self, public_keys: list[bytes]) -> None:
        try:
            if self._store is not None:
                await self._storage.run_patiently(self._store.forget_refusals, public_keys)
        except Exception as error:  # noqa: BLE001 - they are told once more
            self._in_trouble(error)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _admit(self, admission: Admission, node_info: str) -> NodeRecord:
        assert self._admit_as_told is not None
        self._file.check()
        return self._admit_as_told(admission, node_info)

    def _soon(self) -> None:
        self._publish_soon = True

    async def _work(self, client: _Client) -> None:
        """The storage effects of one session, one after the other; ends with its connection."""
        while True:
            effect = await client.effects.get()
            if isinstance(effect, CloseConnection):
                return
            try:
                await self._perform(client, effect)
                if isinstance(effect, OpenSession | ConfirmSession):
                    self._last_error = None  # it was written down
            except Exception as error:  # noqa: BLE001 - one device's request must not end the service of others
                self._in_trouble(error)
                client.connection.send(ProblemReport("storage", "the primary has trouble with its storage"))
                client.connection.close(explained(error))

    def _in_trouble(self, error: Exception) -> None:
        """The file cannot be read or written now: tell once, until something could be written again."""
        reason = explained(error)
        if reason != self._last_error:
            self._last_error = reason
            self._emit("error", {"code": "storage", "reason": reason})
        self._publish_soon = True

    async def _perform(self, client: _Client, effect: Effect) -> None:
        session, log, store = client.session, self._log, self._store
        assert log is not None
        assert store is not None
        self._file.check()
        run = self._storage.run_patiently
        if isinstance(effect, ReadEntries):
            entries, through = await run(log.read_streams, effect.user_id, effect.after, effect.bytes_max)
            self._handle(client, session.entries_read(entries, through))
        elif isinstance(effect, ReadHead):
            self._dispatch(*await run(self._read_new))
            self._handle(client, session.head_read())
        elif isinstance(effect, FindNode):
            node = await run(store.find, effect.public_key)
            if node is not None and not node.revoked:
                client.connection.trust()  # it may send whole transactions from now on, or a copy's long list of claims
            self._handle(client, session.node_found(node))
        elif isinstance(effect, Admit):
            node = await run(
                store.admit,
                effect.public_key,
                effect.user_id,
                effect.node_type,
                effect.auth,
                effect.node_info,
            )
            self._handle(client, session.node_found(node))
        elif isinstance(effect, OpenSession):
            client.connection.trust()  # a node we know: it may send whole transactions from now on
            token = self._surroundings.random_bytes(16)
            known = await run(store.open_session, effect.node_id, effect.presented, token, effect.node_info)
            self._handle(client, session.session_opened(token if known else b"", self._dispatched_seq))
        elif isinstance(effect, AdoptCopy):
            await self._adopt_copy(client, effect)
        elif isinstance(effect, ConfirmSession):
            await self._confirm(client, effect)
        elif isinstance(effect, ConfirmVerdicts):
            await run(store.confirm_verdicts, effect.node_id, effect.confirmed_nonce)
        elif isinstance(effect, OpenSnapshot):
            await self._open_snapshot(client, effect)
        elif isinstance(effect, ReadSnapshot):
            await self._read_snapshot(client, effect.number)
        elif isinstance(effect, ComputeSums):
            asked = effect.asked
            found = await self._reading.run(
                self._sums().compute, effect.user_id, asked.seq, asked.table, asked.low, asked.high
            )
            self._handle(client, session.sums_computed(Sums(0, [], []) if found is None else Sums(asked.seq, *found)))
        elif isinstance(effect, FetchRows):
            wanted = effect.asked
            rows = await self._reading.run(
                self._sums().fetch, effect.user_id, wanted.seq, wanted.table, wanted.low, wanted.high
            )
            answer = RangeRows(0, [], []) if rows is None else RangeRows(wanted.seq, *rows)
            self._handle(client, session.rows_fetched(answer))

    def _sums(self) -> PrimarySums:
        if self._checksums is None:
            self._checksums = PrimarySums(self._surroundings.reading_connection(self._uri.path, self._uri.file_key))
        return self._checksums

    async def _adopt_copy(self, client: _Client, effect: AdoptCopy) -> None:
        assert self._store is not None
        original = effect.node.node_id
        allowance = self._adoptions.setdefault(original, Allowance(_ADOPTIONS_BURST, _ADOPTIONS_PER_S))
        if not allowance.take(self._surroundings.monotonic()):
            self._refuse(client, "floods", "ever new copies of this device's file ask for identities")
            return
        token = self._surroundings.random_bytes(16)
        claims = [(claim.nonce, claim.hash, claim.seq) for claim in effect.claims]
        node, known, head = await self._storage.run_patiently(
            self._store.adopt_copy, effect.node, effect.public_key, token, effect.node_info, claims
        )
        self._handle(client, client.session.adopted(node, token, head, known))

    async def _confirm(self, client: _Client, effect: ConfirmSession) -> None:
        log, store = self._log, self._store
        assert log is not None
        assert store is not None
        current = await self._storage.run_patiently(
            store.confirm_session, effect.node_id, effect.token, effect.confirmed_nonce
        )
        matches = bool(effect.epoch) and await self._storage.run_patiently(
            log.cursor_matches, effect.user_id, effect.cursor, effect.chain_user, effect.chain_all
        )
        self._handle(client, client.session.session_confirmed(effect, current, matches))

    async def _open_snapshot(self, client: _Client, effect: OpenSnapshot) -> None:
        if client not in self._clients:
            return  # it is gone already
        kept = self._resumable.pop(effect.token, None)
        if kept is not None:
            reader, _ = kept
            if reader.user_id == effect.user_id and effect.parts and reader.has(effect.parts + 1):
                client.snapshot = reader
                self._handle(client, client.session.snapshot_opened(reader.header, effect.parts))
                return
            await self._reading.run(reader.close)
        node = client.session.node
        assert node is not None
        allowance = self._downloads.setdefault(node.node_id, Allowance(_DOWNLOADS_BURST, _DOWNLOADS_PER_S))
        if not allowance.take(self._surroundings.monotonic()):
            self._refuse(client, "floods", "this device downloads again and again")
            return
        token = self._surroundings.random_bytes(16)

        def work() -> SnapshotReader:
            # twice the window: what was sent and not acknowledged may be asked for again
            db = self._surroundings.reading_connection(self._uri.path, self._uri.file_key)
            reader = SnapshotReader(db, effect.user_id, token, 2 * WINDOW_MESSAGES, self._everybodys, node.node_id)
            reader.open()
            return reader

        reader = await self._reading.run(work)
        if client not in self._clients:
            await self._reading.run(reader.close)  # it keeps the WAL from being written back
            return
        client.snapshot = reader
        self._handle(client, client.session.snapshot_opened(reader.header, 0))

    async def _read_snapshot(self, client: _Client, number: int) -> None:
        reader = client.snapshot
        if reader is None:
            return
        part = await self._reading.run(reader.part, number)
        if isinstance(part, SnapshotTail) and client.snapshot is reader:
            client.snapshot = None
            await self._reading.run(reader.close)
        self._handle(client, client.session.snapshot_read(part))

    def _close_resumable(self, count_max: int) -> None:
        """Let go of downloads that nobody has come back for, and of the oldest beyond ``count_max``."""
        now = self._surroundings.monotonic()
        due = [token for token, (_, until) in self._resumable.items() if until <= now]
        due += list(self._resumable)[: max(0, len(self._resumable) - count_max)]
        for token in dict.fromkeys(due):
            reader, _ = self._resumable.pop(token)
            asyncio.create_task(self._reading.run(reader.close))  # noqa: RUF006 - the storage thread holds it

    # --- group commit --------------------------------------------------------------------------------

    async def _commit_pushes(self) -> None:
        log = self._log
        assert log is not None
        while True:
            await self._push_came.wait()
            batch = self._take_batch()
            if not batch:
                self._push_came.clear()
                continue
            requests = [
                PushRequest(
                    push.node_id,
                    push.user_id,
                    [PushedBody(t.nonce, t.hash, t.body, t.knew_rejected) for t in push.transactions],
                )
                for _, push in batch
            ]
            try:
                outcomes, new, last_id = await self._storage.run_patiently(self._append, requests)
            except Exception as error:  # noqa: BLE001 - whatever it was, the batch was rolled back: devices send again
                self._in_trouble(error)
                for client, _ in batch:
                    self._handle(client, client.session.append_failed(str(error)))
                continue
            self._last_error = None
            for (client, _), outcome in zip(batch, outcomes, strict=True):
                self._note_forged(client, outcome)
                self._handle(client, client.session.appended(outcome.outcomes))
            self._dispatch(new, last_id)

    def _note_forged(self, client: _Client, outcome: Outcome) -> None:
        """An honest device's transactions are refused for what is in the way, not for whose rows they change."""
        for one in outcome.outcomes:
            if one.rejection is not None and one.rejection.code in {"ownership", "malformed"}:
                self._note(client, "forged", f"{one.rejection.code}: {one.rejection.message}")

    def _take_batch(self) -> list[tuple[_Client, AppendPush]]:
        """As many whole pushes as one commit takes; those of connections that are gone are dropped."""
        taken: list[tuple[_Client, AppendPush]] = []
        count = 0
        while self._pushes and count < _BATCH_TRANSACTIONS_MAX:
            client, push = self._pushes.popleft()
            self._count_pushed(client, push, -1)
            if client.session.phase is SessionPhase.SERVING:
                taken.append((client, push))
                count += len(push.transactions)
        return taken

    def _append(self, requests: list[PushRequest]) -> tuple[list[Outcome], list[LogEntry], int]:
        """Append, and find out what is new in the log since the last dispatch: others may have committed too."""
        log = self._log
        assert log is not None
        self._file.check()
        outcomes, committed = log.append(requests)
        if committed.base_id == self._dispatched_id:
            return outcomes, committed.entries, committed.last_id
        return outcomes, *self._read_new()

    def _read_new(self) -> tuple[list[LogEntry], int]:
        log = self._log
        assert log is not None
        found: list[LogEntry] = []
        last_id = self._dispatched_id
        while chunk := log.read_after_id(last_id):
            found += [entry for _, entry in chunk]
            last_id = chunk[-1][0]
        return found, last_id

    # --- fan-out -------------------------------------------------------------------------------------

    async def _follow_log(self) -> None:
        """Entries that applications of this or another process committed."""
        while True:
            await self._log_moved.wait()
            self._log_moved.clear()
            try:
                self._dispatch(*await self._storage.run_patiently(self._read_new))
                await self._review_nodes()
            except apsw.Error as error:
                self._in_trouble(error)
                await asyncio.sleep(_TROUBLE_S)
                self._log_moved.set()

    async def _review_nodes(self) -> None:
        """Devices that were admitted or revoked by SQL: let in those that wait, cut off those that are lost."""
        store = self._store
        assert store is not None
        generation = await self._storage.run_patiently(store.generation)
        if generation == self._generation:
            return
        self._generation = generation
        self._denials = await self._storage.run_patiently(store.refusals)
        refused = [client for client in self._clients if client.session.public_key in self._denials]
        self._deny([client for client in refused if client.session.awaits_decision])
        self._sign_ins.limit_addresses(await self._storage.run_patiently(store.sign_in_limit))
        clients: dict[bytes, list[_Client]] = {}
        for client in self._clients:
            clients.setdefault(client.session.public_key, []).append(client)
        for node in await self._storage.run_patiently(store.find_all, list(clients)):
            for client in clients[node.public_key]:
                if node.revoked:
                    self._handle(client, client.session.revoked())
                elif client.session.awaits_admission:
                    if self._service is not None:
                        self._service.settled(node.public_key)
                    self._handle(client, client.session.node_found(node))

    def _dispatch(self, entries: list[LogEntry], last_id: int) -> None:
        """Tell each live session of the new entries it may see: ``entries`` are all up to place ``last_id``.

        Those already dispatched are left out.
        """
        if last_id <= self._dispatched_id:
            return
        new = [entry for entry in entries if entry.seq > self._dispatched_seq]
        self._dispatched_id = last_id
        self._dispatched_seq = max(self._dispatched_seq, entries[-1].seq)
        owners = dict.fromkeys(entry.owner for entry in new)
        if EVERYBODY in owners:
            concerned = list(self._clients)
        else:
            concerned = [client for owner in owners for client in self._by_user.get(_user(owner), ())]
        by_owner: dict[int | str, list[LogEntry]] = {}
        for entry in new:
            by_owner.setdefault(entry.owner, []).append(entry)
        for client in concerned:
            node = client.session.node
            if node is not None:
                mine = by_owner.get(node.user_id, []) + by_owner.get(EVERYBODY, [])
                self._handle(client, client.session.entries_committed(mine, self._dispatched_seq))
        if new:
            self._publish_soon = True
            self._emit("sync", {"seq": self._dispatched_seq, "entries": len(new)})

    # --- time ----------------------------------------------------------------------------------------

    async def _watch_file(self) -> None:
        seen = await self._storage.run(self._data_version)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                self._file.check()
                version = await self._storage.run(self._data_version)
            except OperationalError as error:
                self._gone = True
                self._in_trouble(error)
                continue
            except apsw.Error:
                continue  # whoever reads or writes rows will tell
            if self._gone:
                self._gone, self._last_error = False, None
            if version != seen:
                seen = version
                self._log_moved.set()

    def _data_version(self) -> int:
        return int(self._db.pragma("data_version"))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = self._surroundings.monotonic()
            held = 0
            for client in list(self._clients):  # ten thousand of them, and hardly one with anything to do
                connection = client.connection
                held += connection.held_bytes
                if connection.stuck:
                    self._note_progress(client, now)
                elif connection.held_bytes:
                    self._note_arrival(client, now)
                if connection.closing:
                    self._end_closing(client, now)
                elif effects := client.session.tick(now):
                    self._handle(client, effects)
            if held > _HELD_BYTES_MAX:
                self._bound_held_bytes()
            self._close_resumable(_RESUMABLE_COUNT_MAX)
            self._downloads = {node: one for node, one in self._downloads.items() if not one.full(now)}
            self._adoptions = {node: one for node, one in self._adoptions.items() if not one.full(now)}

    def _note_progress(self, client: _Client, now: float) -> None:
        """A device on a slow line that is not read from, because it has much to take, is no silent one."""
        unsent = client.connection.unsent_bytes
        if unsent + _PROGRESS_BYTES <= client.unsent_bytes:
            client.session.heard(now)
            client.unsent_bytes = unsent
        elif unsent > client.unsent_bytes:
            client.unsent_bytes = unsent

    def _note_arrival(self, client: _Client, now: float) -> None:
        """A large transaction on a slow line is no silence. Of a device that is known: a stranger has nothing large."""
        if client.known and client.connection.bytes_in - client.seen_bytes >= _PROGRESS_BYTES:
            client.seen_bytes = client.connection.bytes_in
            client.session.heard(now)

    def _end_closing(self, client: _Client, now: float) -> None:
        """Who does not read what it is sent would keep a closed connection for ever."""
        if client.closing_since is None:
            client.closing_since = now
        elif now - client.closing_since > _CLOSING_S_MAX:
            client.connection.abort("the connection was closed")

    def _bound_held_bytes(self) -> None:
        held = {client: client.connection.held_bytes for client in self._clients}
        total = sum(held.values())
        while total > _HELD_BYTES_MAX:
            largest = max(held, key=held.__getitem__)
            total -= held.pop(largest)
            self._note(largest, "floods", "too much is held of messages that do not end")
            largest.connection.abort("too much is held of messages that do not end")

    async def _cut_log(self) -> None:
        """Keep the log from growing for ever: PRAGMA log_keep_days, log_keep_entries."""
        log, store = self._log, self._store
        assert log is not None
        assert store is not None
        while True:
            await asyncio.sleep(_CUT_EVERY_S)
            try:
                days, entries = await self._storage.run_patiently(store.log_keeps)
                while await self._storage.run_patiently(log.cut, days * 86400.0, entries):
                    await asyncio.sleep(0.01)
            except Exception as error:  # noqa: BLE001 - a full disk, say; the next time is soon enough
                self._in_trouble(error)

    async def _publish(self) -> None:
        published = -_HEARTBEAT_S
        while True:
            if self._publish_soon or self._surroundings.monotonic() - published >= _HEARTBEAT_S:
                self._publish_soon = False
                published = self._surroundings.monotonic()
                nodes = {CONNECTED_NODES: self.connected_nodes(), WAITING_NODES: self._waiting_to_publish()}
                self._surroundings.publish(self._uri.path, self.status().to_dict() | nodes)
            await asyncio.sleep(_PUBLISH_EVERY_S)


def check_addresses(addresses: tuple[Address, ...]) -> None:
    """Whether they can be listened on, before a file is made for it. Raises ConnectError naming the one that cannot."""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            socket.create_server((address.host, address.port), family=family).close()
        except OSError as error:
            raise _cannot_listen(address, error) from None


def _cannot_listen(address: Address, error: OSError) -> ConnectError:
    in_use = error.errno == errno.EADDRINUSE or "already in use" in str(error).lower()
    return ConnectError(
        f"cannot listen on {address}: {'the port is in use' if in_use else error.strerror or error}",
        hint="choose another port in bind= (0 lets the system choose), or stop what uses it"
        if in_use
        else "check the address in bind=: it must be one of this machine's",
    )


def _short_info(info: str) -> str:
    said = json.loads(info)
    return json.dumps({key: str(said[key])[:_SAID_CHARACTERS_MAX] for key in DESCRIBED if said.get(key) is not None})


# Codes of ProblemReport that say that a peer was refused something; what they count as.
_REFUSALS: Final = {
    "signature": "signatures",
    "network_key": "signatures",
    "handshake_timeout": "timeouts",
    "version": "protocol_errors",
    "gap": "protocol_errors",
    "corrupt": "protocol_errors",
    "fork": "forks",
    "sign_in": "sign_ins_too_often",
}


def _connections_possible() -> int:
    """Each takes a file of those that the process may open."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, where sockets are no files
    except ImportError:
        return CONNECTIONS_MAX
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS_MAX
    return max(16, min(CONNECTIONS_MAX, files - _FILES_BESIDE))


def _user(owner: int | str) -> int:
    return owner if isinstance(owner, int) else 0
