"""Several processes on one device file: one syncs, all write, and another takes over when it dies."""

import os

import octodb
from tests.integration.conftest import rows, until_line, wait_for

SYNCING = """
import sys, octodb
device = octodb.connect(sys.argv[1])
device.wait_ready(20)
print("engine", device.sync_status["engine"]["pid"])
sys.stdin.read()
"""

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, marker, row_owner);"


def test_the_status_is_read_while_another_process_syncs(programs, world):
    world.primary(SCHEMA)
    other = programs.start(SYNCING, world.device_uri("device"))
    until_line(other, "engine")
    path = f"{world.folder}/device.db"
    wait_for(lambda: octodb.read_status(path)["state"] == "in sync")
    status = octodb.read_status(path)
    assert status["engine"]["pid"] == other.pid
    assert (status["db_is_ready"], status["connected"], status["server"]) == (True, True, world.address)
    # reading starts nothing: the other process goes on as the one that syncs
    assert octodb.read_status(path)["engine"]["pid"] == other.pid != os.getpid()


def test_a_killed_process_loses_the_engine_to_the_next(programs, world):
    primary = world.primary(SCHEMA)
    other = programs.start(SYNCING, world.device_uri("device"))
    until_line(other, "engine")
    device = world.device("device")
    device.execute("INSERT INTO t (marker) VALUES ('by way of the other')")
    device.commit()
    wait_for(lambda: rows(primary, "SELECT marker FROM t"))
    assert device.sync_status["engine"]["pid"] == other.pid

    other.kill()
    other.wait()
    device.execute("INSERT INTO t (marker) VALUES ('taken over')")
    device.commit()
    assert device.wait_synced(15), device.sync_status
    assert device.sync_status["engine"]["pid"] == os.getpid()
    assert rows(primary, "SELECT marker FROM t") == [("by way of the other",), ("taken over",)]


def test_processes_that_write_at_once_use_each_number_once(programs, world):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    writers = [
        programs.start(
            """
import sys, octodb
device = octodb.connect(sys.argv[1])
for n in range(100):
    device.execute("INSERT INTO t (marker) VALUES (?)", (f"{sys.argv[2]} {n}",))
    device.commit()
device.close()
print("done")
""",
            world.device_uri("device"),
            name,
        )
        for name in ("a", "b")
    ]
    for n in range(100):
        device.execute("INSERT INTO t (marker) VALUES (?)", (f"here {n}",))
        device.commit()
    for writer in writers:
        until_line(writer, "done")
    assert device.wait_synced(20), device.sync_status
    counts = "SELECT count(*), count(DISTINCT id), count(DISTINCT marker) FROM t"
    assert primary.execute(counts).fetchone() == device.execute(counts).fetchone() == (300, 300, 300)
    assert device.execute("PRAGMA last_nonce").fetchone() == (300,)
    assert device.sync_status["transactions"]["rejected"] == 0
