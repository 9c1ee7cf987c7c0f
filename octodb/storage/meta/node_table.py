"""The nodes a primary knows."""

from __future__ import annotations

from typing import Any, Final

import apsw

from octodb.model.identities import NodeRecord, Role
from octodb.storage.lookup import one_row


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
