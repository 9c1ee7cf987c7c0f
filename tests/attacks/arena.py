"""Where attacks take place: a primary with users, a victim with rows, attackers with accounts of their own."""

import itertools
import json
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import apsw
import msgspec

import octodb
from octodb.model.transactions import Op, encode_body
from octodb.storage.changesets import build
from octodb.wire.messages import Applied, Entries, Signup, SnapshotEnd, Unauthorized, Verdicts, Welcome
from tests.integration.raw_device import Closed, RawDevice

__all__ = ["SCHEMA", "SECRET", "Arena", "Attack", "Rules", "attack_list", "changes"]

SECRET = "the victim's own words"
GLOBAL_ROW, VICTIMS_ROW = 1, 2
SCHEMA = f"""
CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);
CREATE TABLE plain (id INTEGER PRIMARY KEY AUTOINCREMENT, a);
CREATE TABLE private_notes (id INTEGER PRIMARY KEY, a, row_owner);
INSERT INTO t VALUES ({GLOBAL_ROW}, 'everybody', '*');
INSERT INTO plain VALUES (1, 'local to the primary');
INSERT INTO private_notes VALUES (1, 'private to the primary', '*');
"""
SHAPES = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);
CREATE TABLE plain (id INTEGER PRIMARY KEY, a);
CREATE TABLE private_notes (id INTEGER PRIMARY KEY, a, row_owner);
CREATE TABLE _octodb_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""


class Rules:
    """Accounts without hashing: a name and a password, of which each first one signs up."""

    def __init__(self):
        self._ids = itertools.count(1_000)
        self._users = {}

    def user_signup(self, data, node_info):
        fields = json.loads(data)
        if fields["name"] in self._users:
            return -1
        self._users[fields["name"]] = (fields["password"], next(self._ids))
        return self._users[fields["name"]][1]

    def user_login(self, data, node_info):
        fields = json.loads(data)
        password, user_id = self._users.get(fields["name"], (None, -1))
        return user_id if password == fields["password"] else -1


RULES = Rules()  # for a process: --authorizer tests.attacks.arena:RULES


@dataclass
class Attack:
    """``run(arena)`` returns what it got, '' for nothing. ``off()``: a context in which its check is switched off."""

    name: str
    run: Any
    off: Any
    limits: Any = None  # a context in which limits are small, so that reaching them is quick
    slow: bool = False  # takes its time against a primary whose limits are the real ones


def attack_list():
    """A list, and the decorator that adds to it."""
    attacks = []

    def attack(off, *, limits=None, slow=False):
        def add(run):
            attacks.append(Attack(run.__name__.replace("_", " "), run, off, limits, slow))
            return run

        return add

    return attacks, attack


def changes(*rows, shapes=SHAPES):
    """A changeset of (op, table, old, new): whatever a forger writes."""
    db = apsw.Connection(":memory:")
    db.execute(shapes)
    try:
        return build(db, rows)
    finally:
        db.close()


