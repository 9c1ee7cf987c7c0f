"""Capture: what one connection's open transaction has changed so far, as ops in order.

The state machine is the measured one of sqlite.org/session: a fresh session per transaction, flushed before
SAVEPOINT and DDL, renewed after ROLLBACK TO. It sees every row change because every statement of the application passes
through ``NodeStatements``; it never begins or ends the transaction itself.

==============  =========================================================================
begin           new session; none for a transaction of one statement that tells its rows
savepoint n     flush; mark n at the number of ops; new session where something was flushed
rollback to n   forget the ops above the mark; new session
release n       drop the mark
ddl             flush; the ops up to here are split by owner now (the columns may change); op
commit          flush without closing the session: a failed COMMIT leaves it in use
rollback        forget everything
==============  =========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import apsw

from octodb.model.identities import Role
from octodb.sql.ddl import Ddl
from octodb.sql.tokens import fold_name
from octodb.storage.meta import META_PREFIX
from octodb.storage.shapes import Shapes
from octodb.storage.splitting import SplitChangeset, split_changeset

__all__ = ["Capture", "CapturedDdl", "CapturedOp"]


@dataclass(frozen=True, slots=True)
class CapturedDdl:
    """A schema change, and the row changes that came before it since the last one."""

    text: str
    facts: Ddl
    before: SplitChangeset | None


CapturedOp = SplitChangeset | CapturedDdl


class Capture:
    """The capture of one connection. ``user_id`` is that of the node; both are fixed for a ready node."""

    def __init__(self, db: apsw.Connection, role: Role, user_id: int) -> None:
        self._db = db
        self._role = role
        self._user_id = user_id
        self._active = False
        self._session: apsw.Session | None = None
        self._ops: list[bytes | CapturedDdl] = []
        self._marks: list[tuple[str, int]] = []
        self.shapes = Shapes(-1, {}, frozenset())
        self._wanted_tables: tuple[Shapes, dict[str, bool]] = self.shapes, {}  # a session asks at each first change
        # nothing but plain INSERTs of the own user's rows so far: then there is nothing to look at in the changeset
        self._only_own_inserts = True
        self._told = b""  # what a statement has told of its rows

    @property
    def active(self) -> bool:
        return self._active

    @property
    def marks(self) -> int:
        """How many savepoints are open."""
        return len(self._marks)

    def begin(self, *, watching: bool = True) -> None:
        """``watching`` False: call ``watch`` before the first statement, or ``tell`` what the only one has done."""
        self._active = True
        self._only_own_inserts = True
        self._told = b""
        self._ops.clear()
        self._marks.clear()
        if watching:
            self.renew()

    @property
    def watching(self) -> bool:
        return self._session is not None

    def watch(self) -> None:
        """From here on a session sees what statements do."""
        if self._session is None:
            self.renew()

    def tell(self, changeset: bytes) -> None:
        """The only statement of a transaction that is not watched has added these rows of the own user."""
        self._told = changeset

    def wrote_more_than_own_inserts(self) -> None:
        """A statement ran whose rows may be anybody's: the changeset must be split row by row."""
        self._only_own_inserts = False

    def savepoint(self, name: str) -> None:
        """Call before SAVEPOINT runs."""
        self.flush()
        self._marks.append((fold_name(name), len(self._ops)))

    def rolled_back_to(self, name: str) -> None:
        """Call after ROLLBACK TO succeeded. The savepoint itself stays open."""
        folded = fold_name(name)
        while self._marks and self._marks[-1][0] != folded:
            self._marks.pop()
        if self._marks:
            del self._ops[self._marks[-1][1] :]
        self.renew()

    def released(self, name: str) -> None:
        """Call after RELEASE succeeded."""
        folded = fold_name(name)
        while self._marks and self._marks.pop()[0] != folded:
            pass

    def is_outermost(self, name: str) -> bool:
        """Whether RELEASE ``name`` would release the first savepoint of the transaction."""
        folded = fold_name(name)
        return bool(self._marks) and self._marks[0][0] == folded and all(m[0] != folded for m in self._marks[1:])

    def before_ddl(self) -> SplitChangeset | None:
        """Flush, and split what was changed since the last DDL while its rows still stand."""
        self._only_own_inserts = False
        self.flush()
        return self._split(self._trailing())

    def add_ddl(self, text: str, facts: Ddl, before: SplitChangeset | None) -> None:
        self._ops.append(CapturedDdl(text, facts, before))

    def flush(self) -> None:
        if self._session is not None and (changeset := self._session.changeset()):
            self._ops.append(changeset)
            self.renew()

    def collect(self) -> list[CapturedOp]:
        """The whole transaction split by owner. The session goes on: COMMIT may still fail.

        Raises OwnershipError or DataError, which leave the transaction open for the application to mend.
        """
        last = self._session.changeset() if self._session is not None else self._told
        if self._only_own_inserts and not self._ops:
            return [SplitChangeset({self._user_id: last}, None, b"", ())] if last else []
        found: list[CapturedOp] = []
        for op in self._ops:
            if isinstance(op, CapturedDdl):
                if op.before is not None:
                    found.append(op.before)
                found.append(op)
        rest = self._split([*self._trailing(), last] if last else self._trailing())
        if rest is not None:
            found.append(rest)
        return found

    def end(self) -> None:
        """The transaction is over, whichever way."""
        self._active = False
        if self._session is not None:
            self._session.close()
            self._session = None
        self._ops.clear()
        self._marks.clear()

    def _trailing(self) -> list[bytes]:
        """The changesets flushed since the last DDL."""
        found: list[bytes] = []
        for op in reversed(self._ops):
            if isinstance(op, CapturedDdl):
                break
            found.append(op)
        return found[::-1]

    def _split(self, changesets: list[bytes]) -> SplitChangeset | None:
        if not changesets:
            return None
        whole = changesets[0]
        for changeset in changesets[1:]:
            whole = apsw.Changeset.concat(whole, changeset)
        if not whole:
            return None
        return split_changeset(self._db, self.shapes, whole, self._role, self._user_id)

    def renew(self) -> None:
        """A fresh session: what the old one saw is flushed, or rolled back."""
        if self._session is not None:
            self._session.close()
        self._session = apsw.Session(self._db, "main")
        self._session.table_filter(self._wanted)

    def _wanted(self, table: str) -> bool:
        """Ours, SQLite's and a virtual table's own tables are no part of what the application wrote. A primary has no
        use for local rows; a device keeps them, to undo them with a rejected transaction."""
        if self._wanted_tables[0] is not self.shapes:
            self._wanted_tables = self.shapes, {}
        wanted = self._wanted_tables[1].get(table)
        if wanted is None:
            wanted = self._wanted_tables[1][table] = self._is_wanted(table)
        return wanted

    def _is_wanted(self, table: str) -> bool:
        shape = self.shapes.get(table)
        if shape is not None and self._role is Role.PRIMARY:
            return shape.replicated
        folded = fold_name(table)
        return not (folded.startswith((META_PREFIX, "sqlite_")) or self.shapes.is_shadow(table))
