"""What an attacker might send: valid messages with anything in their fields, and bytes that were bent."""

from collections import deque
from dataclasses import replace
from typing import ClassVar

import msgspec
from hypothesis import strategies as st

from octodb.errors import ProtocolError
from octodb.model.entries import AppendOutcome, LogEntry
from octodb.model.identities import AuthMode, Identity, NodeRecord, Role
from octodb.model.node_uri import Address
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.runtime.device_info import new_node_seed
from octodb.sync import effects as to_do
from octodb.sync.device import DeviceFacts, DeviceSync, Phase
from octodb.sync.primary import Decision, PrimaryFacts, PrimarySession, SessionPhase
from octodb.wire.handshake import adoption_text, handshake_text, sign
from octodb.wire.messages import (
    PROTOCOL_VERSION,
    Adopt,
    Challenge,
    Claim,
    Hello,
    Login,
    Message,
    Prove,
    RangeRows,
    Subscribe,
    Sums,
    Welcome,
    encode_message,
)
from tests.properties.test_wire import messages, values_of

__all__ = ["DevicePlay", "PrimaryPlay", "bent", "by_type", "garbage_values", "messages"]

by_type = {kind.cls: values_of(kind) for kind in msgspec.inspect.type_info(Message).types}

garbage_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.text(max_size=9),
        st.binary(max_size=9),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=12,
)  # fmt: skip


@st.composite
def bent(draw):
    """The bytes of a message in which something is not as it should be."""
    data = bytearray(encode_message(draw(messages)))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if how == "flip" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif how == "cut":
            del data[place : place + draw(st.integers(1, 8))]
        elif how == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
        else:
            data[place:place] = data[place : place + draw(st.integers(1, 8))]
    return bytes(data)


KEYS = new_node_seed()
NEW_KEYS = new_node_seed()
INFO = "{}"
NODE = NodeRecord(7, 3, Role.SECONDARY, KEYS.public_key, last_nonce=5)
HEADER = SnapshotHeader(
    10, b"epoch", b"a" * 16, b"u" * 16, 1, ("CREATE TABLE t (id PRIMARY KEY, row_owner)",), 1, b"t" * 16
)


class PrimaryPlay:
    """A PrimarySession whose storage answers as it should, and a device that may do its part: ``advance``."""

    def __init__(self, auth="user", features=0):
        self.now = 100.0
        facts = PrimaryFacts(b"p" * 32, b"epoch", AuthMode(auth), ({"name": "email"},), b"network")
        self.session = PrimarySession(facts, b"s" * 32, lambda: 10, self.now)
        self.hello = Hello(PROTOCOL_VERSION, KEYS.public_key, b"r" * 32, b"database", b"presented", 0, features)
        self.all_effects = []
        self.open = deque()
        self.challenge = None

    def take(self, effects):
        self.all_effects += effects
        for effect in effects:
            if isinstance(effect, to_do.Send) and isinstance(effect.message, Challenge):
                self.challenge = effect.message
            self.open.append(effect)

    def receive(self, message):
        """What the engine does: a message that has no place ends the connection."""
        try:
            self.take(self.session.receive(message, self.now))
        except ProtocolError:
            return False
        return True

    def wait(self):
        self.now += 3.0
        self.take(self.session.tick(self.now))

    def answer(self):
        """The storage's answer to the oldest effect that wants one."""
        while self.open:
            effect = self.open.popleft()
            reply = self._ANSWERS.get(type(effect))
            if reply is not None:
                self.take(reply(self.session, effect))
                return

    def advance(self):
        """What an honest device would send now; or the storage's answer, where that is awaited."""
        phase = self.session.phase
        if phase is SessionPhase.GREETING:
            self.receive(self.hello)
        elif phase is SessionPhase.CHALLENGING and self.challenge is not None and self.session._hello is self.hello:
            text = handshake_text(self.hello, self.challenge, INFO)
            self.receive(Prove(sign(KEYS.private_key, text), INFO))
        elif phase is SessionPhase.UNAUTHORIZED:
            self.receive(Login("{}"))
        elif phase is SessionPhase.COPIED:
            text = adoption_text(self.session._hello, self.session._challenge, NEW_KEYS.public_key)
            self.receive(Adopt(NEW_KEYS.public_key, sign(NEW_KEYS.private_key, text), [Claim(1, bytes(16), 0)]))
        elif phase is SessionPhase.WELCOMING:
            self.receive(Subscribe(b"token", b"epoch", 3, b"", b"", 0))
        else:
            self.answer()

    _ANSWERS: ClassVar = {
        to_do.FindNode: lambda session, effect: session.node_found(None if session._facts.auth == "user" else NODE),
        to_do.Admit: lambda session, effect: session.node_found(NODE),
        to_do.AskAuthorizer: lambda session, effect: session.authorized(Decision("user", 3)),
        to_do.OpenSession: lambda session, effect: session.session_opened(b"token", 10),
        to_do.AdoptCopy: lambda session, effect: session.adopted(NODE, b"token", 10, []),
        to_do.ConfirmSession: lambda session, effect: session.session_confirmed(effect, True, effect.cursor == 3),
        to_do.OpenSnapshot: lambda session, effect: session.snapshot_opened(HEADER, 0),
        to_do.ReadSnapshot: lambda session, effect: session.snapshot_read(
            SnapshotTail(()) if effect.number > 2 else SnapshotRows("t", ("id", "row_owner"), [[1, 3]])
        ),
        to_do.ReadEntries: lambda session, effect: session.entries_read(
            [LogEntry(effect.after + 1, 3, 9, 1, bytes(16), bytes(16), b"body")], min(10, effect.after + 1)
        ),
        to_do.ReadHead: lambda session, effect: session.head_read(),
        to_do.AppendPush: lambda session, effect: session.appended(
            [AppendOutcome(one.nonce, "accepted", 9) for one in effect.transactions]
        ),
        to_do.ComputeSums: lambda session, effect: session.sums_computed(Sums(10, [], [])),
        to_do.FetchRows: lambda session, effect: session.rows_fetched(RangeRows(10, [], [])),
    }


