"""The verdict on what devices push: accepted, refused for a reason, told again, or no verdict at all."""

import random

import apsw
import pytest

from octodb.log.embedded_log import EmbeddedLog, PushedBody, PushRequest
from octodb.model.transactions import CHAIN_START, Op, body_hash, chain_hash, encode_body
from octodb.storage.meta import LogTables
from tests.properties.offline_world import clock


def kinds(outcomes):
    return [(one.kind, one.rejection.code if one.rejection else None) for one in outcomes]


def test_an_accepted_transaction_takes_effect_and_has_a_position(pushing):
    head = pushing.primary.log.head()
    (outcome,) = pushing.push(pushing.body("UPDATE item SET size = 7 WHERE id = 1"))
    assert (outcome.kind, outcome.seq) == ("accepted", head + 1)
    assert pushing.primary.rows("SELECT size FROM item WHERE id = 1") == [(7,)]
    assert pushing.primary.log.head() == head + 1


def test_a_refused_transaction_leaves_nothing_and_does_not_block(pushing):
    before = pushing.primary.rows("SELECT * FROM item")
    bad = pushing.body("INSERT INTO item VALUES (20, 'new', 1, 2); INSERT INTO item VALUES (21, 'big', 99, 2)")
    pushing.primary.run("INSERT INTO item (id, name, row_owner) VALUES (22, 'big', '*')")
    good = pushing.body("UPDATE item SET name = 'renamed' WHERE id = 1")
    outcomes = pushing.push(bad, good)
    assert kinds(outcomes) == [("rejected", "constraint"), ("accepted", None)]
    assert (outcomes[0].rejection.table, outcomes[0].rejection.columns) == ("item", ("name",))
    assert len(pushing.primary.rows("SELECT * FROM item")) == len(before) + 1


def test_what_was_judged_is_told_again_and_not_done_again(pushing):
    good = pushing.body("INSERT INTO item (id, name, row_owner) VALUES (20, 'new', 2)")
    bad = pushing.body("UPDATE item SET size = 0, row_owner = 2 WHERE id = 3", honest=False)
    first = pushing.push(good, bad)
    head = pushing.primary.log.head()
    pushing.primary.reopen()
    assert pushing.push(good, bad, first=1) == first
    assert pushing.primary.log.head() == head


def test_another_body_under_a_used_number_is_a_fork(pushing):
    one, two = (pushing.body(f"UPDATE item SET size = {n} WHERE id = 1") for n in (1, 2))
    pushing.push(one)
    assert kinds(pushing.push(two, first=1)) == [("fork", None)]
    assert pushing.primary.rows("SELECT size FROM item WHERE id = 1") == [(1,)]


@pytest.mark.parametrize("nonce", [0, -1, -(1 << 62)])
def test_numbers_begin_at_one(pushing, nonce):
    assert kinds(pushing.push(pushing.body("DELETE FROM item WHERE id = 1"), first=nonce)) == [("fork", None)]
    assert pushing.primary.rows("SELECT id FROM item WHERE id = 1") == [(1,)]


def test_a_gap_is_no_verdict_and_ends_the_push(pushing):
    body = pushing.body("UPDATE item SET size = 1 WHERE id = 1")
    assert kinds(pushing.push(body, body, first=2)) == [("gap", None)]
    assert kinds(pushing.push(body)) == [("accepted", None)]


def test_a_body_that_does_not_fit_its_hash_is_no_verdict(pushing):
    body = pushing.body("UPDATE item SET size = 1 WHERE id = 1")
    request = PushRequest(pushing.device.record.node_id, 2, [PushedBody(1, body_hash(b"other"), body)])
    (outcome,), _ = pushing.primary.log.append([request])
    assert kinds(outcome.outcomes) == [("corrupt", None)]
    assert kinds(pushing.push(body)) == [("accepted", None)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"[" * 10000,
        b"\x91" * 10000,
        encode_body(0, [Op(0, b"nonsense")]),
        encode_body(0, [Op(0, 7)]),
        encode_body(0, [Op(0, None)]),
    ],
)
def test_what_cannot_be_read_is_refused_as_malformed(pushing, body):
    assert kinds(pushing.push(body)) == [("rejected", "malformed")]


