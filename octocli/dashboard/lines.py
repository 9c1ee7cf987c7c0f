"""Watching without a screen: one line for each change, or JSON lines, on a stream."""

from __future__ import annotations

import json
import time
from typing import Any, Final, TextIO

from octocli.dashboard.source import StatusSource
from octocli.feed import Status
from octocli.status_text import one_line
from octocli.terminal import Terminal, to_ascii

__all__ = ["json_line", "watch_lines"]

# These move by themselves or with every heartbeat: alone they are no change worth a line.
RESTLESS: Final = frozenset({"rtt_ms", "last_contact_s", "bytes", "engine"})


def watch_lines(
    source: StatusSource,
    name: str,
    terminal: Terminal,
    stream: TextIO,
    *,
    as_json: bool,
    interval_s: float,
    count: int | None,
) -> None:
    """Write the first look and every change after it, until ``count`` lines are written."""
    before: Any = None
    while count is None or count > 0:
        status = source.read()
        if changed_part(status) != before:
            before = changed_part(status)
            text = json_line(status) if as_json else one_line(status, name, [time.strftime("%H:%M:%S")])
            stream.write((text if terminal.unicode or as_json else to_ascii(text)) + "\n")
            stream.flush()
            count = None if count is None else count - 1
            if count == 0:
                return
        _pause(stream, interval_s)


def _pause(stream: TextIO, seconds: float) -> None:
    """Wait. Raises BrokenPipeError when the reader of ``stream`` has left: there may be no change for hours."""
    import select

    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # a stream of a test
        time.sleep(seconds)
        return
    poll = select.poll()
    poll.register(descriptor, 0)  # asks for errors alone
    for _descriptor, event in poll.poll(seconds * 1000):
        if event & select.POLLERR:
            raise BrokenPipeError
        time.sleep(seconds)  # POLLHUP of a terminal that went: writing to it tells


def json_line(status: Status) -> str:
    """One look as one JSON object; ``v`` is the version of this shape."""
    return json.dumps({"v": 1, **status}, ensure_ascii=True)


def changed_part(status: Status) -> Status:
    """The status without what is never still."""
    kept = {name: value for name, value in status.items() if name not in RESTLESS}
    transactions = dict(kept.get("transactions") or {})
    transactions.pop("oldest_pending_s", None)
    return {**kept, "transactions": transactions}
