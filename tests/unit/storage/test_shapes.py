"""What is read of each table: its columns, key, owner, row id and foreign keys."""

import apsw
import pytest

from octodb.storage.shapes import ForeignKey, Shapes, schema_version


@pytest.fixture
def read():
    db = apsw.Connection(":memory:")

    def read(sql):
        db.execute(sql)
        return Shapes.read(db)

    yield read
    db.close()


def test_a_replicated_table(read):
    shape = read('CREATE TABLE "My ""Table" (a, Id INTEGER PRIMARY KEY, Row_Owner)').get('my "table')
    assert (shape.name, shape.columns, shape.key, shape.owner) == ('My "Table', ("a", "Id", "Row_Owner"), (1,), 2)
    assert (shape.row_id_column, shape.replicated) == ("Id", True)
    assert (shape.quoted, shape.key_match, shape.owner_column) == ('main."My ""Table"', '"Id" = ?', '"Row_Owner"')


def test_generated_columns_are_no_part_of_a_changeset(read):
    shape = read("CREATE TABLE t (a AS (1), id INTEGER PRIMARY KEY, b AS (2) STORED, row_owner)").get("t")
    assert (shape.columns, shape.key, shape.owner) == (("id", "row_owner"), (0,), 1)


def test_key_columns_are_in_the_order_of_the_key(read):
    shape = read("CREATE TABLE t (a NOT NULL, b NOT NULL, c, PRIMARY KEY (b, a))").get("t")
    assert shape.key == (1, 0)


@pytest.mark.parametrize(
    ("definition", "row_id"),
    [
        ("id INTEGER PRIMARY KEY", "id"),
        ("id integer, PRIMARY KEY (id)", "id"),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT", "id"),
        ("id INTEGER, PRIMARY KEY (id DESC)", "id"),
        ("id INTEGER PRIMARY KEY DESC", None),
        ("id INT PRIMARY KEY", None),
        ("id BIGINT PRIMARY KEY", None),
        ("id TEXT PRIMARY KEY", None),
        ("id INTEGER, other INTEGER, PRIMARY KEY (id, other)", None),
        ("id INTEGER", None),
    ],
)
def test_which_key_is_the_row_id(read, definition, row_id):
    assert read(f"CREATE TABLE t ({definition})").get("t").row_id_column == row_id


def test_a_key_without_rowid_is_no_row_id(read):
    assert read("CREATE TABLE t (id INTEGER PRIMARY KEY) WITHOUT ROWID").get("t").row_id_column is None


@pytest.mark.parametrize(
    ("definition", "nullable"),
    [
        ("id TEXT PRIMARY KEY, row_owner", True),
        ("id TEXT PRIMARY KEY NOT NULL, row_owner", False),
        ("id INTEGER PRIMARY KEY, row_owner", False),
        ("a NOT NULL, b, PRIMARY KEY (a, b)", True),
        ("a NOT NULL, b NOT NULL, PRIMARY KEY (a, b)", False),
    ],
)
def test_whether_a_key_may_be_null(read, definition, nullable):
    assert read(f"CREATE TABLE t ({definition})").get("t").nullable_key is nullable


def test_without_rowid_no_key_is_null(read):
    assert not read("CREATE TABLE t (id TEXT PRIMARY KEY) WITHOUT ROWID").get("t").nullable_key


@pytest.mark.parametrize(
    ("name", "replicated"),
    [("t", True), ("private_t", False), ("Private_T", False), ("local_t", False), ("privates", True)],
)
def test_names_that_are_never_replicated(read, name, replicated):
    assert read(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, row_owner)").get(name).replicated is replicated


def test_only_ordinary_tables_of_ours_are_read(read):
    shapes = read(
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE VIEW v AS SELECT 1;"
        "CREATE TABLE _octodb_meta (a); CREATE VIRTUAL TABLE f USING fts5(x); CREATE TEMP TABLE temporary (a)"
    )
    assert set(shapes.tables) == {"t"}
    assert shapes.is_shadow("f_data")
    assert not shapes.is_shadow("t")


def test_foreign_keys_are_known_on_both_sides(read):
    shapes = read(
        "CREATE TABLE p (a NOT NULL, b NOT NULL, c UNIQUE, PRIMARY KEY (a, b));"
        "CREATE TABLE c (id INTEGER PRIMARY KEY, x, y, z REFERENCES P (C), w REFERENCES nowhere,"
        "                FOREIGN KEY (y, x) REFERENCES p)"
    )
    implied = ForeignKey("c", (2, 1), "p", ("a", "b"))
    named = ForeignKey("c", (3,), "p", ("C",))
    assert set(shapes.get("c").foreign_keys) == {implied, named}
    assert set(shapes.get("p").referenced_by) == {implied, named}


def test_the_version_moves_with_the_schema():
    db = apsw.Connection(":memory:")
    before = schema_version(db)
    db.execute("CREATE TABLE t (a)")
    assert schema_version(db) > before
    assert Shapes.read(db).version == schema_version(db)