def test_a_device_cannot_change_the_schema(pushing):
    assert kinds(pushing.push(encode_body(0, [Op(0, "DROP TABLE item")]))) == [("rejected", "schema")]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("INSERT INTO item VALUES (50, 'q', 1, 5)", "ownership"),
        ("INSERT INTO item VALUES (50, 'q', 1, '*')", "ownership"),
        ("INSERT INTO item VALUES (50, 'q', 1, NULL)", "ownership"),
        ("UPDATE item SET row_owner = 2 WHERE id = 3", "ownership"),
        ("UPDATE item SET row_owner = '*' WHERE id = 1", "ownership"),
        ("UPDATE item SET row_owner = 2 WHERE id = 4", "ownership"),
        ("UPDATE item SET size = 9 WHERE id = 3", "ownership"),  # no owner in the change
        ("DELETE FROM item WHERE id = 2", "ownership"),
        ("DELETE FROM item WHERE id = 4", "ownership"),
        ("INSERT INTO private_note VALUES (1, 'x', 2)", "ownership"),
        ("INSERT INTO setting VALUES ('size', 1)", "ownership"),
        ("UPDATE _octodb_meta SET value = 'none' WHERE key = 'auth'", "schema"),
        ("DELETE FROM _octodb_nodes", "schema"),
        ("INSERT INTO item VALUES (3, 'taken', 1, 2)", "constraint"),
        ("INSERT INTO item VALUES (50, 'q', 1000, 2)", "constraint"),
        ("INSERT INTO part VALUES (5, 'e', 77, 2)", "constraint"),  # no such parent
        ("INSERT INTO part VALUES (5, 'e', 3, 2)", "constraint"),  # a parent that this device cannot have
    ],
)
def test_forged_changes_are_refused(pushing, sql, code):
    before = pushing.rows_of_others()
    prepare = "PRAGMA ignore_check_constraints = ON; DELETE FROM item WHERE id = 3 AND " + str("VALUES (3" in sql)
    assert kinds(pushing.push(pushing.body(sql, prepare=prepare, honest=False))) == [("rejected", code)]
    assert pushing.rows_of_others() == before


@pytest.mark.parametrize("claim", ["UPDATE item SET size = 9 WHERE id = 3", "DELETE FROM item WHERE id = 3"])
def test_a_false_claim_of_ownership_finds_no_row(pushing, claim):
    """What counts is whose the row is now, not what the changeset says of it."""
    before = pushing.rows_of_others()
    changeset = pushing.recorded(claim)
    builder = apsw.ChangesetBuilder()
    builder.schema(pushing.primary.engine, "main")
    for change in apsw.Changeset.iter(changeset):
        old = (*change.old[:3], 2)
        if change.op == "DELETE":
            builder.add_delete("item", False, old)
        else:
            builder.add_update("item", False, old, (*change.new[:3], 2))
    outcomes = pushing.push(encode_body(pushing.primary.log.head(), [Op(0, builder.output())]))
    assert kinds(outcomes) == [("accepted", None)]  # of a row that is not there: silently nothing
    assert pushing.rows_of_others() == before


def test_a_reason_holds_no_value_of_another_row(pushing):
    pushing.primary.run("INSERT INTO item (name, size, row_owner) VALUES ('secret', 42, 5)")
    body = pushing.body("INSERT INTO item VALUES (50, 'secret', 1, 2)", prepare="DELETE FROM item WHERE size = 42")
    (outcome,) = pushing.push(body)
    assert outcome.rejection.message == "UNIQUE constraint failed: item.name"


def test_a_body_made_before_a_column_was_renamed_does_not_fit(pushing):
    body = pushing.body("UPDATE item SET size = 1 WHERE id = 1")
    pushing.primary.run("ALTER TABLE item RENAME COLUMN size TO length")
    assert kinds(pushing.push(body)) == [("rejected", "schema")]


def test_a_body_made_before_a_column_was_added_fits(pushing):
    body = pushing.body("INSERT INTO item VALUES (20, 'new', 1, 2)")
    pushing.primary.run("ALTER TABLE item ADD COLUMN colour DEFAULT 'blue'")
    assert kinds(pushing.push(body)) == [("accepted", None)]
    assert pushing.primary.rows("SELECT * FROM item WHERE id = 20") == [(20, "new", 1, 2, "blue")]


def test_a_parent_cannot_leave_children_behind(pushing):
    assert kinds(pushing.push(pushing.body("DELETE FROM item WHERE id = 1"))) == [("rejected", "constraint")]
    both = pushing.body("DELETE FROM item WHERE id = 1; DELETE FROM part WHERE item = 1")
    assert kinds(pushing.push(both)) == [("accepted", None)]


def test_parents_and_children_may_come_in_any_order(pushing):
    body = pushing.body("INSERT INTO part VALUES (5, 'e', 60, 2); INSERT INTO item VALUES (60, 'p', 1, 2)")
    assert kinds(pushing.push(body)) == [("accepted", None)]


