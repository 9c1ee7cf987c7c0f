"""Dead letters through SQL, on real nodes: made again, dropped, exported; and waiting for verdicts."""

import json
import threading
import time

import pytest

import octodb
from tests.integration.conftest import free_port, rows, until_line, wait_for

SCHEMA = """
CREATE TABLE contact (id INTEGER PRIMARY KEY, email TEXT UNIQUE, row_owner);
CREATE TABLE thing (id INTEGER PRIMARY KEY, value, row_owner);
CREATE TABLE setting (name TEXT NOT NULL PRIMARY KEY, value);
"""


def write(connection, sql, *parameters):
    connection.execute(sql, parameters)
    connection.commit()


def pragma(connection, text):
    return connection.execute(f"PRAGMA {text}").fetchall()


def rejected(connection):
    return [row[0] for row in pragma(connection, "rejected_transactions")]


@pytest.fixture
def conflict(world):
    """A primary, the device whose transaction was accepted, and the one whose transaction 1 was rejected for it."""
    primary = world.primary(SCHEMA, accounts=True)
    winner, loser = world.device("winner", user="ada"), world.device("loser", user="ada")
    uri = world.device_uri("loser")
    world.close(loser)
    offline = octodb.connect(f"file:{world.folder}/loser.db?node=secondary")
    offline.execute("INSERT INTO contact (email) VALUES ('same')")
    offline.execute("INSERT INTO thing (value) VALUES ('with it')")
    offline.execute("INSERT INTO setting VALUES ('local', 'too')")
    offline.commit()
    offline.close()
    write(winner, "INSERT INTO contact (email) VALUES ('same')")
    assert winner.flush(10)
    loser = octodb.connect(uri)
    world.open.append(loser)
    assert loser.wait_synced(15), loser.sync_status
    assert rejected(loser) == [1]
    return primary, winner, loser


# --- retry -----------------------------------------------------------------------------------------------


def test_a_retry_is_accepted_once_the_conflict_is_gone(conflict):
    primary, winner, loser = conflict
    assert rows(loser, "SELECT value FROM thing") == rows(loser, "SELECT * FROM setting") == []
    write(winner, "UPDATE contact SET email = 'another'")
    wait_for(lambda: rows(loser, "SELECT email FROM contact") == [("another",)])

    changes = loser.total_changes
    cursor = loser.execute("PRAGMA retry_transaction(1)")
    assert [column[0] for column in cursor.description] == ["nonce"]
    assert cursor.fetchall() == [(2,)]
    assert loser.total_changes == changes, "the program changed no row of its own by that"
    assert rejected(loser) == []
    assert loser.sync_status["transactions"]["rejected"] == 0
    assert loser.flush(10)
    assert pragma(loser, "transaction_status(2)") == [("accepted",)]
    assert pragma(loser, "transaction_status(1)") == [("rejected",)]
    for node in (primary, winner, loser):
        wait_for(lambda node=node: rows(node, "SELECT email FROM contact") == [("another",), ("same",)])
        assert rows(node, "SELECT value FROM thing") == [("with it",)]
    assert rows(loser, "SELECT * FROM setting") == [("local", "too")]
    with pytest.raises(octodb.OperationalError, match="was retried as transaction 2 already"):
        pragma(loser, "retry_transaction(1)")


def test_a_retry_that_conflicts_here_is_an_error_and_the_letter_stays(conflict):
    _, _, loser = conflict
    with pytest.raises(octodb.IntegrityError, match=r"UNIQUE constraint failed: contact\.email") as caught:
        pragma(loser, "retry_transaction(1)")
    assert "PRAGMA export_transaction(1)" in caught.value.hint
    assert rejected(loser) == [1]
    assert pragma(loser, "last_nonce") == [(1,)]


