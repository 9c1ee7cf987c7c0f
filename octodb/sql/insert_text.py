"""The parts of an INSERT statement, found by token index: head, rows of values, source query.

Owns the reading of INSERT's grammar (https://www.sqlite.org/lang_insert.html) as far as completing one
needs it. Never changes text and never judges it: what it cannot read is None, for SQLite to complain about.
"""

from __future__ import annotations

from dataclasses import dataclass

from octodb.sql.tokens import Token, TokenKind, spans

__all__ = ["Head", "Row", "Select", "Text", "read_head", "read_rows", "read_select"]

_NAMES = frozenset({TokenKind.WORD, TokenKind.QUOTED, TokenKind.STRING})
_COMPOUND = frozenset({"UNION", "INTERSECT", "EXCEPT"})


class Text:
    """The tokens of a statement by index. Indexes past the end read as '', which saves every check."""

    __slots__ = ("_spans", "sql", "texts")

    def __init__(self, sql: str, token_spans: list[tuple[TokenKind, int, int]] | None = None) -> None:
        self.sql = sql
        self._spans = list(spans(sql)) if token_spans is None else token_spans
        self.texts = [sql[start:end] for _, start, end in self._spans]

    def __len__(self) -> int:
        return len(self._spans)

    def part(self, first: int, behind: int) -> Text:
        """The tokens from ``first`` up to ``behind``, with positions in the same text."""
        return Text(self.sql, self._spans[first:behind])

    def text(self, index: int) -> str:
        """The token as written."""
        return self.texts[index] if index < len(self.texts) else ""

    def word(self, index: int) -> str:
        """The token in capitals when it is a keyword or an unquoted name, else ''."""
        if index < len(self._spans) and self._spans[index][0] is TokenKind.WORD:
            return self.texts[index].upper()
        return ""

    def kind(self, index: int) -> TokenKind | None:
        """What the token is, None past the end."""
        return self._spans[index][0] if index < len(self._spans) else None

    def name(self, index: int) -> str | None:
        """The identifier at ``index`` without its quotes, None when no identifier stands there."""
        kind = self.kind(index)
        return Token(kind, self.text(index), 0, 0).name if kind in _NAMES and kind is not None else None

    def start(self, index: int) -> int:
        """Where the token begins, in characters."""
        return self._spans[index][1]

    def end(self, index: int) -> int:
        """Where the token ends, in characters."""
        return self._spans[index][2]


@dataclass(frozen=True, slots=True)
class Head:
    """``INSERT INTO schema.table AS alias (columns)``; ``body`` is the index of the token behind it."""

    schema: str | None
    table: str
    columns: tuple[str, ...] | None
    body: int


@dataclass(frozen=True, slots=True)
class Row:
    """One ``(…)`` of VALUES: the token range of each value, and the index of the closing parenthesis."""

    values: list[tuple[int, int]]
    closing: int


@dataclass(frozen=True, slots=True)
class Select:
    """The query an INSERT takes its rows from.

    ``main``         index of its own SELECT or VALUES, behind its WITH if it has one
    ``behind``       index of the token behind the query
    ``is_compound``  UNION, INTERSECT or EXCEPT stand between its arms
    ``is_ordered``   an ORDER BY stands anywhere in the statement before ``behind``
    ``has_upsert``   ON CONFLICT follows
    """

    main: int
    behind: int
    is_compound: bool
    is_ordered: bool
    has_upsert: bool


def read_head(text: Text) -> Head | None:
    """Read up to the source of the rows; None when ``text`` is no INSERT or REPLACE."""
    index = _skip_prefix(text)
    verb = text.word(index)
    index += 1
    if verb == "INSERT" and text.word(index) == "OR":
        index += 2
    if verb not in {"INSERT", "REPLACE"} or text.word(index) != "INTO":
        return None
    schema, table = None, text.name(index + 1)
    index += 2
    if text.text(index) == ".":
        schema, table = table, text.name(index + 1)
        index += 2
    if table is None:
        return None
    if text.word(index) == "AS":
        index += 2
    if text.text(index) != "(":
        return Head(schema, table, None, index)
    columns = []
    while (name := text.name(index + 1)) is not None and text.text(index + 2) in {",", ")"}:
        columns.append(name)
        index += 2
        if text.text(index) == ")":
            return Head(schema, table, tuple(columns), index + 1)
    return None


def _skip_prefix(text: Text) -> int:
    """Return the index of the verb, behind EXPLAIN [QUERY PLAN] and WITH.

    The verb follows a closing parenthesis of WITH: before that a word like REPLACE is a name.
    """
    index = 0
    if text.word(index) == "EXPLAIN":
        index += 3 if text.word(index + 1) == "QUERY" else 1
    if text.word(index) != "WITH":
        return index
    depth = 0
    while index < len(text):
        mark = text.text(index)
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif depth == 0 and text.text(index - 1) == ")" and text.word(index) in {"INSERT", "REPLACE"}:
            break
        index += 1
    return index


def read_rows(text: Text, index: int) -> list[Row] | None:
    """Read the rows from ``index`` on, behind VALUES; None when more than rows follows (a compound)."""
    rows = []
    while text.text(index) == "(":
        row = _read_row(text, index)
        if row is None:
            return None
        rows.append(row)
        index = row.closing + 1
        if text.text(index) != ",":
            return rows if _is_behind_source(text, index) else None
        index += 1
    return None


def _read_row(text: Text, opening: int) -> Row | None:
    """Read the values between the parenthesis at ``opening`` and its partner; None when there is none."""
    values = []
    depth = 1
    first = opening + 1
    texts = text.texts
    for index in range(first, len(texts)):
        mark = texts[index]
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        if depth == 0 or (depth == 1 and mark == ","):
            if index == first:
                return None
            values.append((first, index))
            first = index + 1
            if depth == 0:
                return Row(values, index)
    return None


def read_select(text: Text, body: int) -> Select | None:
    """Read the query that begins at ``body``; None when none does or its parentheses do not match."""
    if text.word(body) not in {"SELECT", "VALUES", "WITH"}:
        return None
    depth = 0
    main = None
    is_compound = False
    behind = body
    while behind < len(text):
        mark = text.text(behind)
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif depth == 0:
            if _is_behind_source(text, behind):
                break
            word = text.word(behind)
            if main is None and word in {"SELECT", "VALUES"}:
                main = behind
            is_compound = is_compound or word in _COMPOUND
        behind += 1
    if main is None or depth != 0:
        return None
    is_ordered = any(text.word(index) == "ORDER" for index in range(behind))
    return Select(main, behind, is_compound, is_ordered, text.word(behind) == "ON")


def _is_behind_source(text: Text, index: int) -> bool:
    """Whether the token at ``index`` ends the source of the rows: the end, ``;``, RETURNING, ON CONFLICT.

    CONFLICT may be a column of a join's ON, so only what an upsert goes on with counts.
    """
    mark = text.text(index)
    if mark in {"", ";"}:
        return True
    word = text.word(index)
    return word == "RETURNING" or (
        word == "ON" and text.word(index + 1) == "CONFLICT" and text.text(index + 2).upper() in {"(", "DO"}
    )
