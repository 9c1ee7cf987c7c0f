"""Who may join is decided later, or taken back, with SQL on the primary (contract.md §4)."""

import socket
import subprocess
import sys
import threading

import pytest

import octodb
from tests.integration.conftest import rows, wait_for

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"


def waiting(primary):
    """Public keys of the devices that wait."""
    return [row[4] for row in primary.execute("PRAGMA nodes") if row[3] == "waiting"]


def test_a_login_that_is_answered_later(world):
    primary = world.primary(SCHEMA, auth="user")
    primary.register_function("user_login", 2, lambda data, node_info: -2)
    device = world.device("device", ready=False)
    device.execute("PRAGMA user_login='please'")
    wait_for(lambda: device.sync_status["auth"]["pending"] and waiting(primary))
    assert waiting(primary) == [device.sync_status["public_key"]]
    answer = primary.execute(f"PRAGMA authorize_user='{waiting(primary)[0]}:7'").fetchall()
    assert device.wait_ready(10), device.sync_status
    assert answer == [(device.sync_status["node_id"], 7)]
    assert device.execute("SELECT this_user()").fetchone() == (7,)
    assert waiting(primary) == []


def test_a_node_waits_until_it_is_authorized(world):
    primary = world.primary(SCHEMA, auth="node")
    device = world.device("device", ready=False)
    wait_for(lambda: waiting(primary))
    assert device.sync_status["state"] == "authorizing"
    primary.execute("BEGIN")
    primary.execute(f"PRAGMA authorize_node='{waiting(primary)[0]}:secondary'")
    primary.commit()
    assert device.wait_ready(10), device.sync_status


def test_a_device_that_is_authorized_before_it_comes_by_another_process(world, programs):
    primary = world.primary(SCHEMA, auth="user")
    device = world.device("device", ready=False)
    key = wait_for(lambda: device.sync_status["public_key"])
    programs.run(
        "import sys, octodb\n"
        "primary = octodb.connect(sys.argv[1])\n"
        "primary.execute(f\"PRAGMA authorize_user='{sys.argv[2]}:0'\")\n",
        f"file:{world.folder}/primary.db?node=primary",
        key,
    )
    assert device.wait_ready(10), device.sync_status
    with pytest.raises(octodb.ProgrammingError, match="belongs to user"):
        primary.execute(f"PRAGMA authorize_user='{key}:99'")


@pytest.mark.parametrize("by", ["public_key", "node_id"])
def test_a_revoked_device_is_cut_off_at_once_and_for_good(world, by):
    primary = world.primary(SCHEMA)
    device = world.device("device")
    other = world.device("other")
    device.execute("INSERT INTO t (a) VALUES ('before')")
    device.commit()
    assert device.wait_synced(10)
    primary.execute(f"PRAGMA revoke_node='{device.sync_status[by]}'")
    wait_for(lambda: device.sync_status["state"] == "revoked")
    device.execute("INSERT INTO t (a) VALUES ('after')")
    device.commit()
    primary.execute("INSERT INTO t (a, row_owner) VALUES ('for all', '*')")
    primary.commit()
    assert other.wait_synced(10)
    assert rows(other, "SELECT a FROM t") == [("for all",)]
    assert rows(primary, "SELECT a FROM t WHERE row_owner <> '*'") == [("before",)]
    assert rows(device, "SELECT a FROM t") == [("after",), ("before",)], "what it has stays readable"
    assert device.sync_status["transactions"]["pending"] == 1
    world.close(device)
    again = world.device("device")
    wait_for(lambda: again.sync_status["state"] == "revoked")
    states = {row[0]: row[3] for row in primary.execute("PRAGMA nodes")}
    assert states[again.sync_status["node_id"]] == "revoked"


@pytest.mark.parametrize("user_id", [10**12, 2**63 - 1])
def test_the_ids_of_a_backend_may_be_large(world, user_id):
    primary = world.primary(SCHEMA, auth="user")
    primary.register_function("user_login", 2, lambda data, node_info: user_id)
    devices = []
    for name in ("phone", "laptop"):
        device = world.device(name, ready=False)
        device.execute("PRAGMA user_login='x'")
        assert device.wait_ready(10), device.sync_status
        device.execute("INSERT INTO t (a) VALUES (?)", (name,))
        device.commit()
        devices.append(device)
    for device in devices:
        assert device.wait_synced(10)
        assert rows(device, "SELECT a, row_owner FROM t") == [("laptop", user_id), ("phone", user_id)]
    assert [device.sync_status["node_id"] for device in devices] == [2, 3]


@pytest.mark.parametrize("user_id", [2**63, 2**70, -7, True, "1", None, 1.0])
def test_an_answer_that_is_no_user_id(world, user_id):
    primary = world.primary(SCHEMA, auth="user")
    primary.register_function("user_login", 2, lambda data, node_info: user_id)
    device = world.device("device", ready=False)
    device.execute("PRAGMA user_login='x'")
    wait_for(lambda: device.sync_status["auth"]["error"])
    assert device.sync_status["auth"]["error"]["code"] == "error"


def test_a_login_that_no_primary_would_take(world):
    world.primary(SCHEMA, auth="user")
    device = world.device("device", ready=False)
    with pytest.raises(octodb.ProgrammingError, match="60,000 bytes"):
        device.execute(f"PRAGMA user_login='{'x' * 60_001}'")


# --- later, and no --------------------------------------------------------------------------------------


def error_of(device):
    return wait_for(lambda: device.sync_status["auth"]["error"])