def test_a_retry_that_conflicts_only_elsewhere_is_rejected_anew(world):
    primary = world.primary(SCHEMA, accounts=True)
    write(primary, "INSERT INTO contact (email, row_owner) VALUES ('same', 77)")
    device = world.device("device", user="ada")
    write(device, "INSERT INTO contact (email) VALUES ('same')")
    assert device.flush(10)
    for nonce in (1, 2):
        assert rejected(device) == [nonce]
        assert pragma(device, f"retry_transaction({nonce})") == [(nonce + 1,)]
        assert device.flush(10)
    assert rejected(device) == [3]
    assert rows(device, "SELECT * FROM contact") == []
    write(primary, "DELETE FROM contact")
    assert pragma(device, "retry_transaction(3)") == [(4,)]
    assert device.flush(10)
    assert rejected(device) == []
    assert rows(primary, "SELECT email FROM contact") == [("same",)]


def test_what_builds_on_another_rejected_one_is_made_again_after_it(world):
    primary = world.primary(SCHEMA)
    write(primary, "INSERT INTO contact (email, row_owner) VALUES ('taken', 77)")
    world.close(world.device("device"))
    offline = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
    write(offline, "INSERT INTO contact (email) VALUES ('taken')")
    offline.execute("UPDATE contact SET email = 'better' WHERE email = 'taken'")
    offline.execute("INSERT INTO thing (value) VALUES ('beside')")
    offline.commit()
    offline.close()
    device = world.device("device")
    assert device.flush(10)
    assert [row[:2] for row in pragma(device, "rejected_transactions")] == [(1, "constraint"), (2, "dependent")]
    with pytest.raises(octodb.OperationalError, match="made by transaction 1, which was rejected") as caught:
        pragma(device, "retry_transaction(2)")
    assert "retry that one first" in caught.value.hint
    assert rows(device, "SELECT * FROM thing") == []
    write(primary, "DELETE FROM contact")
    assert pragma(device, "retry_transaction(1)") == [(3,)]
    assert pragma(device, "retry_transaction(2)") == [(4,)]
    assert device.flush(10)
    assert rejected(device) == []
    assert rows(primary, "SELECT email FROM contact") == [("better",)]
    assert rows(primary, "SELECT value FROM thing") == [("beside",)]


def test_a_retry_wants_no_transaction_open(conflict):
    _, winner, loser = conflict
    write(winner, "DELETE FROM contact")
    wait_for(lambda: not rows(loser, "SELECT * FROM contact"))
    loser.execute("INSERT INTO thing (value) VALUES (1)")
    with pytest.raises(octodb.OperationalError, match="one is open") as caught:
        pragma(loser, "retry_transaction(1)")
    assert "COMMIT or ROLLBACK" in caught.value.hint
    loser.rollback()
    loser.autocommit = False  # always in a transaction, in which nothing was done yet
    assert pragma(loser, "retry_transaction(1)") == [(2,)]
    loser.rollback()
    assert rows(loser, "SELECT email FROM contact") == [("same",)]


def test_a_retry_waits_for_the_write_lock_as_long_as_its_connection_does(world, conflict):
    _, winner, loser = conflict
    write(winner, "DELETE FROM contact")
    wait_for(lambda: not rows(loser, "SELECT * FROM contact"))
    other = octodb.connect(world.device_uri("loser"))
    world.open.append(other)
    other.execute("BEGIN IMMEDIATE")
    loser.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(octodb.OperationalError, match="database is locked"):
        pragma(loser, "retry_transaction(1)")
    assert rejected(loser) == [1]
    other.rollback()
    half_read = loser.execute("VALUES (1), (2)")
    assert half_read.fetchone() == (1,)
    loser.execute("PRAGMA busy_timeout = 5000")
    assert pragma(loser, "retry_transaction(1)") == [(2,)]
    assert half_read.fetchone() == (2,)


def test_a_retry_by_a_connection_that_may_not_write_is_refused(conflict):
    _, winner, loser = conflict
    write(winner, "DELETE FROM contact")
    wait_for(lambda: not rows(loser, "SELECT * FROM contact"))
    loser.execute("PRAGMA query_only = 1")
    for verb in ("retry", "drop"):
        with pytest.raises(octodb.OperationalError, match="readonly database"):
            pragma(loser, f"{verb}_transaction(1)")
    assert rejected(loser) == [1]


