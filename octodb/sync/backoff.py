"""When to dial which primary again. Pure arithmetic; the jitter is given to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from octodb.model.node_uri import Address

__all__ = ["ServerHealth", "ServerList"]

_FIRST_DELAY_S: Final = 0.2
_DELAY_S_MAX: Final = 30.0


@dataclass(slots=True)
class ServerHealth:
    """One address of ``connect=``. ``failures`` counts since it last worked."""

    address: Address
    failures: int = 0
    last_error: str | None = None
    last_contact: float | None = None


class ServerList:
    """Addresses in order of health: the one that failed least is tried first, ties in the order of the URI.

    A full round of failures is followed by a pause that doubles from 0.2 s to 30 s, cut by up to half at random so that
    devices do not come back all at once.
    """

    def __init__(self, addresses: tuple[Address, ...]) -> None:
        self.servers = [ServerHealth(address) for address in addresses]
        self._rounds = 0
        self._tried: set[int] = set()

    def next(self) -> ServerHealth:
        """The server to dial now."""
        if len(self._tried) == len(self.servers):
            self._tried.clear()
        untried = [i for i in range(len(self.servers)) if i not in self._tried]
        index = min(untried, key=lambda i: (self.servers[i].failures, i))
        self._tried.add(index)
        return self.servers[index]

    def worked(self, server: ServerHealth, now: float) -> None:
        """The server let us in."""
        server.failures = 0
        server.last_error = None
        server.last_contact = now

    def lasted(self) -> None:
        """A connection was good for something: when it is lost, every server may be tried without a pause."""
        self._rounds = 0
        self._tried.clear()

    def failed(self, server: ServerHealth, reason: str, jitter: float) -> float:
        """Note a failure; return how many seconds to wait. ``jitter`` is between 0 and 1."""
        server.failures += 1
        server.last_error = reason
        if len(self._tried) < len(self.servers):
            return 0.0
        self._tried.clear()
        delay = min(_DELAY_S_MAX, _FIRST_DELAY_S * 2.0**self._rounds)
        self._rounds = min(self._rounds + 1, 16)
        return delay * (1 - jitter / 2)