def put_off(primary, device, data="please"):
    """Send a login that is answered with -2, and wait until it was."""
    device.execute(f"PRAGMA user_login='{data}'")
    wait_for(lambda: device.sync_status["public_key"] in waiting(primary))
    wait_for(lambda: device.sync_status["auth"]["pending"] and not device.sync_status["auth"]["required"])
    return device.sync_status["public_key"]


def later_primary(world):
    primary = world.primary(SCHEMA, auth="user")
    primary.register_function("user_login", 2, lambda data, node_info: -2)
    return primary


def test_a_device_that_waits_is_refused_with_a_reason_and_may_try_again(world):
    primary = later_primary(world)
    device = world.device("device", ready=False)
    key = put_off(primary, device)
    assert primary.execute(f"PRAGMA authorize_user='{key}:-1: not before Monday'").fetchall() == []
    assert error_of(device) == {"code": "denied", "reason": "not before Monday"}
    assert not device.sync_status["auth"]["pending"]
    assert put_off(primary, device, "again") == key
    primary.execute(f"PRAGMA authorize_user='{key}:0'")
    assert device.wait_ready(10), device.sync_status
    with pytest.raises(octodb.ProgrammingError, match="admitted already"):
        primary.execute(f"PRAGMA authorize_user='{key}:-1'")


def test_a_node_that_waits_is_found_and_refused_by_another_process(world, programs):
    primary = world.primary(SCHEMA, auth="node")
    device = world.device("device", ready=False)
    key = wait_for(lambda: waiting(primary))[0]
    found = programs.run(
        "import sys, time, octodb\n"
        "primary = octodb.connect(sys.argv[1])\n"
        "while not (found := [row for row in primary.execute('PRAGMA nodes') if row[3] == 'waiting']):\n"
        "    time.sleep(0.05)\n"
        "primary.execute(f\"PRAGMA authorize_node='{found[0][4]}:-1'\")\n"
        "assert 'waiting_nodes' not in primary.sync_status\n"
        "print(found[0][4], found[0][6], found[0][14])\n",
        f"file:{world.folder}/primary.db?node=primary",
    )
    assert found.split() == [key, socket.gethostname(), "new_node"]
    assert error_of(device) == {"code": "denied", "reason": "not authorized"}
    primary.execute(f"PRAGMA authorize_node='{key}:secondary'")
    assert device.wait_ready(10), "a no can be taken back"


def test_what_is_decided_while_a_device_is_away_is_there_when_it_comes_back(world):
    primary = later_primary(world)
    devices = {name: world.device(name, ready=False) for name in ("let in", "new", "refused")}
    keys = {name: put_off(primary, device) for name, device in devices.items()}
    world.close(*devices.values())
    wait_for(lambda: not waiting(primary))
    primary.execute(f"PRAGMA authorize_user='{keys['let in']}:7'")
    primary.execute(f"PRAGMA authorize_user='{keys['new']}:0'")
    primary.execute(f"PRAGMA authorize_user='{keys['refused']}:-1:no'")
    assert world.device("let in").sync_status["user_id"] == 7
    assert world.device("new").sync_status["user_id"] > 7
    refused = world.device("refused", ready=False)
    refused.execute("PRAGMA user_login='still there?'")
    assert error_of(refused) == {"code": "denied", "reason": "no"}
    put_off(primary, refused)  # it was told once; from now on it is asked about again


def test_a_refusal_outlives_the_primarys_process(world):
    primary = later_primary(world)
    device = world.device("device", ready=False)
    key = put_off(primary, device)
    address = world.address
    world.close(device, primary)
    primary = octodb.connect(f"file:{world.folder}/primary.db?node=primary")  # without bind=: nobody is served
    primary.execute(f"PRAGMA authorize_user='{key}:-1:no'")
    primary.close()
    later_primary_again = world.primary(auth="user", port=int(address.rpartition(":")[2]))
    later_primary_again.register_function("user_login", 2, lambda data, node_info: -2)
    device = world.device("device", ready=False)
    device.execute("PRAGMA user_login='please'")
    assert error_of(device) == {"code": "denied", "reason": "no"}


def test_an_answer_of_a_callback_counts_although_the_line_was_cut_meanwhile(world):
    """The callback may have made a user; asked again it would say that there is one already."""
    primary = world.primary(SCHEMA, auth="user")
    asked, go_on = threading.Event(), threading.Event()
    answers = iter([7, -1, -1])

    def user_signup(data, node_info):
        asked.set()
        assert go_on.wait(10)
        return next(answers)

    primary.register_function("user_signup", 2, user_signup)
    device = world.device("device", ready=False)
    device.execute("PRAGMA user_signup='me'")
    assert asked.wait(10)
    world.close(device)
    wait_for(lambda: not waiting(primary))
    go_on.set()
    wait_for(lambda: 7 in [row[1] for row in primary.execute("PRAGMA nodes")])
    assert world.device("device").sync_status["user_id"] == 7


def test_an_error_can_be_tried_again(world):
    primary = world.primary(SCHEMA, auth="user")
    answers = iter([-3, -3, 7])
    primary.create_function("user_login", 2, lambda data, node_info: next(answers))
    device = world.device("device", ready=False)
    for _ in range(2):
        device.execute("PRAGMA user_login='x'")
        assert error_of(device)["code"] == "error"
    device.execute("PRAGMA user_login='x'")
    assert device.wait_ready(10), device.sync_status


def test_octodb_connect_tells_that_a_node_was_refused(world):
    primary = world.primary(SCHEMA, auth="node")
    primary.register_function("new_node", 1, lambda node_info: (-1, "not one of ours"))
    command = [sys.executable, "-m", "octocli", "connect", world.device_uri("device"), "--timeout", "20"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4, done.stderr
    assert "not one of ours" in done.stderr
