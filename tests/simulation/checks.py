"""The promises of design.md §1, checked on the way and when everything is quiet."""

import os

from octodb.model.status import NodeState
from octodb.model.transactions import body_hash
from octodb.storage.device_store import DeviceStore
from octodb.storage.meta import NodeTable
from octodb.storage.shapes import Shapes
from tests.simulation.oracle import Oracle, log_is_sound
from tests.simulation.workload import mark_of

__all__ = ["BrokenPromise", "Checks", "promised"]

_LISTED = (
    "SELECT type, name, sql FROM sqlite_schema WHERE name NOT GLOB '_octodb_*' AND name NOT GLOB 'sqlite_*'"
    " AND name NOT GLOB 'private_*'"
)
_LOG = "SELECT id, seq, owner, origin, nonce, hash, body FROM _octodb_log WHERE body <> x''"


class BrokenPromise(AssertionError):
    """``promise``: 'P1' … 'P10' or 'liveness'."""

    def __init__(self, promise, text):
        super().__init__(f"{promise}: {text}")
        self.promise = promise


def promised(promise, condition, text):
    if not condition:
        raise BrokenPromise(promise, text() if callable(text) else text)


class Checks:
    """The checks of one history, and what they must remember."""

    def __init__(self, history):
        self._history = history
        self._archive = {}  # storage id → row of the log, for those that were cut off
        self._log_was_restored = False

    # --- on the way ----------------------------------------------------------------------------------

    def on_wire(self, sender, receiver, data):
        device = receiver if receiver.role == "secondary" else sender
        for user in self._history.users:
            if user != device.user_id:
                promised(
                    "P5", mark_of(user).encode() not in data, f"bytes of user {user} between {sender} and {receiver}"
                )
        promised("P6", b"local\xc2\xb7" not in data, f"a local row on the wire from {sender}")
        promised("P5", b"private\xc2\xb7" not in data, f"a private row on the wire from {sender}")

    def after_engine_work(self, node, function, result):
        name = getattr(getattr(function, "__func__", function), "__qualname__", "")
        if name == DeviceStore.store_welcome.__qualname__ or name == DeviceStore.adopt.__qualname__:
            node.former_ids.add(node.identity().node_id)
        if name == DeviceStore.bring_in.__qualname__:
            self._brought_in(node, result)
        elif name == DeviceStore.adopt.__qualname__:
            self._history.count("copy healed")
            kept = {*node.outbox().nonces(), *(row.nonce for row in node.outbox().rejected())}
            node.settled_before = {nonce for nonce in node.committed_bodies if nonce not in kept}
            self._history.say(f"{node} is node {node.identity().node_id} now")
            for row in node.outbox().pending():
                if row.hash != node.committed_bodies.get(row.nonce):
                    self._history.count("body with other row ids")
                    node.committed_bodies[row.nonce] = row.hash
        elif name == DeviceStore.repair.__qualname__:
            self._history.counts["range repaired"] += result
            promised("P4", node.damaged or not result, f"{node}: rows were mended although nobody had damaged them")
        elif name == "_load_part" and result is not None and node.identity().ready and node.role == "secondary":
            self._loaded_part(node, result)

    def _brought_in(self, node, result):
        count = self._history.counts
        count["brought in"] += 1
        count["brought in directly beside a queue"] += result.direct and result.has_pending
        count["rejected"] += len(result.rejected)
        count["rejected with what it builds on"] += sum(one.code == "dependent" for _, one in result.rejected)
        count["accepted"] += len(result.accepted)
        promised(
            "P8",
            result.cursor.seq >= node.seen_cursor,
            f"the cursor of {node} went from {node.seen_cursor} to {result.cursor.seq}",
        )
        node.seen_cursor = result.cursor.seq
        self._history.say(f"{node} is at {result.cursor.seq}")

    def _loaded_part(self, node, result):
        offered, _, tables = result
        if tables:
            self._history.count("downloaded again")
            self._history.counts["offered again"] += offered
            node.seen_cursor = node.cursor()
            self._history.say(f"{node} has downloaded again, up to {node.seen_cursor}; {offered} offered again")

    def survival(self, device):
        """P1: what COMMIT had returned for is in the file; P2: what is there has the same body as then."""
        outbox = device.outbox()
        last = outbox.last_nonce()
        newest = device.newest_nonce
        promised(
            "P1", last >= newest, f"{device} had committed {newest} transactions; after kill -9 it knows of {last}"
        )
        promised("P1", last <= newest + 1, f"{device} committed {newest} transactions and finds {last}")
        if last == newest + 1 and (row := outbox.get(last)) is not None:
            device.note_commit(last, row.hash)  # killed between COMMIT and its return
        for row in outbox.pending():
            promised("P2", body_hash(row.body) == row.hash, f"{device}: the body of {row.nonce} does not fit its hash")
            known = device.committed_bodies.setdefault(row.nonce, row.hash)
            if known != row.hash:
                device.committed_bodies[row.nonce] = row.hash  # killed after it was given other row ids

    def power_was_cut(self, device):
        """A device's last transactions may be lost then (P1); none that was sent, and none is another one now (P2)."""
        last = device.rows_of(
            device.path,
            "SELECT max(coalesce((SELECT max(nonce) FROM _octodb_outbox), 0),"
            " coalesce((SELECT value FROM _octodb_meta WHERE key = 'last_nonce'), 0))"
            if device.has_meta()
            else "SELECT 0",
        )[0][0]
        if last < device.newest_nonce:
            self._history.count("transaction lost with the power")
        for nonce in [nonce for nonce in device.committed_bodies if nonce > last]:
            del device.committed_bodies[nonce]
        device.newest_nonce, device.seen_cursor = last, 0

    # --- the log -------------------------------------------------------------------------------------

    def archive_log(self):
        """Its beginning is about to be cut off."""
        for row in self._history.primary.rows(_LOG):
            self._archive[row[0]] = row

    def log_was_restored(self, path):
        """What a backup lacks has not happened."""
        last_id = self._history.primary.rows_of(path, "SELECT coalesce(max(id), 0) FROM _octodb_log")[0][0]
        self._archive = {row_id: row for row_id, row in self._archive.items() if row_id <= last_id}
        self._log_was_restored = True

    def _log(self):
        whole = dict(self._archive)
        for row in self._history.primary.rows(_LOG):
            whole[row[0]] = row
        return [whole[row_id] for row_id in sorted(whole)]

    # --- when everything is quiet --------------------------------------------------------------------

    def everything(self):
        primary = self._history.primary
        log = self._log()
        log_is_sound([(seq, origin, nonce, digest, body) for _, seq, _, origin, nonce, digest, body in log])
        oracle = Oracle()
        oracle.replay([(seq, owner, nonce, body) for _, seq, owner, _, nonce, _, body in log])
        tables = [shape.name for shape in Shapes.read(primary.onlooker()).replicated()]
        for table in tables:
            expected = oracle.rows(table)
            found = primary.rows(f"SELECT * FROM {table} WHERE row_owner IS NOT NULL")
            promised(
                "P3", found == expected, lambda t=table, f=found, e=expected: f"primary's {t}: {_difference(f, e)}"
            )
        marks = primary.rows("SELECT mark FROM item WHERE mark = 'local·' AND row_owner IS NOT NULL")
        promised("P6", not marks, "a local row reached the primary")
        self._kept_up(primary)
        self._history.counts["displaced"] += primary.displaced()
        served = [device.identity().node_id for device in self._history.devices if not device.is_revoked()]
        promised("P2", len(served) == len(set(served)), f"two files have one identity: {served}")
        for device in self._history.devices:
            self._history.counts["displaced"] += device.displaced()
            if device.is_revoked():
                promised("P5", device.status.state is NodeState.REVOKED, f"{device} was revoked and is served")
            elif device.is_ready():
                self._rows_and_schema(device, tables)
                if not device.damaged:
                    self._kept_up(device)
            self._verdicts(device, log)
            self._files(device)

    def _kept_up(self, node):
        """Triggers keep a local table and a full-text index up with every row of a table, whoever wrote it."""
        expected = node.rows("SELECT id, name FROM item")
        for source in ("SELECT item, name FROM list", "SELECT rowid, name FROM words"):
            found = node.rows(source)
            promised("P6", found == expected, lambda f=found, q=source: f"{node}, {q}: {_difference(f, expected)}")

    def _rows_and_schema(self, device, tables):
        primary = self._history.primary
        promised(
            "P10",
            device.rows(_LISTED) == primary.rows(_LISTED),
            lambda: f"{device}: {_difference(device.rows(_LISTED), primary.rows(_LISTED))}",
        )
        for table in tables:
            found = device.rows(f"SELECT * FROM {table} WHERE row_owner IS NOT NULL")
            expected = primary.rows(f"SELECT * FROM {table} WHERE row_owner IN ('*', ?)", device.user_id)
            promised(
                "P4", found == expected, lambda t=table, f=found, e=expected: f"{device}'s {t}: {_difference(f, e)}"
            )

    def _verdicts(self, device, log):
        """P2, P7: each transaction is in the log once, or is a dead letter with a reason, or waits (of a revoked
        device)."""
        node_id = device.identity().node_id
        family = {node_id, *NodeTable(self._history.primary.onlooker()).family(node_id), *device.former_ids}
        shared = any(family & other.former_ids for other in self._history.devices if other is not device)
        alone = len(family) == 1 and not shared
        accepted = {}
        for _, seq, _, origin, nonce, digest, _ in log:
            if nonce and origin in family:
                accepted.setdefault((nonce, digest), []).append((origin, seq))
        rejected = {row.nonce: row for row in device.outbox().rejected()}
        pending = {*device.outbox().nonces(), *(row[0] for row in device.outbox().sent())}
        pending = pending if device.is_revoked() else set()  # a primary restored since will not hear of them
        for nonce, digest in device.committed_bodies.items():
            if self._log_was_restored and nonce in device.settled_before:
                continue  # what was accepted under an earlier identity cannot be offered again
            found = accepted.get((nonce, digest), ())
            promised(
                "P7",
                found or nonce in rejected or nonce in pending,
                f"{device}: nothing is known of transaction {nonce}",
            )
            promised("P2", len(found) <= 1, f"{device}: transaction {nonce} took effect at {found}")
            promised("P2", not (alone and found and nonce in rejected), f"{device}: two verdicts on {nonce}")
        for nonce, row in rejected.items():
            reason = row.rejection.message
            promised("P7", reason, f"{device}: {nonce} was rejected without a reason")
            promised("P7", "disk" not in reason, f"{device}: {nonce} was rejected for no fault of its own: {reason}")
            same = device.committed_bodies.get(nonce) == body_hash(row.body)
            promised("P2", same or not alone, f"{device}: dead letter {nonce} has another body")
        if alone and not device.was_restored:
            unknown = [nonce for nonce, _ in accepted if nonce not in device.committed_bodies]
            promised("P2", not unknown, f"{device}: unknown transactions {unknown}")

    def _files(self, device):
        for suffix in ("", "-wal"):
            if os.path.exists(device.path + suffix):
                with open(device.path + suffix, "rb") as file:
                    data = file.read()
                for user in self._history.users:
                    if user != device.user_id:
                        promised("P5", mark_of(user).encode() not in data, f"rows of user {user} in {device}'s file")


def _difference(found, expected):
    missing = [row for row in expected if row not in found]
    extra = [row for row in found if row not in expected]
    return f"lacks {missing[:3]!r}, has {extra[:3]!r}"
