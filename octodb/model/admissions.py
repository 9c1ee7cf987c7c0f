"""What an authorization service wants done when it lets a device in (contract.md §7). Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from octodb.model.identities import Role

__all__ = ["DENIED", "FAILED", "LATER", "Admission", "ServiceAnswer"]

# What callbacks and services say instead of an id (contract.md §4).
DENIED: Final = -1
LATER: Final = -2
FAILED: Final = -3


@dataclass(frozen=True, slots=True)
class Admission:
    """Whose a device is, or what it is.

    ``user_id`` None and ``node_type`` None: the SQL tells the user. ``find`` gives the user id as a row; without it the
    last row that ``execute`` inserts does. ``node_id`` 0: the next free one.
    """

    public_key: bytes
    user_id: int | None = None
    node_type: Role | None = None
    node_id: int = 0
    execute: tuple[str, ...] = ()
    find: str = ""


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """``admission`` None: ``code`` is DENIED, LATER or FAILED, and ``reason`` is for the user to read.

    ``problem``: what is wrong with the answer, for whoever runs the service; '' when nothing is.
    """

    public_key: bytes
    admission: Admission | None = None
    code: int = 0
    reason: str = ""
    problem: str = ""
