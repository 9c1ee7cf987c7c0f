"""Their definitions, what makes a file of one format into one of the next, and the indexes of primaries."""

from __future__ import annotations

from typing import Final

import apsw

from octodb.model.identities import FORMAT_NUMBER, Role
from octodb.sql.tokens import quote_name

META_PREFIX: Final = "_octodb_"

_COMMON: Final = """
CREATE TABLE IF NOT EXISTS _octodb_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _octodb_ids (
    table_name TEXT NOT NULL, node_id INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (table_name, node_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _octodb_schema_changes (table_name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _octodb_displaced (
    id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, row TEXT NOT NULL, reason TEXT NOT NULL,
    displaced_at REAL NOT NULL);
"""
_DEVICE: Final = """
CREATE TABLE IF NOT EXISTS _octodb_outbox (
    nonce INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL,
    undo BLOB, local BLOB, made_at REAL NOT NULL, suspended TEXT, knew_rejected INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS _octodb_outbox_suspended ON _octodb_outbox (nonce) WHERE suspended IS NOT NULL;
CREATE TABLE IF NOT EXISTS _octodb_sent (
    nonce INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL, made_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS _octodb_rejected (
    nonce INTEGER PRIMARY KEY, code TEXT NOT NULL, message TEXT NOT NULL, table_name TEXT NOT NULL,
    columns TEXT NOT NULL, body BLOB NOT NULL, local BLOB, made_at REAL NOT NULL, rejected_at REAL NOT NULL,
    kept_local INTEGER NOT NULL DEFAULT 0);
"""
_PRIMARY: Final = """
CREATE TABLE IF NOT EXISTS _octodb_log (
    id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, owner NOT NULL, origin INTEGER NOT NULL, nonce INTEGER,
    hash BLOB NOT NULL, chain BLOB NOT NULL, body BLOB NOT NULL, made_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS _octodb_log_stream ON _octodb_log (owner, seq);
CREATE UNIQUE INDEX IF NOT EXISTS _octodb_log_origin ON _octodb_log (origin, nonce) WHERE nonce IS NOT NULL;
CREATE TABLE IF NOT EXISTS _octodb_refusals (
    node_id INTEGER NOT NULL, nonce INTEGER NOT NULL, hash BLOB NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    table_name TEXT NOT NULL, columns TEXT NOT NULL, made BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (node_id, nonce)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _octodb_acceptances (
    node_id INTEGER NOT NULL, nonce INTEGER NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (node_id, nonce)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _octodb_cut_hashes (
    node_id INTEGER NOT NULL, block INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (node_id, block)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _octodb_nodes (
    node_id INTEGER PRIMARY KEY, public_key BLOB NOT NULL UNIQUE, user_id INTEGER NOT NULL, node_type TEXT NOT NULL,
    last_nonce INTEGER NOT NULL DEFAULT 0, confirmed_nonce INTEGER NOT NULL DEFAULT 0,
    token BLOB NOT NULL DEFAULT x'', previous_token BLOB, revoked INTEGER NOT NULL DEFAULT 0,
    info TEXT NOT NULL DEFAULT '{}', created_at REAL NOT NULL, last_seen REAL, copy_of INTEGER);
CREATE INDEX IF NOT EXISTS _octodb_nodes_copies ON _octodb_nodes (copy_of) WHERE copy_of IS NOT NULL;
"""

# What makes a file of one format into one of the next: statements for all nodes, for devices, for primaries. Files of
# these formats lie on people's disks: once a format is released the step to it stays as it is.
UPGRADES: Final[dict[int, tuple[str, str, str]]] = {
    1: (
        # not ALTER TABLE … RENAME: that fails where a view of the application names a table that is gone
        """
CREATE TEMP TABLE _octodb_upgrade AS SELECT table_name, last FROM main._octodb_ids;
DROP TABLE main._octodb_ids;
CREATE TABLE _octodb_ids (
    table_name TEXT NOT NULL, node_id INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (table_name, node_id)) WITHOUT ROWID;
INSERT INTO _octodb_ids SELECT table_name, last >> 32, last FROM temp._octodb_upgrade;
DROP TABLE temp._octodb_upgrade;
""",
        """
ALTER TABLE _octodb_outbox ADD COLUMN knew_rejected INTEGER NOT NULL DEFAULT 0;
UPDATE _octodb_outbox SET knew_rejected = coalesce((
    SELECT max(r.nonce) FROM _octodb_rejected AS r
    WHERE r.nonce < _octodb_outbox.nonce AND r.rejected_at <= _octodb_outbox.made_at), 0);
INSERT INTO _octodb_meta SELECT 'last_rejected', max(nonce) FROM _octodb_rejected HAVING count(*) > 0;
CREATE INDEX _octodb_outbox_suspended ON _octodb_outbox (nonce) WHERE suspended IS NOT NULL;
""",
        """
ALTER TABLE _octodb_refusals ADD COLUMN made BLOB NOT NULL DEFAULT x'';
CREATE TABLE _octodb_acceptances (
    node_id INTEGER NOT NULL, nonce INTEGER NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (node_id, nonce)) WITHOUT ROWID;
ALTER TABLE _octodb_nodes ADD COLUMN copy_of INTEGER;
CREATE INDEX _octodb_nodes_copies ON _octodb_nodes (copy_of) WHERE copy_of IS NOT NULL;
""",
    ),
    2: (
        "",
        "",
        """
CREATE TABLE _octodb_cut_hashes (
    node_id INTEGER NOT NULL, block INTEGER NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (node_id, block)) WITHOUT ROWID;
""",
    ),
}


def is_node_file(db: apsw.Connection, schema: str = "main") -> bool:
    """Whether the open database has been a node. False also for what cannot be read (not a database…)."""
    try:
        sql = f"SELECT 1 FROM \"{schema}\".sqlite_schema WHERE name = '_octodb_meta'"
        return db.execute(sql).fetchone() is not None
    except apsw.Error:
        return False


def create_meta_tables(db: apsw.Connection, role: Role) -> None:
    """Make the tables of a role where they are missing, inside the caller's write transaction."""
    for statement in (_COMMON + (_PRIMARY if role is Role.PRIMARY else _DEVICE)).split(";"):
        if statement.strip():
            db.execute(statement)


def upgrade_meta_tables(db: apsw.Connection, role: Role, found: int) -> None:
    """From format ``found`` to this one, inside the caller's write transaction."""
    for step in range(found, FORMAT_NUMBER):
        for_all, for_devices, for_primaries = UPGRADES[step]
        for statement in (for_all + (for_primaries if role is Role.PRIMARY else for_devices)).split(";"):
            if statement.strip():
                db.execute(statement)


def create_owner_index(db: apsw.Connection, table: str, owner_column: str) -> None:
    """On a primary: find a user's rows without reading everybody's."""
    name = quote_name(f"{META_PREFIX}owner_{table}")
    db.execute(f"CREATE INDEX IF NOT EXISTS main.{name} ON {quote_name(table)} ({quote_name(owner_column)})")
