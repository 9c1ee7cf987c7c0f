"""Random SQL on devices and primary, random delivery: afterwards all hold what they should (P2, P4, P6, P7, P10)."""

import itertools
import pathlib
import tempfile

import apsw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octodb.errors import Error
from tests.properties.offline_world import Device, Primary, assert_converged

SCHEMA = """
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER CHECK (size < 100), note, row_owner);
CREATE TABLE part (item INTEGER NOT NULL REFERENCES item, number INTEGER NOT NULL, text, row_owner,
                   PRIMARY KEY (item, number)) WITHOUT ROWID;
CREATE TABLE setting (name TEXT PRIMARY KEY, value);
CREATE TABLE tally (id INTEGER PRIMARY KEY, what TEXT, row_owner);
CREATE TRIGGER count_items AFTER INSERT ON item WHEN NEW.row_owner IS NOT NULL BEGIN
  INSERT INTO tally (what, row_owner) VALUES ('item ' || NEW.name, NEW.row_owner);
END;
INSERT INTO item (id, name, size, row_owner) VALUES (1, 'shared', 1, '*'), (2, 'also shared', 2, '*');
"""
TABLES = ("item", "part", "tally")

names = st.sampled_from([f"n{n}" for n in range(6)])
small = st.integers(0, 5)

write = st.one_of(
    st.tuples(st.just("INSERT INTO item (name, size) VALUES (?, ?)"), st.tuples(names, small)),
    st.tuples(st.just("INSERT INTO item (name, size, row_owner) VALUES (?, ?, NULL)"), st.tuples(names, small)),
    st.tuples(
        st.just("INSERT INTO item (name, size) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET size = excluded.size"),
        st.tuples(names, small),
    ),
    st.tuples(st.just("REPLACE INTO item (name, size) VALUES (?, ?)"), st.tuples(names, small)),
    st.tuples(st.just("UPDATE item SET size = size + ? WHERE name <> ?"), st.tuples(small, names)),
    st.tuples(
        st.just("UPDATE item SET note = ? WHERE size > ?"), st.tuples(st.sampled_from([None, b"\0x", 1.5, "é"]), small)
    ),
    st.tuples(st.just("UPDATE OR IGNORE item SET name = ? WHERE size = ?"), st.tuples(names, small)),
    st.tuples(
        st.just("UPDATE item SET row_owner = this_user() WHERE row_owner IS NULL AND name = ?"), st.tuples(names)
    ),
    st.tuples(st.just("DELETE FROM item WHERE name = ?"), st.tuples(names)),
    st.tuples(st.just("DELETE FROM part WHERE number = ?"), st.tuples(small)),
    st.tuples(
        st.just("INSERT OR IGNORE INTO part (item, number, text) SELECT id, ?, name FROM item WHERE name > ?"),
        st.tuples(small, names),
    ),
    st.tuples(st.just("UPDATE OR IGNORE part SET number = number + ?"), st.tuples(small)),
    st.tuples(st.just("REPLACE INTO setting VALUES (?, ?)"), st.tuples(names, small)),
    st.tuples(st.just("DELETE FROM tally WHERE what LIKE ?"), st.tuples(st.sampled_from(["%1", "%2"]))),
)
control = st.sampled_from(
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "RELEASE s", "ROLLBACK TO s", "SAVEPOINT t", "RELEASE t"]
)
device_step = st.one_of(write, write, st.tuples(control, st.just(())))
admin_step = st.sampled_from(
    [
        "INSERT INTO item (name, size, row_owner) VALUES ('n1', 7, '*')",
        "INSERT INTO item (name, size, row_owner) VALUES ('n2', 8, 2)",
        "UPDATE item SET size = size + 1",
        "UPDATE item SET row_owner = '*' WHERE name = 'n3'",
        "DELETE FROM item WHERE name = 'n4'",
        "DELETE FROM part WHERE number = 1",
        "ALTER TABLE item ADD COLUMN extra DEFAULT 5",
        "CREATE INDEX by_size ON item (size)",
        "DROP INDEX IF EXISTS by_size",
        "CREATE TABLE later (id INTEGER PRIMARY KEY, a, row_owner)",
        "INSERT INTO later (a, row_owner) VALUES (1, '*')",
        "ALTER TABLE later RENAME COLUMN a TO b",
        "DROP TABLE IF EXISTS later",
        "ALTER TABLE part RENAME COLUMN text TO words",
        "CREATE VIEW big AS SELECT * FROM item WHERE size > 3",
        "DROP VIEW IF EXISTS big",
    ]
)
step = st.one_of(
    st.tuples(st.just("device"), st.integers(0, 2), device_step),
    st.tuples(st.just("device"), st.integers(0, 2), device_step),
    st.tuples(st.just("device"), st.integers(0, 2), device_step),
    st.tuples(st.just("admin"), st.just(0), admin_step),
    st.tuples(st.just("push"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("push, answer lost"), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("pull"), st.integers(0, 2), st.sampled_from([1, 1 << 20])),
    st.tuples(st.just("restart"), st.integers(0, 3), st.none()),
)


def attempt(node, sql, bindings=()):
    """Run a statement that may well be refused: constraints, no transaction open, an object that is not there."""
    try:
        node.run(sql, bindings)
    except (apsw.Error, Error):
        return


def play(primary, devices, steps):
    for kind, number, what in steps:
        device = devices[number % len(devices)]
        busy = device.db.in_transaction
        if kind == "device":
            attempt(device, *what)
        elif kind == "admin":
            attempt(primary, what)
        elif kind == "restart" and number == 3:
            primary.reopen()
        elif busy:
            continue  # the engine would wait for the application's transaction
        elif kind.startswith("push"):
            device.push(what, lose_answer="lost" in kind)
        elif kind == "pull":
            device.pull(what)
        elif kind == "restart":
            device.reopen()


def local_rows(device):
    return device.rows("SELECT * FROM setting"), device.rows("SELECT name FROM item WHERE row_owner IS NULL")


COUNTER = itertools.count()


def run_history(steps):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        primary = Primary(folder / "primary.db", SCHEMA)
        users = (2, 2, 5)
        devices = [Device(folder / f"d{i}.db", primary, user) for i, user in enumerate(users)]
        try:
            play(primary, devices, steps)
            for device in devices:
                if device.db.in_transaction:
                    device.run("ROLLBACK")
            local = [local_rows(device)[0] for device in devices]
            for _ in range(3):
                for device in devices:
                    device.settle()
            assert_converged(primary, devices, TABLES)
            for device, before in zip(devices, local, strict=True):
                assert local_rows(device)[0] == before
                check_verdicts(primary, device)
        finally:
            for node in (*devices, primary):
                node.close()


def check_verdicts(primary, device):
    """Each transaction has one verdict, the same on both sides; the log has each once."""
    last = device.outbox().last_nonce()
    accepted = [n for (n,) in primary.rows("SELECT nonce FROM _octodb_log WHERE origin = ?", device.record.node_id)]
    rejected = [row.nonce for row in device.outbox().rejected()]
    assert sorted(accepted + rejected) == list(range(1, last + 1))
    for nonce in accepted:
        assert device.outbox().verdict_of(nonce) == "accepted"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(step, max_size=40))
def test_everybody_converges(steps):
    run_history(steps)
