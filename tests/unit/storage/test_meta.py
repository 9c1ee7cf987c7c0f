"""The tables of octodb itself: counters that never go back, the queue, the dead letters, the log and the nodes."""

import apsw
import pytest

from octodb.errors import ConfigError
from octodb.model.entries import LogEntry
from octodb.model.identities import FORMAT_NUMBER, NodeRecord, Role
from octodb.model.transactions import Rejection
from octodb.storage.meta import LogTables, Meta, NodeTable, Outbox, create_meta_tables, is_node_file

LOW, HIGH = 7 << 32 | 1, 7 << 32 | 0xFFFF_FFFF


@pytest.fixture
def db():
    connection = apsw.Connection(":memory:")
    for role in Role:
        create_meta_tables(connection, role)
    yield connection
    connection.close()


def test_what_is_a_node_file(db):
    assert is_node_file(db)
    plain = apsw.Connection(":memory:")
    assert not is_node_file(plain)
    plain.close()


def test_making_the_tables_again_changes_nothing(db):
    Meta(db).set(ready=1)
    create_meta_tables(db, Role.SECONDARY)
    assert Meta(db).get("ready") == 1


def test_values_keep_their_type(db):
    Meta(db).set(a=b"\0\xff", b=1, c="x", d=None, e=1.5)
    assert Meta(db).get_all() == {"a": b"\0\xff", "b": 1, "c": "x", "d": None, "e": 1.5}
    assert Meta(db).get("missing", 7) == 7


@pytest.mark.parametrize("found", [FORMAT_NUMBER + 1, 0])
def test_a_file_of_another_format_is_named(db, found):
    Meta(db).set(format=found)
    with pytest.raises(ConfigError, match=f"has format {found}"):
        Meta(db).check_format()


# --- ids -------------------------------------------------------------------------------------------------

HIGHEST = "SELECT max(id) FROM t WHERE id BETWEEN ? AND ?"


