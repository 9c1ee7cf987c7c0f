"""A primary's side of one connection as a state machine: messages and results in, effects out. No IO.

==============  ==================================================  =======================
phase           what ends it                                        next
==============  ==================================================  =======================
greeting        Hello                                               challenging
challenging     Prove with a good signature                         looking up
                (before it NetworkProof, where there is a network key)
looking up      node_found: known / unknown                         opening, copied / unauthorized
unauthorized    Signup, Login (auth=user); admitted from outside    deciding
deciding        authorized: yes / no / later                        looking up / unauthorized
opening         session_opened: token known / unknown               welcoming / copied
copied          Adopt with a good signature                         adopting
adopting        adopted                                             welcoming
welcoming       Subscribe, which confirms the token                 confirming
confirming      session_confirmed                                   serving
serving         the connection's end                                closed
==============  ==================================================  =======================
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from octodb.errors import ProtocolError
from octodb.model.entries import AppendOutcome, LogEntry
from octodb.model.identities import AuthMode, NodeRecord, Role
from octodb.model.owners import EVERYBODY
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
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
from octodb.sync.sign_in_limits import SignInLimits
from octodb.wire.handshake import (
    PUBLIC_KEY_BYTES,
    RANDOM_BYTES,
    adoption_text,
    handshake_text,
    network_proof,
    verify,
    verify_network_proof,
)
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
    AskRows,
    AskSums,
    Challenge,
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
    Push,
    RangeRows,
    Revoked,
    Signup,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotStart,
    Subscribe,
    Sums,
    Unauthorized,
    Verdict,
    Verdicts,
    Welcome,
    WireEntry,
)

__all__ = ["WINDOW_MESSAGES", "Decision", "PrimaryFacts", "PrimarySession", "SessionPhase"]

# Messages of entries or snapshot on the way and not acknowledged: bounds what a slow device makes a primary hold.
WINDOW_MESSAGES: Final = 16
_ENTRIES_BYTES: Final = 256 * 1024
_ASK_AGAIN_S: Final = 60.0
_SILENCE_S_MAX: Final = 60.0
_UNPROVED_S_MAX: Final = 20.0
_CONFIRM_EVERY_S: Final = 5.0
_CONFIRM_EVERY_COUNT: Final = 1000
# Sign-ins that are refused on one connection, before it is closed.
_SIGN_INS_MAX: Final = 20
# Questions about rows: a table of a million rows that are all damaged takes a thousand. Each reads up to a whole table.
_QUESTIONS_BURST: Final = 1000
_QUESTIONS_PER_S: Final = 5.0


class SessionPhase(Enum):
    GREETING = "greeting"
    CHALLENGING = "challenging"
    LOOKING_UP = "looking up"
    UNAUTHORIZED = "unauthorized"
    DECIDING = "deciding"
    OPENING = "opening"
    COPIED = "copied"
    ADOPTING = "adopting"
    WELCOMING = "welcoming"
    CONFIRMING = "confirming"
    SERVING = "serving"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class PrimaryFacts:
    """What every session of a primary needs to know of it. ``login_fields``: what a sign-in form asks.
    ``network_key``: 32 bytes that every device of this network must know, b'': none."""

    public_key: bytes
    epoch: bytes
    auth: AuthMode
    login_fields: tuple[dict[str, Any], ...]
    network_id: bytes = b""
    network_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the authorization logic answered (contract.md §4): kind is 'user', 'node', 'denied', 'later' or 'error'."""

    kind: str
    user_id: int = 0
    node_type: Role = Role.SECONDARY
    reason: str = ""


