"""The program that is killed: ``python -m tests.crash.program primary|device URI NAME LIFE FOLDER SEED``.

Opens its node and writes without pause until it is told to stop. Each transaction has a token, which is in each of its
rows; once COMMIT has returned the token is put into a file that only grows, and once it has raised, also. What was
being done is in the black box.
"""

import contextlib
import json
import os
import random
import sys
import threading
import time

import octodb
from octodb.log import embedded_log
from octodb.runtime import device_engine
from octodb.storage import device_store, rebase
from octodb.storage.node_statements import NodeStatements
from tests.crash.black_box import APPLICATION, COMMAND, STORAGE, BlackBox

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, token TEXT NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL, filler, row_owner);
CREATE INDEX IF NOT EXISTS entries_by_token ON entries (token);
CREATE TABLE IF NOT EXISTS slots (name TEXT PRIMARY KEY NOT NULL, token TEXT NOT NULL, row_owner);
CREATE TABLE IF NOT EXISTS scratch (id INTEGER PRIMARY KEY, value, row_owner);
"""
USERS = ("ada", "bob")
STOP = 1  # the command: write no more


def login_of(user):
    return json.dumps({"email": f"{user}@example.org", "password": f"password of {user}"})


def watch(box):
    """Wrap what the kills are aimed at."""
    box.watch(NodeStatements, "_commit", APPLICATION, "commit: writing down")
    box.watch(NodeStatements, "_commit_written", APPLICATION, "commit: COMMIT")
    log, store = embedded_log.EmbeddedLog, device_store.DeviceStore
    box.watch(log, "append", STORAGE, "waiting to push")  # for the write lock
    box.turn(log, "_refresh", STORAGE, "push: judging")
    box.turn(embedded_log._Batch, "store_nonces", STORAGE, "push: COMMIT")
    box.watch(store, "bring_in", STORAGE, "waiting to apply")
    box.turn(rebase.Rebase, "begin", STORAGE, "apply: rebasing")
    box.turn(rebase.Rebase, "finish", STORAGE, "apply: COMMIT")
    box.watch(store, "store_welcome", STORAGE, "storing the welcome")
    box.watch(store, "read_outbox", STORAGE, "reading the outbox")
    box.watch(device_engine, "_load_part", STORAGE, "download")


class Writer:
    """Writes transactions of all kinds on one connection. ``owners``: None on a device, ids and '*' on a primary."""

    def __init__(self, node, name, life, acks, chance, owners=None):
        self._node, self._name, self._life, self._acks, self._chance = node, name, life, acks, chance
        self._owners = owners
        self._count = 0

    def write(self):
        token = f"{self._name}.{self._life}.{self._count}"
        self._count += 1
        draw = self._chance.random()
        if self._owners is not None:
            kind, owner = "shared", self._chance.choice(self._owners)
        else:
            kind, owner = ("local", None) if draw < 0.05 else ("own", "this_user()")
        parts = 1 if draw < 0.5 else self._chance.randint(2, 6)
        try:
            if parts == 1:
                self._insert(token, 1, 1, owner)  # in autocommit
            else:
                self._several(token, parts, owner)
        except octodb.Error as error:
            if self._node.in_transaction:
                self._node.execute("ROLLBACK")
            self._say("failed", token, parts, type(error).__name__)
        else:
            self._say(kind, token, parts, owner)

    def _several(self, token, parts, owner):
        self._node.execute("BEGIN")
        for part in range(1, parts + 1):
            self._insert(token, part, parts, owner)
        if self._owners is None:
            self._change_scratch()
            if self._chance.random() < 0.3:
                # two devices of a user that cannot see each other take the same slot: one of them is refused
                slot = f"slot {int(time.time() * 20)}"
                self._node.execute("INSERT INTO slots (name, token) VALUES (?, ?)", (slot, token))
        self._node.execute("COMMIT")

    def _insert(self, token, part, parts, owner):
        filler = "x" * self._chance.randint(0, 400)
        if owner == "this_user()":
            self._node.execute(
                "INSERT INTO entries (token, part, parts, filler) VALUES (?, ?, ?, ?)", (token, part, parts, filler)
            )
        else:
            self._node.execute(
                "INSERT INTO entries (token, part, parts, filler, row_owner) VALUES (?, ?, ?, ?, ?)",
                (token, part, parts, filler, owner),
            )

    def _change_scratch(self):
        """Rows of the user that its devices change and delete under each other's hands."""
        row_id = self._chance.randint(1, 20)
        draw = self._chance.random()
        if draw < 0.4:
            sql = "INSERT INTO scratch (id, value) VALUES (this_user() * 1000 + ?, ?)"
            self._node.execute(sql + " ON CONFLICT DO UPDATE SET value = excluded.value", (row_id, draw))
        elif draw < 0.8:
            self._node.execute("UPDATE scratch SET value = ? WHERE id % 1000 = ?", (draw, row_id))
        else:
            self._node.execute("DELETE FROM scratch WHERE id % 1000 = ?", (row_id,))

    def _say(self, *words):
        os.write(self._acks, (" ".join(map(str, words)) + "\n").encode())


def write_until_told(writer, box, chance):
    pause = threading.Event()
    while box.bytes[COMMAND] != STOP:
        writer.write()
        pause.wait(chance.choice((0, 0.001, 0.004, 0.01)))


def primary(uri, writer_of, box, chance):
    node = octodb.connect(uri)
    node.executescript(SCHEMA)
    node.commit()
    accounts = octodb.Accounts(node)
    owners = ["*"]
    for user in USERS:
        with contextlib.suppress(octodb.IntegrityError):  # it was made in an earlier life
            accounts.add(f"{user}@example.org", f"password of {user}")
    owners += [row[0] for row in node.execute("SELECT user_id FROM private_accounts")]
    print("up", flush=True)
    writing = octodb.connect(uri, isolation_level=None)
    write_until_told(writer_of(writing, owners), box, chance)
    print("stopped", flush=True)
    sys.stdin.read()
    for connection in (writing, accounts, node):
        connection.close()


def device(uri, user, writer_of, box, chance):
    node = octodb.connect(uri, isolation_level=None)
    node.execute(f"PRAGMA user_login='{login_of(user)}'")
    print("up", flush=True)
    while not node.wait_ready(0.1):
        if box.bytes[COMMAND] == STOP:
            break
    if node.is_ready():
        write_until_told(writer_of(node, None), box, chance)
    print("stopped", flush=True)
    for _ in sys.stdin:
        # once all have stopped, each "settle" is answered with the status when everything is in sync
        synced = node.wait_ready(60) and node.wait_synced(60)
        print(json.dumps({"synced": synced, **node.sync_status}), flush=True)
    node.close()


def main():
    role, uri, name, life, folder, seed = sys.argv[1:]
    box = BlackBox(f"{folder}/{name}.box")
    watch(box)
    acks = os.open(f"{folder}/{name}.acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    chance = random.Random(f"{seed} {name} {life}")

    def writer_of(node, owners):
        return Writer(node, name, life, acks, chance, owners)

    if role == "primary":
        primary(uri, writer_of, box, chance)
    else:
        device(uri, name.partition("-")[0], writer_of, box, chance)


if __name__ == "__main__":
    main()
