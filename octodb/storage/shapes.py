"""What sync needs to know of each table: columns, key, owner column, foreign keys. Read from SQLite, cached by schema.

Never changes a schema. ``Shapes.read`` is what every connection calls again when ``schema_version`` moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import apsw

from octodb.model.owners import OWNER_COLUMN
from octodb.sql.tokens import fold_name, quote_name
from octodb.storage.lookup import one_value
from octodb.storage.meta import META_PREFIX

__all__ = ["LOCAL_PREFIX", "PRIVATE_PREFIX", "ForeignKey", "Shapes", "TableShape", "schema_version"]

PRIVATE_PREFIX: Final = "private_"
LOCAL_PREFIX: Final = "local_"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of ``child`` by index, which refer to ``parent``'s columns by name."""

    child: str
    columns: tuple[int, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableShape:
    """One ordinary table. ``columns`` are the stored ones: generated columns are no part of a changeset.

    ``key`` holds the indexes of the PRIMARY KEY columns within ``columns``; ``owner`` the index of ``row_owner`` or
    None; ``owner_is_text``: that column turns numbers into text; ``row_id_column`` the name of an INTEGER PRIMARY KEY,
    else None.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[int, ...]
    owner: int | None
    owner_is_text: bool
    row_id_column: str | None
    nullable_key: bool
    collated_key: bool
    unique: bool
    has_triggers: bool
    foreign_keys: tuple[ForeignKey, ...] = ()
    referenced_by: tuple[ForeignKey, ...] = field(default=())

    @property
    def private(self) -> bool:
        return fold_name(self.name).startswith(PRIVATE_PREFIX)

    @property
    def replicated(self) -> bool:
        """Its rows have owners and may travel (contract.md §5)."""
        return self.owner is not None and not fold_name(self.name).startswith((PRIVATE_PREFIX, LOCAL_PREFIX))

    @property
    def quoted(self) -> str:
        return "main." + quote_name(self.name)

    @property
    def key_match(self) -> str:
        """``"a" = ? AND "b" = ?`` over the key columns."""
        return " AND ".join(f"{quote_name(self.columns[i])} = ?" for i in self.key)

    @property
    def owner_column(self) -> str:
        assert self.owner is not None
        return quote_name(self.columns[self.owner])


def schema_version(db: apsw.Connection) -> int:
    return int(one_value(db, "PRAGMA main.schema_version"))


class Shapes:
    """The ordinary tables of ``main`` by folded name, without ours and SQLite's own."""

    def __init__(self, version: int, tables: dict[str, TableShape], shadows: frozenset[str]) -> None:
        self.version = version
        self.tables = tables
        self._shadows = shadows

    @classmethod
    def read(cls, db: apsw.Connection) -> Shapes:
        """The shapes at one moment: another connection may drop a table between two looks."""
        if db.in_transaction:
            return cls._read(db)
        db.execute("BEGIN")
        try:
            return cls._read(db)
        finally:
            if db.in_transaction:
                db.execute("COMMIT")

    @classmethod
    def _read(cls, db: apsw.Connection) -> Shapes:
        version = schema_version(db)
        kinds = {
            row[0]: row[1]
            for row in db.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main'")
            if not fold_name(row[0]).startswith((META_PREFIX, "sqlite_"))
        }
        tables = {fold_name(name): _read_table(db, name) for name, kind in kinds.items() if kind == "table"}
        shadows = frozenset(fold_name(name) for name, kind in kinds.items() if kind == "shadow")
        return cls(version, _with_references(tables), shadows)

    def get(self, name: str) -> TableShape | None:
        return self.tables.get(fold_name(name))

    def replicated(self) -> list[TableShape]:
        return [shape for shape in self.tables.values() if shape.replicated]

    def is_shadow(self, name: str) -> bool:
        """Whether a virtual table keeps its data there."""
        return fold_name(name) in self._shadows


def _read_table(db: apsw.Connection, name: str) -> TableShape:
    info = list(db.execute("SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?, 'main')", (name,)))
    stored = [row for row in info if row[4] == 0]
    columns = tuple(row[0] for row in stored)
    key = tuple(i for i, row in sorted(enumerate(stored), key=lambda item: item[1][3]) if row[3])
    without_rowid = _is_without_rowid(db, name)
    row_id = None
    if len(key) == 1 and not without_rowid and stored[key[0]][1].upper() == "INTEGER" and _is_rowid_alias(db, name):
        row_id = columns[key[0]]
    owner = next((i for i, column in enumerate(columns) if fold_name(column) == OWNER_COLUMN), None)
    return TableShape(
        name=name,
        columns=columns,
        key=key,
        owner=owner,
        owner_is_text=owner is not None and _has_text_affinity(stored[owner][1]),
        row_id_column=row_id,
        nullable_key=row_id is None and not without_rowid and any(not stored[i][2] for i in key),
        collated_key=_has_collated_key(db, name),
        unique=_has_unique(db, name),
        has_triggers=_has_triggers(db, name),
        foreign_keys=_foreign_keys(db, name, columns),
    )


def _has_text_affinity(declared: str) -> bool:
    """sqlite.org/datatype3.html §3.1"""
    folded = declared.upper()
    return "INT" not in folded and any(word in folded for word in ("CHAR", "CLOB", "TEXT"))


def _is_without_rowid(db: apsw.Connection, name: str) -> bool:
    sql = "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
    return bool(one_value(db, sql, (name,)))


def _is_rowid_alias(db: apsw.Connection, name: str) -> bool:
    """An ``INTEGER PRIMARY KEY DESC`` has an index of its own and is no alias (sqlite.org/lang_createtable.html)."""
    sql = "SELECT 1 FROM pragma_index_list(?, 'main') WHERE origin = 'pk'"
    return db.execute(sql, (name,)).fetchone() is None


def _has_collated_key(db: apsw.Connection, name: str) -> bool:
    sql = (
        "SELECT 1 FROM pragma_index_list(?, 'main') AS l, pragma_index_xinfo(l.name, 'main') AS x"
        " WHERE l.origin = 'pk' AND x.key AND x.coll <> 'BINARY'"
    )
    return db.execute(sql, (name,)).fetchone() is not None


def _has_unique(db: apsw.Connection, name: str) -> bool:
    sql = "SELECT 1 FROM pragma_index_list(?, 'main') WHERE \"unique\" AND origin <> 'pk'"
    return db.execute(sql, (name,)).fetchone() is not None


def _has_triggers(db: apsw.Connection, name: str) -> bool:
    sql = "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE"
    return db.execute(sql, (name,)).fetchone() is not None


def _foreign_keys(db: apsw.Connection, name: str, columns: tuple[str, ...]) -> tuple[ForeignKey, ...]:
    groups: dict[int, list[tuple[str, str, str | None]]] = {}
    sql = 'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id, seq'
    for number, parent, column, target in db.execute(sql, (name,)):
        groups.setdefault(number, []).append((parent, column, target))
    found = []
    index = {fold_name(column): i for i, column in enumerate(columns)}
    for rows in groups.values():
        if all(fold_name(column) in index for _, column, _ in rows):
            child_columns = tuple(index[fold_name(column)] for _, column, _ in rows)
            found.append(ForeignKey(name, child_columns, rows[0][0], tuple(target or "" for _, _, target in rows)))
    return tuple(found)


def _with_references(tables: dict[str, TableShape]) -> dict[str, TableShape]:
    """Fill in implied parent columns (the parent's key) and each table's children."""
    children: dict[str, list[ForeignKey]] = {}
    complete: dict[str, TableShape] = {}
    for folded, shape in tables.items():
        keys = []
        for foreign in shape.foreign_keys:
            parent = tables.get(fold_name(foreign.parent))
            if parent is None:
                continue
            named = foreign.parent_columns
            if not all(named):
                named = tuple(parent.columns[i] for i in parent.key)
            if len(named) == len(foreign.columns):
                keys.append(replace(foreign, parent=parent.name, parent_columns=named))
                children.setdefault(fold_name(parent.name), []).append(keys[-1])
        complete[folded] = replace(shape, foreign_keys=tuple(keys))
    return {folded: replace(shape, referenced_by=tuple(children.get(folded, ()))) for folded, shape in complete.items()}
