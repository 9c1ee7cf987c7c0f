"""Random histories in which rejected transactions are made again or dropped: all converge as ever (P2, P4, P7)."""

import pathlib
import tempfile
from contextlib import closing

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octodb.errors import Error
from octodb.model.identities import Role
from octodb.storage import dead_letters
from octodb.storage.database import connect_file
from octodb.storage.node_statements import NodeStatements
from tests.properties.offline_world import Device, Port, Primary, assert_converged
from tests.properties.test_convergence import SCHEMA, TABLES, names, play, small, step

insert = st.tuples(st.just("INSERT INTO item (name, size) VALUES (?, ?)"), st.tuples(names, small))
conflict_step = st.tuples(st.just("device"), st.integers(0, 2), insert)
letter_step = st.tuples(st.sampled_from(["retry", "retry", "drop"]), st.integers(0, 2), st.integers(0, 9))


def retry(device, nonce):
    with closing(connect_file(device.uri, 0.1)) as db:
        return dead_letters.retry(NodeStatements(db, Role.SECONDARY, Port(device.path, Role.SECONDARY)), nonce, 1.0)


def content(device):
    everything = [device.rows(f"SELECT * FROM {table}") for table in (*TABLES, "setting")]
    return everything, device.outbox().nonces(), device.outbox().rejected()


def handle_letter(device, verb, number):
    """Retry or drop one of the dead letters; what cannot be made again must leave everything as it was."""
    letters = device.outbox().rejected()
    if not letters or device.db.in_transaction:
        return
    letter = letters[number % len(letters)]
    if verb == "drop":
        dead_letters.drop(device.db, letter.nonce)
        return
    before = content(device)
    last = device.outbox().last_nonce()
    again, error = attempt(device, letter.nonce)
    if error is not None:
        assert error.hint
        assert content(device) == before
        return
    assert again == device.outbox().last_nonce() == last + 1
    assert device.outbox().get(again).suspended is None
    assert letter.nonce not in [one.nonce for one in device.outbox().rejected()]


def attempt(device, nonce):
    try:
        return retry(device, nonce), None
    except Error as error:
        return None, error


def run_history(steps):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        primary = Primary(folder / "primary.db", SCHEMA)
        devices = [Device(folder / f"d{i}.db", primary, user) for i, user in enumerate((2, 2, 5))]
        try:
            for one in steps:
                if one[0] in {"retry", "drop"}:
                    handle_letter(devices[one[1]], one[0], one[2])
                else:
                    play(primary, devices, [one])
            for device in devices:
                if device.db.in_transaction:
                    device.run("ROLLBACK")
            for round_number in range(4):
                for device in devices:
                    device.settle()
                    if round_number < 2:
                        handle_letter(device, "retry", round_number)
            assert_converged(primary, devices, TABLES)
            for device in devices:
                check_verdicts(primary, device)
        finally:
            for node in (*devices, primary):
                node.close()


def check_verdicts(primary, device):
    """Each number has one verdict, the primary's; what is left of the dead letters are rejected ones."""
    last = device.outbox().last_nonce()
    accepted = {n for (n,) in primary.rows("SELECT nonce FROM _octodb_log WHERE origin = ?", device.record.node_id)}
    for nonce in range(1, last + 1):
        assert device.outbox().verdict_of(nonce) == ("accepted" if nonce in accepted else "rejected")
    assert accepted.isdisjoint(row.nonce for row in device.outbox().rejected())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(step, step, conflict_step, letter_step), max_size=60))
def test_everybody_converges_whatever_becomes_of_dead_letters(steps):
    run_history(steps)
