"""Devices that are broken or mean: their connection is closed or their transaction refused, and the others go on."""

import contextlib
import datetime
import random
import secrets
import threading

import apsw
import msgspec
import pytest

import octodb
from octodb.log.embedded_log import EmbeddedLog
from octodb.model.transactions import Op, encode_body
from octodb.runtime.framed_connection import FramedConnection
from octodb.wire.frames import encode_frames
from octodb.wire.handshake import adoption_text
from octodb.wire.messages import (
    IS_COPY,
    KNOWS_COPIES,
    Adopt,
    Adopted,
    Applied,
    AskHead,
    AskRows,
    AskSums,
    Claim,
    Copied,
    Entries,
    Head,
    Login,
    Ping,
    Push,
    PushedTransaction,
    RangeRows,
    Subscribe,
    Sums,
    Verdicts,
    Welcome,
    encode_message,
)
from tests.integration.conftest import rows, wait_for
from tests.integration.raw_device import Closed, RawDevice

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner)"
SEED = 20240607
NO_POSITION = 2**63  # above what SQLite can hold


@pytest.fixture
def served(world):
    """A primary with one table, and the proof that it serves honest devices: call the second one after the attack."""
    primary = world.primary(TABLE)

    def goes_on():
        honest = world.device(f"honest{secrets.token_hex(4)}")
        honest.execute("INSERT INTO t (a) VALUES ('honest')")
        honest.commit()
        assert honest.wait_synced(4), (honest.sync_status, primary.sync_status)

    return primary, goes_on


def changeset(statement, before="", table=TABLE):
    """What ``statement`` does to an empty ``table``, on which ``before`` ran."""
    db = apsw.Connection(":memory:")
    db.execute(f"{table};{before}")
    session = apsw.Session(db, "main")
    session.attach()
    db.execute(statement)
    result = session.changeset()
    session.close()
    db.close()
    return result


def test_random_bytes(served, world):
    _, goes_on = served
    generator = random.Random(SEED)
    for _ in range(300):
        with RawDevice(world.address) as stranger:
            try:
                stranger.send_bytes(generator.randbytes(generator.choice((1, 3, 4, 5, 40, 3000))))
                stranger.end_sending()
            except (Closed, OSError):
                continue
            stranger.until_closed()
    goes_on()


def test_mutated_hellos(served, world):
    _, goes_on = served
    generator = random.Random(SEED)
    for number in range(100):
        with RawDevice(world.address) as stranger:
            data = bytearray(encode_frames(encode_message(stranger.hello)))
            for _ in range(generator.randint(1, 4)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            if number % 3 == 0:
                del data[generator.randrange(len(data)) :]
            try:
                stranger.send_bytes(bytes(data))
                stranger.end_sending()
            except (Closed, OSError):
                continue
            stranger.until_closed()
    goes_on()


def test_messages_out_of_their_place(served, world):
    _, goes_on = served
    for message in (Ping(0.0), Login("{}"), Subscribe(b"", b"", 0, b"", b"", 0), Applied(0, 0, 0)):
        with RawDevice(world.address) as stranger:
            stranger.send(message)
            (problem,) = stranger.until_closed()
            assert (problem.code, type(message).__name__ in problem.reason) == ("protocol", True)
    goes_on()


def test_a_key_that_is_not_the_devices_own(served, world):
    _, goes_on = served
    with RawDevice(world.address) as known, RawDevice(world.address) as thief:
        known.join()
        thief.hello = known.hello
        thief.prove()
        assert [message.code for message in thief.until_closed()[-1:]] == ["signature"]
    goes_on()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no body", "malformed"),
        (encode_body(1, [Op(0, b"no changeset")]), "malformed"),
        (encode_body(1, [Op(0, "DROP TABLE t")]), "schema"),
        (encode_body(1, [Op(0, changeset("INSERT INTO t VALUES (1, 'x', 1)"))]), "ownership"),
        (encode_body(1, [Op(0, changeset("INSERT INTO t VALUES (1, 'x', '*')"))]), "ownership"),
        (encode_body(1, [Op(0, changeset("INSERT INTO t VALUES (1, 'x', NULL)"))]), "ownership"),
        (encode_body(1, [Op(0, changeset("INSERT INTO gone VALUES (1)", table="CREATE TABLE gone (a PRIMARY KEY)"))]),
         "schema"),
        (encode_body(1, [Op(0, changeset("INSERT INTO t VALUES (1, 'x')",
                                         table="CREATE TABLE t (id PRIMARY KEY, a)"))]), "schema"),
        (encode_body(1, [Op(0, changeset("INSERT INTO _octodb_meta VALUES (1)",
                                         table="CREATE TABLE _octodb_meta (key PRIMARY KEY)"))]), "schema"),
    ],
    ids=["garbage", "no changeset", "ddl", "of the administrators", "of everybody", "of nobody", "gone",
         "columns", "meta"],
)  # fmt: skip
def test_a_transaction_that_may_not_be_is_refused(served, world, body, code):
    primary, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.push(1, body)
        (verdict,) = device.receive(Verdicts).verdicts
        assert (verdict.nonce, verdict.seq, verdict.code) == (1, 0, code)
        # it was counted, so that the next one is judged
        mine = changeset(f"INSERT INTO t VALUES (2, 'next', {device.welcome.user_id})")
        device.push_changesets(2, mine)
        wait_for(lambda: rows(primary, "SELECT a FROM t") == [("next",)])
    goes_on()


