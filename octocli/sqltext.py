"""SQL as text: splitting input into statements and dot commands, tokens to colour, secrets to hide.

Pure; runs nothing. Whether a statement is complete is SQLite's own decision (complete_statement).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Piece", "Splitter", "first_line", "holds_secret", "is_dot_command", "tokens"]

OPENERS: Final = re.compile(r"""['"`\[;()]|--|/\*""")
CLOSERS: Final = {"'": "'", '"': '"', "`": "`", "[": "]", "--": "\n", "/*": "*/"}
# Not str.splitlines: a form feed inside a string ends no line for SQLite or an editor.
LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
COMMENTS: Final = re.compile(r"--[^\n]*(\n|$)|/\*.*?(\*/|$)", re.DOTALL)
SECRET: Final = re.compile(
    r"\bpragma\s+(\w+\s*\.\s*)?(user_login|user_signup|key|hexkey|rekey|hexrekey|textkey)\b"
    r"|\battach\b.*\bkey\b|[?&](hex)?key=",
    re.IGNORECASE | re.DOTALL,
)
SECRET_COMMAND: Final = re.compile(r"\s*\.(login|signup)\b")

TOKENS: Final = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))"
    r"|(?P<string>[xX]?'(?:[^']|'')*(?:'|\Z))"
    r'|(?P<quoted>"(?:[^"]|"")*(?:"|\Z)|`(?:[^`]|``)*(?:`|\Z)|\[[^\]]*(?:\]|\Z))'
    r"|(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<parameter>\?\d*|[:@$]\w+)"
    r"|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<space>\s+)"
    r"|(?P<operator>.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Piece:
    """One statement or one dot command, and the line (from 1) where it starts."""

    text: str
    line: int
    is_command: bool = False


class Splitter:
    """Cuts text into statements as it arrives. Feed whole lines; each piece comes out once complete."""

    def __init__(self, complete: Callable[[str], bool]) -> None:
        self._complete = complete
        self._buffer = ""
        self._scanned = 0
        self._open = ""
        self._line = 1
        self._parentheses = 0

    @property
    def pending(self) -> str:
        """The text of the statement begun, without a piece for it yet."""
        return self._buffer

    @property
    def open_delimiter(self) -> str:
        """What is open at the end: a quote, ``(``, ``/*``, or '' (a plain continuation)."""
        return self._open or ("(" if self._parentheses > 0 else "")

    def feed(self, text: str) -> Iterator[Piece]:
        """Take more text, ending at the end of a line or of the input."""
        for line in LINES.findall(text):
            if is_dot_command(line) and not is_blank(self._buffer):
                pass  # a line of a statement that merely starts with a dot (.5)
            elif is_dot_command(line) and not self._open:
                line_number = self._line + self._buffer.count("\n")
                self._drop(len(self._buffer))
                self._line = line_number + 1
                yield Piece(line.strip(), line_number, is_command=True)
                continue
            self._buffer += line
            yield from self._scan()

    def finish(self) -> Iterator[Piece]:
        """The input has ended: what is left is a statement without its semicolon, or nothing."""
        if not is_blank(self._buffer):
            yield self._piece(len(self._buffer))

    def _scan(self) -> Iterator[Piece]:
        while True:
            if self._open:
                closer = CLOSERS[self._open]
                end = self._buffer.find(closer, self._scanned)
                if end < 0:
                    self._scanned = len(self._buffer)
                    return
                self._scanned = end + len(closer)
                self._open = ""
            match = OPENERS.search(self._buffer, self._scanned)
            if match is None:
                self._scanned = len(self._buffer)
                return
            self._scanned = match.end()
            if match[0] in CLOSERS:
                self._open = match[0]
            elif match[0] in "()":
                self._parentheses += 1 if match[0] == "(" else -1
            elif match[0] == ";" and self._complete(self._buffer[: match.end()]):
                piece = self._piece(match.end())
                if piece.text.strip(" \t\r\n;"):
                    yield piece

    def _piece(self, end: int) -> Piece:
        text = self._buffer[:end]
        blank = _blank_start(text)
        line = self._line + text.count("\n", 0, blank)
        self._drop(end)
        return Piece(text[blank:].strip(), line)

    def _drop(self, end: int) -> None:
        self._line += self._buffer.count("\n", 0, end)
        self._buffer = self._buffer[end:]
        self._scanned = 0
        self._open = ""
        self._parentheses = 0


def is_dot_command(line: str) -> bool:
    """``.tables``, or psql's ``\\d``: a dot or backslash followed by a letter or a question mark."""
    text = line.lstrip()
    return len(text) > 1 and text[0] in ".\\" and (text[1].isalpha() or text[1] == "?")


def is_blank(text: str) -> bool:
    """Whether there is nothing but space and comments."""
    return _blank_start(text) == len(text)


def tokens(sql: str) -> Iterator[tuple[str, str]]:
    """(kind, text) of every token; the texts joined are ``sql``. An open quote runs to the end.

    Kinds: comment, string, quoted, number, parameter, word, space, operator.
    """
    for match in TOKENS.finditer(sql):
        yield match.lastgroup or "operator", match[0]


def holds_secret(text: str) -> bool:
    """Whether the text signs somebody in or names a key: such text is neither stored nor repeated."""
    return bool(SECRET.search(COMMENTS.sub(" ", text)) or SECRET_COMMAND.match(text) or SECRET.search(text))


def first_line(sql: str, width: int = 70) -> str:
    """A statement in one line for a message, with a secret left out."""
    if holds_secret(sql):
        words = sql.split()[:1]
        return " ".join([*words, "… (not shown: it holds a secret)"])
    line = " ".join(sql.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _blank_start(text: str) -> int:
    """Where the first token that is neither space nor comment starts."""
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
        elif match := COMMENTS.match(text, position):
            position = match.end()
        else:
            break
    return position
