"""The embedded log and the verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import apsw

from octodb.model.entries import LogEntry
from octodb.model.transactions import Rejection
from octodb.storage.lookup import one_row, one_value
from octodb.storage.meta.cut_hashes import CutHashes


class LogTables:
    """The embedded log: entries by position and by owner, and the verdicts that refused a transaction."""

    _COLUMNS: Final = "seq, owner, origin, nonce, hash, chain, body"

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._writer = db.cursor()
        self._cut_hashes = CutHashes(db)

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

    def took_effect(self, node_id: int, nonce: int, hash_of_body: bytes) -> int | None:
        """Where a node's transaction was accepted, for ever; the floor when it is cut off. 0: another one
        was, or it was refused. None: it was not, or it was cut off before hashes were kept (format 2).
        """
        found = self.verdict(node_id, nonce)
        if found is not None:
            return found[1] if found[0] == hash_of_body else 0
        known = self._cut_hashes.find(node_id, nonce)
        if known is not None:
            return self.floor() if hash_of_body.startswith(known) else 0
        return None

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
        the verdict of is kept as an acceptance; the beginnings of their hashes stay for ever.
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
        self._cut_hashes.keep((row[3], row[4], row[5]) for row in rows if row[4] is not None)
        newest = {row[2]: (row[0], row[1]) for row in rows}
        for owner, (row_id, seq) in newest.items():
            # by (owner, seq), so that the entries that stay are not looked at
            self._db.execute("DELETE FROM _octodb_log WHERE owner = ? AND seq < ?", (owner, seq))
            self._db.execute("UPDATE _octodb_log SET body = x'', nonce = NULL WHERE id = ?", (row_id,))
        self._db.execute("INSERT OR REPLACE INTO _octodb_meta VALUES ('floor', ?)", (rows[-1][1],))
        self._db.execute("INSERT OR REPLACE INTO _octodb_meta VALUES ('floor_id', ?)", (rows[-1][0],))
        return int(rows[-1][1])
