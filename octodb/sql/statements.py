"""What kind of statement a text is, where it ends and what follows it.

Owns the reading of the first keywords and the cutting of scripts. Never checks that a statement is valid:
SQLite does, and its message is the one users know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from octodb.sql.landmarks import end_of_statement, read_clauses, verb_behind_with
from octodb.sql.tokens import COMMENT, SPACE, WORD_CHAR, Token, TokenKind, fold_name, tokenize

__all__ = ["Statement", "StatementKind", "classify", "split_script"]


class StatementKind(StrEnum):
    """What executing a statement means for transactions and capture.

    SELECT holds everything that returns rows and writes nothing (VALUES, WITH … SELECT, EXPLAIN of
    anything); a PRAGMA is a PRAGMA whatever it does. OTHER is text that SQLite will refuse. They are strings because
    those are looked up at C speed, which every statement does.
    """

    SELECT = "select"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    DDL = "ddl"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback to"
    PRAGMA = "pragma"
    ATTACH = "attach"
    DETACH = "detach"
    VACUUM = "vacuum"
    ANALYZE = "analyze"
    REINDEX = "reindex"
    EMPTY = "empty"
    OTHER = "other"


_KIND_OF_VERB = {
    "SELECT": StatementKind.SELECT,
    "VALUES": StatementKind.SELECT,
    "EXPLAIN": StatementKind.SELECT,
    "INSERT": StatementKind.INSERT,
    "REPLACE": StatementKind.INSERT,
    "UPDATE": StatementKind.UPDATE,
    "DELETE": StatementKind.DELETE,
    "CREATE": StatementKind.DDL,
    "ALTER": StatementKind.DDL,
    "DROP": StatementKind.DDL,
    "BEGIN": StatementKind.BEGIN,
    "COMMIT": StatementKind.COMMIT,
    "END": StatementKind.COMMIT,
    "ROLLBACK": StatementKind.ROLLBACK,
    "SAVEPOINT": StatementKind.SAVEPOINT,
    "RELEASE": StatementKind.RELEASE,
    "PRAGMA": StatementKind.PRAGMA,
    "ATTACH": StatementKind.ATTACH,
    "DETACH": StatementKind.DETACH,
    "VACUUM": StatementKind.VACUUM,
    "ANALYZE": StatementKind.ANALYZE,
    "REINDEX": StatementKind.REINDEX,
}
_WRITES = frozenset({StatementKind.INSERT, StatementKind.UPDATE, StatementKind.DELETE})
_TRANSACTION_CONTROL = frozenset(
    {
        StatementKind.BEGIN,
        StatementKind.COMMIT,
        StatementKind.ROLLBACK,
        StatementKind.SAVEPOINT,
        StatementKind.RELEASE,
        StatementKind.ROLLBACK_TO,
    }
)
_NAMES = frozenset({TokenKind.WORD, TokenKind.QUOTED, TokenKind.STRING})


@dataclass(frozen=True, slots=True)
class Statement:
    """The first statement of a text, and what follows it.

    ``text``          the statement from its first token or comment, without its ``;``
    ``tail``          what follows the ``;``; '' when that is only white space, comments and semicolons
    ``verb``          its keyword in capitals (behind WITH: SELECT, INSERT …), '' where there is none
    ``name``          savepoint name as spelled, or pragma name in lower case, else ''
    ``schema``        the ``main`` of ``PRAGMA main.x``, as spelled, else ''
    ``argument``      the pragma's value without quotes (numbers with their sign), None when it has none
    ``has_returning`` INSERT, UPDATE or DELETE with a RETURNING clause
    ``has_where``     UPDATE or DELETE with a WHERE clause of its own
    """

    kind: StatementKind
    text: str
    tail: str = ""
    verb: str = ""
    name: str = ""
    schema: str = ""
    argument: str | None = None
    has_returning: bool = False
    has_where: bool = False

    @property
    def is_write(self) -> bool:
        """Whether the statement changes rows: INSERT, REPLACE, UPDATE or DELETE."""
        return self.kind in _WRITES

    @property
    def is_transaction_control(self) -> bool:
        """Whether the statement begins, ends or marks a transaction."""
        return self.kind in _TRANSACTION_CONTROL


# What may stand before a statement, and its first word.
_FIRST_WORD = re.compile(
    rf"(?:(?:{COMMENT}|{SPACE})*+;)*+(?:{SPACE})?((?:{COMMENT}|{SPACE})*+)([A-Za-z_]{WORD_CHAR}*+)?"
)
_NOTHING = re.compile(rf"(?:{COMMENT}|{SPACE}|;)*+\Z")


def classify(sql: str) -> Statement:
    """Read the first statement of ``sql``. Never raises; costs a few µs, and callers cache it by text."""
    lead = _FIRST_WORD.match(sql)
    assert lead is not None  # every part of the pattern may be empty
    start = lead.start(1)
    if lead.group(2) is None:
        if lead.end() == len(sql):
            return Statement(StatementKind.EMPTY, "")
        end = end_of_statement(sql, lead.end())
        return _statement(sql, start, end, StatementKind.OTHER, "")
    verb = lead.group(2).upper()
    after_verb = lead.end()
    if verb == "WITH":
        verb, after_verb = verb_behind_with(sql, after_verb)
    kind = _KIND_OF_VERB.get(verb, StatementKind.OTHER)
    if kind in _WRITES:
        end, has_returning, has_where = read_clauses(sql, after_verb)
        return _statement(
            sql,
            start,
            end,
            kind,
            verb,
            has_returning=has_returning,
            has_where=has_where and kind is not StatementKind.INSERT,
        )
    end = end_of_statement(sql, after_verb, may_be_trigger=verb in {"CREATE", "EXPLAIN"})
    if kind is StatementKind.PRAGMA:
        return _pragma(sql, start, after_verb, end)
    if kind in {StatementKind.ROLLBACK, StatementKind.SAVEPOINT, StatementKind.RELEASE}:
        return _savepoint(sql, start, after_verb, end, kind, verb)
    return _statement(sql, start, end, kind, verb)


def split_script(sql: str) -> Iterator[str]:
    """Yield the statements of a script one by one, without their semicolons.

    Semicolons in strings, comments and CREATE TRIGGER bodies do not end a statement; the last one needs no
    semicolon; pieces that hold only comments are left out.
    """
    position = 0
    while True:
        lead = _FIRST_WORD.match(sql, position)
        assert lead is not None  # every part of the pattern may be empty
        if lead.end() == len(sql) and lead.group(2) is None:
            return
        may_be_trigger = (lead.group(2) or "").upper() in {"CREATE", "EXPLAIN"}
        end = end_of_statement(sql, lead.end(), may_be_trigger=may_be_trigger)
        yield sql[lead.start(1) : end].rstrip()
        position = end


def _statement(
    sql: str,
    start: int,
    end: int,
    kind: StatementKind,
    verb: str,
    *,
    name: str = "",
    schema: str = "",
    argument: str | None = None,
    has_returning: bool = False,
    has_where: bool = False,
) -> Statement:
    """Build the result for the statement at ``sql[start:end]``, working out its tail."""
    tail = "" if _NOTHING.match(sql, end) else sql[end + 1 :]
    text = sql[start:end].rstrip()
    return Statement(kind, text, tail, verb, name, schema, argument, has_returning, has_where)


def _savepoint(sql: str, start: int, after_verb: int, end: int, kind: StatementKind, verb: str) -> Statement:
    """Read ``SAVEPOINT n``, ``RELEASE [SAVEPOINT] n`` and ``ROLLBACK [TRANSACTION] [TO [SAVEPOINT] n]``."""
    tokens = tokenize(sql[after_verb:end])
    if kind is StatementKind.ROLLBACK:
        if tokens and tokens[0].word == "TRANSACTION":
            del tokens[0]
        if not tokens or tokens[0].word != "TO":
            return _statement(sql, start, end, kind, verb)
        kind = StatementKind.ROLLBACK_TO
        del tokens[0]
    if kind is not StatementKind.SAVEPOINT and len(tokens) > 1 and tokens[0].word == "SAVEPOINT":
        del tokens[0]
    name = tokens[0].name if tokens else ""
    return _statement(sql, start, end, kind, verb, name=name)


def _pragma(sql: str, start: int, after_verb: int, end: int) -> Statement:
    """Read ``PRAGMA [schema.]name [= value | (value)]``; text of another shape is OTHER, so that SQLite's
    own syntax error is what the user sees."""
    other = _statement(sql, start, end, StatementKind.OTHER, "PRAGMA")
    tokens = tokenize(sql[after_verb:end])
    schema = ""
    if len(tokens) > 2 and tokens[1].text == ".":
        schema = tokens[0].name
        del tokens[:2]
    if not tokens or tokens[0].kind not in _NAMES:
        return other
    name = fold_name(tokens[0].name)
    value = tokens[1:]
    argument = None
    if value:
        if value[0].text == "(" and value[-1].text == ")":
            value = value[1:-1]
        elif value[0].text == "=":
            value = value[1:]
        else:
            return other
        argument = _pragma_value(value)
        if argument is None:
            return other
    return _statement(sql, start, end, StatementKind.PRAGMA, "PRAGMA", name=name, schema=schema, argument=argument)


def _pragma_value(tokens: list[Token]) -> str | None:
    """Return the value a pragma is given, or None when the tokens are not one name, text or number."""
    if len(tokens) == 1 and (tokens[0].kind in _NAMES or tokens[0].kind is TokenKind.NUMBER):
        return tokens[0].name
    if len(tokens) == 2 and tokens[1].kind is TokenKind.NUMBER and tokens[0].text in {"+", "-"}:
        return tokens[1].text if tokens[0].text == "+" else "-" + tokens[1].text
    return None
