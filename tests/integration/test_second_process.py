"""Several processes on one device file: one syncs, all write, and another takes over when it dies."""

import os
import time

import pytest

import octodb
from octodb.runtime.engine_lock import EngineLock
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


READING = """
import sys, octodb
device = octodb.connect(sys.argv[1])
print("reads", device.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
sys.stdin.read()
"""


def test_who_only_reads_runs_no_engine(programs, world):
    """mode=ro: its process neither syncs the file nor keeps another from it."""
    primary = world.primary(SCHEMA)
    device = world.device("device")
    uri = world.device_uri("device") + "&mode=ro"
    reader = octodb.connect(uri)
    world.open.append(reader)
    assert reader.sync_status["engine"]["pid"] == os.getpid()  # the other connection's
    world.close(device)
    with pytest.raises(octodb.OperationalError):
        reader.execute("INSERT INTO t (marker) VALUES ('x')")
    reader.rollback()
    assert (reader.sync_status["state"], reader.sync_status["engine"]) == ("offline", None)
    # a process that can be killed, so that the engine lock is nobody's by the operating system's word
    other = programs.start(READING, uri)
    assert until_line(other, "reads") == "reads 0"
    assert not EngineLock(f"{world.folder}/device.db").is_held_by_somebody()
    assert octodb.read_status(f"{world.folder}/device.db")["engine"] is None

    device = world.device("device")
    device.execute("INSERT INTO t (marker) VALUES ('after it')")
    device.commit()
    assert device.wait_synced(15), device.sync_status
    assert rows(primary, "SELECT marker FROM t") == rows(reader, "SELECT marker FROM t") == [("after it",)]


def test_a_device_that_only_reads_cannot_be_signed_in(world):
    world.primary(SCHEMA, auth="user")
    world.close(world.device("device", ready=False))
    reader = octodb.connect(world.device_uri("device") + "&mode=ro")
    world.open.append(reader)
    with pytest.raises(octodb.OperationalError, match="mode=ro") as error:
        reader.execute("PRAGMA user_login='x'")
    assert error.value.hint


WRITING = """
import sys, octodb
device = octodb.connect(sys.argv[1], isolation_level=None)
device.wait_ready(20)
print("ready", flush=True)
n = 0
stop = False
while not stop:
    device.execute("INSERT INTO t (marker) VALUES (?)", (f"m{n}",))
    n += 1
    if n % 50 == 0:
        print("wrote", n, device.sync_status["engine"], flush=True)
        stop = sys.stdin.readline().strip() == "stop"
print("total", n, device.wait_synced(30), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["SIGKILL", "exit"])
def test_the_engine_is_handed_over_while_another_process_writes(programs, world, how):
    primary = world.primary(SCHEMA)
    engine = programs.start(SYNCING, world.device_uri("device"))
    until_line(engine, "engine")
    writer = programs.start(WRITING, world.device_uri("device"))
    until_line(writer, "ready")

    def go_on(word="go"):
        writer.stdin.write(f"{word}\n")
        writer.stdin.flush()

    said = until_line(writer, "wrote 50 ")
    assert f"'pid': {engine.pid}," in said  # the status of a process without the engine names it …
    age_s = float(said.partition("'age_s': ")[2].rstrip("}"))
    assert 0 <= age_s < 5, said  # … and says how old it is
    if how == "SIGKILL":
        engine.kill()
    else:
        engine.stdin.close()
    go_on()
    until_line(writer, "wrote 100")
    engine.wait(15)
    gone_at = time.monotonic()
    wait_for(lambda: EngineLock(f"{world.folder}/device.db").is_held_by_somebody())
    took_s = time.monotonic() - gone_at
    go_on("stop")
    assert until_line(writer, "total") == "total 100 True"
    assert octodb.read_status(f"{world.folder}/device.db")["engine"]["pid"] == writer.pid
    counts = "SELECT count(*), count(DISTINCT marker), count(DISTINCT id) FROM t"
    assert primary.execute(counts).fetchone() == (100, 100, 100)
    assert took_s < 5  # half a second, and what a busy machine adds


CHILD_WRITES = """
import os, sys, octodb
def write(node, marker):
    node.execute("INSERT INTO t (marker) VALUES (?)", (marker,))
    node.commit()
