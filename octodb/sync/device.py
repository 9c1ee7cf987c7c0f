"""The device's side of sync as a state machine: messages and results in, effects out. No IO, no clock of its own.

One instance lives as long as the engine of a device file and goes through many connections. ``now`` is seconds of a
monotonic clock. Storage effects are answered in the order they were asked.

==============  ==================================================  =====================
phase           what ends it                                        next
==============  ==================================================  =====================
waiting         the time of the next try                            dialing
dialing         connected / connect_failed                          greeting / waiting
greeting        Challenge                                           proving
proving         Welcome / Unauthorized                              storing / signing in
signing in      Welcome (Denied stays)                              storing
storing         welcome_stored                                      subscribed
subscribed      connection lost                                     waiting
==============  ==================================================  =====================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from octodb.errors import ProtocolError
from octodb.model.identities import Identity
from octodb.model.node_uri import Address
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.status import AuthStatus, LogStatus, NodeState, SnapshotStatus
from octodb.model.transactions import Rejection
from octodb.sync.backoff import ServerHealth, ServerList
from octodb.sync.effects import (
    AbandonSnapshot,
    BringIn,
    CloseConnection,
    Dial,
    Effect,
    LoadSnapshotPart,
    Notify,
    ReadOutbox,
    Send,
    StoreWelcome,
)
from octodb.wire.handshake import handshake_text
from octodb.wire.messages import (
    NOT_KNOWN,
    PROTOCOL_VERSION,
    Applied,
    AskHead,
    Challenge,
    Denied,
    Entries,
    Head,
    Hello,
    Login,
    Message,
    Ping,
    Pong,
    ProblemReport,
    Prove,
    Push,
    PushedTransaction,
    Revoked,
    Signup,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Unauthorized,
    Verdicts,
    Welcome,
    WireEntry,
)

__all__ = ["DeviceFacts", "DeviceSync", "Phase"]

# Pushed and not yet judged: enough to fill a primary's group commits over a slow line, little to send again.
_IN_FLIGHT_COUNT_MAX: Final = 1024
_IN_FLIGHT_BYTES_MAX: Final = 4 * 1024 * 1024
_PUSH_BYTES: Final = 256 * 1024
_PING_AFTER_S: Final = 10.0
_SILENCE_S_MAX: Final = 25.0
_HANDSHAKE_S_MAX: Final = 8.0
# A connection that ends sooner than this was no good, even if it began well.
_LASTED_S: Final = 3.0
_TROUBLE_S: Final = 0.5
_TROUBLE_S_MAX: Final = 60.0


class Phase(Enum):
    STOPPED = "stopped"
    WAITING = "waiting"
    DIALING = "dialing"
    GREETING = "greeting"
    PROVING = "proving"
    SIGNING_IN = "signing in"
    STORING = "storing"
    SUBSCRIBED = "subscribed"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the device file says of this device when the engine starts."""

    public_key: bytes
    database_id: bytes
    session_token: bytes
    identity: Identity
    epoch: bytes
    cursor: int
    chain_all: bytes
    chain_user: bytes
    settled_nonce: int
    has_pending: bool
    id_counter: int


