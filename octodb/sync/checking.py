"""Comparing a device's rows with the primary's, and mending what differs: the decisions, without IO (design.md §11).

One part of ``DeviceSync``. It asks for sums at the device's position when the device is quiet. Where they differ, the
primary cuts the range by its keys, until the ranges that differ are small, and only their rows are fetched. Anything
that moves meanwhile ends the round; the next quiet moment begins another.

=========  =======================================================  ============
step       what ends it                                             next
=========  =======================================================  ============
idle       quiet, and it is time                                    tables
tables     Sums of all tables, then ours: equal / different         idle / parts
parts      Sums of the parts of a range, then ours                  rows / parts
rows       RangeRows, stored; nothing left: compare once more       tables
=========  =======================================================  ============
"""

from __future__ import annotations

from typing import Any, Final

from octodb.sync.effects import Effect, Notify, ReadSums, RepairRange, Send
from octodb.wire.messages import AskRows, AskSums, RangeRows, Sums

__all__ = ["Checking"]

# After a download, a reconnection or a change the device waits for a quiet moment; then again only after a while.
_QUIET_S: Final = 2.0
_AGAIN_AFTER_S: Final = 600.0
_ROWS_MAX: Final = 1000  # in one range that is fetched; fewer where they turn out to be large
_PARTS: Final = 16  # into which a primary cuts a range
_ROUNDS_MAX: Final = 5  # of mending, before it is given up and said

_Range = tuple[str, list[Any], list[Any]]  # table, low, high


