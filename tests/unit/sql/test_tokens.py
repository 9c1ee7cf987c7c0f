"""SQLite's lexical rules: what is one token, and what name it means."""

from __future__ import annotations

import pytest

from octodb.sql.tokens import Token, TokenKind, fold_name, quote_name, quote_text, same_name, tokenize


def kinds_and_texts(sql: str) -> list[tuple[str, str]]:
    return [(token.kind.value, token.text) for token in tokenize(sql)]


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("abc", "word"),
        ("_a$1é", "word"),
        ("x", "word"),
        ('"a""b"', "quoted"),
        ("`a``b`", "quoted"),
        ("[a b]", "quoted"),
        ("'it''s; -- ) '", "string"),
        ("12", "number"),
        ("1_000", "number"),
        ("0xFf", "number"),
        ("1.5e-3", "number"),
        (".5", "number"),
        ("1.", "number"),
        ("12abc", "number"),
        ("x'0aFF'", "blob"),
        ("X''", "blob"),
        ("?", "variable"),
        ("?12", "variable"),
        (":name", "variable"),
        ("@n", "variable"),
        ("#1", "variable"),
        ("$a::b(c)", "variable"),
        ("->>", "operator"),
        ("->", "operator"),
        ("||", "operator"),
        ("<>", "operator"),
        ("==", "operator"),
        ("\x00", "operator"),
    ],
)
def test_one_token(sql: str, kind: str) -> None:
    assert kinds_and_texts(sql) == [(kind, sql)]
    assert kinds_and_texts(f" {sql} ") == [(kind, sql)]


def test_tokens_know_their_place() -> None:
    sql = "SELECT  'a' -- b\n, c/* d */;"
    tokens = tokenize(sql)
    assert [token.text for token in tokens] == ["SELECT", "'a'", ",", "c", ";"]
    assert all(sql[token.start : token.end] == token.text for token in tokens)


@pytest.mark.parametrize("sql", ["", "  \t\r\n\f", "-- all", "/* all */", "/* open", "\ufeff", "-- a\n/**/--"])
def test_white_space_and_comments_are_no_tokens(sql: str) -> None:
    assert tokenize(sql) == []


@pytest.mark.parametrize("sql", ["'open", '"open', "[open", "`open", "x'open", "'", '"', "'a''"])
def test_what_is_not_terminated_runs_to_the_end(sql: str) -> None:
    assert [token.text for token in tokenize(sql)] == [sql]


def test_minus_and_slash_alone_are_operators() -> None:
    assert [token.text for token in tokenize("a-b/c*-1")] == ["a", "-", "b", "/", "c", "*", "-", "1"]


def test_parameters_end_where_sqlite_ends_them() -> None:
    assert [token.text for token in tokenize("(:a,?1,@b)")] == ["(", ":a", ",", "?1", ",", "@b", ")"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Abc", "Abc"),
        ('"a""b"', 'a"b'),
        ("'it''s'", "it's"),
        ("`a``b`", "a`b"),
        ("[a]", "a"),
        ("[a''b]", "a''b"),
        ('"open', "open"),
        ('""', ""),
    ],
)
def test_name_is_the_identifier_meant(text: str, name: str) -> None:
    (token,) = tokenize(text)
    assert token.name == name


def test_word_is_for_words_alone() -> None:
    assert [token.word for token in tokenize("select \"select\" 'select' [select] 1")] == [
        "SELECT",
        "",
        "",
        "",
        "",
    ]


def test_quoting_is_undone_by_reading() -> None:
    for text in ["", "a", 'say "hi"', "it's", "a]b`c", "x\ny;--"]:
        assert Token(TokenKind.QUOTED, quote_name(text), 0, 0).name == text
        assert [token.name for token in tokenize(quote_name(text))] == [text]
        assert [token.name for token in tokenize(quote_text(text))] == [text]


def test_only_ascii_letters_are_folded() -> None:
    assert fold_name("ROW_Owner") == "row_owner"
    assert fold_name("ÄB") == "Äb"
    assert same_name("Row_Owner", "row_OWNER")
    assert not same_name("Ä", "ä")
    assert not same_name("a", "b")
