"""Single values of a file, its row id counters, its displaced rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import apsw

from octodb.errors import ConfigError, OperationalError
from octodb.model.identities import FORMAT_NUMBER, PROVISIONAL_ID_MIN, VERSION
from octodb.storage.lookup import one_value
from octodb.storage.meta.tables import UPGRADES

# Those of devices that never come back would stay for ever.
_REFUSALS_MAX: Final = 1000


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
        if found not in (*UPGRADES, FORMAT_NUMBER):
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

    def refusals(self) -> dict[bytes, str]:
        """Public key → reason of each device that was refused and not told yet."""
        return {bytes.fromhex(key): reason for key, reason in json.loads(self.get("refusals", "{}")).items()}

    def add_refusal(self, public_key: bytes, reason: str) -> None:
        kept = self.refusals()
        kept.pop(public_key, None)
        kept[public_key] = reason
        self._set_refusals(dict(list(kept.items())[-_REFUSALS_MAX:]))

    def forget_refusals(self, public_keys: list[bytes]) -> None:
        kept = self.refusals()
        if kept.keys() & set(public_keys):
            self._set_refusals({key: reason for key, reason in kept.items() if key not in public_keys})

    def _set_refusals(self, kept: dict[bytes, str]) -> None:
        self.set(refusals=json.dumps({key.hex(): reason for key, reason in kept.items()}))

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
