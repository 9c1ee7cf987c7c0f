"""Simulated nodes: the real engines and the real storage on real files, which can be killed at any statement.

A crash takes the database and its WAL as they are at that moment, as kill -9 leaves them, and the node goes on from
that copy. What an application does runs through ``NodeStatements`` on connections of its own, as in a program.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil

import apsw

from octodb.errors import Error
from octodb.log.embedded_log import AdminAppender, EmbeddedLog
from octodb.model.identities import NODE_ID_MAX, PROVISIONAL_ID_MIN, Identity, Role
from octodb.model.node_uri import parse_node_uri
from octodb.runtime.device_engine import DeviceEngine
from octodb.runtime.primary_engine import PrimaryEngine
from octodb.runtime.surroundings import Surroundings
from octodb.sql.statements import classify, split_script
from octodb.storage.database import (
    FileNotice,
    NodeSeed,
    connect_file,
    engine_connection,
    open_node_file,
    reading_connection,
)
from octodb.storage.meta import Meta, NodeTable, Outbox
from octodb.storage.node_statements import NodeStatements
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.recording import DeviceRecorder, PrimaryRecorder
from octodb.sync.primary import Decision
from tests.simulation.virtual_loop import NODE


class SimulatedCrash(BaseException):
    """The process is killed here: nothing after this line happened."""


class SimStorage:
    """A storage thread in virtual time: one piece of work after the other, each taking a moment."""

    def __init__(self, node):
        self._node = node
        self._turn = asyncio.Lock()

    async def run(self, function, *arguments):
        async with self._turn:
            slow = self._node.world.loop.now < self._node.slow_until
            await asyncio.sleep(self._node.world.random.choice((0.5, 2.0) if slow else (0.0, 0.0001, 0.002)))
            return await self._node.engine_work(function, arguments)

    async def run_patiently(self, function, *arguments):
        while True:
            try:
                return await self.run(function, *arguments)
            except apsw.BusyError:
                await asyncio.sleep(0.05)

    def close(self):
        pass


class SimLock:
    """The engine lock of a file that only one process ever opens."""

    def acquire(self):
        return True

    def release(self):
        pass


class SimSurroundings(Surroundings):
    def __init__(self, node):
        self._node = node

    def monotonic(self):
        return self._node.world.loop.now

    def wall_clock(self):
        return 1_800_000_000.0 + self._node.world.loop.now

    def random_bytes(self, count):
        return self._node.world.random.randbytes(count)

    def jitter(self):
        return self._node.world.random.random()

    def new_keys(self):
        private = self._node.world.random.randbytes(32)
        return private, self._node.world.public_key(private)

    def whereabouts(self, path):
        return self._node.whereabouts

    def node_info(self, public_key, node_type, extra):
        """The same on every machine: one seed, one history."""
        return json.dumps({"public_key": public_key.hex(), "type": node_type, "extra": extra})

    def storage(self, name):
        return SimStorage(self._node)

    def lock(self, path):
        return SimLock()

    def pokes(self, path, poked):
        """One process a node: there is nobody to poke."""
        return

    def engine_connection(self, path, role, key):
        return self._node.connected(engine_connection(path, role, key))

    def reading_connection(self, path, key):
        return self._node.connected(reading_connection(path, key))

    def publish(self, path, status):
        json.dumps(status)

    def withdraw(self, path):
        pass


class SimNode:
    """One node through all its lives. ``up``: its process runs. ``app``: what runs the application's SQL."""

    def __init__(self, world, name, role, parameters):
        self.world, self.name, self.role, self._parameters = world, name, role, parameters
        self._lives = itertools.count()
        self.path = self._next_path()
        self.up = False
        self.app = None
        self.engine = None
        self.events = []
        self._connections = []
        self._crash_in = None  # SQL statements until the crash that was ordered
        self._dead_copy = None
        self._onlooker = None
        self.whereabouts = name  # changes when the file is copied to another place
        self.slow_until = 0.0  # its disk takes its time
        self.synced_bytes = {}  # WAL file → how much of it is on the disk itself
        self.pages_max = 0  # its disk is full: the file has as many and can have no more

    def __repr__(self):
        return self.name

    def _next_path(self):
        folder = f"{self.world.folder}/{self.name}-{next(self._lives)}"
        os.mkdir(folder)
        return f"{folder}/app.db"

    # --- life ----------------------------------------------------------------------------------------

    def start(self):
        """A process opens the file: an application, and the engine."""
        assert not self.up
        self._bury(self.engine)
        self.up = True
        self._dead_copy = None
        self.synced_bytes.setdefault(self.path, 0)
        uri = parse_node_uri(f"file:{self.path}?node={self.role}&{self._parameters}")
        db = self.connected(connect_file(uri, 0.0))
        notice = FileNotice(self.whereabouts, self.world.random.randrange(PROVISIONAL_ID_MIN, NODE_ID_MAX))
        self.values = open_node_file(db, uri, self._seed, notice)
        self.app = NodeStatements(db, self.role, self)
        self.engine = self._new_engine(uri)
        context = NODE.set(self)
        try:
            self.world.loop.create_task(self.engine.start())
        finally:
            NODE.reset(context)
        self.world.say(f"{self} starts")

    def _seed(self):
        private = self.world.random.randbytes(32)
        return NodeSeed(
            private_key=private,
            public_key=self.world.public_key(private),
            database_id=self.world.random.randbytes(16),
            epoch=self.world.random.randbytes(16),
            now=0.0,
        )

    def connected(self, db):
        """Watch the statements of a connection: each is a place to crash."""
        db.set_busy_timeout(0)
        if self.pages_max:
            db.execute(f"PRAGMA max_page_count = {self.pages_max}")
        if self.role == Role.SECONDARY:
            db.execute("PRAGMA wal_autocheckpoint = 0")  # it would sync, too
        db.exec_trace = self._before_statement
        self._connections.append(db)
        return db

    def fill_disk(self):
        """The file cannot grow any more."""
        self.pages_max = 1 + self.onlooker().execute("PRAGMA page_count").fetchone()[0]
        self._limit_pages(self.pages_max)

    def empty_disk(self):
        if self.pages_max:
            self.pages_max = 0
            self._limit_pages(0xFFFFFFFE)

    def _limit_pages(self, count):
        for db in self._connections:
            with contextlib.suppress(apsw.ConnectionClosedError):
                traced, db.exec_trace = db.exec_trace, None
                db.execute(f"PRAGMA max_page_count = {count}")
                db.exec_trace = traced

    def _before_statement(self, cursor, sql, _bindings):
        if self._crash_in is not None:
            self._crash_in -= 1
            if self._crash_in < 0:
                self._crash_in = None
                self.world.say(f"{self} is killed before: {sql[:60]}")
                self._take_dead_copy()
                raise SimulatedCrash
        db = cursor if isinstance(cursor, apsw.Connection) else cursor.connection
        if self.app is not None and db is not self.app.db and not db.in_transaction:
            self.world.between_statements(self)
        return True

    def crash_within(self, statements):
        """Kill the process before its ``statements``-th SQL statement from now."""
        self._crash_in = statements

    def _take_dead_copy(self):
        self._dead_copy = self._next_path()
        self.copy_files(self._dead_copy)

    def replace_file(self, source):
        """Somebody puts another file in the place of this node's, which is down."""
        assert not self.up
        self.path = self._next_path()
        for suffix in ("", "-wal"):
            if os.path.exists(source + suffix):
                shutil.copyfile(source + suffix, self.path + suffix)

    def copy_files(self, target):
        """The file as kill -9, or somebody who copies it, would find it."""
        for suffix in ("", "-wal"):
            if os.path.exists(self.path + suffix):
                shutil.copyfile(self.path + suffix, target + suffix)

    def lose_power(self):
        """As ``crash``, and what was not synced is gone: of a WAL the end. A primary syncs each commit."""
        if self.up and self.role == Role.SECONDARY:
            self._take_dead_copy()
            with contextlib.suppress(FileNotFoundError):
                os.truncate(self._dead_copy + "-wal", self.synced_bytes.get(self.path, 0))
        self.crash()

    def wal_synced(self):
        with contextlib.suppress(FileNotFoundError):
            self.synced_bytes[self.path] = os.path.getsize(self.path + "-wal")

    def crash(self):
        """Kill -9. The node stays down until ``start``."""
        if self.up:
            self.up = False
            self._bury(self.engine)

    def _bury(self, engine):
        """Nothing of the dead process goes on; the file it left is the node's from now on."""
        if engine is None or engine is not self.engine:
            return  # it is buried already
        if self._dead_copy is None:
            self._take_dead_copy()
        self.world.say(f"{self} is down")
        self._crash_in = None
        for task in list(self.world.loop.tasks_of.get(self, ())):
            task.cancel()
        self.world.network.drop_node(self)
        for db in self._connections:
            with contextlib.suppress(apsw.ConnectionClosedError):
                db.exec_trace = None
            db.close(True)
        self._connections.clear()
        shutil.rmtree(os.path.dirname(self.path))
        self.path = self._dead_copy
        self.app = self.engine = self._onlooker = None

    # --- what the engine runs on its storage thread ----------------------------------------------------

    async def engine_work(self, function, arguments):
        if not self.up:
            await asyncio.Future()  # the thread is gone
        try:
            result = function(*arguments)
        except StopIteration:
            raise RuntimeError("no more") from None
        except SimulatedCrash:
            self.up = False
            self.world.loop.call_soon(self._bury, self.engine)  # not now: this very task is one of its
            await asyncio.Future()
        self.world.after_engine_work(self, function, result)
        return result

    # --- NodePort: what an application's statements need ------------------------------------------------

    def identity(self):
        db = engine_connection(self.path, self.role)
        try:
            values = Meta(db).get_all()
        finally:
            db.close()
        return Identity.of(values)

    def committed(self):
        if self.engine is not None and self.engine.wants_poke:
            self.engine.wants_poke = False
            self.world.loop.call_soon(self._poke, self.engine)

    def _poke(self, engine):
        if engine is self.engine:
            context = NODE.set(self)
            try:
                engine.committed()
            finally:
                NODE.reset(context)

    def pragma(self, db, name, argument):
        return None

    def emit(self, event, info):
        if event != "status":
            self.events.append((event, info))

    # --- the application -------------------------------------------------------------------------------

    def execute(self, sql, bindings=()):
        """Run one statement as an application would and return its rows. The process may die of it."""
        cursor = self.app.db.cursor()
        try:
            outcome = self.app.run(cursor, classify(sql), bindings)
            return outcome.rows if outcome is not None and outcome.rows is not None else cursor.fetchall()
        except SimulatedCrash:
            if not self.world.interleaving:
                self.crash()  # otherwise the engine's statement, in whose midst this is, sees to it
            raise

    def attempt(self, sql, bindings=()):
        """As ``execute``, where a refusal is as good as success. False: refused."""
        try:
            self.execute(sql, bindings)
        except (apsw.Error, Error) as error:
            if "_octodb_" in str(error):
                raise AssertionError(f"an application met what is ours: {error}") from error
            self.world.count(f"refused: {type(error).__name__}")
            return False
        return True

    def script(self, sql):
        for text in split_script(sql):
            self.execute(text)

    def rows(self, sql, *bindings):
        """Read the file past the application and the engine: the process cannot die of it."""
        return sorted(self.onlooker().execute(sql, bindings).fetchall(), key=repr)

    def rows_of(self, path, sql):
        """Read a file that no node has open."""
        db = apsw.Connection(path)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def has_meta(self):
        """Whether the file of a node that is down has become one of a node."""
        sql = "SELECT count(*) FROM sqlite_schema WHERE name = '_octodb_meta'"
        return bool(self.rows_of(self.path, sql)[0][0])

    def displaced(self):
        return self.rows("SELECT count(*) FROM _octodb_displaced")[0][0]

    def onlooker(self):
        """A connection for the checks."""
        if self._onlooker is None:
            self._onlooker = apsw.Connection(self.path, flags=apsw.SQLITE_OPEN_READWRITE)
            self._connections.append(self._onlooker)
        return self._onlooker


