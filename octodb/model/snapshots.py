"""A frozen state of the primary as one device may see it: schema, then rows in chunks (design.md §6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["SnapshotHeader", "SnapshotRows", "SnapshotTail"]


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """``token`` names the download. ``tables``: CREATE TABLE texts in order. ``chain_all`` and ``chain_user`` are the
    running hashes at ``seq``. ``triggers``: on these tables; they keep up what only the device has while rows come in.
    """

    seq: int
    epoch: bytes
    chain_all: bytes
    chain_user: bytes
    schema_seq: int
    tables: tuple[str, ...]
    rows_total: int
    token: bytes = b""
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SnapshotRows:
    table: str
    columns: tuple[str, ...]
    rows: list[list[Any]]


@dataclass(frozen=True, slots=True)
class SnapshotTail:
    """Indexes, views and triggers, which are made when the rows are in."""

    schema: tuple[str, ...]