# --- drop and export ---------------------------------------------------------------------------------------


def test_a_dropped_letter_is_gone_unless_the_transaction_is_rolled_back(conflict):
    _, _, loser = conflict
    loser.execute("BEGIN")
    assert pragma(loser, "drop_transaction(1)") == []
    loser.rollback()
    assert rejected(loser) == [1]
    changes = loser.total_changes
    assert pragma(loser, "drop_transaction(1)") == []
    assert loser.total_changes == changes
    assert rejected(loser) == []
    assert pragma(loser, "transaction_status(1)") == [("rejected",)]
    assert pragma(loser, "export_transaction(1)") == []
    with pytest.raises(octodb.OperationalError, match="was dropped already"):
        pragma(loser, "drop_transaction(1)")


def test_what_may_be_on_its_way_is_not_dropped(world):
    world.primary(SCHEMA)
    world.close(world.device("device"))
    device = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
    world.open.append(device)
    write(device, "INSERT INTO thing (value) VALUES (x'00ff')")
    for verb in ("retry", "drop"):
        with pytest.raises(octodb.OperationalError, match="no verdict yet and may be on its way"):
            pragma(device, f"{verb}_transaction(1)")
    ((table, op, _, old, new, part),) = pragma(device, "export_transaction(1)")
    assert (table, op, old, part) == ("thing", "INSERT", None, "user")
    assert json.loads(new)["value"] == {"hex": "00ff"}


@pytest.mark.parametrize("value", [None, 7, -(2**63), 2.0, 1e-300, "", 'quo"te\n☂', b"", b"\0\xff"])
def test_an_exported_transaction_can_be_made_again_by_a_program(world, value):
    primary = world.primary(SCHEMA, accounts=True)
    write(primary, "INSERT INTO contact (email, row_owner) VALUES ('same', 77)")
    device = world.device("device", user="ada")
    device.execute("INSERT INTO contact (email) VALUES ('same')")
    device.execute("INSERT INTO thing (value) VALUES (?)", (value,))
    device.commit()
    assert device.flush(10)
    for table, op, _, _, new, part in pragma(device, "export_transaction(1)"):
        assert (op, part) == ("INSERT", "user")
        row = json.loads(new, object_hook=lambda found: bytes.fromhex(found["hex"]) if "hex" in found else found)
        if table == "contact":
            row["email"] = "mended"
        marks = ", ".join(f":{column}" for column in row)
        device.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)
    device.commit()
    pragma(device, "drop_transaction(1)")
    assert device.flush(10)
    assert rejected(device) == []
    ((found, kind),) = rows(primary, "SELECT value, typeof(value) FROM thing")
    assert (found, type(found)) == (value, type(value)), kind
    assert rows(primary, "SELECT email FROM contact") == [("mended",), ("same",)]


# --- forms -----------------------------------------------------------------------------------------------


def test_a_number_is_taken_in_every_form_of_a_pragma(conflict):
    _, _, loser = conflict
    for form in ("(1)", "=1", "='1'", " = +1", '("1")', "= '01'"):
        assert pragma(loser, f"transaction_status{form}") == [("rejected",)]
        assert len(pragma(loser, f"export_transaction{form}")) == 3
        for name in ("retry_transaction", "Main.Retry_Transaction"):
            with pytest.raises(octodb.IntegrityError, match="transaction 1 cannot be made again"):
                pragma(loser, name + form)
        loser.execute("BEGIN")
        pragma(loser, f"drop_transaction{form}")
        loser.rollback()


def test_what_is_no_number_is_told_the_right_form(conflict):
    _, _, loser = conflict
    for name in ("retry_transaction", "drop_transaction", "export_transaction", "transaction_status"):
        for form in ("", "(x)", "= -1", "=1.0", "(0x11)", "='²'", "='1 '", "=''"):
            with pytest.raises(octodb.ProgrammingError, match=f"PRAGMA {name} needs the number") as caught:
                pragma(loser, name + form)
            assert f"PRAGMA {name}(17)" in caught.value.hint
    assert rejected(loser) == [1]


