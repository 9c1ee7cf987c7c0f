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
# Accounts remembered; each costs an attacker a hash, and by the time this many were tried the oldest has recovered.
_REMEMBERED_MAX: Final = 10_000


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
        while len(self._left) > _REMEMBERED_MAX:
            self._left.popitem(last=False)
