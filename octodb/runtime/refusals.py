"""What a primary refused, counted by kind, and told to the log ``octodb``: without secrets, and not once for each.

A line says the kind, how often since the last line of that kind, the address or node, and our own reason. What an
attacker sent is no part of it but by names that are shortened and made printable.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

__all__ = ["KINDS", "Refusals"]

KINDS: Final = (
    "connections",
    "crowded_out",
    "timeouts",
    "protocol_errors",
    "signatures",
    "sign_ins",
    "sign_ins_too_often",
    "forged",
    "forks",
    "floods",
)
"""docs/limits.md says what each of them counts."""
_LINE_EVERY_S: Final = 10.0
_CHARACTERS_MAX: Final = 200
_log = logging.getLogger("octodb.refusals")
_log.addHandler(logging.NullHandler())  # a library is silent unless its application wants to hear it


class Refusals:
    """The counts of one engine. From its thread; ``counts`` from any."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._told: dict[str, tuple[float, int]] = {}  # kind → when, and the count then

    @property
    def counts(self) -> dict[str, int]:
        return {kind: self._counts[kind] for kind in KINDS}

    def note(self, kind: str, who: str, reason: str, now: float, count: int = 1) -> None:
        """``who``: an address or ``node 7``. ``now``: monotonic seconds."""
        assert kind in KINDS
        self._counts[kind] += count
        told_at, told = self._told.get(kind, (-_LINE_EVERY_S, 0))
        if now - told_at < _LINE_EVERY_S:
            return
        more = self._counts[kind] - told
        self._told[kind] = (now, self._counts[kind])
        _log.warning("refused %s: %s: %s%s", kind, who, _printable(reason), f" ({more} times)" if more > 1 else "")


def _printable(text: str) -> str:
    """One line of it, in which nothing can pass for another line."""
    return "".join(c if c.isprintable() else "?" for c in text[:_CHARACTERS_MAX])
