"""A device's side of sync as stories in virtual time: what comes from the primary and the file, and what is done."""

import itertools
from dataclasses import replace

import msgspec
import pytest

from octodb.errors import ProtocolError
from octodb.model.identities import Identity
from octodb.model.node_uri import Address
from octodb.model.snapshots import SnapshotTail
from octodb.model.status import NodeState
from octodb.model.transactions import Rejection
from octodb.sync.device import DeviceFacts, DeviceSync, Phase
from octodb.sync.effects import (
    AbandonSnapshot,
    BringIn,
    CloseConnection,
    Dial,
    LoadSnapshotPart,
    Notify,
    ReadClaims,
    ReadOutbox,
    Send,
    StoreAdoption,
    StoreWelcome,
)
from octodb.wire.handshake import adoption_text, handshake_text
from octodb.wire.messages import (
    IS_COPY,
    KNOWS_COPIES,
    KNOWS_DOWNLOADING_AGAIN,
    PROTOCOL_VERSION,
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
    Verdict,
    Verdicts,
    Welcome,
    WireEntry,
)

A, B = Address("a", 1), Address("b", 2)
RANDOM = b"r" * 32
CHALLENGE = Challenge(PROTOCOL_VERSION, b"s" * 32, b"primary", b"epoch", "user", [{"name": "email"}])
NEW = DeviceFacts(b"key", b"database", b"", Identity(), b"", 0, b"", b"", 0, has_pending=False, id_counter=0)
READY = replace(NEW, session_token=b"old", identity=Identity(7, 3, ready=True), epoch=b"epoch", cursor=10)


class Story:
    """A machine and its clock. Each step returns the effects of that step; ``sent`` picks the messages."""

    def __init__(self, facts, servers=(A,)):
        self.now = 100.0
        self.device = DeviceSync(facts, servers, lambda text: b"signed " + text, "{}")

    def wait(self, seconds):
        self.now += seconds
        return self.device.tick(self.now)

    def receive(self, message):
        return self.device.receive(message, self.now)

    def connect(self):
        """Up to the proof."""
        self.device.start(self.now)
        self.device.connected_to(RANDOM, self.now)
        return self.receive(CHALLENGE)

    def subscribe_as(self, node_id, user_id):
        """Up to the subscription; returns its effects."""
        self.connect()
        self.receive(Welcome(node_id, user_id, b"token", 10, 0, 0))
        return self.device.welcome_stored(0, 0, self.now)

    def subscribe(self):
        return self.subscribe_as(7, 3)

    def serve(self):
        """Up to a quiet line: subscribed, the outbox read and found empty."""
        (asked,) = of(ReadOutbox, self.subscribe())
        self.device.outbox_read(asked, [])
        return self

    def lose(self, reason="cut", jitter=0.0):
        return self.device.connection_failed(reason, jitter, self.now)

    def bring_in(self, asked, seq, *, accepted=(), rejected=(), settled=0, tables=(), has_pending=False):
        return self.device.brought_in(
            asked, (seq, b"all", b"user"), list(accepted), list(rejected), tables, settled, has_pending
        )


def of(kind, effects):
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects):
    return [effect.message for effect in of(Send, effects)]


def events(effects):
    return [effect.event for effect in of(Notify, effects) if effect.event != "status"]


def entry(seq, nonce=0, body=b"body"):
    return WireEntry(seq, False, nonce, b"chain", b"" if nonce else body)


# --- getting in ------------------------------------------------------------------------------------------


def test_a_device_without_primaries_stays_offline():
    story = Story(READY, servers=())
    assert story.device.start(story.now) == []
    assert (story.device.state, story.device.next_tick(story.now)) == (NodeState.OFFLINE, None)


def test_the_happy_path_of_a_known_device():
    story = Story(READY)
    assert of(Dial, story.device.start(story.now)) == [Dial(A)]
    (hello,) = sent(story.device.connected_to(RANDOM, story.now))
    assert hello == Hello(
        PROTOCOL_VERSION, b"key", RANDOM, b"database", b"old", 0, KNOWS_COPIES | KNOWS_DOWNLOADING_AGAIN
    )
    (proof,) = sent(story.receive(CHALLENGE))
    assert proof == Prove(b"signed " + handshake_text(hello, CHALLENGE, "{}"), "{}")
    assert story.receive(Welcome(7, 3, b"token", 10, 0, 0)) == [StoreWelcome(7, 3, b"token", b"")]
    effects = story.device.welcome_stored(0, 0, story.now)
    assert sent(effects) == [Subscribe(b"token", b"epoch", 10, b"", b"", 0)]
    assert story.device.connected