def test_a_number_that_no_transaction_has(conflict):
    _, _, loser = conflict
    for number in ("0", "2", "99999999999999999999", "9" * 5000):
        for verb in ("retry", "drop"):
            with pytest.raises(octodb.OperationalError, match=r"there is no transaction \d+: the last one is 1"):
                pragma(loser, f"{verb}_transaction({number})")
        for verb in ("export_transaction", "transaction_status"):
            assert pragma(loser, f"{verb}({number})") == []


def test_they_are_for_devices(world):
    primary = world.primary(SCHEMA)
    for name in ("retry_transaction", "drop_transaction", "export_transaction"):
        with pytest.raises(octodb.OperationalError, match=f"PRAGMA {name} is for a secondary"):
            pragma(primary, f"{name}(1)")


# --- waiting -----------------------------------------------------------------------------------------------


def test_flush_waits_for_a_verdict_and_no_longer_than_told(world):
    port = free_port()
    primary = world.primary(SCHEMA, port=port)
    device = world.device("device")
    assert device.flush(0), "nothing was committed"
    assert primary.flush(0)
    world.close(primary)
    write(device, "INSERT INTO thing (value) VALUES (1)")
    assert not device.flush(0.2)
    primary = world.primary("", port=port)
    assert device.flush(20)
    assert pragma(device, "pending_transactions") == []
    assert rows(primary, "SELECT value FROM thing") == [(1,)]


FLUSHING = """
import sys, octodb
device = octodb.connect(sys.argv[1])
assert device.wait_ready(20)
device.execute("INSERT INTO thing (value) VALUES ('elsewhere')")
device.commit()
print("engine", device.sync_status["engine"]["pid"], flush=True)
print("flushed", device.flush(0.2), device.execute("PRAGMA sync_wait(0.1)").fetchone()[0])
sys.stdin.readline()
print("flushed", device.flush(30), device.execute("PRAGMA sync_wait(30)").fetchone()[0])
"""


def test_flush_in_a_process_that_does_not_sync(programs, world):
    port = free_port()
    primary = world.primary(SCHEMA, port=port)
    device = world.device("device")
    world.close(primary)
    wait_for(lambda: not device.sync_status["connected"])
    other = programs.start(FLUSHING, world.device_uri("device"))
    assert until_line(other, "engine") == f"engine {device.sync_status['engine']['pid']}"
    assert until_line(other, "flushed") == "flushed False 0"
    primary = world.primary("", port=port)
    other.stdin.write("\n")
    other.stdin.flush()
    assert until_line(other, "flushed") == "flushed True 1"
    assert rows(primary, "SELECT value FROM thing") == [("elsewhere",)]