class Checking:
    """``ok``: None until compared. ``finished``: how many comparisons came to an end; ``mended``: the tables in which
    the last one found something to mend, all of it in order now when ``ok``."""

    def __init__(self) -> None:
        self.ok: bool | None = None
        self.checked_at: float | None = None
        self.different: tuple[str, ...] = ()
        self.mended: tuple[str, ...] = ()
        self.finished = 0
        self._wanted = True
        self._at_once = False
        self._quiet_since: float | None = None
        self._rounds = 0
        self._awaits_answer = False
        self.reset()

    def reset(self) -> None:
        """Something moved: what was under way is worth nothing. An answer that is still to come is let pass before
        anything else is asked: it would be taken for that one's."""
        self._seq = 0
        self._step = "idle"
        self._theirs: list[tuple[str, int, int]] = []
        self._bounds: list[list[Any]] = []
        self._coarse: list[_Range] = []  # to be cut
        self._fine: list[_Range] = []  # to be fetched
        self._range: _Range = ("", [], [])
        self._rows_max = _ROWS_MAX
        self._of_storage: ReadSums | RepairRange | None = None  # what storage was asked last

    def want(self) -> None:
        """Compare at the next quiet moment, whenever the last time was."""
        self.reset()  # what is under way may have begun before what the caller wants to know
        self._wanted = self._at_once = True
        self._rounds = 0

    def connection_lost(self) -> None:
        """No answer will come any more."""
        self._awaits_answer = False
        if self._step != "idle":
            self._give_up_for_now()

    def due_at(self, now: float) -> float | None:
        """When ``begin`` should be called again, provided the device is quiet until then."""
        if self._step != "idle" or self._awaits_answer or self._quiet_since is None:
            return None
        if self._wanted or self.checked_at is None:
            return self._quiet_since + (0.0 if self._at_once else _QUIET_S)
        if self._quiet_since > self.checked_at:
            return max(self._quiet_since + _QUIET_S, self.checked_at + _AGAIN_AFTER_S)
        return None

    def moved(self, now: float, *, quiet: bool) -> None:
        """Rows, queue or connection changed; ``quiet``: the device is in sync again."""
        if self._step != "idle":
            self.reset()
            self._wanted = True
        self._quiet_since = now if quiet else None

    def begin(self, cursor: int, now: float) -> list[Effect]:
        due = self.due_at(now)
        if due is None or now < due:
            return []
        return self._ask(cursor)

    def _ask(self, cursor: int) -> list[Effect]:
        self.reset()
        self._seq, self._step, self._wanted = cursor, "tables", False
        return self._send(AskSums(cursor, "", [], []))

    def _send(self, question: AskSums | AskRows) -> list[Effect]:
        self._awaits_answer = True
        return [Send(question)]

    # --- answers of the primary ------------------------------------------------------------------------

    def sums_came(self, message: Sums) -> list[Effect]:
        self._awaits_answer = False
        if self._step not in {"tables", "parts"} or message.seq not in {0, self._seq}:
            return []
        if not message.seq:
            return self._give_up_for_now()
        self._theirs = [(one[0], one[1], one[2]) for one in message.sums]
        self._bounds = message.bounds
        self._of_storage = ReadSums(self._seq, *self._range, tuple(map(tuple, message.bounds)))
        return [self._of_storage]

    def rows_came(self, message: RangeRows) -> list[Effect]:
        self._awaits_answer = False
        if self._step != "rows" or message.seq not in {0, self._seq}:
            return []
        if not message.seq and self._rows_max > 1:
            # too many, or too large, for one message: cut further. If it is that the log has moved, that will show
            self._rows_max = max(1, self._rows_max // _PARTS)
            self._coarse.append(self._range)
            return self._next()
        if not message.seq:
            return self._give_up_for_now()
        self._of_storage = RepairRange(self._seq, *self._range, tuple(message.columns), message.rows)
        return [self._of_storage]

    def _give_up_for_now(self) -> list[Effect]:
        self.reset()
        self._wanted = True
        return []

    # --- answers of storage ------------------------------------------------------------------------------

    def sums_read(self, asked: ReadSums, ours: list[tuple[str, int, int]] | None, now: float) -> list[Effect]:
        """Our sums at the position asked; None: rows or queue have moved."""
        if asked is not self._of_storage:
            return []  # of a round that has ended
        if ours is None:
            return self._give_up_for_now()
        return self._compare_tables(ours, now) if self._step == "tables" else self._compare_parts(ours)

    def _compare_tables(self, ours: list[tuple[str, int, int]], now: float) -> list[Effect]:
        different = tuple(sorted({one[0] for one in set(ours) ^ set(self._theirs)}))
        was, self.ok, self.different = self.ok, not different, different
        self.checked_at = self._quiet_since = now
        if not different:
            told: list[Effect] = [Notify("repaired", {"tables": list(self.mended)})] if was is False else []
            self.mended = self.mended if self._rounds else ()
            self._finish()
            return [*told, Notify("status", {})]
        self.mended = tuple(sorted({*different, *(self.mended if self._rounds else ())}))
        self._rounds += 1
        reason = f"rows differ from the primary's: {', '.join(different)}"
        told = [Notify("error", {"code": "checksum", "reason": reason}), Notify("status", {})]
        if self._rounds > _ROUNDS_MAX:
            self._finish()
            return told
        self._coarse = [(table, [], []) for table in different]
        return [*told, *self._next()]

    def _finish(self) -> None:
        self.reset()
        self._rounds = 0
        self._at_once = False
        self.finished += 1

    def _compare_parts(self, ours: list[tuple[str, int, int]]) -> list[Effect]:
        table, low, high = self._range
        edges = [low, *self._bounds, high]
        if not len(ours) == len(self._theirs) == len(edges) - 1:
            return self._give_up_for_now()
        for number, (mine, theirs) in enumerate(zip(ours, self._theirs, strict=True)):
            if mine != theirs:
                part = (table, edges[number], edges[number + 1])
                (self._fine if theirs[1] <= self._rows_max else self._coarse).append(part)
        return self._next()

    def repaired(self, asked: RepairRange, done: bool) -> list[Effect]:
        """``done`` False: rows or queue have moved, and nothing was changed."""
        if asked is not self._of_storage:
            return []
        if not done:
            return self._give_up_for_now()
        return self._next()

    def _next(self) -> list[Effect]:
        if self._fine:
            self._range, self._step = self._fine.pop(), "rows"
            return self._send(AskRows(self._seq, *self._range))
        if self._coarse:
            self._range, self._step = self._coarse.pop(), "parts"
            return self._send(AskSums(self._seq, *self._range))
        return self._ask(self._seq)
