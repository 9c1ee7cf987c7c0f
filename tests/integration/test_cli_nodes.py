"""Primaries and devices run by the command line: every node is a process, every answer a real one."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys

import pytest

DEADLINE_S = 30
ADA = json.dumps({"email": "ada@example.org", "password": "correct horse"})
SCHEMA = (
    "CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT NOT NULL, row_owner);\n"
    "CREATE TABLE news (id INTEGER PRIMARY KEY, text, row_owner);\n"
    "INSERT INTO news (id, text, row_owner) VALUES (1, 'welcome', '*');\n"
)


class Place:
    """A folder with a primary and devices in it, and the program to run there."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        self.address = "tcp://127.0.0.1:0"
        (folder / "init.sql").write_text(SCHEMA)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OCTODB_")}
        self.environment = {**kept, "XDG_STATE_HOME": str(folder / "state"), "PYTHONUTF8": "1"}

    def start(self, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "octocli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            text=True,
        )
        self.processes.append(process)
        return process

    def serve(self, *more):
        process = self.start("serve", "primary.db", "--bind", self.address, "--init", "init.sql", *more)
        line = process.stdout.readline()
        assert line.startswith("octodb: primary primary.db listening on t"), line + process.stderr.read()
        self.address = line.split()[-1]
        return process

    def run(self, *arguments, given=""):
        """(exit code, stdout, stderr) of one command."""
        process = self.start(*arguments)
        out, err = process.communicate(given, timeout=DEADLINE_S)
        return process.returncode, out, err

    def ok(self, *arguments, given=""):
        code, out, err = self.run(*arguments, given=given)
        assert code == 0, err
        return out

    def uri(self, name):
        return f"file:{name}.db?node=secondary&connect={self.address}"

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def rows(self, name, sql):
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/{name}.db?mode=ro", uri=True)) as conn:
            return conn.execute(sql).fetchall()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.close()


def test_from_sign_up_to_sync(place):
    primary = place.serve("--accounts")
    assert "node" in place.ok("signup", place.uri("phone"), "--data", "-", given=ADA)
    # the last database is remembered: no URI is needed from here on
    assert place.ok("whoami").startswith("phone.db   node ")
    out = place.ok(
        "connect", "--wait", "synced", "-c", "INSERT INTO task (title) VALUES ('tea')", "-c", "SELECT text FROM news"
    )
    assert out == "welcome\n"
    place.ok("status", "phone.db", "--until", "synced", "--timeout", "20")
    assert place.rows("primary", "SELECT title FROM task") == [("tea",)]
    place.ok("login", place.uri("laptop"), "--data", "-", given=ADA)
    assert place.ok("connect", place.uri("laptop"), "-c", "SELECT title FROM task") == "tea\n"
    place.stop(primary)
    # a device that was ready stays ready
    assert place.ok("connect", "laptop.db", "-c", "SELECT title FROM task") == "tea\n"


def test_the_uri_that_serve_prints_pins_its_certificate(place):
    place.address = "tls://127.0.0.1:0"
    primary = place.serve()
    told = primary.stderr.readline()
    uri = re.search("octodb connect '(.*)'", told)[1]
    assert re.search(r"connect=tls://127\.0\.0\.1:\d+&tls_pin=[0-9a-f]{64}$", uri)
    assert place.ok("connect", uri, "-c", "SELECT text FROM news") == "welcome\n"
    assert place.ok("connect", "app.db", "--wait", "synced", "-c", "SELECT text FROM news") == "welcome\n"
    code, _, err = place.run("connect", place.uri("other"), "--timeout", "1", "-c", "SELECT 1")
    assert code == 5
    assert "tls_pin=" in err


def test_exit_codes_of_signing_in(place):
    place.serve("--accounts")
    code, _, err = place.run("connect", place.uri("phone"), "-c", "SELECT 1")
    assert code == 4
    assert "--data" in err
    place.ok("signup", place.uri("phone"), "--data", "-", given=ADA)
    wrong = ADA.replace("correct", "wrong")
    code, out, err = place.run("login", place.uri("laptop"), "--data", "-", given=wrong)
    assert (code, out) == (4, "")
    assert "wrong horse" not in err
    code, _, err = place.run("whoami", "laptop.db")
    assert code == 4
    code, _, err = place.run("status", "laptop.db", "--until", "ready", "--timeout", "20")
    assert code == 4