class PrimarySession:
    """One device's connection. ``server_random``: 32 fresh random bytes.

    ``dispatched``: position up to which live sessions have been told of new entries (``entries_committed``).
    ``binding``: the channel binding of a TLS connection (wire/handshake.py).
    ``sign_ins``: what all sessions of this primary have seen fail. ``address``: where the device is, for that.
    """

    def __init__(
        self,
        facts: PrimaryFacts,
        server_random: bytes,
        dispatched: Callable[[], int],
        now: float,
        binding: bytes = b"",
        sign_ins: SignInLimits | None = None,
    ) -> None:
        self._facts = facts
        self._dispatched = dispatched
        self._server_random = server_random
        self._binding = binding
        self._network_proved = not facts.network_key
        self._since = now
        self._last_contact = now
        self.phase = SessionPhase.GREETING
        self.node: NodeRecord | None = None
        self.public_key = b""
        self.node_info = "{}"
        self.asked = ""  # what the authorization logic was asked about it and has not said no to
        self._ask_again = False  # the authorization logic failed
        self._ask_again_at: float | None = None
        self.waits_since = now  # for somebody to say whose it is
        self.live = False  # has been sent everything up to the newest dispatched entry
        self.sent_seq = 0
        self._hello: Hello | None = None
        self._challenge: Challenge | None = None
        self._outstanding = 0
        self._reading = False
        self._in_snapshot = False
        self._awaits_snapshot = False
        self._next_part = 1
        self._summing = False
        self._resume = (b"", 0)
        self._accepted_early: list[AppendOutcome] = []  # before the position of the snapshot is known
        self._confirmed_nonce = 0
        self._confirm_due = 0
        self._refused_some = False
        self._confirmed_at = now
        self._early_pushes: list[Effect] = []
        self._head_asked_at: float | None = None  # the newest AskHead without an answer
        self._head_read_for: float | None = None  # the one that the log is being read for
        self.address = ""
        self._sign_ins = SignInLimits() if sign_ins is None else sign_ins
        self._sign_ins_refused = 0
        self._attempt = False  # one that counts as underway
        self._questions = Allowance(_QUESTIONS_BURST, _QUESTIONS_PER_S)

    # --- time ----------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Close what has gone silent. Call it about once a second."""
        if self.phase is SessionPhase.CLOSED:
            return []
        if self.phase in {SessionPhase.GREETING, SessionPhase.CHALLENGING} and now - self._since > _UNPROVED_S_MAX:
            return self._close("handshake_timeout", "the handshake took too long")
        if now - self._last_contact > _SILENCE_S_MAX:
            return self._close("silence", "nothing was heard for a minute")
        if self._ask_again and self.awaits_admission:
            if self._ask_again_at is None:
                self._ask_again_at = now + _ASK_AGAIN_S
            if now >= self._ask_again_at:
                return self._ask_about_node()
        if self._confirm_due and now - self._confirmed_at > _CONFIRM_EVERY_S:
            return self._confirm(now)
        return []

    def heard(self, now: float) -> None:
        """The device takes what it is sent, slowly, and cannot be heard meanwhile."""
        self._last_contact = now

    # --- messages ------------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> list[Effect]:
        """Raises ProtocolError for a message that has no place here: report it and close the connection then."""
        self._last_contact = now
        handler = self._HANDLERS.get(type(message))
        if self.phase is SessionPhase.CLOSED:
            return []
        if handler is None or (handler[1] and self.phase not in handler[1]):
            raise ProtocolError(f"unexpected {type(message).__name__} while {self.phase.value}")
        return handler[0](self, message, now)

    def _close(self, code: str, reason: str) -> list[Effect]:
        self.phase = SessionPhase.CLOSED
        self.live = False
        return [Send(ProblemReport(code, reason)), CloseConnection(reason)]

    def closed(self, now: float) -> list[Effect]:
        """The connection is gone: nothing more will be sent."""
        effects = self._confirm(now) if self._confirm_due else []
        self._settle_attempt(now, failed=True)
        self.phase = SessionPhase.CLOSED
        self.live = False
        return effects

    # --- handshake -----------------------------------------------------------------------------------

    def _on_hello(self, message: Hello, now: float) -> list[Effect]:
        if message.version != PROTOCOL_VERSION:
            return self._close(
                "version", f"this primary speaks protocol {PROTOCOL_VERSION}, the device {message.version}"
            )
        if len(message.public_key) != PUBLIC_KEY_BYTES or len(message.client_random) != RANDOM_BYTES:
            raise ProtocolError("a key or random of the wrong length")
        self._hello = message
        self.public_key = message.public_key
        facts = self._facts
        self._challenge = Challenge(
            PROTOCOL_VERSION,
            self._server_random,
            facts.public_key,
            facts.epoch,
            str(facts.auth),
            list(facts.login_fields),
            facts.network_id,
            bool(facts.network_key),
        )
        self.phase = SessionPhase.CHALLENGING
        return [Send(self._challenge)]

    def _on_network_proof(self, message: NetworkProof, now: float) -> list[Effect]:
        """The device comes first: nobody is given a proof to try keys on who does not know the key."""
        assert self._hello is not None
        assert self._challenge is not None
        key = self._facts.network_key
        if self._network_proved:
            raise ProtocolError("a proof of a network key that was not asked for")
        if not self._binding:
            return self._close("network_key", "the network key is not proved on a plain connection")
        if not verify_network_proof(message.proof, key, "device", self._hello, self._challenge, self._binding):
            return self._close("network_key", "the network key does not fit: it is another one, or somebody relays")
        self._network_proved = True
        return [Send(NetworkProof(network_proof(key, "primary", self._hello, self._challenge, self._binding)))]

    def _on_prove(self, message: Prove, now: float) -> list[Effect]:
        assert self._hello is not None
        assert self._challenge is not None
        if not self._network_proved:
            return self._close("network_key", "this primary admits only devices that know its network key")
        if not is_json_object(message.node_info):
            raise ProtocolError("the device information is no JSON object")
        text = handshake_text(self._hello, self._challenge, message.node_info, self._binding)
        if not verify(self._hello.public_key, message.signature, text):
            return self._close("signature", "the signature does not fit the key")
        self.node_info = _trusted_info(message.node_info, self.public_key)
        self.phase = SessionPhase.LOOKING_UP
        self.waits_since = now
        return [FindNode(self.public_key)]

    def node_found(self, node: NodeRecord | None) -> list[Effect]:
        """The answer to FindNode and Admit; also called when somebody else admitted the node."""
        if self.phase not in {SessionPhase.LOOKING_UP, SessionPhase.UNAUTHORIZED, SessionPhase.DECIDING}:
            return []
        if node is None:
            return self._unknown_node()
        self._settle_attempt(None, failed=False)
        if node.revoked:
            return self.revoked()
        assert self._hello is not None
        self.node = node
        if self._hello.features & IS_COPY:
            return self._found_to_be_copy()
        self.phase = SessionPhase.OPENING
        return [OpenSession(node.node_id, self._hello.session_token, self.node_info)]

    def revoked(self) -> list[Effect]:
        """The node was cut off for good."""
        if self.phase is SessionPhase.CLOSED:
            return []
        self.phase = SessionPhase.CLOSED
        self.live = False
        return [Send(Revoked("this device was revoked")), CloseConnection("revoked")]

    @property
    def awaits_admission(self) -> bool:
        """Its key is proved, and nobody has said yet whose it is."""
        return self.phase in {SessionPhase.UNAUTHORIZED, SessionPhase.DECIDING}

    @property
    def awaits_decision(self) -> bool:
        """Somebody was asked about it, and has said nothing yet or that it will be decided later."""
        return self.awaits_admission and bool(self.asked)

    def _unknown_node(self) -> list[Effect]:
        auth = self._facts.auth
        if auth is AuthMode.NONE:
            return [self._admit(0, Role.SECONDARY)]
        if auth is AuthMode.NODE:
            return self._ask_about_node()
        self.phase = SessionPhase.UNAUTHORIZED
        return [Send(Unauthorized("login"))]

    def _ask_about_node(self) -> list[Effect]:
        self.phase = SessionPhase.DECIDING
        self.asked = "new_node"
        self._ask_again, self._ask_again_at = False, None
        ask = AskAuthorizer("new_node", "", self.public_key, self.node_info)
        return [Send(Unauthorized("decision")), ask]

    def _admit(self, user_id: int, node_type: Role) -> Admit:
        self.phase = SessionPhase.LOOKING_UP
        return Admit(self.public_key, user_id, node_type, self._facts.auth, self.node_info)

    def _on_sign_in(self, message: Signup | Login, now: float) -> list[Effect]:
        if self._facts.auth is AuthMode.USER and self.phase is SessionPhase.DECIDING:
            raise ProtocolError("one sign-in at a time")
        if self._facts.auth is not AuthMode.USER or self.phase is not SessionPhase.UNAUTHORIZED:
            return []  # nobody asked: no error, no effect (contract of user_login)
        wait_s = self._sign_ins.ask(self.public_key, self.address, now)
        if wait_s > 0:
            return self._sign_in_refused("too_often", f"too many attempts; try again in {math.ceil(wait_s)} s")
        action = "user_signup" if isinstance(message, Signup) else "user_login"
        self.phase = SessionPhase.DECIDING
        self._attempt = True
        self.asked = action
        return [AskAuthorizer(action, message.data, self.public_key, self.node_info)]

    def _sign_in_refused(self, code: str, reason: str) -> list[Effect]:
        self._sign_ins_refused += code != "error"  # which is the authorization logic's
        told: list[Effect] = [Send(Denied(code, reason))]
        if self._sign_ins_refused < _SIGN_INS_MAX:
            return told
        return told + self._close("sign_in", "too many attempts to sign in")

    def _settle_attempt(self, now: float | None, *, failed: bool) -> None:
        """A sign-in has its answer. One whose connection is cut meanwhile counts as failed: its maker tries again."""
        if self._attempt:
            self._attempt = False
            at = self._last_contact if now is None else now
            self._sign_ins.answered(self.public_key, self.address, at, failed=failed)

    def authorized(self, decision: Decision, now: float | None = None) -> list[Effect]:
        """The answer to AskAuthorizer; also what is decided after an answer 'later'."""
        self._settle_attempt(now, failed=decision.kind == "denied")
        if not self.awaits_decision:
            return []
        if decision.kind in {"user", "node"}:
            return [self._admit(decision.user_id, decision.node_type)]
        self.phase = SessionPhase.UNAUTHORIZED
        if decision.kind == "later":
            return [Send(Unauthorized("decision"))]
        # nobody sits before a node to try again
        self._ask_again = decision.kind == "error" and self.asked == "new_node"
        self.asked = ""
        return self._sign_in_refused(decision.kind, decision.reason)

    def session_opened(self, token: bytes, head: int) -> list[Effect]:
        """The answer to OpenSession. ``token`` b'': the token the device has is unknown here."""
        if self.phase is not SessionPhase.OPENING:
            return []
        if not token:
            return self._found_to_be_copy()
        assert self.node is not None
        self.phase = SessionPhase.WELCOMING
        node = self.node
        return [Send(Welcome(node.node_id, node.user_id, token, head, 0, node.last_nonce))]

    def _found_to_be_copy(self) -> list[Effect]:
        """Its key is good, and another file has it too: this one gets a key of its own (design.md §8)."""
        assert self._hello is not None
        reason = (
            "this file is a copy of a device's file, or an old backup of it: another one with the same identity has"
            " synced since"
        )
        if not self._hello.features & KNOWS_COPIES:
            return self._close("unknown_session", reason + ". Open a new file and sign in again")
        self.phase = SessionPhase.COPIED
        return [Send(Copied(reason))]

    def _on_adopt(self, message: Adopt, now: float) -> list[Effect]:
        assert self._hello is not None
        assert self._challenge is not None
        assert self.node is not None
        text = adoption_text(self._hello, self._challenge, message.public_key)
        if message.public_key == self.public_key or not verify(message.public_key, message.signature, text):
            return self._close("signature", "the signature does not fit the new key")
        self.phase = SessionPhase.ADOPTING
        return [AdoptCopy(self.node, message.public_key, self.node_info, message.claims)]

    def adopted(self, node: NodeRecord | None, token: bytes, head: int, known: list[tuple[int, int]]) -> list[Effect]:
        """The answer to AdoptCopy. ``node`` None: the new key is another node's."""
        if self.phase is not SessionPhase.ADOPTING:
            return []
        if node is None or node.revoked:
            return self._close("signature", "that key cannot be taken")
        self.node, self.public_key = node, node.public_key
        self.phase = SessionPhase.WELCOMING
        return [Send(Adopted(node.node_id, node.user_id, token, head, known))]

    def _on_subscribe(self, message: Subscribe, now: float) -> list[Effect]:
        assert self.node is not None
        self.phase = SessionPhase.CONFIRMING
        self._resume = (message.resume_token, message.resume_parts)
        return [
            ConfirmSession(
                self.node.node_id,
                self.node.user_id,
                message.session_token,
                message.confirmed_nonce,
                message.epoch,
                message.cursor,
                message.chain_user,
                message.chain_all,
            )
        ]

    def session_confirmed(self, asked: ConfirmSession, token_is_current: bool, history_matches: bool) -> list[Effect]:
        """The answer to ConfirmSession."""
        if self.phase is not SessionPhase.CONFIRMING:
            return []
        if not token_is_current:
            return self._close("session", "another connection of this device has taken over")
        assert self._hello is not None
        matches = history_matches and asked.epoch == self._facts.epoch
        if asked.epoch and not matches and not self._hello.features & KNOWS_DOWNLOADING_AGAIN:
            return self._close(
                "history",
                "this primary does not have what this device has already received: was it restored?",
            )
        self.phase = SessionPhase.SERVING
        self._confirmed_nonce = asked.confirmed_nonce
        early, self._early_pushes = self._early_pushes, []
        if not matches:
            # a first download; or the device is further behind than the log goes, or knows another history
            self._in_snapshot = self._awaits_snapshot = self._reading = True
            return [OpenSnapshot(asked.user_id, *self._resume), *early]
        self.sent_seq = asked.cursor
        return [*self._read_entries(), *early]

    # --- snapshot ------------------------------------------------------------------------------------

    def snapshot_opened(self, header: SnapshotHeader, parts: int) -> list[Effect]:
        """The answer to OpenSnapshot. ``parts``: how many the device has already, of a download that is resumed."""
        if self.phase is not SessionPhase.SERVING:
            return []
        self._reading = self._awaits_snapshot = False
        self._outstanding += 1
        self._next_part = parts + 1
        self.sent_seq = header.seq
        message = SnapshotStart(
            header.seq,
            header.epoch,
            header.chain_all,
            header.chain_user,
            header.schema_seq,
            list(header.tables),
            header.rows_total,
            header.token,
            parts,
            list(header.triggers),
        )
        early, self._accepted_early = self._accepted_early, []
        return [Send(message), *self.appended(early), *self._continue()]

    def snapshot_read(self, part: SnapshotRows | SnapshotTail) -> list[Effect]:
        """The answer to ReadSnapshot."""
        if self.phase is not SessionPhase.SERVING:
            return []
        self._reading = False
        self._outstanding += 1
        self._next_part += 1
        if isinstance(part, SnapshotRows):
            return [Send(SnapshotChunk(part.table, list(part.columns), part.rows)), *self._continue()]
        self._in_snapshot = False
        return [Send(SnapshotEnd(list(part.schema))), *self._continue()]

    # --- entries -------------------------------------------------------------------------------------

    def _continue(self) -> list[Effect]:
        """Send on while the window has room."""
        if self._reading or self.live or self._outstanding >= WINDOW_MESSAGES:
            return []
        if self._in_snapshot:
            self._reading = True
            return [ReadSnapshot(self._next_part)]
        return self._read_entries()

    def _read_entries(self) -> list[Effect]:
        assert self.node is not None
        self._reading = True
        return [ReadEntries(self.node.user_id, self.sent_seq, _ENTRIES_BYTES)]

    def entries_read(self, entries: list[LogEntry], through: int) -> list[Effect]:
        """The answer to ReadEntries."""
        self._reading = False
        if self.phase is not SessionPhase.SERVING:
            return []
        self.live = through >= self._dispatched()
        effects = self._send_entries(entries, through, more=not self.live)
        if not self.live:
            return effects + self._continue()
        return [*effects, *self._read_head()]

    def entries_committed(self, entries: list[LogEntry], through: int) -> list[Effect]:
        """New entries, all that there are between the last call and ``through``; those of others are left out here."""
        if self.phase is not SessionPhase.SERVING or not self.live:
            return []
        if self._outstanding >= WINDOW_MESSAGES:
            self.live = False  # slow: read from the log again when it has caught up
            return []
        mine = [entry for entry in entries if entry.seq > self.sent_seq and self._may_see(entry)]
        if not mine:
            self.sent_seq = max(self.sent_seq, through)
            return []
        return self._send_entries(mine, through)

    def _may_see(self, entry: LogEntry) -> bool:
        """P5: a device sees its user's stream and everybody's, nothing else."""
        assert self.node is not None
        return entry.owner in {EVERYBODY, self.node.user_id}

    def _send_entries(self, entries: list[LogEntry], through: int, *, more: bool = False) -> list[Effect]:
        assert self.node is not None
        own_id = self.node.node_id
        wire = [
            WireEntry(entry.seq, entry.owner == EVERYBODY, entry.nonce, entry.chain, b"")
            if entry.origin == own_id and entry.nonce is not None
            else WireEntry(entry.seq, entry.owner == EVERYBODY, 0, entry.chain, entry.body)
            for entry in sorted(entries, key=lambda entry: (entry.seq, entry.owner == EVERYBODY))
            if self._may_see(entry)
        ]
        self.sent_seq = max(self.sent_seq, through)
        self._outstanding += 1
        return [Send(Entries(wire, through, more))]

    def _on_applied(self, message: Applied, now: float) -> list[Effect]:
        if message.messages < 0 or message.messages > self._outstanding:
            raise ProtocolError("more messages acknowledged than sent")
        self._outstanding -= message.messages
        enough = 1 if self._refused_some else _CONFIRM_EVERY_COUNT
        if message.confirmed_nonce >= self._confirmed_nonce + enough:
            # refusals are kept for telling them again; acceptances are in the log, and kept only where that is cut
            self._confirm_due = self._confirmed_nonce = message.confirmed_nonce
        return self._continue()

    def _confirm(self, now: float) -> list[Effect]:
        assert self.node is not None
        self._confirmed_at = now
        nonce, self._confirm_due = self._confirm_due, 0
        return [ConfirmVerdicts(self.node.node_id, nonce)]

    # --- pushes --------------------------------------------------------------------------------------

    def _on_push(self, message: Push, now: float) -> list[Effect]:
        assert self.node is not None
        if not message.transactions:
            return []
        push = AppendPush(self.node.node_id, self.node.user_id, message.transactions)
        if self.phase is SessionPhase.CONFIRMING:
            # nothing of a device counts before its session token is confirmed
            self._early_pushes.append(push)
            return []
        return [push]

    def appended(self, outcomes: list[AppendOutcome]) -> list[Effect]:
        """Verdicts that no entry will tell: refusals; acceptances that are part of the state the device was sent, or
        that are another node's entry."""
        if self.phase is not SessionPhase.SERVING:
            return []
        verdicts: list[Verdict] = []
        for outcome in outcomes:
            if outcome.kind == "accepted":
                if self._awaits_snapshot and not outcome.elsewhere:
                    self._accepted_early.append(outcome)
                elif outcome.elsewhere or outcome.seq <= self.sent_seq:
                    verdicts.append(Verdict(outcome.nonce, outcome.seq))
            elif outcome.kind == "rejected":
                reason = outcome.rejection
                assert reason is not None
                self._refused_some = True
                verdicts.append(
                    Verdict(outcome.nonce, 0, reason.code, reason.message, reason.table, list(reason.columns))
                )
            elif outcome.kind != "skipped":
                effects: list[Effect] = [Send(Verdicts(verdicts))] if verdicts else []
                if outcome.kind == "revoked":
                    return effects + self.revoked()
                return effects + self._close(outcome.kind, _WHY_NOT[outcome.kind])
        return [Send(Verdicts(verdicts))] if verdicts else []

    def append_failed(self, reason: str) -> list[Effect]:
        """The batch was abandoned without verdicts: the device comes back and sends again."""
        if self.phase is not SessionPhase.SERVING:
            return []
        return self._close("retry", f"the primary could not store transactions: {reason}")

    # --- the rest ------------------------------------------------------------------------------------

    def _on_ping(self, message: Ping, now: float) -> list[Effect]:
        through = self._dispatched() if self.live else NOT_KNOWN
        return [Send(Pong(message.sent_at, through))]

    def _on_ask_head(self, message: AskHead, now: float) -> list[Effect]:
        """Only the newest question is kept: its answer answers those before it. Catching up comes first."""
        self._head_asked_at = message.asked_at
        return self._read_head() if self.live else []

    def _read_head(self) -> list[Effect]:
        """One reading at a time: whoever asks without pause has no more of them waiting."""
        if self._head_asked_at is None or self._head_read_for is not None:
            return []
        self._head_read_for = self._head_asked_at
        return [ReadHead()]

    def head_read(self) -> list[Effect]:
        """The answer to ReadHead: this session was told of everything that was in the log."""
        asked_at, self._head_read_for = self._head_read_for, None
        if not self.live or asked_at is None:
            return []
        if asked_at == self._head_asked_at:
            self._head_asked_at = None
        return [Send(Head(asked_at, self._dispatched())), *self._read_head()]

    def _on_ask_sums(self, message: AskSums, now: float) -> list[Effect]:
        """One at a time: a device that asks again before it is answered would make us compute for nothing."""
        assert self.node is not None
        if self._summing or not self.live or not self._questions.take(now):
            return [Send(Sums(0, [], []))]
        self._summing = True
        return [ComputeSums(self.node.user_id, message)]

    def sums_computed(self, answer: Sums) -> list[Effect]:
        self._summing = False
        return [Send(answer)] if self.phase is SessionPhase.SERVING else []

    def _on_ask_rows(self, message: AskRows, now: float) -> list[Effect]:
        assert self.node is not None
        if self._summing or not self.live or not self._questions.take(now):
            return [Send(RangeRows(0, [], []))]
        self._summing = True
        return [FetchRows(self.node.user_id, message)]

    def rows_fetched(self, answer: RangeRows) -> list[Effect]:
        self._summing = False
        return [Send(answer)] if self.phase is SessionPhase.SERVING else []

    def _on_pong(self, message: Pong, now: float) -> list[Effect]:
        return []

    def _on_problem(self, message: ProblemReport, now: float) -> list[Effect]:
        self.phase = SessionPhase.CLOSED
        return [CloseConnection(message.reason)]

    _PROVED: Final = {
        SessionPhase.UNAUTHORIZED,
        SessionPhase.DECIDING,
        SessionPhase.LOOKING_UP,
        SessionPhase.OPENING,
        SessionPhase.COPIED,
        SessionPhase.ADOPTING,
        SessionPhase.WELCOMING,
        SessionPhase.CONFIRMING,
        SessionPhase.SERVING,
    }
    # handler, phases in which the message may come (none named: any)
    _HANDLERS: dict[type, tuple[Callable[..., list[Effect]], set[SessionPhase]]] = {  # noqa: RUF012 - a constant table
        Hello: (_on_hello, {SessionPhase.GREETING}),
        NetworkProof: (_on_network_proof, {SessionPhase.CHALLENGING}),
        Prove: (_on_prove, {SessionPhase.CHALLENGING}),
        Signup: (_on_sign_in, _PROVED),
        Login: (_on_sign_in, _PROVED),
        Adopt: (_on_adopt, {SessionPhase.COPIED}),
        Subscribe: (_on_subscribe, {SessionPhase.WELCOMING}),
        Push: (_on_push, {SessionPhase.SERVING, SessionPhase.CONFIRMING}),
        Applied: (_on_applied, {SessionPhase.SERVING}),
        Ping: (_on_ping, _PROVED),
        AskHead: (_on_ask_head, {SessionPhase.SERVING, SessionPhase.CONFIRMING}),
        AskSums: (_on_ask_sums, {SessionPhase.SERVING}),
        AskRows: (_on_ask_rows, {SessionPhase.SERVING}),
        Pong: (_on_pong, _PROVED),
        ProblemReport: (_on_problem, set()),
    }


def _trusted_info(text: str, public_key: bytes) -> str:
    """What the device says of itself, with what is known for certain in the place of what it claims: authorization
    logic decides by these, and admits the key that it reads there."""
    key = public_key.hex()
    try:
        return json.dumps({**json.loads(text), "public_key": key, "pubkey": key, "type": str(Role.SECONDARY)})
    except RecursionError:
        raise ProtocolError("the device information is nested too deeply") from None


def is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


_WHY_NOT: Final = {
    "fork": "this device sent another transaction under a number it had used before: its file is a copy or an old"
    " backup",
    "gap": "transactions of this device are missing before the one it sent: was this primary restored from a backup?",
    "corrupt": "a transaction does not fit its hash: it was damaged on the way or on the device's disk",
}
