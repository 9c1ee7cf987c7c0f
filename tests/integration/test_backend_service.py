"""The npm package @octodb/backend-service, unmodified, decides about real devices (contract.md §7).

Two services of the shapes that its documentation shows: one that keeps users of its own, and one that answers with SQL
for the primary.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from octodb.runtime import authorizer_service
from tests.integration.conftest import free_port, rows, until_line, wait_for

PACKAGE = "@octodb/backend-service@0.1.0"
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"

OWN_USERS = """
const service = require('@octodb/backend-service');
const accounts = new Map([['root', {id: 1, secret: null}]]);

service.on('user_signup', (node, data) => {
  if (accounts.has(data.email)) return -1;
  accounts.set(data.email, {id: accounts.size + 1, secret: data.password});
  return accounts.get(data.email).id;
});
service.on('user_login', (node, data) => {
  const account = accounts.get(data.email);
  return account && account.secret == data.password ? account.id : null;  // null: it answers nothing
});
service.run(process.argv[2], () => console.log('ready'));
"""

USERS_IN_OCTODB = """
const service = require('@octodb/backend-service');
const text = value => "'" + String(value).replaceAll("'", "''") + "'";

service.on('user_signup', (node, data) => ({
  pubkey: node.public_key,
  execute: ['INSERT INTO users (email, password) VALUES (' + text(data.email) + ',' + text(data.password) + ')'],
}));
service.on('user_login', (node, data) => ({
  pubkey: node.public_key,
  find: 'SELECT id AS user_id FROM users WHERE email = ' + text(data.email) + ' AND password = ' + text(data.password),
}));
service.on('new_node', (node) => ({
  pubkey: node.public_key,
  node_type: node.type,
  execute: ['INSERT INTO devices VALUES (@node_id, ' + text(node.hostname) + ')'],
}));
service.run(process.argv[2], () => console.log('ready'));
"""

PLAIN_ANSWERS = """
const service = require('@octodb/backend-service');
let count = 0;
service.on('new_node', (node) => count++ ? node.type : -1);
service.run(process.argv[2], () => console.log('ready'));
"""


@pytest.fixture(scope="session")
def installed():
    """The folder in which the package is installed: kept for the next time."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js or npm is not installed: the npm package cannot be tried")
    folder = pathlib.Path(tempfile.gettempdir()) / f"octodb-backend-service-{os.getuid()}"
    if not folder.exists():
        fresh = tempfile.mkdtemp(prefix="octodb-npm-")
        command = [npm, "install", "--no-audit", "--no-fund", "--no-save", PACKAGE]
        try:
            done = subprocess.run(command, check=False, cwd=fresh, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            shutil.rmtree(fresh)
            pytest.skip("npm install did not end within two minutes: the registry cannot be reached")
        if done.returncode != 0:
            shutil.rmtree(fresh)
            pytest.skip(f"npm install failed, the registry cannot be reached: {done.stderr.strip()[-300:]}")
        try:
            os.rename(fresh, folder)
        except OSError:  # another run was faster
            shutil.rmtree(fresh)
    assert folder.stat().st_uid == os.getuid(), "somebody else made that folder: its code is not to be run"
    return folder


@pytest.fixture
def start_service(installed, tmp_path):
    """Run a service in JavaScript on a port."""
    running = []

    def start(text, port):
        script = tmp_path / f"service{len(running)}.js"
        script.write_text(text)
        process = subprocess.Popen(
            ["node", str(script), str(port)],
            env={**os.environ, "NODE_PATH": str(installed / "node_modules")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        until_line(process, "ready")
        return process

    yield start
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def send(device, action, email, password="secret"):
    device.execute(f"""PRAGMA {action}='{{"email": "{email}", "password": "{password}"}}'""")


def test_signups_and_logins_with_users_of_the_service(world, start_service):
    port = free_port()
    service = start_service(OWN_USERS, port)
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f'PRAGMA authorizer_service="tcp://127.0.0.1:{port}"')
    phone, laptop, other = (world.device(name, ready=False) for name in ("phone", "laptop", "other"))
    send(phone, "user_signup", "ann")
    assert phone.wait_ready(15), phone.sync_status
    send(other, "user_signup", "ann")
    wait_for(lambda: other.sync_status["auth"]["error"])
    assert other.sync_status["auth"]["error"] == {"code": "denied", "reason": "not authorized"}
    send(other, "user_signup", "bob")
    send(laptop, "user_login", "ann")
    assert laptop.wait_ready(15), laptop.sync_status
    assert other.wait_ready(15), other.sync_status
    assert [device.sync_status["user_id"] for device in (phone, laptop, other)] == [2, 2, 3]
    phone.execute("INSERT INTO t (a) VALUES ('hers')")
    phone.commit()
    assert phone.wait_synced(10)
    assert laptop.wait_synced(10)
    assert rows(laptop, "SELECT a FROM t") == [("hers",)]
    assert primary.sync_status["authorizer"] == {
        "service": f"tcp://127.0.0.1:{port}",
        "connected": True,
        "waiting": 0,
        "last_error": None,
    }
    assert service.poll() is None


def test_users_in_the_primary_itself_and_a_service_that_is_started_anew(world, start_service):
    port = free_port()
    first = start_service(USERS_IN_OCTODB, port)
    primary = world.primary(
        SCHEMA + "CREATE TABLE users (id INTEGER PRIMARY KEY, email UNIQUE, password);"
        "INSERT INTO users VALUES (1, 'reserved', NULL);",
        auth="user",
    )
    primary.execute(f'PRAGMA authorizer_service="tcp://127.0.0.1:{port}"')
    phone, laptop = (world.device(name, ready=False) for name in ("phone", "laptop"))
    send(phone, "user_signup", "ann")
    assert phone.wait_ready(15), phone.sync_status
    first.kill()
    first.wait()
    wait_for(lambda: not primary.sync_status["authorizer"]["connected"])
    send(laptop, "user_login", "ann")
    start_service(USERS_IN_OCTODB, port)
    assert laptop.wait_ready(15), laptop.sync_status
    assert rows(primary, "SELECT id, email FROM users") == [(1, "reserved"), (2, "ann")]
    assert laptop.sync_status["user_id"] == phone.sync_status["user_id"] == 2
    stranger = world.device("stranger", ready=False)
    send(stranger, "user_login", "nobody")
    wait_for(lambda: stranger.sync_status["auth"]["error"])
    assert stranger.sync_status["auth"]["error"]["code"] == "denied"


def test_nodes_are_let_in_with_a_row_about_each(world, start_service):
    port = free_port()
    start_service(USERS_IN_OCTODB, port)
    primary = world.primary(SCHEMA + "CREATE TABLE devices (id INTEGER PRIMARY KEY, name);", auth="node")
    early = world.device("early", ready=False)
    wait_for(lambda: early.sync_status["auth"]["pending"])
    primary.execute(f'PRAGMA authorizer_service="tcp://127.0.0.1:{port}"')
    assert early.wait_ready(15), early.sync_status
    late = world.device("late")
    ids = sorted(device.sync_status["node_id"] for device in (early, late))
    assert [row[0] for row in rows(primary, "SELECT id FROM devices")] == ids


def test_a_node_that_is_refused_and_then_let_in(world, start_service):
    port = free_port()
    start_service(PLAIN_ANSWERS, port)
    primary = world.primary(SCHEMA, auth="node")
    primary.execute(f'PRAGMA authorizer_service="tcp://127.0.0.1:{port}"')
    device = world.device("device", ready=False)
    wait_for(lambda: device.sync_status["auth"]["error"])
    assert device.sync_status["auth"]["error"]["code"] == "denied"
    world.close(device)
    assert world.device("device").sync_status["node_id"] == 2


def test_what_it_does_not_answer_ends_with_a_reason_and_can_be_tried_again(world, start_service, monkeypatch):
    monkeypatch.setattr(authorizer_service, "ANSWER_S_MAX", 0.5)
    port = free_port()
    start_service(OWN_USERS, port)
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f'PRAGMA authorizer_service="tcp://127.0.0.1:{port}"')
    device = world.device("device", ready=False)
    send(device, "user_login", "ann")
    wait_for(lambda: device.sync_status["auth"]["error"])
    assert "did not answer" in device.sync_status["auth"]["error"]["reason"]
    send(device, "user_signup", "ann")
    assert device.wait_ready(15), device.sync_status
