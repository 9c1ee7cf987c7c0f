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
        pass
    finally:
        if session.conn.in_transaction:
            session.terminal.complain("warning: a transaction was left open; it is rolled back (no COMMIT came)")


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
    with _opened(name) as stream:
        _run(session, stream, name)


def _opened(name: str) -> TextIO:
    """Bytes that are no UTF-8 come out as surrogates, as Python reads standard input: _checked names their line."""
    try:
        return open(name, encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Failure(f"cannot read {name}", why=reason, fix="name a file of SQL statements", code=Exit.USAGE) from None


def _run(session: ShellSession, lines: Iterable[str], source: str) -> None:
    splitter = session.splitter()
    for number, line in enumerate(lines, 1):
        for piece in splitter.feed(_checked(line, source, number)):
            session.run_piece(piece, source)
    for piece in splitter.finish():
        session.run_piece(piece, source)


def _checked(line: str, source: str, number: int) -> str:
    """The line, read as UTF-8 whatever the locale. Raises Failure for what SQLite could not be given."""
    if not line.isascii():
        try:
            line = line.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeError:
            raise Failure(f"{source}:{number}: this is not UTF-8 text", fix="convert it to UTF-8") from None
    if "\0" in line:
        raise Failure(
            f"{source}:{number}: there is a NUL character in the text",
            why="SQL ends at a NUL: what is behind it would be lost",
            fix="take it out; char(0) makes one in SQL",
        )
    return line