class _Authorizer:
    """Says yes to everybody, a moment later; the login text is the user id."""

    def __init__(self, world):
        self._world = world

    def ask(self, request, answer):
        self._world.loop.call_later(0.01, answer, Decision("user", user_id=int(request.data)))

    def give_up(self, request):
        pass

    def get(self, name):
        return None


class SimPrimary(SimNode):
    def __init__(self, world, name):
        super().__init__(world, name, Role.PRIMARY, f"bind=tcp://{name}:1&auth=user")

    def _new_engine(self, uri):
        return PrimaryEngine(uri, _Authorizer(self.world), self.emit, SimSurroundings(self))

    def administer(self, work):
        """Run ``work(db)`` as another process would, on a connection of its own. False: the primary died of it."""
        db = self.connected(engine_connection(self.path, Role.PRIMARY))
        self.world.interleaving = True  # this is work of its own: nobody commits in its midst
        try:
            work(db)
        except SimulatedCrash:
            self.crash()
            return False
        finally:
            self.world.interleaving = False
        self._connections.remove(db)
        db.exec_trace = None
        db.close()
        return True

    def cut_log(self, keep_s, keep_entries):
        def work(db):
            log = EmbeddedLog(db, SimSurroundings(self).wall_clock)
            while log.cut(keep_s, keep_entries, 7):
                pass

        return self.administer(work)

    def revoke(self, public_key):
        if NodeTable(self.onlooker()).by_key(public_key) is None:
            return False  # a restored primary does not know every device
        revoked = self.administer(lambda db: PrimaryStore(db, SimSurroundings(self).wall_clock).revoke(public_key))
        if revoked:
            self.committed()
        return revoked

    def recorder(self, db, identity):
        return PrimaryRecorder(db, AdminAppender(db, SimSurroundings(self).wall_clock))


