"""The programs of the original's documentation run as they are, apart from the address (contract.md §3)."""

import re
import subprocess
import sys

import pytest

from tests.integration.conftest import until_line

PRIMARY = """
import sys, time
import octodb as sqlite3
conn = sqlite3.connect("file:primary.db?node=primary&bind=tcp://127.0.0.1:0&auth=" + sys.argv[1])
USERS = {}
def on_user_signup(data, node_info):
    import json
    info = json.loads(data)
    assert json.loads(node_info)["public_key"] and json.loads(node_info)["type"] == "secondary"
    c = conn.cursor()
    if c.execute("SELECT 1 FROM private_users WHERE username = ?", (info["username"],)).fetchone():
        return -1
    c.execute("INSERT INTO private_users (username, passwd) VALUES (?, ?)", (info["username"], info["password"]))
    conn.commit()
    return c.lastrowid
def on_user_login(data, node_info):
    import json
    info = json.loads(data)
    c = conn.cursor()
    c.execute("SELECT rowid FROM private_users WHERE username = ? AND passwd = ?", (info["username"], info["password"]))
    row = c.fetchone()
    return row[0] if row else -1
def on_new_node(node_info):
    return "secondary"
if len(sys.argv) > 2:
    conn.create_function("user_signup", 2, on_user_signup)
    conn.create_function("user_login", 2, on_user_login)
    conn.create_function("new_node", 1, on_new_node)
else:
    conn.register_function("user_signup", 2, on_user_signup)
    conn.register_function("user_login", 2, on_user_login)
    conn.register_function("new_node", 1, on_new_node)
conn.execute("CREATE TABLE private_users (id INTEGER PRIMARY KEY, username TEXT UNIQUE, passwd TEXT)")
conn.execute("INSERT INTO private_users VALUES (100, 'somebody', 'x')")
conn.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, name, row_owner)")
conn.commit()
print("listening", conn.sync_status["bind"][0])
sys.stdin.read()
"""

NODE_LEVEL = """
import sys, json, time
import octodb as sqlite3
conn = sqlite3.connect("file:app1.db?node=secondary&connect=" + sys.argv[1])
cursor = conn.cursor()
while True:
    result = cursor.execute("PRAGMA sync_status")
    status = json.loads(result.fetchone()[0])
    if status["db_is_ready"]: break
    time.sleep(0.250)
cursor.execute("INSERT INTO tasks (name) VALUES ('from the first program')")
conn.commit()
print("rows", cursor.execute("SELECT count(*) FROM tasks").fetchone()[0])
"""

GUI = """
import sys, json, time
import octodb as sqlite3
conn = sqlite3.connect("file:" + sys.argv[2] + "?node=secondary&connect=" + sys.argv[1])
def check_status():
    return json.loads(conn.execute("PRAGMA sync_status").fetchone()[0])
def on_timer():
    return check_status()["db_is_ready"]
status = check_status()
if status["node_id"] == 0:
    # the signup screen
    info = json.dumps({"username": "it's me", "password": 'a "quoted" one'})
    conn.execute("PRAGMA %s='%s'" % (sys.argv[3], info.replace("'", "''")))
while not on_timer(): time.sleep(0.1)
conn.execute("INSERT INTO tasks (name) VALUES (?)", (sys.argv[3],))
conn.commit()
text = conn.execute("PRAGMA sync_status").fetchone()[0]
assert '"db_is_ready": true' in text
print("user", check_status()["user_id"], conn.execute("SELECT this_user()").fetchone()[0])
conn.wait_synced(10)
"""

LOOP = """
import sys, json, time
import octodb as sqlite3
conn = sqlite3.connect("file:app3.db?node=secondary&connect=" + sys.argv[1])
sent = False
while True:
    status = json.loads(conn.execute("PRAGMA sync_status").fetchone()[0])
    if status["db_is_ready"]: break
    if not sent:
        conn.execute('PRAGMA user_login="{""username"": ""it\\'s me"", ""password"": ""a \\\\""quoted\\\\"" one""}"')
        sent = True
    time.sleep(0.05)
conn.wait_synced(10)
print("names", [row[0] for row in conn.execute("SELECT name FROM tasks ORDER BY id")])
"""


@pytest.fixture
def start_primary(programs):
    def start(*arguments):
        return until_line(programs.start(PRIMARY, *arguments), "listening").split()[1]

    return start


def test_polling_program_with_node_level_authorization(programs, start_primary):
    address = start_primary("node")
    assert programs.run(NODE_LEVEL, address) == "rows 1\n"


@pytest.mark.parametrize("registered", [[], ["create_function"]])
def test_signup_login_and_loop_programs_share_a_user(programs, start_primary, registered):
    address = start_primary("user", *registered)
    signed_up = programs.run(GUI, address, "app2.db", "user_signup")
    assert signed_up == "user 101 101\n"
    logged_in = programs.run(GUI, address, "laptop.db", "user_login")
    assert logged_in == signed_up
    assert programs.run(LOOP, address) == "names ['user_signup', 'user_login']\n"


@pytest.fixture
def serve(tmp_path):
    """Run ``octodb serve`` on a new database with a table of tasks; gives its address."""
    running = []

    def start(*arguments):
        (tmp_path / "schema.sql").write_text("CREATE TABLE tasks (id INTEGER PRIMARY KEY, name, row_owner);")
        (tmp_path / "decide.py").write_text(
            "def register(conn):\n    conn.register_function('new_node', 1, lambda node_info: 'secondary')\n"
        )
        command = [sys.executable, "-m", "octocli", "serve", *arguments, "--init", "schema.sql"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        running.append(process)
        return re.search(r"tcp://\S+", until_line(process, "octodb: primary")).group()

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_signup_login_and_loop_programs_against_octodb_serve(programs, serve):
    address = serve("served.db", "--bind", "tcp://127.0.0.1:0", "--accounts")
    gui, loop = (text.replace("username", "email").replace("it's me", "me@example.org") for text in (GUI, LOOP))
    loop = loop.replace("it\\'s me", "me@example.org")
    signed_up = programs.run(gui, address, "app2.db", "user_signup")
    assert programs.run(gui, address, "laptop.db", "user_login") == signed_up
    assert programs.run(loop, address) == "names ['user_signup', 'user_login']\n"


def test_polling_program_against_octodb_serve(programs, serve, tmp_path):
    address = serve("file:served.db?node=primary&bind=tcp://127.0.0.1:0&auth=node", "--authorizer", "decide:register")
    assert programs.run(NODE_LEVEL, address) == "rows 1\n"
