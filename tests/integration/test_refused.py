"""What an operator and a user see of what was refused."""

import socket
import threading
import time

import pytest

import octodb
from octodb.wire.messages import Welcome
from tests.attacks.arena import SCHEMA, Rules
from tests.integration.conftest import wait_for
from tests.integration.raw_device import RawDevice
from tests.integration.test_cli_nodes import Place
from tests.integration.test_hostile_devices import TABLE, changeset


def test_the_status_of_a_primary_counts(world):
    primary = world.primary(TABLE)
    assert set(primary.sync_status["refused"].values()) == {0}
    with RawDevice(world.address) as device:
        device.join()
        device.push_changesets(1, changeset("INSERT INTO t VALUES (1, 'x', '*')"))
        wait_for(lambda: primary.sync_status["refused"]["forged"] == 1)
    with RawDevice(world.address) as device:
        device.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
        device.until_closed()
    wait_for(lambda: primary.sync_status["refused"]["protocol_errors"] == 1)
    honest = world.device("honest")
    assert "refused" not in honest.sync_status
    assert sum(primary.sync_status["refused"].values()) == 2


def test_a_device_that_signs_in_too_often_is_told_to_wait(world):
    primary = world.primary(SCHEMA, auth="user")
    rules = Rules()
    primary.register_function("user_signup", 2, rules.user_signup)
    primary.register_function("user_login", 2, rules.user_login)
    device = world.device("device", ready=False)

    def login(password):
        device.execute(f"""PRAGMA user_login='{{"name": "ada", "password": "{password}"}}'""")
        wait_for(lambda: device.sync_status["node_id"] or not device.sync_status["auth"]["pending"])
        return device.sync_status["auth"]["error"]

    assert [login(n)["code"] for n in range(5)] == ["denied"] * 5
    error = login(5)
    assert error["code"] == "too_often"
    assert error["reason"] == "too many attempts; try again in 1 s"
    rules.user_signup('{"name": "ada", "password": "right"}', "{}")
    wait_for(lambda: login("right") is None)
    assert device.wait_ready(10)
    assert primary.sync_status["refused"]["sign_ins"] == 5
    assert primary.sync_status["refused"]["sign_ins_too_often"] >= 1


def test_an_operator_may_let_addresses_fail_more_often(world):
    primary = world.primary(SCHEMA, auth="user")
    assert primary.execute("PRAGMA sign_in_limit").fetchone() == (20,)
    primary.execute("PRAGMA sign_in_limit = 50")
    assert primary.execute("PRAGMA sign_in_limit").fetchone() == (50,)
    wait_for(lambda: primary._node._engine._sign_ins._addresses.free == 50)
    for wrong in ("-1", "many", "1.5"):
        with pytest.raises(octodb.ProgrammingError):
            primary.execute(f"PRAGMA sign_in_limit = '{wrong}'")


def test_serve_tells_on_stderr(tmp_path):
    place = Place(tmp_path)
    try:
        primary = place.serve()
        with RawDevice(place.address) as device:
            device.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
            device.until_closed()
        wait_for(lambda: primary.stderr.readline().startswith("octodb: refused protocol_errors: 127.0.0.1: "))
        place.stop(primary)
    finally:
        place.close()


def test_a_device_on_a_slow_line_is_not_taken_for_a_silent_one(world, monkeypatch):
    """It has so much to take that its pings are not read meanwhile."""
    monkeypatch.setattr("octodb.sync.primary._SILENCE_S_MAX", 1.5)
    monkeypatch.setattr("octodb.runtime.framed_connection._READS_ON_BELOW_BYTES", 1 << 20)
    primary = world.primary(TABLE)
    primary.executemany("INSERT INTO t VALUES (?, zeroblob(1000000), '*')", [(n,) for n in range(14)])
    primary.commit()
    with RawDevice(world.address) as device:
        device._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        device.prove()
        device.welcome = device.receive(Welcome)
        device.subscribe()
        served = primary._node._engine.connected_nodes  # a closed one is still sent what is on its way
        wait_for(served)
        pause = threading.Event()
        began, taken = time.monotonic(), 0
        while time.monotonic() - began < 4:
            taken += len(device._socket.recv(50_000))
            assert served(), f"closed after {taken:,} bytes"
            pause.wait(0.03)
        assert taken < 13_000_000  # it was slow enough to be tested
        wait_for(lambda: not served(), timeout_s=5)  # and who takes nothing is silent