def test_nobody_can_sign_up_where_it_is_switched_off(place):
    place.serve("--accounts", "--no-sign-up")
    code, _, err = place.run("signup", place.uri("phone"), "--data", "-", given=ADA)
    assert code == 4, err


def test_status_looks_without_starting_anything(place):
    primary = place.serve("--accounts")
    place.ok("signup", place.uri("phone"), "--data", "-", given=ADA)
    status = json.loads(place.ok("status", "primary.db", "--json"))
    assert status["v"] == 1
    assert status["bind"] == [place.address]
    assert status["engine"]["pid"] == primary.pid
    phone = json.loads(place.ok("status", "phone.db", "--json"))
    assert phone["db_is_ready"] is True
    assert phone["engine"] is None
    assert "no process is syncing this file now" in place.ok("status", "phone.db")
    lines = place.ok("status", "phone.db", "--watch", "--json", "--count", "1").splitlines()
    assert [json.loads(line)["v"] for line in lines] == [1]


def test_the_first_sql_runs_once_and_all_or_nothing(place):
    (place.folder / "init.sql").write_text(SCHEMA + "INSERT INTO nosuch VALUES (1);\n")
    process = place.start("serve", "primary.db", "--bind", place.address, "--init", "init.sql")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert err.startswith("error: init.sql:4: no such table: nosuch")
    (place.folder / "init.sql").write_text(SCHEMA)
    place.stop(place.serve())
    place.stop(place.serve())
    assert place.rows("primary", "SELECT count(*) FROM news") == [(1,)]


def test_an_authorizer_of_ones_own(place):
    (place.folder / "rules.py").write_text(
        "def user_login(data, node_info):\n    return 5 if data == '{\"pin\": 1}' else -1\n"
    )
    (place.folder / "gate.py").write_text("import rules\n")
    place.serve("--authorizer", "gate:rules")
    assert "user 5" in place.ok("login", place.uri("phone"), "--data", '{"pin": 1}')
    assert place.run("login", place.uri("laptop"), "--data", '{"pin": 2}')[0] == 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--init", "nosuch.sql"), "cannot read nosuch.sql"),
        (("--authorizer", "nosuch:rules"), "No module named 'nosuch'"),
        (("--authorizer", "broken:rules"), "ValueError: boom"),
        (("--authorizer", "json:__name__"), "is no authorizer"),
        (("--authorizer", "json"), "is not MODULE:OBJECT"),
    ],
)
def test_what_serve_cannot_read_leaves_no_database_behind(place, options, told):
    (place.folder / "broken.py").write_text("raise ValueError('boom')\n")
    code, out, err = place.run("serve", "new.db", "--bind", place.address, *options)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 3 or options[1] == "json"
    assert not list(place.folder.glob("new.db*"))


def test_accounts_are_never_silently_left_out(place):
    code, out, err = place.run("serve", f"file:new.db?node=primary&auth=none&bind={place.address}", "--accounts")
    assert (code, out) == (2, "")
    assert "auth=none" in err


def test_a_primary_served_again_without_its_accounts_says_so(place):
    place.stop(place.serve("--accounts"))
    primary = place.serve()
    place.stop(primary)
    assert "warning: primary.db has auth=user" in primary.stderr.read()


def test_a_port_in_use_is_exit_5(place):
    place.serve()
    code, _, err = place.run("serve", "other.db", "--bind", place.address)
    assert code == 5, err
    assert err.splitlines()[-1].startswith("  fix: ")


def test_a_primary_in_the_shell(place):
    place.stop(place.serve())
    out = place.ok(
        "shell", "primary.db", "-c", "INSERT INTO news (text, row_owner) VALUES ('two', '*')", "-c", ".nodes"
    )
    assert place.rows("primary", "SELECT text FROM news ORDER BY id") == [("welcome",), ("two",)]
    assert out


def test_readonly_refuses_writes(place):
    place.serve()
    place.ok("connect", place.uri("phone"), "-c", "SELECT 1")
    code, _, _ = place.run("connect", "phone.db", "--readonly", "-c", "INSERT INTO task (title) VALUES ('x')")
    assert code == 1
    assert place.rows("phone", "SELECT count(*) FROM task") == [(0,)]


