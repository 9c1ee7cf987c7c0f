"""Chooses how a shell runs: scripts where SQL is given or nobody is at a terminal, else the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from octocli.feed import StatusFeed
from octocli.shell.script import run_scripts
from octocli.shell.session import ShellSession
from octocli.shell.worker import Interrupted
from octocli.target import Target
from octocli.terminal import Terminal

if TYPE_CHECKING:
    import octodb

__all__ = ["run_shell"]


def run_shell(
    conn: octodb.Connection,
    target: Target,
    terminal: Terminal,
    *,
    feed: StatusFeed | None,
    commands: Sequence[str] = (),
    file: str | None = None,
) -> None:
    """Run ``commands``, then ``file``; with neither, the interactive loop or standard input.

    Raises Failure at the first error of a script, KeyboardInterrupt when Ctrl-C stopped one.
    """
    session = ShellSession(conn, target, terminal, feed=feed)
    try:
        if commands or file is not None:
            run_scripts(session, commands, file)
        elif terminal.interactive:
            from octocli.shell.repl import run_loop

            run_loop(session)
        else:
            run_scripts(session, (), "-")
    except Interrupted:
        raise KeyboardInterrupt from None
    finally:
        session.close()
