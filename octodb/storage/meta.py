"""The ``_octodb_*`` tables: the one module that names them and holds all their SQL.

Each class wraps one connection and one concern; none begins or commits a transaction, so that what they write
is part of the caller's. docs/storage.md describes the tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import apsw

from octodb.errors import ConfigError, OperationalError
from octodb.model.entries import LogEntry
from octodb.model.identities import FORMAT_NUMBER, PROVISIONAL_ID_MIN, VERSION, NodeRecord, Role
from octodb.model.transactions import Rejection
from octodb.sql.tokens import quote_name
from octodb.storage.lookup import one_row, one_value

__all__ = [
    "META_PREFIX",
    "LogTables",
    "Meta",
    "NodeTable",
    "Outbox",
    "OutboxRow",
    "RejectedRow",
    "create_meta_tables",
    "create_owner_index",
    "is_node_file",
    "upgrade_meta_tables",
]

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
CREATE TABLE IF NOT EXISTS _octodb_nodes (
    node_id INTEGER PRIMARY KEY, public_key BLOB NOT NULL UNIQUE, user_id INTEGER NOT NULL, node_type TEXT NOT NULL,
    last_nonce INTEGER NOT NULL DEFAULT 0, confirmed_nonce INTEGER NOT NULL DEFAULT 0,
    token BLOB NOT NULL DEFAULT x'', previous_token BLOB, revoked INTEGER NOT NULL DEFAULT 0,
    info TEXT NOT NULL DEFAULT '{}', created_at REAL NOT NULL, last_seen REAL, copy_of INTEGER);
CREATE INDEX IF NOT EXISTS _octodb_nodes_copies ON _octodb_nodes (copy_of) WHERE copy_of IS NOT NULL;
"""

