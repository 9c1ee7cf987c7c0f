"""Scripts: ``-c``, ``-f`` and standard input. Statements run as they arrive; the first error ends all.

Never prompts and never changes the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from octocli.failure import Exit, Failure
from octocli.shell.session import LeaveShell, ShellSession

__all__ = ["run_file", "run_lines", "run_scripts"]


def run_scripts(session: ShellSession, commands: Sequence[str], file: str | None) -> None:
    """Run every ``-c`` in order, then ``-f``. Raises Failure at the first error."""
    try:
        for command in commands:
            _run(session, [command], "-c")
        if file is not None:
            _run_file(session, file)
    except LeaveShell:
        return


def run_file(session: ShellSession, name: str) -> None:
    """Run one file, or standard input for ``-``. ``.quit`` in it ends the file only."""
    try:
        _run_file(session, name)
    except LeaveShell:
        return


def run_lines(session: ShellSession, lines: Iterable[str], source: str) -> None:
    """Run text line by line, each statement as soon as it is complete."""
    try:
        _run(session, lines, source)
    except LeaveShell:
        return


def _run_file(session: ShellSession, name: str) -> None:
    if name == "-":
        _run(session, sys.stdin, "stdin")
        return
    try:
        with open(name, encoding="utf-8") as stream:
            _run_text(session, stream, name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Failure(f"cannot read {name}", why=reason, fix="name a file of SQL statements", code=Exit.USAGE) from None


def _run_text(session: ShellSession, stream: TextIO, name: str) -> None:
    try:
        _run(session, stream, name)
    except UnicodeDecodeError as error:
        raise Failure(f"{name} is not UTF-8 text", why=str(error.reason), fix="convert it to UTF-8") from None


def _run(session: ShellSession, lines: Iterable[str], source: str) -> None:
    splitter = session.splitter()
    for line in lines:
        for piece in splitter.feed(line):
            session.run_piece(piece, source)
    for piece in splitter.finish():
        session.run_piece(piece, source)
