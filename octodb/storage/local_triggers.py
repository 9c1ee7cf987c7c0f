"""Keeping up what only this node has while the engine applies: full-text indexes, tables of its own (design.md §7).

On the engine's connection triggers do not fire: what they did to synced rows travels as rows. Those that write what is
not synced must, and TEMP triggers do fire there; so each gets a TEMP twin with that part of its body. A twin that fails
must not decide whether an entry or a body takes effect: then the change is tried again without them.

A table that triggers write on INSERT and on DELETE follows the rows wherever they go, also when the queue is undone and
redone. One that is only added to, such as a list of what happened, has had its part when the transaction was made: it
hears of what comes from others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import apsw

from octodb.sql.tokens import fold_name, quote_name
from octodb.sql.trigger_text import Twin, twin_trigger
from octodb.storage.local_rows import DATA_ERRORS
from octodb.storage.shapes import Shapes

__all__ = ["LocalTriggers"]

_PREFIX: Final = "_octodb_twin_"


class LocalTriggers:
    """The twins on one connection of an engine. ``following``: folded names of the tables that follow the rows."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._on = True
        self._from_others = False
        self._names: list[str] = []
        self.following: frozenset[str] = frozenset()
        db.create_scalar_function("octodb_keeps_up", self._keeps_up, 1)

    def _keeps_up(self, *arguments: Any) -> bool:
        follows = arguments[0]
        return self._on and bool(follows or self._from_others)

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

    def to_blame(self, error: apsw.Error) -> bool:
        """Whether a twin has met a virtual table at odds with the rows: a full-text index without the row that is to be
        taken out of it says that the database is malformed. Without the twins there is no such error."""
        return self._on and self.any and getattr(error, "extendedresult", 0) == apsw.SQLITE_CORRUPT_VTAB

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute one statement; where it fails, for which a twin may be the reason, once more without them."""
        try:
            self._db.execute(sql, values)
            return
        except DATA_ERRORS:
            if not (self._on and self.any):
                raise
        except apsw.CorruptError as error:
            if not self.to_blame(error):
                raise
        with self.off():
            self._db.execute(sql, values)

    @contextmanager
    def hearing_of_others(self) -> Iterator[None]:
        """What others did comes in meanwhile."""
        before, self._from_others = self._from_others, True
        try:
            yield
        finally:
            self._from_others = before

    def install(self, shapes: Shapes) -> None:
        """Make the twins for the schema as it is now."""
        self.drop()
        stored = self._db.execute("SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid").fetchall()
        texts = [str(sql) for (sql,) in stored]
        self.following = _following([self._twin(shapes, text, "", "1") for text in texts])
        for number, text in enumerate(texts):
            name = f"{_PREFIX}{number}"
            found = self._twin(shapes, text, name, "1")
            if found is None:
                continue
            follows = not self.following.isdisjoint(map(fold_name, found.targets))
            twin = self._twin(shapes, text, name, f"octodb_keeps_up({int(follows)})")
            assert twin is not None
            with suppress(*DATA_ERRORS):  # it names what is gone, as the trigger itself does
                self._db.execute(twin.text)
                self._names.append(name)

    def _twin(self, shapes: Shapes, text: str, name: str, condition: str) -> Twin | None:
        return twin_trigger(text, name, condition, lambda table: _stays_here(shapes, table))

    def drop(self) -> None:
        """Before the schema changes: SQLite checks TEMP triggers when a column is renamed or dropped."""
        sql = "SELECT name FROM temp.sqlite_schema WHERE type = 'trigger' AND name GLOB ?"
        for (name,) in self._db.execute(sql, (_PREFIX + "*",)).fetchall():
            self._db.execute(f"DROP TRIGGER IF EXISTS temp.{quote_name(str(name))}")
        self._names.clear()
        self.following = frozenset()


def _stays_here(shapes: Shapes, table: str) -> bool:
    shape = shapes.get(table)
    return shape is None or not shape.replicated  # a virtual table has no shape


def _following(twins: list[Twin | None]) -> frozenset[str]:
    """Folded names of the tables that are written on INSERT and on DELETE of one table."""
    events: dict[tuple[str, str], set[str]] = {}
    for twin in twins:
        for target in twin.targets if twin is not None else ():
            assert twin is not None
            events.setdefault((fold_name(twin.table), fold_name(target)), set()).add(twin.event)
    return frozenset(target for (_, target), kinds in events.items() if {"INSERT", "DELETE"} <= kinds)
