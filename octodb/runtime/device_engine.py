"""The engine of a device file: drives ``DeviceSync`` with real sockets, clock and storage.

Runs on the engine thread; SQLite work goes to the storage thread, in order. At most one process runs it for a file.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import apsw

from octodb.errors import OperationalError, ProtocolError
from octodb.model.identities import Role
from octodb.model.node_uri import Address, NodeUri
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.status import NodeState, SyncStatus
from octodb.runtime.file_identity import FileIdentity
from octodb.runtime.framed_connection import FramedConnection
from octodb.runtime.network_key import derive_network_key
from octodb.runtime.surroundings import Pokes, Storage, Surroundings
from octodb.runtime.tls import client_context, peer_certificate, why_not_trusted
from octodb.storage.apsw_errors import explained
from octodb.storage.database import close_in_child
from octodb.storage.device_store import Adoption, DeviceStore, DeviceSums, Incoming, IncomingEntry, NotOurOwn
from octodb.storage.meta import Meta
from octodb.storage.wal import WalKeeper
from octodb.sync.checking import Checking
from octodb.sync.device import DeviceFacts, DeviceSync
from octodb.sync.effects import (
    AbandonSnapshot,
    BringIn,
    CloseConnection,
    Dial,
    Effect,
    LoadSnapshotPart,
    Notify,
    ReadClaims,
    ReadOutbox,
    ReadSums,
    RepairRange,
    Send,
    StoreAdoption,
    StoreRevoked,
    StoreWelcome,
)
from octodb.wire.handshake import channel_binding, sign
from octodb.wire.messages import Message

__all__ = ["DeviceEngine"]

_DIAL_S_MAX: Final = 8.0
_TAKE_OVER_EVERY_S: Final = 0.5
_TROUBLE_S: Final = 5.0
# Commits of other processes whose poke was lost show in PRAGMA data_version; a look costs some ten microseconds.
_LOOK_EVERY_S: Final = 0.1
_PUBLISH_EVERY_S: Final = 0.25
_HEARTBEAT_S: Final = 4.0
# What must have moved on a slow line since the last look, or it is silent.
_PROGRESS_BYTES: Final = 16 * 1024
_LINGER_S: Final = 0.003
_WAL_LOOK_EVERY_S: Final = 0.01
# A verdict that is being stored when the application closes is told to it, or nobody would ever hear of it.
_FINISH_S_MAX: Final = 1.0


class DeviceEngine:
    """``emit(event, info)`` tells the application; it is called on the engine thread."""

    def __init__(self, uri: NodeUri, emit: Callable[[str, dict[str, Any]], None], surroundings: Surroundings) -> None:
        self._uri = uri
        self._emit = emit
        self._surroundings = surroundings
        self._lock = surroundings.lock(uri.path)
        self._storage = surroundings.storage("octodb-storage")
        self._pokes: Pokes | None = None
        self._sync: DeviceSync | None = None
        self._store: DeviceStore | None = None
        self._connection: FramedConnection | None = None
        self._effects: asyncio.Queue[Effect] = asyncio.Queue()
        self._performing = asyncio.Lock()  # held while an effect is performed and its result told
        self._tasks: list[asyncio.Task[None]] = []
        self._dialing: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()  # the machine's timers may have changed
        self._wal_grew = asyncio.Event()  # perhaps by much
        self._bytes = (0, 0)
        self._moved_bytes = 0  # of this connection, when it was last looked at
        self._publish_soon = False
        self._request: tuple[str, str] | None = None
        self._head_wanted = False  # somebody waits for where the primary is since before this engine ran
        self.wants_poke = True  # a commit should call ``committed``; False while one call is on its way
        self._looked_at = 0.0
        self._gone: str | None = None  # what is wrong when the file is not at its path any more
        self._status = SyncStatus()
        self._reading: Storage | None = None
        self._sums: DeviceSums | None = None
        self._summing: asyncio.Task[None] | None = None
        self._client_context: ssl.SSLContext | None = None  # with tls:// addresses
        self._new_keys: tuple[bytes, bytes] | None = None  # private and public, for a file that is a copy

    # --- life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the engine lock and begin; while another process has it, wait to take over. Raises ConfigError."""
        if any(address.tls for address in self._uri.connect):
            self._client_context = client_context(self._uri.tls, has_network_key=bool(self._uri.network_key))
        try:
            if self._lock.acquire():
                await self._run_engine()
            else:
                self._tasks.append(asyncio.create_task(self._take_over()))
        except BaseException:
            # this process does not sync the file: another one, or another try, may
            await self._storage.run(self._close_store)
            self._storage.close()
            self._lock.release()
            raise

    async def stop(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S_MAX):
                await self._performing.acquire()  # and kept: nothing more is begun
        for task in (*self._tasks, self._dialing, self._summing):
            if task is not None:
                task.cancel()
        if self._connection is not None:
            self._connection.abort("this process closed the database")
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._storage.run(self._close_store)
        self._storage.close()
        if self._reading is not None:
            if self._sums is not None:
                self._sums.db.interrupt()
                await self._reading.run(self._sums.db.close, True)
            self._reading.close()
        if self._pokes is not None:
            self._pokes.close()
        if self._sync is not None:
            self._surroundings.withdraw(self._uri.path)
        self._sync = None
        self._lock.release()

    def hold(self, timeout_s: float) -> Callable[[], None]:
        """Keep out of SQLite from now until what is returned is called: this process forks."""
        return self._storage.hold(timeout_s)

    def forget_in_child(self) -> bool:
        """This is a forked child: close what is the parent's. False: the file is not to be used here."""
        self._lock.forget_in_child()
        if self._pokes is not None:
            self._pokes.forget_in_child()
        if self._connection is not None:
            self._connection.forget_in_child()
        inherited = [*([] if self._store is None else [self._db]), *([] if self._sums is None else [self._sums.db])]
        return all([close_in_child(db) for db in inherited])  # noqa: C419 - each is closed

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    async def _take_over(self) -> None:
        while True:
            try:
                if self._lock.acquire():
                    await self._run_engine()
                    return
            except Exception as error:  # noqa: BLE001 - nobody waits for this task: it tells, and tries again
                self._lock.release()
                self._status = replace(self._status, state=NodeState.ERROR, last_error=explained(error))
                self._emit("error", {"code": "storage", "reason": explained(error)})
                await asyncio.sleep(_TROUBLE_S)
            await asyncio.sleep(_TAKE_OVER_EVERY_S)

    async def _run_engine(self) -> None:
        values, facts = await self._storage.run_patiently(self._open_store)
        private_key = values["private_key"]
        info = self._surroundings.node_info(facts.public_key, str(Role.SECONDARY), values.get("node_info", ""))
        self._sync = DeviceSync(facts, self._uri.connect, lambda text: sign(private_key, text), info)
        if self._request is not None:
            self._handle(self._sync.request_login(*self._request))
        if self._head_wanted:
            self.ask_head()
        self._pokes = self._surroundings.pokes(self._uri.path, self.committed)
        self._tasks += [
            asyncio.create_task(self._work_on_storage()),
            asyncio.create_task(self._watch_clock()),
            asyncio.create_task(self._watch_file()),
            asyncio.create_task(self._publish()),
        ]
        if self._wal.wanted:
            self._tasks.append(asyncio.create_task(self._keep_wal_short()))
        self._handle(self._sync.start(self._surroundings.monotonic()))

    def _open_store(self) -> tuple[dict[str, Any], DeviceFacts]:
        """Values of the file, and what they mean for the machine. May be called again when the file was busy."""
        self._close_store()
        db = self._surroundings.engine_connection(self._uri.path, Role.SECONDARY, self._uri.file_key)
        self._db = db
        self._file = FileIdentity(self._uri.path)
        self._wal = WalKeeper(db)
        self._store = store = DeviceStore(db, self._uri.path, self._surroundings.wall_clock)
        values = Meta(db).get_all()
        cursor = store.cursor()
        facts = DeviceFacts(
            public_key=values["public_key"],
            database_id=values["database_id"],
            session_token=values.get("session_token", b""),
            identity=store.identity(),
            epoch=cursor.epoch,
            cursor=cursor.seq,
            chain_all=cursor.chain_all,
            chain_user=cursor.chain_user,
            settled_nonce=store.settled_nonce(),
            has_pending=store.queue().pending > 0,
            id_counter=store.id_counter(),
            network_id=values.get("network_id", b""),
            network_key=derive_network_key(self._uri.network_key),
            revoked=values.get("revoked", ""),
        )
        return values, facts

    # --- from other threads, by way of the engine thread ------------------------------------------------

    def request_login(self, action: str, data: str) -> None:
        self._request = (action, data)
        if self._sync is not None:
            self._handle(self._sync.request_login(action, data))

    def committed(self) -> None:
        """An application committed, of this process or of one that pokes it. A lone commit is sent at once; in a stream
        of them the engine looks every few milliseconds, so that they share messages and do not wait for each other's
        turns."""
        now = self._surroundings.monotonic()
        since_s = now - self._looked_at
        if since_s < _LINGER_S:
            self._wal_grew.set()
            asyncio.get_running_loop().call_later(_LINGER_S - since_s, self._look_at_queue)
        else:
            self._look_at_queue()

    def _look_at_queue(self) -> None:
        self._looked_at = self._surroundings.monotonic()
        self.wants_poke = True
        if self._sync is not None:
            self._handle(self._sync.queue_moved())

    def ask_head(self) -> None:
        """See ``DeviceSync.ask_head``."""
        if self._sync is None:
            self._head_wanted = True
        else:
            self._handle(self._sync.ask_head(self._surroundings.monotonic()))

    def check_rows(self) -> None:
        """See ``DeviceSync.check_rows``."""
        if self._sync is not None:
            self._sync.check_rows()
            self._moved.set()

    @property
    def checking(self) -> Checking | None:
        """How the rows compare with the primary's; None where another process runs the engine."""
        return None if self._sync is None else self._sync.checking

    @property
    def running(self) -> bool:
        """Whether this process runs the engine of the file."""
        return self._sync is not None

    @property
    def head_known_at(self) -> float | None:
        """Monotonic time of the last question to which a primary said where its log is."""
        return None if self._sync is None else self._sync.head_known_at

    @property
    def login_pending(self) -> bool:
        return self._request is not None and self._sync is None

    def status(self) -> SyncStatus:
        """The status now, without the queue. May be called from any thread: it reads immutable values."""
        sync = self._sync
        if sync is None:
            return self._status
        now = self._surroundings.monotonic()
        identity = sync.facts.identity
        connection = self._connection
        current = (connection.bytes_in, connection.bytes_out) if connection is not None else (0, 0)
        return SyncStatus(
            encrypted=self._uri.cipher is not None,
            node_id=identity.node_id,
            user_id=identity.user_id,
            node_type=str(Role.SECONDARY),
            public_key=sync.facts.public_key.hex(),
            db_is_ready=identity.ready,
            state=sync.state if self._gone is None else NodeState.ERROR,
            connected=sync.connected,
            server=str(sync.server.address) if sync.server is not None and sync.connected else None,
            rtt_ms=None if sync.rtt_s is None or not sync.connected else round(sync.rtt_s * 1000, 3),
            auth=sync.auth,
            log=sync.log,
            snapshot=sync.snapshot,
            bytes_in=self._bytes[0] + current[0],
            bytes_out=self._bytes[1] + current[1],
            checksum_ok=sync.checking.ok,
            last_contact_s=None if sync.last_contact is None else round(now - sync.last_contact, 3),
            engine_pid=os.getpid(),
            engine_age_s=0.0,
            last_error=self._gone or sync.last_error,
            servers=tuple(
                {
                    "server": str(server.address),
                    "state": "connected"
                    if sync.connected and server is sync.server
                    else ("failed" if server.last_error else "standby"),
                    "error": server.last_error,
                }
                for server in sync.servers.servers
            ),
        )

    # --- effects -------------------------------------------------------------------------------------

    def _handle(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                if self._connection is not None:
                    self._connection.send(effect.message)
            elif isinstance(effect, Notify):
                self._notify(effect)
            elif isinstance(effect, Dial):
                self._dialing = asyncio.create_task(self._dial(effect.address))
            elif isinstance(effect, CloseConnection):
                if self._connection is not None:
                    self._connection.close(effect.reason)
            else:
                self._effects.put_nowait(effect)
        self._moved.set()

    def _notify(self, effect: Notify) -> None:
        self._publish_soon = True
        self._emit(effect.event, effect.info)

    async def _work_on_storage(self) -> None:
        """Storage effects one after the other, each answered to the machine before the next."""
        while True:
            effect = await self._effects.get()
            async with self._performing:
                try:
                    await self._perform(effect)
                except Exception as error:  # noqa: BLE001 - whatever it was, the file is as it was before
                    # the connection is given up; what was asked for is asked again after the next one
                    self._storage_failed(error)

    def _storage_failed(self, error: Exception) -> None:
        assert self._sync is not None
        reason = explained(error)
        self._handle(self._sync.storage_failed(reason))
        self._emit("error", {"code": "storage", "reason": reason})
        if self._connection is not None:
            self._connection.abort(reason)

    async def _perform(self, effect: Effect) -> None:
        sync, store = self._sync, self._store
        assert sync is not None
        assert store is not None
        if isinstance(effect, BringIn):
            try:
                result = await self._storage.run_patiently(store.bring_in, _incoming(effect))
            except NotOurOwn as finding:
                self._handle(sync.found_to_be_copy(str(finding)))
                return
            cursor = result.cursor
            self._handle(
                sync.brought_in(
                    effect,
                    (cursor.seq, cursor.chain_all, cursor.chain_user),
                    result.accepted,
                    result.rejected,
                    result.tables,
                    result.settled,
                    result.has_pending,
                )
            )
        elif isinstance(effect, ReadOutbox):
            found = await self._storage.run_patiently(
                store.read_outbox, effect.after, effect.count_max, effect.bytes_max
            )
            self._handle(sync.outbox_read(effect, found))
        elif isinstance(effect, LoadSnapshotPart):
            loaded = await self._storage.run_patiently(_load_part, store, effect)
            if loaded is None:
                return  # it came after one that could not be loaded: that has ended its download
            received = self._connection.bytes_in if self._connection is not None else 0
            self._handle(sync.snapshot_loaded(effect, received, *loaded))
        elif isinstance(effect, AbandonSnapshot):
            await self._storage.run_patiently(_abandon, store)
        elif isinstance(effect, ReadSums):
            self._summing = asyncio.create_task(self._read_sums(effect))
        elif isinstance(effect, RepairRange):
            done = await self._storage.run_patiently(
                store.repair, effect.seq, effect.table, effect.low, effect.high, effect.columns, effect.rows
            )
            self._handle(sync.repaired(effect, done=done))
        else:
            await self._perform_on_identity(effect)

    async def _read_sums(self, effect: ReadSums) -> None:
        """Beside the other work: what arrives meanwhile is stored, and ends the comparison."""
        if self._reading is None:
            self._reading = self._surroundings.storage("octodb-checksums")
        try:
            if self._sums is None:
                self._sums = DeviceSums(self._surroundings.reading_connection(self._uri.path, self._uri.file_key))
            arguments = (effect.seq, effect.table, effect.low, effect.high, effect.bounds)
            ours = await self._reading.run(self._sums.compute, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing was written; another time
            self._emit("error", {"code": "checksum", "reason": explained(error)})
            ours = None
        if self._sync is not None:
            self._handle(self._sync.sums_read(effect, ours, self._surroundings.monotonic()))

    async def _perform_on_identity(self, effect: Effect) -> None:
        sync, store = self._sync, self._store
        assert sync is not None
        assert store is not None
        run, whereabouts = self._storage.run_patiently, self._surroundings.whereabouts(self._uri.path)
        if isinstance(effect, StoreWelcome):
            nonces = await run(
                store.store_welcome,
                effect.node_id,
                effect.user_id,
                effect.session_token,
                effect.network_id,
                whereabouts,
            )
            self._request = None
            self._handle(sync.welcome_stored(*nonces, self._surroundings.monotonic()))
        elif isinstance(effect, StoreRevoked):
            await run(store.store_revoked, effect.reason)
        elif isinstance(effect, ReadClaims):
            self._new_keys = self._new_keys or self._surroundings.new_keys()
            private_key, public_key = self._new_keys
            claims = await run(store.claims)
            self._handle(sync.claims_read(effect, public_key, lambda text: sign(private_key, text), claims))
        elif isinstance(effect, StoreAdoption):
            assert self._new_keys is not None
            private_key, public_key = self._new_keys
            adopted = effect.adopted
            known = tuple((nonce, seq) for nonce, seq in adopted.known)
            adoption = Adoption(
                private_key,
                public_key,
                adopted.node_id,
                adopted.user_id,
                adopted.session_token,
                known,
            )
            settled = await run(store.adopt, adoption, whereabouts)
            self._new_keys = None
            now = self._surroundings.monotonic()
            self._handle(sync.adoption_stored(adopted, public_key, lambda text: sign(private_key, text), settled, now))

    # --- network -------------------------------------------------------------------------------------

    async def _dial(self, address: Address) -> None:
        assert self._sync is not None
        loop = asyncio.get_running_loop()
        connection = FramedConnection(self._received, self._lost)
        options: dict[str, Any] = {"ssl": self._client_context} if address.tls else {}
        try:
            async with asyncio.timeout(_DIAL_S_MAX):
                transport, _ = await loop.create_connection(lambda: connection, address.host, address.port, **options)
            binding = channel_binding(peer_certificate(transport, self._uri.tls)) if address.tls else b""
        except TimeoutError:
            self._failed(f"{address}: no answer within {_DIAL_S_MAX:.0f} s")
            return
        except ssl.SSLError as error:
            connection.forget()
            self._failed(f"{address}: {why_not_trusted(error)}")
            return
        except (ConnectionResetError, ConnectionAbortedError):
            self._failed(f"{address}: the other side closed the connection{'; is it tcp://?' if address.tls else ''}")
            return
        except OSError as error:
            self._failed(f"{address}: {_why_not_reached(error)}")
            return
        self._connection, self._moved_bytes = connection, 0
        # what a primary sends is bounded by its own limits; there is nothing to distrust before the handshake
        connection.trust()
        now = self._surroundings.monotonic()
        self._handle(self._sync.connected_to(self._surroundings.random_bytes(32), now, binding))

    def _received(self, message: Message) -> None:
        sync = self._sync
        if sync is None:
            return
        try:
            self._handle(sync.receive(message, self._surroundings.monotonic()))
        except ProtocolError as error:
            if self._connection is not None:
                self._connection.close(str(error))

    def _lost(self, reason: str) -> None:
        if self._connection is not None:
            self._bytes = (
                self._bytes[0] + self._connection.bytes_in,
                self._bytes[1] + self._connection.bytes_out,
            )
        self._connection = None
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        if self._sync is not None:
            jitter = self._surroundings.jitter()
            self._handle(self._sync.connection_failed(reason, jitter, self._surroundings.monotonic()))

    # --- time ----------------------------------------------------------------------------------------

    async def _watch_clock(self) -> None:
        sync = self._sync
        assert sync is not None
        while True:
            self._moved.clear()
            now = self._surroundings.monotonic()
            due = sync.next_tick(now)
            if due is not None and due <= now:
                self._note_progress(sync, now)
                self._handle(sync.tick(now))
                await asyncio.sleep(0.01)
                continue
            try:
                async with asyncio.timeout(None if due is None else due - now):
                    await self._moved.wait()
            except TimeoutError:
                continue

    def _note_progress(self, sync: DeviceSync, now: float) -> None:
        """A large message on a slow line keeps the smaller ones waiting, either way: that is no silence."""
        connection = self._connection
        if connection is not None and connection.moved_bytes - self._moved_bytes >= _PROGRESS_BYTES:
            self._moved_bytes = connection.moved_bytes
            self._handle(sync.heard(now))

    async def _watch_file(self) -> None:
        """Transactions that other processes commit to this file are ours to send."""
        seen = await self._storage.run(self._look_at_file)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self._check_file()
            try:
                version = await self._storage.run(self._look_at_file)
            except apsw.Error:
                continue  # whoever reads or writes rows will tell
            if version != seen:
                seen = version
                self._look_at_queue()

    def _check_file(self) -> None:
        """What is in a file that is gone goes on being sent, as long as this process keeps it; the status tells."""
        try:
            self._file.check()
        except OperationalError as error:
            if self._gone is None:
                self._gone = explained(error)
                self._publish_soon = True
                self._emit("error", {"code": "storage", "reason": self._gone})
        else:
            self._gone = None

    async def _keep_wal_short(self) -> None:
        """Look after the WAL more often while commits come in a stream."""
        while True:
            await self._wal_grew.wait()
            self._wal_grew.clear()
            await asyncio.sleep(_WAL_LOOK_EVERY_S)
            await self._storage.run(self._wal.checkpoint)

    def _look_at_file(self) -> int:
        """Which commit of others was the last; and the WAL is kept short in passing."""
        self._wal.checkpoint()
        return int(self._db.pragma("data_version"))

    async def _publish(self) -> None:
        """Rewrite the status sidecar when something changed, and now and then as a sign of life."""
        published = -_HEARTBEAT_S
        while True:
            if self._publish_soon or self._surroundings.monotonic() - published >= _HEARTBEAT_S:
                self._publish_soon = False
                published = self._surroundings.monotonic()
                store = self._store
                assert store is not None
                try:
                    queue = await self._storage.run_patiently(store.queue)
                except apsw.Error as error:
                    status = replace(self.status(), state=NodeState.ERROR, last_error=explained(error))
                else:
                    status = self.status().with_queue(queue)
                self._surroundings.publish(self._uri.path, status.to_dict())
            await asyncio.sleep(_PUBLISH_EVERY_S)


def _incoming(effect: BringIn) -> Incoming:
    return Incoming(
        [IncomingEntry(e.seq, e.everybody, e.nonce, e.chain, e.body) for e in effect.entries],
        effect.rejections,
        effect.through,
        effect.acceptances,
    )


def _load_part(store: DeviceStore, effect: LoadSnapshotPart) -> tuple[int, int, tuple[str, ...]] | None:
    """How many transactions are offered again, how many cannot be, and the tables whose rows may have changed.

    None, and nothing done: an earlier part of the download is missing.
    """
    loader = store.staging if effect.again else store.snapshot
    part = effect.part
    if not isinstance(part, SnapshotHeader) and not loader.is_loading(effect.header):
        return None
    try:
        if isinstance(part, SnapshotTail) and effect.again:
            offered, gone = store.swap(part, effect.primary_nonce)
            return offered, gone, store.replicated_tables()
        if isinstance(part, SnapshotHeader):
            loader.begin(part)
        elif isinstance(part, SnapshotRows):
            loader.load(part)
        else:
            store.snapshot.finish(part)
    except apsw.BusyError:
        raise  # nothing was done; it is tried again
    except BaseException:
        loader.abandon()
        raise
    return 0, 0, ()


def _abandon(store: DeviceStore) -> None:
    store.snapshot.abandon()
    store.staging.abandon()


def _why_not_reached(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    text = error.strerror or str(error)
    return "name not found" if "Name or service not known" in text or "nodename" in text else text.lower()
