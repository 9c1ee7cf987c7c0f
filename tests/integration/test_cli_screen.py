"""The shell and the dashboard as they look: a real terminal (pexpect) drawn by a terminal emulator (pyte)."""

import contextlib
import os
import re
import sys
import termios
import time

import pytest

import octodb

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

DEADLINE_S = 15


class Screen:
    """A terminal with `python -m octocli …` in it."""

    def __init__(self, folder, *arguments, columns=90, rows=24, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OCTODB_")}
        own = {"XDG_STATE_HOME": str(folder / "state"), "TERM": "xterm-256color", "PYTHONUTF8": "1"}
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "octocli", *arguments],
            env={**kept, **own, **environment},
            dimensions=(rows, columns),
            encoding="utf-8",
            cwd=str(folder),
        )
        self.child.delaybeforesend = None
        self._screen = pyte.Screen(columns, rows)
        self._screen.write_process_input = self.child.send  # its answers: where the cursor is
        self._stream = pyte.Stream(self._screen)

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self._screen.display)

    def wait_for(self, condition):
        """Read until ``condition(text)`` holds, or a text of the screen appears."""
        wanted = condition if callable(condition) else (lambda text: condition in text)
        end = time.monotonic() + DEADLINE_S
        while not wanted(self.text):
            assert time.monotonic() < end, f"never on the screen: {condition!r}\n{self.text}"
            try:
                self.read(0.2)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert wanted(self.text), f"ended before {condition!r}\n{self.text}"
                return

    def read(self, timeout_s):
        """Draw what the program wrote. Raises pexpect's TIMEOUT and EOF."""
        self._stream.feed(self.child.read_nonblocking(65536, timeout_s))

    def type(self, keys):
        self.child.send(keys)

    def wait_for_statement(self):
        """Wait until a statement runs: the terminal makes signals of keys then, and keys of them in a prompt."""
        self.wait_for(lambda _: termios.tcgetattr(self.child.child_fd)[3] & termios.ISIG)

    def ended(self, pressing=""):
        """The exit code, once it has one. ``pressing``: a key pressed until then, as a person would.

        A signal in the instant between Python's last look for signals and its read() of a line waits for the next.
        """
        end = time.monotonic() + DEADLINE_S
        while pressing and self.child.isalive():
            assert time.monotonic() < end, self.text
            self.child.send(pressing)
            with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
                self.read(0.2)
        self.child.expect(pexpect.EOF, timeout=DEADLINE_S)
        self.child.close()
        if self.child.signalstatus is not None:
            return 128 + self.child.signalstatus  # as a shell counts: a key pressed while it was ending already
        return self.child.exitstatus


@pytest.fixture
def screen(tmp_path):
    screens = []

    def start(*arguments, **options):
        screens.append(Screen(tmp_path, *arguments, **options))
        return screens[-1]

    yield start
    for each in screens:
        each.child.close(force=True)


def test_the_shell(screen, tmp_path):
    shell = screen("shell", "a.db")
    shell.wait_for("a.db›")  # noqa: RUF001 - the prompt's sign
    shell.type("CREATE TABLE track (\r")
    shell.wait_for("(>")
    shell.type("id INTEGER PRIMARY KEY, title);\rINSERT INTO track (title) VALUES ('Ægir'), (NULL);\r")
    shell.type("SELECT * FROM track;\r")
    shell.wait_for("│  2 │ NULL  │")
    assert "│  1 │ Ægir  │" in shell.text
    shell.type("SELECT nope;\r")
    shell.wait_for("error: no such column: nope")
    shell.type("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c;\r")
    shell.wait_for("    > ;")
    shell.wait_for_statement()
    shell.type("\x03")
    shell.wait_for("interrupted")
    shell.type("BEGIN;\r")
    shell.wait_for("a.db*›")  # noqa: RUF001
    shell.type("\x04")
    shell.wait_for("a transaction is open")
    shell.type("r\r")
    assert shell.ended() == 0


def test_a_dumb_terminal_still_has_a_shell(screen):
    shell = screen("shell", "a.db", TERM="dumb")
    shell.wait_for("a.db")
    shell.type("SELECT 40 + 2 AS answer;\r")
    shell.wait_for("42")
    assert "\x1b[3" not in shell.text
    shell.type(".quit\r")
    assert shell.ended() == 0


def test_the_guided_demo_from_sign_up_to_the_dashboard(screen, tmp_path):
    (tmp_path / "tmp").mkdir()
    demo = screen("demo", TMPDIR=str(tmp_path / "tmp"))
    demo.wait_for("[1] log in   [2] sign up")
    demo.type("2\r")
    demo.wait_for("email:")
    demo.type("ada@example.org\r")
    for label in ("password:", "password again:"):
        demo.wait_for(label)
        demo.type("hunter2-hunter2\r")
    demo.wait_for("phone.db●›")  # noqa: RUF001
    assert "signed in as user 2" in demo.text
    demo.wait_for("● in sync 127.0.0.1:")
    demo.type("INSERT INTO playlist (name) VALUES ('Mine');\r.sync\r")
    demo.wait_for("queue         0 to send")
    (device,) = (tmp_path / "tmp").glob("octodb-demo-*/phone.db")
    dashboard = screen("status", str(device), "--watch")
    dashboard.wait_for("phone.db   node 3 · user 2 · secondary   ● in sync")
    dashboard.wait_for("q quit")
    dashboard.type("?")
    dashboard.wait_for("the picture stands still")
    dashboard.type("?\t")
    dashboard.wait_for(lambda text: "queue" not in text and "SERVER" in text)
    dashboard.type("p")
    dashboard.wait_for("paused")
    dashboard.type("q")
    assert dashboard.ended() == 0
    demo.type(".quit\r")
    assert demo.ended() == 0
    assert not device.parent.exists()
    for file in (tmp_path / "state").rglob("*"):
        assert file.is_dir() or "hunter2" not in file.read_text()


