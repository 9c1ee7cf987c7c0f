"""The judge: replays the primary's log in order on a plain database, with SQLite's own changeset functions.

It shares no code with the engine's applying, so that the two can disagree.
"""

import apsw

from octodb.model.transactions import body_hash, decode_body

__all__ = ["Oracle"]


class Oracle:
    """Rows and schema that the log means."""

    def __init__(self):
        self.db = apsw.Connection(":memory:")
        self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        for name in ("this_user", "this_node", "octo_next_id", "octo_checked_owner"):
            self.db.create_scalar_function(name, lambda *_: 1 / 0)

    def replay(self, entries):
        """``entries``: (seq, owner, nonce, body) in the order of the log."""
        by_position = {}
        for seq, owner, _nonce, body in entries:
            by_position.setdefault(seq, []).append((owner, decode_body(body)))
        for _, parts in sorted(by_position.items()):
            steps = {}
            for owner, body in parts:
                for op in body.ops:
                    steps.setdefault(op.position, []).append((owner, op.payload))
            for _, payloads in sorted(steps.items()):
                self._step(payloads)

    def _step(self, payloads):
        texts = [payload for _, payload in payloads if isinstance(payload, str)]
        changesets = [payload for _, payload in payloads if isinstance(payload, bytes)]
        if changesets:
            builder = apsw.ChangesetBuilder()
            builder.schema(self.db, "main")
            # a row that one stream lets go is taken up by another one: first away, then in
            for wanted in (("DELETE",), ("UPDATE", "INSERT")):
                for changeset in changesets:
                    for change in apsw.Changeset.iter(changeset):
                        if change.op in wanted:
                            builder.add_change(change)
            apsw.Changeset.apply(
                builder.output(), self.db, conflict=self._conflict, flags=apsw.SQLITE_CHANGESETAPPLY_FKNOACTION
            )
        for text in texts:
            self.db.execute(text)

    def _conflict(self, reason, change):
        """A row of another owner counts as missing; the last UPDATE wins; what was accepted meets nothing else."""
        if reason == apsw.SQLITE_CHANGESET_NOTFOUND:
            return apsw.SQLITE_CHANGESET_OMIT
        if reason == apsw.SQLITE_CHANGESET_DATA:
            index = self._owner_index(change.name)
            there, claimed = change.conflict[index], change.old[index]
            same = claimed is apsw.no_change or str(there) == str(claimed)
            return apsw.SQLITE_CHANGESET_REPLACE if same else apsw.SQLITE_CHANGESET_OMIT
        return apsw.SQLITE_CHANGESET_ABORT

    def _owner_index(self, table):
        info = self.db.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0", (table,)).fetchall()
        return [name for (name,) in info].index("row_owner")

    def rows(self, table, owners=None):
        sql = f"SELECT * FROM {table}"
        if owners is not None:
            sql += f" WHERE row_owner IN ({', '.join('?' * len(owners))})"
        return sorted(self.db.execute(sql, owners or ()).fetchall(), key=repr)


def log_is_sound(rows):
    """Each device transaction once, nonces in order, hashes right. ``rows``: (seq, origin, nonce, hash, body)."""
    seen = {}
    for seq, origin, nonce, digest, body in rows:
        assert body_hash(body) == digest, f"the body at {seq} does not fit its hash"
        if nonce is not None:
            assert seen.get(origin, 0) < nonce, (
                f"node {origin}: transaction {nonce} at {seq} comes after {seen[origin]}"
            )
            seen[origin] = nonce
