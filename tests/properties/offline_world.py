"""A primary and devices in one thread, without network and clock: what the property tests move messages between."""

import itertools

from octodb.log.embedded_log import AdminAppender, EmbeddedLog, PushedBody, PushRequest
from octodb.model.identities import AuthMode, Identity, Role
from octodb.model.node_uri import parse_node_uri
from octodb.runtime.device_info import new_node_seed
from octodb.sql.statements import classify, split_script
from octodb.storage.database import connect_file, engine_connection, open_node_file
from octodb.storage.device_store import DeviceStore, Incoming, IncomingEntry
from octodb.storage.meta import Meta, Outbox
from octodb.storage.node_statements import NodeStatements
from octodb.storage.primary_store import PrimaryStore
from octodb.storage.recording import DeviceRecorder, PrimaryRecorder
from octodb.storage.snapshot import SnapshotReader
from octodb.sync.push_window import PushWindow

CLOCK = itertools.count(1)


def clock():
    return float(next(CLOCK))


class Port:
    """What NodeStatements needs of a node whose engine is the test."""

    def __init__(self, path, role):
        self.path, self.role = path, role

    def identity(self):
        db = engine_connection(self.path, self.role)
        values = Meta(db).get_all()
        db.close()
        return Identity.of(values)

    def recorder(self, db, identity):
        if self.role is Role.PRIMARY:
            return PrimaryRecorder(db, AdminAppender(db, clock))
        return DeviceRecorder(db, identity, clock)

    def committed(self):
        pass

    def pragma(self, db, name, argument):
        return None


class Node:
    def __init__(self, path, role):
        self.path, self.role = str(path), role
        self.uri = parse_node_uri(f"file:{path}?node={role}" + ("&auth=user" if role is Role.PRIMARY else ""))
        self.db = connect_file(self.uri, 1.0)
        self.values = open_node_file(self.db, self.uri, new_node_seed)
        self.statements = None

    def run(self, sql, bindings=()):
        """Run one statement as an application would; return its rows."""
        if self.statements is None:
            self.statements = NodeStatements(self.db, self.role, Port(self.path, self.role))
        cursor = self.db.cursor()
        outcome = self.statements.run(cursor, classify(sql), bindings)
        return outcome.rows if outcome is not None and outcome.rows is not None else cursor.fetchall()

    def script(self, sql):
        for text in split_script(sql):
            self.run(text)

    def rows(self, sql, *bindings):
        return sorted(self.db.execute(sql, bindings).fetchall(), key=repr)

    def close(self):
        self.db.close(True)


class Primary(Node):
    def __init__(self, path, schema):
        super().__init__(path, Role.PRIMARY)
        self.engine = engine_connection(self.path, Role.PRIMARY)
        self.store = PrimaryStore(self.engine, clock)
        self.script(schema)
        self.log = EmbeddedLog(self.engine, clock)

    def reopen(self):
        """As after a crash of the process: everything in memory is gone."""
        self.engine.close(True)
        self.engine = engine_connection(self.path, Role.PRIMARY)
        self.store = PrimaryStore(self.engine, clock)
        self.log = EmbeddedLog(self.engine, clock)

    def close(self):
        self.engine.close(True)
        super().close()


class Device(Node):
    def __init__(self, path, primary, user_id):
        super().__init__(path, Role.SECONDARY)
        self.primary = primary
        self.record = primary.store.admit(self.values["public_key"], user_id, Role.SECONDARY, AuthMode.USER, "{}")
        self.engine = engine_connection(self.path, Role.SECONDARY)
        self.store = DeviceStore(self.engine, self.path, clock)
        self.store.store_welcome(self.record.node_id, self.record.user_id, b"token", b"network", "here")
        self.user_id = self.record.user_id
        self.refusals = []
        self.download()

    def download(self):
        reader = SnapshotReader(engine_connection(self.primary.path, Role.PRIMARY), self.user_id, b"download", 1)
        self.store.snapshot.begin(reader.open())
        *chunks, tail = reader.all_parts()
        for chunk in chunks:
            self.store.snapshot.load(chunk)
        self.store.snapshot.finish(tail)
        reader.close()

    def reopen(self):
        self.store.close()
        self.engine = engine_connection(self.path, Role.SECONDARY)
        self.store = DeviceStore(self.engine, self.path, clock)

    def push(self, count_max=1000, *, lose_answer=False):
        """Send the oldest transactions. A lost answer is told again when they are sent again."""
        found = self.store.read_outbox(0, count_max, 1 << 20)
        if not found:
            return
        window = PushWindow(self.primary.store.find(self.record.public_key).last_nonce)
        pushed = [
            PushedBody(one.nonce, one.hash, one.body, one.knew_rejected) for one in window.push(found).transactions
        ]
        request = PushRequest(self.record.node_id, self.user_id, pushed)
        (outcome,), _ = self.primary.log.append([request])
        assert {one.kind for one in outcome.outcomes} <= {"accepted", "rejected", "skipped"}, outcome
        if not lose_answer:
            self.refusals += [(one.nonce, one.rejection) for one in outcome.outcomes if one.kind == "rejected"]

    def pull(self, bytes_max=1 << 20):
        """Receive what the log has above the cursor, and refusals."""
        cursor = self.store.cursor().seq
        entries, through = self.primary.log.read_streams(self.user_id, cursor, bytes_max)
        incoming = [
            IncomingEntry(
                entry.seq,
                entry.owner == "*",
                entry.nonce if entry.origin == self.record.node_id else 0,
                entry.chain,
                b"" if entry.origin == self.record.node_id else entry.body,
            )
            for entry in entries
        ]
        refusals, self.refusals = self.refusals, []
        self.store.bring_in(Incoming(incoming, refusals, through))

    def outbox(self):
        return Outbox(self.engine)

    def settle(self):
        while self.outbox().count() or self.store.cursor().seq < self.primary.log.head():
            self.push()
            self.pull()

    def close(self):
        self.store.close()
        super().close()


def schema_of(node):
    sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT GLOB '_octodb_*' AND name NOT GLOB 'private_*'"
    return node.rows(sql + " AND name NOT GLOB 'sqlite_*'")


def assert_converged(primary, devices, tables):
    """P4 and P10: equal schema, and exactly the primary's rows that the device may have."""
    for device in devices:
        assert schema_of(device) == schema_of(primary)
        for table in tables:
            expected = primary.rows(f"SELECT * FROM {table} WHERE row_owner IN ('*', ?)", device.user_id)
            assert device.rows(f"SELECT * FROM {table} WHERE row_owner IS NOT NULL") == expected, (table, device.path)
