"""Row, row factories, text factories, adapters and converters."""

import datetime
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import octodb


@pytest.fixture
def connection():
    with closing(octodb.connect(":memory:")) as connection:
        yield connection


@pytest.fixture
def row(connection):
    connection.row_factory = octodb.Row
    return connection.execute("SELECT 1 AS a, 'x' AS Name, 2 AS A").fetchone()


def test_a_row_is_read_by_index_name_and_slice(row):
    assert (row[0], row[-1], row["a"], row["NAME"], row["A"]) == (1, 2, 1, "x", 1)
    assert row[1:] == ("x", 2)
    assert row[::-1] == (2, "x", 1)
    assert (len(row), list(row), row.keys()) == (3, [1, "x", 2], ["a", "Name", "A"])
    assert dict(row) == {"a": 1, "Name": "x", "A": 1}
    assert isinstance(row, Sequence)
    for wrong in ("b", 3, -4, 2**80, 1.5):
        with pytest.raises(IndexError):
            row[wrong]


def test_rows_are_equal_when_names_and_values_are(connection):
    connection.row_factory = octodb.Row
    first, second = (connection.execute("SELECT 1 AS a, 2 AS b").fetchone() for _ in range(2))
    other = connection.execute("SELECT 1 AS b, 2 AS a").fetchone()
    assert first == second
    assert hash(first) == hash(second)
    assert first != other
    assert first != (1, 2)
    with pytest.raises(TypeError):
        sorted([first, second])


def test_every_way_of_fetching_makes_rows(connection):
    connection.row_factory = octodb.Row
    cursor = connection.execute("VALUES (1), (2), (3), (4), (5)")
    fetched = [cursor.fetchone(), next(cursor), *cursor.fetchmany(1), next(iter(cursor)), *cursor.fetchall()]
    assert [type(row) for row in fetched] == [octodb.Row] * 5
    assert [row[0] for row in fetched] == [1, 2, 3, 4, 5]
    assert [row["a"] for row in connection.execute("SELECT 7 AS a")] == [7]


def test_a_row_factory_is_inherited_from_the_connection_and_can_be_changed_on_the_cursor(connection):
    connection.row_factory = lambda cursor, row: {
        column[0]: value for column, value in zip(cursor.description, row, strict=True)
    }
    cursor = connection.execute("SELECT 1 AS a UNION SELECT 2")
    assert cursor.fetchone() == {"a": 1}
    cursor.row_factory = None
    assert cursor.fetchone() == (2,)


def test_text_factory_gets_utf8(connection):
    connection.text_factory = bytes
    assert connection.execute("SELECT 'é', 1, X'00'").fetchone() == ("é".encode(), 1, b"\0")
    connection.text_factory = lambda raw: raw.decode().upper()
    assert connection.execute("SELECT 'abc'").fetchall() == [("ABC",)]
    connection.text_factory = str
    assert connection.execute("SELECT 'abc'").fetchone() == ("abc",)


def test_dates_go_in_and_come_out(connection):
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30, 1, 500)
    with closing(octodb.connect(":memory:", detect_types=octodb.PARSE_DECLTYPES)) as connection:
        connection.execute("CREATE TABLE t(d DATE, m TIMESTAMP)")
        connection.execute("INSERT INTO t VALUES (?, ?)", (day, moment))
        assert connection.execute("SELECT d, m, typeof(d) FROM t").fetchone() == (day, moment, "text")


def test_converters_by_declared_type_and_by_name(monkeypatch):
    monkeypatch.setitem(octodb.converters, "POINT", lambda raw: tuple(map(int, raw.split(b";"))))
    both = octodb.PARSE_DECLTYPES | octodb.PARSE_COLNAMES
    with closing(octodb.connect(":memory:", detect_types=both)) as connection:
        connection.execute("CREATE TABLE t(p point(2) not null, q)")
        connection.execute("INSERT INTO t VALUES ('1;2', NULL)")
        assert connection.execute("SELECT p, q FROM t").fetchone() == ((1, 2), None)
        cursor = connection.execute('SELECT \'3;4\' AS "here [point]", NULL AS "n [point]"')
        assert [column[0] for column in cursor.description] == ["here", "n"]
        assert cursor.fetchone() == ((3, 4), None)


def test_an_adapter_and_conform_make_values_storable(connection, monkeypatch):
    class Point:
        pass

    class Conforming:
        def __conform__(self, protocol):
            return "conformed" if protocol is octodb.PrepareProtocol else None

    monkeypatch.setitem(octodb.adapters, (Point, octodb.PrepareProtocol), lambda point: "a point")
    values = (Point(), Conforming())
    assert connection.execute("SELECT ?, ?", values).fetchone() == ("a point", "conformed")
    named = {"p": Point(), "c": Conforming()}
    assert connection.execute("SELECT :p, :c", named).fetchone() == ("a point", "conformed")
    with pytest.raises(octodb.ProgrammingError, match="can't adapt"):
        octodb.adapt(object())
    assert octodb.adapt(object(), octodb.PrepareProtocol, "instead") == "instead"


values = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()


@settings(max_examples=60, deadline=None)
@given(row=st.lists(values, min_size=1, max_size=5))
def test_values_come_back_as_sqlite3_brings_them_back(row):
    sql = f"SELECT {', '.join('?' * len(row))}"

    def fetched(module, **options):
        try:
            with closing(module.connect(":memory:", **options)) as connection:
                return connection.execute(sql, row).fetchone()
        except UnicodeEncodeError as error:
            return str(error)

    assert fetched(octodb) == fetched(sqlite3)


@settings(max_examples=60, deadline=None)
@given(
    value=st.integers(-(2**63), 2**63 - 1)
    | st.integers(-8000, 8000).map(lambda eighths: eighths / 8)
    | st.text("aé\0")
    | st.binary()
)
def test_converters_see_the_bytes_sqlite3_shows_them(value):
    # fractions in eighths: how many digits a long one gets differs between versions of SQLite
    def seen(module):
        module.converters["RAW"] = bytes
        try:
            with closing(module.connect(":memory:", detect_types=module.PARSE_COLNAMES)) as connection:
                return connection.execute('SELECT ? AS "x [raw]"', (value,)).fetchone()
        finally:
            del module.converters["RAW"]

    assert seen(octodb) == seen(sqlite3)
