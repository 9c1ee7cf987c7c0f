"""``octodb nodes``: a primary's devices listed, admitted, refused and cut off, beside the process that serves it."""

import contextlib
import json

import pytest

import octodb
from octocli.main import run
from tests.integration.conftest import wait_for


@pytest.fixture
def cli(world, capsys):
    """Run one command; give (exit code, stdout, stderr)."""

    def call(*arguments):
        code = run(["nodes", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def listed(cli, world, *options):
    code, out, _ = cli(f"{world.folder}/primary.db", "--json", *options)
    assert code == 0
    return [json.loads(line) for line in out.splitlines()]


SERVE = """
import octodb, sys
primary = octodb.connect(sys.argv[1])
primary.register_function("user_login", 2, lambda data, node_info: -2)
print("at", primary.sync_status["bind"][0])
sys.stdin.readline()
"""


@pytest.fixture
def served(world, programs):
    """A primary served by another process, as in real life."""

    def serve(auth):
        uri = f"file:{world.folder}/primary.db?node=primary&bind=tcp://127.0.0.1:0&auth={auth}"
        process = programs.start(SERVE, uri)
        world.address = process.stdout.readline().split()[1]
        return process

    return serve


def test_devices_that_wait_are_listed_and_admitted_by_the_first_digits_of_their_key(world, served, cli):
    served("node")
    device = world.device("device", ready=False)
    (waiting,) = wait_for(lambda: listed(cli, world, "--state", "waiting"))
    assert waiting["public_key"] == device.sync_status["public_key"]
    code, _, err = cli("authorize", waiting["public_key"][:8], f"{world.folder}/primary.db")
    assert (code, err) == (0, "admitted: node 2 of user 2\n")
    assert device.wait_ready(15)
    wait_for(lambda: [node["state"] for node in listed(cli, world)] == ["connected"])
    assert listed(cli, world)[0]["address"].startswith("127.0.0.1:")


def test_a_device_is_admitted_for_a_user_and_one_that_waits_is_refused_with_a_reason(world, served, cli):
    served("user")
    mine, other = world.device("mine", ready=False), world.device("other", ready=False)
    for device in (mine, other):
        device.execute("PRAGMA user_login='me'")
    key = mine.sync_status["public_key"]
    assert {node["asked"] for node in wait_for(lambda: listed(cli, world, "--state", "waiting"))} == {"user_login"}
    assert cli("authorize", key, f"{world.folder}/primary.db", "--user", "41")[0] == 0
    assert mine.wait_ready(15)
    assert mine.sync_status["user_id"] == 41
    wait_for(lambda: len(listed(cli, world, "--state", "waiting")) == 1)
    other_key = other.sync_status["public_key"]
    assert cli("refuse", other_key, f"{world.folder}/primary.db", "--reason", "not ours")[0] == 0
    wait_for(lambda: (other.sync_status["auth"]["error"] or {}).get("reason") == "not ours")


def test_a_revoked_device_is_cut_off_at_once_keeps_all_and_says_so(world, served, cli):
    served("none")
    device = world.device("device")
    with contextlib.closing(octodb.connect(f"file:{world.folder}/primary.db?node=primary")) as admin:
        admin.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text, row_owner)")
        admin.commit()
    wait_for(lambda: device.execute("SELECT 1 FROM sqlite_schema WHERE name = 'note'").fetchone())
    device.execute("INSERT INTO note (text) VALUES ('sent')")
    device.commit()
    assert device.flush(15)
    assert cli("revoke", "2", f"{world.folder}/primary.db")[0] == 0
    wait_for(lambda: device.sync_status["state"] == "revoked")
    device.execute("INSERT INTO note (text) VALUES ('kept')")
    device.commit()
    assert device.execute("SELECT text FROM note ORDER BY id").fetchall() == [("sent",), ("kept",)]
    status = device.sync_status
    assert (status["state"], status["transactions"]["pending"], status["last_error"]) == (
        "revoked",
        1,
        "this device was revoked",
    )
    assert [node["state"] for node in listed(cli, world)] == ["revoked"]
    world.close()
    offline = octodb.read_status(f"{world.folder}/device.db")
    assert (offline["state"], offline["last_error"]) == ("revoked", "this device was revoked")
    again = world.device("device", connect="tcp://127.0.0.1:1")
    assert again.sync_status["state"] == "revoked"
    assert len(again.execute("SELECT text FROM note").fetchall()) == 2
    world.close()
    assert run(["connect", world.device_uri("device"), "--wait", "synced", "-c", "SELECT 1"]) == 4
    assert run(["login", f"{world.folder}/device.db", "--data", "{}"]) == 4


def test_without_a_serving_process_the_file_tells(world, cli):
    world.primary()
    world.device("device")
    world.close()
    assert [node["state"] for node in listed(cli, world)] == ["known"]
    code, out, _ = cli(f"{world.folder}/primary.db")
    assert code == 0
    assert out.splitlines()[0].split("\t")[:3] == ["node_id", "user_id", "state"]
    assert out.splitlines()[1].split("\t")[:3] == ["2", "2", "known"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["revoke", "99"], 1, "no such node"),
        (["revoke", "abcdef12"], 2, "neither known nor waiting"),
        (["revoke", "abc"], 2, "at least 6 digits"),
        (["authorize", "ab" * 32, "--user", "3"], 2, "--user has no meaning with auth=none"),
    ],
)
def test_what_cannot_be_done_is_said(world, cli, arguments, code, told):
    world.primary()
    world.close()
    found, _, err = cli(arguments[0], arguments[1], f"{world.folder}/primary.db", *arguments[2:])
    assert found == code
    assert told in err


def test_only_a_primary_that_exists_has_devices(world, cli):
    code, _, err = cli(f"file:{world.folder}/new.db?node=primary&bind=tcp://127.0.0.1:0")
    assert code == 3
    assert "there is no database" in err
    assert not (world.folder / "new.db").exists()
    world.primary()
    world.device("device").close()
    code, _, err = cli(f"{world.folder}/device.db")
    assert code == 2
    assert "is no primary's database" in err
