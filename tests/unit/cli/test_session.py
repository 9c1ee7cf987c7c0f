"""Statements, dot commands and scripts on a plain file, without a terminal."""

import io

import pytest

import octodb
from octocli.failure import Exit, Failure
from octocli.shell.script import run_lines, run_scripts
from octocli.shell.session import ShellSession
from octocli.target import Target
from octocli.terminal import Terminal


@pytest.fixture
def session(tmp_path):
    path = str(tmp_path / "a.db")
    conn = octodb.connect(path, check_same_thread=False, isolation_level=None)
    conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    conn.execute("CREATE INDEX t_name ON t (name)")
    session = ShellSession(conn, Target(path, path, None), Terminal(), stream=io.StringIO())
    yield session
    session.close()
    conn.close()


def run(session, text):
    session.output.stream.seek(0)
    session.output.stream.truncate()
    run_lines(session, [text], "script.sql")
    return session.output.stream.getvalue()


def fails(session, text):
    with pytest.raises(Failure) as caught:
        run(session, text)
    return caught.value


def test_rows_are_separated_by_tabs_where_there_is_no_terminal(session):
    assert run(session, "INSERT INTO t VALUES (1,'a'),(2,NULL); SELECT * FROM t;") == "1\ta\n2\t\n"


def test_transactions_work_as_sql(session):
    assert run(session, "BEGIN; INSERT INTO t VALUES (1,'a'); ROLLBACK; SELECT count(*) FROM t;") == "0\n"
    assert not session.conn.in_transaction


def test_the_first_error_ends_the_script_and_names_the_line(session):
    failure = fails(session, "INSERT INTO t VALUES (1,'a');\n\nSELECT *\nFROM nope;\nINSERT INTO t VALUES (2,'b');")
    assert failure.code == Exit.ERROR
    assert failure.what == "script.sql:3: no such table: nope"
    assert "SELECT * FROM nope" in failure.why
    assert run(session, "SELECT count(*) FROM t;") == "1\n"


def test_a_secret_in_a_bad_statement_is_not_repeated(session):
    failure = fails(session, "PRAGMA user_login='hunter2' hunter2;")
    assert "hunter2" not in "\n".join(failure.lines())
    assert failure.what.startswith("script.sql:1: ")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (".tables", "t\n"),
        ("\\dt", "t\n"),
        (".tables x%", ""),
        (".indexes", "t_name\nsqlite_autoindex_t_1\n"),
        (".mode", "tsv\n"),
        (".mode csv\nSELECT 1 AS a;", "a\r\n1\r\n"),
        (".headers on\nSELECT 1 AS a;", "a\n1\n"),
        (".nullvalue -\nSELECT NULL;", "-\n"),
        ("\\x\nSELECT 1 AS a;", "a = 1\n"),
        (".quit\nSELECT 1;", ""),
        ("\\q\nSELECT 1;", ""),
    ],
)
def test_dot_commands(session, text, output):
    assert sorted(run(session, text).split("\n")) == sorted(output.split("\n"))


def test_schema(session):
    assert run(session, ".schema t").startswith(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE);\nCREATE INDEX"
    )
    assert run(session, "\\d t") == run(session, ".schema t")


def test_read_runs_a_file_and_names_it_in_errors(session, tmp_path):
    good = tmp_path / "good.sql"
    good.write_text("INSERT INTO t VALUES (5, 'five');\nSELECT name FROM t WHERE id = 5;\n")
    assert run(session, f".read {good}") == "five\n"
    assert fails(session, f".read {good}").what.startswith(f"script.sql:1: {good}:1: UNIQUE")
    assert fails(session, ".read /nonexistent.sql").code == Exit.USAGE


def test_help_lists_every_command(session):
    text = run(session, ".help")
    for name in (".tables", ".sync", ".pending", ".rejected", ".nodes", ".login", ".signup", ".quit"):
        assert name in text


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        (".tabls", "did you mean .tables?"),
        (".mode nope", "box"),
        (".timer maybe", "on or off"),
        (".read", "FILE"),
        (".tables a b", ".tables [LIKE]"),
    ],
)
def test_misused_dot_commands_say_what_to_do(session, text, fix):
    failure = fails(session, text)
    assert failure.code == Exit.USAGE
    assert fix in failure.fix


@pytest.mark.parametrize("command", [".sync", ".pending", ".rejected", ".nodes", ".login {}"])
def test_sync_commands_on_a_plain_file_say_what_it_is(session, command):
    assert "plain database" in fails(session, command).what


def test_commands_run_before_the_file(session, tmp_path):
    file = tmp_path / "b.sql"
    file.write_text("SELECT 3;\n")
    run_scripts(session, ["SELECT 1", "SELECT 2;"], str(file))
    assert session.output.stream.getvalue() == "1\n2\n3\n"


def test_a_transaction_that_a_script_leaves_open_is_told(session, capsys):
    run_scripts(session, ["BEGIN; INSERT INTO t VALUES (1,'a')"], None)
    assert "rolled back" in capsys.readouterr().err


def test_the_timer_is_narration(session, capsys):
    assert run(session, ".timer on\nSELECT 1;") == "1\n"
    assert "ms" in capsys.readouterr().err


def test_a_screen_shows_the_first_rows_only(tmp_path, capsys):
    conn = octodb.connect(":memory:", check_same_thread=False, isolation_level=None)
    terminal = Terminal(stdin_is_tty=True, stdout_is_tty=True)
    session = ShellSession(conn, Target(":memory:", ":memory:", None), terminal, stream=io.StringIO())
    sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 5000) SELECT x FROM c;"
    shown = run(session, sql)
    session.close()
    conn.close()
    assert shown.count("\n") == 1000 + 4
    assert "first 1,000 rows" in capsys.readouterr().err
