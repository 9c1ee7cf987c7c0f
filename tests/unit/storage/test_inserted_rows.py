"""InsertedRows makes what a session would have recorded."""

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octodb.storage.changesets import iterate
from octodb.storage.inserted_rows import InsertedRows
from octodb.storage.shapes import Shapes

VALUES = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.binary(max_size=200),
)


def recorded_both_ways(schema, insert, bindings, table="t"):
    """(made of the returned rows, recorded by a session) for one INSERT."""
    db = apsw.Connection(":memory:")
    db.execute(schema)
    inserted = InsertedRows(Shapes.read(db).get(table))
    session = apsw.Session(db, "main")
    session.attach()
    rows = db.execute(insert + inserted.returning, bindings).fetchall()
    return inserted.changeset(rows), session.changeset()


@given(st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), VALUES, VALUES, VALUES, VALUES))
def test_any_values_under_any_affinity_are_those_that_are_stored(row):
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b REAL, c NUMERIC, d)"

    made, recorded = recorded_both_ways(schema, "INSERT INTO t VALUES (?, ?, ?, ?, ?)", row)

    assert made == recorded


@pytest.mark.parametrize("size", [0, 127, 128, 16383, 16384, 300_000, 3_000_000])
def test_lengths_are_written_as_sqlite_does(size):
    row = ("x" * size, b"y" * size)

    made, recorded = recorded_both_ways(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)", "INSERT INTO t(a, b) VALUES (?, ?)", row
    )

    assert made == recorded


def test_keys_of_several_columns_and_generated_columns_and_odd_names():
    schema = """CREATE TABLE "a ""t" (v, twice AS (v || v), k2 TEXT NOT NULL, "k 1" INT NOT NULL,
        w DEFAULT 'é' NOT NULL, PRIMARY KEY ("k 1", k2)) WITHOUT ROWID"""

    made, recorded = recorded_both_ways(schema, 'INSERT INTO "a ""t" (v, k2, "k 1") VALUES (1, 2, 3)', (), table='A "T')

    assert made == recorded


def test_several_rows_are_the_same_changes_in_whatever_order():
    made, recorded = recorded_both_ways(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a)", "INSERT INTO t(a) VALUES (1), (NULL), ('3')", ()
    )

    assert sorted(change[1:] for change in iterate(made)) == sorted(change[1:] for change in iterate(recorded))
