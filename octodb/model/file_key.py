"""Keys of files and networks, as a URI names them: values that never show themselves in a text (contract.md §2).

Reads no file and no environment; what a key opens is others' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["KEY_SOURCES", "SECRET_PARAMETERS", "FileKey", "Secret"]

KEY_SOURCES: Final = ("key", "hexkey", "key_file")
SECRET_PARAMETERS: Final = frozenset({"key", "hexkey", "network_key"})


class Secret:
    """A key, or where it is. ``source`` is the parameter that named it: one of KEY_SOURCES, or ``network_key``.

    ``reveal()`` alone gives the value: it is in no repr, no str, and it cannot be pickled.
    """

    __slots__ = ("_value", "source")

    def __init__(self, source: str, value: str) -> None:
        assert source in (*KEY_SOURCES, "network_key")
        self.source = source
        self._value = value

    def reveal(self) -> str:
        """A passphrase (key, network_key), hexadecimal digits (hexkey), or a path (key_file)."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def to_bytes(self) -> bytes:
        """What it stands for; not of a path."""
        assert self.source != "key_file"
        return bytes.fromhex(self._value) if self.source == "hexkey" else self._value.encode()

    def __repr__(self) -> str:
        return f"Secret({self.source}=…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self.source, self._value) == (other.source, other._value)

    def __hash__(self) -> int:
        return hash((self.source, self._value))

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")


@dataclass(frozen=True, slots=True)
class FileKey:
    """How a file is encrypted. ``secret``: a passphrase (key) or bytes (hexkey), never where to find them."""

    cipher: str
    secret: Secret
