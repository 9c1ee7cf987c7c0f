"""How a database is opened: from the arguments of connect() to the Statements that run its SQL.

Owns file names, URI flags and the busy timeout; never runs a statement.
"""

from __future__ import annotations

import os
import re
import urllib.parse

import apsw

from octodb.errors import ConfigError
from octodb.model.node_uri import NodeUri, looks_like_node_uri, parse_node_uri
from octodb.runtime.nodes import Node, open_node
from octodb.storage.encryption import find_key, open_connection, why_not_readable
from octodb.storage.meta import is_node_file
from octodb.storage.statements import PlainStatements, Statements

__all__ = ["node_of", "open_database", "shown"]

_STATEMENT_CACHE_MAX = 512
"""Prepared statements kept at most: beyond this APSW's lookup costs more than preparing again."""


def open_database(
    database: str | bytes | os.PathLike[str] | os.PathLike[bytes] | NodeUri,
    *,
    timeout_s: float,
    uri: bool,
    cached_statements: int,
) -> Statements:
    """Open ``database`` and return what runs SQL on it. Raises apsw.Error where SQLite refuses.

    A URI with our parameters is a node's, or an encrypted database's, also without ``uri``; it raises ConfigError where
    it is wrong. A NodeUri is that of a node, with its key.
    """
    if isinstance(database, NodeUri):
        return open_node(database, timeout_s)
    name = os.fsdecode(database)
    if looks_like_node_uri(name):
        parsed = parse_node_uri(name)
        if parsed.role is not None:
            return open_node(parsed, timeout_s)
        if parsed.network_key is not None:
            raise ConfigError(
                "network_key= is for nodes, and the URI has no node=",
                hint="write node= and the addresses, too; or set OCTODB_NETWORK_KEY",
            )
        return _open_encrypted(parsed, timeout_s)
    if not name.isascii():
        name, uri = _escaped(name, uri=uri)
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    if uri:
        flags |= apsw.SQLITE_OPEN_URI
        name = _shared_in_memory(name)
    db = apsw.Connection(name, flags=flags, statementcachesize=max(0, min(cached_statements, _STATEMENT_CACHE_MAX)))
    _refuse_node_file(db, name)
    db.set_busy_timeout(max(0, int(timeout_s * 1000)))
    return PlainStatements(db)


def _open_encrypted(uri: NodeUri, timeout_s: float) -> Statements:
    """A plain database with ``cipher=``. Raises ConfigError (the key), DatabaseError (it does not open the file)."""
    key = find_key(uri).file_key
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
    db = open_connection(uri.sqlite_uri, flags, key)
    try:
        db.set_busy_timeout(max(0, int(timeout_s * 1000)))
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        _refuse_node_file(db, uri.path)
    except apsw.NotADBError:
        db.close(True)
        raise why_not_readable(uri.path, key) from None
    except BaseException:
        db.close(True)
        raise
    return PlainStatements(db)


def shown(database: object) -> object:
    """``database`` as audit hooks may see it: without the key of a URI."""
    if isinstance(database, str) and looks_like_node_uri(database):
        return re.sub(r"(?<=[?&])(key|hexkey|network_key)=[^&]*", r"\1=…", database)
    return database


def node_of(statements: Statements) -> Node | None:
    """The node that ``statements`` work on; None for a plain database."""
    return getattr(statements, "node", None)


def _refuse_node_file(db: apsw.Connection, name: str) -> None:
    """A node's file opened as a plain database could be written past its capture: reading only is fine."""
    if is_node_file(db) and not db.readonly("main"):
        db.close()
        raise ConfigError(
            f"{name} is a node's database; opened without node= its changes would not be synced",
            hint="open it with its node URI, or only to read it: file:…?mode=ro with uri=True",
        )


def _escaped(name: str, *, uri: bool) -> tuple[str, bool]:
    """A name whose bytes are not UTF-8, as a URI with those bytes escaped; other names as they are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raw = os.fsencode(name)
        if uri:
            # a URI's own punctuation and escapes stay; only bytes outside ASCII are escaped
            return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw), True
        return "file:" + urllib.parse.quote(os.path.abspath(raw)), True
    return name, uri


def _shared_in_memory(uri: str) -> str:
    """The URI of a database in memory that several connections share, in the form this SQLite understands.

    APSW's SQLite has no shared cache, and would open a database for each connection without a word. Its
    "memdb" file system shares databases whose name begins with a slash (sqlite.org/src/file/src/memdb.c).
    """
    scheme, _, rest = uri.partition(":")
    location, _, query = rest.partition("?")
    options = dict(urllib.parse.parse_qsl(query.partition("#")[0]))
    in_memory = options.get("mode") == "memory" or location == ":memory:"
    if scheme != "file" or not in_memory or options.get("cache") != "shared" or "vfs" in options:
        return uri
    return f"file:/{location.lstrip('/')}?vfs=memdb"