@pytest.fixture
def primary(tmp_path):
    """The address of a primary with accounts; ada has one."""
    folder = tmp_path / "server"
    folder.mkdir()
    with contextlib.closing(
        octodb.connect(f"file:{folder}/p.db?node=primary&bind=tcp://127.0.0.1:0&auth=user")
    ) as conn:
        octodb.Accounts(conn)
        conn.executescript("CREATE TABLE task (id INTEGER PRIMARY KEY, title TEXT NOT NULL, row_owner)")
        (address,) = conn.sync_status["bind"]
        with contextlib.closing(octodb.connect(f"file:{folder}/d.db?node=secondary&connect={address}")) as device:
            device.execute('PRAGMA user_signup=\'{"email": "ada@example.org", "password": "hunter2-hunter2"}\'')
            assert device.wait_ready(DEADLINE_S), device.sync_status
        yield address


def sign_in(shell, choice, email, *passwords):
    shell.wait_for("[1] log in   [2] sign up   [q] quit\n>")
    shell.type(f"{choice}\r")
    shell.wait_for("email:")
    shell.type(f"{email}\r")
    for number, password in enumerate(passwords, start=1):
        shell.wait_for(lambda text, number=number: len(re.findall("password(?: again)?:", text)) == number)
        shell.type(f"{password}\r")


def test_the_shell_in_a_tiny_terminal(screen, primary):
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    sign_in(shell, 1, "ada@example.org", "hunter2-hunter2")
    shell.wait_for("a.db●›")  # noqa: RUF001
    shell.type(".quit\r")
    assert shell.ended() == 0
    tiny = screen("connect", "a.db", columns=20, rows=5)
    tiny.wait_for("a.db●›")  # noqa: RUF001
    tiny.type("SELECT 42 AS answer;\r")
    tiny.wait_for("│     42 │")
    tiny.type(".quit\r")
    assert tiny.ended() == 0


def test_connecting_for_the_first_time(screen, primary, tmp_path):
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    sign_in(shell, 2, "ben@example.org", "a long secret", "a long secret")
    shell.wait_for("a.db●›")  # noqa: RUF001
    assert "asks who you are" in shell.text
    assert "signed in as user " in shell.text
    assert "a long secret" not in shell.text
    shell.type("INSERT INTO task (title) VALUES ('tea');\rSELECT title FROM task;\r")
    shell.wait_for("│ tea   │")
    shell.type('PRAGMA user_login=\'{"password": "a long secret"}\';\r')
    shell.wait_for(lambda text: len(re.findall("a.db[●◐]›", text)) >= 4)  # noqa: RUF001
    shell.type(".quit\r")
    assert shell.ended() == 0
    assert (tmp_path / "state").is_dir()
    for file in (tmp_path / "state").rglob("*"):
        assert file.is_dir() or "long secret" not in file.read_text()


def test_ctrl_c_stops_a_statement_on_a_device(screen, primary, capsys):
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    sign_in(shell, 1, "ada@example.org", "hunter2-hunter2")
    shell.wait_for("a.db●›")  # noqa: RUF001
    shell.wait_for("● in sync 127.0.0.1:")
    shell.type("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c)\rSELECT count(*) FROM c;\r")
    shell.wait_for("> SELECT count(*) FROM c;")
    shell.wait_for_statement()
    began = time.monotonic()
    shell.type("\x03")
    shell.wait_for("interrupted")
    seconds = time.monotonic() - began
    with capsys.disabled():
        sys.stdout.write(f"[Ctrl-C stopped a statement in {seconds * 1000:.0f} ms; the target is 100] ")
    assert seconds < 1
    shell.type("SELECT 6 * 7 AS answer;\r")
    shell.wait_for("│     42 │")
    shell.type(".quit\r")
    assert shell.ended() == 0


def test_three_wrong_passwords_are_exit_4(screen, primary):
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    sign_in(shell, 1, "ada@example.org", "wrong-wrong-1", "wrong-wrong-2", "wrong-wrong-3")
    shell.wait_for("error: the login was refused")
    assert shell.text.count("refused: wrong") == 3
    assert "wrong-wrong" not in shell.text
    assert shell.ended() == 4


def test_quitting_and_ctrl_c_at_the_question(screen, primary):
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    shell.wait_for("[q] quit\n>")
    shell.type("q\r")
    assert shell.ended() == 4
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    shell.wait_for("[q] quit\n>")
    assert shell.ended(pressing="\x03") == 130


def test_ctrl_c_breaks_the_wait_for_a_server(screen):
    shell = screen("connect", "file:a.db?node=secondary&connect=tcp://127.0.0.1:1")
    shell.wait_for("not connected: ")
    shell.type("\x03")
    assert shell.ended() == 130


def test_the_dashboard_in_a_narrow_terminal(screen, primary):
    shell = screen("connect", f"file:a.db?node=secondary&connect={primary}")
    sign_in(shell, 1, "ada@example.org", "hunter2-hunter2")
    shell.wait_for("a.db●›")  # noqa: RUF001
    shell.type(".quit\r")
    assert shell.ended() == 0
    dashboard = screen("status", "--watch", "a.db", columns=40)
    dashboard.wait_for("● in sync")
    dashboard.wait_for("q quit  p pause")
    assert "↑ queue 0" in dashboard.text
    assert "✗ rejected 0" in dashboard.text
    assert "── events ─" in dashboard.text
    dashboard.type("q")
    assert dashboard.ended() == 0
    dashboard = screen("status", "--watch", "a.db", columns=40)
    dashboard.wait_for("q quit")
    dashboard.type("\x03")
    assert dashboard.ended() == 0