@pytest.mark.parametrize("broken", [b"item", b"name"])
def test_text_that_is_not_utf8_is_refused_as_malformed(pushing, broken):
    changeset = pushing.recorded("INSERT INTO item VALUES (50, 'name', 1, 2)").replace(broken, b"\xff\xfe\xff\xfe")
    assert kinds(pushing.push(encode_body(pushing.primary.log.head(), [Op(0, changeset)]))) == [
        ("rejected", "malformed")
    ]


def test_damaged_changesets_get_a_verdict_and_touch_nobody_elses_rows(pushing):
    """Whatever a device sends is judged: an exception here would hold up all devices for ever."""
    before = pushing.rows_of_others()
    samples = [
        pushing.recorded(sql, as_patchset=patchset)
        for patchset in (False, True)
        for sql in (
            "INSERT INTO item VALUES (50, '50', 1, 2), (51, 'b', 1.5, 2)",
            "UPDATE item SET name = 'n', size = 8 WHERE id = 1",
            "DELETE FROM part WHERE item = 1",
            "UPDATE item SET size = 9 WHERE id = 3",
        )
    ]
    chance = random.Random(1)
    for _ in range(1500):
        damaged = bytearray(chance.choice(samples))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(damaged))
            # only ASCII, so that no text stops being UTF-8
            damaged[place : place + chance.choice([0, 1, 1, 2])] = bytes([chance.choice([0, 1, 2, 3, 4, 5, 9, 18, 50])])
        (outcome,) = pushing.push(encode_body(1 << 40, [Op(0, bytes(damaged))]))
        assert outcome.kind in {"accepted", "rejected"}
    assert pushing.rows_of_others() == before


def test_a_refused_row_may_have_any_key(pushing):
    """What is remembered of a refused transaction must not end the batch: every device would wait for ever."""
    pushing.primary.run("CREATE TABLE measure (at REAL PRIMARY KEY NOT NULL, name CHECK (name <> 'bad'), row_owner)")
    for at in ("1e300", "-1e300", "9e999", "9223372036854775808.0", "2.0"):
        bad = pushing.body(
            f"PRAGMA ignore_check_constraints = ON; INSERT INTO measure VALUES ({at}, 'bad', 2)", honest=False
        )
        change = pushing.body("UPDATE measure SET name = 'x'", prepare=f"INSERT INTO measure VALUES ({at}, 'y', 2)")
        outcomes = kinds(pushing.push(bad, change, knew_rejected=0))
        assert outcomes == [("rejected", "constraint"), ("rejected", "dependent")], at


def test_refusals_are_read_once_and_not_in_every_batch(pushing, monkeypatch):
    """A queue of which much is refused would cost its square, with the write lock held."""
    reads = []
    refused = LogTables.refused
    monkeypatch.setattr(LogTables, "refused", lambda *args: reads.append(args) or refused(*args))

    def bad(number):
        return pushing.body(
            f"PRAGMA ignore_check_constraints = ON; INSERT INTO item VALUES ({number}, '{number}', 200, 2)",
            honest=False,
        )

    def change(number):
        return pushing.body(
            "UPDATE item SET size = 5", prepare=f"DELETE FROM item; INSERT INTO item VALUES ({number}, 'x', 0, 2)"
        )

    def pushed(*bodies, knew=0):
        return [code or kind for kind, code in kinds(pushing.push(*bodies, knew_rejected=knew))]

    assert pushed(bad(20)) == ["constraint"]  # 1
    assert pushed(bad(21), change(20)) == ["constraint", "dependent"]
    assert pushed(change(20), change(21), change(1)) == ["dependent", "dependent", "accepted"]
    assert pushed(change(20), knew=1) == ["accepted"]
    assert pushed(change(21), knew=1) == ["dependent"]
    assert not reads, "they are all of this process"
    LogTables(pushing.primary.engine).forget_verdicts(pushing.device.record.node_id, 2)
    assert pushed(change(21)) == ["accepted"], "nothing that waits was made without knowing of it"


def test_a_refusal_that_was_rolled_back_is_not_remembered(pushing, monkeypatch):
    made = pushing.body("INSERT INTO item VALUES (20, 'mine', 0, 2)", prepare="DELETE FROM item")  # it is taken
    change = pushing.body(
        "UPDATE item SET size = 5", prepare="DELETE FROM item; INSERT INTO item VALUES (20, 'x', 0, 2)"
    )

    def full(*_):
        raise apsw.FullError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("octodb.log.embedded_log._Batch.store_nonces", full)
        with pytest.raises(apsw.FullError):
            pushing.push(made, first=1, knew_rejected=0)
    pushing.primary.run("DELETE FROM item WHERE id = 1")  # and is free now
    assert kinds(pushing.push(made, change, first=1, knew_rejected=0)) == [("accepted", None)] * 2