uri = sys.argv[1]
parent = octodb.connect(uri)
parent.wait_ready(20)
write(parent, "before")
if (child := os.fork()) == 0:
    node = octodb.connect(uri)  # its own; the parent's engine sends what it writes
    write(node, "child")
    engine = node.sync_status["engine"]["pid"]
    node.close()
    os._exit(0 if engine == os.getppid() else 3)
write(parent, "beside")
_, code = os.waitpid(child, 0)
write(parent, "after")
print("child", code, parent.wait_synced(20), parent.sync_status["engine"]["pid"] == os.getpid(), flush=True)
if (child := os.fork()) == 0:
    parent_pid = os.getppid()
    node = octodb.connect(uri)
    print("waits", flush=True)
    sys.stdin.readline()  # the parent is gone
    write(node, "orphan")
    print("orphan", node.wait_synced(20), node.sync_status["engine"]["pid"] == os.getpid(), flush=True)
    node.close()
    os._exit(0)
sys.stdin.close()
parent.close()
os._exit(0)
"""


def test_a_forked_child_starts_clean(programs, world):
    """It opens the file anew beside its parent, and takes the engine over when that is gone."""
    primary = world.primary(SCHEMA)
    program = programs.start(CHILD_WRITES, world.device_uri("device"))
    assert until_line(program, "child") == "child 0 True True"
    until_line(program, "waits")
    assert program.wait(20) == 0
    program.stdin.write("\n")
    program.stdin.flush()
    assert until_line(program, "orphan") == "orphan True True"
    written = [("after",), ("before",), ("beside",), ("child",), ("orphan",)]
    wait_for(lambda: rows(primary, "SELECT marker FROM t") == written)


FORKS_WHILE_WRITING = """
import os, sys, octodb
node = octodb.connect(sys.argv[1])
node.wait_ready(20)
def child(work):
    if (pid := os.fork()) == 0:
        try:
            print(work(), flush=True)
        except octodb.Error as error:
            print(type(error).__name__, error, "|", error.hint, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
child(lambda: node.execute("SELECT count(*) FROM t").fetchone())
child(lambda: node.sync_status)
node.execute("INSERT INTO t (marker) VALUES ('of the parent')")
child(lambda: octodb.connect(sys.argv[1]))
node.commit()
child(lambda: octodb.connect(sys.argv[1]).execute("SELECT marker FROM t").fetchall())
print("synced", node.wait_synced(20), flush=True)
"""


def test_what_a_forked_child_must_not_do_is_an_error(programs, world):
    primary = world.primary(SCHEMA)
    program = programs.start(FORKS_WHILE_WRITING, world.device_uri("device"))
    for _ in range(2):
        assert "open the database anew in the child" in until_line(program, "ProgrammingError")
    refused = until_line(program, "OperationalError")
    assert "being written when this process was forked" in refused
    assert "commit before the fork" in refused
    assert until_line(program, "[") == "[('of the parent',)]"
    assert until_line(program, "synced") == "synced True"
    assert rows(primary, "SELECT marker FROM t") == [("of the parent",)]


ONE_WRITE = """
import sys, time, octodb
node = octodb.connect(sys.argv[1], isolation_level=None)
node.wait_ready(20)
for _ in range(15):
    print("now", flush=True)
    sys.stdin.readline()
    node.execute(sys.argv[2], (time.time(),))
"""


@pytest.mark.parametrize("role", ["secondary", "primary"])
def test_commits_of_other_processes_go_out_at_once(programs, world, role):
    """A poke wakes the engine: nobody waits for its next look at the file, which is every 100 ms."""
    primary = world.primary("CREATE TABLE t (id INTEGER PRIMARY KEY, at REAL, row_owner)")
    device = world.device("device")
    if role == "secondary":
        uri, sees, sql = world.device_uri("device"), primary, "INSERT INTO t (at) VALUES (?)"
    else:
        uri = f"file:{world.folder}/primary.db?node=primary"
        sees, sql = device, "INSERT INTO t (at, row_owner) VALUES (?, '*')"
    writer = programs.start(ONE_WRITE, uri, sql)
    took_s = []
    for count in range(1, 16):
        until_line(writer, "now")
        writer.stdin.write("\n")
        writer.stdin.flush()
        wait_for(lambda count=count: sees.execute("SELECT count(*) FROM t").fetchone()[0] == count)
        (written,) = sees.execute("SELECT max(at) FROM t").fetchone()
        took_s.append(time.time() - written)
    # looks alone would take 50 ms in the middle of them
    assert sorted(took_s)[7] < 0.04, took_s
