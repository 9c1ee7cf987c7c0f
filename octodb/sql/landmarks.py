"""Where a statement ends and which clauses it has, found without making tokens.

Owns the walk over a statement's landmarks: parentheses, semicolons and a few keywords. Never builds a token
list: statements with thousands of rows of values come by here at every first execution.
"""

from __future__ import annotations

import re
from itertools import islice

from octodb.sql.tokens import COMMENT, QUOTED, SPACE, STRING, VARIABLE, WORD_CHAR, TokenKind, spans

__all__ = ["end_of_statement", "read_clauses", "verb_behind_with"]

_GAP = re.compile(rf"(?:{COMMENT}|{SPACE})*+")


def _landmarks(*words: str) -> re.Pattern[str]:
    """Return a pattern that skips to the next parenthesis, semicolon or one of ``words`` (group 1).

    Everything in between is consumed inside the regular expression engine, in one match: a statement with
    ten thousand rows of values costs two matches a row, not one a token.
    """
    keyword = rf"(?i:{'|'.join(words)})(?!{WORD_CHAR})" if words else "(?!)"
    boring = "|".join(
        (
            r"[^'\"`\[/\-A-Za-z_$@#:?();\x80-\U0010ffff]++",
            rf"(?!{keyword})[A-Za-z_\x80-\U0010ffff]{WORD_CHAR}*+",
            STRING,
            QUOTED,
            COMMENT,
            VARIABLE,
            r"[^();A-Za-z_]",
        )
    )
    return re.compile(rf"(?:{boring})*+([();]|{keyword})")


_CLAUSES = _landmarks("returning", "where")
_SEMICOLON = _landmarks()
_VERBS = _landmarks("select", "values", "insert", "replace", "update", "delete")


def read_clauses(sql: str, position: int) -> tuple[int, bool, bool]:
    """Walk a write from ``position``; return where it ends, and whether it has RETURNING and WHERE itself."""
    depth = 0
    has_returning = has_where = False
    while match := _CLAUSES.match(sql, position):
        mark = match[1]
        position = match.end()
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
        elif mark == ";":
            return position - 1, has_returning, has_where
        elif depth == 0:
            if len(mark) == len("where"):
                has_where = True
            else:
                has_returning = True
    return len(sql), has_returning, has_where


def verb_behind_with(sql: str, position: int) -> tuple[str, int]:
    """Return the keyword behind the common table expressions and where it ends; ('WITH', …) if none is.

    The verb follows a closing parenthesis: before that a word like REPLACE is the name of an expression.
    """
    depth = 0
    start = position
    while match := _VERBS.match(sql, position):
        mark = match[1]
        position = match.end()
        if mark == "(":
            depth += 1
        elif mark == ")":
            depth -= 1
            gap = _GAP.match(sql, position)
            verb = _VERBS.match(sql, gap.end()) if depth == 0 and gap else None
            if gap and verb and verb.start(1) == gap.end() and verb[1].isalpha():
                return verb[1].upper(), verb.end()
        elif mark == ";":
            break
    return "WITH", start


def end_of_statement(sql: str, position: int, *, may_be_trigger: bool = False) -> int:
    """Return the index of the ``;`` that ends the statement, or the length of the text."""
    if may_be_trigger and _is_trigger(sql, position):
        return _end_of_trigger(sql, position)
    while match := _SEMICOLON.match(sql, position):
        position = match.end()
        if match[1] == ";":
            return position - 1
    return len(sql)


def _is_trigger(sql: str, position: int) -> bool:
    """Whether the words at ``position``, behind CREATE or EXPLAIN, go on to CREATE TRIGGER."""
    for kind, start, end in islice(spans(sql, position), 5):
        word = sql[start:end].upper() if kind is TokenKind.WORD else ""
        if word == "TRIGGER":
            return True
        if word not in {"TEMP", "TEMPORARY", "QUERY", "PLAN", "CREATE"}:
            return False
    return False


def _end_of_trigger(sql: str, position: int) -> int:
    """Return the end of a CREATE TRIGGER: the ``;`` behind the END that follows a ``;``.

    The rule of sqlite3_complete(): the END of a CASE never follows a semicolon.
    """
    in_body = after_semicolon = finished = False
    for kind, start, end in spans(sql, position):
        text = sql[start:end]
        if text == ";":
            if finished or not in_body:
                return start
            after_semicolon = True
            continue
        word = text.upper() if kind is TokenKind.WORD else ""
        in_body = in_body or word == "BEGIN"
        finished = finished or (after_semicolon and word == "END")
        after_semicolon = False
    return len(sql)
