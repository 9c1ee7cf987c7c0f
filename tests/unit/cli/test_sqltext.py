"""Splitting input into statements: whatever the text, wherever it is cut, with the right line numbers."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octocli.sqltext import Splitter, first_line, holds_secret, is_blank, is_dot_command, tokens

PARTS = st.sampled_from(
    [
        "SELECT 1",
        ";",
        "\n",
        " ",
        "'a;b'",
        "'it''s'",
        '"q;"',
        "`;`",
        "[;]",
        "-- c;'\n",
        "/* ; ' */",
        "(",
        ")",
        "'",
        "/*",
    ]
)


def split(text, *, chunks=None):
    splitter = Splitter(sqlite3.complete_statement)
    pieces = []
    for chunk in chunks or [text]:
        pieces += splitter.feed(chunk)
    return [*pieces, *splitter.finish()]


def texts(text):
    return [piece.text for piece in split(text)]


def test_statements_are_cut_at_semicolons_outside_of_quotes():
    text = "SELECT ';', \";\", [;], `;` -- ;\n; /* ; */ SELECT 2; SELECT 3"
    assert texts(text) == ["SELECT ';', \";\", [;], `;` -- ;\n;", "SELECT 2;", "SELECT 3"]


def test_a_statement_of_very_many_lines_is_not_copied_for_each_of_them():
    seen = []

    def complete(text):
        seen.append(len(text))
        return sqlite3.complete_statement(text)

    splitter = Splitter(complete)
    lines = ["INSERT INTO t VALUES\n", *["(1),\n"] * 50_000, "(2);\n"]
    pieces = [piece for line in lines for piece in splitter.feed(line)]
    assert [piece.text for piece in pieces] == ["".join(lines).strip()]
    assert seen == [len("".join(lines)) - 1]
    assert splitter.pending == "\n"


def test_a_trigger_is_one_statement():
    text = "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET x=1; DELETE FROM b; END; SELECT 1;"
    assert texts(text) == [text[: text.index("END;") + 4], "SELECT 1;"]


def test_pieces_know_the_line_they_start_at():
    pieces = split("\n-- a comment\nSELECT 1;\n\n  SELECT\n 2; SELECT 3;\n.tables\nSELECT 4")
    assert [(piece.line, piece.is_command) for piece in pieces] == [
        (3, False),
        (5, False),
        (6, False),
        (7, True),
        (8, False),
    ]


def test_dot_commands_are_lines_between_statements_only():
    pieces = split(".mode json\nSELECT 1\n.5;\n'a\n.tables\n';\n\\dt\n")
    assert [piece.text for piece in pieces] == [".mode json", "SELECT 1\n.5;", "'a\n.tables\n';", "\\dt"]


def test_a_dot_line_inside_a_statement_belongs_to_it():
    assert texts("SELECT a\n.b FROM a;") == ["SELECT a\n.b FROM a;"]


def test_statements_come_out_as_soon_as_they_are_complete():
    splitter = Splitter(sqlite3.complete_statement)
    assert list(splitter.feed("SELECT\n")) == []
    assert [piece.text for piece in splitter.feed("1; SEL")] == ["SELECT\n1;"]
    assert splitter.pending == " SEL"


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("SELECT 'a", "'"),
        ("SELECT (1", "("),
        ("SELECT /* x", "/*"),
        ("SELECT 1", ""),
        ("SELECT (1)", ""),
        ('"', '"'),
    ],
)
def test_what_is_open_is_known(text, delimiter):
    splitter = Splitter(sqlite3.complete_statement)
    assert list(splitter.feed(text)) == []
    assert splitter.open_delimiter == delimiter


@given(st.lists(PARTS, max_size=30))
def test_feeding_line_by_line_gives_the_same_pieces(parts):
    text = "".join(parts)
    assert split(text, chunks=text.splitlines(keepends=True) or [""]) == split(text)


@given(st.lists(PARTS, max_size=30))
def test_nothing_but_space_comments_and_semicolons_is_lost(parts):
    text = "".join(parts)
    kept = "".join(piece.text for piece in split(text))
    assert kept.count("SELECT 1") >= sum(token == "SELECT" for kind, token in tokens(text) if kind == "word")


@given(st.text())
def test_tokens_joined_are_the_text(text):
    assert "".join(token for _, token in tokens(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "PRAGMA user_login='{}'",
        'pragma  user_signup = "x"',
        "PRAGMA main.key='k'",
        "PRAGMA /* x */ user_login='x'",
        "PRAGMA hexkey='00'",
        "ATTACH 'a.db' AS a KEY 'k'",
        "ATTACH 'file:a.db?hexkey=00' AS a",
        ".login {}",
        ".signup {}",
    ],
)
def test_secrets_are_seen(text):
    assert holds_secret(text)
    assert "'" not in first_line(text)
    assert "{" not in first_line(text)


@pytest.mark.parametrize("text", ["SELECT 1", "PRAGMA user_version", "PRAGMA foreign_keys=1", ".tables", ".logins"])
def test_harmless_text_is_no_secret(text):
    assert not holds_secret(text)


def test_first_line_is_short():
    assert first_line("SELECT\n  1") == "SELECT 1"
    assert len(first_line("SELECT " + "x" * 500)) == 70


def test_what_is_a_dot_command():
    assert all(map(is_dot_command, [".tables", "  .mode csv", "\\d", "\\?"]))
    assert not any(map(is_dot_command, ["SELECT", ".5", ".", "\\", ""]))


def test_what_is_blank():
    assert is_blank(" \n-- x\n/* y */ ")
    assert not is_blank("-- x\n SELECT")
