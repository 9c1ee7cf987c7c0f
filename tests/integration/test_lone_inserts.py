"""An INSERT alone in its transaction is captured without a session: what it did arrives, what failed leaves nothing."""

import pytest

import octodb
from tests.integration.conftest import rows

SCHEMA = """
CREATE TABLE parent (id INTEGER PRIMARY KEY, row_owner);
CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'left out', b REAL, twice AS (b * 2), secret UNIQUE,
                parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED, row_owner INTEGER);
"""


@pytest.fixture
def autocommitting(world):
    """A primary and a device of one user each, whose statements commit themselves."""
    primary = world.primary(SCHEMA)
    device = world.device("device")
    primary.isolation_level = device.isolation_level = None
    return primary, device


def test_values_arrive_as_they_are_stored(autocommitting):
    primary, device = autocommitting

    one = device.execute("INSERT INTO t (b, secret) VALUES (5, x'00ff')")
    several = device.execute("INSERT INTO t (a, b) VALUES (5, '1.5'), (NULL, :b), (:a, -0.0)", {"a": "\0é", "b": 1e300})

    assert (one.rowcount, one.description, one.fetchall()) == (1, None, [])
    assert (several.rowcount, several.lastrowid) == (3, one.lastrowid + 3)
    assert device.wait_synced(10), device.sync_status
    for node in (device, primary):
        assert node.execute("SELECT a, b, twice, secret FROM t ORDER BY id").fetchall() == [
            ("left out", 5.0, 10.0, b"\x00\xff"),
            ("5", 1.5, 3.0, None),
            (None, 1e300, 2e300, None),
            ("\0é", 0.0, 0.0, None),
        ]


def test_what_fails_at_once_or_at_commit_leaves_nothing_and_the_next_one_is_sent(autocommitting):
    primary, device = autocommitting
    device.execute("PRAGMA foreign_keys = ON")
    device.execute("INSERT INTO t (secret) VALUES (1)")

    for failing in ("INSERT INTO t (secret) VALUES (2), (1)", "INSERT INTO t (parent) VALUES (77)"):
        with pytest.raises(octodb.IntegrityError):
            device.execute(failing)
        assert not device.in_transaction
    device.execute("INSERT INTO t (secret) VALUES (3)")

    assert device.execute("PRAGMA last_nonce").fetchone() == (2,)
    assert device.wait_synced(10), device.sync_status
    assert rows(primary, "SELECT secret, parent FROM t") == rows(device, "SELECT secret, parent FROM t")
    assert rows(primary, "SELECT secret FROM t") == [(1,), (3,)]


def test_a_trigger_makes_it_a_transaction_like_any_other(autocommitting):
    primary, device = autocommitting
    insert = "INSERT INTO t (a) VALUES ('by hand')"
    device.execute(insert)
    primary.execute(
        "CREATE TRIGGER more AFTER INSERT ON t WHEN NEW.a = 'by hand'"
        " BEGIN INSERT INTO t (a) VALUES ('by trigger'); END"
    )
    assert device.wait_synced(10), device.sync_status

    device.execute(insert)

    assert device.wait_synced(10), device.sync_status
    expected = [("by hand",), ("by hand",), ("by trigger",)]
    assert rows(primary, "SELECT a FROM t") == rows(device, "SELECT a FROM t") == expected
