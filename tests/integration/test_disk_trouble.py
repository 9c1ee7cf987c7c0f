"""Trouble with the disk and the file system: an error with a hint, a status that says so, nothing lost, no verdict made
up, no spinning; and everything goes on by itself once the trouble is over."""

import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import time

import apsw
import pytest

import octodb
from octodb.log.embedded_log import EmbeddedLog
from octodb.runtime.engine_lock import EngineLock
from octodb.runtime.surroundings import Surroundings
from tests.integration.conftest import World, free_port, rows, until_line, wait_for

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, x, row_owner);"
NOBODY = 65534


class SmallDisk:
    """A file system of its own in memory, which can be filled, emptied, enlarged and made read only."""

    def __init__(self, folder, size):
        self.folder = str(folder)
        self._filler = f"{self.folder}/filler"
        if os.geteuid() or shutil.which("mount") is None:
            pytest.skip("only root can mount a small file system")
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.folder]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")

    def fill(self):
        with open(self._filler, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def empty(self):
        os.remove(self._filler)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def close(self):
        subprocess.run(["umount", "-l", self.folder], check=True)


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    disk = SmallDisk(folder, "3m")
    yield disk
    disk.close()


@pytest.fixture
def on_disk(disk):
    """A World on the small disk; closed before that is unmounted."""
    world = World(disk.folder)
    yield world
    world.close()


@pytest.fixture
def thrifty():
    """Whoever is in trouble waits: the whole process may use half a core from here to the end of the test."""
    started, cpu = time.monotonic(), time.process_time()
    yield
    assert time.process_time() - cpu < 0.5 * (time.monotonic() - started) + 0.5


def errors_of(node):
    """The events "error" that tell of storage or of the other side, in a list that grows."""
    found = []
    node.on("error", lambda info: found.append(info["reason"]) if info["code"] != "connection" else None)
    return found


def write(node, sql, times=1):
    for _ in range(times):
        node.execute(sql)
        node.commit()


def says(node, text):
    """Wait until the status tells of the trouble."""
    wait_for(lambda: node.sync_status["state"] == "error" and text in (node.sync_status["last_error"] or ""))


# --- no room ---------------------------------------------------------------------------------------


def test_a_device_on_a_full_disk(world, disk, on_disk, thrifty):
    primary = world.primary(SCHEMA)
    device = on_disk.device("device", connect=world.address)
    events = errors_of(device)
    device.execute("INSERT INTO t (x) VALUES ('first')")
    device.commit()
    assert device.wait_synced(15)
    disk.fill()
    with pytest.raises(octodb.OperationalError, match="full") as error:
        write(device, "INSERT INTO t (x) VALUES (zeroblob(5000))", times=100)
    assert "make room" in error.value.hint
    device.rollback()
    kept = device.execute("SELECT count(*) FROM t").fetchone()
    user = device.sync_status["user_id"]
    disk.fill()
    primary.execute("INSERT INTO t (x, row_owner) VALUES (zeroblob(20000), ?)", (user,))
    primary.commit()
    says(device, "disk is full (make room")
    wait_for(lambda: len(events) >= 3)  # it tries again, each time later
    assert device.execute("SELECT count(*) FROM t").fetchone() == kept
    path = f"{disk.folder}/device.db"
    wait_for(lambda: octodb.read_status(path)["state"] in {"error", "offline"})  # not the "in sync" of before
    disk.empty()
    assert device.wait_synced(60), device.sync_status
    assert device.sync_status["last_error"] is None
    assert device.execute("PRAGMA rejected_transactions").fetchall() == []
    assert rows(device, "SELECT * FROM t") == rows(primary, "SELECT * FROM t")


def test_a_first_download_that_does_not_fit(world, disk, on_disk, thrifty):
    primary = world.primary(SCHEMA)
    primary.executemany("INSERT INTO t (x, row_owner) VALUES (zeroblob(1000), '*')", [()] * 4000)
    primary.commit()
    device = on_disk.device("device", connect=world.address, ready=False)
    events = errors_of(device)
    says(device, "full")
    wait_for(lambda: len(events) >= 2)
    assert not device.is_ready()
    disk.remount("size=40m")
    assert device.wait_ready(60), device.sync_status
    assert device.execute("SELECT count(*) FROM t").fetchone() == (4000,)


def test_a_primary_on_a_full_disk(world, disk, on_disk, thrifty):
    primary = on_disk.primary(SCHEMA)
    device = world.device("device", connect=on_disk.address)
    events, events_of_device = errors_of(primary), errors_of(device)
    disk.fill()
    with pytest.raises(octodb.OperationalError, match="full") as error:
        write(primary, "INSERT INTO t (x, row_owner) VALUES (zeroblob(20000), '*')")
    assert "make room" in error.value.hint
    primary.rollback()
    for _ in range(20):
        device.execute("INSERT INTO t (x) VALUES (zeroblob(2000))")
        device.commit()
    says(primary, "disk is full (make room")
    wait_for(lambda: events and len(events_of_device) >= 3)
    assert device.sync_status["state"] == "error"
    assert device.sync_status["transactions"]["pending"] == 20  # no verdict
    disk.empty()
    assert device.wait_synced(60), device.sync_status
    wait_for(lambda: primary.sync_status["state"] == "in sync")
    assert device.execute("PRAGMA rejected_transactions").fetchall() == []
    assert primary.execute("SELECT count(*) FROM t").fetchone() == (20,)


def test_opening_where_there_is_no_room(world, disk, on_disk):
    world.primary(SCHEMA)
    disk.fill()
    uri = on_disk.device_uri("device", world.address)
    for _ in range(2):
        with pytest.raises(octodb.OperationalError, match="full") as error:
            octodb.connect(uri)
        assert "make room" in error.value.hint
    disk.empty()
    assert on_disk.device("device", connect=world.address).is_ready()


LIMITED = """
import os, resource, sys, octodb
device = octodb.connect(sys.argv[1], isolation_level=None)
assert device.wait_ready(20)
size = os.path.getsize(sys.argv[2] + "-wal")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100_000, hard))
written = 0
try:
    while True:
        device.execute("INSERT INTO t (x) VALUES (zeroblob(5000))")
        written += 1
except octodb.OperationalError as error:
    print("error", error, "|", error.hint, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print("synced", device.wait_synced(60), written, device.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files here")
def test_a_limit_on_the_size_of_files(programs, world):
    primary = world.primary(SCHEMA)
    program = programs.start(LIMITED, world.device_uri("device"), f"{world.folder}/device.db")
    message, _, hint = until_line(program, "error").partition(" | ")
    assert "I/O" in message or "full" in message
    assert "room" in hint
    _, synced, written, found = until_line(program, "synced").split()
    assert (synced, int(found)) == ("True", int(written))
    assert primary.execute("SELECT count(*) FROM t").fetchone() == (int(written),)


# --- damage ----------------------------------------------------------------------------------------


def damage(path, where):
    """Overwrite the header, or everything behind the tables that a node needs to be opened."""
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        start, end = (0, 200) if where == "header" else (40_960, size)
        assert end > start
        file.seek(start)
        file.write(b"\xa5" * (end - start))


@pytest.mark.parametrize("where", ["header", "middle"])
@pytest.mark.parametrize("whose", ["device", "primary"])
def test_a_file_is_damaged_while_it_is_open(world, whose, where, thrifty):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    for _ in range(200):
        device.execute("INSERT INTO t (x) VALUES (zeroblob(1000))")
        device.commit()
    assert device.wait_synced(15)
    node, other = (device, primary) if whose == "device" else (primary, device)
    events = errors_of(node)
    with contextlib.closing(apsw.Connection(f"{world.folder}/{whose}.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    damage(f"{world.folder}/{whose}.db", where)
    for sql in ("SELECT sum(length(x)) FROM t", "INSERT INTO t (x) VALUES (1)"):
        with pytest.raises(octodb.DatabaseError, match=r"malformed|not a database") as error:
            node.execute(sql).fetchall()
        assert "damaged" in error.value.hint
    with contextlib.suppress(octodb.Error):
        node.rollback()
    insert = "INSERT INTO t (x, row_owner) VALUES (1, '*')" if whose == "device" else "INSERT INTO t (x) VALUES (1)"

    def told():
        """The engine has pages in memory, and meets the damage when it needs another."""
        other.execute(insert)
        other.commit()
        return events

    wait_for(told)
    says(node, "damaged")
    if whose == "primary":
        says(device, "primary")
        assert device.sync_status["transactions"]["pending"] >= 1
        assert device.execute("PRAGMA rejected_transactions").fetchall() == []
    else:
        assert primary.sync_status["state"] == "in sync"


@pytest.mark.parametrize("where", ["header", "middle"])
@pytest.mark.parametrize("whose", ["device", "primary"])
def test_a_damaged_file_is_opened(world, whose, where):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    uri = device.node_uri if whose == "device" else primary.node_uri
    world.close(device, primary)
    path = f"{world.folder}/{whose}.db"
    if where == "header":
        damage(path, where)
    else:
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xa5" * (os.path.getsize(path) - 4096))
    with pytest.raises(octodb.DatabaseError) as error:
        octodb.connect(uri)
    assert "damaged" in error.value.hint
    with pytest.raises(octodb.DatabaseError, match=r"cannot read|not a SQLite database") as error:
        octodb.read_status(path)
    assert "damaged" in error.value.hint


@pytest.mark.parametrize("whose", ["device", "primary"])
def test_a_file_is_deleted_underneath(world, whose, thrifty, monkeypatch):
    """SQLite would go on in the deleted file, and all of it would be gone with the process."""
    monkeypatch.setattr("octodb.runtime.file_identity._LOOK_AGAIN_S", 0)
    primary = world.primary(SCHEMA)
    device = world.device("device")
    device.execute("INSERT INTO t (x) VALUES ('kept')")
    device.commit()
    assert device.wait_synced(15)
    node = device if whose == "device" else primary
    events = errors_of(node)
    path = f"{world.folder}/{whose}.db"
    os.rename(path, path + ".moved")
    with pytest.raises(octodb.OperationalError, match="deleted, moved or replaced") as error:
        write(node, "INSERT INTO t (x) VALUES ('x')")
    assert "backup" in error.value.hint
    node.rollback()
    says(node, "deleted, moved or replaced")
    wait_for(lambda: events)
    copy = octodb.connect(":memory:")
    world.open.append(copy)
    node.backup(copy)  # what the hint says
    assert rows(copy, "SELECT x FROM t") == [("kept",)]
    if whose == "primary":
        device.execute("INSERT INTO t (x) VALUES ('waits')")
        device.commit()
        says(device, "primary")
        assert device.sync_status["transactions"]["pending"] == 1  # no verdict from a file that is gone
    os.rename(path + ".moved", path)
    device.execute("INSERT INTO t (x) VALUES ('back')")
    device.commit()
    assert device.wait_synced(30), device.sync_status
    wait_for(lambda: node.sync_status["state"] == "in sync")
    assert rows(primary, "SELECT x FROM t") == rows(device, "SELECT x FROM t")


# --- what may not be written, or cannot be made ------------------------------------------------------


def test_a_read_only_file_system(world, disk, on_disk):
    world.primary(SCHEMA)
    device = on_disk.device("device", connect=world.address)
    on_disk.close(device)
    disk.remount("ro")
    uri = on_disk.device_uri("device", world.address)
    port = free_port()
    for one in (
        uri,
        uri + "&mode=ro",
        on_disk.device_uri("new", world.address),
        f"file:{disk.folder}/new.db?node=primary&bind=tcp://127.0.0.1:{port}",
    ):
        with pytest.raises(octodb.OperationalError, match="cannot open") as error:
            octodb.connect(one)
        assert "cannot read and write" in error.value.hint
    with pytest.raises(octodb.OperationalError, match="cannot read"):
        octodb.read_status(f"{disk.folder}/device.db")
    disk.remount("rw")
    assert on_disk.device("device", connect=world.address).wait_synced(15)


SOMEBODY_ELSE = f"""
import os, sys, octodb
octodb.connect(sys.argv[1]).close()  # imports what it needs while it may
os.setuid({NOBODY})
for uri in sys.argv[2:]:
    try:
        octodb.connect(uri)
        print("opened", uri)
    except octodb.OperationalError as error:
        print("refused", error, "|", error.hint)
print("end", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_and_a_folder_of_somebody_else(programs, world):
    world.primary(SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        theirs = World(folder)
        theirs.close(theirs.device("device", connect=world.address))
        os.chmod(f"{folder}/device.db", 0o644)
        uri = theirs.device_uri("device", world.address)
        uris = [uri, uri + "&mode=ro", theirs.device_uri("new", world.address)]
        out = programs.run(SOMEBODY_ELSE, world.device_uri("other"), *uris).splitlines()
    assert len(out) == 4
    for line in out[:3]:
        assert line.startswith("refused"), line
        assert "writ" in line.partition("|")[2], line


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-octodb.lock"])
def test_a_file_beside_the_database_cannot_be_made(world, suffix):
    world.primary(SCHEMA)
    path = f"{world.folder}/device.db"
    os.mkdir(path + suffix)
    with pytest.raises(octodb.OperationalError) as error:
        octodb.connect(world.device_uri("device"))
    assert "write" in error.value.hint
    os.rmdir(path + suffix)
    assert world.device("device").is_ready()


def test_a_file_system_without_shared_memory(world):
    """As SQLite sees network file systems: WAL mode cannot be had, and the journal stays as it is."""
    world.primary(SCHEMA)
    with pytest.raises(octodb.OperationalError, match="WAL mode") as error:
        octodb.connect(world.device_uri("device") + "&vfs=unix-none")
    assert "local disk" in error.value.hint


# --- engines that cannot begin, or stumble ------------------------------------------------------------


@pytest.fixture
def stumble(monkeypatch):
    """stumble(class, method, error): the next call of the method raises it, once."""

    def arrange(owner, method, error):
        original = getattr(owner, method)

        def once(*arguments):
            monkeypatch.setattr(owner, method, original)
            raise error

        monkeypatch.setattr(owner, method, once)

    return arrange


def test_an_engine_that_cannot_begin_leaves_its_lock(world, stumble):
    world.primary(SCHEMA)
    stumble(Surroundings, "engine_connection", apsw.CantOpenError("unable to open database file"))
    with pytest.raises(octodb.Error):
        octodb.connect(world.device_uri("device"))
    assert not EngineLock(f"{world.folder}/device.db").is_held_by_somebody()
    assert world.device("device").wait_synced(15)


def test_an_engine_that_cannot_take_over_tries_again(programs, world, stumble, monkeypatch):
    monkeypatch.setattr("octodb.runtime.device_engine._TROUBLE_S", 0.2)
    primary = world.primary(SCHEMA)
    first = programs.start(
        "import sys, octodb\nd = octodb.connect(sys.argv[1])\nd.wait_ready(20)\nprint('up')\nsys.stdin.read()",
        world.device_uri("device"),
    )
    until_line(first, "up")
    device = world.device("device")
    events = errors_of(device)
    stumble(Surroundings, "engine_connection", apsw.CantOpenError("unable to open database file"))
    first.kill()
    first.wait()
    wait_for(lambda: events)
    device.execute("INSERT INTO t (x) VALUES ('sent all the same')")
    device.commit()
    assert device.wait_synced(15), device.sync_status
    assert rows(primary, "SELECT x FROM t") == [("sent all the same",)]


def test_a_primary_that_could_not_read_its_log_once_goes_on(world, stumble):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    events = errors_of(primary)
    stumble(EmbeddedLog, "read_after_id", apsw.IOError("disk I/O error"))
    primary.execute("INSERT INTO t (x, row_owner) VALUES ('late', '*')")
    primary.commit()
    wait_for(lambda: events)
    wait_for(lambda: rows(device, "SELECT x FROM t") == [("late",)])
