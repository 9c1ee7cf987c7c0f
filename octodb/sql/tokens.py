"""SQL text cut into SQLite's tokens, and names quoted or compared as SQLite does it.

Owns the lexical rules of SQLite (tokenize.c): what is a word, a quoted name, a string, a parameter or a
comment. Never judges grammar, never fails on bad text, never touches SQLite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

__all__ = ["Token", "TokenKind", "fold_name", "quote_name", "quote_text", "same_name", "spans", "tokenize"]

# The fragments that other modules of this package build their own patterns from. Every character from
# U+0080 on may stand in a name (tokenize.c, CC_KYWD0), except a byte order mark at the start of a token.
WORD_CHAR = r"[A-Za-z0-9_$\x80-\U0010ffff]"
SPACE = r"[ \t\n\f\r\ufeff][\t-\r ]*+"
COMMENT = r"--[^\n]*+|/\*(?s:(?=.)(?:.*?\*/|.*))"
STRING = r"'[^']*+(?:''[^']*+)*+'?"
QUOTED = r'"[^"]*+(?:""[^"]*+)*+"?|`[^`]*+(?:``[^`]*+)*+`?|\[[^\]]*+\]?'
# The parentheses are the suffix that Tcl arrays have: SQLite takes `$a(1)` as one parameter.
VARIABLE = rf"\?[0-9]*+|[$@#:](?:{WORD_CHAR}|::)++(?:\([^\s)]*\))?"


class TokenKind(Enum):
    """What a token is. Keywords are WORDs: SQLite lets many of them be names, so only grammar can tell."""

    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    BLOB = "blob"
    VARIABLE = "variable"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Token:
    """One token: ``text`` is ``sql[start:end]``, indexes counted in characters."""

    kind: TokenKind
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        """The text in capitals when the token is an unquoted word (keyword or name), else ''."""
        return self.text.upper() if self.kind is TokenKind.WORD else ""

    @property
    def name(self) -> str:
        """The identifier meant, without quotes and with doubled quotes undone.

        Also for a STRING, which SQLite takes as a name in places (``CREATE TABLE 'a' …``). Tokens that
        cannot be a name give their text.
        """
        text = self.text
        if self.kind is not TokenKind.QUOTED and self.kind is not TokenKind.STRING:
            return text
        closing = "]" if text[0] == "[" else text[0]
        body = text[1:-1] if len(text) > 1 and text[-1] == closing else text[1:]
        return body if closing == "]" else body.replace(closing * 2, closing)


_SCANNER = re.compile(
    "|".join(
        (
            rf"{SPACE}|{COMMENT}",
            rf"((?![xX]')[A-Za-z_\x80-\U0010ffff]{WORD_CHAR}*+)",
            rf"({QUOTED})",
            rf"({STRING})",
            # Letters behind a number make one illegal token in SQLite too, so they stay together.
            rf"(0[xX][0-9A-Fa-f]{WORD_CHAR}*+|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9][0-9_]*+)"
            rf"(?:[eE][+-]?[0-9_]++)?{WORD_CHAR}*+)",
            r"([xX]'[^']*+'?)",
            rf"({VARIABLE})",
            r"(->>|->|\|\||<[=><]|>[=>]|[=!]=|(?s:.))",
        )
    )
)
# The order of the pattern's groups; lastindex counts from 1.
_KINDS = (
    TokenKind.WORD,
    TokenKind.QUOTED,
    TokenKind.STRING,
    TokenKind.NUMBER,
    TokenKind.BLOB,
    TokenKind.VARIABLE,
    TokenKind.OPERATOR,
)


def spans(sql: str, start: int = 0) -> Iterator[tuple[TokenKind, int, int]]:
    """Yield (kind, start, end) of every token from character ``start`` on.

    The cheap form of :func:`tokenize`, and lazy: a caller that needs three words reads three words.
    """
    kinds = _KINDS
    for match in _SCANNER.finditer(sql, start):
        if group := match.lastindex:
            yield kinds[group - 1], match.start(), match.end()


def tokenize(sql: str) -> list[Token]:
    """Return the tokens of ``sql``; white space and comments are skipped.

    Never raises: an unterminated string, name or comment runs to the end, and a character that SQLite does
    not know is an OPERATOR (SQLite itself will complain about it).
    """
    return [Token(kind, sql[start:end], start, end) for kind, start, end in spans(sql)]


def quote_name(name: str) -> str:
    """Return ``name`` as a quoted identifier: ``na"me`` → ``"na""me"``."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return ``text`` as a string literal: ``it's`` → ``'it''s'``."""
    return "'" + text.replace("'", "''") + "'"


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold_name(name: str) -> str:
    """Return ``name`` in the form under which SQLite compares identifiers: A-Z lowered, nothing else."""
    return name.lower() if name.isascii() else name.translate(_ASCII_LOWER)


def same_name(a: str, b: str) -> bool:
    """Whether SQLite takes ``a`` and ``b`` as the same identifier (ASCII case is ignored)."""
    return a == b or fold_name(a) == fold_name(b)
