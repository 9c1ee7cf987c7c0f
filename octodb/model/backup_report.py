"""What was found in a copy of a node's file. A pure value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from octodb.model.identities import Role

__all__ = ["BackupReport"]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A copy that was read to its end and found whole.

    ``head``: position of the log it holds; ``entries``: log rows whose running hashes were recomputed (0 on devices).
    ``epoch``: hex, '' for a device that never had data. ``nodes``: how many a primary knows. ``pending``, ``rejected``:
    a device's queue and dead letters. ``unchecked``: tables that need functions or collations of the application,
    which could not be checked here. ``set_aside``: after a restore, where the file that was there before is now.
    """

    path: str
    role: Role
    format: int
    bytes: int
    head: int
    entries: int
    epoch: str
    nodes: int
    pending: int
    rejected: int
    unchecked: tuple[str, ...] = ()
    set_aside: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "role": str(self.role), "unchecked": list(self.unchecked)}
