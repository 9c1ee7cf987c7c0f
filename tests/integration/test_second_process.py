"""Several processes on one device file: one syncs, all write, and another takes over when it dies."""

import os

import pytest

import octodb
from tests.integration.conftest import free_port, rows, until_line, wait_for

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


def test_signing_in_beside_the_process_that_syncs_is_an_error_not_silence(programs, world):
    world.primary(SCHEMA, auth="user")
    waiting = "import sys, octodb\ndevice = octodb.connect(sys.argv[1])\nprint('up')\nsys.stdin.read()"
    other = programs.start(waiting, world.device_uri("device"))
    until_line(other, "up")
    device = world.device("device", ready=False)
    with pytest.raises(octodb.OperationalError, match="another process syncs"):
        device.execute("PRAGMA user_login='x'")


FORKING = """
import os, sys, octodb
node = octodb.connect(sys.argv[1])
node.execute("SELECT 1")
read, write = os.pipe()
if (child := os.fork()) == 0:
    os.close(write)
    os.read(read, 1)  # until the parent is done
    os._exit(0)
os.close(read)
node.close()
node = octodb.connect(sys.argv[1])
print("reopened", flush=True)
if "secondary" in sys.argv[1]:
    assert node.wait_ready(20)
    node.execute("INSERT INTO t (marker) VALUES ('after the fork')")
    node.commit()
    print("synced", node.wait_synced(20), flush=True)
    node.close()
else:
    sys.stdin.readline()
    node.close()
os.close(write)
os.waitpid(child, 0)
"""


def test_a_forked_child_holds_neither_lock_nor_sockets(programs, world):
    port = free_port()
    world.primary(SCHEMA, port=port).close()
    primary = programs.start(FORKING, f"file:{world.folder}/primary.db?node=primary&bind=tcp://127.0.0.1:{port}")
    until_line(primary, "reopened")
    device = programs.start(FORKING, world.device_uri("device"))
    assert until_line(device, "synced") == "synced True"
    primary.stdin.write("\n")
    primary.stdin.flush()
    for process in (device, primary):
        assert process.wait(20) == 0, process.stderr.read()
