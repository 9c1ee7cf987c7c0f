"""Which database is meant, and what is remembered of it."""

import os
import stat

import pytest

import octodb
from octocli.failure import Exit, Failure
from octocli.target import choose_target, path_uri, read_target, remember_target, with_parameters, without_parameters

URI = "file:app.db?node=secondary&connect=tcp://h1:1234"


def test_the_argument_comes_first_then_the_variable_then_the_last_one(tmp_path):
    def chosen(argument, environ):
        return choose_target(argument, environ=environ, folder=tmp_path).path

    remember_target(read_target(URI.replace("app", "last")), folder=tmp_path)
    from_variable = {"OCTODB_URI": URI.replace("app", "variable")}
    assert chosen(URI, from_variable) == "app.db"
    assert chosen(None, from_variable) == "variable.db"
    assert os.path.basename(chosen(None, {})) == "last.db"


def test_nothing_at_all_names_both_ways(tmp_path):
    with pytest.raises(Failure) as caught:
        choose_target(None, environ={}, folder=tmp_path)
    assert caught.value.code == Exit.USAGE
    assert "OCTODB_URI" in caught.value.fix
    assert "URI" in caught.value.why


def test_a_plain_path_that_never_was_a_node_is_refused_where_a_node_is_needed(tmp_path):
    with pytest.raises(Failure) as caught:
        choose_target(str(tmp_path / "plain.db"), environ={}, folder=tmp_path)
    assert caught.value.code == Exit.USAGE
    assert "connect=" in caught.value.fix
    assert choose_target(str(tmp_path / "plain.db"), plain=True, environ={}, folder=tmp_path).role is None


def test_a_role_is_added_where_the_uri_has_none():
    target = read_target("file:app.db?connect=tcp://h1:1234", role="secondary")
    assert target.role == "secondary"
    assert target.connect == ("tcp://h1:1234",)
    assert read_target(URI, role="primary").role == "secondary"


def test_a_misspelt_parameter_is_the_librarys_error():
    with pytest.raises(octodb.ConfigError) as caught:
        read_target("file:app.db?node=secondary&conect=tcp://h1:1234")
    assert "connect" in caught.value.hint


@pytest.mark.parametrize("role", ["primary", "secondary", None])
@pytest.mark.parametrize("uri", ["file:app.db?conect=tcp://h1:1234", "file:app.db?nod=secondary&conect=tcp://h1:1234"])
def test_a_misspelt_parameter_is_told_also_where_no_other_says_that_it_is_a_node(uri, role):
    with pytest.raises(octodb.ConfigError) as caught:
        read_target(uri, role=role)
    assert "did you mean" in caught.value.hint


def test_parameters_of_sqlite_alone_make_no_node():
    assert read_target("file:app.db?mode=ro&cache=private").role is None


@pytest.mark.parametrize(
    ("argument", "fix"),
    [
        ("", "leave the URI out"),
        ("app.db?node=secondary&connect=tcp://h1:1234", "'file:app.db?node=secondary"),
        ("file:", "file:app.db"),
        ("file:a%00b.db?node=secondary&connect=tcp://h1:1234", "take it out"),
    ],
)
def test_a_text_that_is_no_uri_is_exit_2_and_never_the_last_database(tmp_path, argument, fix):
    remember_target(read_target(URI), folder=tmp_path)
    with pytest.raises(Failure) as caught:
        choose_target(argument, role="secondary", plain=True, environ={}, folder=tmp_path)
    assert caught.value.code == Exit.USAGE
    assert fix in caught.value.fix


def test_what_can_never_be_a_node_is_exit_3(tmp_path):
    (tmp_path / "text.db").write_text("only text")
    for name, why in (("text.db", "not a SQLite database"), ("", "folder")):
        with pytest.raises(Failure) as caught:
            choose_target(str(tmp_path / name), role="secondary", environ={}, folder=tmp_path)
        assert caught.value.code == Exit.CANNOT_OPEN
        assert why in caught.value.why


def test_what_is_remembered_is_absolute_private_and_without_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = read_target(URI)
    with_key = type(target)(target.uri + "&key=secret&hexkey=00", target.path, target.role, target.connect)
    remember_target(with_key, folder=tmp_path)
    file = tmp_path / "last-database"
    assert file.read_text() == f"file:{tmp_path}/app.db?node=secondary&connect=tcp://h1:1234\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["last-database"]


def test_plain_files_are_not_remembered(tmp_path):
    remember_target(read_target("plain.db"), folder=tmp_path)
    assert os.listdir(tmp_path) == []


def test_parameters_are_appended():
    assert with_parameters("a b.db", mode="ro") == "file:a%20b.db?mode=ro"
    assert with_parameters("file:a.db?x=1", node="primary") == "file:a.db?x=1&node=primary"


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%.db", "#1.db", "ü.db"])
def test_paths_survive_as_uris(name):
    assert read_target(path_uri(name) + "?node=secondary&connect=tcp://h:1").path == name


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:a.db?node=primary&bind=tcp://h:1&auth=user", "file:a.db?node=primary&auth=user"),
        ("file:a.db?bind=tcp://h:1", "file:a.db"),
        ("file:a.db", "file:a.db"),
        ("file:a.db?bindings=1&%62ind=tcp://h:1", "file:a.db?bindings=1"),
    ],
)
def test_parameters_are_taken_out(uri, expected):
    assert without_parameters(uri, "bind") == expected
