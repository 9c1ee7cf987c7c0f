"""Keeping up what only this node has while the engine applies: full-text indexes, tables of its own (design.md §7).

On the engine's connection triggers do not fire: what they did to synced rows travels as rows. Those that write what is
not synced must, and TEMP triggers do fire there; so each gets a TEMP twin with that part of its body. A twin that fails
must not decide whether an entry or a body takes effect: then the change is tried again without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from octodb.sql.tokens import fold_name, quote_name
from octodb.sql.trigger_text import twin_trigger
from octodb.storage.local_rows import DATA_ERRORS
from octodb.storage.shapes import Shapes

__all__ = ["LocalTriggers"]

_PREFIX: Final = "_octodb_twin_"
_CONDITION: Final = "octodb_keeps_up()"


class LocalTriggers:
    """The twins on one connection of an engine. ``targets``: folded names of the tables that they write."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._on = True
        self._names: list[str] = []
        self.targets: frozenset[str] = frozenset()
        db.create_scalar_function("octodb_keeps_up", lambda *_: self._on, 0)

    @property
    def any(self) -> bool:
        return bool(self._names)

    @contextmanager
    def off(self) -> Iterator[None]:
        """They do nothing meanwhile."""
        self._on = False
        try:
            yield
        finally:
            self._on = True

    def install(self, shapes: Shapes) -> None:
        """Make the twins for the schema as it is now."""
        self.drop()
        targets: set[str] = set()
        stored = self._db.execute("SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid").fetchall()
        for number, (sql,) in enumerate(stored):
            name = f"{_PREFIX}{number}"
            twin = twin_trigger(str(sql), name, _CONDITION, lambda table: _stays_here(shapes, table))
            if twin is None:
                continue
            try:
                self._db.execute(twin[0])
            except DATA_ERRORS:
                continue  # it names what is gone, as the trigger itself does
            self._names.append(name)
            targets |= {fold_name(table) for table in twin[1]}
        self.targets = frozenset(targets)

    def drop(self) -> None:
        """Before the schema changes: SQLite checks TEMP triggers when a column is renamed or dropped."""
        sql = "SELECT name FROM temp.sqlite_schema WHERE type = 'trigger' AND name GLOB ?"
        for (name,) in self._db.execute(sql, (_PREFIX + "*",)).fetchall():
            self._db.execute(f"DROP TRIGGER IF EXISTS temp.{quote_name(str(name))}")
        self._names.clear()
        self.targets = frozenset()


def _stays_here(shapes: Shapes, table: str) -> bool:
    shape = shapes.get(table)
    return shape is None or not shape.replicated  # a virtual table has no shape
