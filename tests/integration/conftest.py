"""Real nodes for the tests: connections in this process, programs in processes of their own, free ports."""

import socket
import subprocess
import sys
import threading
import time

import pytest

import octodb


def wait_for(condition, timeout_s=15.0):
    """Wait until ``condition()`` is true and return what it gave; fail the test when it never is."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain"
        pause.wait(0.01)
    return result


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """A folder with one primary and its devices, in this process. ``accounts``: auth=user with built-in accounts."""

    def __init__(self, folder):
        self.folder = folder
        self.open = []

    def primary(self, schema="", *, auth="none", accounts=False, name="primary", port=0):
        mode = "user" if accounts else auth
        uri = f"file:{self.folder}/{name}.db?node=primary&bind=tcp://127.0.0.1:{port}&auth={mode}"
        primary = octodb.connect(uri)
        self.open.append(primary)
        if accounts:
            self.open.append(octodb.Accounts(primary))
        primary.executescript(schema)
        primary.commit()
        self.address = primary.sync_status["bind"][0]
        return primary

    def device_uri(self, name, connect=None):
        return f"file:{self.folder}/{name}.db?node=secondary&connect={connect or self.address}"

    def device(self, name, *, user=None, connect=None, ready=True):
        """A device; ``user``: log in as that user, who is signed up first when there is none."""
        device = octodb.connect(self.device_uri(name, connect))
        self.open.append(device)
        if user is not None and not device.is_ready():
            sign_in(device, user)
        if ready:
            assert device.wait_ready(15), device.sync_status
        return device

    def close(self, *connections):
        for connection in connections or reversed(self.open):
            connection.close()
            self.open = [other for other in self.open if other is not connection]


def sign_in(device, user):
    data = f'{{"email": "{user}@example.org", "password": "password of {user}"}}'
    for action in ("user_login", "user_signup"):
        device.execute(f"PRAGMA {action}='{data}'")
        wait_for(lambda: device.sync_status["node_id"] or not device.sync_status["auth"]["pending"])
        if device.sync_status["node_id"]:
            return
    raise AssertionError(device.sync_status["auth"])


@pytest.fixture
def world(tmp_path):
    """See World; everything is closed at the end."""
    world = World(tmp_path)
    yield world
    world.close()


class Programs:
    """Python programs in processes of their own, ended at the end of the test."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, text, *arguments):
        """Run ``text`` as a script; its lines of output are read with ``line``."""
        script = self.folder / f"program{len(self.running)}.py"
        script.write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-u", str(script), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )
        self.running.append(process)
        return process

    def run(self, text, *arguments, timeout_s=30):
        """Run ``text`` to its end; return its output. Fails the test when it exits with another code than 0."""
        process = self.start(text, *arguments)
        out, err = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, err
        return out

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr, process.stdin):
                stream.close()


@pytest.fixture
def programs(tmp_path):
    programs = Programs(tmp_path)
    yield programs
    programs.close()


def until_line(process, wanted):
    """Read the output of ``process`` up to the line that starts with ``wanted``, and return that."""
    for line in process.stdout:
        if line.startswith(wanted):
            return line.strip()
    raise AssertionError(f"the program ended without {wanted!r}: {process.stderr.read()}")


def rows(connection, sql, *parameters):
    return sorted(connection.execute(sql, parameters).fetchall())
