"""Reading and building SQLite changesets safely: every decoding error becomes one exception. Applies nothing.

See sqlite.org/session/intro.html: an INSERT holds the full new row, a DELETE the full old row, an UPDATE the key
and the changed columns only; a ``TableChange`` is valid until the next iteration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from octodb.errors import ProtocolError

__all__ = ["Change", "build", "iterate", "touched_tables"]


# (op, table, old values, new values) of one row
Change = tuple[str, str, tuple[Any, ...], tuple[Any, ...]]
_Values = tuple[Any, ...]


def iterate(changeset: bytes) -> Iterator[tuple[apsw.TableChange, str, str, _Values, _Values]]:
    """(change, op, table, old values, new values) of each change; () where an op has none of them.

    Everything is decoded here. Raises ProtocolError where bytes make no sense, invalid UTF-8 included. ``change``
    itself is valid until the next iteration.
    """
    try:
        changes = apsw.Changeset.iter(changeset)
    except apsw.Error as error:
        raise ProtocolError(f"a changeset cannot be read: {error}") from error
    while True:
        try:
            change = next(changes)
            decoded = (change, change.op, change.name, change.old or (), change.new or ())
        except StopIteration:
            return
        except (apsw.Error, UnicodeDecodeError) as error:
            raise ProtocolError(f"a changeset cannot be read: {error}") from error
        yield decoded


def build(db: apsw.Connection, changes: Iterable[Change]) -> bytes:
    """A changeset of (op, table, old, new) tuples; ``apsw.no_change`` where an UPDATE has no value."""
    builder = apsw.ChangesetBuilder()  # type: ignore[no-untyped-call] # its stub lacks the types
    builder.schema(db, "main")
    for op, table, old, new in changes:
        if op == "INSERT":
            builder.add_insert(table, False, new)
        elif op == "DELETE":
            builder.add_delete(table, False, old)
        else:
            builder.add_update(table, False, old, new)
    return builder.output()


def touched_tables(changeset: bytes) -> dict[str, int]:
    """Name of each table in the changeset and how many of its rows change."""
    counts: dict[str, int] = {}
    for _, _, table, _, _ in iterate(changeset):
        counts[table] = counts.get(table, 0) + 1
    return counts
