"""The shell's history: one file for each database, mode 0600, without statements that hold secrets."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from prompt_toolkit.history import FileHistory

from octocli.sqltext import holds_secret

__all__ = ["SafeHistory", "history_file"]


class SafeHistory(FileHistory):
    """As FileHistory, but a text that signs somebody in or names a key is not kept, not even in memory."""

    def append_string(self, string: str) -> None:
        if not holds_secret(string):
            super().append_string(string)


def history_file(folder: Path, path: str) -> Path:
    """The history of the database at ``path``, made readable by its owner alone."""
    absolute = os.path.abspath(path)
    mark = hashlib.sha256(absolute.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    histories = folder / "history"
    histories.mkdir(mode=0o700, exist_ok=True)
    file = histories / f"{os.path.basename(absolute)}-{mark}"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    return file
