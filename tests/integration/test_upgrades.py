"""Files of earlier formats (tests/fixtures/format1, format2) in use: they sync on, with each other and with new
ones; upgrades that are killed, or happen twice at once."""

import contextlib
import pathlib

import pytest

import octodb
from octodb.model.identities import FORMAT_NUMBER
from tests.fixtures import dumps
from tests.integration.conftest import rows, until_line, wait_for

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
MINE = "SELECT title FROM task WHERE row_owner = (SELECT row_owner FROM handle WHERE handle = 'ada')"


@pytest.fixture(params=[1, 2], ids="format {}".format)
def old_format(request):
    return request.param


@pytest.fixture
def old_files(tmp_path, old_format):
    """primary.db and device.db as an octodb of an earlier format left them."""
    for name in ("primary", "device"):
        dumps.load(tmp_path / f"{name}.db", (FIXTURES / f"format{old_format}" / f"{name}.sql").read_text())
    return tmp_path


def stored_format(path):
    with contextlib.closing(octodb.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute("SELECT value FROM _octodb_meta WHERE key = 'format'").fetchone()[0]


def test_both_sides_sync_on_where_they_stopped(old_files, world):
    primary = world.primary(accounts=True)
    device = world.device("device")
    assert device.wait_synced(20), device.sync_status
    status = device.sync_status["transactions"]
    assert (status["last_nonce"], status["pending"], status["rejected"]) == (12, 0, 2)
    verdicts = [device.execute(f"PRAGMA transaction_status({n})").fetchone()[0] for n in range(7, 13)]
    assert verdicts == ["accepted", "rejected", "accepted", "accepted", "rejected", "accepted"]
    # what was written offline is on the primary, what the primary wrote meanwhile is here
    mine = [("sent to ada",), ("task 0",), ("task 1",), ("task 3",), ("written offline",)]
    assert rows(device, MINE) == rows(primary, MINE) == mine
    assert rows(device, "SELECT title, due FROM task WHERE due IS NOT NULL") == [("for everybody", "today")]
    assert rows(device, "SELECT title FROM task WHERE row_owner IS NULL") == [("stays on the phone",)]
    assert rows(device, "SELECT * FROM setting") == [("theme", "dark")]
    # 8 was the refused one's: ids of rows that are gone are not used again
    device.execute("INSERT INTO task (title) VALUES ('new')")
    device.commit()
    (new,) = device.execute("SELECT id & 0xffffffff FROM task WHERE title = 'new'").fetchone()
    assert new == 9


def test_new_devices_get_all_of_an_upgraded_primary(old_files, world):
    primary = world.primary(accounts=True)
    device = world.device("device")
    assert device.wait_synced(20)
    second = world.device("second", user="ada")
    assert rows(second, MINE) == rows(primary, MINE)
    second.execute("INSERT INTO task (title) VALUES ('from the new one')")
    second.commit()
    wait_for(lambda: rows(device, "SELECT 1 FROM task WHERE title = 'from the new one'"))
    stranger = world.device("stranger", user="dan")
    assert rows(stranger, "SELECT title FROM task") == [("for everybody",), ("read the manual",)]


def test_an_upgraded_device_stays_usable_offline(old_files, world):
    device = world.device("device", connect="tcp://127.0.0.1:1")
    device.execute("DELETE FROM task WHERE title = 'task 0'")
    device.commit()
    assert device.sync_status["transactions"]["pending"] == 5


OPEN = """
import sys, octodb
sys.stdin.readline()
node = octodb.connect(sys.argv[1])
print("pending", node.sync_status["transactions"]["pending"])
node.close()
"""


def test_two_processes_that_open_it_at_once_upgrade_it_once(old_files, old_format, programs, world):
    uri = world.device_uri("device", "tcp://127.0.0.1:1")
    both = [programs.start(OPEN, uri) for _ in range(2)]
    for program in both:
        program.stdin.write("\n")
        program.stdin.flush()
    assert [until_line(program, "pending") for program in both] == ["pending 4", "pending 4"]
    assert [program.wait(20) for program in both] == [0, 0]
    assert stored_format(old_files / "device.db") == FORMAT_NUMBER
    assert [path.name for path in old_files.glob("device.db*bak*")] == [f"device.db-octodb.format{old_format}.bak"]


KILLED = """
import os, signal, sys, octodb
from octodb.storage import upgrades

def then_die(function):
    def dying(*arguments, **options):
        function(*arguments, **options)
        print("dying", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return dying

setattr(upgrades, sys.argv[2], then_die(getattr(upgrades, sys.argv[2])))
octodb.connect(sys.argv[1])
"""


@pytest.mark.parametrize("step", ["copy_node_file", "_keep_copy", "upgrade_meta_tables"])
def test_a_killed_upgrade_is_done_by_the_next_to_open(old_files, old_format, programs, world, step):
    dying = programs.start(KILLED, world.device_uri("device", "tcp://127.0.0.1:1"), step)
    until_line(dying, "dying")
    assert dying.wait(20) == -9
    assert stored_format(old_files / "device.db") == old_format
    world.primary(accounts=True)
    device = world.device("device")
    assert device.wait_synced(20), device.sync_status
    assert device.sync_status["transactions"]["last_nonce"] == 12
    assert stored_format(old_files / "device.db") == FORMAT_NUMBER
    assert [path.name for path in old_files.glob("device.db*bak*")] == [f"device.db-octodb.format{old_format}.bak"]


LIMITED = """
import resource, sys, octodb
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    octodb.connect(sys.argv[1])
except octodb.OperationalError as error:
    print(error, "|", error.hint)
"""


def test_a_disk_that_fails_while_the_copy_is_written_leaves_the_file_as_it_was(old_files, old_format, programs, world):
    before = (old_files / "device.db").read_bytes()
    said = programs.run(LIMITED, world.device_uri("device", "tcp://127.0.0.1:1"))
    assert "device.db could not be copied" in said
    assert "nothing was changed" in said
    assert stored_format(old_files / "device.db") == old_format
    assert len((old_files / "device.db").read_bytes()) == len(before)
    assert not list(old_files.glob("device.db-octodb*bak*"))