def test_row_ids_begin_at_the_first_of_the_range(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (9 << 32)")
    assert Meta(db).last_row_id("t", LOW, HIGH, HIGHEST) == LOW - 1


def test_row_ids_go_on_behind_the_highest_that_is_or_was(db):
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    db.execute("INSERT INTO t VALUES (?)", (LOW + 5,))
    assert Meta(db).last_row_id("t", LOW, HIGH, HIGHEST) == LOW + 5
    Meta(db).keep_row_id("t", LOW + 9)
    Meta(db).keep_row_id("t", LOW + 8)
    assert Meta(db).last_row_id("t", LOW, HIGH, HIGHEST) == LOW + 9


def test_identities_are_never_given_twice(db):
    meta = Meta(db)
    assert [meta.next_identity() for _ in range(3)] == [2, 3, 4]
    assert meta.next_identity(wanted=50) == 50
    assert meta.next_identity() == 51
    assert meta.next_identity(wanted=3) == 3
    assert meta.next_identity() == 52


# --- the queue -------------------------------------------------------------------------------------------


def add(outbox, body, now=1.0):
    nonce = outbox.last_nonce() + 1
    db = outbox._db
    db.execute(
        "INSERT INTO _octodb_outbox(nonce, body, hash, made_at) VALUES (?, ?, ?, ?)", (nonce, body, b"h" + body, now)
    )
    return nonce


def test_an_empty_queue(db):
    outbox = Outbox(db)
    assert (outbox.last_nonce(), outbox.oldest(), outbox.count(), outbox.nonces()) == (0, None, 0, [])
    assert outbox.verdict_of(1) is None


def test_numbers_go_on_when_the_queue_is_empty_again(db):
    outbox = Outbox(db)
    for body in (b"a", b"b", b"c"):
        add(outbox, body)
    outbox.accept(1, 10)
    outbox.reject(2, Rejection("constraint", "UNIQUE", "t", ("a", "b")), 5.0, 2)
    assert (outbox.last_nonce(), outbox.oldest(), outbox.count()) == (3, (3, 1.0), 1)
    outbox.accept(3, 11)
    assert (outbox.last_nonce(), outbox.oldest(), outbox.count()) == (3, None, 0)
    assert [outbox.verdict_of(nonce) for nonce in range(5)] == [None, "accepted", "rejected", "accepted", None]


def test_a_dead_letter_keeps_its_reason(db):
    outbox = Outbox(db)
    add(outbox, b"body")
    outbox.reject(1, Rejection("constraint", "UNIQUE", "t", ("a", "b")), 5.0, 2)
    (letter,) = outbox.rejected()
    assert letter.rejection == Rejection("constraint", "UNIQUE", "t", ("a", "b"))
    assert (letter.nonce, letter.body, letter.made_at, letter.rejected_at, letter.kept_local) == (
        1,
        b"body",
        1.0,
        5.0,
        2,
    )


def test_what_is_read_to_send_is_bounded_but_never_nothing(db):
    outbox = Outbox(db)
    for size in (5, 5, 5):
        add(outbox, bytes(size))
    assert [row[0] for row in outbox.read_to_send(0, 10, 100)] == [1, 2, 3]
    assert [row[0] for row in outbox.read_to_send(0, 2, 100)] == [1, 2]
    assert [row[0] for row in outbox.read_to_send(0, 10, 10)] == [1, 2]
    assert [row[0] for row in outbox.read_to_send(0, 10, 1)] == [1]
    assert [row[0] for row in outbox.read_to_send(2, 10, 1)] == [3]
    assert outbox.read_to_send(3, 10, 1) == []


def test_accepted_bodies_are_kept_for_a_while(db):
    outbox = Outbox(db)
    for _ in range(Outbox.SENT_KEPT + 2):
        outbox.accept(add(outbox, b"x"), 1)
    kept = [row[0] for row in db.execute("SELECT nonce FROM _octodb_sent ORDER BY nonce")]
    assert (kept[0], kept[-1], len(kept)) == (3, Outbox.SENT_KEPT + 2, Outbox.SENT_KEPT)


# --- the log ---------------------------------------------------------------------------------------------


def entry(seq, owner, *, origin=1, nonce=None, size=1):
    return LogEntry(seq, owner, origin, nonce, b"hash", b"chain %d" % seq, bytes(size))


def test_an_empty_log(db):
    log = LogTables(db)
    assert (log.head(), log.last_id(), log.chain("*"), log.read_streams((3, "*"), 0, 100)) == (0, 0, None, ([], True))


def test_streams_of_two_owners_are_read_in_order_of_position(db):
    log = LogTables(db)
    for one in (entry(1, 3), entry(2, 4), entry(3, "*"), entry(3, 3), entry(4, 3)):
        log.append(one, 1.0)
    found, complete = log.read_streams((3, "*"), 0, 100)
    assert ([one.seq for one in found], complete) == ([1, 3, 3, 4], True)
    assert {one.owner for one in found} == {3, "*"}
    assert [one.seq for one in log.read_streams((4, "*"), 2, 100)[0]] == [3]


def test_a_position_is_never_cut_in_two(db):
    log = LogTables(db)
    for one in (entry(1, 3, size=50), entry(1, "*", size=50), entry(2, 3, size=50)):
        log.append(one, 1.0)
    found, complete = log.read_streams((3, "*"), 0, 10)
    assert ([one.seq for one in found], complete) == ([1, 1], False)


def test_running_hashes_up_to_a_position(db):
    log = LogTables(db)
    for one in (entry(1, 3), entry(2, "*"), entry(5, 3)):
        log.append(one, 1.0)
    assert log.chain(3) == (5, b"chain 5")
    assert log.chain(3, at_most=4) == (1, b"chain 1")
    assert log.chain(3, at_most=0) is None


def test_an_entry_is_taken_back_with_all_its_parts_and_nothing_else(db):
    log = LogTables(db)
    for one in (entry(1, 3), entry(2, 3), entry(2, "*")):
        log.append(one, 1.0)
    log.remove(2)
    assert [one.seq for _, one in log.read_after_id(0, 10)] == [1]
    log.remove(5)
    assert log.head() == 1


def test_verdicts_are_found_again_until_the_device_has_them(db):
    log = LogTables(db)
    log.append(entry(9, 3, origin=7, nonce=1), 1.0)
    refusal = Rejection("constraint", "UNIQUE", "t", ("a",))
    log.refuse(7, 2, b"other", refusal, b"made")
    assert log.verdict(7, 1) == (b"hash", 9, None, False)
    assert log.verdict(7, 2) == (b"other", 0, refusal, True)
    assert log.refused(7) == [(2, b"made")]
    assert (log.verdict(7, 3), log.verdict(8, 1)) == (None, None)
    log.forget_verdicts(8, 5)
    log.forget_verdicts(7, 1)
    assert log.verdict(7, 2) is not None
    log.forget_verdicts(7, 2)
    assert log.verdict(7, 2) is None


# --- nodes -----------------------------------------------------------------------------------------------


def test_nodes_are_known_by_key_and_by_id(db):
    nodes = NodeTable(db)
    record = NodeRecord(7, 3, Role.SECONDARY, b"key")
    nodes.add(record, '{"hostname":"phone"}', 1.0)
    assert nodes.by_key(b"key") == nodes.by_id(7) == record
    assert (nodes.by_key(b"other"), nodes.by_id(8)) == (None, None)
    with pytest.raises(apsw.ConstraintError):
        nodes.add(NodeRecord(8, 3, Role.SECONDARY, b"key"), "{}", 1.0)


def test_a_session_token_replaces_the_one_before_when_it_is_confirmed(db):
    nodes = NodeTable(db)
    nodes.add(NodeRecord(7, 3, Role.SECONDARY, b"key"), "{}", 1.0)
    assert nodes.tokens(7) == (b"", None)
    nodes.set_tokens(7, b"new", b"", None, 2.0)
    assert nodes.tokens(7) == (b"new", b"")
    nodes.confirm_token(7)
    assert nodes.tokens(7) == (b"new", None)


def test_numbers_of_a_node_move_forward_only(db):
    nodes = NodeTable(db)
    nodes.add(NodeRecord(7, 3, Role.SECONDARY, b"key"), "{}", 1.0)
    nodes.set_last_nonce(7, 5)
    assert nodes.by_id(7).last_nonce == 5
    nodes.set_confirmed(7, 4)
    nodes.set_confirmed(7, 2)
    assert db.execute("SELECT confirmed_nonce FROM _octodb_nodes").get == 4
