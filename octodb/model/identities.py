"""Who a node is: roles, authorization modes, ids and the row ids a node may hand out. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = [
    "ADMIN_ID",
    "DESCRIBED",
    "FORMAT_NUMBER",
    "NODE_ID_MAX",
    "PROVISIONAL_ID_MIN",
    "VERSION",
    "AuthMode",
    "Identity",
    "NodeRecord",
    "Role",
    "row_id_range",
]

# Of octodb, as pyproject.toml has it. A file says which version made its format: what an older one must be replaced by.
VERSION: Final = "0.1.0"
# The format of the meta tables. A file of a later format is refused, one of an earlier is upgraded.
FORMAT_NUMBER: Final = 3
# User 1 is the administrators', node 1 the first primary (contract.md §5).
ADMIN_ID: Final = 1
# Row ids are ``node_id << 32 | sequence`` and positive.
NODE_ID_MAX: Final = 0x7FFFFFFF
# The upper half is for files that may be copies: each takes one at random until a primary has spoken (design.md §8).
PROVISIONAL_ID_MIN: Final = 0x40000000
# What PRAGMA nodes shows of what a node says of itself; ``type`` is shown, too, where it has not been given one yet.
DESCRIBED: Final = ("hostname", "os", "architecture", "octodb", "extra", "type")


class Role(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


class AuthMode(StrEnum):
    """Who must be authorized before a device gets data (contract.md §2)."""

    NONE = "none"
    NODE = "node"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of this node. All 0 and not ready until a primary has authorized it.

    ``provisional_id``: in whose range row ids are made while this file may be a copy of another device's; 0: its own.
    """

    node_id: int = 0
    user_id: int = 0
    ready: bool = False
    provisional_id: int = 0

    @classmethod
    def of(cls, values: dict[str, Any]) -> Identity:
        """From the single values of a node's file."""
        return cls(
            values.get("node_id", 0),
            values.get("user_id", 0),
            ready=bool(values.get("ready")),
            provisional_id=values.get("provisional_id", 0),
        )

    @property
    def row_ids(self) -> tuple[int, int]:
        """First and last row id that this node hands out now."""
        return row_id_range(self.provisional_id or self.node_id)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a primary knows of one node. ``last_nonce``: newest transaction of it that has a verdict."""

    node_id: int
    user_id: int
    node_type: Role
    public_key: bytes
    last_nonce: int = 0
    revoked: bool = False


def row_id_range(node_id: int) -> tuple[int, int]:
    """First and last row id that node ``node_id`` may hand out: ``node_id << 32 | sequence``."""
    return (node_id << 32) | 1, (node_id << 32) | 0xFFFFFFFF