def test_a_body_that_no_message_to_other_devices_could_carry_is_refused(pushing):
    large = pushing.body("INSERT INTO item VALUES (20, zeroblob(67200000), 0, 2)")
    assert kinds(pushing.push(large)) == [("rejected", "malformed")]


def test_an_error_abandons_the_whole_batch(pushing, monkeypatch):
    """Disk full, busy, interrupted: no verdict, nothing stored; the devices send again (design.md §4.5)."""
    body = pushing.body("UPDATE item SET size = 5 WHERE id = 1")

    def full(*_):
        raise apsw.FullError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("octodb.log.embedded_log._Batch.store_nonces", full)
        with pytest.raises(apsw.FullError):
            pushing.push(body, first=1)
    assert pushing.primary.rows("SELECT size FROM item WHERE id = 1") == [(0,)]
    assert kinds(pushing.push(body, first=1)) == [("accepted", None)]


# --- reading -----------------------------------------------------------------------------------------------


def test_a_user_reads_its_own_stream_and_everybodys(pushing):
    primary = pushing.primary
    after = primary.log.head()
    primary.run("INSERT INTO item (name, row_owner) VALUES ('a', 2), ('b', '*'), ('c', 5)")
    primary.run("INSERT INTO item (name, row_owner) VALUES ('d', 5)")
    entries, through = primary.log.read_streams(2, after, 1 << 20)
    assert {(entry.seq, entry.owner) for entry in entries} == {(after + 1, 2), (after + 1, "*")}
    assert through == after + 2


def test_parts_of_one_position_are_never_parted(pushing):
    primary = pushing.primary
    after = primary.log.head()
    for number in range(3):
        primary.run(f"INSERT INTO item (name, row_owner) VALUES ('a{number}', 2), ('b{number}', '*')")
    entries, through = primary.log.read_streams(2, after, 1)
    assert [entry.seq for entry in entries] == [after + 1, after + 1]
    assert through == after + 1


def test_running_hashes_tell_one_history_from_another(pushing):
    primary = pushing.primary
    cursor = pushing.device.store.cursor()
    assert primary.log.cursor_matches(2, cursor.seq, cursor.chain_user, cursor.chain_all)
    assert not primary.log.cursor_matches(2, cursor.seq + 1, cursor.chain_user, cursor.chain_all)
    assert not primary.log.cursor_matches(2, cursor.seq, CHAIN_START, cursor.chain_all)
    assert not primary.log.cursor_matches(2, cursor.seq, cursor.chain_user, CHAIN_START)
    pushing.push(pushing.body("UPDATE item SET size = 1 WHERE id = 1"))
    assert primary.log.cursor_matches(2, cursor.seq, cursor.chain_user, cursor.chain_all)
    (entry,), through = primary.log.read_streams(2, cursor.seq, 1 << 20)
    assert entry.chain == chain_hash(cursor.chain_user, entry.seq, body_hash(entry.body))
    assert primary.log.cursor_matches(2, through, entry.chain, cursor.chain_all)


def test_another_connection_sees_what_was_committed(pushing):
    seen = pushing.primary.log.last_id()
    pushing.push(pushing.body("UPDATE item SET size = 1 WHERE id = 1"))
    other = EmbeddedLog(pushing.primary.engine, clock)
    assert [(entry.owner, entry.nonce) for _, entry in other.read_after_id(seen)] == [(2, 1)]


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for kind in ("insert", "update", "delete") for key in (1.0, b"1", "one", 1.5, 1 << 62)]
    + [("insert", "1"), ("update", "1"), ("delete", "1")],
)
def test_a_key_of_another_type_gets_a_verdict(pushing, kind, key):
    before = pushing.rows_of_others()
    pushing.primary.engine.execute("DELETE FROM part WHERE row_owner = 2")
    builder = apsw.ChangesetBuilder()
    builder.schema(pushing.primary.engine, "main")
    if kind == "insert":
        builder.add_insert("item", False, (key, "new", 0, 2))
    elif kind == "update":
        same = apsw.no_change
        builder.add_update("item", False, (key, "mine", same, 2), (same, "renamed", same, 2))
    else:
        builder.add_delete("item", False, (key, "mine", 0, 2))
    (outcome,) = pushing.push(encode_body(pushing.primary.log.head(), [Op(0, builder.output())]))
    assert outcome.kind in {"accepted", "rejected"}
    assert pushing.rows_of_others() == before
