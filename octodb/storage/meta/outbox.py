"""A device's own transactions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import apsw

from octodb.model.transactions import Rejection
from octodb.storage.lookup import one_value


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
