"""Backups of a primary that serves under load, and what becomes of them through the command line."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys

import pytest

import octodb
from tests.integration.conftest import rows, until_line, wait_for
from tests.simulation.oracle import Oracle, log_is_sound

SCHEMA = """
CREATE TABLE note (id INTEGER PRIMARY KEY, author TEXT, n INTEGER, filler, row_owner);
CREATE TABLE total (author TEXT NOT NULL PRIMARY KEY, notes INTEGER, row_owner);
"""

SERVING = """
import sys, octodb
primary = octodb.connect(f"file:{sys.argv[1]}?node=primary&bind=tcp://127.0.0.1:0")
primary.executescript(sys.argv[2])
primary.execute("INSERT INTO note (author, n, filler, row_owner) VALUES ('admin', 0, randomblob(12000000), '*')")
primary.execute("INSERT INTO total VALUES ('admin', 1, '*')")
primary.commit()
print("up", primary.sync_status["bind"][0], flush=True)
n = 0
while True:  # each transaction keeps note and total in step
    n += 1
    primary.execute("INSERT INTO note (author, n, filler, row_owner) VALUES ('admin', ?, randomblob(500), '*')", (n,))
    primary.execute("UPDATE total SET notes = notes + 1 WHERE author = 'admin'")
    primary.commit()
"""

WRITING = """
import sys, octodb
device = octodb.connect(sys.argv[1])
assert device.wait_ready(30)
name = sys.argv[2]
device.execute("INSERT INTO total (author, notes) VALUES (?, 0)", (name,))
device.commit()
print("writing", flush=True)
for n in range(1_000_000):
    device.execute("INSERT INTO note (author, n) VALUES (?, ?)", (name, n))
    device.execute("UPDATE total SET notes = notes + 1 WHERE author = ?", (name,))
    device.commit()
