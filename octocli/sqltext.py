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
        # In parts: adding each line to one long text would copy a statement of many lines once for each of them.
        self._parts: list[str] = []
        self._open = ""
        self._line = 1
        self._parentheses = 0

    @property
    def pending(self) -> str:
        """The text of the statement begun, without a piece for it yet."""
        return "".join(self._parts)

    @property
    def open_delimiter(self) -> str:
        """What is open at the end: a quote, ``(``, ``/*``, or '' (a plain continuation)."""
        return self._open or ("(" if self._parentheses > 0 else "")

    def feed(self, text: str) -> Iterator[Piece]:
        """Take more text, ending at the end of a line or of the input."""
        for line in LINES.findall(text):
            # a line within a statement may merely start with a dot (.5)
            if is_dot_command(line) and not self._open and is_blank(self.pending):
                self._taken()
                yield Piece(line.strip(), self._line, is_command=True)
                self._line += 1
            else:
                yield from self._scan(line)

    def finish(self) -> Iterator[Piece]:
        """The input has ended: what is left is a statement without its semicolon, or nothing."""
        if not is_blank(self.pending):
            yield self._piece()

    def _scan(self, line: str) -> Iterator[Piece]:
        start = position = 0
        while (position := self._skip_quoted(line, position)) >= 0:
            match = OPENERS.search(line, position)
            if match is None:
                break
            position = match.end()
            if match[0] in CLOSERS:
                self._open = match[0]
            elif match[0] in "()":
                self._parentheses += 1 if match[0] == "(" else -1
            elif match[0] == ";" and self._complete(self.pending + line[start:position]):
                self._parts.append(line[start:position])
                start = position
                piece = self._piece()
                if piece.text.strip(" \t\r\n;"):
                    yield piece
        if start < len(line):
            self._parts.append(line[start:])

    def _skip_quoted(self, line: str, position: int) -> int:
        """Where what is open at ``position`` has ended; -1 when the line ends first."""
        if not self._open:
            return position
        closer = CLOSERS[self._open]
        end = line.find(closer, position)
        if end < 0:
            return -1
        self._open = ""
        return end + len(closer)

    def _piece(self) -> Piece:
        text = self.pending
        blank = _blank_start(text)
        line = self._line + text.count("\n", 0, blank)
        self._taken()
        return Piece(text[blank:].strip(), line)

    def _taken(self) -> None:
        self._line += sum(part.count("\n") for part in self._parts)
        self._parts.clear()
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
