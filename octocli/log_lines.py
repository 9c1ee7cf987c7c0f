"""The lines of the logger ``octodb`` on stderr, for commands that run until they are stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from octocli.terminal import Terminal

__all__ = ["log_lines"]


class _Lines(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.complain(f"octodb: {record.getMessage()}")


@contextmanager
def log_lines(terminal: Terminal) -> Iterator[None]:
    """Print them meanwhile."""
    handler, logger = _Lines(terminal), logging.getLogger("octodb")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
