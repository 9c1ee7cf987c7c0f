"""Devices and a primary that change the same rows and the schema in every way that SQL has, delivered at random.

The schema and the statements are those of test_capture: triggers, cascades, keys that change, owners of every type.
Afterwards everybody holds what they should (P4, P10), with one verdict for each transaction (P2, P7).
"""

import pathlib
import tempfile

import apsw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octodb.errors import Error
from octodb.storage.schema_rules import shared_objects
from octodb.storage.shapes import Shapes
from tests.properties.offline_world import Device, Primary
from tests.properties.test_capture import (
    CONTROL,
    DEVICE_OWNERS,
    PRIMARY_OWNERS,
    PRIMARY_SCHEMA,
    ROW_CHANGES,
    SCHEMA,
    TEMPORARY,
    statements,
)

USERS = (2, 2, 3)
device_number = st.integers(0, len(USERS) - 1)
on_device = st.tuples(
    st.just("device"), device_number, statements([*ROW_CHANGES, *ROW_CHANGES, *CONTROL, *TEMPORARY], DEVICE_OWNERS)
)
on_primary = st.tuples(
    st.just("primary"), st.just(0), statements([*ROW_CHANGES, *PRIMARY_SCHEMA, "BEGIN", "COMMIT"], PRIMARY_OWNERS)
)
delivery = st.one_of(
    st.tuples(st.just("push"), device_number, st.integers(1, 3)),
    st.tuples(st.just("push, answer lost"), device_number, st.integers(1, 3)),
    st.tuples(st.just("pull"), device_number, st.sampled_from([1, 1 << 20])),
    st.tuples(st.just("restart"), st.integers(0, len(USERS)), st.none()),
)
step = st.one_of(on_device, on_device, on_device, on_primary, delivery, delivery)


def attempt(node, sql):
    """Run a statement that may well be refused."""
    try:
        node.run(sql)
    except (apsw.Error, Error):
        return


def play(primary, devices, steps):
    for kind, number, what in steps:
        device = devices[number % len(devices)]
        if kind == "device":
            attempt(device, what)
        elif kind == "primary":
            attempt(primary, what)
        elif primary.db.in_transaction or device.db.in_transaction:
            continue  # the engine would wait for the application's transaction
        elif kind == "pull":
            device.pull(what)
        elif kind == "restart":
            (primary if number == len(devices) else device).reopen()
        else:
            device.push(what, lose_answer="lost" in kind)
    for node in (primary, *devices):
        if node.db.in_transaction:
            node.run("ROLLBACK")


def shared_schema(node):
    return sorted(shared_objects(node.db))


def assert_equal(primary, device):
    assert shared_schema(device) == shared_schema(primary)
    for shape in Shapes.read(primary.db).replicated():
        expected = primary.rows(f"SELECT * FROM {shape.quoted} WHERE row_owner IN ('*', ?)", device.user_id)
        assert device.rows(f"SELECT * FROM {shape.quoted} WHERE row_owner IS NOT NULL") == expected, shape.name


def assert_judged(primary, device):
    last = device.outbox().last_nonce()
    accepted = [n for (n,) in primary.rows("SELECT nonce FROM _octodb_log WHERE origin = ?", device.record.node_id)]
    rejected = [letter.nonce for letter in device.outbox().rejected()]
    assert sorted(accepted + rejected) == list(range(1, last + 1))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, max_size=40))
def test_everybody_holds_what_they_should(steps):
    with tempfile.TemporaryDirectory() as name:
        primary = Primary(pathlib.Path(name) / "primary.db", SCHEMA)
        devices = [Device(pathlib.Path(name) / f"device{i}.db", primary, user) for i, user in enumerate(USERS)]
        try:
            for node in (primary, *devices):
                node.run("PRAGMA foreign_keys = ON")
            play(primary, devices, steps)
            for device in (*devices, *devices):
                device.settle()
            for device in devices:
                assert_equal(primary, device)
                assert_judged(primary, device)
        finally:
            for node in (*devices, primary):
                node.close()
