"""An entry of the log: one owner's part of an accepted transaction, and what a batch of pushes came to."""

from __future__ import annotations

from dataclasses import dataclass

from octodb.model.transactions import Rejection

__all__ = ["AppendOutcome", "CommittedBatch", "LogEntry", "Outcome"]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """``owner`` is '*' or a user id. ``origin`` is the node that made it; ``nonce`` None: made on a primary.

    ``chain`` is the running hash of the owner's stream with this entry.
    """

    seq: int
    owner: int | str
    origin: int
    nonce: int | None
    hash: bytes
    chain: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """What became of one pushed transaction.

    kind: 'accepted', 'rejected', 'skipped' (the device has its verdict), 'fork', 'gap', 'corrupt' or 'revoked'.
    ``elsewhere``: accepted as the transaction of a copy of the device's file, whose entry it is.
    """

    nonce: int
    kind: str
    seq: int = 0
    rejection: Rejection | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcomes of one node's push, in its order."""

    node_id: int
    outcomes: list[AppendOutcome]


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """What one commit added to the log: its parts are stored after place ``base_id``, the last at ``last_id``."""

    base_id: int
    last_id: int
    entries: list[LogEntry]
