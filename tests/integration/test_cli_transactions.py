"""``octodb transactions``: a device's queue and dead letters, beside the process that syncs it and without one."""

import json

import pytest

from octocli.main import run
from tests.integration.conftest import wait_for

SCHEMA = "CREATE TABLE handle (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size REAL, row_owner)"


@pytest.fixture
def cli(capsys):
    def call(*arguments):
        code = run(["transactions", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def device(world):
    """Open, with transaction 1 rejected; 2 waits, because the primary is gone."""
    primary = world.primary(SCHEMA)
    primary.execute("INSERT INTO handle (name, row_owner) VALUES ('ada', 1)")
    primary.commit()
    device = world.device("device")
    device.execute("INSERT INTO handle (name) VALUES ('ada')")  # taken, by a row that the device cannot see
    device.commit()
    wait_for(lambda: device.sync_status["transactions"]["rejected"])
    world.close(primary)
    wait_for(lambda: device.sync_status["state"] != "in sync")
    device.execute("INSERT INTO handle (name, size) VALUES ('9e999 “x”', 9e999)")
    device.commit()
    return device


def test_what_waits_and_what_was_rejected(world, device, cli):
    path = f"{world.folder}/device.db"
    found = [json.loads(line) for line in cli(path, "--json")[1].splitlines()]
    assert [(one["nonce"], one["state"], one["tables"]) for one in found] == [
        (1, "rejected", "handle"),
        (2, "pending", "handle"),
    ]
    assert "UNIQUE" in found[0]["reason"]
    code, out, _ = cli(path, "--state", "pending")
    assert code == 0
    assert [line.split("\t")[:2] for line in out.splitlines()] == [["nonce", "state"], ["2", "pending"]]


def test_one_is_shown_with_its_rows(world, device, cli):
    path = f"{world.folder}/device.db"
    code, out, _ = cli("show", "1", path)
    assert code == 0
    assert "reason" in out
    assert 'INSERT handle {"id": ' in out
    shown = json.loads(cli("show", "2", path, "--json")[1])
    assert shown["state"] == "pending"
    assert shown["changes"][0]["new"]["name"] == "9e999 “x”"
    assert shown["changes"][0]["new"]["size"] == float("inf")


def test_the_changes_are_exported_as_json_lines(world, device, cli):
    code, out, _ = cli("export", "2", f"{world.folder}/device.db")
    (change,) = map(json.loads, out.splitlines())
    assert code == 0
    assert (change["op"], change["old"], change["new"]["name"]) == ("INSERT", None, "9e999 “x”")
    assert "9e999 “x”" in out


def test_a_rejected_one_is_made_again_or_dropped(world, device, cli):
    path = f"{world.folder}/device.db"
    code, _, err = cli("retry", "1", path)
    assert (code, err) == (0, "made again as transaction 3\n")
    assert cli("drop", "2", path)[0] == 1, "it waits: nothing is dropped that may still be accepted"
    assert [json.loads(line)["nonce"] for line in cli(path, "--json")[1].splitlines()] == [2, 3]


def test_without_a_process_that_syncs_the_file_tells(world, device, cli):
    world.close()
    assert len(cli(f"{world.folder}/device.db", "--json")[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["show", "99"], 1, "there is no transaction 99"),
        (["export", "99"], 1, "nothing to export"),
        (["drop", "99"], 1, "99"),
        (["show", "x"], 2, "not a valid integer"),
    ],
)
def test_what_cannot_be_done_is_said(world, device, cli, arguments, code, told):
    found, _, err = cli(*arguments, f"{world.folder}/device.db")
    assert found == code
    assert told in err


def test_a_primary_has_no_queue(world, cli):
    world.primary()
    world.close()
    code, _, err = cli(f"{world.folder}/primary.db")
    assert code == 2
    assert "primaries have no queue" in err
