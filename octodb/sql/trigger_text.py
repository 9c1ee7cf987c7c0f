"""Making a TEMP twin of a trigger that does only a part of what it does.

Owns the reading of CREATE TRIGGER (https://www.sqlite.org/lang_createtrigger.html) as far as that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from octodb.sql.insert_text import Text, read_head
from octodb.sql.tokens import quote_name

__all__ = ["Twin", "trigger_statements", "twin_trigger"]

_STATEMENTS = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "SELECT", "WITH", "VALUES"})


@dataclass(frozen=True, slots=True)
class Twin:
    """``text``: the CREATE TEMP TRIGGER. It fires on ``event`` (INSERT, UPDATE, DELETE) of ``table`` and writes
    ``targets``."""

    text: str
    event: str
    table: str
    targets: frozenset[str]


def trigger_statements(text: Text) -> Iterator[Text]:
    """Yield the statements of a trigger's body.

    The body begins at a BEGIN with a statement behind it: BEGIN alone may be a name.
    """
    first = _body(text)
    for index in range(first, len(text)):
        if text.text(index) == ";":
            yield text.part(first, index)
            first = index + 1


def twin_trigger(sql: str, name: str, condition: str, wanted: Callable[[str], bool]) -> Twin | None:
    """The twin of the CREATE TRIGGER ``sql`` with those statements of its body that write tables that are ``wanted``.
    It fires only where the SQL expression ``condition`` holds, too.

    None when there is nothing left to do, and for INSTEAD OF triggers.
    """
    text = Text(sql)
    statements = [(one, table) for one in trigger_statements(text) if (table := _written_table(one)) and wanted(table)]
    first = _timing(text)
    on = next((i for i in range(first, len(text)) if text.word(i) == "ON"), len(text))
    behind = on + 4 if text.text(on + 2) == "." else on + 2
    table = text.name(behind - 1)
    if not statements or text.word(first) == "INSTEAD" or table is None:
        return None
    event = text.word(first + 1) if text.word(first) in {"BEFORE", "AFTER"} else text.word(first)
    body = _body(text) - 1
    when = next((i for i in range(behind, body) if text.word(i) == "WHEN"), body)
    original = sql[text.start(when + 1) : text.end(body - 1)] if when < body else "1"
    kept = "".join(sql[one.start(0) : one.end(len(one) - 1)] + "; " for one, _ in statements)
    twin = (
        f"CREATE TEMP TRIGGER {quote_name(name)} {sql[text.start(first) : text.end(on)]} main.{quote_name(table)}"
        f" FOR EACH ROW WHEN {condition} AND ({original}) BEGIN {kept}END"
    )
    return Twin(twin, event, table, frozenset(table for _, table in statements))


def _body(text: Text) -> int:
    """Index of the first token of the body."""
    begins = (i for i in range(len(text)) if text.word(i) == "BEGIN")
    return next((i + 1 for i in begins if text.word(i + 1) in _STATEMENTS), len(text))


def _timing(text: Text) -> int:
    """Index of BEFORE, AFTER, INSTEAD, or of the event when none of them is written."""
    index = 1
    while text.word(index) in {"TEMP", "TEMPORARY", "TRIGGER"}:
        index += 1
    if text.word(index) == "IF" and text.word(index + 1) == "NOT":
        index += 3
    return index + 3 if text.text(index + 1) == "." else index + 1


def _written_table(statement: Text) -> str | None:
    """The table that a statement of a trigger's body inserts into, updates or deletes from; None for a SELECT."""
    head = read_head(statement)
    if head is not None:
        return head.table
    verb = statement.word(0)
    if verb == "UPDATE":
        return statement.name(3 if statement.word(1) == "OR" else 1)
    return statement.name(2) if verb == "DELETE" else None
