"""One history: nodes, network and applications in virtual time, every choice from one seed, every promise checked.

``run(seed)`` plays it and raises ``BrokenPromise`` naming the promise (design.md §1). The same seed gives the same
history to the last byte; ``History.digest`` proves it. faults.py has what goes wrong, checks.py the promises.
"""

import asyncio
import hashlib
import os
import random
import shutil
import tempfile
from collections import Counter
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from octodb.model.status import NodeState
from octodb.storage import device_store
from tests.simulation.checks import BrokenPromise, Checks
from tests.simulation.faults import Faults
from tests.simulation.nodes import SimDevice, SimPrimary, SimulatedCrash
from tests.simulation.virtual_loop import Network, Stalled, VirtualLoop
from tests.simulation.workload import SCHEMA, admin_statement, device_statement, mark_of

__all__ = ["BrokenPromise", "History", "run"]

_QUIET_S_MAX = 900.0  # from the end of the faults until everybody must be in sync


class History:
    """One run. ``say`` tells what happens; ``lines`` keeps it when ``keep`` is set."""

    def __init__(self, seed, *, keep=False):
        self.seed = seed
        self.random = random.Random(seed)
        self.counts = Counter()
        self.lines = [] if keep else None
        self._hash = hashlib.sha256()
        self.folder = tempfile.mkdtemp(prefix="octodb-sim-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.users = [10, 20]
        self.checks = Checks(self)
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

    def _synced(self, path):
        """The product has put a WAL on the disk itself."""
        for node in self.nodes:
            if node.path == path:
                node.wal_synced()

    def play(self, told=None):
        """``told(history)``: a coroutine that plays instead of chance, once the nodes are there."""
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._loop_failed)
        try:
            with mock.patch.object(device_store, "sync_wal", self._synced):
                self.loop.run_until_complete(self._play(told))
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

    async def _play(self, told):
        r = self.random
        self.primary = SimPrimary(self, "primary")
        self.devices = [
            SimDevice(self, f"device{n}", self.users[n % 2], self.primary) for n in range(r.choice((2, 3, 3, 4)))
        ]
        self.nodes = [self.primary, *self.devices]
        self._wrong = Faults(self)
        for node in self.nodes:
            node.start()
        self.primary.script(SCHEMA)
        if told is not None:
            await told(self)
            return
        self.faults = True
        for _ in range(r.randint(20, 90)):
            await asyncio.sleep(r.choice((0.0, 0.001, 0.01, 0.05, 0.3, 2.0)))
            self._step()
            self._raise_failure()
        await self._settle()
        self.checks.everything()

    def _raise_failure(self):
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    # --- steps ---------------------------------------------------------------------------------------

    def _step(self):
        kinds = [(28, self._device_works), (6, self._admin_works), *self._wrong.steps()]
        self.random.choices([step for _, step in kinds], [weight for weight, _ in kinds])[0]()
        for device in self.devices:
            device.sign_in_again()

    def add_device(self, device):
        self.devices.append(device)
        self.nodes.append(device)

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
                if nonce > node.newest_nonce:
                    node.note_commit(nonce, node.outbox().get(nonce).hash)

    def start(self, node):
        node.start()
        if node.role == "secondary":
            self.checks.survival(node)

    # --- checks on the way ------------------------------------------------------------------------------

    def _observe(self, sender, receiver, data):
        self._hash.update(data)
        self._check(self.checks.on_wire, sender, receiver, data)

    def _check(self, check, *arguments):
        """The engine, in whose midst this is, may take what is raised for an error of its storage."""
        try:
            check(*arguments)
        except BrokenPromise as error:
            self.failure = self.failure or error
            raise

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

    def after_engine_work(self, node, function, result):
        self._check(self.checks.after_engine_work, node, function, result)
        if self.faults and getattr(function, "__name__", "") == "_append" and self.random.random() < 0.05:
            self._wrong.lose_answers()

    # --- the end -------------------------------------------------------------------------------------

    async def _settle(self):
        self.say("the faults are over")
        self.faults = False
        self.network.heal()
        self._wrong.end()
        for node in self.nodes:
            if not node.up:
                self.start(node)
            node.crash_within(None)
        end = self.loop.now + _QUIET_S_MAX
        await self._until_quiet(end)
        before = {}
        for device in self.devices:
            before[device] = device.engine.checking.finished
            device.engine.check_rows()
        await self._until_quiet(end, before)

    async def _until_quiet(self, end, compared=None):
        """``compared``: and every device has since found its rows to be the primary's (P9)."""
        while not all(self._is_quiet(device, compared) for device in self.devices):
            if self.loop.now > end:
                promise = "liveness" if compared is None else "P9"
                raise BrokenPromise(promise, f"after {_QUIET_S_MAX:.0f} quiet seconds: " + self._describe())
            await asyncio.sleep(1.0)
            for device in self.devices:
                device.sign_in_again()
                if device.status.state is NodeState.REVOKED and not device.is_revoked():
                    device.crash()  # a restored primary lets it in again, which it learns when its program is started
                    self.start(device)
            self._raise_failure()

    def _is_quiet(self, device, compared):
        status = device.status
        if device.is_revoked():
            return status.state is NodeState.REVOKED
        head = self.primary.rows("SELECT coalesce(max(seq), 0) FROM _octodb_log")[0][0]
        return (
            status.state is NodeState.IN_SYNC
            and device.identity().ready
            and not device.outbox().nonces()
            and status.log.applied >= head
            and (compared is None or (status.checksum_ok and device.engine.checking.finished > compared[device]))
        )

    def _describe(self):
        return "; ".join(
            f"{device}: {device.status.state}, {device.outbox().count()} pending, at {device.status.log.applied} of"
            f" {device.status.log.head}, equal: {device.status.checksum_ok}, {device.status.last_error}"
            for device in self.devices
        )


def run(seed, *, keep=False, play=None):
    """Play the history of ``seed``, or the coroutine function ``play``, and return it. Raises BrokenPromise, with the
    history as ``.history``."""
    history = History(seed, keep=keep)
    try:
        history.play(play)
    except BaseException as error:
        error.history = history
        raise
    return history
