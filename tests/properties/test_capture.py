"""What is recorded of a transaction is what it did: random SQL, then the record replayed on a copy taken before.

A device records into its outbox, a primary into its log. On both, replaying the record on the copy gives the rows (and
on a primary the schema) of the database itself; nonces have no gaps; what was rolled back and what is nobody else's
leaves no trace; and undoing the newest transactions of a device gives back exactly what was there before.
"""

import pathlib
import tempfile
from contextlib import contextmanager
from itertools import chain
from string import Formatter

import apsw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octodb.errors import Error
from octodb.model.transactions import Rejection, decode_body
from octodb.storage.apply import Applier
from octodb.storage.device_store import Incoming
from octodb.storage.schema_rules import shared_objects
from octodb.storage.shapes import Shapes
from tests.properties.offline_world import Device, Primary

SCHEMA = """
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT UNIQUE, loud AS (upper(name)) STORED, row_owner INTEGER,
                     age INTEGER CHECK (age < 50));
CREATE TABLE pet (id INTEGER PRIMARY KEY, boss REFERENCES person ON DELETE CASCADE ON UPDATE CASCADE, name,
                  row_owner TEXT);
CREATE TABLE visit (day TEXT NOT NULL, number INTEGER NOT NULL, row_owner,
                    person REFERENCES person ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED, words,
                    PRIMARY KEY (number, day)) WITHOUT ROWID;
CREATE TABLE "odd ""name" (row_owner, "a key" TEXT PRIMARY KEY NOT NULL, value);
CREATE TABLE plain (id INTEGER PRIMARY KEY, what);
CREATE TABLE keyless (what);
CREATE TRIGGER older AFTER UPDATE OF age ON person BEGIN
  INSERT INTO visit (day, number, words) VALUES ('birthday', 10 + abs(random() % 100000), NEW.name)
    ON CONFLICT DO NOTHING;
  UPDATE pet SET name = name || '!' WHERE boss = NEW.id;
END;
CREATE TRIGGER gone AFTER DELETE ON pet BEGIN INSERT INTO plain (what) VALUES (OLD.name); END;
INSERT INTO person (id, name, row_owner, age) VALUES (1, 'Ada', '*', 1), (2, 'Bob', 2, 2), (3, 'Cid', 3, 3),
                                                     (4, 'Dan', 2, 4);
INSERT INTO pet (id, boss, name, row_owner) VALUES (1, 1, 'ant', '*'), (2, 2, 'bee', 2), (3, 2, 'cat', 2),
                                                   (4, 3, 'dog', 3);
INSERT INTO visit (day, number, person, row_owner) VALUES ('mon', 1, 2, 2), ('tue', 1, 1, '*'), ('mon', 2, 4, 2);
INSERT INTO "odd ""name" VALUES ('*', 'a', 1), (2, 'b', x'00'), (2, 'c', 1.5);
"""
USER = 2

# --- random SQL ------------------------------------------------------------------------------------------

CHOICES = {
    "name": ["'Ada'", "'Bob'", "'Cid'", "'Dan'", "'Eve'", "'Eve'", "'Fay'", "NULL", "'é\U0001f600'", "''"],
    "id": ["1", "2", "3", "4", "5", "6", "NULL", "(SELECT max(id) FROM person)"],
    "age": ["0", "1", "2", "49", "60", "NULL", "age + 1", "2.5"],
    "pet": ["1", "2", "3", "4", "5", "(SELECT max(id) FROM pet)"],
    "day": ["'mon'", "'tue'", "'wed'"],
    "number": ["1", "2", "3"],
    "key": ["'a'", "'B'", "'b'", "'c'", "'d'"],
    "value": [
        "1",
        "1.5",
        "-0.0",
        "NULL",
        "x'00ff'",
        "'x' || char(0) || 'y'",
        "1 << 62",
        "'long' || hex(zeroblob(300))",
    ],
    "or": ["", "", "", "OR IGNORE", "OR REPLACE", "OR ABORT", "OR FAIL", "OR ROLLBACK"],
    "savepoint": ["a", "A", "b"],
}
DEVICE_OWNERS = ["NULL", "NULL", "this_user()", "2", "3", "'*'"]
PRIMARY_OWNERS = ["NULL", "2", "2", "3", "'*'", "'*'", "1", "this_user()"]

