"""The device's side of sync as a state machine: messages and results in, effects out. No IO, no clock of its own.

One instance lives as long as the engine of a device file and goes through many connections. ``now`` is seconds of a
monotonic clock. Storage effects are answered in the order they were asked.

==============  ==================================================  =====================
phase           what ends it                                        next
==============  ==================================================  =====================
waiting         the time of the next try                            dialing
dialing         connected / connect_failed                          greeting / waiting
greeting        Challenge (and NetworkProof, with a network key)     proving
proving         Welcome / Unauthorized / Copied                     storing / signing in / adopting
signing in      Welcome (Denied stays)                              storing
adopting        Adopted                                             storing
storing         welcome_stored / adoption_stored                    subscribed
subscribed      connection lost                                     waiting
==============  ==================================================  =====================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from octodb.errors import ProtocolError
from octodb.model.identities import Identity
from octodb.model.node_uri import Address
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.status import AuthStatus, LogStatus, NodeState, SnapshotStatus
from octodb.model.transactions import HASH_BYTES, PUSHED_HASH_BYTES, Rejection
from octodb.sync.backoff import ServerHealth, ServerList
from octodb.sync.checking import Checking
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
from octodb.sync.push_window import PushWindow
from octodb.wire.handshake import adoption_text, handshake_text, network_proof, verify_network_proof
from octodb.wire.messages import (
    IS_COPY,
    KNOWS_COPIES,
    KNOWS_DOWNLOADING_AGAIN,
    NOT_KNOWN,
    PROTOCOL_VERSION,
    Adopt,
    Adopted,
    Applied,
    AskHead,
    Challenge,
    Claim,
    Copied,
    Denied,
    Entries,
    Head,
    Hello,
    Login,
    Message,
    NetworkProof,
    Ping,
    Pong,
    ProblemReport,
    Prove,
    RangeRows,
    Revoked,
    Signup,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Sums,
    Unauthorized,
    Verdicts,
    Welcome,
    WireEntry,
)

__all__ = ["DeviceFacts", "DeviceSync", "Phase"]

_PUSH_BYTES: Final = 256 * 1024
_PING_AFTER_S: Final = 10.0
_SILENCE_S_MAX: Final = 25.0
_HANDSHAKE_S_MAX: Final = 8.0
# A connection that ends sooner than this was no good, even if it began well.
_LASTED_S: Final = 3.0
_TROUBLE_S: Final = 0.5
_TROUBLE_S_MAX: Final = 60.0
# How long a download that was cut off is kept to be resumed; primaries keep theirs as long.
_RESUMABLE_S: Final = 60.0


_NO_NETWORK_KEY: Final = "this primary admits only devices that know its network key: give it with key= or key_file="
_ONE_SIDED_KEY: Final = (
    "this primary has no network key, and this device was told one (key=): it is not the primary that was meant, or"
    " it was started without its key"
)


_IS_IT_TLS: Final = " before it said a word; is it tls://?"


class Phase(Enum):
    STOPPED = "stopped"
    WAITING = "waiting"
    DIALING = "dialing"
    GREETING = "greeting"
    PROVING = "proving"
    SIGNING_IN = "signing in"
    ADOPTING = "adopting"
    STORING = "storing"
    SUBSCRIBED = "subscribed"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the device file says of this device when the engine starts. ``network_key``: 32 bytes that its primary must
    know, b'': none. ``revoked``: why it was cut off, '': it was not."""

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
    network_id: bytes = b""
    network_key: bytes = b""
    revoked: str = ""


