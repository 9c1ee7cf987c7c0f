"""One shell on one connection: statements and dot commands in, results and errors out.

Knows nothing of keys, prompts or files; the interactive loop and scripts both drive it.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from octocli.failure import Failure, failure_of
from octocli.feed import StatusFeed
from octocli.shell.output import Output, Settings
from octocli.shell.worker import Interrupted, Worker
from octocli.sqltext import Piece, Splitter, first_line, holds_secret
from octocli.target import Target
from octocli.terminal import Terminal

if TYPE_CHECKING:
    import octodb

__all__ = ["LeaveShell", "ShellSession", "is_complete"]


def is_complete(text: str) -> bool:
    """Whether SQLite finds a whole statement in ``text``; also for text it cannot read, which running it will tell."""
    import octodb

    try:
        return octodb.complete_statement(text)
    except ValueError:  # a NUL, or half of a surrogate pair
        return True


class LeaveShell(Exception):  # noqa: N818 - a request, not an error
    """``.quit`` was given."""


class ShellSession:
    """``run_piece`` runs one statement or dot command; errors come out as Failure."""

    def __init__(
        self,
        conn: octodb.Connection,
        target: Target,
        terminal: Terminal,
        *,
        feed: StatusFeed | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.conn = conn
        self.target = target
        self.terminal = terminal
        self.feed = feed
        self.settings = Settings(mode="box" if terminal.stdout_is_tty else "tsv")
        self.worker = Worker(conn.interrupt)
        self.output = Output(terminal, stream or sys.stdout, self.settings, self.worker.check)

    def close(self) -> None:
        """End the worker thread; the connection stays its owner's."""
        self.worker.close()

    def splitter(self) -> Splitter:
        return Splitter(is_complete)

    def run_piece(self, piece: Piece, source: str = "") -> None:
        """Run it. ``source`` (a script's name) puts ``source:line`` into the message of an error.

        Raises Failure for what went wrong, Interrupted after Ctrl-C, LeaveShell for ``.quit``.
        """
        from octocli.shell.dotcommands import run_dot_command

        try:
            if piece.is_command:
                run_dot_command(self, piece.text)
            else:
                self.worker.run(lambda: self._execute(piece.text))
        except (LeaveShell, Interrupted, BrokenPipeError):
            raise
        except Exception as error:
            raise self._located(error, piece, source) from error

    def _execute(self, sql: str) -> None:
        started = time.perf_counter()
        self.worker.check()
        cursor = self.conn.cursor()
        try:
            cursor.execute(sql)
            self.output.show(cursor)
        finally:
            cursor.close()
        self.output.timed(started)

    def _located(self, error: Exception, piece: Piece, source: str) -> Failure:
        failure = failure_of(error)
        if source and not failure.what.startswith(f"{source}:"):
            failure.what = f"{source}:{piece.line}: {failure.what}"
            shown = first_line(piece.text)
            failure.why = f"{failure.why}, in: {shown}" if failure.why else f"in: {shown}"
        if holds_secret(piece.text) and not isinstance(error, Failure):
            # SQLite's messages may quote the statement: near "…": syntax error
            failure.what = f"{source}:{piece.line}: " if source else ""
            failure.what += f"{type(error).__name__} in a statement that holds a secret"
        return failure
