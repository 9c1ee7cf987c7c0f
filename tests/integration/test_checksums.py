"""Damage on a device's disk is noticed, said, narrowed and mended, by the engine itself and by octodb verify."""

import json
import subprocess
import sys

import apsw
import pytest

from tests.integration.conftest import rows, wait_for

SCHEMA = (
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
    "CREATE TABLE pair (a TEXT NOT NULL, b NOT NULL, row_owner, PRIMARY KEY (a, b)) WITHOUT ROWID;"
)
COUNT = 5000


@pytest.fixture
def synced(world):
    """A primary with rows, and a device that has them."""
    primary = world.primary(SCHEMA)
    numbers = [(number,) for number in range(COUNT)]
    primary.executemany("INSERT INTO t (a, row_owner) VALUES (?, '*')", numbers)
    primary.executemany("INSERT INTO pair (a, b, row_owner) VALUES ('k' || (?1 % 7), ?1, '*')", numbers)
    primary.commit()
    device = world.device("device")
    device.execute("INSERT INTO t (a) VALUES ('mine')")
    device.execute("INSERT INTO t (a, row_owner) VALUES ('local', NULL)")
    device.commit()
    assert device.wait_synced(10)
    return primary, device


def damage(world, *statements):
    with apsw.Connection(f"{world.folder}/device.db") as db:
        for statement in statements:
            db.execute(statement)


def check(device):
    return device.execute("PRAGMA sync_check = 20").fetchone()[0]


def test_equal_rows_are_found_equal(world, synced):
    _, device = synced
    assert check(device) == "ok"
    assert device.sync_status["checksum_ok"] is True


DAMAGES = {
    "changed": ("UPDATE t SET a = -a WHERE id % 1000 = 1",),
    "deleted": ("DELETE FROM t WHERE id % 4000 = 1",),
    "added": ("INSERT INTO pair VALUES ('k1', 'extra', '*')",),
    "class": ("UPDATE t SET a = CAST(a AS TEXT) WHERE rowid = (SELECT min(rowid) FROM t)",),
    "all gone": ("DELETE FROM t WHERE row_owner IS NOT NULL", "DELETE FROM pair"),
    "other keys": ("UPDATE pair SET b = b + 100000",),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_differs_is_told_and_mended(world, synced, name):
    primary, device = synced
    told = []
    device.on("error", told.append)
    device.on("repaired", told.append)
    before = device.sync_status["bytes"]["in"]
    damage(world, *DAMAGES[name])
    assert check(device).startswith(("repaired: ", "ok")), "ok where the engine was faster by itself"
    wait_for(lambda: len(told) >= 2)
    assert told[0]["code"] == "checksum"
    for table in ("t", "pair"):
        sql = f"SELECT * FROM {table} WHERE row_owner IS NOT NULL"
        assert sorted(rows(device, sql), key=repr) == sorted(rows(primary, sql), key=repr)
    assert rows(device, "SELECT a FROM t WHERE row_owner IS NULL") == [("local",)]
    assert check(device) == "ok"
    if name in {"changed", "added", "class"}:
        fetched = device.sync_status["bytes"]["in"] - before
        assert fetched < 100_000, "only the ranges that differ were fetched"


def test_a_device_with_a_queue_or_without_a_primary_is_not_compared(world, synced):
    primary, device = synced
    primary.close()
    wait_for(lambda: not device.sync_status["connected"])
    assert device.execute("PRAGMA sync_check(0.2)").fetchone() == ("unknown",)


def test_the_engine_compares_by_itself_when_it_is_quiet(synced):
    _, device = synced
    wait_for(lambda: device.sync_status["checksum_ok"] is True)


def verify(*arguments):
    command = [sys.executable, "-m", "octocli", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_verify_of_the_command_line(world, synced):
    primary, device = synced
    world.close(device)
    found = verify(world.device_uri("device"))
    assert (found.returncode, found.stdout) == (0, "every row is as on the primary\n"), found.stderr
    damage(world, "DELETE FROM t WHERE id % 4000 = 1")
    found = verify(world.device_uri("device"), "--json")
    assert json.loads(found.stdout) == {"v": 1, "result": "repaired", "tables": ["t"]}, found
    found = verify(f"{world.folder}/primary.db")
    assert found.returncode == 0
    assert "primary" in found.stdout
    world.close(primary)
    found = verify(world.device_uri("device"), "--timeout", "0.5")
    assert found.returncode == 5
    assert "not compared after 0.5 s" in found.stderr


def test_large_rows_are_mended_in_messages_that_fit(world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b, row_owner)")
    for n in range(80):
        primary.execute("INSERT INTO t VALUES (?, 1, zeroblob(1000000), '*')", (n,))
        primary.commit()
    device = world.device("device")
    assert device.wait_synced(20)
    received = device.sync_status["bytes"]["in"]
    damage(world, "UPDATE t SET a = 2 WHERE id = 40")
    assert check(device) == "repaired: t"
    assert rows(device, "SELECT id FROM t WHERE a <> 1") == []
    assert device.sync_status["bytes"]["in"] - received < 10_000_000
