"""INSERT statements completed: the row id and the owner filled in where a statement leaves them out.

Owns the rewriting of INSERT and REPLACE text, alone or inside CREATE TRIGGER. Never looks at a database (the
caller's ``resolve`` says what a table is), never moves or drops a parameter, never touches a statement that
needs nothing, and leaves text it cannot read to SQLite and its error message.

SQLite cannot be told to number rows in a range of our own (AUTOINCREMENT follows the highest id in the
table, DEFAULT is ignored on a rowid alias), so the id has to be in the statement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from octodb.sql.insert_text import Head, Row, Select, Text, read_head, read_rows, read_select
from octodb.sql.tokens import TokenKind, fold_name, quote_name, quote_text, same_name
from octodb.sql.trigger_text import trigger_statements

__all__ = [
    "InsertTarget",
    "Resolve",
    "complete_insert",
    "complete_trigger",
    "generates_row_ids",
    "inserts_plain_values",
]


@dataclass(frozen=True, slots=True)
class InsertTarget:
    """What completing an INSERT must know of its table.

    ``columns``       the columns a value can be given for (not generated, not hidden), in table order
    ``key_column``    the INTEGER PRIMARY KEY that is the row id, None where the key is another
    ``owner_column``  ``row_owner`` as the table spells it, None where the table is not replicated
    """

    table: str
    columns: tuple[str, ...]
    key_column: str | None
    owner_column: str | None

    def is_key(self, column: str) -> bool:
        """Whether ``column`` is the row id, under its own name or one that every rowid table has."""
        if self.key_column is None:
            return False
        if same_name(column, self.key_column):
            return True
        return fold_name(column) in _ROWID_NAMES and not any(same_name(column, own) for own in self.columns)


# (schema as written or None, table as written) → the table; None when its statements stay as they are.
Resolve = Callable[[str | None, str], InsertTarget | None]

# What the row id answers to besides its column's name, unless a column has taken the name
# (https://www.sqlite.org/lang_createtable.html#rowid).
_ROWID_NAMES = frozenset({"rowid", "oid", "_rowid_"})


def complete_insert(
    sql: str, resolve: Resolve, *, owner_sql: str, next_id: str = "octo_next_id", owner_check: str = ""
) -> str:
    """Return the INSERT or REPLACE statement ``sql`` with row id and owner completed.

    ``owner_sql`` is the expression for the owner where ``row_owner`` is not listed; it holds no parameter.
    ``next_id`` names the SQL function of one argument, the table's name, that returns a new row id; it must
    not be registered as deterministic. ``owner_check`` names a function that is given each owner the statement
    itself lists, and returns it or raises; '' for none. A key that is listed is taken where it is not NULL.
    Without a column list SQLite wants every column, so only a NULL key is filled in.

    ``sql`` itself is returned when nothing is to be done: another kind of statement, a table that
    ``resolve`` answers None for, or text that is not a valid INSERT. Never raises.
    """
    return _edited(sql, _completion(Text(sql), resolve, _Fill(owner_sql, next_id, owner_check=owner_check)))


def complete_trigger(
    sql: str, resolve: Resolve, *, owner_sql: str = "this_user()", next_id: str = "octo_next_id"
) -> str:
    """Return the CREATE TRIGGER statement ``sql`` with every INSERT of its body completed.

    Arguments as in :func:`complete_insert`; the owner must be an expression that is right whoever fires the
    trigger. SQLite allows no schema before the table there, so ``resolve`` is asked with None.
    """
    fill = _Fill(owner_sql, next_id, in_trigger=True)
    edits: list[_Edit] = []
    for statement in trigger_statements(Text(sql)):
        if statement.word(0) in {"INSERT", "REPLACE"}:
            edits += _completion(statement, resolve, fill)
    return _edited(sql, edits)


def inserts_plain_values(sql: str, resolve: Resolve) -> str | None:
    """The table, if ``sql`` can only add rows of the default owner to it, made of parameters and literals.

    That is INSERT INTO t (columns without the owner) VALUES (…), without OR, ON CONFLICT or expressions. When such
    a statement succeeds, whose its rows are and that they hold valid text need not be looked up.
    """
    text = Text(sql)
    head = read_head(text)
    if head is None or head.columns is None or text.word(0) != "INSERT" or text.word(1) != "INTO":
        return None
    target = resolve(head.schema, head.table)
    if target is None or target.owner_column is None or text.word(head.body) != "VALUES":
        return None
    if any(same_name(column, target.owner_column) for column in head.columns):
        return None
    rows = read_rows(text, head.body + 1)
    if not rows or rows[-1].closing + 1 != len(text):
        return None
    plain = all(
        behind - first == 1 and (text.kind(first) in _PLAIN_VALUES or text.word(first) == "NULL")
        for row in rows
        for first, behind in row.values
    )
    return target.table if plain else None


def generates_row_ids(sql: str, resolve: Resolve) -> bool:
    """Whether every row that ``sql`` adds to a table with a row id gets a new one, and it does nothing else."""
    text = Text(sql)
    head = read_head(text)
    if head is None or "ON" in map(text.word, range(len(text))):
        return False  # ON CONFLICT DO UPDATE may set anything
    target = resolve(head.schema, head.table)
    if target is None or target.owner_column is None:
        return False
    if text.word(head.body) == "DEFAULT":
        return True
    return not any(map(target.is_key, head.columns or target.columns))


_PLAIN_VALUES = frozenset({TokenKind.VARIABLE, TokenKind.NUMBER, TokenKind.STRING, TokenKind.BLOB})


@dataclass(frozen=True, slots=True)
class _Fill:
    """What the caller wants filled in."""

    owner_sql: str
    next_id: str
    in_trigger: bool = False
    owner_check: str = ""


@dataclass(frozen=True, slots=True)
class _Edit:
    """Replace ``sql[start:end]`` by ``text``; start = end inserts."""

    start: int
    end: int
    text: str


def _edited(sql: str, edits: list[_Edit]) -> str:
    """Return ``sql`` with the edits made; they come in the order of the text and do not overlap."""
    if not edits:
        return sql
    pieces: list[str] = []
    position = 0
    for edit in edits:
        pieces += sql[position : edit.start], edit.text
        position = edit.end
    pieces.append(sql[position:])
    return "".join(pieces)


def _completion(text: Text, resolve: Resolve, fill: _Fill) -> list[_Edit]:
    """Return the edits that complete the INSERT in ``text``; none when there is nothing to do."""
    head = read_head(text)
    if head is None:
        return []
    target = resolve(head.schema, head.table)
    if target is None or target.owner_column is None:
        return []
    if fill.in_trigger and any(text.text(i) == fill.next_id for i in range(len(text))):
        return []  # a stored trigger that was completed when it was made
    new_id = f"{fill.next_id}({quote_text(target.table)})"
    body = text.word(head.body)
    if body == "DEFAULT":
        # Neither a column list nor a trigger goes with DEFAULT VALUES, and SQLite's message should say so.
        if head.columns is not None or fill.in_trigger:
            return []
        return _complete_default_values(text, head, _left_out((), target, new_id, fill.owner_sql))
    listed = head.columns or target.columns
    gap = _Gap(
        width=len(listed),
        keys=frozenset(index for index, column in enumerate(listed) if target.is_key(column)),
        new_id=new_id,
        added=_left_out(listed, target, new_id, fill.owner_sql),
        owners=frozenset(
            index for index, column in enumerate(listed) if fill.owner_check and same_name(column, target.owner_column)
        ),
        owner_check=fill.owner_check,
    )
    if not gap.added and not gap.keys and not gap.owners:
        return []
    if body == "VALUES" and (rows := read_rows(text, head.body + 1)) is not None:
        return _complete_rows(text, head, rows, gap)
    select = read_select(text, head.body)
    # VALUES that are neither rows nor an arm of a compound are an error, for SQLite to tell.
    if select is None or (body == "VALUES" and not select.is_compound):
        return []
    return _complete_select(text, head, select, gap)


@dataclass(frozen=True, slots=True)
class _Gap:
    """What a statement gives and leaves out.

    ``width`` columns are given; those at ``keys`` are the row id; ``added`` are the (column, expression)
    pairs to put behind them; those at ``owners`` go through the function ``owner_check``.
    """

    width: int
    keys: frozenset[int]
    new_id: str
    added: tuple[tuple[str, str], ...]
    owners: frozenset[int] = frozenset()
    owner_check: str = ""

    @property
    def added_columns(self) -> str:
        return ", ".join(quote_name(column) for column, _ in self.added)

    @property
    def added_values(self) -> str:
        return ", ".join(value for _, value in self.added)


def _left_out(
    listed: tuple[str, ...], target: InsertTarget, new_id: str, owner_sql: str
) -> tuple[tuple[str, str], ...]:
    """Return the (column, expression) pairs for the key and the owner where ``listed`` has them not."""
    added = []
    if target.key_column is not None and not any(map(target.is_key, listed)):
        added.append((target.key_column, new_id))
    owner = target.owner_column
    if owner is not None and not any(same_name(owner, column) for column in listed):
        added.append((owner, owner_sql))
    return tuple(added)


def _complete_default_values(text: Text, head: Head, added: tuple[tuple[str, str], ...]) -> list[_Edit]:
    """``INTO t DEFAULT VALUES`` → ``INTO t ("id", "row_owner") VALUES (…)``."""
    if text.word(head.body + 1) != "VALUES":
        return []
    gap = _Gap(0, frozenset(), "", added)
    before = text.end(head.body - 1)
    return [
        _Edit(before, before, f" ({gap.added_columns})"),
        _Edit(text.start(head.body), text.end(head.body + 1), f"VALUES ({gap.added_values})"),
    ]


def _listing_edits(text: Text, head: Head, gap: _Gap) -> list[_Edit]:
    """Put the added columns at the end of the column list."""
    if not gap.added:
        return []
    closing = text.start(head.body - 1)
    return [_Edit(closing, closing, ", " + gap.added_columns)]


def _complete_rows(text: Text, head: Head, rows: list[Row], gap: _Gap) -> list[_Edit]:
    """Complete every row of a VALUES list in place.

    A row with too few or too many values leaves the statement alone, for SQLite to count what the user wrote.
    """
    edits = _listing_edits(text, head, gap)
    for row in rows:
        if len(row.values) != gap.width:
            return []
        for index, (first, behind) in enumerate(row.values):
            if index in gap.keys:
                edits += _key_edits(text, first, behind, gap.new_id)
            if index in gap.owners:
                start, end = text.start(first), text.end(behind - 1)
                edits += [_Edit(start, start, f"{gap.owner_check}("), _Edit(end, end, ")")]
        if gap.added:
            closing = text.start(row.closing)
            edits.append(_Edit(closing, closing, ", " + gap.added_values))
    return edits


def _key_edits(text: Text, first: int, behind: int, new_id: str) -> list[_Edit]:
    """Make the expression of the tokens ``first`` up to ``behind`` give a new id where it is NULL."""
    start, end = text.start(first), text.end(behind - 1)
    if behind - first == 1:
        if text.word(first) == "NULL":
            return [_Edit(start, end, new_id)]
        if text.kind(first) is TokenKind.NUMBER:
            return []
    return [_Edit(start, start, "coalesce("), _Edit(end, end, f", {new_id})")]


def _complete_select(text: Text, head: Head, select: Select, gap: _Gap) -> list[_Edit]:
    """Wrap the source in a common table expression that names its columns, and select from that.

    - MATERIALIZED keeps SQLite from merging an ordered source into the outer query, where the ids might be
      drawn before the rows are sorted: row order is to be id order.
    - A compound gets an empty arm in front whose columns have BLOB affinity. Without it they take the
      affinity of the first arm, and a 5 behind REALs arrives as 5.0 (select.c, sqlite3SubqueryColumnTypes).
    - WHERE true: behind a FROM, ON CONFLICT would be read as a join's ON
      (https://www.sqlite.org/lang_upsert.html#parsing_ambiguity).
    """
    source = _unused_name("_octo_source", text.sql)
    names = [f"c{index}" for index in range(1, gap.width + 1)]
    values = [
        f"coalesce({name}, {gap.new_id})"
        if index in gap.keys
        else f"{gap.owner_check}({name})"
        if index in gap.owners
        else name
        for index, name in enumerate(names)
    ]
    values += [value for _, value in gap.added]
    materialized = "MATERIALIZED " if select.is_ordered else ""
    opening = f"WITH {source}({', '.join(names)}) AS {materialized}("
    closing = f") SELECT {', '.join(values)} FROM {source}{' WHERE true' if select.has_upsert else ''}"
    start, main, end = text.start(head.body), text.start(select.main), text.end(select.behind - 1)
    edits = [*_listing_edits(text, head, gap), _Edit(start, start, opening)]
    if select.is_compound:
        empty = ", ".join(["CAST(NULL AS BLOB)"] * gap.width)
        edits.append(_Edit(main, main, f"SELECT {empty} WHERE 0 UNION ALL "))
    return [*edits, _Edit(end, end, closing)]


def _unused_name(name: str, sql: str) -> str:
    """Return ``name``, lengthened until ``sql`` does not contain it."""
    text = fold_name(sql)
    while name in text:
        name += "_"
    return name
