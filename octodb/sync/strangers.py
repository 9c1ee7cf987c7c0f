"""How many connections a primary bears whose devices it does not serve (yet). Decides; closes nothing itself.

A stranger costs memory and a descriptor and has proved nothing, so each address may have few of them; a device that is
served counts only in all. Where there is no room the oldest stranger of the address that has the most gives way: an
honest handshake takes milliseconds, so it is nearly always an idle one. No newcomer is turned away for the sake of
those who wait, or a crowd of silent connections would lock everybody out.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

__all__ = ["CONNECTIONS_MAX", "Strangers", "network_of"]

_T = TypeVar("_T")
# Whose key is not proved, or not looked up: they are gone after 20 s anyway.
UNPROVED_MAX: Final = 4096
UNPROVED_OF_ADDRESS_MAX: Final = 256
# Whose key is proved and known to nobody: they wait for a sign-in or an admission, some for days.
WAITING_MAX: Final = 10_000
WAITING_OF_ADDRESS_MAX: Final = 1024
# In all, the served ones with them; fewer where the process may not open so many files.
CONNECTIONS_MAX: Final = 100_000


def network_of(host: str) -> str:
    """What counts as one address: of IPv6 the /64, which is the least that a customer gets (RFC 6177)."""
    host = host.partition("%")[0].lower()
    if ":" not in host:
        return host
    tail = host.rpartition(":")[2]
    if "." in tail:  # ::ffff:192.0.2.1 is an IPv4 client of a socket for both
        return tail
    head, gap, rest = host.partition("::")
    groups = [group for group in head.split(":") if group]
    if gap:
        behind = [group for group in rest.split(":") if group]
        groups += ["0"] * (8 - len(groups) - len(behind)) + behind
    return ":".join(group.lstrip("0") or "0" for group in groups[:4]) + "::/64"


class _Pool(Generic[_T]):
    """Connections in the order they came, by address."""

    def __init__(self) -> None:
        self._by_address: dict[str, dict[_T, None]] = {}
        self.count = 0

    def add(self, address: str, one: _T) -> None:
        self._by_address.setdefault(address, {})[one] = None
        self.count += 1

    def remove(self, address: str, one: _T) -> None:
        there = self._by_address.get(address)
        if there is None or one not in there:
            return
        del there[one]
        self.count -= 1
        if not there:
            del self._by_address[address]

    def of(self, address: str) -> int:
        return len(self._by_address.get(address, ()))

    def take_oldest(self, address: str | None = None) -> _T:
        """Remove the oldest of an address; None: of the one that has the most."""
        if address is None:
            address = max(self._by_address, key=lambda one: len(self._by_address[one]))
        oldest = next(iter(self._by_address[address]))
        self.remove(address, oldest)
        return oldest


class Strangers(Generic[_T]):
    """``came``, ``waits``, ``left`` follow each connection; what they return is to be closed."""

    def __init__(self, connections_max: int = CONNECTIONS_MAX) -> None:
        # half of what there is at most, so that strangers never take what devices need
        self._unproved_max = max(1, min(UNPROVED_MAX, connections_max // 4))
        self._waiting_max = max(1, min(WAITING_MAX, connections_max // 4))
        self._unproved: _Pool[_T] = _Pool()
        self._waiting: _Pool[_T] = _Pool()

    def came(self, address: str, one: _T) -> list[_T]:
        """A connection was accepted."""
        self._unproved.add(address, one)
        return self._crowded(self._unproved, address, UNPROVED_OF_ADDRESS_MAX, self._unproved_max)

    def waits(self, address: str, one: _T) -> list[_T]:
        """Its key is proved, and nobody knows it."""
        self._unproved.remove(address, one)
        self._waiting.add(address, one)
        return self._crowded(self._waiting, address, WAITING_OF_ADDRESS_MAX, self._waiting_max)

    def left(self, address: str, one: _T) -> None:
        """It is a device that is known now, or it is gone."""
        self._unproved.remove(address, one)
        self._waiting.remove(address, one)

    def _crowded(self, pool: _Pool[_T], address: str, of_address_max: int, count_max: int) -> list[_T]:
        if pool.of(address) > of_address_max:
            return [pool.take_oldest(address)]
        return [pool.take_oldest()] if pool.count > count_max else []
