"""One history: nodes, network and applications in virtual time, every choice from one seed, every promise checked.

``run(seed)`` plays it and raises ``BrokenPromise`` naming the promise (design.md §1). The same seed gives the same
history to the last byte; ``History.digest`` proves it.
"""

import asyncio
import hashlib
import os
import random
import shutil
import tempfile
from collections import Counter

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octodb.model.status import NodeState
from octodb.model.transactions import body_hash
from octodb.storage.device_store import DeviceStore
from octodb.storage.shapes import Shapes
from tests.simulation.nodes import SimDevice, SimPrimary, SimulatedCrash
from tests.simulation.oracle import Oracle, log_is_sound
from tests.simulation.virtual_loop import Network, Stalled, VirtualLoop
from tests.simulation.workload import SCHEMA, admin_statement, device_statement, mark_of

__all__ = ["BrokenPromise", "History", "run"]

_QUIET_S_MAX = 900.0  # from the end of the faults until everybody must be in sync
_LISTED = (
    "SELECT type, name, sql FROM sqlite_schema WHERE name NOT GLOB '_octodb_*' AND name NOT GLOB 'sqlite_*'"
    " AND name NOT GLOB 'private_*'"
)


class BrokenPromise(AssertionError):
    """``promise``: 'P1' … 'P10' or 'liveness'."""

    def __init__(self, promise, text):
        super().__init__(f"{promise}: {text}")
        self.promise = promise


def promised(promise, condition, text):
    if not condition:
        raise BrokenPromise(promise, text() if callable(text) else text)


