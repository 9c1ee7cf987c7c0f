"""The status sidecar: what the engine last said of a node, for other processes (design.md §10).

Rewritten atomically, holds no secrets, and is worth nothing once the engine lock is free.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Final

from octodb.runtime.engine_lock import EngineLock

__all__ = [
    "CONNECTED_NODES",
    "STATUS_SUFFIX",
    "WAITING_NODES",
    "read_status_file",
    "remove_status_file",
    "write_status_file",
]

STATUS_SUFFIX: Final = "-octodb.status"
# Keys beside those of the status, for PRAGMA nodes of other processes: the devices that wait for admission, and the
# addresses of those that are connected, by node id.
WAITING_NODES: Final = "waiting_nodes"
CONNECTED_NODES: Final = "connected_nodes"


def write_status_file(path: str, status: dict[str, Any]) -> None:
    """Publish ``status`` for the database at ``path``.

    On a full disk the old one makes room for the new; a disk that takes neither costs the news, not the engine.
    """
    if not _written(path, status):
        remove_status_file(path)  # old news would pass for new
        _written(path, status)


def _written(path: str, status: dict[str, Any]) -> bool:
    temporary = f"{path}{STATUS_SUFFIX}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"published_at": time.time(), "status": status}, file)
        os.replace(temporary, path + STATUS_SUFFIX)
    except OSError:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        return False
    return True


def read_status_file(path: str) -> dict[str, Any] | None:
    """The last published status, with the engine's age in seconds; None when no engine runs."""
    if not EngineLock(path).is_held_by_somebody():
        return None
    try:
        with open(path + STATUS_SUFFIX) as file:
            published = json.load(file)
        status: dict[str, Any] = published["status"]
        age_s = max(0.0, time.time() - published["published_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    engine = status.get("engine") or {}
    status["engine"] = {"pid": engine.get("pid"), "age_s": round(age_s, 3)}
    return status


def remove_status_file(path: str) -> None:
    try:
        os.remove(path + STATUS_SUFFIX)
    except OSError:
        return
