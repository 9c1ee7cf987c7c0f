"""A database as SQL text, line by line, in the order and spelling of sqlite3's iterdump(). Only reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from octodb.sql.tokens import quote_name, quote_text
from octodb.storage.meta import META_PREFIX

if TYPE_CHECKING:
    from octodb.dbapi.connection import Connection

__all__ = ["dump_lines"]

_TABLES = """SELECT name, sql FROM sqlite_master WHERE sql NOT NULL AND type = 'table' ORDER BY name"""
_OTHERS = (
    """SELECT name, tbl_name, sql FROM sqlite_master WHERE sql NOT NULL AND type IN ('index', 'trigger', 'view')"""
)


def dump_lines(connection: Connection) -> Iterator[str]:
    """Yield statements that, run in order on an empty database, make the same schema and rows."""
    cursor = connection.cursor()
    cursor.row_factory = None
    virtual_tables = False
    sequences: list[str] = []
    yield "BEGIN TRANSACTION;"
    for name, sql in cursor.execute(_TABLES).fetchall():
        if name == "sqlite_sequence":
            sequences.append('DELETE FROM "sqlite_sequence";')
            for table, value in cursor.execute('SELECT name, seq FROM "sqlite_sequence"').fetchall():
                sequences.append(f'INSERT INTO "sqlite_sequence" VALUES({quote_text(table)},{value});')
            continue
        if name == "sqlite_stat1":
            yield 'ANALYZE "sqlite_master";'
        elif name.startswith(("sqlite_", META_PREFIX)):
            continue  # a node's own tables hold its keys and its queue: they make no sense in another file
        elif sql.startswith("CREATE VIRTUAL TABLE"):
            # its shadow tables are dumped as ordinary ones, so the module must not create them again
            if not virtual_tables:
                virtual_tables = True
                yield "PRAGMA writable_schema=ON;"
            quoted = quote_text(name)
            yield (
                "INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)"
                f"VALUES('table',{quoted},{quoted},0,{quote_text(sql)});"
            )
        else:
            yield f"{sql};"
        yield from _rows(connection, name)
    for name, table, sql in cursor.execute(_OTHERS).fetchall():
        if not (name.startswith(META_PREFIX) or table.startswith(META_PREFIX)):
            yield f"{sql};"
    if virtual_tables:
        yield "PRAGMA writable_schema=OFF;"
    yield from sequences
    yield "COMMIT;"


def _rows(connection: Connection, table: str) -> Iterator[str]:
    cursor = connection.cursor()
    cursor.row_factory = None
    always_quoted = '"' + table.replace('"', '""') + '"'
    columns = [row[1] for row in cursor.execute(f"PRAGMA table_info({quote_name(table)})").fetchall()]
    values = " || ',' || ".join(f'quote("{column.replace(chr(34), chr(34) * 2)}")' for column in columns)
    prefix = quote_text(f"INSERT INTO {always_quoted} VALUES(")
    for (line,) in cursor.execute(f"SELECT {prefix} || {values} || ');' FROM {always_quoted}"):
        yield line