@dataclass(slots=True)
class _Download:
    """A snapshot on its way into the file. ``parts``: chunks that were given to storage. ``again``: it replaces
    rows."""

    header: SnapshotHeader
    again: bool
    parts: int = 0
    rows: int = 0


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
        self.last_error: str | None = facts.revoked or None
        self.snapshot: SnapshotStatus | None = None
        self.revoked = bool(facts.revoked)
        self.checking = Checking()
        self._quiet: tuple[bool, int, int] = (False, 0, 0)  # what must not move while rows are compared
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
        self._is_copy = False  # another file with our identity syncs: ask for one of our own
        self._primary_nonce = 0
        self._download: _Download | None = None
        self._download_lost_at = 0.0
        self._reset_connection()

    def _reset_connection(self) -> None:
        self._connection += 1
        self.checking.connection_lost()
        self._challenge: Challenge | None = None
        self._binding = b""
        self._sent_request: Signup | Login | None = None
        self._incoming: list[WireEntry] = []
        self._rejections: list[tuple[int, Rejection]] = []
        self._through = 0
        self._more_follows = False
        self._unacked_messages = 0
        self._bringing_in = False
        self._reading_outbox = False
        self._queue_moved = True
        self._window = PushWindow()
        self._pushes_wait = False  # the primary lacks what it had: what it sends first tells what to do
        self._acceptances: list[tuple[int, int]] = []
        self._pinged_at: float | None = None

    # --- status --------------------------------------------------------------------------------------

    @property
    def state(self) -> NodeState:
        if self.revoked:
            return NodeState.REVOKED
        if self.phase is Phase.SUBSCRIBED:
            if not self.facts.identity.ready or self._download is not None:
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
            self._window.busy
            or self._acceptances
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
        return self.phase in {Phase.PROVING, Phase.SIGNING_IN, Phase.ADOPTING, Phase.STORING, Phase.SUBSCRIBED}

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

    def connected_to(self, client_random: bytes, now: float, binding: bytes = b"") -> list[Effect]:
        """The connection that ``Dial`` asked for is there. ``client_random``: 32 fresh random bytes. ``binding``: its
        channel binding (wire/handshake.py)."""
        self._reset_connection()
        self._binding = binding
        self._enter(Phase.GREETING, now)
        self._hello = Hello(
            PROTOCOL_VERSION,
            self.facts.public_key,
            client_random,
            self.facts.database_id,
            self.facts.session_token,
            self.facts.id_counter,
            KNOWS_COPIES | KNOWS_DOWNLOADING_AGAIN | (IS_COPY if self._is_copy else 0),
        )
        return [Send(self._hello)]

    def connection_failed(self, reason: str, jitter: float, now: float) -> list[Effect]:
        """Dialing failed, or the connection was lost. ``jitter``: a random number between 0 and 1."""
        lost = self.phase not in {Phase.DIALING, Phase.WAITING, Phase.STOPPED}
        if self.phase is Phase.GREETING and self._challenge is None and self.server is not None:
            reason = f"{self.server.address}: {reason}" + ("" if self.server.address.tls else _IS_IT_TLS)
        if self.phase is Phase.SUBSCRIBED and now - self._phase_since >= _LASTED_S:
            self.servers.lasted()
        if not self._in_trouble and not self.revoked:
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
        if lost:
            self._download_lost_at = now
            effects.append(Notify("error", {"code": "connection", "reason": reason}))
        return effects

    def _abandon_download(self) -> list[Effect]:
        if self._download is None:
            return []
        self._download = self.snapshot = None
        return [AbandonSnapshot()]

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
        self._look_whether_quiet(now)
        times = [time for time in (self._next_tick(now), self.checking.due_at(now)) if time is not None]
        return min(times, default=None)

    def _look_whether_quiet(self, now: float) -> None:
        """Rows are compared while nothing moves, with a primary that knows how."""
        can = self._challenge is not None and bool(self._challenge.network_id)
        state = (can and self.state is NodeState.IN_SYNC, self.facts.cursor, self._connection)
        if state != self._quiet:
            self._quiet = state
            self.checking.moved(now, quiet=state[0])

    def check_rows(self) -> None:
        """Compare the rows with the primary's as soon as everything is quiet."""
        self.checking.want()

    def _next_tick(self, now: float) -> float | None:
        if self.phase is Phase.WAITING:
            if self._download is None:
                return self._retry_at
            return min(self._retry_at or now + _RESUMABLE_S, self._download_lost_at + _RESUMABLE_S)
        if self.phase in {Phase.GREETING, Phase.PROVING}:
            return self._phase_since + _HANDSHAKE_S_MAX
        if self.connected:
            quiet_since = self.last_contact or now
            return quiet_since + (_PING_AFTER_S if self._pinged_at is None else _SILENCE_S_MAX)
        return None

    def tick(self, now: float) -> list[Effect]:
        if self.phase is Phase.WAITING and now >= self._download_lost_at + _RESUMABLE_S and self._download is not None:
            return self._abandon_download()
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
        self._look_whether_quiet(now)
        return self.checking.begin(self.facts.cursor, now)

    def heard(self, now: float) -> list[Effect]:
        """Something moves on the line, although no message is whole yet: this device must be heard of meanwhile."""
        self.last_contact = now
        if self._pinged_at is None or now - self._pinged_at >= _PING_AFTER_S:
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
        """``action``: 'user_signup' or 'user_login'. Kept until it can be sent; nothing for an authorized device,
        unless a primary asks: one that was restored from a backup may not know it any more."""
        if self.facts.identity.node_id and self.phase is not Phase.SIGNING_IN:
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
        ours, theirs = self.facts.network_id, message.network_id
        same = ours == theirs if ours and theirs else message.epoch == self.facts.epoch
        if self.facts.epoch and not same:
            return self._fatal(
                "this is another primary than the one this file was downloaded from: check connect=, or open a new file"
            )
        self._challenge = message
        key = self.facts.network_key
        if bool(key) != message.wants_network_proof:
            return self._fatal(_ONE_SIDED_KEY if key else _NO_NETWORK_KEY)
        if key and not self._binding:
            return self._fatal("the network key is not proved on a plain connection: use tls:// in connect=")
        if key:
            return [Send(NetworkProof(network_proof(key, "device", self._hello, message, self._binding)))]
        return self._prove(now)

    def _on_network_proof(self, message: NetworkProof, now: float) -> list[Effect]:
        """Only now the primary hears anything of this device: whoever does not know the key is not one."""
        assert self._hello is not None
        key, challenge = self.facts.network_key, self._challenge
        if not key or challenge is None:
            raise ProtocolError("a proof of a network key that was not asked for")
        if not verify_network_proof(message.proof, key, "primary", self._hello, challenge, self._binding):
            return self._fatal("the primary does not know the network key: it is another one, or somebody relays")
        return self._prove(now)

    def _prove(self, now: float) -> list[Effect]:
        assert self._hello is not None
        assert self._challenge is not None
        self.auth = replace(self.auth, mode=self._challenge.auth_mode, fields=tuple(self._challenge.login_fields))
        self._enter(Phase.PROVING, now)
        text = handshake_text(self._hello, self._challenge, self._node_info, self._binding)
        return [Send(Prove(self._sign(text), self._node_info)), Notify("status", {"state": str(self.state)})]

    def _on_unauthorized(self, message: Unauthorized, now: float) -> list[Effect]:
        self._worked(now)
        self._enter(Phase.SIGNING_IN, now)
        if message.wanted == "decision":
            self.auth = replace(self.auth, required=False, pending=True)
            answered, self._sent_request = self._sent_request, None
            if answered is not None and answered is not self._request:
                return self._send_request()  # the application has sent another one meanwhile
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
        self.revoked = False  # a primary that was restored from before knows nothing of it
        self._worked(now)
        self._request = None
        self.auth = replace(self.auth, required=False, pending=False, error=None)
        self._enter(Phase.STORING, now)
        assert self._challenge is not None
        self._primary_nonce = message.last_nonce
        self.facts = replace(
            self.facts,
            identity=replace(identity, node_id=message.node_id, user_id=message.user_id, provisional_id=0),
            session_token=message.session_token,
            network_id=self._challenge.network_id or self.facts.network_id,
        )
        return [StoreWelcome(message.node_id, message.user_id, message.session_token, self.facts.network_id)]

    def welcome_stored(self, last_nonce: int, judged_nonce: int, now: float) -> list[Effect]:
        """Ids and token are on the disk: only now anything else may be sent (design.md §8).

        ``last_nonce``: of the newest transaction in the file. ``judged_nonce``: all up to it have their verdicts.
        """
        if self.phase is not Phase.STORING:
            return []
        if self._primary_nonce > last_nonce:
            return self.found_to_be_copy("the primary has transactions of this device that are not in this file")
        self._pushes_wait = self._primary_nonce < judged_nonce
        return self._subscribe(now)

    def _subscribe(self, now: float) -> list[Effect]:
        self._enter(Phase.SUBSCRIBED, now)
        facts = self.facts
        ready = facts.identity.ready
        self._open_window()
        download = self._download
        subscribe = Subscribe(
            facts.session_token,
            facts.epoch if ready else b"",
            facts.cursor,
            facts.chain_all,
            facts.chain_user,
            facts.settled_nonce,
            b"" if download is None else download.header.token,
            0 if download is None else download.parts,
        )
        status = Notify("status", {"state": str(self.state)})
        return [Send(subscribe), status, *self._ask_head(), *self._push()]

    def _open_window(self) -> None:
        """Send the queue from its beginning."""
        assert self._challenge is not None
        hash_bytes = PUSHED_HASH_BYTES if self._challenge.network_id else HASH_BYTES
        self._window = PushWindow(self._primary_nonce, hash_bytes)

    # --- copies --------------------------------------------------------------------------------------

    def found_to_be_copy(self, reason: str) -> list[Effect]:
        """Another file with our identity has synced: come back and ask for an identity of our own."""
        self._is_copy = True
        self.last_error = reason
        return [CloseConnection(reason)]

    def _on_copied(self, message: Copied, now: float) -> list[Effect]:
        self._worked(now)
        self._enter(Phase.ADOPTING, now)
        effects: list[Effect] = [ReadClaims(self._connection), Notify("status", {"state": str(self.state)})]
        return effects

    def claims_read(
        self,
        asked: ReadClaims,
        public_key: bytes,
        sign: Callable[[bytes], bytes],
        claims: list[tuple[int, bytes, int]],
    ) -> list[Effect]:
        """The key that this file will have, what signs with it, and (nonce, hash, seq) of its transactions."""
        if self.phase is not Phase.ADOPTING or asked.connection != self._connection:
            return []
        assert self._hello is not None
        assert self._challenge is not None
        signature = sign(adoption_text(self._hello, self._challenge, public_key))
        return [Send(Adopt(public_key, signature, [Claim(*claim) for claim in claims]))]

    def _on_adopted(self, message: Adopted, now: float) -> list[Effect]:
        identity = self.facts.identity
        if identity.user_id and identity.user_id != message.user_id:
            return self._fatal(f"this file belongs to user {identity.user_id}; open a new file")
        self._enter(Phase.STORING, now)
        self._primary_nonce = 0
        return [StoreAdoption(message)]

    def adoption_stored(
        self, adopted: Adopted, public_key: bytes, sign: Callable[[bytes], bytes], settled_nonce: int, now: float
    ) -> list[Effect]:
        """The new identity is on the disk, also when the connection is gone by now."""
        self._is_copy = False
        self._sign = sign
        identity = Identity(adopted.node_id, adopted.user_id, ready=self.facts.identity.ready)
        self.facts = replace(
            self.facts,
            public_key=public_key,
            identity=identity,
            session_token=adopted.session_token,
            settled_nonce=settled_nonce,
        )
        reason = f"this file is a copy of another device's: it goes on as node {adopted.node_id}, with its queue"
        told = Notify("error", {"code": "copied", "reason": reason})
        if self.phase is not Phase.STORING:
            return [told]
        return [told, *self._subscribe(now)]

    def _on_revoked(self, message: Revoked, now: float) -> list[Effect]:
        self.revoked = True
        self.last_error = message.reason
        return [
            StoreRevoked(message.reason),
            CloseConnection(message.reason),
            Notify("error", {"code": "revoked", "reason": message.reason}),
        ]

    def _on_problem(self, message: ProblemReport, now: float) -> list[Effect]:
        if message.code in {"closing", "session", "silence", "busy"}:
            self.last_error = message.reason
            return [CloseConnection(message.reason)]
        if message.code == "fork":
            return self.found_to_be_copy(message.reason)
        return self._fatal(message.reason)

    def _fatal(self, reason: str) -> list[Effect]:
        """Trying again at once cannot help: the state is 'error' until a connection succeeds."""
        self.last_error = reason
        self._in_trouble = True
        return [Notify("error", {"code": "sync", "reason": reason}), CloseConnection(reason)]

    def storage_failed(self, reason: str) -> list[Effect]:
        """What was asked of the file could not be done. The caller cuts the connection; the next one asks again."""
        self.last_error = reason
        self._in_trouble = True
        return self._abandon_download()

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

    # --- downloads -----------------------------------------------------------------------------------

    def _on_snapshot(self, message: SnapshotStart | SnapshotChunk | SnapshotEnd, now: float) -> list[Effect]:
        if isinstance(message, SnapshotStart):
            return self._on_snapshot_start(message)
        download = self._download
        if download is None:
            raise ProtocolError("a snapshot chunk came before its start")
        part: SnapshotRows | SnapshotTail
        if isinstance(message, SnapshotChunk):
            part = SnapshotRows(message.table, tuple(message.columns), message.rows)
        else:
            part = SnapshotTail(tuple(message.schema))
            self._more_follows = True  # the entries that were committed while the download went on
        download.parts += 1
        return [self._load(download, part)]

    def _on_snapshot_start(self, message: SnapshotStart) -> list[Effect]:
        download = self._download
        if download is not None and message.parts and message.token == download.header.token:
            if message.parts != download.parts:
                raise ProtocolError("a download is resumed at another place than asked")
            self._unacked_messages += 1
            return [Notify("status", {"state": str(self.state)})]
        header = SnapshotHeader(
            message.seq,
            message.epoch,
            message.chain_all,
            message.chain_user,
            message.schema_seq,
            tuple(message.tables),
            message.rows_total,
            message.token,
            tuple(message.triggers),
        )
        self._download = download = _Download(header, again=self.facts.identity.ready)
        self.snapshot = SnapshotStatus(0, message.rows_total, 0)
        return [self._load(download, header), Notify("status", {"state": str(self.state)})]

    def _load(self, download: _Download, part: SnapshotHeader | SnapshotRows | SnapshotTail) -> Effect:
        return LoadSnapshotPart(self._connection, download.header, part, download.again, self._primary_nonce)

    def snapshot_loaded(
        self, loaded: LoadSnapshotPart, bytes_in: int, offered: int = 0, gone: int = 0, tables: tuple[str, ...] = ()
    ) -> list[Effect]:
        """A part is in the file; the tail made it the database, also when the connection is gone by now.

        ``bytes_in``: what this connection has received so far, for the progress shown. ``offered``: accepted
        transactions that the primary has lost and that wait again; ``gone``: those that it has lost and this file does
        not keep any more. ``tables``: those whose rows may have changed.
        """
        download = self._download if self._download and self._download.header is loaded.header else None
        effects: list[Effect] = []
        if loaded.connection == self._connection and self.phase is Phase.SUBSCRIBED:
            effects.append(Send(Applied(0, 0, 1 + self._unacked_messages)))
            self._unacked_messages = 0
        if isinstance(loaded.part, SnapshotRows) and download is not None:
            download.rows += len(loaded.part.rows)
            self.snapshot = SnapshotStatus(download.rows, loaded.header.rows_total, bytes_in)
            effects.append(Notify("status", {"state": str(self.state)}))
        if isinstance(loaded.part, SnapshotTail):
            effects += self._downloaded(loaded, offered, gone, tables)
        return effects

    def _downloaded(self, loaded: LoadSnapshotPart, offered: int, gone: int, tables: tuple[str, ...]) -> list[Effect]:
        self._set_ready(loaded.header)
        self._out_of_trouble()
        if self._download is not None and self._download.header is loaded.header:
            self._download = self.snapshot = None
        self._pushes_wait = False
        effects: list[Effect] = []
        if loaded.again:
            self.facts = replace(self.facts, has_pending=self.facts.has_pending or offered > 0)
            effects.append(Notify("sync", {"tables": list(tables), "seq": loaded.header.seq}))
        else:
            effects.append(Notify("ready", {}))
        if offered or gone:
            reason = f"the primary was restored from a backup: {offered} accepted transactions are offered to it again"
            reason += f"; {gone} older ones are not kept here any more" if gone else ""
            effects.append(Notify("error", {"code": "restored", "reason": reason}))
        if self.phase is not Phase.SUBSCRIBED:
            return effects
        if loaded.again and loaded.connection == self._connection:
            self._queue_moved = True
            self._open_window()  # what is offered again has numbers that were sent before
        self._head = max(self._head or 0, self.facts.cursor) if not loaded.again else self.facts.cursor
        status = Notify("status", {"state": str(self.state)})
        return [*effects, status, *self._bring_in(), *self._push()]

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
        if not self.facts.identity.ready and self._download is None:
            raise ProtocolError("entries came before the first download")
        self._unacked_messages += 1
        self._head = max(self._head or 0, message.through)
        was, self._more_follows = self.state, message.more
        self._pushes_wait = self._pushes_wait and self._download is not None
        effects = [*self._take(message.entries, message.through), *self._push()]
        return effects if self.state is was else [*effects, Notify("status", {"state": str(self.state)})]

    def _on_verdicts(self, message: Verdicts, now: float) -> list[Effect]:
        """Acceptances come as entries of our own. A verdict tells of refusals, and of what was accepted before the
        state that was downloaded, or as a transaction of a copy of this file: in force when this device is at that
        position."""
        for verdict in message.verdicts:
            if verdict.seq:
                self._acceptances.append((verdict.nonce, verdict.seq))
            else:
                reason = Rejection(verdict.code, verdict.message, verdict.table, tuple(verdict.columns))
                self._rejections.append((verdict.nonce, reason))
        return self._bring_in()

    def _take(self, entries: list[WireEntry], through: int) -> list[Effect]:
        self._incoming += entries
        self._through = max(self._through, through)
        effects = self._bring_in()
        waits = self._bringing_in or self._download is not None or not self.facts.identity.ready
        if not effects and not waits and self._unacked_messages:
            effects = [Send(Applied(self.facts.cursor, self.facts.settled_nonce, self._unacked_messages))]
            self._unacked_messages = 0
        return effects

    def _bring_in(self) -> list[Effect]:
        """One at a time: what arrives meanwhile is brought in together afterwards."""
        reached = max(self._through, self.facts.cursor)
        due = tuple(one for one in self._acceptances if one[1] <= reached)
        nothing = not self._incoming and not self._rejections and not due and self._through <= self.facts.cursor
        if self._bringing_in or nothing or not self.facts.identity.ready or self._download is not None:
            return []  # what arrives before the end of a download is stored waits for that
        self._bringing_in = True
        effect = BringIn(self._connection, self._incoming, self._rejections, self._through, due)
        self._incoming, self._rejections = [], []
        self._acceptances = [one for one in self._acceptances if one[1] > reached]
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
        told = _notifications(accepted, rejected, tables, cursor[0])
        if asked.connection != self._connection:
            return told  # it is stored, and no other connection will bring it again
        self._bringing_in = False
        self._out_of_trouble()
        judged = {nonce for nonce, _ in accepted} | {nonce for nonce, _ in rejected}
        self._window.judged(judged | {nonce for nonce, _ in asked.acceptances})
        self._primary_nonce = max({self._primary_nonce, *judged})
        effects: list[Effect] = [Send(Applied(cursor[0], settled_nonce, self._unacked_messages))]
        self._unacked_messages = 0
        effects += told
        effects += self._bring_in()
        effects += self._push()
        effects.append(Notify("status", {"state": str(self.state)}))
        return effects

    # --- comparing rows ------------------------------------------------------------------------------

    def _on_sums(self, message: Sums, now: float) -> list[Effect]:
        return self.checking.sums_came(message)

    def _on_range_rows(self, message: RangeRows, now: float) -> list[Effect]:
        return self.checking.rows_came(message)

    def sums_read(self, asked: ReadSums, ours: list[tuple[str, int, int]] | None, now: float) -> list[Effect]:
        """See ``Checking``."""
        return self.checking.sums_read(asked, ours, now)

    def repaired(self, asked: RepairRange, *, done: bool) -> list[Effect]:
        return self.checking.repaired(asked, done)

    # --- pushing -------------------------------------------------------------------------------------

    def _push(self) -> list[Effect]:
        """Read more of the outbox when there may be more and the window has room."""
        if self.phase is not Phase.SUBSCRIBED or not self.facts.identity.ready or self._reading_outbox:
            return []
        waits = self._pushes_wait or self._download is not None
        if waits or not self._queue_moved or self._window.room <= 0:
            return []
        self._reading_outbox = True
        self._queue_moved = False
        return [ReadOutbox(self._connection, self._window.sent_nonce, self._window.room, _PUSH_BYTES)]

    def outbox_read(self, asked: ReadOutbox, found: list[tuple[int, bytes, bytes, int]]) -> list[Effect]:
        """(nonce, hash, body, knew_rejected) of what is to be sent next."""
        if asked.connection != self._connection:
            return []
        self._reading_outbox = False
        if asked.after != self._window.sent_nonce:
            self._queue_moved = True  # a download has come between: the queue is sent from its beginning
            return self._push()
        if not found:
            if not asked.after:  # the queue is empty: what waited has come to an end otherwise
                self.facts = replace(self.facts, has_pending=False)
            return [Notify("status", {"state": str(self.state)}), *self._push()]
        self._queue_moved = True  # there may be more behind what was read
        if self._pushes_wait or self._download is not None:
            return []  # a download has begun meanwhile: read again after it
        self.facts = replace(self.facts, has_pending=True)
        return [Send(self._window.push(found)), *self._push()]

    _HANDLERS: dict[type, tuple[Callable[..., list[Effect]], set[Phase]]] = {  # noqa: RUF012 - a constant table
        Challenge: (_on_challenge, {Phase.GREETING}),
        NetworkProof: (_on_network_proof, {Phase.GREETING}),
        Unauthorized: (_on_unauthorized, {Phase.PROVING, Phase.SIGNING_IN}),
        Denied: (_on_denied, {Phase.PROVING, Phase.SIGNING_IN}),
        Welcome: (_on_welcome, {Phase.PROVING, Phase.SIGNING_IN}),
        Copied: (_on_copied, {Phase.PROVING}),
        Adopted: (_on_adopted, {Phase.ADOPTING}),
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
        Sums: (_on_sums, {Phase.SUBSCRIBED}),
        RangeRows: (_on_range_rows, {Phase.SUBSCRIBED}),
    }


def _notifications(
    accepted: list[tuple[int, int]], rejected: list[tuple[int, Rejection]], tables: tuple[str, ...], seq: int
) -> list[Effect]:
    """What an application hears of what was just stored."""
    told: list[Effect] = [
        Notify("verdict", {"nonce": nonce, "status": "accepted", "seq": at}) for nonce, at in accepted
    ]
    for nonce, reason in rejected:
        info: dict[str, Any] = {"nonce": nonce, "code": reason.code, "reason": reason.message}
        info |= {"table": reason.table, "columns": list(reason.columns)}
        told.append(Notify("verdict", {"nonce": nonce, "status": "rejected"}))
        told.append(Notify("rejected", info))
    if tables:
        told.append(Notify("sync", {"tables": list(tables), "seq": seq}))
    return told
