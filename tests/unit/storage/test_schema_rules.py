"""Which schema changes a node may make, and which of them other nodes repeat."""

import apsw
import pytest

from octodb.errors import NotSupportedError, OperationalError
from octodb.model.identities import Role
from octodb.sql.ddl import parse_ddl
from octodb.storage.schema_rules import check_replicable, lossy_tables, plan_schema_change, shared_objects
from octodb.storage.shapes import Shapes

SCHEMA = """
CREATE TABLE t (id INTEGER PRIMARY KEY, a, row_owner);
CREATE TABLE plain (id INTEGER PRIMARY KEY, row_owner_of_old);
CREATE TABLE private_t (id INTEGER PRIMARY KEY, a, row_owner);
CREATE TABLE local_t (id INTEGER PRIMARY KEY, a);
CREATE TEMP TABLE scratch (id INTEGER PRIMARY KEY, a);
CREATE INDEX private_index ON t (a);
CREATE INDEX by_secret ON private_t (a);
CREATE VIEW secret AS SELECT * FROM private_t;
"""


@pytest.fixture
def db():
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    yield connection
    connection.close()


def plan(db, role, sql):
    return plan_schema_change(db, Shapes.read(db), role, sql)


@pytest.mark.parametrize(
    ("sql", "travels"),
    [
        ("CREATE TABLE u (id INTEGER PRIMARY KEY, row_owner)", True),
        ("CREATE TABLE main.u (a)", True),
        ("CREATE INDEX i ON t (a)", True),
        ("CREATE VIEW v AS SELECT * FROM t", True),
        ("ALTER TABLE t ADD COLUMN b", True),
        ("DROP TABLE t", True),
        ("CREATE TEMP TABLE u (a)", False),
        ("CREATE TABLE temp.u (a)", False),
        ("DROP TABLE scratch", False),
        ("ALTER TABLE scratch ADD COLUMN b", False),
        ("CREATE TABLE private_u (a)", False),
        ("CREATE INDEX i ON private_t (a)", False),
        ("DROP INDEX by_secret", False),
        ("CREATE VIEW v AS SELECT * FROM t JOIN private_t", False),
        ("DROP VIEW secret", False),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO private_t (a) VALUES (1); END", False),
        ("CREATE TABLE local_u (a)", False),
        ("CREATE INDEX local_i ON t (a)", False),
        ("CREATE TABL oops", False),
    ],
)
def test_what_travels_from_a_primary(db, sql, travels):
    assert plan(db, Role.PRIMARY, sql).travels is travels


def test_inserts_in_a_trigger_are_completed_for_whoever_fires_it(db):
    text = plan(db, Role.PRIMARY, "CREATE TRIGGER g AFTER INSERT ON plain BEGIN INSERT INTO t (a) VALUES (1); END").text
    assert "octo_next_id('t')" in text
    assert "this_user()" in text


@pytest.mark.parametrize(
    "sql",
    [
        *("CREATE TABLE u (a)", "CREATE INDEX i ON t (a)", "DROP TABLE t", "ALTER TABLE t ADD COLUMN b"),
        *(
            "CREATE VIEW v AS SELECT 1",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
            "DROP INDEX private_index",
        ),
        *("ALTER TABLE local_t RENAME TO t2", "CREATE TABLE main.u (a)"),
    ],
)
def test_a_device_does_not_change_the_shared_schema(db, sql):
    with pytest.raises(OperationalError, match="the schema is made on a primary") as caught:
        plan(db, Role.SECONDARY, sql)
    assert "local_" in caught.value.hint


@pytest.mark.parametrize(
    "sql",
    [
        *("CREATE TEMP TABLE u (a)", "CREATE TABLE local_u (a)", "DROP TABLE local_t", "CREATE INDEX local_i ON t (a)"),
        *("ALTER TABLE local_t RENAME TO local_u", "CREATE UNIQUE INDEX local_i ON plain (row_owner_of_old)"),
        "CREATE TRIGGER local_g AFTER INSERT ON t BEGIN INSERT INTO local_t (a) VALUES (NEW.a); END",
    ],
)
def test_a_device_may_make_things_of_its_own(db, sql):
    assert not plan(db, Role.SECONDARY, sql).travels


