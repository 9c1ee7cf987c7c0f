"""The program's outside: help, usage errors and exit codes."""

import json

import pytest
from click.testing import CliRunner

from octocli.main import COMMANDS, cli, run


def test_every_command_has_help():
    runner = CliRunner()
    text = runner.invoke(cli, ["--help"]).output
    for name in COMMANDS:
        result = runner.invoke(cli, [name, "--help"])
        assert result.exit_code == 0, name
        assert result.output.startswith("Usage: ")
        assert name == "completion" or name in text


def test_no_command_at_all_is_help_on_stderr(capsys):
    assert run([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: octodb ")


def test_a_misspelt_command_names_the_nearest(capsys):
    assert run(["conect", "a.db"]) == 2
    assert "did you mean octodb connect?" in capsys.readouterr().err


def test_the_version(capsys):
    from importlib.metadata import version

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"octodb {version('octodb')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["connect", "--nosuch"],
        ["connect"],
        ["connect", "file:a.db?node=secondary&conect=tcp://h:1"],
        ["connect", "file:a.db?node=primary&bind=tcp://127.0.0.1:0"],
        ["connect", "--wait", "never", "x"],
        ["connect", "x", "--data", "-"],
        ["login", "file:a.db?node=primary&bind=tcp://127.0.0.1:0", "--data", "{}"],
        ["status"],
        ["status", "plain.db"],
        ["status", "plain.db", "--timeout", "1"],
        ["whoami"],
        ["serve"],
        ["serve", "primary.db"],
        ["serve", "primary.db", "--bind", "tcp://127.0.0.1:0", "--no-sign-up"],
        ["serve", "primary.db", "--bind", "nonsense"],
        ["serve", "file:a.db?node=secondary&connect=tcp://127.0.0.1:1"],
        ["shell"],
    ],
)
def test_usage_errors_are_exit_2_and_say_what_to_do(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[-1].startswith("  fix: ")
    assert len(lines) <= 3
    assert list(tmp_path.glob("*.db")) == []


def test_a_file_that_cannot_be_opened_is_exit_3(capsys, tmp_path):
    assert run(["shell", str(tmp_path / "nowhere" / "a.db"), "-c", "SELECT 1"]) == 3
    assert "nowhere" in capsys.readouterr().err
    (tmp_path / "text.db").write_text("this is not a database, only text\n" * 100)
    assert run(["shell", str(tmp_path / "text.db"), "-c", "SELECT 1"]) == 3


def test_sql_on_a_plain_file(capsys, tmp_path):
    file = str(tmp_path / "a.db")
    assert run(["shell", file, "-c", "CREATE TABLE t (a)", "-c", "INSERT INTO t VALUES (1)"]) == 0
    assert run(["shell", file, "-c", ".mode json", "-c", "SELECT a FROM t"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"a": 1}]
    assert run(["shell", file, "--readonly", "-c", "INSERT INTO t VALUES (2)"]) == 1
    assert run(["shell", file, "-c", "SELECT nope"]) == 1


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="nope"):
        run(["--debug", "shell", str(tmp_path / "a.db"), "-c", "SELECT nope"])
