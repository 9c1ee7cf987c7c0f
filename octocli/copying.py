"""What ``backup`` and ``restore`` show: how far the copy is, and what was found in it."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from octocli.terminal import Terminal

if TYPE_CHECKING:
    import octodb

__all__ = ["CopyDisplay", "print_report"]


class CopyDisplay(AbstractContextManager["CopyDisplay"]):
    """A bar on stderr where that is a terminal; otherwise nothing."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._bar: Any = None
        self._task: Any = None

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def progress(self, done: int, total: int) -> None:
        """Pages copied, of how many."""
        if not self._terminal.stderr_is_tty or self._terminal.dumb or self._terminal.quiet:
            return
        if self._bar is None:
            self._bar = _bar(self._terminal)
            self._task = self._bar.add_task("copying", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description="copying" if done < total else "checking")


def print_report(report: octodb.BackupReport, terminal: Terminal, as_json: bool) -> None:
    """One line about a copy on stdout, and what could not be checked on stderr."""
    if as_json:
        click.echo(json.dumps({"v": 1, **report.to_dict()}))
    else:
        click.echo(f"{report.path}   {', '.join(_facts(report))}")
    if report.unchecked:
        terminal.complain(
            f"not checked, because they need functions or collations of the application: {', '.join(report.unchecked)}"
        )


def _facts(report: octodb.BackupReport) -> list[str]:
    facts = [str(report.role), f"{report.bytes / 1e6:,.1f} MB", f"log at {report.head}"]
    if report.role == "primary":
        facts += [f"{report.entries} entries checked", f"{report.nodes} nodes"]
    else:
        facts += [f"{report.pending} to send", f"{report.rejected} rejected"]
    return [*facts, f"format {report.format}"]


def _bar(terminal: Terminal) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, no_color=not terminal.colour, safe_box=not terminal.unicode)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
