"""Users 10 → 100,000, each with a row and an entry in the log: what a push and a catch-up of one of them cost."""

from __future__ import annotations

import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import octodb
from benchmarks.measuring import Size
from benchmarks.nodes import primary_process
from benchmarks.probe import Growth, Probe
from benchmarks.processes import memory_mb
from benchmarks.report import Comparison

__all__ = ["TITLE", "run"]

TITLE: Final = "Growth with users: one user's device commits, another of the same user missed some entries"
_USER: Final = 7
_FIRST_USER: Final = 1000


def run(folder: Path, size: Size) -> list[Comparison]:
    steps = size.of((10, 100, 1000, 10_000, 100_000), (10, 1000, 10_000), (2, 4))
    commits, rounds, missed = size.of((300, 7, 100), (100, 3, 100), (3, 1, 5))
    growth = Growth("users")
    for step in steps:
        here = folder / f"{step}"
        here.mkdir()
        path = here / "primary.db"
        with primary_process(path, auth="user"):
            pass  # makes the file
        seconds = _fill(path, step)
        with primary_process(path, auth="user") as primary, Probe(here, primary.address, _USER) as probe:
            figures = probe.figures(primary.pid, commits, rounds, missed)
            figures["primary's memory"] = (memory_mb(primary.pid), "MB")
            figures["a row for each in one transaction of the primary, per user"] = (seconds / step * 1e6, "µs")
            growth.add(step, figures)
    return growth.comparisons()


def _fill(path: Path, user_count: int) -> float:
    """Make the users' nodes known, and give each user a row; return the seconds that this transaction took."""
    users = range(_FIRST_USER, _FIRST_USER + user_count)
    with closing(sqlite3.connect(path)) as db:
        # through the front door each admission is a commit of its own
        db.executemany(
            "INSERT INTO _octodb_nodes(node_id, public_key, user_id, node_type, created_at)"
            " VALUES (?, ?, ?, 'secondary', ?)",
            ((user, secrets.token_bytes(32), user, time.time()) for user in users),
        )
        db.execute("UPDATE _octodb_meta SET value = ? WHERE key = 'identity_counter'", (users[-1],))
        db.commit()
    with closing(octodb.connect(f"file:{path}?node=primary")) as primary:
        start = time.perf_counter()
        primary.executemany(
            "INSERT INTO note(title, n, row_owner) VALUES (?, ?, ?)",
            (("a title of some length", user, user) for user in users),
        )
        primary.commit()
        return time.perf_counter() - start
