"""Guards: TEMP triggers that keep an application's statements within what its node may change (contract.md §5).

They speak early and clearly; the final check is the changeset at COMMIT (splitting.py), and the primary's.
A literal id in the trigger is faster than a function (sqlite-notes).
"""

from __future__ import annotations

from typing import Final

import apsw

from octodb.model.identities import Role
from octodb.sql.tokens import quote_name, quote_text
from octodb.storage.shapes import Shapes, TableShape

__all__ = ["OWNER_MESSAGE", "install_guards"]

_PREFIX: Final = "_octodb_guard_"
OWNER_MESSAGE: Final = "octodb: row_owner can only widen"


def install_guards(db: apsw.Connection, shapes: Shapes, role: Role, user_id: int, own_ids: tuple[int, int]) -> None:
    """Replace the guards of this connection by those for the given schema. No transaction may hold them open.

    ``own_ids``: the row ids that this node hands out.
    """
    old = db.execute("SELECT name FROM temp.sqlite_schema WHERE type = 'trigger' AND name GLOB ?", (_PREFIX + "*",))
    for (name,) in old.fetchall():
        _drop(db, str(name))
    for number, shape in enumerate(shapes.replicated()):
        name = f"{_PREFIX}{number}"
        for statement in _guards(name, shape, role, user_id) + _watches(name, shape, own_ids):
            db.execute(statement)


def _drop(db: apsw.Connection, name: str) -> None:
    """DROP TRIGGER does not find a TEMP trigger whose table another connection has dropped, though it is listed: SQLite
    has not loaded it. Left there it would come to life on the next table of that name."""
    try:
        db.execute(f"DROP TRIGGER temp.{quote_name(name)}")
    except apsw.SQLError:
        db.execute("PRAGMA writable_schema = ON")
        try:
            db.execute("DELETE FROM temp.sqlite_schema WHERE type = 'trigger' AND name = ?", (name,))
        finally:
            db.execute("PRAGMA writable_schema = OFF")


def _guards(name: str, shape: TableShape, role: Role, user_id: int) -> list[str]:
    owner = shape.owner_column
    if role is Role.PRIMARY:
        widens = f"OLD.{owner} IS NULL OR NEW.{owner} = '*'"
        return [_owner_guard(name, shape, widens)]
    # a column of type TEXT holds '3' where we mean 3, and a trigger's OLD has no affinity that would make them equal
    own = f"({user_id}, '{user_id}')"
    foreign = f"OLD.{owner} IS NOT NULL AND OLD.{owner} NOT IN {own}"
    skip = "BEGIN SELECT RAISE(IGNORE); END"
    return [
        f"CREATE TEMP TRIGGER {name}_update BEFORE UPDATE ON {shape.quoted} WHEN {foreign} {skip}",
        f"CREATE TEMP TRIGGER {name}_delete BEFORE DELETE ON {shape.quoted} WHEN {foreign} {skip}",
        # rows of others are skipped by the guard above, so they must not end the statement here
        _owner_guard(name, shape, f"{foreign} OR OLD.{owner} IS NULL AND NEW.{owner} IN {own}"),
    ]


def _watches(name: str, shape: TableShape, own_ids: tuple[int, int]) -> list[str]:
    """Tell of the highest row of our range that goes: an INSERT later in the transaction must not be given its id.

    The function is called for the row that was the highest only; looking costs a step down the table's tree.
    """
    if shape.row_id_column is None:
        return []
    column = quote_name(shape.row_id_column)
    ours = f"BETWEEN {own_ids[0]} AND {own_ids[1]}"
    above = f"SELECT 1 FROM {shape.quoted} WHERE {column} > OLD.{column} AND {column} <= {own_ids[1]}"
    body = f"BEGIN SELECT octo_id_gone({quote_text(shape.name)}, OLD.{column}); END"
    when = f"WHEN OLD.{column} {ours} AND NOT EXISTS ({above})"
    return [
        f"CREATE TEMP TRIGGER {name}_gone AFTER DELETE ON {shape.quoted} {when} {body}",
        f"CREATE TEMP TRIGGER {name}_moved AFTER UPDATE OF {column} ON {shape.quoted} {when} {body}",
    ]


def _owner_guard(name: str, shape: TableShape, allowed: str) -> str:
    owner = shape.owner_column
    return (
        f"CREATE TEMP TRIGGER {name}_owner BEFORE UPDATE OF {owner} ON {shape.quoted}"
        f" WHEN NOT coalesce(NEW.{owner} IS OLD.{owner} OR {allowed}, 0)"
        f" BEGIN SELECT RAISE(ABORT, '{OWNER_MESSAGE}'); END"
    )
