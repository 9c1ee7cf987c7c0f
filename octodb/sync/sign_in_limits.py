"""How often a sign-in may fail: by device key and by address, with a delay that grows. No clock of its own.

A key costs an attacker nothing, so it is the address that holds him up; the key holds up who has many addresses and one
device. An attempt counts from the moment it is asked, so that a hundred at once are no way around. One that succeeds
is taken back, and does not clear what others at the same address have tried.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

__all__ = ["FAILURES_OF_ADDRESS", "SignInLimits"]

_KEY_FREE: Final = 5
_KEY_DELAY_S_MAX: Final = 900.0
# An office behind one address has people who mistype, and should not be locked out for long by one of them.
# PRAGMA sign_in_limit says otherwise, for primaries behind something that hides where their devices are.
FAILURES_OF_ADDRESS: Final = 20
_ADDRESS_DELAY_S_MAX: Final = 60.0
_FORGOTTEN_AFTER_S: Final = 900.0
# Answers that are still being looked for: hashing a password takes tens of milliseconds.
_UNDERWAY_OF_ADDRESS_MAX: Final = 128
_REMEMBERED_MAX: Final = 50_000


@dataclass(slots=True)
class _Record:
    """``failed``: attempts without success since it was last forgotten. ``underway``: of those, without an answer."""

    failed: int = 0
    underway: int = 0
    newest: float = 0.0


class _Book:
    """The records of one kind of subject, the least recently tried first."""

    def __init__(self, free: int, delay_s_max: float) -> None:
        self.free, self._delay_s_max = free, delay_s_max
        self._records: OrderedDict[bytes | str, _Record] = OrderedDict()

    def get(self, subject: bytes | str, now: float) -> _Record:
        record = self._records.get(subject)
        if record is None or (now - record.newest > _FORGOTTEN_AFTER_S and not record.underway):
            record = _Record(newest=now)
        return record

    def keep(self, subject: bytes | str, record: _Record) -> None:
        self._records[subject] = record
        self._records.move_to_end(subject)
        while len(self._records) > _REMEMBERED_MAX:
            self._records.popitem(last=False)

    def wait_s(self, record: _Record, now: float) -> float:
        beyond = record.failed - record.underway - self.free
        if beyond < 0:
            return 0.0
        delay_s = min(self._delay_s_max, 2.0 ** min(beyond, 30))
        return max(0.0, record.newest + delay_s - now)


class SignInLimits:
    """Shared by all sessions of a primary."""

    def __init__(self) -> None:
        self._keys = _Book(_KEY_FREE, _KEY_DELAY_S_MAX)
        self._addresses = _Book(FAILURES_OF_ADDRESS, _ADDRESS_DELAY_S_MAX)

    def limit_addresses(self, free: int) -> None:
        """``free``: how many failures an address has before it waits; 0: addresses are not limited."""
        self._addresses.free = free

    def ask(self, key: bytes, address: str, now: float) -> float:
        """Somebody wants to sign in. 0: the attempt may be made, and counts; else seconds that are to be waited."""
        of_key, of_address = self._keys.get(key, now), self._addresses.get(address, now)
        wait_s = self._keys.wait_s(of_key, now)
        if self._addresses.free:
            wait_s = max(wait_s, self._addresses.wait_s(of_address, now))
            if of_address.underway >= _UNDERWAY_OF_ADDRESS_MAX:
                wait_s = max(wait_s, 1.0)
        if wait_s > 0:
            return wait_s
        for book, subject, record in ((self._keys, key, of_key), (self._addresses, address, of_address)):
            record.failed += 1
            record.underway += 1
            record.newest = now
            book.keep(subject, record)
        return 0.0

    def answered(self, key: bytes, address: str, now: float, *, failed: bool) -> None:
        """The attempt has its answer. ``failed`` False: it succeeded, or its maker could do nothing about it."""
        for book, subject in ((self._keys, key), (self._addresses, address)):
            record = book.get(subject, now)
            record.underway = max(0, record.underway - 1)
            if not failed:
                record.failed = max(0, record.failed - 1)
            book.keep(subject, record)