def test_another_transaction_under_a_used_number(served, world):
    primary, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.push_changesets(1, changeset(f"INSERT INTO t VALUES (1, 'first', {device.welcome.user_id})"))
        wait_for(lambda: rows(primary, "SELECT a FROM t"))
        device.push_changesets(1, changeset(f"INSERT INTO t VALUES (2, 'second', {device.welcome.user_id})"))
        assert device.until_closed()[-1].code == "fork"
    assert rows(primary, "SELECT a FROM t") == [("first",)]
    goes_on()


@pytest.mark.parametrize(("nonce", "code"), [(7, "gap"), (0, "fork")])
def test_a_number_out_of_order(served, world, nonce, code):
    _, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.push(nonce, b"x")
        assert device.until_closed()[-1].code == code
    goes_on()


@pytest.mark.parametrize("nonce", [-1, NO_POSITION])
def test_a_number_that_cannot_be_one_ends_the_connection(served, world, nonce):
    _, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.push(nonce, b"x")
        device.until_closed()
    goes_on()


def test_a_row_of_another_user_is_not_touched(served, world):
    primary, goes_on = served
    owner = world.device("owner")
    owner.execute("INSERT INTO t (id, a) VALUES (5, 'kept')")
    owner.commit()
    assert owner.wait_synced(10)
    with RawDevice(world.address) as device:
        device.join()
        user = device.welcome.user_id
        device.push_changesets(1, changeset("DELETE FROM t", f"INSERT INTO t VALUES (5, 'kept', {user})"))
        device.push_changesets(2, changeset("UPDATE t SET a = 'mine'", f"INSERT INTO t VALUES (5, 'kept', {user})"))
        wait_for(lambda: primary.execute("SELECT max(last_nonce) FROM _octodb_nodes").fetchone() == (2,))
        assert "kept" not in str(device._received)
    assert rows(primary, "SELECT a FROM t") == [("kept",)]
    goes_on()


def test_a_key_of_another_type(served, world):
    _, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        user = device.welcome.user_id
        device.push_changesets(1, changeset(f"INSERT INTO t VALUES (5, 'x', {user})"))
        text_key = "CREATE TABLE t (id TEXT PRIMARY KEY, a, row_owner)"
        device.push_changesets(2, changeset("DELETE FROM t", f"INSERT INTO t VALUES ('5', 'x', {user})", text_key))
        goes_on()


def test_text_that_is_not_utf_8(served, world):
    _, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.push_changesets(
            1, changeset(f"INSERT INTO t VALUES (5, CAST(x'ff41' AS TEXT), {device.welcome.user_id})")
        )
        goes_on()
        (verdict,) = device.receive(Verdicts).verdicts
        assert verdict.code == "malformed"


def test_an_owner_written_as_text_is_stored_as_the_number(served, world):
    primary, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        user = device.welcome.user_id
        device.push_changesets(1, changeset(f"INSERT INTO t VALUES (5, 'x', '{user}')"))
        device.receive(Entries)
        wait_for(
            lambda: primary.execute("SELECT last_nonce FROM _octodb_nodes WHERE node_id = ?", (user,)).fetchone()[0]
        )
        assert rows(primary, "SELECT row_owner FROM t") in ([], [(user,)])
    goes_on()


