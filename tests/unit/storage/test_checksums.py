"""Sums of rows: what they tell apart, what they do not, and that they add up by parts."""

import apsw
import pytest

from octodb.storage.checksums import Checksums


@pytest.fixture
def db():
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE t (a, id INTEGER PRIMARY KEY, row_owner)")
    db.execute("CREATE TABLE pair (a TEXT NOT NULL, b NOT NULL, row_owner, PRIMARY KEY (a, b)) WITHOUT ROWID")
    return db


def sum_of(db, owners=None):
    return Checksums(db, owners).tables()


def test_the_order_of_rows_does_not_matter(db):
    other = apsw.Connection(":memory:")
    other.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, row_owner, a)")  # nor that of columns
    other.execute("CREATE TABLE pair (a TEXT NOT NULL, b NOT NULL, row_owner, PRIMARY KEY (a, b)) WITHOUT ROWID")
    db.execute("INSERT INTO t VALUES ('x', 1, 3), ('y', 2, '*')")
    other.execute("INSERT INTO t VALUES (2, '*', 'y')")
    other.execute("INSERT INTO t VALUES (1, 3, 'x')")
    assert sum_of(db) == sum_of(other)


@pytest.mark.parametrize(
    ("one", "two"),
    [("1", "'1'"), ("1", "1.0"), ("'a'", "x'61'"), ("NULL", "''"), ("1", "2"), ("0.1", "0.10000000000000002")],
)
def test_values_of_another_class_or_with_other_bytes_are_told_apart(db, one, two):
    db.execute(f"INSERT INTO t VALUES ({one}, 1, 3)")
    before = sum_of(db)
    db.execute(f"UPDATE t SET a = {two}")
    assert sum_of(db) != before


def test_zero_has_no_sign(db):
    db.execute("INSERT INTO t VALUES (0.0, 1, 3)")
    before = sum_of(db)
    db.execute("UPDATE t SET a = ?", (-0.0,))
    assert sum_of(db) == before


def test_local_rows_and_those_of_others_do_not_count(db):
    db.execute("INSERT INTO t VALUES ('mine', 1, 3), ('all', 2, '*')")
    before = sum_of(db, (3, "*"))
    db.execute("INSERT INTO t VALUES ('local', 3, NULL), ('other', 4, 5)")
    assert sum_of(db, (3, "*")) == before


def test_columns_count_too(db):
    before = sum_of(db)
    db.execute("ALTER TABLE t RENAME COLUMN a TO b")
    assert sum_of(db) != before


@pytest.mark.parametrize("table", ["t", "pair"])
@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_the_parts_of_a_range_add_up(db, table, count):
    for number in range(count):
        row = (number, number, 3) if table == "t" else (f"k{number % 7}", number, 3)
        db.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", row)
    sums = Checksums(db)
    shape = sums.table(table)
    bounds = sums.split(shape, [], [], 16)
    assert len(bounds) < 16
    parts = sums.parts(shape, [], [], bounds)
    whole = sums.of(shape, [], [])
    assert sum(part[1] for part in parts) == whole[0] == count
    assert sum(part[2] for part in parts) % (1 << 63) == whole[1]
    if count == 100:
        assert max(part[1] for part in parts) <= 8, "parts are about equal"
    for low, high, part in zip([[], *bounds], [*bounds, []], parts, strict=True):
        assert len(list(sums.rows(shape, low, high))) == part[1]