ROW_CHANGES = [
    "INSERT {or} INTO person (name, age) VALUES ({name}, {number})",
    "INSERT {or} INTO person (id, name, row_owner) VALUES ({id}, {name}, {owner}), ({id}, 'Gus', {owner})",
    "INSERT INTO person (id, name) VALUES ({id}, {name}) ON CONFLICT (id) DO UPDATE SET age = 8, name = {name}",
    "INSERT INTO person (name, row_owner) VALUES ({name}, {owner}) ON CONFLICT (name) DO UPDATE SET age = 1",
    "UPDATE {or} person SET age = {age} WHERE id <> {id}",
    "UPDATE {or} person SET name = {name} WHERE id >= {id} RETURNING *",
    "UPDATE {or} person SET id = id + 2, age = {age} WHERE id = {id}",
    "UPDATE person SET row_owner = {owner} WHERE row_owner IS NULL AND id >= {id}",
    "UPDATE person SET row_owner = {owner}, age = {age} WHERE name = {name}",
    "DELETE FROM person WHERE id = {id} RETURNING name",
    "DELETE FROM person WHERE name = {name}",
    "REPLACE INTO person (id, name, age) VALUES ({id}, {name}, 5)",
    "REPLACE INTO person (id, name, row_owner) VALUES ({id}, {name}, {owner})",
    "INSERT INTO pet (boss, name) VALUES ({id}, {name})",
    "INSERT {or} INTO pet (id, boss, name, row_owner) SELECT id + 2, {id}, 'twin', {owner} FROM pet WHERE id < 4",
    "UPDATE pet SET boss = {id} WHERE id = {pet}",
    "UPDATE {or} pet SET id = {pet} WHERE name = 'bee' OR id > 4",
    "UPDATE pet SET name = p.name FROM person AS p WHERE p.id = pet.boss AND p.id < {id}",
    "UPDATE pet SET row_owner = {owner} WHERE id = {pet}",
    "DELETE FROM pet WHERE id = {pet} OR boss = {id}",
    "INSERT {or} INTO visit (day, number, person, words) VALUES ({day}, {number}, {id}, {value})",
    "INSERT {or} INTO visit (row_owner, day, number, person) VALUES ({owner}, {day}, {number}, {id})",
    "UPDATE {or} visit SET number = number + 1 WHERE day = {day}",
    "UPDATE {or} visit SET day = {day}, words = {value} WHERE number = {number}",
    "UPDATE visit SET person = {id}",
    "DELETE FROM visit WHERE number > {number} OR day = {day}",
    'REPLACE INTO "odd ""name" ("a key", value) VALUES ({key}, {value})',
    'INSERT OR IGNORE INTO "odd ""name" VALUES ({owner}, {key}, {value})',
    'UPDATE OR REPLACE "odd ""name" SET "a key" = {key}, value = {value} WHERE "a key" > {key}',
    'UPDATE "odd ""name" SET row_owner = {owner}, "a key" = {key} WHERE "a key" = {key}',
    'DELETE FROM "odd ""name" WHERE "a key" = {key}',
    "INSERT INTO plain (what) VALUES ({value})",
    "INSERT INTO keyless VALUES ({value})",
    "UPDATE plain SET what = {value} WHERE id > {number}",
    "DELETE FROM plain",
]
CONTROL = [
    *("BEGIN", "BEGIN IMMEDIATE", "COMMIT", "COMMIT", "ROLLBACK", "END TRANSACTION"),
    *("SAVEPOINT {savepoint}", "SAVEPOINT {savepoint}", "ROLLBACK TO {savepoint}", "RELEASE {savepoint}"),
]
TEMPORARY = [
    "CREATE TEMP TABLE scratch (id INTEGER PRIMARY KEY, row_owner, x)",
    "INSERT INTO temp.scratch (x) VALUES (1), (2)",
    "CREATE TEMP TRIGGER watch AFTER INSERT ON main.pet BEGIN UPDATE person SET age = 9 WHERE id = NEW.boss; END",
    "DROP TRIGGER IF EXISTS temp.watch",
    "DROP TABLE IF EXISTS temp.scratch",
    "PRAGMA foreign_keys = ON",
    "PRAGMA foreign_keys = OFF",
    "PRAGMA defer_foreign_keys = ON",
]
DEVICE_SCHEMA = [
    "CREATE TABLE local_note (id INTEGER PRIMARY KEY, x)",
    "INSERT INTO local_note (x) VALUES (1), (2)",
    "DROP TABLE IF EXISTS local_note",
    "CREATE INDEX local_age ON person (age)",
    "CREATE TABLE refused (id INTEGER PRIMARY KEY)",
]
PRIMARY_SCHEMA = [
    "CREATE TABLE later (id INTEGER PRIMARY KEY, a, row_owner)",
    "CREATE TABLE IF NOT EXISTS later (id INTEGER PRIMARY KEY, b, a, row_owner)",
    "CREATE TABLE later AS SELECT id, name AS a FROM person",
    "INSERT INTO later (a, row_owner) VALUES (1, '*'), (2, 2), (3, NULL)",
    "UPDATE later SET a = a + 1",
    "UPDATE later SET row_owner = '*' WHERE row_owner IS NULL",
    "ALTER TABLE later RENAME COLUMN a TO c",
    "ALTER TABLE later RENAME TO latest",
    "ALTER TABLE latest RENAME TO later",
    "ALTER TABLE later DROP COLUMN a",
    "DROP TABLE later",
    "DROP TABLE latest",
    "DELETE FROM later WHERE id % 2",
    "ALTER TABLE plain ADD COLUMN row_owner",
    "UPDATE plain SET row_owner = 2 WHERE id > 1",
    "ALTER TABLE person ADD COLUMN email DEFAULT 'none'",
    "ALTER TABLE person RENAME COLUMN age TO years",
    "ALTER TABLE person RENAME COLUMN years TO age",
    "ALTER TABLE pet RENAME TO animal",
    "ALTER TABLE animal RENAME TO pet",
    "CREATE INDEX by_age ON person (age)",
    "CREATE UNIQUE INDEX by_words ON visit (words, day)",
    "DROP INDEX IF EXISTS by_words",
    "DROP INDEX IF EXISTS by_age",
    "CREATE VIEW adults AS SELECT * FROM person WHERE age > 18",
    "DROP VIEW IF EXISTS adults",
    "CREATE TRIGGER copies AFTER INSERT ON pet BEGIN INSERT OR IGNORE INTO visit (day, number) VALUES ('pet', 1); END",
    "DROP TRIGGER IF EXISTS copies",
    "DROP TRIGGER older",
    "CREATE TABLE private_secret (id INTEGER PRIMARY KEY, x, row_owner)",
    "INSERT INTO private_secret (x) VALUES (1)",
    "CREATE VIRTUAL TABLE words USING fts5(text)",
    "INSERT INTO words VALUES ('hello world')",
    "CREATE TABLE bad (id INT PRIMARY KEY, row_owner)",
    "CREATE TABLE bad (id INTEGER PRIMARY KEY, x UNIQUE ON CONFLICT REPLACE, row_owner)",
]


