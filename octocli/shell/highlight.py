"""Colours for SQL while it is typed, from SQLite's own list of keywords."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.styles import Style

from octocli.sqltext import is_dot_command, tokens

__all__ = ["STYLE", "SqlLexer", "colour_lines"]

STYLE: Final = Style.from_dict(
    {
        "sql.keyword": "ansiblue bold",
        "sql.string": "ansigreen",
        "sql.number": "ansicyan",
        "sql.comment": "ansigray italic",
        "sql.parameter": "ansimagenta",
        "sql.command": "ansimagenta",
        "bottom-toolbar": "noreverse ansigray",
        "keys": "reverse",
    }
)
KINDS: Final = frozenset({"string", "number", "comment", "parameter"})


class SqlLexer(Lexer):
    """A prompt_toolkit lexer; a token may span lines."""

    def __init__(self, keywords: frozenset[str]) -> None:
        self._keywords = frozenset(word.upper() for word in keywords)

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        lines = colour_lines(document.text, self._keywords)
        return lambda number: lines[number] if number < len(lines) else []


def colour_lines(text: str, keywords: frozenset[str]) -> list[StyleAndTextTuples]:
    """(style, text) pairs for each line of ``text``; ``keywords`` are in upper case."""
    if is_dot_command(text):
        return [[("class:sql.command", line)] for line in text.split("\n")]
    lines: list[StyleAndTextTuples] = [[]]
    for kind, token in tokens(text):
        style = f"class:sql.{kind}" if kind in KINDS else ""
        if kind == "word" and token.upper() in keywords:
            style = "class:sql.keyword"
        first, *others = token.split("\n")
        lines[-1].append((style, first))
        lines.extend([[(style, part)] for part in others])
    return lines
