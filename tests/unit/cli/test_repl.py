"""The interactive loop, with keys from a pipe instead of a keyboard."""

import io
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import octodb
from octocli.shell.dotcommands import COMMANDS
from octocli.shell.repl import Loop
from octocli.shell.session import ShellSession
from octocli.target import Target
from octocli.terminal import Terminal

ENTER, CTRL_C, CTRL_D, ALT_ENTER = "\r", "\x03", "\x04", "\x1b\r"
TERMINAL = Terminal(stdin_is_tty=True, stdout_is_tty=True, stderr_is_tty=True, colour=True)


@contextmanager
def shell(path):
    conn = octodb.connect(str(path), check_same_thread=False, isolation_level=None)
    session = ShellSession(conn, Target(str(path), str(path), None), TERMINAL, stream=io.StringIO())
    session.settings.mode = "tsv"
    try:
        yield session
    finally:
        session.close()
        conn.close()


@pytest.fixture
def typed(tmp_path):
    """typed(keys) runs a loop on a plain file until it ends, and returns what it wrote."""

    def run(keys):
        with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
            keyboard.send_text(keys)
            with shell(tmp_path / "a.db") as session:
                Loop(session, InMemoryHistory()).run()
                return session.output.stream.getvalue()

    return run


def test_a_statement_and_leaving(typed):
    assert typed("SELECT 1;" + ENTER + CTRL_D) == "1\n"


def test_enter_goes_on_until_the_statement_is_complete(typed):
    assert typed("SELECT" + ENTER + "2" + ENTER + ";" + ENTER + CTRL_D) == "2\n"


def test_several_statements_at_once(typed):
    assert typed("SELECT 1; SELECT 2;" + ENTER + ".quit" + ENTER) == "1\n2\n"


def test_alt_enter_submits_without_a_semicolon(typed):
    assert typed("SELECT 3" + ALT_ENTER + CTRL_D) == "3\n"


def test_ctrl_c_clears_the_line_and_stays(typed):
    assert typed("SELECT 4" + CTRL_C + "SELECT 5;" + ENTER + CTRL_D) == "5\n"


def test_a_paste_does_not_submit_by_itself(typed):
    paste = "\x1b[200~SELECT 6;\nSELECT 7;\n\x1b[201~"
    assert typed(paste + CTRL_C + "SELECT 8;" + ENTER + CTRL_D) == "8\n"
    assert typed(paste + ENTER + CTRL_D) == "6\n7\n"


def test_an_error_is_shown_and_the_loop_goes_on(typed, capsys):
    assert typed("SELECT nope;" + ENTER + "SELECT 9;" + ENTER + CTRL_D) == "9\n"
    assert "error: no such column: nope" in capsys.readouterr().err


def test_a_nul_is_an_error_and_the_loop_goes_on(typed, capsys):
    assert typed("\x1b[200~SELECT '\x00';\x1b[201~" + ENTER + "SELECT 3;" + ENTER + CTRL_D) == "3\n"
    assert capsys.readouterr().err.startswith("error: ")


def test_an_empty_line_does_nothing(typed):
    assert typed(ENTER + " " + ENTER + "SELECT 1;" + ENTER + CTRL_D) == "1\n"


@pytest.mark.parametrize(("answer", "count"), [("c", 1), ("r", 0)])
def test_leaving_with_an_open_transaction_asks(typed, answer, count):
    begin = "CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1);" + ENTER
    assert typed(begin + CTRL_D + answer + ENTER) == ""
    assert typed("SELECT count(*) FROM t;" + ENTER + CTRL_D) == f"{count}\n"


def test_one_may_stay_with_an_open_transaction(typed):
    keys = "CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1);" + ENTER + CTRL_D + "s" + ENTER
    keys += "COMMIT; SELECT count(*) FROM t;" + ENTER + CTRL_D
    assert typed(keys) == "1\n"


@pytest.fixture
def signalled(tmp_path, monkeypatch):
    """signalled(keys, before, after): a loop that gets SIGINT as each prompt starts, or ends, or both."""

    def run(keys, *, before=False, after=False):
        with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
            keyboard.send_text(keys)
            with shell(tmp_path / "a.db") as session:
                loop = Loop(session, InMemoryHistory())
                prompt = loop._prompt.prompt

                def interrupted(**options):
                    if before:
                        signal.raise_signal(signal.SIGINT)
                    text = prompt(**options)
                    if after:
                        signal.raise_signal(signal.SIGINT)
                    return text

                monkeypatch.setattr(loop._prompt, "prompt", interrupted)
                loop.run()
                return session.output.stream.getvalue()

    return run


def test_ctrl_c_as_a_prompt_starts_does_not_leave_nor_stop_what_is_typed_then(signalled):
    assert signalled("SELECT 1;" + ENTER + "SELECT 2;" + ENTER + CTRL_D, before=True) == "1\n2\n"


def test_ctrl_c_right_after_enter_stops_the_statement_and_stays(signalled, capsys):
    assert signalled("SELECT 1;" + ENTER + "SELECT 2;" + ENTER + CTRL_D, after=True) == ""
    assert capsys.readouterr().err.count("interrupted") == 2


def test_ctrl_c_still_stops_a_wait_of_a_dot_command(tmp_path, monkeypatch, capsys):
    def wait(_session, _args):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setitem(COMMANDS, "sync", replace(COMMANDS["sync"], run=wait))
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        keyboard.send_text(".sync" + ENTER + "SELECT 1;" + ENTER + CTRL_D)
        with shell(tmp_path / "a.db") as session:
            Loop(session, InMemoryHistory()).run()
            assert session.output.stream.getvalue() == "1\n"
    assert "interrupted" in capsys.readouterr().err