# What makes a file of one format into one of the next: statements for all nodes, for devices, for primaries. Files of
# these formats lie on people's disks: once a format is released the step to it stays as it is.
_UPGRADES: Final[dict[int, tuple[str, str, str]]] = {
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
        for_all, for_devices, for_primaries = _UPGRADES[step]
        for statement in (for_all + (for_primaries if role is Role.PRIMARY else for_devices)).split(";"):
            if statement.strip():
                db.execute(statement)


def create_owner_index(db: apsw.Connection, table: str, owner_column: str) -> None:
    """On a primary: find a user's rows without reading everybody's."""
    name = quote_name(f"{META_PREFIX}owner_{table}")
    db.execute(f"CREATE INDEX IF NOT EXISTS main.{name} ON {quote_name(table)} ({quote_name(owner_column)})")


class Meta:
    """Single values of the file (``_octodb_meta``), row id counters and the record of schema changes."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def get(self, key: str, default: Any = None) -> Any:
        row = self._db.execute("SELECT value FROM _octodb_meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else row[0]

    def get_all(self) -> dict[str, Any]:
        return dict(self._db.execute("SELECT key, value FROM _octodb_meta"))

    def set(self, **values: Any) -> None:
        for key, value in values.items():
            self._db.execute("INSERT OR REPLACE INTO _octodb_meta VALUES (?, ?)", (key, value))

    def check_format(self, *, earlier: bool = False) -> int:
        """The format of this file. Raises ConfigError for a later one, and, unless ``earlier`` will do, for those."""
        found = self.get("format", 0)
        maker = self.get("made_by")
        if not isinstance(found, int) or found > FORMAT_NUMBER:
            raise ConfigError(
                f"this database has format {found}{f', of octodb {maker}' if maker else ''};"
                f" this is octodb {VERSION}, which reads formats up to {FORMAT_NUMBER}",
                hint=f"install octodb {maker} or later" if maker else "install the newer octodb that made it",
            )
        if found not in (*_UPGRADES, FORMAT_NUMBER):
            raise ConfigError(
                f"this database has format {found}, which no version of octodb makes",
                hint="it is damaged: restore a backup",
            )
        if found < FORMAT_NUMBER and not earlier:
            raise ConfigError(
                f"this database has format {found}, of an earlier octodb, not yet upgraded to {FORMAT_NUMBER}",
                hint="open it once without mode=ro, where it can be written: a copy of it is kept",
            )
        return found

    def note_format(self) -> None:
        """The file has this format now, made by this octodb."""
        self.set(format=FORMAT_NUMBER, made_by=VERSION)

    def skip_ids(self, table: str, low: int, high: int, sql_max: str, count: int) -> None:
        """Leave ``count`` row ids of the range unused after the last one; parameters as of ``last_row_id``."""
        last = self.last_row_id(table, low, high, sql_max)
        self.keep_row_id(table, min(last + count, high))

    def last_row_id(self, table: str, low: int, high: int, sql_max: str) -> int:
        """Highest row id of the range ``low``…``high`` that is or was in use; ``low - 1`` when none.

        ``sql_max`` selects the highest one in the table itself, with two parameters.
        """
        deleted = "SELECT last FROM _octodb_ids WHERE table_name = ? AND node_id = ?"
        sql = f"SELECT max(coalesce(({sql_max}), 0), coalesce(({deleted}), 0))"
        found = int(one_value(self._db, sql, (low, high, table, low >> 32)))
        return found if low <= found <= high else low - 1

    def keep_row_id(self, table: str, row_id: int) -> None:
        """Remember that ``row_id`` was used although its row is being deleted: ids are never reused."""
        self._db.execute(
            "INSERT INTO _octodb_ids VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
            (table, row_id >> 32, row_id),
        )

    def rename_row_ids(self, old: str, new: str) -> None:
        """A table has another name: the ids that it had stay used."""
        self._db.execute(
            "INSERT INTO _octodb_ids SELECT ?, node_id, last FROM _octodb_ids WHERE table_name = ? COLLATE NOCASE"
            " ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
            (new, old),
        )

    def id_counter(self, node_id: int) -> int:
        sql = "SELECT coalesce(max(last), 0) FROM _octodb_ids WHERE node_id = ?"
        return int(one_value(self._db, sql, (node_id,))) & 0xFFFFFFFF

    def record_schema_changes(self, tables: Iterable[str], seq: int) -> None:
        """``tables`` (folded names) changed at ``seq`` in a way that older bodies do not survive."""
        for table in tables:
            self._db.execute("INSERT OR REPLACE INTO _octodb_schema_changes VALUES (?, ?)", (table, seq))

    def forget_schema_changes(self) -> None:
        self._db.execute("DELETE FROM _octodb_schema_changes")

    def schema_changes(self) -> dict[str, int]:
        return dict(self._db.execute("SELECT table_name, seq FROM _octodb_schema_changes"))

    def displace(self, table: str, row: dict[str, Any], reason: str, now: float) -> None:
        text = json.dumps(row, default=lambda value: {"hex": bytes(value).hex()})
        sql = "INSERT INTO _octodb_displaced(table_name, row, reason, displaced_at) VALUES (?, ?, ?, ?)"
        self._db.execute(sql, (table, text, reason, now))

    def take_displaced(self, count_max: int) -> list[tuple[str, dict[str, Any], str]]:
        """Remove and return the oldest displaced rows: (table, row, reason)."""
        sql = "SELECT id, table_name, row, reason FROM _octodb_displaced ORDER BY id LIMIT ?"
        found = self._db.execute(sql, (count_max,)).fetchall()
        self._db.executemany("DELETE FROM _octodb_displaced WHERE id = ?", [(row[0],) for row in found])
        return [(str(t), json.loads(str(row), object_hook=_displaced_value), str(r)) for _, t, row, r in found]

    def bump_generation(self) -> None:
        """Somebody was admitted or cut off by SQL: what the engine knows of its nodes is old."""
        self.set(generation=self.get("generation", 0) + 1)

    def next_identity(self, wanted: int = 0) -> int:
        """The next id of the counter that node and user ids share; never one that was given before.

        ``wanted``: a user id that somebody else chose. One of PROVISIONAL_ID_MIN or above leaves the counter alone,
        which ends there: row ids have 31 bits for the node's (contract.md §5), and the upper half is for files that may
        be copies. Raises OperationalError when it has ended.
        """
        latest = int(self.get("identity_counter", 1))
        value = wanted or latest + 1
        if value >= PROVISIONAL_ID_MIN:
            if wanted:
                return wanted
            raise OperationalError(f"this primary has given all its {PROVISIONAL_ID_MIN - 1:,} ids")
        self.set(identity_counter=max(latest, value))
        return value

    def skip_identities(self, count: int) -> None:
        """Leave ``count`` ids of nodes and users unused: they may have been given without this file knowing."""
        self.set(identity_counter=min(int(self.get("identity_counter", 1)) + count, PROVISIONAL_ID_MIN - 1))


def _displaced_value(value: dict[str, Any]) -> Any:
    """Undo how ``displace`` writes a BLOB, {"hex": …}; a row itself is an object with other names, or more of them."""
    return bytes.fromhex(value["hex"]) if value.keys() == {"hex"} and isinstance(value["hex"], str) else value


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A transaction without a verdict. ``undo`` None: what the body did. ``suspended``: why it is not applied now.

    ``knew_rejected``: the newest rejected transaction of which this device knew when it made this one.
    """

    nonce: int
    body: bytes
    hash: bytes
    undo: bytes | None
    local: bytes | None
    made_at: float
    suspended: str | None
    knew_rejected: int


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A dead letter. ``local``: the changeset of what the transaction did to rows that stay here, None: nothing."""

    nonce: int
    rejection: Rejection
    body: bytes
    local: bytes | None
    made_at: float
    rejected_at: float
    kept_local: int


class Outbox:
    """A device's own transactions: without a verdict, accepted (kept for a while), rejected."""

    # Accepted bodies stay for this many transactions, so that a primary restored from a backup can be offered them.
    SENT_KEPT: Final = 1000
    _COLUMNS: Final = "nonce, body, hash, undo, local, made_at, suspended, knew_rejected"
    # A dead letter that was retried or dropped leaves its number, so that it is never taken for an accepted one.
    _KEPT: Final = "code <> ''"

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._writer = db.cursor()

    def append(
        self,
        nonce: int,
        body: bytes,
        hash_of_body: bytes,
        undo: bytes | None,
        local: bytes | None,
        now: float,
        knew_rejected: int = 0,
    ) -> None:
        """Store a transaction. The caller holds the write lock since it learned the last nonce."""
        self._writer.execute(
            "INSERT INTO _octodb_outbox(nonce, body, hash, undo, local, made_at, knew_rejected)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (nonce, body, hash_of_body, undo, local, now, knew_rejected),
        )

    def drop(self, nonce: int) -> None:
        self._db.execute("DELETE FROM _octodb_outbox WHERE nonce = ?", (nonce,))

    def last_nonce(self) -> int:
        sql = (
            "SELECT max(coalesce((SELECT max(nonce) FROM _octodb_outbox), 0),"
            " coalesce((SELECT value FROM _octodb_meta WHERE key = 'last_nonce'), 0))"
        )
        return int(one_value(self._db, sql))

    def last_rejected(self) -> int:
        """The newest transaction that was rejected; 0 when none was."""
        sql = "SELECT coalesce((SELECT value FROM _octodb_meta WHERE key = 'last_rejected'), 0)"
        return int(one_value(self._db, sql))

    def oldest(self) -> tuple[int, float] | None:
        """Nonce and time of the oldest transaction without a verdict."""
        row = self._db.execute("SELECT nonce, made_at FROM _octodb_outbox ORDER BY nonce LIMIT 1").fetchone()
        return None if row is None else (row[0], row[1])

    def settled_nonce(self) -> int:
        """Verdicts up to this nonce are stored, and the primary may forget them.

        It needs a refusal as long as a transaction waits that was made without knowledge of it: that one may build on
        what was refused.
        """
        row = self._db.execute("SELECT nonce, knew_rejected FROM _octodb_outbox ORDER BY nonce LIMIT 1").fetchone()
        if row is None:
            return self.last_nonce()
        return int(row[0] - 1 if row[1] >= self.last_rejected() else min(row[0] - 1, row[1]))

    def judged_nonce(self) -> int:
        """Every transaction up to this nonce has its verdict."""
        oldest = self.oldest()
        return self.last_nonce() if oldest is None else oldest[0] - 1

    def count_gone(self, above: int) -> int:
        """How many transactions above nonce ``above`` were accepted so long ago that their bodies are not kept."""
        kept = " + ".join(
            f"(SELECT count(*) FROM _octodb_{table} WHERE nonce > ?1)" for table in ("outbox", "sent", "rejected")
        )
        return max(0, self.last_nonce() - above - int(one_value(self._db, f"SELECT {kept}", (above,))))

    def has(self, nonce: int) -> bool:
        return self._db.execute("SELECT 1 FROM _octodb_outbox WHERE nonce = ?", (nonce,)).fetchone() is not None

    def first_nonces(self, count: int) -> list[int]:
        sql = "SELECT nonce FROM _octodb_outbox ORDER BY nonce LIMIT ?"
        return [row[0] for row in self._db.execute(sql, (count,))]

    def any_suspended(self) -> bool:
        sql = "SELECT 1 FROM _octodb_outbox WHERE suspended IS NOT NULL LIMIT 1"
        return self._db.execute(sql).fetchone() is not None

    def count(self) -> int:
        return int(one_value(self._db, "SELECT count(*) FROM _octodb_outbox"))

    def count_rejected(self) -> int:
        return int(one_value(self._db, f"SELECT count(*) FROM _octodb_rejected WHERE {self._KEPT}"))

    def get(self, nonce: int) -> OutboxRow | None:
        sql = f"SELECT {self._COLUMNS} FROM _octodb_outbox WHERE nonce = ?"
        row = self._db.execute(sql, (nonce,)).fetchone()
        return None if row is None else OutboxRow(*row)

    def hash_of(self, nonce: int) -> bytes | None:
        """The hash of a transaction without a verdict; None where there is none of that number."""
        row = self._db.execute("SELECT hash FROM _octodb_outbox WHERE nonce = ?", (nonce,)).fetchone()
        return None if row is None else row[0]

    def nonces(self) -> list[int]:
        return [row[0] for row in self._db.execute("SELECT nonce FROM _octodb_outbox ORDER BY nonce")]

    def pending(self, after: int = 0) -> Iterator[OutboxRow]:
        """One after the other: each holds its whole transaction."""
        for row in self._db.execute(
            f"SELECT {self._COLUMNS} FROM _octodb_outbox WHERE nonce > ? ORDER BY nonce", (after,)
        ):
            yield OutboxRow(*row)

    def read_to_send(self, after: int, count_max: int, bytes_max: int) -> list[tuple[int, bytes, bytes, int]]:
        """(nonce, hash, body, knew_rejected) of the oldest transactions above ``after``: at least one, then up to the
        limits."""
        sql = "SELECT nonce, hash, body, knew_rejected FROM _octodb_outbox WHERE nonce > ? ORDER BY nonce LIMIT ?"
        found: list[tuple[int, bytes, bytes, int]] = []
        size = 0
        for row in self._db.execute(sql, (after, count_max)):
            size += len(row[2])
            if found and size > bytes_max:
                break
            found.append((row[0], row[1], row[2], row[3]))
        return found

    def sent(self) -> list[tuple[int, bytes, int]]:
        """(nonce, hash, seq) of the accepted transactions that are kept."""
        return [(row[0], row[1], row[2]) for row in self._db.execute("SELECT nonce, hash, seq FROM _octodb_sent")]

    def offer_again(self, nonces: list[int], reason: str) -> None:
        """Accepted transactions that the primary has lost wait for a verdict again. Their rows are not applied."""
        for nonce in nonces:
            self._db.execute(
                "INSERT OR IGNORE INTO _octodb_outbox(nonce, body, hash, undo, made_at, suspended, knew_rejected)"
                " SELECT nonce, body, hash, x'', made_at, ?, ? FROM _octodb_sent WHERE nonce = ?",
                (reason, self.last_rejected(), nonce),
            )
            self._db.execute("DELETE FROM _octodb_sent WHERE nonce = ?", (nonce,))

    def forget_sent(self) -> None:
        """What was accepted cannot be offered again: it was under another identity of this device."""
        self._db.execute("DELETE FROM _octodb_sent")

    def set_body(self, nonce: int, body: bytes, hash_of_body: bytes) -> None:
        """Only for giving a copied file's rows other ids, before anybody has seen them (design.md §8)."""
        self._db.execute("UPDATE _octodb_outbox SET body = ?, hash = ? WHERE nonce = ?", (body, hash_of_body, nonce))

    def set_undo(self, nonce: int, undo: bytes | None, suspended: str | None) -> None:
        sql = "UPDATE _octodb_outbox SET undo = ?, suspended = ? WHERE nonce = ?"
        self._db.execute(sql, (undo, suspended, nonce))

    def accept(self, nonce: int, seq: int) -> None:
        """The primary accepted ``nonce`` at ``seq``."""
        self._db.execute(
            "INSERT OR REPLACE INTO _octodb_sent"
            " SELECT nonce, ?, body, hash, made_at FROM _octodb_outbox WHERE nonce = ?",
            (seq, nonce),
        )
        self._finish(nonce)
        self._db.execute("DELETE FROM _octodb_sent WHERE nonce <= ?", (nonce - self.SENT_KEPT,))

    def accept_oldest(self, accepted: list[tuple[int, int]]) -> None:
        """As ``accept``, for (nonce, seq) of the oldest transactions that are pending, all at once."""
        if not accepted:
            return
        self._db.executemany(
            "INSERT OR REPLACE INTO _octodb_sent"
            " SELECT nonce, ?, body, hash, made_at FROM _octodb_outbox WHERE nonce = ?",
            [(seq, nonce) for nonce, seq in accepted],
        )
        newest = accepted[-1][0]
        self._db.execute("DELETE FROM _octodb_outbox WHERE nonce <= ?", (newest,))
        self._remember("last_nonce", newest)
        self._db.execute("DELETE FROM _octodb_sent WHERE nonce <= ?", (newest - self.SENT_KEPT,))

    def reject(self, nonce: int, rejection: Rejection, now: float, kept_local: int) -> None:
        """The primary rejected ``nonce``: keep it as a dead letter with its reason."""
        self._db.execute(
            "INSERT OR REPLACE INTO _octodb_rejected SELECT nonce, ?, ?, ?, ?, body, local, made_at, ?, ?"
            " FROM _octodb_outbox WHERE nonce = ?",
            (
                rejection.code,
                rejection.message,
                rejection.table,
                json.dumps(rejection.columns),
                now,
                kept_local,
                nonce,
            ),
        )
        self._finish(nonce)
        self._remember("last_rejected", nonce)

    def _finish(self, nonce: int) -> None:
        self.drop(nonce)
        self._remember("last_nonce", nonce)

    def _remember(self, key: str, nonce: int) -> None:
        self._db.execute(
            "INSERT INTO _octodb_meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)",
            (key, nonce),
        )

    def rejected(self) -> list[RejectedRow]:
        """The dead letters, all at once."""
        return list(self.dead_letters())

    def dead_letters(self) -> Iterator[RejectedRow]:
        """One after the other: each holds its whole transaction."""
        return self._dead_letters("1")

    def dead_letter(self, nonce: int) -> RejectedRow | None:
        return next(iter(list(self._dead_letters("nonce = ?", nonce))), None)

    def _dead_letters(self, where: str, *bindings: int) -> Iterator[RejectedRow]:
        sql = (
            "SELECT nonce, code, message, table_name, columns, body, local, made_at, rejected_at, kept_local"
            f" FROM _octodb_rejected WHERE {self._KEPT} AND {where} ORDER BY nonce"
        )
        for nonce, code, message, table, columns, body, local, made, at, kept in self._db.execute(sql, bindings):
            rejection = Rejection(code, message, table, tuple(json.loads(columns)))
            yield RejectedRow(nonce, rejection, body, local, made, at, kept)

    def forget_rejected(self, nonce: int, why: str) -> None:
        """Delete what a dead letter holds. Its number stays, with what became of it."""
        self._db.execute(
            "UPDATE _octodb_rejected SET code = '', message = ?, table_name = '', columns = '[]', body = x'',"
            " local = NULL WHERE nonce = ?",
            (why, nonce),
        )

    def why_forgotten(self, nonce: int) -> str | None:
        """What ``forget_rejected`` was told; None where it was not."""
        sql = f"SELECT message FROM _octodb_rejected WHERE NOT {self._KEPT} AND nonce = ?"
        row = self._db.execute(sql, (nonce,)).fetchone()
        return None if row is None else str(row[0])

    def verdict_of(self, nonce: int) -> str | None:
        """'unprocessed', 'accepted', 'rejected', or None when there is no such transaction."""
        if nonce < 1 or nonce > self.last_nonce():
            return None
        if self._db.execute("SELECT 1 FROM _octodb_outbox WHERE nonce = ?", (nonce,)).fetchone():
            return "unprocessed"
        if self._db.execute("SELECT 1 FROM _octodb_rejected WHERE nonce = ?", (nonce,)).fetchone():
            return "rejected"
        return "accepted"


class LogTables:
    """The embedded log: entries by position and by owner, and the verdicts that refused a transaction."""

    _COLUMNS: Final = "seq, owner, origin, nonce, hash, chain, body"

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._writer = db.cursor()

    def head(self) -> int:
        row = self._db.execute("SELECT seq FROM _octodb_log ORDER BY id DESC LIMIT 1").fetchone()
        return 0 if row is None else int(row[0])

    def chain(self, owner: int | str, at_most: int | None = None) -> tuple[int, bytes] | None:
        """(seq, running hash) of the newest entry of ``owner``'s stream, or of the newest up to ``at_most``."""
        sql = "SELECT seq, chain FROM _octodb_log WHERE owner = ? AND seq <= ? ORDER BY seq DESC LIMIT 1"
        limit = 0x7FFFFFFFFFFFFFFF if at_most is None else at_most
        row = self._db.execute(sql, (owner, limit)).fetchone()
        return None if row is None else (row[0], row[1])

    def newest(self, owner: int | str) -> int:
        """Position of the newest entry of a stream; 0 when it has none."""
        found = self.chain(owner)
        return 0 if found is None else found[0]

    def append(self, entry: LogEntry, now: float) -> None:
        self._writer.execute(
            "INSERT INTO _octodb_log(seq, owner, origin, nonce, hash, chain, body, made_at) VALUES (?,?,?,?,?,?,?,?)",
            (entry.seq, entry.owner, entry.origin, entry.nonce, entry.hash, entry.chain, entry.body, now),
        )

    def remove(self, seq: int) -> None:
        """Take the newest entry back, part by part, inside the transaction that appended it."""
        sql = "DELETE FROM _octodb_log WHERE id = (SELECT max(id) FROM _octodb_log) AND seq = ?"
        self._db.execute(sql, (seq,))
        while self._db.changes():
            self._db.execute(sql, (seq,))

    def last_id(self) -> int:
        """Storage position of the newest part; rises with seq."""
        return int(one_value(self._db, "SELECT coalesce(max(id), 0) FROM _octodb_log"))

    def all(self) -> Iterator[LogEntry]:
        """Every part, in the order stored."""
        for row in self._db.execute(f"SELECT {self._COLUMNS} FROM _octodb_log ORDER BY id"):
            yield LogEntry(*row)

    def read_after_id(self, after_id: int, count_max: int) -> list[tuple[int, LogEntry]]:
        """(storage position, part) of all owners' parts stored after ``after_id``, in order."""
        sql = f"SELECT id, {self._COLUMNS} FROM _octodb_log WHERE id > ? ORDER BY id LIMIT ?"
        return [(row[0], LogEntry(*row[1:])) for row in self._db.execute(sql, (after_id, count_max))]

    def read_streams(self, owners: tuple[int | str, ...], after: int, bytes_max: int) -> tuple[list[LogEntry], bool]:
        """Entries of the given owners above ``after``, ordered by position.

        Stops at a position boundary once ``bytes_max`` is passed. Returns them and whether they are all there are.
        """
        arms = " UNION ALL ".join(
            f"SELECT {self._COLUMNS} FROM _octodb_log WHERE owner = ? AND seq > ?" for _ in owners
        )
        parameters = [value for owner in owners for value in (owner, after)]
        found: list[LogEntry] = []
        size = 0
        for row in self._db.execute(f"{arms} ORDER BY 1", parameters):
            if size > bytes_max and row[0] != found[-1].seq:
                return found, False
            found.append(LogEntry(*row))
            size += len(row[6])
        return found, True

    def verdict(self, node_id: int, nonce: int) -> tuple[bytes, int, Rejection | None, bool] | None:
        """(hash, seq, rejection, elsewhere) of a transaction that has a verdict: seq > 0 accepted, otherwise rejected.

        ``elsewhere``: no entry of the log tells its device.
        """
        found = self.accepted(node_id, nonce)
        if found is not None:
            return *found, None, False
        sql = "SELECT hash, seq FROM _octodb_acceptances WHERE node_id = ? AND nonce = ?"
        row = self._db.execute(sql, (node_id, nonce)).fetchone()
        if row is not None:
            return row[0], row[1], None, True
        sql = "SELECT hash, code, message, table_name, columns FROM _octodb_refusals WHERE node_id = ? AND nonce = ?"
        row = self._db.execute(sql, (node_id, nonce)).fetchone()
        if row is None:
            return None
        return row[0], 0, Rejection(row[1], row[2], row[3], tuple(json.loads(row[4]))), True

    def accepted(self, node_id: int, nonce: int) -> tuple[bytes, int] | None:
        """(hash, seq) of a device's transaction that is in the log."""
        sql = "SELECT hash, seq FROM _octodb_log WHERE origin = ? AND nonce = ?"
        row = self._db.execute(sql, (node_id, nonce)).fetchone()
        return None if row is None else (row[0], row[1])

    def refuse(self, node_id: int, nonce: int, hash_of_body: bytes, rejection: Rejection, made: bytes) -> None:
        self._db.execute(
            "INSERT INTO _octodb_refusals(node_id, nonce, hash, code, message, table_name, columns, made)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                node_id,
                nonce,
                hash_of_body,
                rejection.code,
                rejection.message,
                rejection.table,
                json.dumps(rejection.columns),
                made,
            ),
        )

    def refused(self, node_id: int) -> list[tuple[int, bytes]]:
        """(nonce, made) of the refusals that are kept."""
        sql = "SELECT nonce, made FROM _octodb_refusals WHERE node_id = ? ORDER BY nonce"
        return [(row[0], row[1]) for row in self._db.execute(sql, (node_id,))]

    def refused_range(self, node_id: int) -> tuple[int, int]:
        """The first and the last nonce of the refusals that are kept; (0, 0) when none is."""
        sql = (
            "SELECT coalesce((SELECT min(nonce) FROM _octodb_refusals WHERE node_id = ?1), 0),"
            " coalesce((SELECT max(nonce) FROM _octodb_refusals WHERE node_id = ?1), 0)"
        )
        first, last = one_row(self._db, sql, (node_id,))
        return first, last

    def keep_acceptance(self, node_id: int, nonce: int, hash_of_body: bytes, seq: int) -> None:
        """A transaction was accepted, and no entry under its number will say so."""
        sql = "INSERT OR IGNORE INTO _octodb_acceptances VALUES (?, ?, ?, ?)"
        self._db.execute(sql, (node_id, nonce, hash_of_body, seq))

    def forget_verdicts(self, node_id: int, confirmed_nonce: int) -> None:
        """The device has them; what is in the log stays there."""
        for table in ("_octodb_refusals", "_octodb_acceptances"):
            self._db.execute(f"DELETE FROM {table} WHERE node_id = ? AND nonce <= ?", (node_id, confirmed_nonce))

    # --- the beginning of the log --------------------------------------------------------------------

    def floor(self) -> int:
        """Entries up to this position were cut off; 0: none was."""
        return int(one_value(self._db, "SELECT coalesce((SELECT value FROM _octodb_meta WHERE key = 'floor'), 0)"))

    def oldest_kept(self, floor: int, since: float) -> int:
        """Position of the newest entry above ``floor`` made before ``since``; ``floor`` when there is none.

        Times rise with positions, or nearly: found by halving.
        """
        sql = "SELECT seq, made_at FROM _octodb_log WHERE id >= ? AND seq > ? ORDER BY id LIMIT 1"
        first = self._db.execute("SELECT min(id) FROM _octodb_log WHERE seq > ?1", (floor,)).fetchone()
        if first is None or first[0] is None:
            return floor
        low, high, found = int(first[0]), self.last_id(), floor
        while low <= high:
            middle = (low + high) // 2
            row = self._db.execute(sql, (middle, floor)).fetchone()
            if row is not None and row[1] < since:
                found, low = int(row[0]), middle + 1
            else:
                high = middle - 1
        return found

    def cut(self, upto: int, rows_max: int) -> int:
        """Forget bodies of entries up to position ``upto``, about ``rows_max`` parts at once; return the new floor.

        The newest part of each stream stays without its body: it holds the running hash. What a device may still ask
        the verdict of is kept as an acceptance.
        """
        floor = self.floor()
        sql = (
            "SELECT l.id, l.seq, l.owner, l.origin, l.nonce, l.hash, n.confirmed_nonce FROM _octodb_log AS l"
            " LEFT JOIN _octodb_nodes AS n ON n.node_id = l.origin AND l.nonce IS NOT NULL"
            " WHERE l.id > coalesce((SELECT value FROM _octodb_meta WHERE key = 'floor_id'), 0) AND l.seq <= ?"
            " ORDER BY l.id LIMIT ?"
        )
        rows: list[tuple[Any, ...]] = self._db.execute(sql, (upto, rows_max)).fetchall()
        if not rows:
            return floor
        if len(rows) == rows_max:  # all parts of a position go together
            rest = "SELECT id, seq, owner, origin, nonce, hash, 0 FROM _octodb_log WHERE id > ? AND seq = ?"
            rows += self._db.execute(rest, (rows[-1][0], rows[-1][1])).fetchall()
        for _, seq, _, origin, nonce, digest, confirmed in rows:
            if nonce is not None and nonce > (confirmed or 0):
                self.keep_acceptance(origin, nonce, digest, seq)
        newest = {row[2]: (row[0], row[1]) for row in rows}
        for owner, (row_id, seq) in newest.items():
            # by (owner, seq), so that the entries that stay are not looked at
            self._db.execute("DELETE FROM _octodb_log WHERE owner = ? AND seq < ?", (owner, seq))
            self._db.execute("UPDATE _octodb_log SET body = x'', nonce = NULL WHERE id = ?", (row_id,))
        self._db.execute("INSERT OR REPLACE INTO _octodb_meta VALUES ('floor', ?)", (rows[-1][1],))
        self._db.execute("INSERT OR REPLACE INTO _octodb_meta VALUES ('floor_id', ?)", (rows[-1][0],))
        return int(rows[-1][1])


