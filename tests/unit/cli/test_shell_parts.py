"""History, colours, completion."""

import stat

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import octodb
from octocli.shell.catalogue import Catalogue, read_catalogue
from octocli.shell.completer import SqlCompleter
from octocli.shell.dotcommands import COMMANDS
from octocli.shell.highlight import colour_lines
from octocli.shell.history import SafeHistory, history_file

CATALOGUE = Catalogue(1, {"track": ("id", "title"), "artist": ("id", "name"), "odd name": ("x",)})
KEYWORDS = frozenset({"SELECT", "FROM", "SET", "WHERE"})


def test_secrets_never_reach_the_history(tmp_path):
    file = history_file(tmp_path, "app.db")
    history = SafeHistory(str(file))
    history.append_string("SELECT 1;")
    history.append_string('PRAGMA user_login=\'{"password":"hunter2"}\';')
    history.append_string('.login {"password":"hunter2"}')
    assert list(history.load_history_strings()) == ["SELECT 1;"]
    assert history.get_strings() == ["SELECT 1;"]
    assert "hunter2" not in file.read_text()


def test_each_database_has_a_private_history(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {history_file(tmp_path, name) for name in ("app.db", "other/app.db", str(tmp_path / "app.db"))}
    assert len(files) == 2
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_colours():
    lines = colour_lines("SELECT 'a\nb' -- c", KEYWORDS)
    assert lines == [
        [("class:sql.keyword", "SELECT"), ("", " "), ("class:sql.string", "'a")],
        [("class:sql.string", "b'"), ("", " "), ("class:sql.comment", "-- c")],
    ]
    assert colour_lines(".tables", KEYWORDS) == [[("class:sql.command", ".tables")]]


def offers(text, *, asked=False):
    completer = SqlCompleter(KEYWORDS, COMMANDS)
    completer.catalogue = CATALOGUE
    event = CompleteEvent(completion_requested=asked, text_inserted=not asked)
    return [completion.text for completion in completer.get_completions(Document(text), event)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sel", ["select"]),
        ("SE", ["SELECT", "SET"]),
        ("SELECT * FROM t", ["track"]),
        ("SELECT * FROM o", ['"odd name"']),
        ("SELECT track.ti", ["title"]),
        ("SELECT t.", []),
        ("SELECT * FROM track WHERE ti", ["title"]),
        (".tab", ["tables"]),
        (".schema ar", ["artist"]),
        ("", []),
        ("SELECT ", []),
    ],
)
def test_completion(text, expected):
    assert offers(text) == expected


def test_aliases_are_known():
    completer = SqlCompleter(KEYWORDS, COMMANDS)
    completer.catalogue = CATALOGUE
    for text in ("SELECT * FROM artist AS a WHERE a.", "SELECT * FROM artist a WHERE a.na"):
        found = [c.text for c in completer.get_completions(Document(text), CompleteEvent(text_inserted=True))]
        assert found[-1] == "name"


def test_asking_offers_tables_without_a_letter():
    assert offers("SELECT * FROM ", asked=True) == ["track", "artist", '"odd name"']


def test_the_catalogue_is_read_again_only_when_the_schema_changed(tmp_path):
    conn = octodb.connect(str(tmp_path / "a.db"), isolation_level=None)
    conn.execute("CREATE TABLE t (a, b)")
    first = read_catalogue(conn, Catalogue())
    assert first.columns == {"t": ("a", "b")}
    assert read_catalogue(conn, first) is first
    conn.execute("ALTER TABLE t ADD COLUMN c")
    assert read_catalogue(conn, first).columns == {"t": ("a", "b", "c")}
    conn.close()
