"""Facts about a schema change, read from its text.

Owns the reading of CREATE, ALTER and DROP as far as replication must understand them: what object, which
table, which names, which constraints it adds. Never changes the text and never checks what SQLite checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from octodb.errors import ProgrammingError
from octodb.sql.tokens import Token, TokenKind, fold_name, tokenize

__all__ = ["Ddl", "parse_ddl"]


@dataclass(frozen=True, slots=True)
class Ddl:
    """One CREATE, ALTER or DROP statement. Names are as spelled, without quotes, unless said otherwise.

    ``action``            'create', 'alter' or 'drop'
    ``object``            'table', 'index', 'view', 'trigger' or 'virtual table' (a DROP TABLE cannot tell
                          a virtual table and says 'table')
    ``name``, ``schema``  the object's name; the schema written before it in lower case, else ''
    ``temporary``         TEMP was written, or the schema is temp
    ``if_exists``         DROP … IF EXISTS
    ``if_not_exists``     CREATE … IF NOT EXISTS
    ``table``             the table itself, or that of a created index or trigger; '' for views and for
                          dropped indexes and triggers
    ``change``            of ALTER: 'rename table', 'rename column', 'add column', 'drop column', 'other';
                          else ''
    ``column``            the column renamed, added or dropped, else ''
    ``new_name``          what RENAME TO gives, else ''
    ``as_select``         CREATE TABLE … AS SELECT
    ``unique``            CREATE UNIQUE INDEX
    ``columns_added``     the columns a CREATE TABLE defines, in order, or the one that ADD COLUMN adds
    ``names``             every word and quoted name anywhere in the statement, folded, keywords included;
                          also strings where SQLite takes one for a table's name
    ``conflict_clauses``  REPLACE, IGNORE, ROLLBACK or FAIL of each ON CONFLICT in a table's constraints, in
                          order; ABORT, the default, is left out
    """

    action: str
    object: str
    name: str
    schema: str = ""
    temporary: bool = False
    if_exists: bool = False
    if_not_exists: bool = False
    table: str = ""
    change: str = ""
    column: str = ""
    new_name: str = ""
    as_select: bool = False
    unique: bool = False
    columns_added: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    conflict_clauses: tuple[str, ...] = ()


def parse_ddl(sql: str) -> Ddl:
    """Read the CREATE, ALTER or DROP statement ``sql``.

    Raises :class:`~octodb.errors.ProgrammingError` when the text is none, or breaks off before its names.
    """
    reader = _Reader(sql, tokenize(sql))
    if reader.accept("CREATE"):
        return _create(reader)
    if reader.accept("DROP"):
        return _drop(reader)
    if reader.accept("ALTER"):
        return _alter(reader)
    raise reader.error("CREATE, ALTER or DROP")


_NAMES = frozenset({TokenKind.WORD, TokenKind.QUOTED, TokenKind.STRING})
_CONFLICT_CLAUSES = frozenset({"REPLACE", "IGNORE", "ROLLBACK", "FAIL"})
# What begins a table constraint; these words are reserved, so no column can be called so.
_TABLE_CONSTRAINTS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})
# Behind these SQLite takes 'text' for the name of a table.
_BEFORE_TABLE = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "REFERENCES", "ON", "IN", "EXISTS", "."})
_CLAUSES = frozenset({"SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "VALUES", "SET"})


class _Reader:
    """The tokens of a statement and a place among them."""

    __slots__ = ("position", "sql", "tokens")

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        self.sql = sql
        self.tokens = tokens
        self.position = 0

    def word(self, ahead: int = 0) -> str:
        index = self.position + ahead
        return self.tokens[index].word if index < len(self.tokens) else ""

    def text(self, ahead: int = 0) -> str:
        index = self.position + ahead
        return self.tokens[index].text if index < len(self.tokens) else ""

    def has_name(self) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position].kind in _NAMES

    def accept(self, *words: str) -> bool:
        """Step over ``words`` when just these come next."""
        if any(self.word(ahead) != word for ahead, word in enumerate(words)):
            return False
        self.position += len(words)
        return True

    def name(self) -> str:
        if not self.has_name():
            raise self.error("a name")
        self.position += 1
        return self.tokens[self.position - 1].name

    def qualified_name(self) -> tuple[str, str]:
        """Read ``[schema.]name``; the schema is folded, '' when none is given."""
        name = self.name()
        if self.text() != ".":
            return "", name
        self.position += 1
        return fold_name(name), self.name()

    def skip_to(self, word: str) -> None:
        """Step behind the next ``word``."""
        while self.position < len(self.tokens):
            self.position += 1
            if self.tokens[self.position - 1].word == word:
                return
        raise self.error(word)

    def error(self, expected: str) -> ProgrammingError:
        """The error for text that has something else here than ``expected``."""
        found = f'"{self.text()}"' if self.text() else "the end"
        return ProgrammingError(f"cannot read this schema change: {expected} expected, {found} found")


def _create(reader: _Reader) -> Ddl:
    temporary = reader.accept("TEMP") or reader.accept("TEMPORARY")
    unique = reader.accept("UNIQUE")
    for kind in ("table", "index", "view", "trigger", "virtual table"):
        if reader.accept(*kind.upper().split()):
            break
    else:
        raise reader.error("TABLE, INDEX, VIEW or TRIGGER")
    if_not_exists = reader.accept("IF", "NOT", "EXISTS")
    schema, name = reader.qualified_name()
    names = frozenset(_mentioned(reader.tokens))
    table = ""
    as_select = False
    columns: tuple[str, ...] = ()
    conflict_clauses: tuple[str, ...] = ()
    if kind in {"index", "trigger"}:
        reader.skip_to("ON")
        _, table = reader.qualified_name()
    elif kind == "virtual table":
        table = name
    elif kind == "table":
        table = name
        as_select = reader.word() == "AS"
        if not as_select:
            if reader.text() != "(":
                raise reader.error("AS or a list of columns")
            columns = tuple(_defined_columns(reader.tokens[reader.position + 1 :]))
            conflict_clauses = _conflict_clauses(reader.tokens)
    return Ddl(
        "create",
        kind,
        name,
        schema,
        temporary=temporary or schema == "temp",
        if_not_exists=if_not_exists,
        table=table,
        as_select=as_select,
        unique=unique,
        columns_added=columns,
        names=names,
        conflict_clauses=conflict_clauses,
    )


def _drop(reader: _Reader) -> Ddl:
    kind = reader.word().lower()
    if kind not in {"table", "index", "view", "trigger"}:
        raise reader.error("TABLE, INDEX, VIEW or TRIGGER")
    reader.position += 1
    if_exists = reader.accept("IF", "EXISTS")
    schema, name = reader.qualified_name()
    return Ddl(
        "drop",
        kind,
        name,
        schema,
        temporary=schema == "temp",
        if_exists=if_exists,
        table=name if kind == "table" else "",
        names=frozenset(_mentioned(reader.tokens)),
    )


def _alter(reader: _Reader) -> Ddl:
    if not reader.accept("TABLE"):
        raise reader.error("TABLE")
    schema, name = reader.qualified_name()
    change, column, new_name = _alter_change(reader)
    adds = change == "add column"
    return Ddl(
        "alter",
        "table",
        name,
        schema,
        temporary=schema == "temp",
        table=name,
        change=change,
        column=column,
        new_name=new_name,
        columns_added=(column,) if adds else (),
        names=frozenset(_mentioned(reader.tokens)),
        conflict_clauses=_conflict_clauses(reader.tokens) if adds else (),
    )


def _alter_change(reader: _Reader) -> tuple[str, str, str]:
    """Read what follows ``ALTER TABLE t``; return (change, column, new name)."""
    if reader.accept("RENAME", "TO"):
        return "rename table", "", reader.name()
    if reader.accept("RENAME"):
        reader.accept("COLUMN")
        column = reader.name()
        if not reader.accept("TO"):
            raise reader.error("TO")
        return "rename column", column, reader.name()
    for verb, change in (("ADD", "add column"), ("DROP", "drop column")):
        if reader.accept(verb):
            if reader.word() in _TABLE_CONSTRAINTS:
                break
            reader.accept("COLUMN")
            return change, reader.name(), ""
    return "other", "", ""


def _defined_columns(tokens: list[Token]) -> Iterator[str]:
    """Yield the names of the columns in the list that the tokens, behind its parenthesis, begin with."""
    depth = 0
    begins_definition = True
    for token in tokens:
        if begins_definition:
            if token.word in _TABLE_CONSTRAINTS or token.kind not in _NAMES:
                return
            yield token.name
        begins_definition = depth == 0 and token.text == ","
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            return


def _conflict_clauses(tokens: list[Token]) -> tuple[str, ...]:
    """Return what the ON CONFLICT clauses of a table's constraints do, the default left out."""
    words = [token.word for token in tokens]
    return tuple(
        action
        for on, conflict, action in zip(words, words[1:], words[2:], strict=False)
        if on == "ON" and conflict == "CONFLICT" and action in _CONFLICT_CLAUSES
    )


def _mentioned(tokens: list[Token]) -> Iterator[str]:
    """Yield every name in the tokens, folded; of the strings those that may stand for a table's name.

    In doubt (the arguments of a table function, a list in a join's ON) a string counts: a caller that looks
    for names to keep back must not miss one.
    """
    clauses = [""]
    before = ""
    for token in tokens:
        if token.kind is TokenKind.STRING:
            if before in _BEFORE_TABLE or (before in {",", "("} and clauses[-1] == "FROM"):
                yield fold_name(token.name)
        elif token.kind in _NAMES:
            yield fold_name(token.name)
        before = token.word or token.text
        if before in _CLAUSES:
            clauses[-1] = before
        elif before == "(":
            clauses.append(clauses[-1])
        elif before == ")" and len(clauses) > 1:
            clauses.pop()
