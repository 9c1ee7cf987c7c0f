"""How often somebody may try to sign in to one account, whoever asks. Has no clock of its own; says nothing of why.

The primary itself slows down a device and an address that fail again and again. This bounds what many of them can try
together: a burst, then one guess a minute. It cannot tell the owner from an attacker, so an attack that goes on keeps
the owner from signing a *new* device in; those that are signed in never ask again. It ends a minute after the attack.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from typing import Final

__all__ = ["AttemptLimit"]

_BURST: Final = 20.0
_ONE_EVERY_S: Final = 60.0
# Accounts remembered, those that have recovered left out. Each costs an attacker a hash, of which there are some tens
# in a second: in the time in which an account recovers they are fewer than this.
_REMEMBERED_MAX: Final = 200_000


class AttemptLimit:
    """Every account, known or not, has 20 attempts, and gets one back each minute. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # attempts left, when

    def take(self, account: str, now_s: float) -> int:
        """0: the attempt may be made, and is counted. Otherwise the seconds to wait; nothing is counted then."""
        with self._lock:
            left, at = self._left.get(account, (_BURST, now_s))
            left = min(_BURST, left + max(0.0, now_s - at) / _ONE_EVERY_S)
            if left < 1.0:
                return math.ceil((1.0 - left) * _ONE_EVERY_S)
            self._keep(account, left - 1.0, now_s)
            return 0

    def give_back(self, account: str) -> None:
        """The attempt succeeded: it was no guess. What others tried stays counted."""
        with self._lock:
            if account in self._left:
                left, at = self._left[account]
                self._keep(account, min(_BURST, left + 1.0), at)

    def _keep(self, account: str, left: float, at_s: float) -> None:
        self._left[account] = (left, at_s)
        self._left.move_to_end(account)
        while self._left and (len(self._left) > _REMEMBERED_MAX or self._oldest_has_recovered(at_s)):
            self._left.popitem(last=False)

    def _oldest_has_recovered(self, now_s: float) -> bool:
        left, at = next(iter(self._left.values()))
        return left + (now_s - at) / _ONE_EVERY_S >= _BURST