def test_nothing_is_sent_before_the_token_is_on_the_disk():
    story = Story(replace(READY, has_pending=True))
    story.connect()
    assert sent(story.receive(Welcome(7, 3, b"token", 10, 0, 0))) == []
    assert story.device.queue_moved() == []
    assert story.device.phase is Phase.STORING


def test_the_app_is_told_when_a_wrong_login_is_denied_and_then_a_right_one_is_let_in():
    story = Story(NEW)
    story.connect()
    story.receive(Unauthorized("login"))
    assert (story.device.state, story.device.auth.required) == (NodeState.UNAUTHORIZED, True)
    assert story.device.auth.fields == ({"name": "email"},)

    assert sent(story.device.request_login("user_login", "wrong")) == [Login("wrong")]
    assert story.device.state is NodeState.AUTHORIZING
    effects = story.receive(Denied("denied", "no such user"))
    assert of(Notify, effects)[0] == Notify("error", {"code": "denied", "reason": "no such user"})
    assert story.device.state is NodeState.UNAUTHORIZED
    assert story.device.auth.error == {"code": "denied", "reason": "no such user"}

    assert sent(story.device.request_login("user_signup", "right")) == [Signup("right")]
    assert story.device.auth.error is None
    assert story.receive(Welcome(8, 4, b"token", 0, 0, 0)) == [StoreWelcome(8, 4, b"token", b"")]
    assert not story.device.auth.pending


def test_a_login_given_offline_is_sent_when_a_primary_is_reached():
    story = Story(NEW)
    assert story.device.request_login("user_login", "early") == []
    story.connect()
    assert sent(story.receive(Unauthorized("login"))) == [Login("early")]


def test_a_login_that_was_not_answered_is_sent_again():
    story = Story(NEW)
    story.connect()
    story.receive(Unauthorized("login"))
    story.device.request_login("user_login", "data")
    story.lose()
    assert story.device.auth.pending
    story.connect()
    assert sent(story.receive(Unauthorized("login"))) == [Login("data")]


def test_a_login_that_was_denied_is_not():
    story = Story(NEW)
    story.connect()
    story.receive(Unauthorized("login"))
    story.device.request_login("user_login", "wrong")
    story.receive(Denied("denied", "no"))
    story.lose()
    story.connect()
    assert sent(story.receive(Unauthorized("login"))) == []


def test_a_login_of_an_authorized_device_changes_nothing():
    story = Story(READY).serve()
    assert story.device.request_login("user_login", "again") == []
    assert not story.device.auth.pending


def test_waiting_for_an_administrators_decision():
    story = Story(NEW)
    story.connect()
    story.receive(Unauthorized("decision"))
    assert (story.device.state, story.device.auth.required) == (NodeState.AUTHORIZING, False)
    assert story.receive(Welcome(8, 8, b"token", 0, 0, 0)) == [StoreWelcome(8, 8, b"token", b"")]


def test_a_login_that_was_put_off_may_be_followed_by_another_and_is_sent_again_after_a_lost_line():
    story = Story(NEW)
    story.connect()
    story.receive(Unauthorized("login"))
    assert sent(story.device.request_login("user_login", "mistyped")) == [Login("mistyped")]
    assert sent(story.receive(Unauthorized("decision"))) == []
    assert story.device.auth.pending
    assert sent(story.device.request_login("user_login", "right")) == [Login("right")]
    assert story.device.request_login("user_login", "third") == [], "one at a time"
    assert sent(story.receive(Unauthorized("decision"))) == [Login("third")]
    assert sent(story.receive(Unauthorized("decision"))) == []
    story.lose()
    story.connect()
    assert sent(story.receive(Unauthorized("login"))) == [Login("third")]
    story.receive(Unauthorized("decision"))
    story.receive(Denied("denied", "no"))
    assert (story.device.auth.pending, story.device.auth.error) == (False, {"code": "denied", "reason": "no"})


def test_a_file_stays_with_its_user():
    story = Story(READY)
    story.connect()
    effects = story.receive(Welcome(7, 4, b"token", 10, 0, 0))
    assert of(StoreWelcome, effects) == []
    assert of(CloseConnection, effects)[0].reason == "this file belongs to user 3; open a new file"


