"""A primary and its authorization service: services written with octodb.authorizer, and ones that misbehave."""

import json
import pathlib
import re
import socket
import subprocess
import sys
import threading

import pytest

import octodb
from octodb.authorizer import Service
from octodb.runtime import authorizer_service, nodes
from tests.integration.conftest import free_port, rows, until_line, wait_for

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);"
USERS = "CREATE TABLE users (id INTEGER PRIMARY KEY, email UNIQUE, password); INSERT INTO users VALUES (1, '', '');"


@pytest.fixture
def service():
    """A service that is not started yet."""
    service = Service()
    yield service
    service.stop()


class FakeService:
    """A service whose every byte the test decides about."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.address = "tcp://{}:{}".format(*self.listener.getsockname())
        self.connections = []

    def accept(self):
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        self.connections.append(connection)
        return connection

    def greeted(self):
        connection = self.accept()
        assert self.text(connection) == b'{"leader":true}'
        return connection

    def text(self, connection):
        return self.exactly(connection, int.from_bytes(self.exactly(connection, 4), "big"))

    def exactly(self, connection, count):
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            assert more, "the primary closed the connection"
            data += more
        return data

    def request(self, connection):
        return json.loads(self.text(connection))

    def close(self):
        for each in (*self.connections, self.listener):
            each.close()


@pytest.fixture
def fake():
    fake = FakeService()
    yield fake
    fake.close()


def framed(text):
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return len(data).to_bytes(4, "big") + data


def send(device, action, data):
    device.execute(f"PRAGMA {action}='{data}'")


def error_of(device):
    return wait_for(lambda: device.sync_status["auth"]["error"])


def errors_of(primary):
    found = []
    primary.on("error", found.append)
    return found


def waiting(primary):
    names = ("state", "public_key", "asked", "waiting_since")
    cursor = primary.execute("PRAGMA nodes")
    columns = [column[0] for column in cursor.description]
    found = [dict(zip(columns, row, strict=True)) for row in cursor]
    return [tuple(row[name] for name in names) for row in found if row["state"] == "waiting"]


# --- octodb.authorizer -----------------------------------------------------------------------------------


def test_a_service_in_python_decides_for_users(world, service):
    seen = []

    @service.on_signup
    def signup(data, node):
        seen.append((data, node["public_key"], node["type"], node["hostname"]))
        return 0

    @service.on_login
    async def login(data, node):
        return {"ann": 7, "bob": (-1, "bob is away"), "carl": -1, "dora": -3, "emil": "seven"}[data]

    service.start("tcp://127.0.0.1:0")
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{service.address}'")
    assert primary.execute("PRAGMA authorizer_service").fetchall() == [(service.address,)]
    new, ann, other = (world.device(name, ready=False) for name in ("new", "ann", "other"))
    send(new, "user_signup", '{"email": "new"}')
    send(ann, "user_login", "ann")
    assert new.wait_ready(10), new.sync_status
    assert ann.wait_ready(10), ann.sync_status
    assert ann.sync_status["user_id"] == 7
    assert new.sync_status["user_id"] not in {0, 1, 7}
    assert seen == [({"email": "new"}, new.sync_status["public_key"], "secondary", socket.gethostname())]
    failed = "the authorization service failed; try again later"
    for data, code, reason in (
        ("bob", "denied", "bob is away"),
        ("carl", "denied", "not authorized"),
        ("dora", "error", failed),
        ("emil", "error", failed),
        ("nobody", "error", failed),
    ):
        send(other, "user_login", data)
        assert error_of(other) == {"code": code, "reason": reason}, data


def test_an_answer_that_comes_later(world, service):
    keys = []

    @service.on_login
    def login(data, node):
        keys.append(node["public_key"])
        return -2

    service.start("tcp://127.0.0.1:0")
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{service.address}'")
    ann, bob, gone = (world.device(name, ready=False) for name in ("ann", "bob", "gone"))
    for device in (ann, bob, gone):
        send(device, "user_login", "please")
        key = device.sync_status["public_key"]
        wait_for(
            lambda key=key: key in keys and ("waiting", key, "user_login") in [row[:3] for row in waiting(primary)]
        )
        assert device.sync_status["auth"]["pending"]
    assert waiting(primary)[0][3].startswith("20")
    gone_key = gone.sync_status["public_key"]
    world.close(gone)
    wait_for(lambda: len(waiting(primary)) == 2)
    service.answer(ann.sync_status["public_key"], 5)
    service.answer(bob.sync_status["public_key"], (-1, "we thought about it"))
    service.answer(gone_key, {"user_id": 6})
    assert ann.wait_ready(10), ann.sync_status
    assert error_of(bob) == {"code": "denied", "reason": "we thought about it"}
    wait_for(lambda: 6 in [row[1] for row in primary.execute("PRAGMA nodes")])
    back = world.device("gone")
    assert (ann.sync_status["user_id"], back.sync_status["user_id"]) == (5, 6)


def test_what_a_service_lets_be_done_in_the_primarys_database_reaches_the_devices(world, service):
    @service.on_signup
    def signup(data, node):
        welcome = "INSERT INTO t (a, row_owner) VALUES ('welcome ' || @user_id, @user_id)"
        return {"user_id": 42, "execute": ["INSERT INTO users VALUES (42, 'ann', 'x')", welcome]}

    service.start("tcp://127.0.0.1:0")
    primary = world.primary(SCHEMA + USERS, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{service.address}'")
    device = world.device("device", ready=False)
    send(device, "user_signup", "x")
    assert device.wait_ready(10), device.sync_status
    assert device.wait_synced(10)
    assert rows(device, "SELECT a, row_owner FROM t") == [("welcome 42", 42)]


def test_the_table_of_users_may_be_one_that_is_synced(world, fake):
    primary = world.primary(SCHEMA + "CREATE TABLE people (id INTEGER PRIMARY KEY, name, row_owner);", auth="user")
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    ann, bob = (world.device(name, ready=False) for name in ("ann", "bob"))
    for name, device in (("ann", ann), ("bob", bob)):
        send(device, "user_signup", name)
        insert = f"INSERT INTO people (name, row_owner) VALUES ('{name}', '*')"
        connection.sendall(framed({"pubkey": fake.request(connection)["pubkey"], "execute": [insert]}))
        assert device.wait_ready(10), device.sync_status
    assert ann.wait_synced(10)
    people = rows(primary, "SELECT id, name FROM people")
    assert people == rows(ann, "SELECT id, name FROM people")
    assert people == [(device.sync_status["user_id"], name) for name, device in (("ann", ann), ("bob", bob))]
    ann.execute("INSERT INTO t (a) VALUES ('hers')")
    ann.commit()
    assert ann.wait_synced(10)
    assert rows(primary, "SELECT a, row_owner FROM t") == [("hers", people[0][0])]


def test_nodes_with_ids_of_the_service(world, service):
    ids = iter([90, 90, 50])

    @service.on_new_node
    def new_node(node):
        insert = "INSERT INTO devices VALUES (@node_id, 'a device')"
        return {"node_type": "secondary", "node_id": next(ids), "execute": [insert]}

    service.start("tcp://127.0.0.1:0")
    uri = f"file:{world.folder}/primary.db?node=primary&bind=tcp://127.0.0.1:0&auth=node&authorizer={service.address}"
    primary = octodb.connect(uri)
    world.open.append(primary)
    world.address = primary.sync_status["bind"][0]
    primary.executescript(SCHEMA + "CREATE TABLE devices (id INTEGER PRIMARY KEY, name);")
    problems = errors_of(primary)
    first = world.device("first")
    assert (first.sync_status["node_id"], first.sync_status["user_id"]) == (90, 90)
    second = world.device("second", ready=False)
    wait_for(lambda: problems)
    assert "node 90 is another device" in problems[0]["reason"]
    assert error_of(second)["code"] == "error"
    world.close(second)
    second = world.device("second")
    assert second.sync_status["node_id"] == 50
    assert [row[0] for row in rows(primary, "SELECT id FROM devices")] == [50, 90]
    world.close(primary)
    again = octodb.connect(octodb.remembered_uri(f"{world.folder}/primary.db"))
    world.open.append(again)
    assert again.execute("PRAGMA authorizer_service").fetchall() == [(service.address,)]


def test_answers_go_to_the_leader_whoever_asked(service):
    """In a cluster every primary asks; the leader is told."""
    service.on_login(lambda data, node: 7)
    service.start("tcp://127.0.0.1:0")
    port = int(service.address.rpartition(":")[2])
    reader = FakeService()  # for its reading of texts
    with socket.create_connection(("127.0.0.1", port)) as other, socket.create_connection(("127.0.0.1", port)) as first:
        for connection in (other, first):
            connection.settimeout(10)
        other.sendall(framed({"action": "user_login", "data": "x", "public_key": "ab"}))
        first.sendall(framed(b'{"leader":true}'))
        assert reader.request(first) == {"pubkey": "ab", "user_id": 7}
        first.close()
        other.sendall(framed(b"nonsense") + framed(b"[]") + framed(b"7"))
        other.sendall(framed({"action": "user_login", "data": "x", "public_key": "cd"}))
        other.sendall(framed(b'{"leader":true}'))
        assert reader.request(other) == {"pubkey": "cd", "user_id": 7}
        other.sendall(b"\xff" * 4)
        assert other.recv(1) == b"", "what cannot be read ends the connection"
    reader.close()


def test_an_address_that_cannot_be_had_is_an_error_where_it_is_started(service):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(octodb.ConnectError, match="cannot listen"):
        service.start("tcp://127.0.0.1:{1}".format(*taken.getsockname()))
    with pytest.raises(octodb.ConfigError, match="is not an address"):
        service.start("4321")


# --- services that misbehave -----------------------------------------------------------------------------


def test_answers_that_make_no_sense_are_told_and_the_connection_goes_on(world, fake):
    primary = world.primary(SCHEMA, auth="user")
    problems = errors_of(primary)
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_login", '{"password": "secret"}')
    request = fake.request(connection)
    assert (request["action"], request["data"]) == ("user_login", {"password": "secret"})
    key = request["pubkey"]
    connection.sendall(framed(b"nonsense") + framed(b"") + framed([1]) + framed({"user_id": 7}))
    connection.sendall(framed({"pubkey": key, "user_id": "seven"}))
    assert error_of(device) == {"code": "error", "reason": "the authorization service failed; try again later"}
    send(device, "user_login", "again")
    assert fake.request(connection)["data"] == "again"
    for byte in framed({"pubkey": key, "user_id": 7}):
        connection.sendall(bytes([byte]))
    assert device.wait_ready(10), device.sync_status
    wait_for(lambda: len(problems) == 5)
    assert all(problem["code"] == "authorizer" for problem in problems)
    assert "an id is a number" in problems[4]["reason"]
    assert "secret" not in str(problems)
    assert primary.sync_status["authorizer"]["connected"]


def test_what_cannot_be_read_ends_the_connection_and_the_request_is_sent_again(world, fake):
    primary = world.primary(SCHEMA, auth="user")
    problems = errors_of(primary)
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_login", "x")
    first = fake.request(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    again = fake.greeted()
    assert fake.request(again) == first
    again.sendall(framed({"pubkey": first["pubkey"], "user_id": 7})[:9])
    again.close()
    third = fake.greeted()
    assert fake.request(third) == first
    third.sendall(framed({"pubkey": first["pubkey"], "user_id": 7}))
    assert device.wait_ready(10), device.sync_status
    assert "what cannot be read" in problems[0]["reason"]
    wait_for(lambda: primary.sync_status["authorizer"] == {
        "service": fake.address, "connected": True, "waiting": 0, "last_error": None,
    })  # fmt: skip


def test_a_request_without_an_answer_ends_and_a_late_answer_counts(world, fake, monkeypatch):
    monkeypatch.setattr(authorizer_service, "ANSWER_S_MAX", 0.5)
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_login", "x")
    key = fake.request(connection)["pubkey"]
    assert device.sync_status["auth"]["pending"]
    assert "did not answer within" in error_of(device)["reason"]
    assert primary.sync_status["authorizer"]["waiting"] == 0
    world.close(device)
    wait_for(lambda: not waiting(primary))
    connection.sendall(framed({"pubkey": key, "user_id": 7}))
    wait_for(lambda: 7 in [row[1] for row in primary.execute("PRAGMA nodes")])
    assert world.device("device").sync_status["user_id"] == 7


def test_a_service_that_cannot_be_reached(world, monkeypatch):
    monkeypatch.setattr(authorizer_service, "_UNREACHABLE_S", 0.3)
    address = f"tcp://127.0.0.1:{free_port()}"
    primary = world.primary(SCHEMA, auth="user")
    problems = errors_of(primary)
    primary.execute(f"PRAGMA authorizer_service='{address}'")
    device = world.device("device", ready=False)
    send(device, "user_login", "x")
    assert error_of(device) == {
        "code": "error",
        "reason": f"the authorization service {address} cannot be reached; try again later",
    }
    status = primary.sync_status["authorizer"]
    assert (status["connected"], "cannot be reached" in status["last_error"]) == (False, True)
    wait_for(lambda: problems)
    assert len(problems) == 1, "one outage is told once"


def test_nodes_wait_as_long_as_it_takes_and_are_asked_for_again(world, fake):
    primary = world.primary(SCHEMA, auth="node")
    device = world.device("device", ready=False)
    wait_for(lambda: waiting(primary))
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    first = fake.request(fake.greeted())
    assert (first["action"], first["type"]) == ("new_node", "secondary")
    assert "data" not in first
    fake.connections[0].close()
    connection = fake.greeted()
    assert fake.request(connection) == first
    world.close(device)
    wait_for(lambda: primary.sync_status["authorizer"]["waiting"] == 0)
    device = world.device("device", ready=False)
    assert fake.request(connection) == first, "asked again when it comes back"
    connection.sendall(framed({"pubkey": first["pubkey"], "node_type": "secondary"}))
    assert device.wait_ready(10), device.sync_status


def test_without_the_service_the_callbacks_are_asked_again(world, fake):
    primary = world.primary(SCHEMA, auth="user")
    primary.register_function("user_login", 2, lambda data, node_info: 9)
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_login", "x")
    fake.request(connection)
    assert primary.execute("PRAGMA authorizer_service=''").fetchall() == []
    assert device.wait_ready(10), device.sync_status
    assert device.sync_status["user_id"] == 9
    assert connection.recv(1) == b""
    assert primary.sync_status["authorizer"] is None


def test_what_a_service_put_off_is_sent_again_when_it_was_restarted(world, fake, monkeypatch):
    monkeypatch.setattr(authorizer_service, "ANSWER_S_MAX", 0.3)
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_login", "x")
    first = fake.request(connection)
    connection.sendall(framed({"pubkey": first["pubkey"], "user_id": -2}))
    wait_for(lambda: not device.sync_status["auth"]["required"])
    connection.close()
    again = fake.greeted()
    assert fake.request(again) == first
    assert not threading.Event().wait(0.7), "there is no time limit any more"
    assert device.sync_status["auth"]["pending"]
    again.sendall(framed({"pubkey": first["pubkey"], "user_id": -1, "reason": "no"}))
    assert error_of(device) == {"code": "denied", "reason": "no"}


def test_a_node_is_asked_about_again_without_an_answer_too(world, fake, monkeypatch):
    monkeypatch.setattr(authorizer_service, "_ASK_AGAIN_S", 0.2)
    primary = world.primary(SCHEMA, auth="node")
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    first = fake.request(connection)
    assert fake.request(connection) == first
    primary.execute(f"PRAGMA authorize_node='{first['pubkey']}:secondary'")
    assert device.wait_ready(10), device.sync_status
    assert primary.sync_status["authorizer"]["waiting"] == 0


def test_a_device_that_came_back_is_not_asked_about_twice(world, fake):
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_signup", "x")
    key = fake.request(connection)["pubkey"]
    world.close(device)
    wait_for(lambda: not waiting(primary))
    device = world.device("device", ready=False)
    send(device, "user_signup", "x")
    wait_for(lambda: [row[2] for row in waiting(primary)] == ["user_signup"])
    other = world.device("other", ready=False)
    send(other, "user_signup", "y")
    assert fake.request(connection)["data"] == "y"
    connection.sendall(framed({"pubkey": key, "user_id": -1}))
    assert error_of(device)["code"] == "denied"
    send(device, "user_signup", "z")
    assert fake.request(connection)["data"] == "z"


def test_only_the_process_that_serves_asks_and_it_asks_one_service(world, fake, programs):
    primary = world.primary(SCHEMA, auth="user")
    uri = f"file:{world.folder}/primary.db?node=primary"
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    fake.greeted()
    wait_for(lambda: octodb.read_status(uri)["authorizer"] == primary.sync_status["authorizer"])
    programs.run(
        "import sys, octodb\n"
        "conn = octodb.connect(sys.argv[1])\n"
        "assert conn.execute('PRAGMA authorizer_service').fetchall() == [(sys.argv[2],)]\n"
        "try:\n"
        "    conn.execute(\"PRAGMA authorizer_service=''\")\n"
        "except octodb.OperationalError as error:\n"
        "    assert 'does not serve' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n",
        uri,
        fake.address,
    )
    with pytest.raises(octodb.ConfigError, match="another authorizer="):
        octodb.connect(primary.node_uri + "&authorizer=tcp://127.0.0.1:9")


# --- SQL of the service ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"execute": ["INSERT INTO nowhere VALUES (1)"]}, "no such table"),
        ({"execute": ["INSERT INTO users VALUES (5, 'a', 'b')", "INSERT INTO users VALUES (6, 'a', 'b')"]}, "UNIQUE"),
        ({"execute": ["INSERT INTO users VALUES (5, 'a', 'b')", "COMMIT"]}, "COMMIT is no statement"),
        ({"execute": ["PRAGMA authorize_user='x'"]}, "PRAGMA is no statement"),
        ({"execute": ["ATTACH 'x' AS y"]}, "ATTACH is no statement"),
        ({"execute": ["INSERT INTO users VALUES (5, 'a', 'b'); DROP TABLE users"]}, "several statements"),
        ({"execute": ["UPDATE users SET email = 'x' WHERE id = 99"]}, "inserted no row"),
        ({"execute": ["DELETE FROM users", "INSERT INTO users VALUES (1, 'a', 'b')"]}, "administrators"),
        ({"user_id": 5, "execute": ["INSERT INTO nowhere VALUES (1)"]}, "no such table"),
        ({"user_id": 5, "execute": ["DELETE FROM _octodb_nodes"]}, "octodb's own"),
        ({"find": "SELECT id, email FROM users"}, "no column user_id"),
        ({"find": "SELECT 'seven' AS user_id"}, "no number above 0"),
        ({"find": "SELECT NULL"}, "no number above 0"),
        ({"find": "DELETE FROM users RETURNING id"}, "DELETE is no statement"),
        ({"find": "SELEC 1"}, "no statement"),
        ({"find": "SELECT id AS user_id FROM users WHERE password = secret"}, "no such column"),
        ({"find": "SELECT id AS user_id FROM users WHERE password = 'it's secret'"}, "syntax error"),
        ({"find": "SELECT id AS user_id FROM users WHERE password = 'secret"}, "unrecognized token"),
        ({"execute": ["INSERT INTO users (id) SELECT secret()"]}, "no such function"),
        (
            {
                "execute": [
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) INSERT INTO users SELECT i, i, i"
                    " FROM n"
                ]
            },
            "UNIQUE",
        ),
        ({"node_type": "secondary"}, "auth=user: a device is admitted for a user"),
    ],
)
def test_sql_that_fails_refuses_the_request_and_leaves_nothing(world, fake, answer, problem):
    primary = world.primary(SCHEMA + USERS, auth="user")
    problems = errors_of(primary)
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_signup", "x")
    key = fake.request(connection)["pubkey"]
    connection.sendall(framed({"pubkey": key, **answer}))
    assert error_of(device)["code"] == "error"
    wait_for(lambda: problems)
    assert problem in problems[0]["reason"]
    assert "secret" not in problems[0]["reason"]
    assert rows(primary, "SELECT id FROM users") == [(1,)]
    assert len(primary.execute("PRAGMA nodes").fetchall()) == 2, "this primary, and the device that waits"
    send(device, "user_signup", "y")
    fake.request(connection)
    connection.sendall(framed({"pubkey": key, "find": "SELECT 8"}))
    assert device.wait_ready(10), device.sync_status
    assert device.sync_status["user_id"] == 8


def test_sql_without_an_end_is_stopped(world, fake, monkeypatch):
    monkeypatch.setattr(nodes, "_ADMISSION_S_MAX", 0.3)
    primary = world.primary(SCHEMA + USERS, auth="user")
    problems = errors_of(primary)
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_signup", "x")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS user_id FROM n"
    connection.sendall(framed({"pubkey": fake.request(connection)["pubkey"], "find": endless}))
    assert error_of(device)["code"] == "error"
    assert "interrupted" in wait_for(lambda: problems)[0]["reason"]


def test_the_same_answer_twice_is_carried_out_once(world, fake):
    primary = world.primary(SCHEMA + USERS, auth="user")
    problems = errors_of(primary)
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_signup", "x")
    key = fake.request(connection)["pubkey"]
    answer = framed({"pubkey": key, "execute": ["INSERT INTO users (email) VALUES ('ann')"]})
    connection.sendall(answer + answer + framed({"pubkey": key, "user_id": 99}))
    assert device.wait_ready(10), device.sync_status
    wait_for(lambda: problems)
    assert "belongs to user 2 already" in problems[0]["reason"]
    assert rows(primary, "SELECT id, email FROM users") == [(1, ""), (2, "ann")]


def test_a_busy_database_delays_an_answer_and_not_the_devices(world, fake):
    primary = world.primary(SCHEMA, auth="user")
    primary.execute(f"PRAGMA authorizer_service='{fake.address}'")
    connection = fake.greeted()
    device = world.device("device", ready=False)
    send(device, "user_login", "x")
    key = fake.request(connection)["pubkey"]
    primary.execute("BEGIN IMMEDIATE")
    connection.sendall(framed({"pubkey": key, "user_id": 7}))
    other = world.device("other", ready=False)
    wait_for(lambda: other.sync_status["auth"]["required"])
    assert not threading.Event().wait(0.05)
    assert not device.is_ready()
    primary.commit()
    assert device.wait_ready(10), device.sync_status


# --- processes -------------------------------------------------------------------------------------------


@pytest.fixture
def processes():
    running = []
    yield running
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_service_of_the_documentation_and_octodb_serve(world, processes, tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "authorization.md").read_text(), re.DOTALL)
    address = f"tcp://127.0.0.1:{free_port()}"
    (tmp_path / "users.py").write_text(program.replace("tcp://127.0.0.1:4321", address))
    (tmp_path / "schema.sql").write_text(SCHEMA)

    def start(*arguments):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen([sys.executable, *arguments], text=True, cwd=tmp_path, **pipes))
        return processes[-1]

    def serve(*arguments):
        primary = start("-m", "octocli", "serve", "served.db", *arguments)
        world.address = re.search(r"tcp://\S+", until_line(primary, "octodb: primary")).group()
        return primary

    service = start("users.py")
    bind = f"tcp://127.0.0.1:{free_port()}"
    primary = serve("--bind", bind, "--init", "schema.sql", "--authorizer", address)
    phone, laptop = (world.device(name, ready=False) for name in ("phone", "laptop"))
    send(phone, "user_signup", '{"email": "ann@example.org", "password": "secret"}')
    assert phone.wait_ready(15), phone.sync_status
    send(laptop, "user_signup", '{"email": "ann@example.org", "password": "other"}')
    assert error_of(laptop)["reason"] == "this e-mail address has an account already"
    send(laptop, "user_login", '{"email": "ann@example.org", "password": "other"}')
    assert error_of(laptop) == {"code": "denied", "reason": "wrong e-mail address or password"}
    send(laptop, "user_login", "no JSON")
    assert error_of(laptop)["code"] == "error"
    for process in (service, primary):
        process.terminate()
        assert process.wait(15) == 0
    assert "TypeError" in service.stderr.read()
    assert "warning" not in primary.stderr.read()
    start("users.py")
    serve()  # the file remembers where it listens and whom it asks
    send(laptop, "user_login", '{"email": "ann@example.org", "password": "secret"}')
    assert laptop.wait_ready(15), laptop.sync_status
    assert laptop.sync_status["user_id"] == phone.sync_status["user_id"] == 2


def test_serve_asks_whom_its_options_name(world, processes, tmp_path):
    uri = f"file:{tmp_path}/served.db?node=primary&bind=tcp://127.0.0.1:0&auth=user&authorizer=tcp://127.0.0.1:9"
    octodb.connect(uri).close()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "octocli", "serve", "served.db"]
    processes.append(subprocess.Popen([*command, "--accounts"], text=True, cwd=tmp_path, **pipes))
    world.address = re.search(r"tcp://\S+", until_line(processes[0], "octodb: primary")).group()
    world.device("device", user="ann")
    for text, why in (
        ("tcp://127.0.0.1", "is not an address"),
        ("http://h:1", "is not an address"),
        ("tcp://h:0", "port 0"),
    ):
        done = subprocess.run(
            [*command, "--authorizer", text], check=False, text=True, cwd=tmp_path, capture_output=True
        )
        assert done.returncode == 2
        assert why in done.stderr


def test_a_killed_primary_has_both_the_users_row_and_the_device_or_neither(world, fake, processes, tmp_path):
    """It is killed around the time of the commit, over and over."""
    (tmp_path / "serve.py").write_text(
        "import octodb, sys\n"
        "uri = 'file:killed.db?node=primary&bind=tcp://127.0.0.1:%s&auth=user&authorizer=%s' % tuple(sys.argv[1:])\n"
        "conn = octodb.connect(uri)\n"
        "conn.execute('CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, email)')\n"
        "conn.execute(\"INSERT OR IGNORE INTO users VALUES (1, '')\")\n"
        "conn.commit()\n"
        "sys.stdin.read()\n"
    )
    port = free_port()
    world.address = f"tcp://127.0.0.1:{port}"
    pause = threading.Event()
    done = set()
    for n in range(12):
        command = [sys.executable, "serve.py", str(port), fake.address]
        primary = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE)
        processes.append(primary)
        connection = fake.greeted()
        device = world.device(f"device{n}", ready=False)
        send(device, "user_signup", "x")
        key = fake.request(connection)["pubkey"]
        connection.sendall(framed({"pubkey": key, "execute": [f"INSERT INTO users (email) VALUES ('{key}')"]}))
        pause.wait(n * 0.002)
        primary.kill()
        primary.wait()
        connection.close()
        world.close(device)
        with octodb.connect(f"file:{tmp_path}/killed.db?node=primary") as left:
            devices = {row[4] for row in left.execute("PRAGMA nodes") if row[0] > 1}
            users = {row[0] for row in left.execute("SELECT email FROM users WHERE id > 1")}
        left.close()
        assert devices == users
        done.add(key in users)
    assert True in done
