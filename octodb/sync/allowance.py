"""How often something may be asked for: so many at once, and then at a steady rate. No clock of its own."""

from __future__ import annotations

__all__ = ["Allowance"]


class Allowance:
    """``burst`` requests may come at once; ``per_s`` come back each second."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")  # a primary has one for each connection

    def __init__(self, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left = burst
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more is allowed."""
        if self._at is not None:
            self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def full(self, now: float) -> bool:
        """Whether nothing was asked for lately: it need not be remembered."""
        return self._at is None or self._left + (now - self._at) * self._per_s >= self._burst