@st.composite
def statements(draw, templates, owners):
    """A template with each of its places filled in by itself."""
    choices = CHOICES | {"owner": owners}
    parts = Formatter().parse(draw(st.sampled_from(templates)))
    return "".join(text + (draw(st.sampled_from(choices[place])) if place else "") for text, place, _, _ in parts)


def joined(pieces, most):
    """Statements of one to ``most`` pieces, each of which is a list of statements."""
    return st.lists(pieces, min_size=1, max_size=most).map(lambda lists: [*chain(*lists)])


def bracketed(inner, beginnings, ends):
    """Statements between a beginning and an end, which single statements at random would seldom make."""
    return st.tuples(st.sampled_from(beginnings), inner, st.sampled_from(ends)).map(
        lambda parts: [parts[0], *parts[1], *parts[2]]
    )


def scripts(owners, schema):
    change = statements([*ROW_CHANGES, *ROW_CHANGES, *schema], owners).map(lambda sql: [sql])
    ends = [["RELEASE a"], ["ROLLBACK TO a"], ["ROLLBACK TO a", "RELEASE a"], []]
    nested = st.recursive(
        joined(change, 3), lambda inner: joined(bracketed(inner, ["SAVEPOINT a"], ends) | change, 3), max_leaves=6
    )
    mended = ["COMMIT", "UPDATE visit SET person = NULL", "COMMIT"]  # where deferred foreign keys fail it
    transaction = bracketed(nested, ["BEGIN", "SAVEPOINT a"], [["COMMIT"], mended, ["RELEASE a"], ["ROLLBACK"]])
    anything = statements([*ROW_CHANGES, *ROW_CHANGES, *CONTROL, *TEMPORARY, *schema], owners).map(lambda sql: [sql])
    return joined(anything | transaction, 12)


# --- the copy --------------------------------------------------------------------------------------------


class Copy:
    """The ordered rows of a node as they were, in memory, to replay records on."""

    def __init__(self, node):
        self.db = apsw.Connection(":memory:")
        with self.db.backup("main", node.engine, "main") as backup:
            backup.step()
        self.db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        for function in ("this_user", "octo_next_id"):
            self.db.create_scalar_function(function, lambda *_: 1 / 0)
        shapes = Shapes.read(self.db)
        for shape in shapes.replicated():
            self.db.execute(f"DELETE FROM {shape.quoted} WHERE row_owner IS NULL")
        self.applier = Applier(self.db, shapes, (0, -1), lambda table, row, reason: None)

    def replay(self, parts):
        """``parts``: (owner, body) of one transaction."""
        steps = {}
        for owner, body in parts:
            for op in decode_body(body).ops:
                steps.setdefault(op.position, []).append((owner, op.payload))
        for _, payloads in sorted(steps.items()):
            if isinstance(payloads[0][1], str):
                self.db.execute(payloads[0][1])
                self.applier.use(Shapes.read(self.db))
            else:
                self.applier.apply_ordered(payloads)