@pytest.mark.parametrize(
    "node_info",
    ["no json", "[1]", "null", '"text"', '{"hostname": [1, {"a": 2}]}'],
)
def test_device_information_of_any_kind_leaves_the_list_of_nodes_readable(served, world, node_info):
    primary, goes_on = served
    with RawDevice(world.address) as device:
        device.prove(node_info)
        with contextlib.suppress(Closed):
            device.receive(Welcome)
    goes_on()
    assert len(primary.execute("PRAGMA nodes").fetchall()) >= 2


@pytest.mark.parametrize(
    "fields",
    [
        {"confirmed_nonce": NO_POSITION},
        {"cursor": NO_POSITION, "epoch": b"x"},
    ],
)
def test_a_position_that_cannot_be(served, world, fields):
    _, goes_on = served
    with RawDevice(world.address, timeout_s=2) as device:
        device.prove()
        device.welcome = device.receive(Welcome)
        device.subscribe(**fields)
        device.until_closed()
    goes_on()


def test_another_primary_under_the_old_address(world):
    """A device file meets another primary under the old address: it says so and keeps its queue."""
    world.primary(TABLE)
    device = world.device("device")
    world.close(device)
    other = world.primary(TABLE, name="other")
    device = octodb.connect(world.device_uri("device"))
    world.open.append(device)
    device.execute("INSERT INTO t (a) VALUES ('kept')")
    device.commit()
    wait_for(lambda: device.sync_status["state"] == "error")
    assert "another primary" in device.sync_status["last_error"]
    assert device.sync_status["transactions"]["pending"] == 1
    assert rows(other, "SELECT * FROM t") == []


@pytest.mark.parametrize(
    "key", [[{}], [[1]], [2**64 - 1], [1, 2, 3], [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)]]
)
def test_questions_about_keys_that_cannot_be(served, world, key):
    primary, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.send(AskHead(1.0))
        at = device.receive(Head).through
        for low, high in ((key, []), ([], key)):
            device.send(AskSums(at, "t", low, high))
            assert device.receive(Sums).seq == 0
            device.send(AskRows(at, "t", low, high))
            assert device.receive(RangeRows).seq == 0
        assert primary.sync_status["last_error"] is None
    goes_on()


def test_a_copied_file_may_have_a_long_queue(served, world):
    """A device that knows that it is a copy says so at once, and claims all that it has made."""
    _, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
    with RawDevice(world.address) as other, RawDevice(world.address) as copy:
        copy.take_key_of(device)
        copy.hello = msgspec.structs.replace(copy.hello, features=KNOWS_COPIES | IS_COPY)
        challenge = copy.prove()
        copy.receive(Copied)
        new_key = other.hello.public_key
        signature = other.sign(adoption_text(copy.hello, challenge, new_key))
        copy.send(Adopt(new_key, signature, [Claim(nonce, secrets.token_bytes(16), 0) for nonce in range(1, 5000)]))
        assert copy.receive(Adopted).known == []
    goes_on()


def test_a_device_that_sends_faster_than_can_be_stored_has_to_wait(served, world, monkeypatch):
    primary, goes_on = served
    monkeypatch.setattr("octodb.runtime.primary_engine._PUSHED_BYTES_MAX", 1 << 20)
    released = threading.Event()
    append = EmbeddedLog.append
    monkeypatch.setattr(EmbeddedLog, "append", lambda self, requests: released.wait(20) and append(self, requests))
    reads = []
    read_on = FramedConnection.read_on
    monkeypatch.setattr(FramedConnection, "read_on", lambda self, wanted: reads.append(wanted) or read_on(self, wanted))
    with RawDevice(world.address) as device:
        device.join()

        def send():
            for number in range(1, 41):
                change = changeset(f"INSERT INTO t VALUES ({number}, zeroblob(300000), {device.welcome.user_id})")
                device.push_changesets(number, change)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            wait_for(lambda: False in reads)
            assert primary.sync_status["bytes"]["in"] < 10 * 300_000
        finally:
            released.set()
            sender.join()
        wait_for(lambda: rows(primary, "SELECT count(*) FROM t") == [(40,)])
    goes_on()


def test_a_push_of_ever_so_many_numbers_is_no_message(served, world):
    _, goes_on = served
    with RawDevice(world.address) as device:
        device.join()
        device.send(Push([PushedTransaction(number, b"", b"") for number in range(1, 10_000)]))
        device.until_closed()
    goes_on()
