"""A completed INSERT does what the written one does where SQLite numbers rows and a default gives the owner.

Two databases hold the same table. The twin's ``row_owner`` has a default and its ids come from SQLite, which
a row far up in the table keeps above every id that a statement names. So the two must agree in rows,
RETURNING, errors and last row id, apart from gaps between the new ids, and every new id must be one that
``octo_next_id`` gave.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from octodb.sql.inserts import InsertTarget, complete_insert, complete_trigger
from octodb.sql.tokens import quote_name, same_name

FIRST_NEW_ID = 1 << 32  # of the twin; ours are drawn far above, in steps that SQLite's numbering never makes
DRAWN_IDS = range(FIRST_NEW_ID * 2, FIRST_NEW_ID * 4, 10)
OWNER = 7
ODD_NAMES = ["id", "Key", "a b", 'sel"ect', "order", "é", "it's", "x]y", "rowid", "replace", "conflict", "c1"]
TYPES = ["", "TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB"]
SPACES = [" ", "\n", " /* ) , ( ' */ ", " -- ; ' (\n", "\t"]


@dataclass
class Table:
    """A replicated table with its key and owner anywhere among the columns; ``columns[unique]`` is UNIQUE."""

    name: str
    columns: list[str]
    types: list[str]
    key: int
    owner: int
    unique: int

    def schema(self, *, owner_default: str) -> str:
        definitions = []
        for index, (column, kind) in enumerate(zip(self.columns, self.types, strict=True)):
            definition = f"{quote_name(column)} {kind}"
            if index == self.key:
                definition = f"{quote_name(column)} INTEGER PRIMARY KEY"
            elif index == self.owner:
                definition = f"{quote_name(column)} {owner_default}"
            elif index == self.unique:
                definition += " UNIQUE"
            definitions.append(definition)
        return f"CREATE TABLE {quote_name(self.name)} ({', '.join(definitions)}, made AS (1) VIRTUAL)"

    @property
    def target(self) -> InsertTarget:
        return InsertTarget(self.name, tuple(self.columns), self.columns[self.key], self.columns[self.owner])

    def resolve(self, schema: str | None, table: str) -> InsertTarget | None:
        return self.target if schema in {None, "main"} and same_name(table, self.name) else None


@dataclass
class Insert:
    """An INSERT statement and what it binds to its parameters."""

    text: str
    bindings: list[object] = field(default_factory=list)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = draw(st.lists(st.sampled_from(ODD_NAMES), min_size=3, max_size=4, unique=True))
    owner = draw(st.integers(0, len(names)))
    columns = [*names[:owner], draw(st.sampled_from(["row_owner", "Row_Owner"])), *names[owner:]]
    others = [index for index in range(len(columns)) if index != owner]
    key = draw(st.sampled_from(others))
    if "rowid" in columns:
        key = columns.index("rowid")  # as another column it would hide the row id from the seed row below
    others.remove(key)
    types = draw(st.lists(st.sampled_from(TYPES), min_size=len(columns), max_size=len(columns)))
    name = draw(st.sampled_from(["t", "My Table", "values", "it's"]))
    return Table(name, columns, types, key, owner, draw(st.sampled_from(others)))


class Writer:
    """Draws the pieces of one statement, in the order of its text, so that bindings keep that order."""

    def __init__(self, draw: st.DrawFn, table: Table, *, in_trigger: bool = False) -> None:
        self.draw = draw
        self.table = table
        self.in_trigger = in_trigger
        self.bindings: list[object] = []

    def one_of(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def parameter(self, *values: object) -> str:
        if self.in_trigger:
            return self.one_of("NEW.x", "NEW.y")
        self.bindings.append(self.draw(st.sampled_from(values)))
        return "?"

    def value(self, column: str) -> str:
        columns = self.table.columns
        if same_name(column, columns[self.table.owner]):
            kinds = ["NULL", "7", "'*'", "?", "this_user()"]
            values: tuple[object, ...] = (None, 7, 8, "*")
        elif self.table.target.is_key(column):
            kinds = ["NULL", "null", "5", "-6", "'12'", "?", "(1 + ?)", "(SELECT max(x) FROM src)", "'wrong'"]
            values = (None, 3, 4, 11, "13", 2.0)
        else:
            kinds = [
                "NULL",
                "?",
                "abs(-3)",
                "'it''s ); ('",
                "x'ab'",
                "2.5",
                "(SELECT min(y) FROM src)",
                "'4'",
            ]
            values = (None, 1, 1.5, "text", b"\x00", "8")
        chosen = self.one_of(*kinds)
        return chosen.replace("?", self.parameter(*values)) if "?" in chosen else chosen

    def names(self) -> list[str] | None:
        """The column list: any columns in any order, None for no list."""
        if self.draw(st.booleans()) and self.draw(st.booleans()):
            return None
        listed = self.draw(st.permutations(self.table.columns))
        listed = listed[: self.draw(st.integers(1, len(listed)))]
        key = self.table.columns[self.table.key]
        if key in listed and self.one_of("name", "name", "rowid") == "rowid":
            listed[listed.index(key)] = "_rowid_"
        return listed

    def spelled(self, name: str) -> str:
        plain = name.isascii() and name.isidentifier() and name.lower() not in {"order", "values"}
        forms = [quote_name(name)]
        forms += [name, name.upper()] if plain else []
        forms += [f"[{name}]"] if "]" not in name else []
        return self.one_of(*forms)

    def row(self, given: list[str]) -> list[str]:
        pieces = ["("]
        for index, column in enumerate(given):
            pieces += [","] if index else []
            pieces.append(self.value(column))
        return [*pieces, ")"]

    def values_source(self, given: list[str], rows_max: int = 3) -> list[str]:
        pieces = ["VALUES"]
        for index in range(self.draw(st.integers(1, rows_max))):
            pieces += [","] if index else []
            pieces += self.row(given)
        return pieces

    def arm(self, given: list[str]) -> list[str]:
        pieces = [self.one_of("SELECT", "SELECT ALL", "SELECT DISTINCT")]
        source = self.one_of("", "src", "src", quote_name(self.table.name))
        for index, column in enumerate(given):
            pieces += [","] if index else []
            from_source = source == "src" and self.draw(st.booleans())
            pieces.append(self.one_of("src.x", "src.y", "src.r") if from_source else self.value(column))
        if source:
            pieces += ["FROM", source]
            pieces += ["WHERE", self.parameter(1, 1, 1, 0)] if self.draw(st.booleans()) else []
        return pieces

    def select_source(self, given: list[str], *, upsert: bool) -> list[str]:
        pieces = ["WITH", self.one_of("z", "replace"), "AS (SELECT 1)"] if self.draw(st.booleans()) else []
        pieces += self.arm(given)
        ends_in_values = False
        while self.draw(st.booleans()):
            pieces.append(self.one_of("UNION ALL", "UNION", "EXCEPT"))
            ends_in_values = self.draw(st.booleans())
            pieces += self.values_source(given, rows_max=1) if ends_in_values else self.arm(given)
        if not ends_in_values and self.draw(st.booleans()):
            pieces += ["ORDER BY", self.one_of("1", "1 DESC", f"{len(given)}, 1")]
            pieces += ["LIMIT", self.parameter(2, 3)] if not self.in_trigger and self.draw(st.booleans()) else []
        if upsert:
            # SQLite's own ambiguity: the text as written needs a WHERE before ON CONFLICT.
            pieces = ["SELECT * FROM (", *pieces, ") WHERE true"]
        return pieces

    def insert(self) -> list[str]:
        pieces = []
        if not self.in_trigger and self.draw(st.booleans()):
            pieces += ["WITH", self.one_of("q", "replace"), "AS", "(", "SELECT", "1", "ORDER BY 1", ")"]
        pieces.append(self.one_of("INSERT", "insert", "REPLACE", "INSERT OR IGNORE", "INSERT OR REPLACE"))
        pieces.append("INTO")
        if not self.in_trigger and self.draw(st.booleans()):
            pieces += ["main", "."]
        pieces.append(self.spelled(self.table.name))
        pieces += ["AS", self.one_of("me", '"as"')] if self.draw(st.booleans()) else []
        names = self.names()
        if names is None and not self.in_trigger and self.draw(st.booleans()):
            return [*pieces, "DEFAULT VALUES", *self.returning()]
        if names is not None:
            pieces.append("(")
            for index, name in enumerate(names):
                pieces += [",", self.spelled(name)] if index else [self.spelled(name)]
            pieces.append(")")
        given = names or self.table.columns
        upsert = self.draw(st.booleans())
        if self.draw(st.booleans()):
            pieces += self.values_source(given)
        else:
            pieces += self.select_source(given, upsert=upsert)
        pieces += self.upsert() if upsert else []
        return pieces if self.in_trigger else [*pieces, *self.returning()]

    def upsert(self) -> list[str]:
        if self.draw(st.booleans()):
            return ["ON CONFLICT", "DO NOTHING"]
        unique = quote_name(self.table.columns[self.table.unique])
        owner = quote_name(self.table.columns[self.table.owner])
        return [
            "ON CONFLICT",
            f"({unique})",
            "DO UPDATE SET",
            f"{owner} =",
            f"excluded.{owner}",
            "WHERE",
            "true",
        ]

    def returning(self) -> list[str]:
        if self.draw(st.booleans()):
            return []
        return ["RETURNING", quote_name(self.table.columns[self.table.key]), ",", "*"]


@st.composite
def inserts(draw: st.DrawFn, table: Table) -> Insert:
    writer = Writer(draw, table)
    pieces = writer.insert()
    spaces = draw(st.lists(st.sampled_from(SPACES), min_size=len(pieces), max_size=len(pieces)))
    text = "".join(space + piece for space, piece in zip(spaces, pieces, strict=True))
    return Insert(text, writer.bindings)


def database(table: Table, owner_default: str) -> apsw.Connection:
    """A database with the table, the row that keeps new ids above FIRST_NEW_ID, and a few rows to select."""
    connection = apsw.Connection(":memory:")
    ids = iter(DRAWN_IDS)
    connection.create_scalar_function("octo_next_id", lambda table: next(ids), 1)
    connection.create_scalar_function("this_user", lambda: OWNER, 0, deterministic=True)
    connection.execute(table.schema(owner_default=owner_default))
    name, key = quote_name(table.name), quote_name(table.columns[table.key])
    connection.execute(f"INSERT INTO {name} ({key}) VALUES ({FIRST_NEW_ID})")
    connection.execute("CREATE TABLE src (x INTEGER, y TEXT, r REAL)")
    connection.execute("INSERT INTO src VALUES (3, 'c', 1), (1, 'b', 2), (2, 'a', 2.5)")
    connection.execute("CREATE TABLE fire (x, y)")
    return connection


def ranked(values: list[object], new_ids: list[object]) -> list[object]:
    """The values with every id that was drawn replaced by its rank, so that gaps do not count."""
    return [("new", new_ids.index(value)) if value in new_ids else value for value in values]


def outcome(connection: apsw.Connection, table: Table, sql: str, bindings: list[object]) -> object:
    """What running the statement gives: its error, or rows returned, table content and last row id."""
    name, key = quote_name(table.name), quote_name(table.columns[table.key])
    try:
        returned = connection.execute(sql, bindings).fetchall()
    except apsw.Error as error:
        return type(error), str(error)
    rows = connection.execute(f"SELECT *, typeof({key}) FROM {name} ORDER BY {key}").fetchall()
    last = connection.last_insert_rowid()
    # RETURNING begins with the key; a REPLACE may have returned rows that are gone.
    ids = {row[0] for row in returned} | {row[table.key] for row in rows} | {last}
    new_ids = sorted(value for value in ids if isinstance(value, int) and value > FIRST_NEW_ID)
    # Types are part of the comparison: in Python 1 == 1.0.
    shown = [[(type(value), value) for value in ranked(list(row), new_ids)] for row in rows]
    return [ranked(list(row), new_ids) for row in returned], shown, ranked([last], new_ids)


def gives_an_id_twice(found: tuple[object, ...]) -> bool:
    """Where a row of a REPLACE takes the place of one before it, SQLite gives the id of that one again; ours are never
    given again."""
    if not isinstance(found[0], list):
        return False
    new = [value for row in found[0] for value in row[:1] if isinstance(value, tuple)]
    return len(new) > len(set(new))


def assert_ids_were_drawn(connection: apsw.Connection, table: Table) -> None:
    name, key = quote_name(table.name), quote_name(table.columns[table.key])
    ids = connection.execute(f"SELECT {key} FROM {name} WHERE {key} > ?", [FIRST_NEW_ID]).fetchall()
    assert all(row[0] in DRAWN_IDS for row in ids)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_completed_insert_does_what_the_written_one_does(data: st.DataObject) -> None:
    table = data.draw(tables())
    insert = data.draw(inserts(table))
    completed = complete_insert(insert.text, table.resolve, owner_sql="this_user()")
    twin = database(table, f"DEFAULT {OWNER}")
    ours = database(table, "")
    ours.execute(f"UPDATE {quote_name(table.name)} SET row_owner = {OWNER}")
    expected = outcome(twin, table, insert.text, insert.bindings)
    assume(not gives_an_id_twice(expected))
    assert outcome(ours, table, completed, insert.bindings) == expected, completed
    assert_ids_were_drawn(ours, table)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_completed_trigger_does_what_the_written_one_does(data: st.DataObject) -> None:
    table = data.draw(tables())
    body = " ".join(Writer(data.draw, table, in_trigger=True).insert())
    trigger = f"CREATE TRIGGER g AFTER INSERT ON fire BEGIN SELECT CASE WHEN 1 THEN 2 END; {body}; END"
    twin = database(table, f"DEFAULT {OWNER}")
    ours = database(table, "")
    ours.execute(f"UPDATE {quote_name(table.name)} SET row_owner = {OWNER}")
    results = []
    for connection, text in ((twin, trigger), (ours, complete_trigger(trigger, table.resolve))):
        made = outcome(connection, table, text, [])
        fired = outcome(connection, table, "INSERT INTO fire VALUES (40, 'forty')", [])
        results.append((made, fired))
    assert results[0] == results[1]
    assert_ids_were_drawn(ours, table)


@pytest.mark.parametrize("rows", [1, 500])
def test_ids_follow_the_order_of_an_ordered_source(rows: int) -> None:
    table = Table("t", ["id", "a", "row_owner"], ["", "INTEGER", ""], 0, 2, 1)
    connection = database(table, "")
    connection.execute("DELETE FROM src")
    connection.executemany("INSERT INTO src VALUES (?, '', 0)", [[(n * 7919) % 1009] for n in range(rows)])
    sql = "INSERT INTO t(a) SELECT x FROM src ORDER BY x DESC"
    connection.execute(complete_insert(sql, table.resolve, owner_sql="this_user()"))
    found = [row[0] for row in connection.execute("SELECT a FROM t WHERE id > ? ORDER BY id", [FIRST_NEW_ID])]
    assert found == sorted(found, reverse=True)
    assert len(found) == rows


@pytest.mark.parametrize("kind", ["", "TEXT", "BLOB"])
def test_a_compound_source_keeps_its_types(kind: str) -> None:
    """An integer behind an arm of REALs stays an integer: no arm gives the others its affinity."""
    table = Table("t", ["id", "a", "row_owner"], ["", kind, ""], 0, 2, 1)
    sql = "INSERT INTO t(a) SELECT r FROM src UNION ALL SELECT 5 ORDER BY 1"
    expected = outcome(database(table, f"DEFAULT {OWNER}"), table, sql, [])
    ours = database(table, f"DEFAULT {OWNER}")
    assert outcome(ours, table, complete_insert(sql, table.resolve, owner_sql="7"), []) == expected
