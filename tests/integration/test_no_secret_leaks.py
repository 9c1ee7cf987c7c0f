"""Passwords and tokens stay where they belong: no log, status, history, queue, output or traceback holds them."""

import contextlib
import json
import os
import secrets
import sqlite3
import sys

import pytest

from octodb.sync.effects import AskAuthorizer, ConfirmSession, OpenSession, StoreWelcome
from octodb.wire.messages import Login, Signup
from tests.integration.conftest import until_line, wait_for
from tests.integration.test_cli_nodes import Place

PRIMARY = """
import json, logging, sys
logging.basicConfig(level=logging.DEBUG, filename="primary.log")
import octodb
primary = octodb.connect(sys.argv[1])
users = {}
def check(data, info):
    if "unreadable" in data:
        raise ValueError(f"cannot read {data}")
    if "nested" in data:
        try:
            json.loads(data + "}")
        except ValueError as error:
            raise RuntimeError("what was sent: " + repr(error.doc)) from error
    return json.loads(data)
def signup(data, info):
    fields = check(data, info)
    users[fields["email"]] = fields["password"]
    return 0
def login(data, info):
    fields = check(data, info)
    return 0 if users.get(fields["email"]) == fields["password"] else -1
primary.register_function("user_signup", 2, signup)
primary.register_function("user_login", 2, login)
primary.on("error", lambda info: print("error", info, flush=True))
primary.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a, row_owner)")
primary.commit()
print("at", primary.sync_status["bind"][0], flush=True)
sys.stdin.read()
"""
DEVICE = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, filename="device.log")
import octodb
device = octodb.connect(sys.argv[1])
device.on("error", lambda info: print("error", info, flush=True))
for data in sys.stdin.read().splitlines():
    action, text = data.split(" ", 1)
    device.execute(f"PRAGMA {action}='{text}'")
    deadline = 200
    while device.sync_status["auth"]["pending"] and deadline:
        import time; time.sleep(0.05); deadline -= 1
    print(device.sync_status, flush=True)
try:
    device.execute("PRAGMA user_login = " + text)
except octodb.Error as error:
    print("refused", type(error).__name__, flush=True)
if device.wait_ready(10):
    device.execute("INSERT INTO t (a) VALUES ('hello')")
    device.commit()
    print(device.flush(10), flush=True)
print(device.sync_status, device.execute("PRAGMA pending_transactions").fetchall(), flush=True)
"""


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    place.environment["PYTHONASYNCIODEBUG"] = "1"
    yield place
    place.close()


class Marked:
    """Sign-in data whose passwords can be found again."""

    def __init__(self):
        self.mark = "mark" + secrets.token_hex(8)

    def data(self, name, kind="plain"):
        return json.dumps({"email": f"{name}@example.org", "password": f"{self.mark}-{name}", "kind": kind})


def holding(folder, wanted, but=()):
    """The files in which one of ``wanted`` (bytes) stands."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError), open(os.path.join(place, name), "rb") as file:
                data = file.read()
                if name not in but and any(one in data for one in wanted):
                    found.append(os.path.join(place, name))
    return found


def told(process, given=""):
    return "".join(process.communicate(given, timeout=60))


def program(place, name, text, *arguments):
    (place.folder / name).write_text(text)
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-u", name, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place.folder,
        env=place.environment,
        text=True,
    )
    place.processes.append(process)
    return process


def tokens_of(path):
    """Session tokens and private keys in a node's file: what only the file itself may hold."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        values = [
            value
            for (value,) in db.execute("SELECT value FROM _octodb_meta WHERE key IN ('session_token', 'private_key')")
        ]
        with contextlib.suppress(sqlite3.Error):
            values += [value for (value,) in db.execute("SELECT token FROM _octodb_nodes WHERE length(token) > 0")]
    return [form for value in values for form in (value, value.hex().encode(), repr(value)[2:-1].encode())]


def test_programs_that_log_everything(place):
    marked = Marked()
    primary = program(place, "primary.py", PRIMARY, "file:primary.db?node=primary&bind=tcp://127.0.0.1:0&auth=user")
    address = until_line(primary, "at ").split()[1]
    uri = f"file:device.db?node=secondary&connect={address}"
    tries = [
        ("user_login", marked.data("ada")),
        ("user_login", marked.data("ada", "unreadable")),
        ("user_signup", marked.data("ada", "nested")),
        ("user_signup", marked.data("ada")),
    ]
    device = program(place, "device.py", DEVICE, uri)
    output = told(device, "".join(f"{action} {data}\n" for action, data in tries))
    assert "error" in output
    assert "'last_nonce': 1" in output
    wait_for(lambda: holding(place.folder, [b"hello"]))
    primary.kill()  # its WAL stays
    said = told(primary)
    assert "error in user_login" in said
    assert "ValueError" in said
    assert "RuntimeError" in said
    (place.folder / "output.txt").write_text(output + said)
    assert holding(place.folder, [marked.mark.encode()]) == []
    secret_bytes = tokens_of(place.folder / "device.db") + tokens_of(place.folder / "primary.db")
    assert len(secret_bytes) >= 9
    theirs = {f"{name}.db{end}" for name in ("device", "primary") for end in ("", "-wal")}
    assert holding(place.folder, secret_bytes, but=theirs) == []


def test_the_command_line_and_built_in_accounts(place):
    marked = Marked()
    primary = place.serve("--accounts")
    said = []

    def run(*arguments, given=""):
        _, out, err = place.run(*arguments, given=given)
        said.append(out + err)

    run("--debug", "login", place.uri("device"), "--data", marked.data("ada"))
    run("--debug", "signup", place.uri("device"), "--data", "-", given=marked.data("ada")[:-1])
    run("--debug", "signup", place.uri("device"), "--data", "-", given=marked.data("ada"))
    run("--debug", "signup", place.uri("other"), "--data", "-", given=marked.data("ada").replace("-ada", "-wrong"))
    login = f"PRAGMA user_login='{marked.data('ada')}'"
    run("--debug", "shell", place.uri("device"), "-c", login)
    run("--debug", "shell", place.uri("device"), "-c", login[:-1])
    run("--debug", "shell", place.uri("device"), "-c", login.replace("=", " ="), "-c", "SELECT no_such_thing")
    run("--debug", "shell", "primary.db", "-c", login)
    run("status", "device.db", "--json")
    run("whoami", "device.db", "--json")
    primary.kill()
    out, err = primary.communicate(timeout=30)
    (place.folder / "output.txt").write_text("".join([*said, out, err]))
    assert "device" in said[-1] or said[-1]
    assert holding(place.folder, [marked.mark.encode()]) == []
    assert holding(place.folder, [b"$argon2id$"]) != []
    secret_bytes = tokens_of(place.folder / "device.db") + tokens_of(place.folder / "primary.db")
    theirs = {f"{name}.db{end}" for name in ("device", "other", "primary") for end in ("", "-wal")}
    assert holding(place.folder, secret_bytes, but=theirs) == []


@pytest.mark.parametrize(
    "value",
    [
        Login("hidden"),
        Signup("hidden"),
        AskAuthorizer("user_login", "hidden", b"key", "{}"),
        StoreWelcome(1, 2, b"hidden", b"network"),
        OpenSession(1, b"hidden", "{}"),
        ConfirmSession(1, 2, b"hidden", 0, b"", 0, b"", b""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_a_secret_does_not_print_it(value):
    assert "hidden" not in repr(value)