def test_waiting_for_what_the_own_transaction_holds_up_is_an_error(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    device.execute("INSERT INTO thing (value) VALUES (1)")
    assert device.flush(0), "what is not committed is not waited for"
    with pytest.raises(octodb.OperationalError, match="in vain") as caught:
        pragma(device, "sync_wait(5)")
    assert "COMMIT" in caught.value.hint
    device.rollback()
    world.close(primary)
    write(device, "INSERT INTO thing (value) VALUES (2)")
    device.execute("INSERT INTO thing (value) VALUES (3)")
    with pytest.raises(octodb.OperationalError, match="in vain") as caught:
        device.flush(5)
    assert "commit()" in caught.value.hint


def test_sync_wait_tells_whether_all_is_in_step(world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    for number, form in enumerate(("", "(20)", "=20", "='20'", " = 20.5")):
        write(device, "INSERT INTO thing (value) VALUES (?)", f"by the device {number}")
        write(primary, "INSERT INTO thing (value, row_owner) VALUES (?, '*')", f"by the primary {number}")
        cursor = device.execute(f"PRAGMA sync_wait{form}")
        assert [column[0] for column in cursor.description] == ["sync_wait"]
        assert cursor.fetchall() == [(1,)]
        here = rows(device, "SELECT value FROM thing")
        assert here == rows(primary, "SELECT value FROM thing")
        assert len(here) == 2 * number + 2
        assert pragma(primary, f"sync_wait{form}") == [(1,)]


def test_sync_wait_wants_seconds(world):
    world.primary(SCHEMA)
    device = world.device("device")
    for form in ("(soon)", "=-1", "='nan'", "='inf'", "=1e999", "=''"):
        with pytest.raises(octodb.ProgrammingError, match="number of seconds") as caught:
            pragma(device, f"sync_wait{form}")
        assert "PRAGMA sync_wait(10)" in caught.value.hint


def test_others_go_on_while_sync_wait_waits(world):
    primary = world.primary(SCHEMA)
    world.device("device")
    world.close(primary)
    waiting = octodb.connect(world.device_uri("device"), check_same_thread=False)
    other = octodb.connect(world.device_uri("device"))
    world.open += [waiting, other]
    answers, begun = [], threading.Event()

    def wait():
        begun.set()
        try:
            answers.append(pragma(waiting, "sync_wait(60)"))
        except octodb.OperationalError as error:
            answers.append(str(error))

    waiter = threading.Thread(target=wait)
    waiter.start()
    begun.wait()
    write(other, "INSERT INTO thing (value) VALUES (1)")
    assert len(pragma(other, "pending_transactions")) == 1
    assert other.sync_status["transactions"]["pending"] == 1
    assert answers == []
    started = time.monotonic()

    def interrupted():
        waiting.interrupt()  # again: the first one may come before the wait
        return answers

    wait_for(interrupted)
    waiter.join()
    assert answers == ["interrupted"]
    assert time.monotonic() - started < 10
    assert pragma(waiting, "sync_wait(0)") == [(0,)], "an interrupt ends what runs, not what comes after"


# --- telling -----------------------------------------------------------------------------------------------


def test_each_verdict_is_told_once_and_those_of_a_life_before_never(world):
    primary = world.primary(SCHEMA, accounts=True)
    write(primary, "INSERT INTO contact (email, row_owner) VALUES ('taken', 77)")
    world.close(world.device("device", user="ada"))
    uri = world.device_uri("device")
    nonce, told = 0, []
    for life in range(5):
        offline = octodb.connect(f"file:{world.folder}/device.db?node=secondary")
        heard, reasons = [], []
        offline.register_function("transaction_notification", 2, lambda *verdict, heard=heard: heard.append(verdict))
        for email in (f"free {life}", "taken", f"also free {life}"):
            write(offline, "INSERT INTO contact (email) VALUES (?)", email)
        offline.close()
        assert heard == []

        device = octodb.connect(uri)  # what was written before this life is judged in it
        if life % 2:
            assert device.flush(15)  # judged before anybody asks to hear of it
        device.register_function("transaction_notification", 2, lambda *verdict, heard=heard: heard.append(verdict))
        device.on("rejected", reasons.append)
        assert device.flush(15)
        device.close()  # ends the callbacks that are due
        assert sorted(heard) == [(nonce + 1, "accepted"), (nonce + 2, "rejected"), (nonce + 3, "accepted")]
        assert [reason["nonce"] for reason in reasons] == [nonce + 2]
        assert reasons[0]["reason"] == "UNIQUE constraint failed: contact.email"
        nonce += 3
        told += heard
    assert len(told) == len(set(told)) == 15


def test_a_program_that_closes_when_the_file_says_so_has_heard_it(world):
    primary = world.primary(SCHEMA)
    write(primary, "INSERT INTO contact (email, row_owner) VALUES ('taken', 77)")
    world.close(world.device("device"))
    for nonce in range(1, 11):
        device = octodb.connect(world.device_uri("device"))
        heard = []
        device.register_function("transaction_notification", 2, lambda *verdict, heard=heard: heard.append(verdict))
        write(device, "INSERT INTO contact (email) VALUES ('taken')")
        # as soon as it is stored, which is before the engine can have told it
        wait_for(lambda device=device, nonce=nonce: pragma(device, f"transaction_status({nonce})") == [("rejected",)])
        device.close()
        assert heard == [(nonce, "rejected")]
