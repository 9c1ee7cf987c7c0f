"""A primary's side of one connection, as stories: what a device sends, what the session asks for and answers."""

import itertools
import json

import pytest

from octodb.errors import ProtocolError
from octodb.model.entries import AppendOutcome, LogEntry
from octodb.model.identities import AuthMode, NodeRecord, Role
from octodb.model.snapshots import SnapshotHeader, SnapshotRows, SnapshotTail
from octodb.model.transactions import Rejection
from octodb.runtime.device_info import new_node_seed
from octodb.sync.effects import (
    Admit,
    AdoptCopy,
    AppendPush,
    AskAuthorizer,
    CloseConnection,
    ConfirmSession,
    ConfirmVerdicts,
    FindNode,
    OpenSession,
    OpenSnapshot,
    ReadEntries,
    ReadHead,
    ReadSnapshot,
    Send,
)
from octodb.sync.primary import Decision, PrimaryFacts, PrimarySession, SessionPhase
from octodb.wire.handshake import adoption_text, handshake_text, sign
from octodb.wire.messages import (
    IS_COPY,
    KNOWS_COPIES,
    KNOWS_DOWNLOADING_AGAIN,
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

KEYS = new_node_seed()
RANDOM = b"s" * 32
SAID = '{"hostname":"phone","public_key":"somebody else\'s","type":"primary"}'
# what the device says of itself, with what is proved in the place of what it claims
INFO = json.dumps(
    {"hostname": "phone", "public_key": KEYS.public_key.hex(), "type": "secondary", "pubkey": KEYS.public_key.hex()}
)
NODE = NodeRecord(7, 3, Role.SECONDARY, KEYS.public_key, last_nonce=5)
WINDOW = 16  # messages on the way


class Story:
    """A session, its clock and the position the log has been told up to."""

    def __init__(self, auth=AuthMode.USER, public_key=KEYS.public_key, features=0):
        self.now = 100.0
        self.dispatched = 10
        facts = PrimaryFacts(b"p" * 32, b"epoch", auth, ({"name": "email"},))
        self.session = PrimarySession(facts, RANDOM, lambda: self.dispatched, self.now)
        self.hello = Hello(PROTOCOL_VERSION, public_key, b"r" * 32, b"database", b"presented", 0, features)

    def receive(self, message):
        return self.session.receive(message, self.now)

    def wait(self, seconds):
        self.now += seconds
        return self.session.tick(self.now)

    def prove(self, private_key=KEYS.private_key):
        (challenge,) = sent(self.receive(self.hello))
        return self.receive(Prove(sign(private_key, handshake_text(self.hello, challenge, SAID)), SAID))

    def subscribe(self, *, epoch=b"epoch", cursor=10):
        """Up to the question whether the token is current."""
        self.prove()
        self.session.node_found(NODE)
        self.session.session_opened(b"token", 10)
        (asked,) = self.receive(Subscribe(b"token", epoch, cursor, b"all", b"user", 4))
        return asked

    def serve(self):
        """Up to a live device that has everything up to 10."""
        asked = self.subscribe()
        assert self.session.session_confirmed(asked, True, True) == [ReadEntries(3, 10, 256 * 1024)]
        assert sent(self.session.entries_read([], 10)) == [Entries([], 10)]
        self.receive(Applied(10, 4, 1))
        assert self.session.live
        return self


def sent(effects):
    return [effect.message for effect in effects if isinstance(effect, Send)]


def closes(effects):
    """The code that a device is told before its connection is closed."""
    (report, close) = effects
    assert isinstance(close, CloseConnection)
    assert isinstance(report.message, ProblemReport)
    return report.message.code


def entry(seq, owner=3, origin=1, nonce=None):
    return LogEntry(seq, owner, origin, nonce, b"hash", b"chain %d" % seq, b"body %d" % seq)


# --- who is it -------------------------------------------------------------------------------------------


def test_the_happy_path_of_a_known_device():
    story = Story()
    assert sent(story.receive(story.hello)) == [
        Challenge(PROTOCOL_VERSION, RANDOM, b"p" * 32, b"epoch", "user", [{"name": "email"}])
    ]
    story = Story()
    assert story.prove() == [FindNode(KEYS.public_key)]
    assert story.session.node_found(NODE) == [OpenSession(7, b"presented", INFO)]
    assert sent(story.session.session_opened(b"token", 42)) == [Welcome(7, 3, b"token", 42, 0, 5)]
    asked = story.receive(Subscribe(b"token", b"epoch", 10, b"all", b"user", 4))
    assert asked == [ConfirmSession(7, 3, b"token", 4, b"epoch", 10, b"user", b"all")]
    assert story.session.session_confirmed(asked[0], True, True) == [ReadEntries(3, 10, 256 * 1024)]
    assert story.session.phase is SessionPhase.SERVING


def test_a_signature_of_another_key_ends_the_connection():
    story = Story()
    assert closes(story.prove(new_node_seed().private_key)) == "signature"
    assert story.receive(Ping(1.0)) == [], "nothing is heard any more"


def test_a_device_of_another_protocol_is_told_so():
    story = Story()
    effects = story.receive(Hello(99, KEYS.public_key, b"r" * 32, b"", b"", 0))
    assert closes(effects) == "version"
    assert "the device 99" in effects[0].message.reason


@pytest.mark.parametrize(("key", "random"), [(b"short", b"r" * 32), (b"k" * 32, b"short")])
def test_a_hello_of_the_wrong_lengths_is_refused(key, random):
    with pytest.raises(ProtocolError, match="wrong length"):
        Story().receive(Hello(PROTOCOL_VERSION, key, random, b"", b"", 0))


@pytest.mark.parametrize(
    "message",
    [
        Push([]),
        Login("x"),
        Subscribe(b"", b"", 0, b"", b"", 0),
        Applied(0, 0, 0),
        Ping(1.0),
        Prove(b"", "{}"),
        Entries([], 0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_nothing_but_a_hello_comes_first(message):
    with pytest.raises(ProtocolError, match="while greeting"):
        Story().receive(message)


def test_without_authorization_a_new_device_is_let_in():
    story = Story(AuthMode.NONE)
    story.prove()
    assert story.session.node_found(None) == [Admit(KEYS.public_key, 0, Role.SECONDARY, AuthMode.NONE, INFO)]
    assert story.session.node_found(NODE) == [OpenSession(7, b"presented", INFO)]


def test_a_new_node_waits_for_a_decision():
    story = Story(AuthMode.NODE)
    story.prove()
    assert story.session.node_found(None) == [
        Send(Unauthorized("decision")),
        AskAuthorizer("new_node", "", KEYS.public_key, INFO),
    ]
    admit = story.session.authorized(Decision("node"))
    assert admit == [Admit(KEYS.public_key, 0, Role.SECONDARY, AuthMode.NODE, INFO)]


def test_a_new_device_signs_in():
    story = Story()
    story.prove()
    assert story.session.node_found(None) == [Send(Unauthorized("login"))]
    assert story.receive(Login("wrong")) == [AskAuthorizer("user_login", "wrong", KEYS.public_key, INFO)]
    assert sent(story.session.authorized(Decision("denied", reason="no"))) == [Denied("denied", "no")]
    assert story.receive(Signup("right")) == [AskAuthorizer("user_signup", "right", KEYS.public_key, INFO)]
    assert story.session.authorized(Decision("user", 3)) == [
        Admit(KEYS.public_key, 3, Role.SECONDARY, AuthMode.USER, INFO)
    ]


def test_one_request_at_a_time():
    story = Story()
    story.prove()
    story.session.node_found(None)
    story.receive(Login("one"))
    with pytest.raises(ProtocolError, match="one sign-in at a time"):
        story.receive(Login("two"))


def test_an_authorizer_that_fails_is_no_refusal():
    story = Story()
    story.prove()
    story.session.node_found(None)
    story.receive(Login("x"))
    assert sent(story.session.authorized(Decision("error", reason="timeout"))) == [Denied("error", "timeout")]


def test_a_decision_that_comes_later_from_outside_lets_the_device_in():
    story = Story()
    story.prove()
    story.session.node_found(None)
    story.receive(Login("x"))
    assert sent(story.session.authorized(Decision("later"))) == [Unauthorized("decision")]
    assert story.session.node_found(NODE) == [OpenSession(7, b"presented", INFO)]


def test_a_request_that_was_put_off_can_still_be_refused_and_made_again():
    story = Story()
    story.prove()
    story.session.node_found(None)
    assert not story.session.awaits_decision, "nothing was asked yet"
    assert story.session.authorized(Decision("denied", reason="no")) == []
    story.receive(Login("x"))
    story.session.authorized(Decision("later"))
    assert story.session.awaits_decision
    assert sent(story.session.authorized(Decision("denied", reason="no"))) == [Denied("denied", "no")]
    assert story.session.authorized(Decision("denied", reason="no")) == [], "said once"
    assert story.receive(Login("y")) == [AskAuthorizer("user_login", "y", KEYS.public_key, INFO)]


def test_a_node_is_asked_about_again_when_the_authorization_logic_failed():
    story = Story(AuthMode.NODE)
    story.prove()
    story.session.node_found(None)
    assert sent(story.session.authorized(Decision("error", reason="x"))) == [Denied("error", "x")]
    asked = []
    for _ in range(70):
        story.receive(Ping(0))
        asked += story.wait(1)
    assert asked == [Send(Unauthorized("decision")), AskAuthorizer("new_node", "", KEYS.public_key, INFO)]
    story.session.authorized(Decision("denied", reason="no"))
    story.receive(Ping(0))
    assert story.wait(59) == [], "a no is a no"
    story.receive(Ping(0))
    assert story.wait(59) == []


def test_a_decision_for_a_connection_that_went_on_is_ignored():
    story = Story().serve()
    assert story.session.authorized(Decision("user", 9)) == []
    assert story.session.node_found(None) == []
    assert story.session.session_opened(b"x", 1) == []


def test_a_revoked_device_is_told_and_cut():
    story = Story()
    story.prove()
    revoked = NodeRecord(7, 3, Role.SECONDARY, KEYS.public_key, revoked=True)
    assert story.session.node_found(revoked) == [Send(Revoked("this device was revoked")), CloseConnection("revoked")]


def test_an_unknown_token_is_a_copy_of_the_file():
    story = Story()
    story.prove()
    story.session.node_found(NODE)
    assert closes(story.session.session_opened(b"", 10)) == "unknown_session"


def adopt(story, new=None, key=None):
    """Up to the question for a new identity."""
    new = new or new_node_seed()
    text = adoption_text(story.hello, story.session._challenge, new.public_key)
    return new, story.receive(Adopt(new.public_key, sign((key or new).private_key, text), [Claim(3, b"hash", 0)]))


def test_a_copy_that_knows_how_is_given_an_identity_of_its_own():
    story = Story(features=KNOWS_COPIES)
    story.prove()
    story.session.node_found(NODE)
    (copied,) = sent(story.session.session_opened(b"", 10))
    assert "a copy" in copied.reason
    new, effects = adopt(story)
    assert effects == [AdoptCopy(NODE, new.public_key, INFO, [Claim(3, b"hash", 0)])]
    record = NodeRecord(9, 3, Role.SECONDARY, new.public_key)
    assert sent(story.session.adopted(record, b"token", 12, [(3, 11)])) == [Adopted(9, 3, b"token", 12, [(3, 11)])]
    (asked,) = story.receive(Subscribe(b"token", b"epoch", 10, b"all", b"user", 4))
    assert asked.node_id == 9


def test_a_file_that_knows_itself_to_be_a_copy_is_not_let_in_under_its_old_name():
    story = Story(features=KNOWS_COPIES | IS_COPY)
    story.prove()
    assert isinstance(sent(story.session.node_found(NODE))[0], Copied)


def test_a_new_key_must_be_proved_and_be_new():
    story = Story(features=KNOWS_COPIES | IS_COPY)
    story.prove()
    story.session.node_found(NODE)
    _, effects = adopt(story, key=new_node_seed())
    assert closes(effects) == "signature"
    story = Story(features=KNOWS_COPIES | IS_COPY)
    story.prove()
    story.session.node_found(NODE)
    _, effects = adopt(story, new=KEYS)
    assert closes(effects) == "signature"


def test_a_key_that_is_another_nodes_cannot_be_taken():
    story = Story(features=KNOWS_COPIES | IS_COPY)
    story.prove()
    story.session.node_found(NODE)
    adopt(story)
    assert closes(story.session.adopted(None, b"", 0, [])) == "signature"


def test_a_token_that_is_not_current_any_more_ends_the_connection():
    story = Story()
    asked = story.subscribe()
    assert closes(story.session.session_confirmed(asked, False, True)) == "session"


def test_a_device_with_another_history_is_not_served():
    story = Story()
    asked = story.subscribe()
    assert closes(story.session.session_confirmed(asked, True, False)) == "history"


@pytest.mark.parametrize(("epoch", "matches"), [(b"epoch", False), (b"old epoch", True)])
def test_a_device_that_knows_how_downloads_again(epoch, matches):
    story = Story(features=KNOWS_DOWNLOADING_AGAIN)
    asked = story.subscribe(epoch=epoch)
    assert story.session.session_confirmed(asked, True, matches) == [OpenSnapshot(3, b"", 0)]


def test_a_download_goes_on_where_it_was_cut_off():
    story = Story(features=KNOWS_DOWNLOADING_AGAIN)
    story.prove()
    story.session.node_found(NODE)
    story.session.session_opened(b"token", 10)
    (asked,) = story.receive(Subscribe(b"token", b"", 0, b"", b"", 0, b"download", 4))
    assert story.session.session_confirmed(asked, True, False) == [OpenSnapshot(3, b"download", 4)]
    header = SnapshotHeader(8, b"epoch", b"all", b"user", 2, (), 99, b"download")
    first, read = story.session.snapshot_opened(header, 4)
    assert (first.message.token, first.message.parts, read) == (b"download", 4, ReadSnapshot(5))


def test_what_was_accepted_before_the_state_that_is_downloaded_is_told_by_a_verdict():
    story = Story(features=KNOWS_DOWNLOADING_AGAIN)
    asked = story.subscribe()
    story.session.session_confirmed(asked, True, False)
    early = [AppendOutcome(6, "accepted", 8), AppendOutcome(7, "accepted", 9)]
    assert story.session.appended(early) == [], "the position is not known yet"
    header = SnapshotHeader(8, b"epoch", b"all", b"user", 2, (), 99)
    assert Verdicts([Verdict(6, 8)]) in sent(story.session.snapshot_opened(header, 0))
    assert sent(story.session.appended([AppendOutcome(5, "accepted", 7)])) == [Verdicts([Verdict(5, 7)])]
    assert sent(story.session.appended([AppendOutcome(8, "accepted", 12)])) == [], "its entry will tell"
    elsewhere = AppendOutcome(9, "accepted", 13, elsewhere=True)
    assert sent(story.session.appended([elsewhere])) == [Verdicts([Verdict(9, 13)])]


# --- what counts before the token is confirmed -----------------------------------------------------------

PUSH = Push([PushedTransaction(6, b"hash", b"body")])


def test_nothing_is_pushed_before_subscribe():
    story = Story()
    story.prove()
    story.session.node_found(NODE)
    story.session.session_opened(b"token", 10)
    with pytest.raises(ProtocolError, match="unexpected Push while welcoming"):
        story.receive(PUSH)


def test_a_push_behind_subscribe_waits_until_the_token_is_confirmed():
    story = Story()
    asked = story.subscribe()
    assert story.receive(PUSH) == []
    assert story.session.session_confirmed(asked, True, True)[1:] == [AppendPush(7, 3, PUSH.transactions)]


def test_and_is_forgotten_when_it_is_not():
    story = Story()
    asked = story.subscribe()
    story.receive(PUSH)
    effects = story.session.session_confirmed(asked, False, True)
    assert not any(isinstance(effect, AppendPush) for effect in effects)


# --- the first download ----------------------------------------------------------------------------------


def test_a_snapshot_and_what_was_committed_meanwhile():
    story = Story()
    asked = story.subscribe(epoch=b"", cursor=0)
    assert story.session.session_confirmed(asked, True, False) == [OpenSnapshot(3, b"", 0)]
    header = SnapshotHeader(8, b"epoch", b"all", b"user", 2, ("CREATE TABLE t (a)",), 1)
    first, read = story.session.snapshot_opened(header, 0)
    assert first.message == SnapshotStart(8, b"epoch", b"all", b"user", 2, ["CREATE TABLE t (a)"], 1)
    assert read == ReadSnapshot(1)
    assert story.session.entries_committed([entry(9)], 9) == [], "not live yet: it will be read from the log"
    first, read = story.session.snapshot_read(SnapshotRows("t", ("a",), [[1]]))
    assert (first.message, read) == (SnapshotChunk("t", ["a"], [[1]]), ReadSnapshot(2))
    first, read = story.session.snapshot_read(SnapshotTail(("CREATE INDEX i ON t (a)",)))
    assert (first.message, read) == (SnapshotEnd(["CREATE INDEX i ON t (a)"]), ReadEntries(3, 8, 256 * 1024))
    assert [one.seq for one in sent(story.session.entries_read([entry(9)], 10))[0].entries] == [9]
    assert story.session.live


def test_a_slow_device_stops_its_download():
    story = Story()
    asked = story.subscribe(epoch=b"", cursor=0)
    story.session.session_confirmed(asked, True, False)
    story.session.snapshot_opened(SnapshotHeader(8, b"epoch", b"all", b"user", 2, (), 99), 0)
    rows = SnapshotRows("t", ("a",), [[1]])
    for number in range(2, WINDOW):
        assert ReadSnapshot(number) in story.session.snapshot_read(rows)
    assert ReadSnapshot(WINDOW) not in story.session.snapshot_read(rows)
    assert story.receive(Applied(0, 0, 1)) == [ReadSnapshot(WINDOW)]


# --- entries ---------------------------------------------------------------------------------------------


def test_a_live_device_is_told_of_its_own_and_everybodys_entries_only():
    story = Story().serve()
    batch = [entry(11, 3), entry(12, 4), entry(13, "*"), entry(14, 5)]
    (message,) = sent(story.session.entries_committed(batch, 14))
    assert [(one.seq, one.everybody) for one in message.entries] == [(11, False), (13, True)]
    assert message.through == 14


def test_rows_of_others_never_leave_even_when_the_log_gives_them():
    story = Story()
    story.session.session_confirmed(story.subscribe(), True, True)
    (message,) = sent(story.session.entries_read([entry(11, 4), entry(11, 3), entry(12, "*")], 12))
    assert [one.body for one in message.entries] == [b"body 11", b"body 12"]


def test_others_entries_send_nothing_but_move_the_position():
    story = Story().serve()
    assert story.session.entries_committed([entry(11, 4)], 11) == []
    assert story.session.sent_seq == 11


def test_a_devices_own_transaction_comes_back_without_its_bytes():
    story = Story().serve()
    mine, sisters, admins = entry(11, 3, 7, 6), entry(12, 3, 8, 2), entry(13, 3, 7)
    (message,) = sent(story.session.entries_committed([mine, sisters, admins], 13))
    assert message.entries == [
        WireEntry(11, False, 6, b"chain 11", b""),
        WireEntry(12, False, 0, b"chain 12", b"body 12"),
        WireEntry(13, False, 0, b"chain 13", b"body 13"),
    ]


def test_what_was_sent_already_is_not_sent_twice():
    story = Story().serve()
    story.session.entries_committed([entry(11)], 11)
    (message,) = sent(story.session.entries_committed([entry(11), entry(12)], 12))
    assert [one.seq for one in message.entries] == [12]


def test_a_catch_up_reads_on_until_it_has_everything():
    story = Story()
    story.dispatched = 30
    story.session.session_confirmed(story.subscribe(), True, True)
    effects = story.session.entries_read([entry(11)], 20)
    assert effects[1:] == [ReadEntries(3, 20, 256 * 1024)]
    assert not story.session.live
    assert story.session.entries_read([entry(21)], 30)[1:] == []
    assert story.session.live


def test_a_slow_device_is_left_behind_and_catches_up_from_the_log():
    story = Story().serve()
    for seq in range(11, 11 + WINDOW):
        assert len(story.session.entries_committed([entry(seq)], seq)) == 1
    late = 11 + WINDOW
    story.dispatched = late
    assert story.session.entries_committed([entry(late)], late) == []
    assert not story.session.live
    assert sent(story.receive(Ping(1.0))) == [Pong(1.0, -1)], "it does not claim that this device has everything"
    assert story.receive(Applied(12, 0, 2)) == [ReadEntries(3, late - 1, 256 * 1024)]
    story.session.entries_read([entry(late)], late)
    assert story.session.live


def test_a_catch_up_is_held_by_the_window_too():
    story = Story()
    story.dispatched = 1000
    story.session.session_confirmed(story.subscribe(), True, True)
    positions = itertools.count(11)
    for _ in range(WINDOW - 1):
        assert len(story.session.entries_read([entry(seq := next(positions))], seq)) == 2
    assert len(story.session.entries_read([entry(seq := next(positions))], seq)) == 1
    assert story.receive(Applied(0, 0, 0)) == []
    assert story.receive(Applied(0, 0, 1)) == [ReadEntries(3, seq, 256 * 1024)]


@pytest.mark.parametrize("count", [1, -1])
def test_more_acknowledged_than_sent_is_refused(count):
    story = Story().serve()
    with pytest.raises(ProtocolError, match="more messages acknowledged than sent"):
        story.receive(Applied(10, 0, count))


def test_a_ping_of_a_live_device_tells_where_the_log_is():
    story = Story().serve()
    story.dispatched = 12
    assert sent(story.receive(Ping(2.5))) == [Pong(2.5, 12)]


def test_the_head_is_told_after_the_log_was_read_and_its_entries_were_sent():
    story = Story().serve()
    assert story.receive(AskHead(2.5)) == [ReadHead()]
    story.dispatched = 11
    assert [type(message) for message in sent(story.session.entries_committed([entry(11)], 11))] == [Entries]
    assert story.session.head_read() == [Send(Head(2.5, 11))]
    assert story.session.head_read() == [], "each question is answered once"


def test_a_device_that_is_behind_hears_of_the_head_when_it_has_caught_up():
    story = Story()
    story.dispatched = 30
    story.session.session_confirmed(story.subscribe(), True, True)
    assert story.receive(AskHead(1.5)) == []
    (behind,) = sent(story.session.entries_read([entry(11)], 20))
    assert behind.more
    assert story.receive(AskHead(2.5)) == []
    effects = story.session.entries_read([entry(21)], 30)
    assert not sent(effects)[0].more
    assert effects[1:] == [ReadHead()]
    assert story.session.head_read() == [Send(Head(2.5, 30))], "the newest question; it answers those before it"


# --- pushes ----------------------------------------------------------------------------------------------


def test_pushes_are_judged_and_refusals_told():
    story = Story().serve()
    assert story.receive(PUSH) == [AppendPush(7, 3, PUSH.transactions)]
    reason = Rejection("constraint", "UNIQUE constraint failed: t.a", "t", ("a",))
    outcomes = [AppendOutcome(6, "accepted", 11), AppendOutcome(7, "rejected", rejection=reason)]
    (message,) = sent(story.session.appended(outcomes))
    assert message == Verdicts([Verdict(7, 0, "constraint", "UNIQUE constraint failed: t.a", "t", ["a"])])


def test_acceptances_are_told_by_their_entries_alone():
    story = Story().serve()
    assert story.session.appended([AppendOutcome(6, "accepted", 11)]) == []


def test_an_empty_push_is_nothing():
    assert Story().serve().receive(Push([])) == []


@pytest.mark.parametrize("kind", ["fork", "gap", "corrupt"])
def test_a_push_that_cannot_be_judged_ends_the_connection_after_the_verdicts_before_it(kind):
    story = Story().serve()
    refused = AppendOutcome(6, "rejected", rejection=Rejection("schema", "gone", "t"))
    verdicts, *close = story.session.appended([refused, AppendOutcome(7, kind)])
    assert [one.nonce for one in verdicts.message.verdicts] == [6]
    assert closes(close) == kind


def test_a_batch_that_was_abandoned_sends_the_device_away_to_come_back():
    story = Story().serve()
    assert closes(story.session.append_failed("disk full")) == "retry"
    assert story.session.append_failed("disk full") == []


def test_verdicts_that_are_stored_on_the_device_are_forgotten_now_and_then():
    story = Story().serve()
    story.session.appended([AppendOutcome(6, "rejected", rejection=Rejection("schema", "gone", "t"))])
    story.receive(Applied(10, 6, 0))
    story.receive(Applied(10, 8, 0))
    confirmed = [effect for _ in range(10) for effect in story.wait(1)]
    assert confirmed == [ConfirmVerdicts(7, 8)], "once for both"


def test_acceptances_are_forgotten_by_the_thousand():
    """A device that stays connected for months would have one kept for each transaction that is cut off the log."""
    story = Story().serve()
    story.receive(Applied(10, 1002, 0))
    assert [effect for _ in range(10) for effect in story.wait(1)] == []
    story.receive(Applied(10, 1004, 0))
    assert [effect for _ in range(10) for effect in story.wait(1)] == [ConfirmVerdicts(7, 1004)]


def test_they_are_forgotten_when_the_connection_ends_too():
    story = Story().serve()
    story.session.appended([AppendOutcome(6, "rejected", rejection=Rejection("schema", "gone", "t"))])
    story.receive(Applied(10, 6, 0))
    assert story.session.closed(story.now) == [ConfirmVerdicts(7, 6)]
    assert story.session.closed(story.now) == []


# --- time ------------------------------------------------------------------------------------------------


def test_a_stranger_who_proves_nothing_is_cut():
    story = Story()
    story.receive(story.hello)
    assert story.wait(19) == []
    assert [type(effect) for effect in story.wait(2)][-1] is CloseConnection


def test_a_silent_device_is_cut():
    story = Story().serve()
    assert story.wait(59) == []
    story.receive(Ping(1.0))
    assert story.wait(59) == []
    assert [type(effect) for effect in story.wait(2)][-1] is CloseConnection
    assert story.wait(100) == []


def test_a_device_that_reports_a_problem_is_let_go():
    assert Story().serve().receive(ProblemReport("x", "I am broken")) == [CloseConnection("I am broken")]


def test_nothing_is_sent_to_a_closed_connection():
    story = Story().serve()
    story.session.closed(story.now)
    assert story.session.entries_committed([entry(11)], 11) == []
    assert story.session.entries_read([entry(11)], 11) == []
    assert story.session.appended([AppendOutcome(1, "fork")]) == []
    assert story.session.snapshot_read(SnapshotTail(())) == []