class Arena:
    """``address`` and ``path`` of a primary with ``SCHEMA`` and ``Rules``."""

    def __init__(self, folder, address, path):
        self.folder, self.address, self.path = folder, address, path
        self.open = []
        self.primary = None  # the connection that serves, where that is in this process
        self.victim_password = "17"
        self.victim = RawDevice(address)
        self.open.append(self.victim)

    def begin(self):
        """The victim signs up and makes a row."""
        self.join(self.victim, "victim", self.victim_password)
        self.victims_user = self.victim.welcome.user_id
        self.victims_node = self.victim.welcome.node_id
        row = (VICTIMS_ROW, SECRET, self.victims_user)
        assert self.push(self.victim, ("INSERT", "t", (), row)) == ""

    # --- devices -------------------------------------------------------------------------------------

    def raw(self, timeout_s=10):
        device = RawDevice(self.address, timeout_s)
        self.open.append(device)
        return device

    def attacker(self):
        """A device with an account of its own, which has downloaded what it may have."""
        device = self.raw()
        self.join(device, secrets.token_hex(6), "x")
        return device

    def join(self, device, name, password):
        device.prove()
        first = device.receive((Unauthorized, Welcome))
        if isinstance(first, Unauthorized):
            device.send(Signup(json.dumps({"name": name, "password": password})))
            first = device.receive(Welcome)
        device.welcome = first
        device.subscribe()
        device.receive(SnapshotEnd)
        device.nonce = 0

    def again(self, device, **hello):
        """Another connection of a device, up to its session. ``hello``: fields that are otherwise than they were."""
        device.__exit__()
        other = self.raw()
        other.take_key_of(device)
        fields = {"session_token": device.welcome.session_token} | hello
        other.hello = msgspec.structs.replace(other.hello, **fields)
        other.challenge = other.prove()
        other.welcome = other.receive(Welcome)
        other.nonce = device.nonce
        return other

    def victim_goes_on(self):
        """Whether the victim can still do its work."""
        self.victim = self.again(self.victim)
        self.victim.subscribe()
        self.victim.receive(SnapshotEnd)
        return self.push(self.victim, ("INSERT", "t", (), (900, "it goes on", self.victims_user))) == ""

    def push(self, device, *rows, shapes=SHAPES, schema_seq=1 << 40):
        """Push one forged transaction and wait for its verdict: '' accepted, else the code of the refusal."""
        return self.push_body(device, encode_body(schema_seq, [Op(0, changes(*rows, shapes=shapes))]))

    def push_body(self, device, body):
        device.nonce += 1
        device.push(device.nonce, body)
        while True:
            try:
                message = device.receive((Entries, Verdicts))
            except (Closed, TimeoutError) as error:
                return f"closed {error}"
            if isinstance(message, Verdicts):
                for verdict in message.verdicts:
                    if verdict.nonce == device.nonce:
                        return "" if verdict.seq else verdict.code
                continue
            device.send(Applied(0, 0, 1))
            if any(entry.nonce == device.nonce for entry in message.entries):
                return ""

    # --- what can be seen ------------------------------------------------------------------------------

    def rows(self, sql, *values):
        """What stands in the primary's file."""
        db = apsw.Connection(f"file:{self.path}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def seconds(self, real, in_process):
        """What a limit is here: the real one, unless the primary is in this process, where it was made small."""
        return real if self.primary is None else in_process

    def status(self):
        if self.primary is not None:
            return self.primary.sync_status
        return octodb.read_status(f"file:{self.path}?node=primary")

    def served(self):
        """How many devices the primary serves."""
        return self.status()["nodes"]

    def wait_until_all_is_sent(self):
        """The primary says now and then how much it has sent: until that does not grow any more."""
        before, now = -1, self.status()["bytes"]["out"]
        while before != now:
            time.sleep(self.seconds(5.0, 0.5))
            before, now = now, self.status()["bytes"]["out"]

    def admin(self, sql):
        """What an administrator does, in the process that serves or beside it."""
        if self.primary is not None:
            self.primary.execute(sql)
            self.primary.commit()
            return
        db = octodb.connect(f"file:{self.path}?node=primary")
        try:
            db.execute(sql)
            db.commit()
        finally:
            db.close()

    def close(self):
        for device in self.open:
            device.__exit__()

    def close_attackers(self):
        for device in self.open[1:]:
            device.__exit__()
        del self.open[1:]


def received(device, wait_s=1.0):
    """All that comes within a time, as one text to search in."""
    found = []
    device._socket.settimeout(wait_s)
    with suppress(Closed, TimeoutError, OSError):
        while True:
            found.append(device.receive())
    return found


def still_open(device, wait_s=0.2):
    """Whether the other side has not closed the connection."""
    device._socket.settimeout(wait_s)
    try:
        while device._socket.recv(65536):
            pass
    except TimeoutError:
        return True
    except OSError:
        return False
    return False


def until_closed(device, wait_s):
    """Whether the connection is closed within a time."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        if not still_open(device):
            return True
    return False
