"""Showing results: settings of the shell, fetching in batches, the cap on screens, the timer.

Writes to one stream. It runs on the worker's thread and never asks anything.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TextIO

from octocli.formats import Style, format_rows
from octocli.terminal import Terminal

__all__ = ["Output", "Settings", "rows_text"]

SCREEN_ROWS_MAX: Final = 1000
BATCH_ROWS: Final = 500


class Cursor(Protocol):
    """What is needed of a DB-API cursor."""

    @property
    def description(self) -> Any: ...

    @property
    def rowcount(self) -> int: ...

    def fetchmany(self, size: int, /) -> list[Any]: ...


@dataclass
class Settings:
    """What ``.mode``, ``.headers``, ``.nullvalue`` and ``.timer`` set; None leaves it to the mode."""

    mode: str = "tsv"
    headers: bool | None = None
    null: str | None = None
    timer: bool = False


@dataclass
class Output:
    """Where results go. ``check`` is called between batches and raises when the person pressed Ctrl-C."""

    terminal: Terminal
    stream: TextIO
    settings: Settings
    check: Callable[[], None]
    _capped: bool = False

    def show(self, cursor: Cursor) -> None:
        """Write the rows of a cursor; statements without columns write nothing."""
        if cursor.description is None:
            return
        columns = [str(column[0]) for column in cursor.description]
        self.show_rows(columns, self._batches(cursor))

    def show_rows(self, columns: Sequence[str], batches: Iterator[Sequence[Any]]) -> None:
        """Write rows from anywhere (``.pending``, ``.nodes``)."""
        self._capped = False
        for text in format_rows(self.settings.mode, columns, batches, self._style()):
            self.stream.write(text)
        self.stream.flush()
        if self._capped:
            self.terminal.say(f"first {SCREEN_ROWS_MAX:,} rows shown; -c into a pipe or a file writes all")

    def say(self, text: str) -> None:
        """A line of the shell's own, as data."""
        self.stream.write(text + "\n")

    def timed(self, started: float) -> None:
        if self.settings.timer:
            self.terminal.complain(f"time: {(time.perf_counter() - started) * 1000:.1f} ms")

    def _style(self) -> Style:
        on_screen = self.terminal.stdout_is_tty
        return Style(
            headers=self.settings.headers,
            null=self.settings.null,
            width=self.terminal.columns if on_screen else None,
            unicode=self.terminal.unicode,
        )

    def _batches(self, cursor: Cursor) -> Iterator[Sequence[Any]]:
        left = SCREEN_ROWS_MAX if self.terminal.stdout_is_tty else None
        while rows := cursor.fetchmany(BATCH_ROWS if left is None else min(BATCH_ROWS, left + 1)):
            self.check()
            if left is not None and len(rows) > left:
                self._capped = True
                yield rows[:left]
                return
            if left is not None:
                left -= len(rows)
            yield rows
        self.check()


def rows_text(columns: Sequence[str], rows: Sequence[Sequence[Any]], mode: str, style: Style) -> str:
    """A few rows as text at once."""
    return "".join(format_rows(mode, columns, itertools.chain([rows]), style))
