"""Names to complete with: tables and columns of one database, as of one schema version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import octodb

__all__ = ["Catalogue", "read_catalogue"]


@dataclass(frozen=True)
class Catalogue:
    """``columns`` maps a table's name to its columns, in order."""

    version: int = -1
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def tables(self) -> list[str]:
        return list(self.columns)


def read_catalogue(conn: octodb.Connection, known: Catalogue) -> Catalogue:
    """The catalogue now; ``known`` itself where the schema has not changed. Raises the library's errors."""
    version = conn.execute("PRAGMA schema_version").fetchone()[0]
    if version == known.version:
        return known
    rows = conn.execute(
        "SELECT s.name, c.name FROM sqlite_schema s, pragma_table_info(s.name) c "
        "WHERE s.type IN ('table', 'view') AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "AND s.name NOT LIKE '\\_octodb%' ESCAPE '\\' ORDER BY s.name, c.cid"
    ).fetchall()
    columns: dict[str, list[str]] = {}
    for table, column in rows:
        columns.setdefault(table, []).append(column)
    return Catalogue(version, {table: tuple(names) for table, names in columns.items()})