class History:
    """One run. ``say`` tells what happens; ``lines`` keeps it when ``keep`` is set."""

    def __init__(self, seed, *, keep=False):
        self.seed = seed
        self.random = random.Random(seed)
        self.counts = Counter()
        self.lines = [] if keep else None
        self._hash = hashlib.sha256()
        self.folder = tempfile.mkdtemp(prefix="octodb-sim-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.network = Network(self.random, self._observe)
        self.loop = VirtualLoop(self.network)
        self.failure = None
        self.faults = False
        self.interleaving = False

    @property
    def digest(self):
        return self._hash.hexdigest()

    def say(self, text):
        line = f"{self.loop.now:12.4f}  {text}"
        self._hash.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def count(self, what):
        self.counts[what] += 1

    def public_key(self, private):
        key = Ed25519PrivateKey.from_private_bytes(private).public_key()
        return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    # --- the run -------------------------------------------------------------------------------------

    def play(self):
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._loop_failed)
        try:
            self.loop.run_until_complete(self._play())
        except Stalled:
            raise BrokenPromise("liveness", "nothing happens any more, and nobody waits for a time") from None
        finally:
            self._close()
        if self.failure is not None:
            raise self.failure

    def _loop_failed(self, _loop, context):
        error = context.get("exception")
        if isinstance(error, Exception) and self.failure is None:
            self.failure = error

    def _close(self):
        for node in getattr(self, "nodes", ()):
            if node.up:
                node.lines = None
                node.crash()
        for tasks in list(self.loop.tasks_of.values()):
            for task in list(tasks):
                task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _play(self):
        r = self.random
        self.users = [10, 20]
        self.primary = SimPrimary(self, "primary")
        self.devices = [
            SimDevice(self, f"device{n}", self.users[n % 2], self.primary) for n in range(r.choice((2, 3, 3, 4)))
        ]
        self.nodes = [self.primary, *self.devices]
        for node in self.nodes:
            node.start()
        self.primary.script(SCHEMA)
        self.faults = True
        for _ in range(r.randint(20, 90)):
            await asyncio.sleep(r.choice((0.0, 0.001, 0.01, 0.05, 0.3, 2.0)))
            self._step()
            self._raise_failure()
        await self._settle()
        self._check_everything()

    def _raise_failure(self):
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    # --- steps ---------------------------------------------------------------------------------------

    def _step(self):
        r = self.random
        kinds = [
            (14, self._device_works),
            (3, self._admin_works),
            (2, self._break_a_line),
            (1, self._part_somebody),
            (1, self._slow_down),
            (2, self._kill_somebody),
            (2, self._kill_in_the_middle),
            (4, self._start_somebody),
        ]
        r.choices([step for _, step in kinds], [weight for weight, _ in kinds])[0]()

    def _device_works(self):
        device = self.random.choice(self.devices)
        if not device.up or not device.identity().ready:
            return
        try:
            self._transaction(device, lambda: device_statement(self.random, mark_of(device.user_id)))
        except SimulatedCrash:
            self.count("killed in an application's transaction")

    def _admin_works(self):
        if not self.primary.up:
            return
        try:
            self._transaction(self.primary, lambda: admin_statement(self.random, self.users))
        except SimulatedCrash:
            self.count("primary killed in its own transaction")

    def _transaction(self, node, statement):
        """One statement in autocommit, or several between BEGIN and COMMIT with savepoints and second thoughts."""
        r = self.random
        if r.random() < 0.5:
            self._one(node, *statement())
            self._committed(node)
            return
        if not node.attempt("BEGIN"):
            return
        depth = 0
        for _ in range(r.randint(1, 5)):
            if not node.app.db.in_transaction:
                break
            choice = r.random()
            if choice < 0.12:
                depth += node.attempt("SAVEPOINT s")
            elif choice < 0.18 and depth:
                node.attempt("ROLLBACK TO s")
            elif choice < 0.24 and depth:
                depth -= node.attempt("RELEASE s")
            else:
                self._one(node, *statement())
        if node.app.db.in_transaction and not (r.random() < 0.85 and node.attempt("COMMIT")):
            node.attempt("ROLLBACK")
        self._committed(node)

    def _one(self, node, sql, bindings):
        done = node.attempt(sql, bindings)
        self.say(f"{node}: {sql} {bindings!r:.80}{'' if done else '  (refused)'}")

    def _committed(self, node):
        """COMMIT returned: from now on the transaction must survive (P1)."""
        if node.role == "secondary":
            for nonce in node.outbox().nonces():
                if nonce not in node.committed_bodies:
                    node.committed_bodies[nonce] = node.outbox().get(nonce).hash

    # --- faults --------------------------------------------------------------------------------------

    def _break_a_line(self):
        links = self.network.live_links()
        if links and self.network.cut(self.random.choice(links)):
            self.count("line cut")
            self.say("a line breaks")

    def _part_somebody(self):
        device = self.random.choice(self.devices)
        duration_s = self.random.choice((1.0, 15.0, 60.0))
        self.network.part(device, self.primary, duration_s)
        self.count("partition")
        self.say(f"{device} and the primary are apart for {duration_s} s")

    def _slow_down(self):
        self.network.slow_until = self.loop.now + self.random.choice((1.0, 10.0))
        self.count("slow network")

    def _kill_somebody(self):
        node = self.random.choice(self.nodes)
        if node.up:
            node.crash()
            self.count(f"{node.role} killed")

    def _kill_in_the_middle(self):
        node = self.random.choice(self.nodes)
        if node.up:
            node.crash_within(self.random.choice((0, 1, 2, 3, 5, 8, 13, 30, 80)))
            self.count(f"{node.role} killed at a statement")

    def _start_somebody(self):
        down = [node for node in self.nodes if not node.up]
        if down:
            self._start(self.random.choice(down))

    def _start(self, node):
        node.start()
        if node.role == "secondary":
            self._check_survival(node)

    # --- checks on the way ------------------------------------------------------------------------------

    def _observe(self, sender, receiver, data):
        self._hash.update(data)
        device = receiver if receiver.role == "secondary" else sender
        for user in self.users:
            if user != device.user_id:
                promised(
                    "P5", mark_of(user).encode() not in data, f"bytes of user {user} between {sender} and {receiver}"
                )
        promised("P6", b"local\xc2\xb7" not in data, f"a local row on the wire from {sender}")
        promised("P5", b"private\xc2\xb7" not in data, f"a private row on the wire from {sender}")

    def between_statements(self, node):
        """The engine is between two transactions: an application of another thread or process may just commit."""
        if self.faults and self.random.random() < 0.01 and not self.interleaving:
            self.interleaving = True
            try:
                if not node.app.db.in_transaction and node.identity().ready:
                    self.count("committed between two statements of the engine")
                    if node.role == "primary":
                        self._one(node, *admin_statement(self.random, self.users))
                    else:
                        self._one(node, *device_statement(self.random, mark_of(node.user_id)))
                        self._committed(node)
            finally:
                self.interleaving = False

    def before_engine_work(self, node):
        return None

    def after_engine_work(self, node, function, before, result):
        if node.role == "secondary" and getattr(function, "__func__", None) is DeviceStore.bring_in:
            self.count("brought in")
            self.counts["rejected"] += len(result.rejected)
            self.counts["accepted"] += len(result.accepted)
            seen = getattr(node, "seen_cursor", 0)
            promised("P8", result.cursor.seq >= seen, f"the cursor of {node} went from {seen} to {result.cursor.seq}")
            node.seen_cursor = result.cursor.seq
            self.say(f"{node} is at {result.cursor.seq}")

    def _check_survival(self, device):
        """P1: what COMMIT had returned for is in the file; P2: what is there has the same body as then."""
        outbox = device.outbox()
        last = outbox.last_nonce()
        newest = max(device.committed_bodies, default=0)
        promised(
            "P1", last >= newest, f"{device} had committed {newest} transactions; after kill -9 it knows of {last}"
        )
        promised("P1", last <= newest + 1, f"{device} committed {newest} transactions and finds {last}")
        if last == newest + 1 and (row := outbox.get(last)) is not None:
            device.committed_bodies[last] = row.hash  # killed between COMMIT and its return

    # --- the end -------------------------------------------------------------------------------------

    async def _settle(self):
        self.say("the faults are over")
        self.faults = False
        self.network.heal()
        for node in self.nodes:
            if not node.up:
                self._start(node)
            node.crash_within(None)
        end = self.loop.now + _QUIET_S_MAX
        while not all(self._is_quiet(device) for device in self.devices):
            if self.loop.now > end:
                raise BrokenPromise("liveness", f"after {_QUIET_S_MAX:.0f} quiet seconds: " + self._describe())
            await asyncio.sleep(1.0)
            self._raise_failure()

    def _is_quiet(self, device):
        status = device.status
        head = self.primary.rows("SELECT coalesce(max(seq), 0) FROM _octodb_log")[0][0]
        return (
            status.state is NodeState.IN_SYNC
            and device.identity().ready
            and not device.outbox().nonces()
            and status.log.applied >= head
        )

    def _describe(self):
        return "; ".join(
            f"{device}: {device.status.state}, {device.outbox().count()} pending, at {device.status.log.applied} of"
            f" {device.status.log.head}, {device.status.last_error}"
            for device in self.devices
        )

    def _check_everything(self):
        log = self.primary.rows("SELECT id, seq, owner, origin, nonce, hash, body FROM _octodb_log")
        log.sort(key=lambda row: row[0])
        log_is_sound([(seq, origin, nonce, digest, body) for _, seq, _, origin, nonce, digest, body in log])
        oracle = Oracle()
        oracle.replay([(seq, owner, nonce, body) for _, seq, owner, _, nonce, _, body in log])
        tables = self._replicated(self.primary)
        for table in tables:
            expected = oracle.rows(table)
            found = self.primary.rows(f"SELECT * FROM {table} WHERE row_owner IS NOT NULL")
            promised(
                "P3", found == expected, lambda t=table, f=found, e=expected: f"primary's {t}: {_difference(f, e)}"
            )
        for device in self.devices:
            self._check_device(device, log, tables)

    def _replicated(self, node):
        return [shape.name for shape in Shapes.read(node.onlooker()).replicated()]

    def _check_device(self, device, log, tables):
        promised(
            "P10",
            device.rows(_LISTED) == self.primary.rows(_LISTED),
            lambda: f"{device}: {_difference(device.rows(_LISTED), self.primary.rows(_LISTED))}",
        )
        for table in tables:
            found = device.rows(f"SELECT * FROM {table} WHERE row_owner IS NOT NULL")
            expected = self.primary.rows(f"SELECT * FROM {table} WHERE row_owner IN ('*', ?)", device.user_id)
            promised(
                "P4", found == expected, lambda t=table, f=found, e=expected: f"{device}'s {t}: {_difference(f, e)}"
            )
        node_id = device.identity().node_id
        accepted = {nonce: digest for _, _, _, origin, nonce, digest, _ in log if origin == node_id and nonce}
        rejected = {row.nonce: row for row in device.outbox().rejected()}
        promised(
            "P2",
            not accepted.keys() & rejected.keys(),
            f"{device}: two verdicts on {accepted.keys() & rejected.keys()}",
        )
        for nonce, digest in device.committed_bodies.items():
            promised("P7", nonce in accepted or nonce in rejected, f"{device}: nothing is known of transaction {nonce}")
            if nonce in accepted:
                promised(
                    "P2", accepted[nonce] == digest, f"{device}: transaction {nonce} is another one on the primary"
                )
            else:
                promised(
                    "P2", body_hash(rejected[nonce].body) == digest, f"{device}: dead letter {nonce} has another body"
                )
                promised("P7", rejected[nonce].rejection.message, f"{device}: {nonce} was rejected without a reason")
        promised(
            "P2", accepted.keys() | rejected.keys() <= device.committed_bodies.keys(), f"{device}: unknown transactions"
        )
        self._check_files(device)

    def _check_files(self, device):
        for suffix in ("", "-wal"):
            if os.path.exists(device.path + suffix):
                with open(device.path + suffix, "rb") as file:
                    data = file.read()
                for user in self.users:
                    if user != device.user_id:
                        promised("P5", mark_of(user).encode() not in data, f"rows of user {user} in {device}'s file")
        marks = self.primary.rows("SELECT mark FROM item WHERE mark = 'local·' AND row_owner IS NOT NULL")
        promised("P6", not marks, "a local row reached the primary")


def _difference(found, expected):
    missing = [row for row in expected if row not in found]
    extra = [row for row in found if row not in expected]
    return f"lacks {missing[:3]!r}, has {extra[:3]!r}"


def run(seed, *, keep=False):
    """Play the history of ``seed`` and return it. Raises BrokenPromise, with the history as ``.history``."""
    history = History(seed, keep=keep)
    try:
        history.play()
    except BaseException as error:
        error.history = history
        raise
    return history