class DeviceSync:
    """Decides what a device does next. ``sign`` makes the Ed25519 signature of a text; ``node_info`` is JSON."""

    def __init__(
        self,
        facts: DeviceFacts,
        servers: tuple[Address, ...],
        sign: Callable[[bytes], bytes],
        node_info: str,
    ) -> None:
        self.facts = facts
        self.servers = ServerList(servers)
        self._sign = sign
        self._node_info = node_info
        self.phase = Phase.STOPPED
        self.server: ServerHealth | None = None
        self.auth = AuthStatus()
        self.rtt_s: float | None = None
        self.last_contact: float | None = None
        self.last_error: str | None = None
        self.snapshot: SnapshotStatus | None = None
        self.revoked = False
        self._head: int | None = None
        # When the question was asked to which a primary last said where its log is, and when it was last asked.
        self.head_known_at: float | None = None
        self._head_asked_at: float | None = None
        self._request: Signup | Login | None = None
        self._hello: Hello | None = None
        self._retry_at: float | None = None
        self._phase_since = 0.0
        self._connection = 0
        self._in_trouble = False  # dialing again cannot mend the last error
        self._troubles = 0
        self._reset_connection()

    def _reset_connection(self) -> None:
        self._connection += 1
        self._challenge: Challenge | None = None
        self._sent_request: Signup | Login | None = None
        self._incoming: list[WireEntry] = []
        self._rejections: list[tuple[int, Rejection]] = []
        self._through = 0
        self._more_follows = False
        self._unacked_messages = 0
        self._bringing_in = False
        self._reading_outbox = False
        self._queue_moved = True
        self._sent_nonce = 0
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._pinged_at: float | None = None
        self._header: SnapshotHeader | None = None
        self.snapshot = None

    # --- status --------------------------------------------------------------------------------------

    @property
    def state(self) -> NodeState:
        if self.revoked:
            return NodeState.REVOKED
        if self.phase is Phase.SUBSCRIBED:
            if not self.facts.identity.ready:
                return NodeState.DOWNLOADING
            return NodeState.SYNCING if self._busy else NodeState.IN_SYNC
        if self.phase is Phase.SIGNING_IN:
            return NodeState.AUTHORIZING if self.auth.pending else NodeState.UNAUTHORIZED
        if self._in_trouble:
            return NodeState.ERROR
        if self.phase in {Phase.STOPPED, Phase.WAITING}:
            return NodeState.OFFLINE
        return NodeState.CONNECTING

    @property
    def _busy(self) -> bool:
        return bool(
            self._in_flight
            or self._bringing_in
            or self._incoming
            or self._rejections
            or self._reading_outbox
            or self._queue_moved
            or self.facts.has_pending
            or self._more_follows
            or self._head != self.facts.cursor
        )

    @property
    def connected(self) -> bool:
        return self.phase in {Phase.PROVING, Phase.SIGNING_IN, Phase.STORING, Phase.SUBSCRIBED}

    @property
    def log(self) -> LogStatus:
        epoch = self.facts.epoch.hex() if self.facts.epoch else None
        return LogStatus(epoch, self.facts.cursor, self._head)

    # --- connection ----------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Begin to dial. A device without ``connect=`` stays offline."""
        if not self.servers.servers:
            return []
        return self._dial(now)

    def connected_to(self, client_random: bytes, now: float) -> list[Effect]:
        """The connection that ``Dial`` asked for is there. ``client_random``: 32 fresh random bytes."""
        self._reset_connection()
        self._enter(Phase.GREETING, now)
        self._hello = Hello(
            PROTOCOL_VERSION,
            self.facts.public_key,
            client_random,
            self.facts.database_id,
            self.facts.session_token,
            self.facts.id_counter,
        )
        return [Send(self._hello)]

    def connection_failed(self, reason: str, jitter: float, now: float) -> list[Effect]:
        """Dialing failed, or the connection was lost. ``jitter``: a random number between 0 and 1."""
        lost = self.phase not in {Phase.DIALING, Phase.WAITING, Phase.STOPPED}
        downloading = self._header is not None
        if self.phase is Phase.SUBSCRIBED and now - self._phase_since >= _LASTED_S:
            self.servers.lasted()
        if not self._in_trouble:
            self.last_error = reason
        self._reset_connection()
        self._enter(Phase.WAITING, now)
        self.auth = replace(self.auth, pending=self._request is not None)
        self._head = None
        assert self.server is not None
        delay = self.servers.failed(self.server, reason, jitter)
        if self._in_trouble:
            # the server is reachable, so its health says nothing: wait longer each time until something works
            self._troubles += 1
            delay = max(delay, min(_TROUBLE_S_MAX, _TROUBLE_S * 2.0**self._troubles) * (1 - jitter / 2))
        self._retry_at = None if self.revoked else now + delay
        effects: list[Effect] = [Notify("status", {"state": str(self.state)})]
        if downloading:
            effects.append(AbandonSnapshot())
        if lost:
            effects.append(Notify("error", {"code": "connection", "reason": reason}))
        return effects

    def _dial(self, now: float) -> list[Effect]:
        self.server = self.servers.next()
        self._retry_at = None
        self._enter(Phase.DIALING, now)
        return [Dial(self.server.address), Notify("status", {"state": str(self.state)})]

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self._phase_since = now

    # --- time ----------------------------------------------------------------------------------------

    def next_tick(self, now: float) -> float | None:
        """When ``tick`` wants to be called at the latest, or None."""
        if self.phase is Phase.WAITING:
            return self._retry_at
        if self.phase in {Phase.GREETING, Phase.PROVING}:
            return self._phase_since + _HANDSHAKE_S_MAX
        if self.connected:
            quiet_since = self.last_contact or now
            return quiet_since + (_PING_AFTER_S if self._pinged_at is None else _SILENCE_S_MAX)
        return None

    def tick(self, now: float) -> list[Effect]:
        if self.phase is Phase.WAITING and self._retry_at is not None and now >= self._retry_at:
            return self._dial(now)
        if self.phase in {Phase.GREETING, Phase.PROVING} and now >= self._phase_since + _HANDSHAKE_S_MAX:
            return [CloseConnection("the primary did not finish the handshake in time")]
        if self.connected and self.phase is not Phase.PROVING:
            quiet_s = now - (self.last_contact or now)
            if quiet_s >= _SILENCE_S_MAX and self._pinged_at is not None:
                return [CloseConnection(f"the primary has been silent for {quiet_s:.0f} s")]
            if quiet_s >= _PING_AFTER_S and self._pinged_at is None:
                return self.ping(now)
        return []

    def ping(self, now: float) -> list[Effect]:
        """Ask for a sign of life; it also brings the head of the log up to date."""
        if not self.connected:
            return []
        self._pinged_at = now
        return [Send(Ping(now))]

    def ask_head(self, now: float) -> list[Effect]:
        """Ask the primary where its log is; ``head_known_at`` reaches ``now`` when it has said so.

        Asked again after each reconnection until it is answered.
        """
        self._head_asked_at = now
        return self._ask_head()

    def _ask_head(self) -> list[Effect]:
        if self._head_asked_at is None or self.phase is not Phase.SUBSCRIBED:
            return []
        return [Send(AskHead(self._head_asked_at))]

    # --- the application's requests ---------------------------------------------------------------------

    def request_login(self, action: str, data: str) -> list[Effect]:
        """``action``: 'user_signup' or 'user_login'. Kept until it can be sent; nothing for an authorized device."""
        if self.facts.identity.node_id:
            return []
        self._request = Signup(data) if action == "user_signup" else Login(data)
        self.auth = replace(self.auth, pending=True, error=None)
        if self.phase is Phase.SIGNING_IN and self._sent_request is None:
            return self._send_request()
        return []  # one at a time: this one is sent when the one before is answered

    def _send_request(self) -> list[Effect]:
        """Kept until it is answered: a connection lost in between is no answer."""
        if self._request is None:
            return []
        self._sent_request = self._request
        self.auth = replace(self.auth, pending=True, error=None)
        return [Send(self._request), Notify("status", {"state": str(self.state)})]

    def queue_moved(self) -> list[Effect]:
        """The outbox may have new transactions."""
        self._queue_moved = True
        return self._push()

    # --- messages ------------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> list[Effect]:
        """Raises ProtocolError for a message that has no place in this phase: close the connection then."""
        self.last_contact = now
        self._pinged_at = None if not isinstance(message, Ping) else self._pinged_at
        handler = self._HANDLERS.get(type(message))
        if handler is None or (self.phase not in handler[1]):
            raise ProtocolError(f"unexpected {type(message).__name__} while {self.phase.value}")
        return handler[0](self, message, now)

    def _on_challenge(self, message: Challenge, now: float) -> list[Effect]:
        assert self._hello is not None
        if message.version != PROTOCOL_VERSION:
            return self._fatal(
                f"the primary speaks protocol {message.version}, this device {PROTOCOL_VERSION}: update the older one"
            )
        if self.facts.epoch and message.epoch != self.facts.epoch:
            return self._fatal(
                "this is another primary than the one this file was downloaded from, or it was restored from a backup"
            )
        self._challenge = message
        self.auth = replace(self.auth, mode=message.auth_mode, fields=tuple(message.login_fields))
        self._enter(Phase.PROVING, now)
        text = handshake_text(self._hello, message, self._node_info)
        return [Send(Prove(self._sign(text), self._node_info)), Notify("status", {"state": str(self.state)})]

    def _on_unauthorized(self, message: Unauthorized, now: float) -> list[Effect]:
        self._worked(now)
        self._enter(Phase.SIGNING_IN, now)
        if message.wanted == "decision":
            self.auth = replace(self.auth, required=False, pending=True)
            return [Notify("status", {"state": str(self.state)})]
        self.auth = replace(self.auth, required=True, pending=False)
        return self._send_request() or [Notify("status", {"state": str(self.state)})]

    def _on_denied(self, message: Denied, now: float) -> list[Effect]:
        answered, self._sent_request = self._sent_request, None
        if answered is not None and answered is not self._request:
            return self._send_request()  # the application has sent another one meanwhile: that one counts
        self._request = None
        self.auth = replace(self.auth, pending=False, error={"code": message.code, "reason": message.reason})
        self._enter(Phase.SIGNING_IN, now)
        info = {"code": message.code, "reason": message.reason}
        return [Notify("error", info), Notify("status", {"state": str(self.state)})]

    def _on_welcome(self, message: Welcome, now: float) -> list[Effect]:
        identity = self.facts.identity
        if identity.user_id and identity.user_id != message.user_id:
            return self._fatal(f"this file belongs to user {identity.user_id}; open a new file")
        self._worked(now)
        self._request = None
        self.auth = replace(self.auth, required=False, pending=False, error=None)
        self._enter(Phase.STORING, now)
        self.facts = replace(
            self.facts,
            identity=replace(identity, node_id=message.node_id, user_id=message.user_id),
            session_token=message.session_token,
        )
        return [StoreWelcome(message.node_id, message.user_id, message.session_token)]

    def welcome_stored(self, now: float) -> list[Effect]:
        """Ids and token are on the disk: only now anything else may be sent (design.md §8)."""
        if self.phase is not Phase.STORING:
            return []
        self._enter(Phase.SUBSCRIBED, now)
        facts = self.facts
        ready = facts.identity.ready
        subscribe = Subscribe(
            facts.session_token,
            facts.epoch if ready else b"",
            facts.cursor,
            facts.chain_all,
            facts.chain_user,
            facts.settled_nonce,
        )
        status = Notify("status", {"state": str(self.state)})
        return [Send(subscribe), status, *self._ask_head(), *self._push()]

    def _on_revoked(self, message: Revoked, now: float) -> list[Effect]:
        self.revoked = True
        self.last_error = message.reason
        return [
            CloseConnection(message.reason),
            Notify("error", {"code": "revoked", "reason": message.reason}),
        ]

    def _on_problem(self, message: ProblemReport, now: float) -> list[Effect]:
        if message.code in {"closing", "session", "silence"}:
            self.last_error = message.reason
            return [CloseConnection(message.reason)]
        return self._fatal(message.reason)

    def _fatal(self, reason: str) -> list[Effect]:
        """Trying again at once cannot help: the state is 'error' until a connection succeeds."""
        self.last_error = reason
        self._in_trouble = True
        return [Notify("error", {"code": "sync", "reason": reason}), CloseConnection(reason)]

    def storage_failed(self, reason: str) -> None:
        """What was asked of the file could not be done. The caller cuts the connection; the next one asks again."""
        self.last_error = reason
        self._in_trouble = True

    def _worked(self, now: float) -> None:
        assert self.server is not None
        self.servers.worked(self.server, now)
        if not self._in_trouble:
            self.last_error = None

    def _out_of_trouble(self) -> None:
        """Something was stored: whatever stood in the way does not any more."""
        self._in_trouble = False
        self._troubles = 0
        self.last_error = None
        self.servers.lasted()

    def _on_ping(self, message: Ping, now: float) -> list[Effect]:
        return [Send(Pong(message.sent_at, NOT_KNOWN))]

    def _on_pong(self, message: Pong, now: float) -> list[Effect]:
        self.rtt_s = max(0.0, now - message.sent_at)
        if self.phase is Phase.SUBSCRIBED and self.facts.identity.ready and message.through != NOT_KNOWN:
            return self._primary_is_at(message.through)
        return []

    def _on_head(self, message: Head, now: float) -> list[Effect]:
        self.head_known_at = message.asked_at
        if message.asked_at == self._head_asked_at:
            self._head_asked_at = None
        return self._primary_is_at(message.through)

    def _primary_is_at(self, head: int) -> list[Effect]:
        """The primary has sent all that this device may see up to ``head``."""
        if head <= (self._head or 0) and head <= self.facts.cursor:
            return []
        self._head = max(self._head or 0, head)
        return [*self._take([], head), Notify("status", {"state": str(self.state)})]

    # --- first download ------------------------------------------------------------------------------

    def _on_snapshot(self, message: SnapshotStart | SnapshotChunk | SnapshotEnd, now: float) -> list[Effect]:
        if self.facts.identity.ready:
            raise ProtocolError("a snapshot came although none was asked for")
        if isinstance(message, SnapshotStart):
            self.snapshot = SnapshotStatus(0, message.rows_total, 0)
            self._header = SnapshotHeader(
                message.seq,
                message.epoch,
                message.chain_all,
                message.chain_user,
                message.schema_seq,
                tuple(message.tables),
                message.rows_total,
            )
            return [LoadSnapshotPart(self._connection, self._header, self._header)]
        if self._header is None:
            raise ProtocolError("a snapshot chunk came before its start")
        part: SnapshotRows | SnapshotTail
        if isinstance(message, SnapshotChunk):
            part = SnapshotRows(message.table, tuple(message.columns), message.rows)
        else:
            part = SnapshotTail(tuple(message.schema))
            self._more_follows = True  # the entries that were committed while the download went on
        return [LoadSnapshotPart(self._connection, self._header, part)]

    def snapshot_loaded(self, loaded: LoadSnapshotPart, bytes_in: int) -> list[Effect]:
        """A part is in the file; the tail made the database ready, also when the connection is gone by now.

        ``bytes_in``: what this connection has received so far, for the progress shown.
        """
        if isinstance(loaded.part, SnapshotTail):
            self._set_ready(loaded.header)
            self._out_of_trouble()
        if self.phase is not Phase.SUBSCRIBED or loaded.connection != self._connection:
            return [Notify("ready", {})] if isinstance(loaded.part, SnapshotTail) else []
        acknowledge: list[Effect] = [Send(Applied(0, 0, 1))]
        if isinstance(loaded.part, SnapshotTail):
            self.snapshot = self._header = None
            self._head = max(self._head or 0, self.facts.cursor)
            status = Notify("status", {"state": str(self.state)})
            return [*acknowledge, Notify("ready", {}), status, *self._bring_in(), *self._push()]
        if isinstance(loaded.part, SnapshotRows) and self.snapshot is not None:
            rows = self.snapshot.rows + len(loaded.part.rows)
            self.snapshot = SnapshotStatus(rows, self.snapshot.rows_total, bytes_in)
            acknowledge.append(Notify("status", {"state": str(self.state)}))
        return acknowledge

    def _set_ready(self, header: SnapshotHeader) -> None:
        self.facts = replace(
            self.facts,
            identity=replace(self.facts.identity, ready=True),
            epoch=header.epoch,
            cursor=header.seq,
            chain_all=header.chain_all,
            chain_user=header.chain_user,
        )

    # --- entries and verdicts -------------------------------------------------------------------------

    def _on_entries(self, message: Entries, now: float) -> list[Effect]:
        if not self.facts.identity.ready and self._header is None:
            raise ProtocolError("entries came before the first download")
        self._unacked_messages += 1
        self._head = max(self._head or 0, message.through)
        was, self._more_follows = self.state, message.more
        effects = self._take(message.entries, message.through)
        return effects if self.state is was else [*effects, Notify("status", {"state": str(self.state)})]

    def _on_verdicts(self, message: Verdicts, now: float) -> list[Effect]:
        """Acceptances come as entries of our own; a verdict tells of refusals, and of what was judged long ago."""
        for verdict in message.verdicts:
            if not verdict.seq:
                reason = Rejection(verdict.code, verdict.message, verdict.table, tuple(verdict.columns))
                self._rejections.append((verdict.nonce, reason))
        return self._bring_in()

    def _take(self, entries: list[WireEntry], through: int) -> list[Effect]:
        self._incoming += entries
        self._through = max(self._through, through)
        effects = self._bring_in()
        if not effects and not self._bringing_in and self.facts.identity.ready and self._unacked_messages:
            effects = [Send(Applied(self.facts.cursor, self.facts.settled_nonce, self._unacked_messages))]
            self._unacked_messages = 0
        return effects

    def _bring_in(self) -> list[Effect]:
        """One at a time: what arrives meanwhile is brought in together afterwards."""
        nothing = not self._incoming and not self._rejections and self._through <= self.facts.cursor
        if self._bringing_in or nothing or not self.facts.identity.ready:
            return []  # what arrives before the end of a download is stored waits for that
        self._bringing_in = True
        effect = BringIn(self._connection, self._incoming, self._rejections, self._through)
        self._incoming, self._rejections = [], []
        return [effect]

    def brought_in(
        self,
        asked: BringIn,
        cursor: tuple[int, bytes, bytes],
        accepted: list[tuple[int, int]],
        rejected: list[tuple[int, Rejection]],
        tables: tuple[str, ...],
        settled_nonce: int,
        has_pending: bool,
    ) -> list[Effect]:
        """What ``BringIn`` asked for is stored. ``cursor``: (seq, chain_all, chain_user)."""
        self.facts = replace(
            self.facts,
            cursor=cursor[0],
            chain_all=cursor[1],
            chain_user=cursor[2],
            settled_nonce=settled_nonce,
            has_pending=has_pending,
        )
        if asked.connection != self._connection:
            return []
        self._bringing_in = False
        self._out_of_trouble()
        self._forget_in_flight({nonce for nonce, _ in accepted} | {nonce for nonce, _ in rejected})
        effects: list[Effect] = [Send(Applied(cursor[0], settled_nonce, self._unacked_messages))]
        self._unacked_messages = 0
        effects += [Notify("verdict", {"nonce": nonce, "status": "accepted", "seq": seq}) for nonce, seq in accepted]
        for nonce, reason in rejected:
            info: dict[str, Any] = {"nonce": nonce, "code": reason.code, "reason": reason.message}
            info |= {"table": reason.table, "columns": list(reason.columns)}
            effects.append(Notify("verdict", {"nonce": nonce, "status": "rejected"}))
            effects.append(Notify("rejected", info))
        if tables:
            effects.append(Notify("sync", {"tables": list(tables), "seq": cursor[0]}))
        effects += self._bring_in()
        effects += self._push()
        effects.append(Notify("status", {"state": str(self.state)}))
        return effects

    def _forget_in_flight(self, nonces: set[int]) -> None:
        if not nonces:
            return
        kept = [(nonce, size) for nonce, size in self._in_flight if nonce not in nonces]
        self._in_flight = deque(kept)
        self._in_flight_bytes = sum(size for _, size in kept)

    # --- pushing -------------------------------------------------------------------------------------

    def _push(self) -> list[Effect]:
        """Read more of the outbox when there may be more and the window has room."""
        if self.phase is not Phase.SUBSCRIBED or not self.facts.identity.ready or self._reading_outbox:
            return []
        room = _IN_FLIGHT_COUNT_MAX - len(self._in_flight)
        if not self._queue_moved or room <= 0 or self._in_flight_bytes >= _IN_FLIGHT_BYTES_MAX:
            return []
        self._reading_outbox = True
        self._queue_moved = False
        return [ReadOutbox(self._connection, self._sent_nonce, room, _PUSH_BYTES)]

    def outbox_read(self, asked: ReadOutbox, found: list[tuple[int, bytes, bytes]]) -> list[Effect]:
        """(nonce, hash, body) of what is to be sent next."""
        if asked.connection != self._connection:
            return []
        self._reading_outbox = False
        if not found:
            return [Notify("status", {"state": str(self.state)}), *self._push()]
        self._sent_nonce = found[-1][0]
        self._queue_moved = True  # there may be more behind what was read
        self.facts = replace(self.facts, has_pending=True)
        for nonce, _, body in found:
            self._in_flight.append((nonce, len(body)))
            self._in_flight_bytes += len(body)
        push = Push([PushedTransaction(nonce, digest, body) for nonce, digest, body in found])
        return [Send(push), *self._push()]

    _HANDLERS: dict[type, tuple[Callable[..., list[Effect]], set[Phase]]] = {  # noqa: RUF012 - a constant table
        Challenge: (_on_challenge, {Phase.GREETING}),
        Unauthorized: (_on_unauthorized, {Phase.PROVING, Phase.SIGNING_IN}),
        Denied: (_on_denied, {Phase.PROVING, Phase.SIGNING_IN}),
        Welcome: (_on_welcome, {Phase.PROVING, Phase.SIGNING_IN}),
        Revoked: (_on_revoked, set(Phase)),
        ProblemReport: (_on_problem, set(Phase)),
        Ping: (_on_ping, set(Phase)),
        Pong: (_on_pong, set(Phase)),
        Head: (_on_head, {Phase.SUBSCRIBED}),
        SnapshotStart: (_on_snapshot, {Phase.SUBSCRIBED}),
        SnapshotChunk: (_on_snapshot, {Phase.SUBSCRIBED}),
        SnapshotEnd: (_on_snapshot, {Phase.SUBSCRIBED}),
        Entries: (_on_entries, {Phase.SUBSCRIBED}),
        Verdicts: (_on_verdicts, {Phase.SUBSCRIBED}),
    }