def test_another_primary_under_the_same_address_is_not_believed():
    story = Story(READY)
    story.device.start(story.now)
    story.device.connected_to(RANDOM, story.now)
    effects = story.receive(Challenge(PROTOCOL_VERSION, b"s" * 32, b"primary", b"other epoch", "user", []))
    assert sent(effects) == []
    assert "another primary" in of(CloseConnection, effects)[0].reason
    assert story.device.state is NodeState.ERROR


def test_a_primary_of_another_protocol_is_named():
    story = Story(NEW)
    story.device.start(story.now)
    story.device.connected_to(RANDOM, story.now)
    effects = story.receive(Challenge(99, b"s" * 32, b"primary", b"epoch", "user", []))
    assert "speaks protocol 99" in of(CloseConnection, effects)[0].reason


@pytest.mark.parametrize(
    "message",
    [
        Welcome(1, 1, b"", 0, 0, 0),
        Entries([], 5),
        Verdicts([]),
        SnapshotEnd([]),
        Unauthorized("login"),
        Hello(1, b"", b"", b"", b"", 0),
        Login("x"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_out_of_place_is_a_protocol_error(message):
    story = Story(READY)
    story.device.start(story.now)
    story.device.connected_to(RANDOM, story.now)
    with pytest.raises(ProtocolError, match="unexpected"):
        story.receive(message)


# --- coming back -----------------------------------------------------------------------------------------


def test_failover_goes_round_and_then_pauses():
    story = Story(READY, servers=(A, B))
    assert of(Dial, story.device.start(story.now)) == [Dial(A)]
    story.lose("refused")
    assert of(Dial, story.wait(0)) == [Dial(B)]
    story.lose("refused")
    assert story.wait(0.19) == []
    assert story.device.next_tick(story.now) == pytest.approx(story.now + 0.01)
    assert of(Dial, story.wait(0.02)) == [Dial(A)]
    assert story.device.state is NodeState.CONNECTING


def test_a_lost_connection_is_told_once_and_dialed_again():
    story = Story(READY).serve()
    effects = story.lose("reset by peer")
    assert events(effects) == ["error"]
    assert (story.device.state, story.device.last_error) == (NodeState.OFFLINE, "reset by peer")
    assert of(Dial, story.wait(30)) == [Dial(A)]
    assert events(story.lose("refused")) == [], "that nobody is there is not news"


def test_a_lost_connection_is_dialed_at_once_when_there_is_another_primary():
    story = Story(READY, servers=(A, B)).serve()
    story.lose()
    assert of(Dial, story.wait(0)) != []


def test_trouble_that_dialing_cannot_mend_waits_longer_each_time_and_then_is_over():
    story = Story(READY)
    pauses = []
    for _ in range(9):
        story.subscribe()
        story.device.storage_failed("disk full")
        story.lose("disk full")
        assert (story.device.state, story.device.last_error) == (NodeState.ERROR, "disk full")
        pauses.append(story.device.next_tick(story.now) - story.now)
        story.now += pauses[-1]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60])

    story.serve()
    (asked,) = of(BringIn, story.receive(Entries([entry(11)], 11)))
    story.bring_in(asked, 11)
    assert (story.device.state, story.device.last_error) == (NodeState.IN_SYNC, None)
    story.lose()
    assert story.device.next_tick(story.now) == story.now, "at once, as after any good connection"


def test_a_primary_that_drops_its_devices_after_the_welcome_is_not_dialed_without_a_pause():
    story = Story(READY)
    pauses = []
    for _ in range(5):
        story.subscribe()
        story.lose()
        pauses.append(story.device.next_tick(story.now) - story.now)
        story.now += pauses[-1]
    assert pauses[-1] > 0


def test_jitter_spreads_the_pause_of_trouble_too():
    story = Story(READY)
    story.subscribe()
    story.device.storage_failed("disk full")
    story.lose(jitter=1.0)
    assert story.device.next_tick(story.now) - story.now == pytest.approx(0.5)


def test_a_primary_that_does_not_finish_the_handshake_is_left():
    story = Story(READY)
    story.device.start(story.now)
    story.device.connected_to(RANDOM, story.now)
    assert story.device.next_tick(story.now) == story.now + 8
    assert story.wait(7.9) == []
    assert "handshake" in of(CloseConnection, story.wait(0.1))[0].reason


def test_silence_is_pinged_and_then_cut():
    story = Story(READY).serve()
    assert story.wait(9.9) == []
    assert sent(story.wait(0.1)) == [Ping(story.now)]
    assert story.wait(14.9) == []
    assert "silent for 25 s" in of(CloseConnection, story.wait(0.1))[0].reason


def test_an_answered_ping_starts_the_wait_anew_and_tells_how_far_away_the_primary_is():
    story = Story(READY).serve()
    (ping,) = sent(story.wait(10))
    story.now += 0.25
    story.receive(Pong(ping.sent_at, -1))
    assert story.device.rtt_s == 0.25
    assert story.wait(9.9) == []
    assert len(sent(story.wait(0.1))) == 1


def test_somebody_waiting_to_sign_in_is_kept_alive_too():
    story = Story(NEW)
    story.connect()
    story.receive(Unauthorized("login"))
    assert sent(story.wait(10)) == [Ping(story.now)]


def test_a_ping_of_the_primary_is_answered():
    story = Story(READY).serve()
    assert sent(story.receive(Ping(5.0))) == [Pong(5.0, -1)]


def test_a_revoked_device_stops_for_good():
    story = Story(READY)
    story.connect()
    effects = story.receive(Revoked("lost phone"))
    assert of(CloseConnection, effects) == [CloseConnection("lost phone")]
    story.lose()
    assert story.device.state is NodeState.REVOKED
    assert story.device.next_tick(story.now) is None
    assert story.wait(10_000) == []


@pytest.mark.parametrize("code", ["closing", "session", "silence"])
def test_a_primary_that_closes_in_the_ordinary_way_is_no_trouble(code):
    story = Story(READY).serve()
    assert of(CloseConnection, story.receive(ProblemReport(code, "bye"))) == [CloseConnection("bye")]
    story.lose()
    assert story.device.state is NodeState.OFFLINE


@pytest.mark.parametrize("code", ["gap", "history", "unknown_session", "retry"])
def test_a_problem_that_comes_back_every_time_is_trouble(code):
    story = Story(READY).serve()
    story.receive(ProblemReport(code, "this file is a copy"))
    story.lose()
    assert (story.device.state, story.device.last_error) == (NodeState.ERROR, "this file is a copy")


# --- the first download ----------------------------------------------------------------------------------


def downloading():
    story = Story(NEW)
    story.connect()
    story.receive(Welcome(8, 4, b"token", 20, 0, 0))
    (subscribe,) = sent(story.device.welcome_stored(0, 0, story.now))
    assert subscribe.epoch == b"", "asks for a snapshot"
    return story


START = SnapshotStart(20, b"epoch", b"all", b"user", 5, ["CREATE TABLE t (a)"], 2, b"download")


def test_a_download_is_loaded_part_by_part_and_acknowledged():
    story = downloading()
    assert story.device.state is NodeState.DOWNLOADING
    header, chunk, tail = (
        of(LoadSnapshotPart, story.receive(message))[0]
        for message in (START, SnapshotChunk("t", ["a"], [[1], [2]]), SnapshotEnd(["CREATE INDEX i ON t (a)"]))
    )
    assert sent(story.device.snapshot_loaded(header, 100)) == [Applied(0, 0, 1)]
    assert sent(story.device.snapshot_loaded(chunk, 300)) == [Applied(0, 0, 1)]
    assert (story.device.snapshot.rows, story.device.snapshot.rows_total, story.device.snapshot.bytes) == (2, 2, 300)
    assert not story.device.facts.identity.ready
    effects = story.device.snapshot_loaded(tail, 400)
    assert events(effects) == ["ready"]
    facts = story.device.facts
    assert facts.identity == Identity(8, 4, ready=True)
    assert (facts.epoch, facts.cursor, facts.chain_all, facts.chain_user) == (b"epoch", 20, b"all", b"user")
    assert story.device.snapshot is None
    (asked,) = of(ReadOutbox, effects)
    story.device.outbox_read(asked, [])
    assert story.device.state is NodeState.SYNCING, "what was committed during the download is still to come"
    story.receive(Entries([], 20))
    assert story.device.state is NodeState.IN_SYNC


def test_entries_that_come_during_a_download_wait_for_its_end():
    story = downloading()
    parts = of(LoadSnapshotPart, story.receive(START) + story.receive(SnapshotEnd([])))
    assert story.receive(Entries([entry(21)], 21)) == []
    story.device.snapshot_loaded(parts[0], 0)
    (asked,) = of(BringIn, story.device.snapshot_loaded(parts[1], 0))
    assert (asked.entries, asked.through) == ([entry(21)], 21)


def test_a_download_that_breaks_off_is_resumed():
    story = downloading()
    (header,) = of(LoadSnapshotPart, story.receive(START))
    (chunk,) = of(LoadSnapshotPart, story.receive(SnapshotChunk("t", ["a"], [[1]])))
    assert of(AbandonSnapshot, story.lose()) == []
    assert sent(story.device.snapshot_loaded(header, 0)) == [], "nothing to acknowledge on a lost connection"
    story.device.snapshot_loaded(chunk, 0)
    (subscribe,) = sent(story.subscribe_as(8, 4))
    assert (subscribe.resume_token, subscribe.resume_parts) == (b"download", 1)
    assert of(LoadSnapshotPart, story.receive(replace_parts(START, 1))) == []
    (tail,) = of(LoadSnapshotPart, story.receive(SnapshotEnd([])))
    assert tail.header == header.header
    assert sent(story.device.snapshot_loaded(tail, 0))[0] == Applied(0, 0, 2)
    assert story.device.facts.identity.ready


def test_a_download_that_the_primary_does_not_keep_begins_anew():
    story = downloading()
    story.receive(START)
    story.lose()
    story.subscribe_as(8, 4)
    (header,) = of(LoadSnapshotPart, story.receive(SnapshotStart(21, b"epoch", b"", b"", 0, [], 0, b"another")))
    assert header.part is header.header


def test_a_download_that_nobody_resumes_is_let_go():
    story = downloading()
    story.receive(START)
    story.lose()
    assert of(AbandonSnapshot, story.wait(61)) == [AbandonSnapshot()]
    (subscribe,) = sent(story.subscribe_as(8, 4))
    assert subscribe.resume_token == b""


def replace_parts(start, parts):
    return msgspec.structs.replace(start, parts=parts)


def test_a_tail_stored_after_the_connection_was_lost_still_makes_the_file_ready():
    story = downloading()
    story.receive(START)
    (tail,) = of(LoadSnapshotPart, story.receive(SnapshotEnd([])))
    story.lose()
    assert isinstance(tail.part, SnapshotTail)
    assert story.device.snapshot_loaded(tail, 0) == [Notify("ready", {})]
    assert story.device.facts.identity.ready
    (subscribe,) = sent(story.subscribe_as(8, 4))
    assert (subscribe.epoch, subscribe.cursor) == (b"epoch", 20)


def test_a_chunk_without_a_start_is_refused():
    story = downloading()
    with pytest.raises(ProtocolError, match="before its start"):
        story.receive(SnapshotChunk("t", ["a"], [[1]]))


def test_entries_without_a_download_are_refused():
    story = downloading()
    with pytest.raises(ProtocolError, match="before the first download"):
        story.receive(Entries([entry(1)], 1))


# --- a primary that was restored, or is far ahead --------------------------------------------------------


def test_a_ready_device_downloads_again_beside_what_it_has():
    story = Story(replace(READY, settled_nonce=6)).serve()
    parts = of(LoadSnapshotPart, story.receive(START) + story.receive(SnapshotEnd([])))
    assert all(part.again for part in parts)
    assert story.device.state is NodeState.DOWNLOADING
    assert story.device.facts.identity.ready, "the application works on"
    assert story.device.queue_moved() == [], "nothing is sent meanwhile"
    story.device.snapshot_loaded(parts[0], 0)
    effects = story.device.snapshot_loaded(parts[1], 0, 2, 0, ("t",))
    assert events(effects) == ["sync", "error"]
    assert "2 accepted transactions are offered" in of(Notify, effects)[1].info["reason"]
    assert of(ReadOutbox, effects), "now the queue goes on"
    assert (story.device.facts.cursor, story.device.log.head) == (20, 20)


def test_a_restored_primary_is_told_what_it_need_not_wait_for():
    story = Story(READY)
    story.connect()
    story.receive(Welcome(7, 3, b"token", 10, 0, 4))
    effects = story.device.welcome_stored(9, 6, story.now)
    assert of(ReadOutbox, effects) == [], "first it must be clear whether it has lost entries"
    (asked,) = of(ReadOutbox, story.receive(Entries([], 10)))
    found = [(7, b"hash", b"body", 6), (8, b"hash", b"body", 6), (10, b"hash", b"body", 6)]
    (push,) = sent(story.device.outbox_read(asked, found))
    assert [(one.nonce, one.body) for one in push.transactions] == [
        (6, b""), (7, b"body"), (8, b"body"), (9, b""), (10, b"body"),
    ]  # fmt: skip


def test_what_was_accepted_on_this_connection_is_not_lost_and_what_is_offered_again_is_sent():
    story = Story(replace(READY, has_pending=True))
    (asked,) = of(ReadOutbox, story.subscribe())
    (late,) = of(ReadOutbox, story.device.outbox_read(asked, transactions([1, 2])))
    (asked,) = of(BringIn, story.receive(Entries([entry(11, 1)], 11)))
    story.bring_in(asked, 11, accepted=[(1, 11)], has_pending=True)
    parts = of(LoadSnapshotPart, story.receive(START) + story.receive(SnapshotEnd([])))
    assert [part.primary_nonce for part in parts] == [1, 1]
    story.device.snapshot_loaded(parts[0], 0)
    story.device.snapshot_loaded(parts[1], 0, 1, 0, ("t",))
    effects = story.device.outbox_read(late, transactions([3]))
    assert sent(effects) == [], "it would skip what is offered again"
    (read,) = of(ReadOutbox, effects)
    assert read.after == 0, "from the beginning"


def test_an_acceptance_that_no_entry_tells_waits_until_the_device_is_there():
    story = Story(READY).serve()
    assert story.receive(Verdicts([Verdict(2, 12)])) == []
    assert story.device.state is NodeState.SYNCING
    (asked,) = of(BringIn, story.receive(Entries([entry(11)], 11)))
    assert asked.acceptances == ()
    (asked,) = of(BringIn, story.bring_in(asked, 11) + story.receive(Entries([entry(12)], 12)))
    assert asked.acceptances == ((2, 12),)


# --- copies ----------------------------------------------------------------------------------------------


def adopt(story):
    (asked,) = of(ReadClaims, story.receive(Copied("another file")))
    (message,) = sent(story.device.claims_read(asked, b"new", lambda text: b"by new " + text, [(3, b"hash", 0)]))
    assert (message.public_key, message.claims) == (b"new", [Claim(3, b"hash", 0)])
    assert message.signature == b"by new " + adoption_text(story.device._hello, CHALLENGE, b"new")
    adopted = Adopted(9, 3, b"fresh", 12, [(3, 11)])
    assert story.receive(adopted) == [StoreAdoption(adopted)]
    return story.device.adoption_stored(adopted, b"new", lambda text: b"by new " + text, 5, story.now)


def test_a_copied_file_takes_an_identity_of_its_own_and_goes_on():
    story = Story(READY)
    story.connect()
    effects = adopt(story)
    assert of(Notify, effects)[0].info["code"] == "copied"
    assert sent(effects) == [Subscribe(b"fresh", b"epoch", 10, b"", b"", 5)]
    assert of(ReadOutbox, effects), "its queue is sent"
    assert story.device.facts.identity == Identity(9, 3, ready=True)
    story.lose()
    (hello,) = sent(story.device.connected_to(RANDOM, story.now))
    assert (hello.public_key, hello.session_token) == (b"new", b"fresh")


@pytest.mark.parametrize("last_nonce", [3, 5])
def test_a_file_that_lacks_its_own_transactions_is_an_old_backup(last_nonce):
    story = Story(READY)
    story.connect()
    story.receive(Welcome(7, 3, b"token", 10, 0, 4))
    effects = story.device.welcome_stored(last_nonce, last_nonce, story.now)
    assert bool(of(CloseConnection, effects)) is (last_nonce < 4)
    story.lose()
    (hello,) = sent(story.device.connected_to(RANDOM, story.now))
    assert bool(hello.features & IS_COPY) is (last_nonce < 4)


def test_a_fork_shows_that_the_file_is_a_copy():
    story = Story(READY).serve()
    assert of(CloseConnection, story.receive(ProblemReport("fork", "another transaction")))
    story.lose()
    (hello,) = sent(story.device.connected_to(RANDOM, story.now))
    assert hello.features & IS_COPY


def test_a_copy_is_not_given_to_another_user():
    story = Story(READY)
    story.connect()
    story.receive(Copied("another file"))
    effects = story.receive(Adopted(9, 4, b"fresh", 12, []))
    assert of(StoreAdoption, effects) == []
    assert "belongs to user 3" in of(CloseConnection, effects)[0].reason


# --- entries and verdicts --------------------------------------------------------------------------------


def test_entries_are_brought_in_one_batch_at_a_time():
    story = Story(READY).serve()
    (first,) = of(BringIn, story.receive(Entries([entry(11)], 11)))
    assert (first.entries, first.through) == ([entry(11)], 11)
    assert story.receive(Entries([entry(12)], 12)) == []
    assert story.receive(Entries([entry(13), entry(14)], 15)) == []
    assert story.device.state is NodeState.SYNCING

    effects = story.bring_in(first, 11, tables=("t",))
    assert sent(effects) == [Applied(11, 0, 3)], "all that came is counted: they wait here, not on the line"
    assert events(effects) == ["sync"]
    (second,) = of(BringIn, effects)
    assert ([one.seq for one in second.entries], second.through) == ([12, 13, 14], 15)
    story.bring_in(second, 15)
    assert (story.device.state, story.device.log.applied, story.device.log.head) == (NodeState.IN_SYNC, 15, 15)


def test_an_empty_batch_moves_the_cursor():
    story = Story(READY).serve()
    (asked,) = of(BringIn, story.receive(Entries([], 30)))
    assert (asked.entries, asked.through) == ([], 30)


def test_a_batch_with_nothing_new_is_acknowledged_all_the_same():
    """Otherwise the primary's window would fill up for good."""
    story = Story(READY).serve()
    assert sent(story.receive(Entries([], 10))) == [Applied(10, 0, 1)]


def test_a_pong_tells_of_a_head_that_moved_without_rows_for_us():
    story = Story(READY).serve()
    (asked,) = of(BringIn, story.receive(Pong(1.0, 40)))
    story.bring_in(asked, 40)
    assert story.device.log.applied == 40


def test_where_the_primary_is_counts_from_when_the_question_was_asked():
    story = Story(READY).serve()
    story.now += 1
    asked_at = story.now
    assert sent(story.device.ask_head(asked_at)) == [AskHead(asked_at)]
    story.receive(Pong(0.0, 10))
    assert story.device.head_known_at is None, "a pong may lag behind the log"
    story.now += 1
    (asked,) = of(BringIn, story.receive(Head(asked_at, 12)))
    assert (story.device.head_known_at, story.device.state) == (asked_at, NodeState.SYNCING)
    story.bring_in(asked, 12)
    assert story.device.state is NodeState.IN_SYNC


def test_a_question_without_an_answer_is_asked_again_after_a_reconnection():
    story = Story(READY).serve()
    asked_at = story.now
    story.device.ask_head(asked_at)
    story.lose()
    assert sent(story.subscribe())[1:] == [AskHead(asked_at)]
    story.receive(Head(asked_at, 10))
    story.lose()
    assert sent(story.subscribe())[1:] == []


def test_a_device_that_is_sent_an_old_log_in_parts_is_not_in_sync_between_them():
    story = Story(READY).serve()
    (asked,) = of(BringIn, story.receive(Entries([entry(11)], 11, more=True)))
    story.bring_in(asked, 11)
    assert story.device.state is NodeState.SYNCING
    (asked,) = of(BringIn, story.receive(Entries([entry(12)], 12)))
    story.bring_in(asked, 12)
    assert story.device.state is NodeState.IN_SYNC


def test_verdicts_that_were_stored_when_the_line_was_lost_are_told():
    story = Story(replace(READY, has_pending=True)).serve()
    (asked,) = of(BringIn, story.receive(Verdicts([Verdict(2, 0, "constraint", "UNIQUE", "t", [])])))
    story.lose()
    reason = Rejection("constraint", "UNIQUE", "t")
    effects = story.bring_in(asked, 10, accepted=[(1, 9)], rejected=[(2, reason)], settled=2, tables=("t",))
    assert events(effects) == ["verdict", "verdict", "rejected", "sync"]
    assert sent(effects) == [], "there is no line; the next Hello tells what is settled"


def test_refusals_are_brought_in_and_told():
    story = Story(replace(READY, has_pending=True)).serve()
    verdict = Verdict(2, 0, "constraint", "UNIQUE constraint failed: t.a", "t", ["a"])
    (asked,) = of(BringIn, story.receive(Verdicts([Verdict(1, 9), verdict])))
    reason = Rejection("constraint", "UNIQUE constraint failed: t.a", "t", ("a",))
    assert asked.rejections == [(2, reason)]
    effects = story.bring_in(asked, 10, rejected=[(2, reason)], settled=2)
    assert events(effects) == ["verdict", "rejected"]
    assert of(Notify, effects)[1].info == {
        "nonce": 2,
        "code": "constraint",
        "reason": "UNIQUE constraint failed: t.a",
        "table": "t",
        "columns": ["a"],
    }
    assert sent(effects) == [Applied(10, 2, 0)]


def test_an_answer_of_a_lost_connection_counts_for_the_file_only():
    story = Story(READY).serve()
    (asked,) = of(BringIn, story.receive(Entries([entry(11)], 11)))
    story.lose()
    (subscribe,) = sent(story.subscribe())
    assert subscribe.cursor == 10
    assert story.bring_in(asked, 11, settled=4) == []
    assert (story.device.facts.cursor, story.device.facts.settled_nonce) == (11, 4)


# --- pushing ---------------------------------------------------------------------------------------------


def transactions(nonces, size=10):
    return [(nonce, b"hash", bytes(size), 0) for nonce in nonces]


def test_the_queue_is_sent_in_order_and_read_until_it_is_empty():
    story = Story(replace(READY, has_pending=True))
    (first,) = of(ReadOutbox, story.subscribe())
    assert first.after == 0
    effects = story.device.outbox_read(first, transactions([1, 2]))
    assert sent(effects) == [
        Push([PushedTransaction(1, b"hash", bytes(10), 0), PushedTransaction(2, b"hash", bytes(10), 0)])
    ]
    (second,) = of(ReadOutbox, effects)
    assert second.after == 2
    assert of(ReadOutbox, story.device.outbox_read(second, [])) == []
    assert story.device.state is NodeState.SYNCING, "sent is not yet accepted"


def test_a_commit_while_the_outbox_is_being_read_is_not_missed():
    story = Story(READY)
    (first,) = of(ReadOutbox, story.subscribe())
    assert story.device.queue_moved() == [], "one read at a time"
    (second,) = of(ReadOutbox, story.device.outbox_read(first, []))
    assert of(ReadOutbox, story.device.outbox_read(second, [])) == []


def test_own_transactions_come_back_as_entries_and_are_accepted():
    story = Story(READY).serve()
    (asked,) = of(ReadOutbox, story.device.queue_moved())
    story.device.outbox_read(asked, transactions([1]))
    (bring_in,) = of(BringIn, story.receive(Entries([entry(11, nonce=1)], 11)))
    effects = story.bring_in(bring_in, 11, accepted=[(1, 11)], settled=1)
    assert events(effects) == ["verdict"]
    assert sent(effects) == [Applied(11, 1, 1)]


@pytest.mark.parametrize(("count", "size"), [(1024, 1), (4, 1024 * 1024)], ids=["transactions", "bytes"])
def test_what_may_be_on_the_way_is_bounded(count, size):
    story = Story(READY)
    (asked,) = of(ReadOutbox, story.subscribe())
    assert asked.count_max == 1024
    full = story.device.outbox_read(asked, transactions(range(1, count + 1), size))
    assert of(ReadOutbox, full) == []
    assert story.device.queue_moved() == []
    (bring_in,) = of(BringIn, story.receive(Entries([entry(11, nonce=1)], 11)))
    (more,) = of(ReadOutbox, story.bring_in(bring_in, 11, accepted=[(1, 11)], settled=1, has_pending=True))
    assert more.after == count
    assert more.count_max == 1024 - (count - 1)


def test_after_a_lost_connection_everything_without_a_verdict_is_sent_again():
    story = Story(READY)
    (asked,) = of(ReadOutbox, story.subscribe())
    story.device.outbox_read(asked, transactions(range(1, 1025)))
    story.lose()
    (again,) = of(ReadOutbox, story.subscribe())
    assert (again.after, again.count_max) == (0, 1024)
    assert story.device.outbox_read(asked, transactions([1])) == [], "an answer of the lost connection"


def test_a_device_that_is_not_ready_sends_nothing():
    story = downloading()
    assert story.device.queue_moved() == []


def test_connections_are_told_apart():
    story = Story(READY)
    numbers = []
    for _ in range(3):
        (asked,) = of(ReadOutbox, story.subscribe())
        numbers.append(asked.connection)
        story.lose()
    assert all(one < two for one, two in itertools.pairwise(numbers))