def test_the_tour_holds_and_leaves_nothing_behind(place, tmp_path):
    place.environment["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    out = place.ok("demo")
    lines = [line for line in out.splitlines() if line.startswith("ok  ")]
    assert len(lines) >= 11
    assert "UNIQUE" in out
    assert list((tmp_path / "tmp").glob("octodb-demo-*")) == []


def test_ctrl_c_in_the_tour_cleans_up(place, tmp_path):
    place.environment["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    process = place.start("demo")
    assert process.stdout.readline().startswith("ok  a primary listens")
    (folder,) = (tmp_path / "tmp").glob("octodb-demo-*")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert not folder.exists()


def test_the_shell_works_beside_a_process_that_serves(place):
    primary = place.serve()
    place.ok("connect", place.uri("phone"), "-c", "SELECT 1")
    insert = "INSERT INTO news (id, text, row_owner) VALUES (2, 'beside', '*')"
    code, _, err = place.run("shell", "primary.db", "-c", insert)
    assert code == 0, err
    assert "another process serves primary.db" in err
    out = place.ok("connect", "phone.db", "--wait", "synced", "-c", "SELECT text FROM news ORDER BY id")
    assert out == "welcome\nbeside\n"
    place.stop(primary)


def test_a_shell_beside_the_server_leaves_the_address_remembered(place):
    place.stop(place.serve())
    primary = place.serve()  # at the port it had, which the URI names now
    place.ok("shell", "primary.db", "-c", "SELECT 1")
    place.stop(primary)
    again = place.start("serve", "primary.db")
    line = again.stdout.readline()
    assert line.strip().endswith(f"listening on {place.address}"), line + again.stderr.read()
    place.stop(again)


def test_a_file_that_was_moved_is_the_node_where_it_is_now(place):
    place.stop(place.serve())
    (place.folder / "primary.db").rename(place.folder / "moved.db")
    assert place.ok("status", "moved.db").startswith("moved.db   node 1")
    assert place.ok("shell", "moved.db", "-c", "SELECT text FROM news") == "welcome\n"
    assert not (place.folder / "primary.db").exists()


def test_a_primary_without_an_address_is_not_served(place):
    for uri in ("new.db", "file:new.db?node=primary"):
        code, out, err = place.run("serve", uri)
        assert (code, out) == (2, "")
        assert err.startswith("error: no address to listen on for new.db")
    assert not (place.folder / "new.db").exists()


def test_watching_ends_when_the_reader_leaves_although_nothing_changes(place):
    place.stop(place.serve())
    watch = place.start("status", "primary.db", "--watch", "--json")
    assert json.loads(watch.stdout.readline())["state"] == "offline"
    watch.stdout.close()
    watch.stdin.close()
    assert watch.wait(DEADLINE_S) == 141
    assert watch.stderr.read() == ""
    watch.stdout, watch.stdin = None, None  # for communicate() at the end


def test_usage_is_exit_2(place):
    place.stop(place.serve())
    wrong = [
        ("connect",),
        ("connect", "file:a.db?node=secondary&conect=tcp://127.0.0.1:1"),
        ("connect", "file:a.db?node=secondary"),
        ("connect", "primary.db"),
        ("connect", "a.db", "--nosuch"),
        ("login", place.uri("a"), "--data", "not json"),
        ("status", "a.db", "--until", "tomorrow"),
        ("serve", "a.db", "--bind", "tcp://127.0.0.1:0", "--accounts", "--authorizer", "a:b"),
        ("nosuch",),
    ]
    for arguments in wrong:
        code, out, err = place.run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("error: "), arguments
        assert "Traceback" not in err
        assert "not json" not in err


def test_no_server_is_exit_5(place):
    place.stop(place.serve())
    code, out, err = place.run("connect", place.uri("phone"), "--timeout", "0.5", "-c", "SELECT 1")
    assert (code, out) == (5, "")
    assert "cannot reach any primary" in err
    assert "connection refused" in err
    code, _, err = place.run("status", "phone.db", "--until", "ready", "--timeout", "0.5")
    assert code == 5, err
    code, _, err = place.run("login", "phone.db", "--data", "-", "--timeout", "0.5", given=ADA)
    assert code == 5, err


def test_indexes_of_the_library_are_not_shown(place):
    place.stop(place.serve())
    assert place.ok("shell", "primary.db", "-c", ".indexes") == ""
    assert "_octodb" not in place.ok("shell", "primary.db", "-c", ".schema", "-c", ".tables")
