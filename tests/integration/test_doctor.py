"""``octodb doctor`` and ``octodb.diagnose``: each step that can fail is named, with what to do."""

import json
import socket

import pytest

import octodb
from octocli.main import run
from tests.integration.conftest import wait_for


def steps(uri):
    return {finding.step: finding for finding in octodb.diagnose(str(uri))}


def device_file(world, **options):
    """Downloaded, and closed again."""
    device = world.device("device", **options)
    world.close(device)
    return f"{world.folder}/device.db"


def test_everything_is_fine(world):
    world.primary()
    found = steps(device_file(world))
    assert {name: finding.ok for name, finding in found.items()} == {
        "URI": True,
        "file": True,
        "lock": None,
        "TCP": True,
        "protocol": True,
        "authorization": True,
    }
    assert found["protocol"].text == "version 1, auth=none"
    assert found["file"].text == "node 2, user 2; 0 to send, 0 rejected"


def test_a_process_that_syncs_is_named(world):
    world.primary()
    device = world.device("device")
    wait_for(lambda: octodb.read_status(f"{world.folder}/device.db")["engine"])
    assert "syncs it" in steps(f"{world.folder}/device.db")["lock"].text
    assert device.wait_synced(15), "and it is not disturbed"


def test_a_primary_looks_at_its_own_port(world):
    primary = world.primary()
    path = f"{world.folder}/primary.db"
    wait_for(lambda: octodb.read_status(path)["engine"])
    assert steps(path)["protocol"].ok
    world.close(primary)
    assert "can be listened on" in steps(f"file:{path}?node=primary&bind=tcp://127.0.0.1:0")["bind"].text
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = steps(f"file:{path}?node=primary&bind=tcp://127.0.0.1:{other.getsockname()[1]}")["bind"]
    assert taken.ok is False
    assert "choose another port" in taken.fix


def test_nobody_listens_there(world):
    world.primary()
    path = device_file(world)
    world.close()
    finding = steps(path)["TCP"]
    assert finding.ok is False
    assert "connection refused" in finding.text
    assert "octodb serve" in finding.fix


def test_a_name_that_does_not_exist(tmp_path):
    finding = steps(f"file:{tmp_path}/x.db?node=secondary&connect=tcp://nowhere.invalid:1")["DNS"]
    assert finding.ok is False
    assert "nowhere.invalid" in finding.text


def test_something_else_listens_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = octodb.diagnose(f"file:{tmp_path}/x.db?node=secondary&connect=tcp://127.0.0.1:{port}")
        last = None
        for finding in found:
            if finding.step == "TCP":
                other.accept()[0].close()
            last = finding
    assert (last.step, last.ok) == ("protocol", False)
    assert "is it tls://?" in last.fix


@pytest.mark.parametrize(
    ("parameters", "step", "ok", "told"),
    [
        ("", "TLS", False, "not trusted"),
        ("&tls_pin=" + "ab" * 32, "TLS", False, "not the pinned one"),
        ("&tls_pin={pin}", "TLS", True, "pinned"),
        ("&tls_pin={pin}", "protocol", False, "wants a network key"),
        ("&network_key=a key of some length", "protocol", True, "version 1"),
    ],
)
def test_tls_and_the_network_key(tmp_path, parameters, step, ok, told):
    key = "a key of some length"
    primary = octodb.connect(f"file:{tmp_path}/p.db?node=primary&bind=tls://127.0.0.1:0&network_key={key}")
    try:
        status = primary.sync_status
        parameters = parameters.format(pin=status["certificate"])
        finding = steps(f"file:{tmp_path}/x.db?node=secondary&connect={status['bind'][0]}{parameters}")[step]
    finally:
        primary.close()
    assert finding.ok is ok
    assert told in finding.text


def test_what_is_no_node_or_no_uri(tmp_path):
    (tmp_path / "text.db").write_text("no database at all, but long enough to have a header of a hundred bytes " * 3)
    for uri in (f"{tmp_path}/none.db", f"file:{tmp_path}/x.db?node=secondry"):
        finding = steps(uri)["URI"]
        assert finding.ok is False
        assert finding.fix
    finding = steps(f"file:{tmp_path}/text.db?node=secondary&connect=tcp://127.0.0.1:1")["file"]
    assert finding.ok is False


def test_a_device_that_was_refused_or_cut_off(world):
    primary = world.primary()
    device = world.device("device")
    primary.execute("PRAGMA revoke_node=2")
    wait_for(lambda: device.sync_status["state"] == "revoked")
    world.close(device)
    finding = steps(f"{world.folder}/device.db")["authorization"]
    assert (finding.ok, finding.text) == (False, "this device was revoked")


def test_the_command(world, capsys):
    world.primary()
    path = device_file(world)
    assert run(["doctor", path]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines()][:3] == [["ok", "URI"], ["ok", "file"], ["-", "lock"]]
    world.close()
    assert run(["doctor", path, "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["step"] for one in found if one["ok"] is False] == ["TCP"]
