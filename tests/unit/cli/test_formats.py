"""Output formats: what each looks like, that widths hold, and that nothing is buffered."""

import csv
import io
import itertools
import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octocli.formats import MODES, SAMPLE_ROWS, Style, format_rows
from octocli.values import cell_width, clip, screen_text, sql_literal

COLUMNS = ["id", "name"]
ROWS = [(1, "Ada"), (22, None)]
VALUE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()


def text(mode, columns=COLUMNS, rows=ROWS, **style):
    return "".join(format_rows(mode, columns, [rows], Style(**style)))


def test_a_box_aligns_numbers_to_the_right_and_names_null():
    assert text("box") == ("┌────┬──────┐\n│ id │ name │\n├────┼──────┤\n│  1 │ Ada  │\n│ 22 │ NULL │\n└────┴──────┘\n")


def test_a_box_is_ascii_where_the_terminal_is():
    assert text("box", unicode=False) == (
        "+----+------+\n| id | name |\n+----+------+\n|  1 | Ada  |\n| 22 | NULL |\n+----+------+\n"
    )


def test_no_rows_make_no_box():
    assert text("box", rows=[]) == ""


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("tsv", "1\tAda\n22\t\n"),
        ("list", "1|Ada\n22|\n"),
        ("csv", "id,name\r\n1,Ada\r\n22,\r\n"),
        ("json", '[{"id":1,"name":"Ada"},\n{"id":22,"name":null}]\n'),
        ("jsonl", '{"id":1,"name":"Ada"}\n{"id":22,"name":null}\n'),
        ("markdown", "| id | name |\n|---|---|\n| 1 | Ada |\n| 22 |  |\n"),
        ("vertical", "  id = 1\nname = Ada\n\n  id = 22\nname = NULL\n"),
        (
            "insert",
            'INSERT INTO "t"("id","name") VALUES(1,\'Ada\');\nINSERT INTO "t"("id","name") VALUES(22,NULL);\n',
        ),
    ],
)
def test_modes(mode, expected):
    assert text(mode, table="t") == expected


def test_headers_and_nullvalue_override_the_mode():
    assert text("tsv", headers=True, null="-") == "id\tname\n1\tAda\n22\t-\n"
    assert text("csv", headers=False) == "1,Ada\r\n22,\r\n"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_of_a_box_is_wider_than_the_screen(width):
    rows = [(n, "x" * n, "語" * (n % 30)) for n in range(300)]
    for line in text("box", ["n", "long", "wide"], rows, width=width).splitlines():
        assert cell_width(line) <= max(width, cell_width("long = ") + 300)
        if line.startswith("│"):
            assert cell_width(line) <= width


def test_too_many_columns_for_the_screen_are_shown_below_each_other():
    columns = [f"column{n}" for n in range(30)]
    shown = text("box", columns, [tuple(range(30))] * 2, width=80)
    assert "column29 = 29\n\n column0 = 0" in shown


def test_a_long_value_after_the_sample_is_cut_on_screen_only():
    rows = [("a",)] * SAMPLE_ROWS + [("much longer than the sample",)]
    assert "│ m… │" in text("box", ["x1"], rows, width=80)
    assert "much longer than the sample" in text("box", ["x1"], rows)


def test_a_number_after_the_sample_is_whole_where_the_screen_has_room():
    rows = [(n, n) for n in range(SAMPLE_ROWS)] + [(1_000_000, -5_000_000)]
    lines = text("box", ["a", "b"], rows, width=80).splitlines()
    assert lines[-2] == "│ 1000000 │ -5000000 │"
    assert all(cell_width(line) <= 16 for line in text("box", ["a", "b"], rows, width=16).splitlines())


def test_values_cannot_drive_the_terminal():
    shown = text("box", ["v"], [("\x1b[2J\x07\u202e\n",)])
    assert "\x1b" not in shown
    assert "\\x1b[2J\\x07\\u202e\\n" in shown


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_streams(mode):
    """Rows that never end: output must come out all the same."""
    endless = ([(n, "x")] for n in itertools.count())
    chunks = format_rows(mode, COLUMNS, endless, Style())
    assert len(list(itertools.islice(chunks, 500))) == 500


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_ends_at_the_end_of_a_line(mode):
    assert text(mode).endswith("\n")


@given(st.lists(st.tuples(VALUE, VALUE), max_size=5))
def test_json_is_json(rows):
    parsed = json.loads(text("json", rows=rows))
    assert len(parsed) == len(rows)
    for found, row in zip(parsed, rows, strict=True):
        for value, original in zip(found.values(), row, strict=True):
            if isinstance(original, str | int | None):
                assert value == original


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers()), max_size=5))
def test_csv_reads_back(rows):
    written = text("csv", rows=rows)
    found = list(csv.reader(io.StringIO(written, newline="")))
    assert found[1:] == [[value, str(number)] for value, number in rows]


@given(VALUE)
def test_literals_read_back_as_the_same_value(value):
    if isinstance(value, str):
        value = value.encode("utf-8", "ignore").decode().replace("\0", "")
    with sqlite3.connect(":memory:") as conn:
        found = conn.execute(f"SELECT {sql_literal(value)}").fetchone()[0]
    conn.close()
    if isinstance(value, float):
        # SQLite itself reads the last of 17 digits inexactly (https://sqlite.org/floatingpoint.html)
        assert found == pytest.approx(value, rel=1e-15, abs=0)
    else:
        assert found == value


@given(st.text(), st.integers(1, 20))
def test_clip_never_exceeds_its_width(value, width):
    value = screen_text(value)
    assert cell_width(clip(value, width)) <= width
    assert clip(value, cell_width(value) + 1) == value
