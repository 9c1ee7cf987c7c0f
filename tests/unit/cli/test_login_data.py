"""--data: where it comes from, what is refused, and that no value is ever repeated."""

import io

import pytest

from octocli.failure import Exit, Failure
from octocli.login_data import read_login_data

GOOD = '{"email": "ada@example.org", "pa": "x"}'


def read(option, **more):
    warnings = []
    return read_login_data(option, warn=warnings.append, **{"environ": {}, **more}), warnings


def test_as_given():
    assert read(GOOD) == (GOOD, [])


def test_nothing_is_nothing():
    assert read(None) == (None, [])


def test_standard_input():
    assert read("-", stdin=io.StringIO(GOOD + "\n"))[0] == GOOD


def test_a_private_file_and_the_variable(tmp_path):
    file = tmp_path / "login.json"
    file.write_text(GOOD)
    file.chmod(0o600)
    assert read(f"@{file}") == (GOOD, [])
    assert read(None, environ={"OCTODB_LOGIN_DATA_FILE": str(file)}) == (GOOD, [])


def test_a_file_that_others_can_read_is_warned_of(tmp_path):
    file = tmp_path / "login.json"
    file.write_text(GOOD)
    file.chmod(0o644)
    text, warnings = read(f"@{file}")
    assert text == GOOD
    assert len(warnings) == 1
    assert "chmod 600" in warnings[0]


@pytest.mark.parametrize("name", ["password", "Passwort", "api_key", "access_token", "secret"])
def test_a_secret_on_the_command_line_is_warned_of_once(name):
    _, warnings = read(f'{{"{name}": "hunter2", "password2": "hunter2"}}')
    assert len(warnings) == 1
    assert "hunter2" not in warnings[0]


@pytest.mark.parametrize("bad", ["hunter2", '{"password": "hunter2"', '["hunter2"]', '"hunter2"', "", "3", "null"])
def test_what_is_no_json_object_is_refused_without_repeating_it(bad):
    with pytest.raises(Failure) as caught:
        read(bad)
    assert caught.value.code == Exit.USAGE
    assert "hunter2" not in "\n".join(caught.value.lines())
    assert caught.value.__cause__ is None
    assert len(caught.value.lines()) == 3


def test_a_missing_file_is_a_usage_error():
    with pytest.raises(Failure) as caught:
        read("@/nonexistent/login.json")
    assert caught.value.code == Exit.USAGE
