"""What must be true of the files when all is quiet: everything acknowledged is there once, and nothing else is.

Reads the files past the product, with SQLite alone, but for the dead letters, whose bodies it decodes.
"""

from collections import Counter, defaultdict
from pathlib import Path

import apsw

from octodb.model.transactions import decode_body
from octodb.storage.changesets import iterate
from octodb.storage.meta import Outbox

_TABLES = ("entries", "slots", "scratch")


class Reckoning:
    """``problems``: what is wrong, in words. ``counts``: what was counted on the way."""

    def __init__(self, campaign, statuses, primary=None):
        """``primary``: a connection to look at its file with, as it is in that one's transaction."""
        self.problems, self.counts = [], Counter()
        self._primary, self._devices, self._statuses = campaign.primary, campaign.devices, statuses
        own = {p.name: apsw.Connection(p.path) for p in campaign.programs}
        self._open = own if primary is None else {**own, "primary": primary}
        try:
            self._acks = {p.name: _acknowledged(p.folder, p.name) for p in campaign.programs}
            self._placed = {name: _placed(db) for name, db in self._open.items()}
            self._refused = {d.name: self._dead_letters(d.name) for d in self._devices}
            self._user = {d.name: statuses[d.name]["user_id"] for d in self._devices}
            self._check_files()
            self._check_acknowledged()
            self._check_unacknowledged()
            self._check_equal()
        finally:
            for db in own.values():
                db.close()

    def _problem(self, kind, text):
        self.counts[kind] += 1
        self.problems.append(text)

    # --- the files themselves ------------------------------------------------------------------------

    def _check_files(self):
        for name, db in self._open.items():
            (answer,) = db.execute("PRAGMA integrity_check").fetchone()
            if answer != "ok":
                self._problem("damaged files", f"{name}: {answer}")
            self.counts["files whose integrity was checked"] += 1
        for device in self._devices:
            pending = Outbox(self._open[device.name]).count()
            status = self._statuses[device.name]
            if pending or status["state"] != "in sync" or status["transactions"]["pending"]:
                self._problem("not at rest", f"{device.name}: {pending} in the outbox, {status}")

    def _dead_letters(self, name):
        """Token → reason of each refused transaction."""
        tokens = {}
        for row in Outbox(self._open[name]).rejected():
            for op in decode_body(row.body).ops:
                for _, kind, table, _, new in iterate(op.payload):
                    if table == "entries" and kind == "INSERT":
                        tokens[new[1]] = row.rejection.message
        self.counts["refused, with a reason"] += len(tokens)
        for token, reason in tokens.items():
            if not reason:
                self._problem("refused without a reason", token)
        return tokens

    # --- transactions --------------------------------------------------------------------------------

    def _check_acknowledged(self):
        for name, acks in self._acks.items():
            for token, (kind, parts, owner) in acks.items():
                if kind == "failed":
                    self.counts[f"COMMIT said no ({owner})"] += 1
                    for node, placed in self._placed.items():
                        if token in placed:
                            self._problem("failed and there", f"{token} was an error and is on {node}")
                    continue
                self.counts["transactions acknowledged"] += 1
                if kind == "local":
                    self._check_places(token, parts, {name})
                elif kind == "shared":
                    self._check_places(token, parts, {"primary", *self._devices_of(owner)})
                elif token in self._refused[name]:
                    self._check_places(token, parts, set())
                else:
                    self._check_places(token, parts, {"primary", *self._devices_of(self._user[name])})

    def _devices_of(self, owner):
        return [name for name, user in self._user.items() if owner == "*" or user == int(owner)]

    def _check_places(self, token, parts, wanted):
        """Whole and once on each of the ``wanted`` nodes, not a row of it on any other."""
        for node, placed in self._placed.items():
            found = placed.get(token, [])
            if node not in wanted:
                if found:
                    self._problem("where it must not be", f"{token} is on {node}")
            elif not found:
                self._problem("lost", f"{token} is not on {node}")
            elif len(found) > parts:
                self._problem("duplicates", f"{token} is on {node} more than once: parts {found}")
            elif sorted(found) != list(range(1, parts + 1)):
                self._problem("half transactions", f"{token} of {parts} parts is on {node} with {found}")

    def _check_unacknowledged(self):
        """One transaction of each life may have been committed and not acknowledged: the one that the kill met."""
        everything = set().union(*self._placed.values(), *self._refused.values())
        acknowledged = set().union(*self._acks.values())
        in_flight = defaultdict(list)
        for token in everything - acknowledged:
            name, life, number = token.split(".")
            in_flight[name, life].append(int(number))
        last = defaultdict(lambda: -1)
        for token in acknowledged:
            name, life, number = token.split(".")
            last[name, life] = max(last[name, life], int(number))
        for (name, life), numbers in in_flight.items():
            self.counts["committed, killed before it was acknowledged"] += 1
            if numbers != [last[name, life] + 1]:
                self._problem("made up", f"{name} acknowledged {last[name, life]} in life {life}; there are {numbers}")

    def _check_equal(self):
        """Each device holds the primary's rows for it, and no others but its local ones."""
        for device in self._devices:
            user = self._user[device.name]
            for table in _TABLES:
                sql = f"SELECT * FROM {table} WHERE row_owner IN (?, '*') ORDER BY 1"
                theirs = self._open["primary"].execute(sql, (user,)).fetchall()
                ours = self._open[device.name].execute(f"SELECT * FROM {table} WHERE row_owner IS NOT NULL ORDER BY 1")
                if ours.fetchall() != theirs:
                    self._problem("differing tables", f"{table} of {device.name} is not the primary's")
                self.counts["rows compared"] += len(theirs)


def _acknowledged(folder, name):
    """Token → (kind, parts, owner or error)."""
    acks = {}
    for line in Path(f"{folder}/{name}.acks").read_text().splitlines():
        kind, token, parts, owner = line.split(" ")
        assert token not in acks, line
        acks[token] = kind, int(parts), owner
    return acks


def _placed(db):
    """Token → the parts that are in the file."""
    placed = defaultdict(list)
    for token, part in db.execute("SELECT token, part FROM entries"):
        placed[token].append(part)
    return dict(placed)