def ordered_rows(db):
    """Every row that is not local, by table."""
    return {
        shape.name: sorted(db.execute(f"SELECT * FROM {shape.quoted} WHERE row_owner IS NOT NULL"), key=repr)
        for shape in Shapes.read(db).replicated()
    }


def all_rows(db):
    """Rows of every table that capture sees: not of tables without a PRIMARY KEY, which a node keeps to itself."""
    return {
        shape.name: sorted(db.execute(f"SELECT * FROM {shape.quoted}"), key=repr)
        for shape in Shapes.read(db).tables.values()
        if shape.key and not shape.name.startswith("local_")
    }


def attempt(node, sql):
    """Run a statement that may well be refused. Outside a transaction that changes nothing, but for OR FAIL."""
    before = None if node.db.in_transaction else all_rows(node.db)
    try:
        node.run(sql)
    except (apsw.Error, Error):
        if before is not None:
            assert not node.db.in_transaction
            assert " OR FAIL " in sql or all_rows(node.db) == before


@contextmanager
def a_primary():
    with tempfile.TemporaryDirectory() as folder:
        primary = Primary(pathlib.Path(folder) / "primary.db", SCHEMA)
        primary.run("PRAGMA foreign_keys = ON")
        try:
            yield primary
        finally:
            primary.close()


@contextmanager
def a_device():
    with a_primary() as primary:
        device = Device(pathlib.Path(primary.path).with_name("device.db"), primary, USER)
        device.run("PRAGMA foreign_keys = ON")
        device.run("INSERT INTO person (id, name, row_owner) VALUES (5, 'Gus', NULL), (6, 'Hal', NULL)")
        device.run("INSERT INTO pet (id, boss, name, row_owner) VALUES (5, 5, 'eel', NULL)")
        try:
            yield device
        finally:
            device.close()


# --- devices ---------------------------------------------------------------------------------------------


def play_on_device(device, script):
    """Run a script and check the record after each statement.

    Returns for each commit that changed something its nonce, None where it changed local rows only, and what there
    was before it: all rows, and those that are not local.
    """
    copy = Copy(device)
    before = all_rows(device.db), ordered_rows(device.db)
    history = []
    last = 0
    for sql in script:
        attempt(device, sql)
        if device.db.in_transaction:
            continue
        pending = device.outbox().nonces()
        assert pending in ([*range(1, last + 1)], [*range(1, last + 2)]), "nonces are 1, 2, 3…, one a transaction"
        if len(pending) > last:
            last += 1
            copy.replay([(USER, device.outbox().get(last).body)])
            history.append((last, before))
        elif all_rows(device.db) != before[0]:
            history.append((None, before))
        assert ordered_rows(device.db) == ordered_rows(copy.db), sql
        before = all_rows(device.db), ordered_rows(device.db)
    if device.db.in_transaction:
        device.run("ROLLBACK")
        assert all_rows(device.db) == before[0]
    return history


def take_back(device, history):
    """Reject the newest transaction again and again: each time the rows from before it are back."""
    only_recorded = True
    for nonce, (rows_before, ordered_before) in reversed(history):
        if nonce is None:
            only_recorded = False  # local rows that came later stay
            continue
        refusal = (nonce, Rejection("constraint", "for the test"))
        device.store.bring_in(Incoming([], [refusal], device.store.cursor().seq))
        assert ordered_rows(device.db) == ordered_before, nonce
        if only_recorded:
            assert all_rows(device.db) == rows_before, nonce


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(DEVICE_OWNERS, DEVICE_SCHEMA))
def test_the_outbox_holds_what_a_device_did(script):
    with a_device() as device:
        take_back(device, play_on_device(device, script))


# --- primaries -------------------------------------------------------------------------------------------


def shared_schema(db):
    return sorted(shared_objects(db))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(scripts(PRIMARY_OWNERS, PRIMARY_SCHEMA))
def test_the_log_holds_what_a_primary_did(script):
    with a_primary() as primary:
        copy = Copy(primary)
        seen = primary.log.last_id()
        seq = primary.log.head()
        for sql in script:
            attempt(primary, sql)
            if primary.db.in_transaction:
                continue
            found = primary.log.read_after_id(seen)
            if found:
                seen, seq = found[-1][0], seq + 1
                assert {entry.seq for _, entry in found} == {seq}, "one position a transaction"
                copy.replay([(entry.owner, entry.body) for _, entry in found])
            assert shared_schema(primary.db) == shared_schema(copy.db), sql
            assert ordered_rows(primary.db) == ordered_rows(copy.db), sql
