"""The command line as scripts see it: pipes, exit codes, signals, streams. Real processes, plain files."""

import os
import signal
import subprocess
import sys
import time

import pytest

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
SILENT = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
DEADLINE_S = 20


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCTODB_")}
    return {**kept, "XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONUTF8": "1"}


@pytest.fixture
def start(tmp_path, environment):
    """start(arguments) runs `python -m octocli …`; every process left is killed at the end."""
    processes = []

    def run(*arguments, **changes):
        process = subprocess.Popen(
            [sys.executable, "-m", "octocli", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**environment, **changes},
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def test_sql_from_standard_input_and_rows_to_standard_output(start):
    process = start("shell", "a.db")
    out, err = process.communicate(b"CREATE TABLE t(a,b);\nINSERT INTO t VALUES (1,'x'),(2,NULL);\nSELECT * FROM t")
    assert (process.returncode, out, err) == (0, b"1\tx\n2\t\n", b"")


def test_statements_run_as_they_arrive(start):
    process = start("shell", "a.db", "-f", "-")
    for number in range(3):
        process.stdin.write(f"SELECT {number};\n".encode())
        process.stdin.flush()
        assert process.stdout.readline() == f"{number}\n".encode()
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 0


def test_an_error_ends_the_script_with_exit_1_and_its_line(start):
    process = start("shell", "a.db")
    out, err = process.communicate(b"SELECT 1;\nSELECT nope;\nSELECT 2;\n")
    assert (process.returncode, out) == (1, b"1\n")
    assert err.decode().splitlines()[0] == "error: stdin:2: no such column: nope"
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("script", "line"),
    [(b"SELECT 1;\nSELECT \x00 2;\n", 2), (b"SELECT 1;\nSELECT '\xff';\n", 2), (b"\x89PNG\r\n\x1a\n\x00", 1)],
)
def test_text_that_sqlite_cannot_be_given_is_named_by_its_line(start, tmp_path, script, line):
    (tmp_path / "a.sql").write_bytes(script)
    for arguments, name, given in ((("-f", "a.sql"), "a.sql", b""), ((), "stdin", script)):
        process = start("shell", "a.db", *arguments)
        out, err = process.communicate(given)
        assert (process.returncode, out) == (1, b"1\n" * (line - 1))
        assert err.decode().startswith(f"error: {name}:{line}: ")
        assert b"codec" not in err


def test_sql_is_utf_8_whatever_the_locale(start):
    process = start("shell", "a.db", "-c", "SELECT hex('é€')", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="C")
    assert process.communicate()[0] == b"C3A9E282AC\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_as_dev_null(tmp_path, environment, closed):
    # a shell closes them, as a person would write it: <&- >&- 2>&-
    redirections = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m octocli shell a.db -c "SELECT 1" {redirections}', sys.executable],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"" if 1 in closed else b"1\n", b"")


def test_a_reader_that_leaves_is_exit_141_and_silent(start):
    process = start("shell", "a.db", "-c", ENDLESS)
    assert process.stdout.readline() == b"1\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 141
    assert process.stderr.read() == b""


@pytest.mark.parametrize("sql", [ENDLESS, SILENT])
def test_ctrl_c_stops_a_statement_with_exit_130(start, sql):
    process = start("shell", "a.db", "-c", "SELECT 'started'", "-c", sql)
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_ctrl_c_while_waiting_for_input_is_exit_130(start):
    process = start("shell", "a.db")
    process.stdin.write(b"SELECT 'started';\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"started\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert b"Traceback" not in process.stderr.read()


def test_many_rows_stream(start, tmp_path):
    """All of a long result arrives, and the process never holds it."""
    sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 200000) SELECT x, 'row '||x FROM c"
    process = start("shell", "a.db", "-c", sql)
    process.stdin.close()
    count = sum(1 for _ in process.stdout)
    assert process.wait(DEADLINE_S) == 0
    assert count == 200_000


def test_an_ascii_terminal_gets_ascii_messages(start, tmp_path):
    process = start("shell", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0")
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert err.isascii()


def test_data_beyond_the_encoding_is_escaped_not_fatal(start):
    process = start("shell", "a.db", "-c", "SELECT 'Æ●'", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (0, b"\\xc6\\u25cf\n")


def test_the_version_needs_neither_the_library_nor_the_prompt(environment):
    code = (
        "import sys; from octocli.main import run; run(['--version']); run(['--help'])\n"
        "heavy = {'octodb', 'apsw', 'prompt_toolkit', 'rich', 'pygments'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_person_can_be_slow_but_not_a_script_without_a_server(start):
    """Exit 5 after the timeout, naming the server; the file stays usable."""
    began = time.monotonic()
    process = start(
        "connect", "file:d.db?node=secondary&connect=tcp://127.0.0.1:1", "--timeout", "0.5", "-c", "SELECT 1"
    )
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 5, err
    assert time.monotonic() - began >= 0.5
    lines = err.decode().splitlines()
    assert "error: cannot reach any primary" in lines
    assert lines[-1].startswith("  fix: ")
