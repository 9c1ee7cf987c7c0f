"""The npm package @octodb/backend-service, unmodified, decides about real devices (contract.md §7).

The services are those of the original's documentation; the first keeps its users in memory instead of in a database of
its own.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

from tests.integration.conftest import free_port, rows, until_line, wait_for

PACKAGE = "@octodb/backend-service@0.1.0"
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"

OWN_USERS = """
const app = require('@octodb/backend-service');
const users = {1: {id: 1, email: 'reserved', password: null}};

function find_user(email) {
  return Object.values(users).find(user => user.email == email);
}

app.on('user_signup', (node, data) => {
  var user = find_user(data.email);
  if (user && user.id > 0) return -1;  // unauthorized - user already signed up
  var id = Object.keys(users).length + 1;
  users[id] = {id: id, email: data.email, password: data.password};
  return id
})

app.on('user_login', (node, data) => {
  var user = find_user(data.email);
  if (user && user.password == data.password) return user.id;
  console.log('user not found')
  return null;
})

app.on('new_node', (node) => {
  return node.type
})

app.run(process.argv[2], function() {
  console.log('auth service ready!')
})
"""

USERS_IN_OCTODB = """
const app = require('@octodb/backend-service');

app.on('user_signup', (node, data) => {
  var sql = `INSERT INTO users (email,password) VALUES ('${data.email}','${data.password}')`
  return { pubkey: node.public_key, execute: [sql] }
})

app.on('user_login', (node, data) => {
  var sql = `SELECT id AS user_id FROM users WHERE email = '${data.email}' and password = '${data.password}'`
  return { pubkey: node.public_key, find: sql }
})

app.on('new_node', (node) => {
  return { pubkey: node.public_key, node_type: node.type,
           execute: [`INSERT INTO devices VALUES (@node_id, '${node.hostname}')`] }
})

app.run(process.argv[2], function() {
  console.log('auth service ready!')
})
"""


@pytest.fixture(scope="session")
def installed():
    """The folder in which the package is installed: kept for the next time."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js or npm is not installed: the npm package cannot be tried")
    folder = pathlib.Path(tempfile.gettempdir()) / f"octodb-backend-service-{os.getuid()}"
    package = folder / "node_modules" / "@octodb" / "backend-service" / "index.js"
    if not package.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--no-save", PACKAGE]
        try:
            done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            pytest.skip("npm install did not end within two minutes: the registry cannot be reached")
        if done.returncode != 0 or not package.exists():
            pytest.skip(f"npm install failed, the registry cannot be reached: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
def start_service(installed, tmp_path):
    """Run a service of JavaScript on a port; its output goes to ``service.log``."""
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
        until_line(process, "auth service ready!")
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