class NodeTable:
    """The nodes a primary knows, their session tokens and how far their transactions have been processed."""

    _COLUMNS: Final = "node_id, user_id, node_type, public_key, last_nonce, revoked"

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def _one(self, where: str, value: object) -> NodeRecord | None:
        row = self._db.execute(f"SELECT {self._COLUMNS} FROM _octodb_nodes WHERE {where} = ?", (value,)).fetchone()
        if row is None:
            return None
        return NodeRecord(row[0], row[1], Role(row[2]), row[3], row[4], bool(row[5]))

    def by_key(self, public_key: bytes) -> NodeRecord | None:
        return self._one("public_key", public_key)

    def by_id(self, node_id: int) -> NodeRecord | None:
        return self._one("node_id", node_id)

    def add(self, record: NodeRecord, info: str, now: float) -> None:
        self._db.execute(
            "INSERT INTO _octodb_nodes(node_id, public_key, user_id, node_type, info, created_at, last_seen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (record.node_id, record.public_key, record.user_id, str(record.node_type), info, now, now),
        )

    def tokens(self, node_id: int) -> tuple[bytes, bytes | None]:
        """(current, previous) session token. Previous None: the device has confirmed the current one."""
        sql = "SELECT token, previous_token FROM _octodb_nodes WHERE node_id = ?"
        row = one_row(self._db, sql, (node_id,))
        return row[0], row[1]

    def set_tokens(self, node_id: int, current: bytes, previous: bytes | None, info: str | None, now: float) -> None:
        self._db.execute(
            "UPDATE _octodb_nodes SET token = ?, previous_token = ?, info = coalesce(?, info), last_seen = ?"
            " WHERE node_id = ?",
            (current, previous, info, now, node_id),
        )

    def forget_tokens(self) -> None:
        """This file is a backup: no device has the token that it knows, so each may come with whatever it has, once."""
        self._db.execute("UPDATE _octodb_nodes SET token = x'', previous_token = NULL")

    def confirm_token(self, node_id: int) -> None:
        self._db.execute("UPDATE _octodb_nodes SET previous_token = NULL WHERE node_id = ?", (node_id,))

    def set_last_nonce(self, node_id: int, last_nonce: int) -> None:
        self._db.execute("UPDATE _octodb_nodes SET last_nonce = ? WHERE node_id = ?", (last_nonce, node_id))

    def set_confirmed(self, node_id: int, confirmed_nonce: int) -> None:
        self._db.execute(
            "UPDATE _octodb_nodes SET confirmed_nonce = max(confirmed_nonce, ?) WHERE node_id = ?",
            (confirmed_nonce, node_id),
        )

    def set_extra(self, node_id: int, text: str) -> None:
        sql = "UPDATE _octodb_nodes SET info = json_set(info, '$.extra', ?) WHERE node_id = ?"
        self._db.execute(sql, (text, node_id))

    def revoke(self, node_id: int) -> None:
        """Cut it off, and the copies of its file with it."""
        copies = (
            "WITH RECURSIVE copies(id) AS (VALUES (?) UNION"
            " SELECT node_id FROM _octodb_nodes, copies WHERE copy_of = copies.id)"
        )
        self._db.execute(f"{copies} UPDATE _octodb_nodes SET revoked = 1 WHERE node_id IN copies", (node_id,))

    def set_copy_of(self, node_id: int, original: int) -> None:
        self._db.execute("UPDATE _octodb_nodes SET copy_of = ? WHERE node_id = ?", (original, node_id))

    def copy_of(self, node_id: int) -> int | None:
        """The node of whose file this one's was a copy."""
        row = self._db.execute("SELECT copy_of FROM _octodb_nodes WHERE node_id = ?", (node_id,)).fetchone()
        return None if row is None else row[0]

    def family(self, node_id: int) -> list[int]:
        """The other nodes whose files are copies of the same one."""
        root = node_id
        while (original := self.copy_of(root)) is not None:
            root = original
        sql = (
            "WITH RECURSIVE copies(id) AS (VALUES (?) UNION"
            " SELECT node_id FROM _octodb_nodes, copies WHERE copy_of = copies.id) SELECT id FROM copies"
        )
        return [row[0] for row in self._db.execute(sql, (root,)) if row[0] != node_id]

    def all(self) -> list[tuple[Any, ...]]:
        """(node_id, user_id, node_type, public_key, last_nonce, revoked, info, created_at, last_seen) of each."""
        sql = f"SELECT {self._COLUMNS}, info, created_at, last_seen FROM _octodb_nodes ORDER BY node_id"
        return list(self._db.execute(sql))
