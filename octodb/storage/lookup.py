"""Reading one row or one value where there always is one: aggregates, PRAGMAs, keys known to exist."""

from __future__ import annotations

from typing import Any

import apsw

__all__ = ["one_row", "one_value"]


def one_row(db: apsw.Connection, sql: str, bindings: tuple[Any, ...] | list[Any] = ()) -> tuple[Any, ...]:
    """The first row of a query that always has one."""
    row = db.execute(sql, bindings).fetchone()
    assert row is not None
    return tuple(row)


def one_value(db: apsw.Connection, sql: str, bindings: tuple[Any, ...] | list[Any] = ()) -> Any:
    """The first value of the first row of a query that always has one."""
    return one_row(db, sql, bindings)[0]
