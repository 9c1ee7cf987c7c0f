"""A key or passphrase that must not show: not in a repr, an error, a log or a traceback."""

from __future__ import annotations

import hmac

__all__ = ["Secret"]


class Secret:
    """Holds bytes; ``reveal`` gives them to what uses them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)
