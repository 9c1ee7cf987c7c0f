"""Several addresses, servers that die and come back, processes that share a file."""

import os
import socket
import subprocess
import sys

import octodb
from tests.integration.conftest import free_port, rows, until_line, wait_for
from tests.integration.test_crashes import PRIMARY


def test_two_dead_addresses_and_one_live_one(programs, tmp_path):
    live = free_port()
    uri = f"file:{tmp_path}/primary.db?node=primary&bind=tcp://127.0.0.1:{live}"
    primary = programs.start(PRIMARY, uri)
    until_line(primary, "up")
    dead = [free_port(), free_port()]
    addresses = ",".join(f"tcp://127.0.0.1:{port}" for port in (*dead, live))
    device = octodb.connect(f"file:{tmp_path}/device.db?node=secondary&connect={addresses}")
    try:
        assert device.wait_ready(15), device.sync_status
        assert device.sync_status["server"] == f"tcp://127.0.0.1:{live}"

        primary.kill()
        primary.wait()
        wait_for(lambda: not device.sync_status["connected"])
        device.execute("INSERT INTO t (marker) VALUES ('offline')")
        device.commit()
        status = device.sync_status
        assert (status["transactions"]["pending"], status["upstream_state"] != "in sync") == (1, True)

        until_line(programs.start(PRIMARY, uri), "up")
        assert device.wait_synced(30), device.sync_status
        reader = octodb.connect(f"file:{tmp_path}/primary.db?mode=ro", uri=True)
        assert rows(reader, "SELECT marker FROM t") == [("offline",)]
        reader.close()
    finally:
        device.close()


def test_an_address_that_never_answers_is_given_up(world):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, row_owner);")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as black_hole:
        mute = f"tcp://127.0.0.1:{black_hole.getsockname()[1]}"
        device = world.device("device", connect=f"{mute},{world.address}", ready=False)
        # it accepts, says nothing, and is given up after the handshake's limit
        assert device.wait_ready(40), device.sync_status
        assert device.sync_status["server"] == world.address


def test_another_process_writes_to_the_same_file_and_takes_over(programs, world):
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, marker, row_owner);")
    device = world.device("device")
    uri = world.device_uri("device")
    other = programs.start(
        """
import sys, octodb
device = octodb.connect(sys.argv[1])
device.execute("INSERT INTO t (marker) VALUES ('from the other process')")
device.commit()
status = device.sync_status
print("engine", status["engine"]["pid"], status["engine"]["age_s"] < 60)
sys.stdin.readline()
device.execute("INSERT INTO t (marker) VALUES ('after the take-over')")
device.commit()
print("synced", device.wait_synced(20))
sys.stdin.readline()
""",
        uri,
    )
    assert until_line(other, "engine") == f"engine {os.getpid()} True"
    wait_for(lambda: rows(primary, "SELECT marker FROM t") == [("from the other process",)])
    assert octodb.read_status(f"{world.folder}/device.db")["engine"]["pid"] == os.getpid()

    world.close(device)
    other.stdin.write("\n")
    other.stdin.flush()
    assert until_line(other, "synced") == "synced True"
    assert len(rows(primary, "SELECT marker FROM t")) == 2
    other.kill()
    other.wait()
    assert octodb.read_status(f"{world.folder}/device.db")["engine"] is None


def test_an_application_beside_the_server_commits_to_the_log(programs, world):
    world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, marker, row_owner);")
    device = world.device("device")
    programs.run(
        """
import sys, octodb
primary = octodb.connect(sys.argv[1])
primary.execute("INSERT INTO t (marker, row_owner) VALUES ('beside', '*')")
primary.commit()
primary.close()
""",
        f"file:{world.folder}/primary.db?node=primary",
    )
    wait_for(lambda: rows(device, "SELECT marker FROM t") == [("beside",)])


def test_an_application_on_the_primary_does_not_keep_the_server_from_starting(programs, world):
    path = f"{world.folder}/primary.db"
    beside = octodb.connect(f"file:{path}?node=primary")
    world.open.append(beside)
    beside.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, marker, row_owner)")
    beside.commit()
    server = programs.start(PRIMARY, f"file:{path}?node=primary&bind=tcp://127.0.0.1:0")
    until_line(server, "up")
    world.address = octodb.read_status(path)["bind"][0]
    device = world.device("device")
    beside.execute("INSERT INTO t (marker, row_owner) VALUES ('beside', '*')")
    beside.commit()
    wait_for(lambda: rows(device, "SELECT marker FROM t") == [("beside",)])
    assert beside.sync_status["engine"]["pid"] == server.pid


def test_closing_while_a_name_is_looked_up_says_nothing(tmp_path):
    program = """
import gc, octodb, sys
for number in range(4):
    octodb.connect(f"file:{sys.argv[1]}/d{number}.db?node=secondary&connect=tcp://nowhere.invalid:1").close()
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("", "")