def test_a_devices_unique_index_could_refuse_what_the_primary_accepted(db):
    with pytest.raises(NotSupportedError, match="UNIQUE index on the replicated table t"):
        plan(db, Role.SECONDARY, "CREATE UNIQUE INDEX local_i ON t (a)")


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        (
            "ALTER TABLE t RENAME COLUMN row_owner TO x",
            NotSupportedError,
            "row_owner of t cannot be renamed or dropped",
        ),
        ("ALTER TABLE t DROP COLUMN ROW_OWNER", NotSupportedError, "row_owner of t cannot be renamed or dropped"),
        ("ALTER TABLE t RENAME TO private_u", NotSupportedError, "cannot be renamed to private_u"),
        ("ALTER TABLE private_t RENAME TO u", NotSupportedError, "cannot be renamed to u"),
        ("CREATE TABLE _octodb_x (a)", OperationalError, "_octodb_x is octodb's own"),
        ("ALTER TABLE t RENAME TO _OctoDB_x", OperationalError, "_OctoDB_x is octodb's own"),
        ("DROP TABLE _octodb_meta", OperationalError, "_octodb_meta is octodb's own"),
        ("CREATE INDEX i ON _octodb_meta (value)", OperationalError, "_octodb_meta is octodb's own"),
    ],
)
def test_what_nobody_may_do(db, role, sql, error, message):
    with pytest.raises(error) as caught:
        plan(db, role, sql)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("CREATE TABLE x (a, row_owner)", "no PRIMARY KEY"),
        ("CREATE TABLE x (id TEXT PRIMARY KEY, row_owner)", "may be NULL"),
        ("CREATE TABLE x (id INTEGER PRIMARY KEY, a UNIQUE ON CONFLICT REPLACE, row_owner)", "ON CONFLICT REPLACE"),
        ("CREATE TABLE x (id INTEGER PRIMARY KEY, a NOT NULL ON CONFLICT IGNORE, row_owner)", "ON CONFLICT IGNORE"),
        ("CREATE TABLE x (id INTEGER PRIMARY KEY ON CONFLICT ROLLBACK, row_owner)", "ON CONFLICT ROLLBACK"),
    ],
)
def test_tables_that_cannot_be_replicated(table, message):
    db = apsw.Connection(":memory:")
    db.execute(table)
    with pytest.raises(NotSupportedError) as caught:
        check_replicable(db, Shapes.read(db))
    assert message in str(caught.value)
    assert caught.value.hint


def test_tables_without_row_owner_may_be_as_they_like():
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE x (id TEXT PRIMARY KEY ON CONFLICT REPLACE); CREATE TABLE y (a)")
    check_replicable(db, Shapes.read(db))


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("ALTER TABLE T RENAME COLUMN a TO b", {"t"}),
        ("ALTER TABLE t DROP COLUMN a", {"t"}),
        ("ALTER TABLE t RENAME TO u", {"t", "u"}),
        ("DROP TABLE t", {"t"}),
        ("CREATE TABLE t (a)", {"t"}),
        ("ALTER TABLE t ADD COLUMN b", set()),
        ("CREATE INDEX i ON t (a)", set()),
        ("CREATE VIEW v AS SELECT 1", set()),
        ("DROP TRIGGER g", set()),
    ],
)
def test_after_which_changes_older_transactions_do_not_fit(sql, tables):
    assert lossy_tables(parse_ddl(sql)) == tables


def test_the_objects_that_a_download_brings(db):
    assert {one.name for one in shared_objects(db)} == {"t", "plain"}


def test_a_device_may_rename_a_column_of_its_own_table(db):
    assert not plan(db, Role.SECONDARY, "ALTER TABLE local_t RENAME COLUMN a TO b").travels


@pytest.mark.parametrize("table", ["CREATE TABLE n (x)", "CREATE TABLE n (id TEXT PRIMARY KEY, x)"])
def test_a_column_renamed_to_row_owner_makes_a_table_that_must_be_replicable(world, table):
    (primary,) = world(table, users=())
    with pytest.raises(NotSupportedError):
        primary.run("ALTER TABLE n RENAME COLUMN x TO row_owner")
