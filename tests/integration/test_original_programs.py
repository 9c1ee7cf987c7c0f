"""Primaries of the two shapes that the original documents for Python, with Python 3's print and queue: callbacks that
decide (synchronous), and callbacks that hand over to the main thread, which decides by PRAGMA (asynchronous).
"""

import pytest

from tests.integration.conftest import free_port, rows, wait_for

WHO = """
import json, time
from multiprocessing import SimpleQueue
import octodb as sqlite3

KNOWN = {"root": 1}

def user_of(action, text, device):
    assert device["type"] == "secondary" and device["hostname"] and len(device["public_key"]) == 64
    if action == "login":
        return KNOWN.get(text, -1)
    if text in KNOWN:
        return -1
    KNOWN[text] = 100 + len(KNOWN)
    return 0 if text == "any id" else KNOWN[text]

def open_primary():
    conn = sqlite3.connect("file:app.db?node=primary&bind=tcp://127.0.0.1:PORT&auth=MODE")
    while not json.loads(conn.cursor().execute("PRAGMA sync_status").fetchone()[0])["db_is_ready"]:
        time.sleep(0.250)
    return conn
"""

SYNCHRONOUS = """
def on_signup(text, node_info):
    print("a signup", text, node_info)
    return user_of("signup", text, json.loads(node_info))

def on_login(text, node_info):
    print("a login", text, node_info)
    return user_of("login", text, json.loads(node_info))

def on_node(node_info):
    print("a node", node_info)
    return json.loads(node_info)["type"]

conn = open_primary()
conn.register_function("user_signup", 2, on_signup)
conn.register_function("user_login", 2, on_login)
conn.register_function("new_node", 1, on_node)
while True:
    time.sleep(0.5)
"""

ASYNCHRONOUS = """
requests = SimpleQueue()

def on_signup(text, node_info):
    requests.put(("signup", text, node_info))
    return -2

def on_login(text, node_info):
    requests.put(("login", text, node_info))
    return -2

def on_node(node_info):
    requests.put(("node", None, node_info))
    return -2

def decide(conn):
    while not requests.empty():
        action, text, node_info = requests.get()
        device = json.loads(node_info)
        if action == "node":
            conn.execute("pragma authorize_node='" + device["public_key"] + ":" + device["type"] + "'")
            continue
        user_id = user_of(action, text, device)
        if user_id >= 0:
            conn.execute("pragma authorize_user='" + device["public_key"] + ":" + str(user_id) + "'")

conn = open_primary()
conn.register_function("user_signup", 2, on_signup)
conn.register_function("user_login", 2, on_login)
conn.register_function("new_node", 1, on_node)
while True:
    decide(conn)
    time.sleep(0.5)
"""


@pytest.fixture
def start(world, programs):
    def start(program, auth):
        port = free_port()
        world.address = f"tcp://127.0.0.1:{port}"
        return programs.start(WHO.replace("PORT", str(port)).replace("MODE", auth) + program)

    return start


def sign_in(world, name, action, data):
    device = world.device(name, ready=False)
    device.execute(f"PRAGMA {action}='{data}'")
    return device


@pytest.mark.parametrize("program", [SYNCHRONOUS, ASYNCHRONOUS], ids=["synchronous", "asynchronous"])
def test_users(world, start, program):
    process = start(program, "user")
    phone = sign_in(world, "phone", "user_signup", "ann")
    assert phone.wait_ready(15), phone.sync_status
    laptop = sign_in(world, "laptop", "user_login", "ann")
    other = sign_in(world, "other", "user_signup", "any id")
    assert laptop.wait_ready(15), laptop.sync_status
    assert other.wait_ready(15), other.sync_status
    assert phone.sync_status["user_id"] == laptop.sync_status["user_id"] == 101
    assert other.sync_status["user_id"] > 101, "the system chooses"
    stranger = sign_in(world, "stranger", "user_login", "nobody")
    if program is SYNCHRONOUS:
        wait_for(lambda: stranger.sync_status["auth"]["error"])
        assert stranger.sync_status["auth"]["error"]["code"] == "denied"
    else:
        # that program answers nothing to those whom it does not know
        wait_for(lambda: stranger.sync_status["auth"]["pending"] and not stranger.sync_status["auth"]["required"])
    assert process.poll() is None


@pytest.mark.parametrize("program", [SYNCHRONOUS, ASYNCHRONOUS], ids=["synchronous", "asynchronous"])
def test_nodes(world, start, program):
    process = start(program, "node")
    device = world.device("device")
    assert device.sync_status["node_id"] == device.sync_status["user_id"] == 2
    assert rows(device, "SELECT this_user()") == [(2,)]
    assert process.poll() is None