class SimDevice(SimNode):
    """``user_id``: whose it is; it logs in by itself whenever it is asked to."""

    def __init__(self, world, name, user_id, primary):
        super().__init__(world, name, Role.SECONDARY, f"connect=tcp://{primary.name}:1")
        self.user_id = user_id
        self.committed_bodies = {}  # nonce → hash of the body, as COMMIT left it
        self.newest_nonce = 0
        self.seen_cursor = 0
        self.primary = primary
        self.was_restored = False
        self.damaged = False  # also what its triggers keep up: that cannot be mended
        self.former_ids = set()  # node ids it has had
        self.settled_before = set()  # what had its verdict when it was given another identity

    def _new_engine(self, uri):
        engine = DeviceEngine(uri, self.emit, SimSurroundings(self))
        engine.request_login("user_login", str(self.user_id))
        return engine

    def sign_in_again(self):
        """A primary that was restored from a backup may not know this device any more."""
        if self.up and self.status.auth.required:
            self.engine.request_login("user_login", str(self.user_id))

    def recorder(self, db, identity):
        return DeviceRecorder(db, identity, SimSurroundings(self).wall_clock)

    @property
    def status(self):
        return self.engine.status()

    def damage(self, sql):
        """Change rows past the product, when nothing waits to be sent: what a queue changes is not known any more."""
        if self.app.db.in_transaction or self.outbox().nonces():
            return False
        db = apsw.Connection(self.path)
        try:
            db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            db.execute(sql)
            self.damaged = self.damaged or db.changes() > 0
            return db.changes() > 0
        except apsw.Error:
            return False
        finally:
            db.close()

    def note_commit(self, nonce, digest):
        self.committed_bodies[nonce] = digest
        self.newest_nonce = max(self.newest_nonce, nonce)

    def outbox(self):
        return Outbox(self.onlooker())

    def is_revoked(self):
        record = NodeTable(self.primary.onlooker()).by_key(self.public_key())
        return record is not None and record.revoked

    def cursor(self):
        return Meta(self.onlooker()).get("cursor", 0)

    def is_ready(self):
        return self.identity().ready

    def public_key(self):
        return Meta(self.onlooker()).get("public_key")