NEW = DeviceFacts(b"key", b"database", b"", Identity(), b"", 0, b"", b"", 0, has_pending=False, id_counter=0)
READY = replace(NEW, session_token=b"old", identity=Identity(7, 3, ready=True), epoch=b"epoch", cursor=10)


class DevicePlay:
    """A DeviceSync whose storage answers as it should, and a primary that may do its part: ``advance``."""

    def __init__(self, ready):
        self.now = 100.0
        self.device = DeviceSync(READY if ready else NEW, (Address("a", 1),), lambda text: b"signed", "{}")
        self.all_effects = []
        self.open = deque()
        self.take(self.device.start(self.now))
        self.take(self.device.connected_to(b"r" * 32, self.now))

    def take(self, effects):
        self.all_effects += effects
        self.open += effects

    def receive(self, message):
        try:
            self.take(self.device.receive(message, self.now))
        except ProtocolError:
            self.lose()

    def lose(self):
        self.take(self.device.connection_failed("lost", 0.5, self.now))

    def wait(self):
        self.now += 4.0
        self.device.next_tick(self.now)
        self.take(self.device.tick(self.now))

    def answer(self):
        while self.open:
            effect = self.open.popleft()
            if self._answer(effect):
                return

    def _answer(self, effect):
        device = self.device
        if isinstance(effect, to_do.CloseConnection):
            self.lose()
        elif isinstance(effect, to_do.Dial):
            self.take(device.connected_to(b"r" * 32, self.now))
        elif isinstance(effect, to_do.StoreWelcome):
            self.take(device.welcome_stored(0, 0, self.now))
        elif isinstance(effect, to_do.ReadClaims):
            self.take(device.claims_read(effect, b"n" * 32, lambda text: b"signed", []))
        elif isinstance(effect, to_do.StoreAdoption):
            self.take(device.adoption_stored(effect.adopted, b"n" * 32, lambda text: b"signed", 0, self.now))
        elif isinstance(effect, to_do.ReadOutbox):
            self.take(
                device.outbox_read(effect, [(effect.after + 1, bytes(16), b"body", 0)] if effect.after < 3 else [])
            )
        elif isinstance(effect, to_do.BringIn):
            cursor = (max(effect.through, device.facts.cursor), b"a", b"u")
            self.take(device.brought_in(effect, cursor, [], effect.rejections, (), 0, False))
        elif isinstance(effect, to_do.LoadSnapshotPart):
            self.take(device.snapshot_loaded(effect, 1))
        elif isinstance(effect, to_do.ReadSums):
            self.take(device.sums_read(effect, [("t", 1, 1)], self.now))
        elif isinstance(effect, to_do.RepairRange):
            self.take(device.repaired(effect, done=True))
        else:
            return False
        return True

    def advance(self):
        phase = self.device.phase
        if phase is Phase.GREETING:
            self.receive(Challenge(PROTOCOL_VERSION, b"s" * 32, b"p" * 32, b"epoch", "user", [], b"network"))
        elif phase in {Phase.PROVING, Phase.SIGNING_IN}:
            self.receive(Welcome(7, 3, b"token", 10, 0, 0))
        else:
            self.answer()