"""


def reading(path):
    return contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True))


def is_replay_of_its_log(path):
    """The rows of the backup are what its log, replayed in order on an empty database, comes to."""
    with reading(path) as db:
        log = db.execute("SELECT seq, owner, origin, nonce, hash, body FROM _octodb_log ORDER BY id").fetchall()
        log_is_sound([(seq, origin, nonce, digest, body) for seq, _, origin, nonce, digest, body in log])
        oracle = Oracle()
        oracle.replay([(seq, owner, nonce, body) for seq, owner, _, nonce, _, body in log])
        for table in ("note", "total"):
            assert sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr) == oracle.rows(table)
        counts = "SELECT author, count(*) FROM note GROUP BY author"
        totals = dict(db.execute("SELECT author, notes FROM total WHERE notes > 0").fetchall())
        assert dict(db.execute(counts).fetchall()) == totals
        return log[-1][0]


def test_backups_under_load_are_each_one_state(tmp_path, programs):
    serving = programs.start(SERVING, tmp_path / "primary.db", SCHEMA)
    address = until_line(serving, "up").split()[1]
    writers = [
        programs.start(WRITING, f"file:{tmp_path}/{name}.db?node=secondary&connect={address}", name) for name in "ab"
    ]
    for writer in writers:
        until_line(writer, "writing")
    # not by the sqlite3 module: two SQLites in one process undo each other's locks (sqlite.org/howtocorrupt.html)
    look = octodb.connect(f"file:{tmp_path}/primary.db?mode=ro", uri=True)
    newest = lambda: look.execute("SELECT max(seq) FROM _octodb_log").fetchone()[0]  # noqa: E731 - asked many times
    heads = []
    for number in range(3):
        at_begin = []

        def progress(_done, _total, at_begin=at_begin):
            if not at_begin:  # the copy has begun: whoever writes is not held up by it
                at_begin.append(newest())
                wait_for(lambda: newest() > at_begin[0] + 5)

        report = octodb.backup(tmp_path / "primary.db", tmp_path / f"backup{number}.db", progress=progress)
        assert report.head <= at_begin[0]
        heads.append(report.head)
    look.close()
    for process in (serving, *writers):
        process.kill()
    assert heads == sorted(set(heads))
    for number, head in enumerate(heads):
        assert is_replay_of_its_log(tmp_path / f"backup{number}.db") == head


def octodb_command(folder, *arguments, limit=None):
    """(exit code, stdout, stderr) of one command."""
    program = [sys.executable, "-m", "octocli", *map(str, arguments)]
    if limit is not None:
        code = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        program[1:3] = ["-c", code + "sys.argv[0] = 'octodb'; runpy.run_module('octocli', run_name='__main__')"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OCTODB_")}
    environment |= {"XDG_STATE_HOME": str(folder / "state"), "PYTHONUTF8": "1"}
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def primary(world):
    """A primary with a device that has synced."""
    primary = world.primary(SCHEMA)
    device = world.device("device")
    device.execute("INSERT INTO note (author, n) VALUES ('ada', 1)")
    device.commit()
    assert device.wait_synced(15)
    return primary


def test_a_lost_primary_is_restored_and_serves(tmp_path, world, primary):
    code, out, err = octodb_command(tmp_path, "backup", "primary.db", "backup.db")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path}/backup.db   primary, ")
    (device,) = (node for node in world.open if node is not primary)
    device.execute("INSERT INTO note (author, n) VALUES ('ada', 2)")
    device.execute("INSERT INTO note (author, n, row_owner) VALUES ('stays here', 1, NULL)")
    device.commit()
    primary.execute("INSERT INTO note (author, n, row_owner) VALUES ('admin', 2, '*')")
    primary.commit()
    assert device.wait_synced(15)
    last_id = primary.execute("SELECT max(node_id) FROM _octodb_nodes").fetchone()[0]

    code, _, err = octodb_command(tmp_path, "restore", "backup.db", "primary.db", "--force")
    assert code == 1
    assert "primary.db is in use" in err

    world.close()
    code, _, err = octodb_command(tmp_path, "restore", "backup.db", "primary.db")
    assert code == 2
    assert "primary.db exists already" in err
    code, out, err = octodb_command(tmp_path, "restore", "backup.db", "primary.db", "--force")
    assert code == 0, err
    assert f"{tmp_path}/primary.db.before-restore" in err
    assert "octodb serve" in err

    offline = world.device("device")
    offline.execute("INSERT INTO note (author, n) VALUES ('ada', 3)")
    offline.commit()
    world.close(offline)

    restored = world.primary()
    assert rows(restored, "SELECT author, n FROM note") == [("ada", 1)]
    device = world.device("device")  # offers again what the backup lacks, and what is new
    assert device.wait_synced(15), device.sync_status
    assert rows(restored, "SELECT author, n FROM note") == [("ada", 1), ("ada", 2), ("ada", 3)]
    assert rows(device, "SELECT author, n FROM note") == [("ada", 1), ("ada", 2), ("ada", 3), ("stays here", 1)]
    restored.execute("INSERT INTO note (author, n, row_owner) VALUES ('admin', 4, '*')")
    restored.commit()
    wait_for(lambda: rows(device, "SELECT 1 FROM note WHERE author = 'admin'"))
    new = world.device("new")
    assert new.sync_status["node_id"] > last_id + 50_000
    new.execute("INSERT INTO note (author, n) VALUES ('new', 1)")
    new.commit()
    assert new.wait_synced(15), new.sync_status
    assert rows(restored, "SELECT author, n FROM note WHERE author = 'new'") == [("new", 1)]
    with reading(tmp_path / "primary.db.before-restore") as old:
        assert old.execute("SELECT author FROM note ORDER BY author").fetchall() == [("ada",), ("ada",), ("admin",)]


def test_a_device_that_the_backup_does_not_know_is_admitted_again_with_all_it_has(world):
    world.primary(SCHEMA, accounts=True)
    octodb.backup(f"{world.folder}/primary.db", f"{world.folder}/backup.db")
    late = world.device("late", user="bob")
    late.execute("INSERT INTO note (author, n) VALUES ('bob', 1)")
    late.commit()
    assert late.wait_synced(15)
    world.close()
    octodb.restore(f"{world.folder}/backup.db", f"{world.folder}/primary.db", force=True)
    restored = world.primary(accounts=True)
    late = world.device("late")
    late.execute("INSERT INTO note (author, n) VALUES ('bob', 2)")
    late.commit()
    wait_for(lambda: late.sync_status["state"] == "unauthorized")
    status = late.sync_status
    restored.execute(f"PRAGMA authorize_user='{status['public_key']}:{status['user_id']}'")
    assert late.wait_synced(15), late.sync_status
    assert rows(restored, "SELECT author, n FROM note") == [("bob", 1), ("bob", 2)]


def test_a_backup_is_checked_and_told_as_json(tmp_path, primary):
    assert octodb_command(tmp_path, "backup", "primary.db", "backup.db", "--quiet")[0] == 0
    code, out, err = octodb_command(tmp_path, "restore", "--check", "backup.db", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["v"], found["role"], found["nodes"]) == (1, "primary", 2)
    assert found["head"] == primary.execute("SELECT max(seq) FROM _octodb_log").fetchone()[0]
    with contextlib.closing(sqlite3.connect(tmp_path / "backup.db")) as db:
        db.execute("UPDATE _octodb_log SET body = x'00'")
        db.commit()
    code, out, err = octodb_command(tmp_path, "restore", "--check", "backup.db")
    assert (code, out) == (3, "")
    assert err.splitlines()[0].startswith("error: ")
    assert "damaged" in err


def test_a_device_is_told_that_its_backup_is_a_copy(tmp_path, primary):
    code, out, err = octodb_command(tmp_path, "backup", "device.db", "copy.db")
    assert code == 0
    assert "secondary" in out
    assert "recognised as a copy" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("backup", "primary.db"), 2, "Missing argument 'TARGET'"),
        (("backup", "", "x.db"), 2, "the name of the database is empty"),
        (("backup", "missing.db", "x.db"), 2, "there is no file"),
        (("backup", "plain.db", "x.db"), 2, "no node's"),
        (("backup", "text", "x.db"), 3, "not a SQLite database"),
        (("backup", "primary.db", "text"), 2, "exists already"),
        (("backup", "primary.db", "missing/x.db"), 1, "No such file or directory"),
        (("restore", "plain.db", "x.db"), 2, "no node's"),
        (("restore", "text", "x.db"), 3, "not a SQLite database"),
        (("restore", "text"), 2, "Missing argument 'TARGET'"),
        (("restore", "--check", "plain.db"), 2, "no node's"),
        (("restore", "--check", "text", "x.db"), 2, "--check takes BACKUP alone"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_lines(tmp_path, primary, arguments, code, said):
    (tmp_path / "text").write_text("no database " * 1000)
    with contextlib.closing(sqlite3.connect(tmp_path / "plain.db")) as db:
        db.execute("CREATE TABLE t (a)")
    found, out, err = octodb_command(tmp_path, *arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert 1 <= len(err.splitlines()) <= 3
    assert not (tmp_path / "x.db").exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_disk_that_fills_up_is_said_and_leaves_nothing(tmp_path, primary, command):
    source = "primary.db"
    if command == "restore":
        octodb.backup(tmp_path / "primary.db", tmp_path / "backup.db")
        source = "backup.db"
    code, out, err = octodb_command(tmp_path, command, source, "x.db", limit=40_000)
    assert (code, out) == (1, "")
    assert f"{source} could not be copied" in err
    assert "nothing was changed" in err
    assert not (tmp_path / "x.db").exists()
    assert not list(tmp_path.glob("*.partial"))
