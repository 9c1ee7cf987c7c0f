"""``sync_status``: what a node says of itself (design.md §11). Built from facts; never guesses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

__all__ = ["AuthStatus", "LogStatus", "NodeState", "QueueStatus", "SnapshotStatus", "SyncStatus"]


class NodeState(StrEnum):
    OFFLINE = "offline"
    CONNECTING = "connecting"
    UNAUTHORIZED = "unauthorized"
    AUTHORIZING = "authorizing"
    DOWNLOADING = "downloading"
    SYNCING = "syncing"
    IN_SYNC = "in sync"
    REVOKED = "revoked"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """``error`` is None or ``{"code": str, "reason": str}`` of the last refusal."""

    mode: str | None = None
    required: bool = False
    pending: bool = False
    error: dict[str, str] | None = None
    fields: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class QueueStatus:
    last_nonce: int = 0
    pending: int = 0
    oldest_pending_s: float | None = None
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class LogStatus:
    epoch: str | None = None
    applied: int = 0
    head: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    rows: int
    rows_total: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """One look at a node. ``to_dict`` gives the JSON shape that programs read."""

    node_id: int = 0
    user_id: int = 0
    node_type: str = "secondary"
    public_key: str = ""
    db_is_ready: bool = False
    state: NodeState = NodeState.OFFLINE
    connected: bool = False
    server: str | None = None
    rtt_ms: float | None = None
    auth: AuthStatus = field(default_factory=AuthStatus)
    queue: QueueStatus = field(default_factory=QueueStatus)
    log: LogStatus = field(default_factory=LogStatus)
    snapshot: SnapshotStatus | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    bind: tuple[str, ...] | None = None
    certificate: str | None = None  # its fingerprint, which devices pin
    nodes: int | None = None
    last_contact_s: float | None = None
    checksum_ok: bool | None = None
    engine_pid: int | None = None
    engine_age_s: float | None = None
    last_error: str | None = None
    servers: tuple[dict[str, Any], ...] = ()
    authorizer: dict[str, Any] | None = None
    encrypted: bool = False
    refused: dict[str, int] | None = None

    def with_queue(self, queue: QueueStatus) -> SyncStatus:
        """The same look with a queue read from the file just now: it is newer than the engine's."""
        state = self.state
        if queue.pending and state is NodeState.IN_SYNC:
            state = NodeState.SYNCING
        return replace(self, queue=queue, state=state)

    def to_dict(self) -> dict[str, Any]:
        """The shape of design.md §11. ``upstream_state`` is about what this node has to send,
        ``downstream_state`` about what it has to receive."""
        auth = self.auth
        result: dict[str, Any] = {
            "node_id": self.node_id,
            "user_id": self.user_id,
            "node_type": self.node_type,
            "public_key": self.public_key,
            "db_is_ready": self.db_is_ready,
            "state": str(self.state),
            "connected": self.connected,
            "server": self.server,
            "rtt_ms": self.rtt_ms,
            "auth": {
                "mode": auth.mode,
                "required": auth.required,
                "pending": auth.pending,
                "error": auth.error,
                "fields": list(auth.fields),
            },
            "downstream_state": self._downstream(),
            "upstream_state": self._upstream(),
            "transactions": {
                "last_nonce": self.queue.last_nonce,
                "pending": self.queue.pending,
                "oldest_pending_s": self.queue.oldest_pending_s,
                "rejected": self.queue.rejected,
            },
            "log": {"epoch": self.log.epoch, "applied": self.log.applied, "head": self.log.head},
            "snapshot": None
            if self.snapshot is None
            else {
                "rows": self.snapshot.rows,
                "rows_total": self.snapshot.rows_total,
                "bytes": self.snapshot.bytes,
            },
            "bytes": {"in": self.bytes_in, "out": self.bytes_out},
            "bind": None if self.bind is None else list(self.bind),
            "last_contact_s": self.last_contact_s,
            "checksum_ok": self.checksum_ok,
            "engine": None if self.engine_pid is None else {"pid": self.engine_pid, "age_s": self.engine_age_s},
            "last_error": self.last_error,
            "encrypted": self.encrypted,
        }
        if self.servers:
            result["servers"] = list(self.servers)
        if self.nodes is not None:
            result["nodes"] = self.nodes
            result["authorizer"] = self.authorizer
        if self.certificate is not None:
            result["certificate"] = self.certificate
        if self.refused is not None:
            result["refused"] = self.refused
        return result

    def _upstream(self) -> str:
        if self.state in {NodeState.SYNCING, NodeState.IN_SYNC}:
            return "syncing" if self.queue.pending else "in sync"
        return str(self.state)

    def _downstream(self) -> str:
        if self.state in {NodeState.SYNCING, NodeState.IN_SYNC}:
            return "in sync" if self.log.head == self.log.applied else "syncing"
        return str(self.state)
