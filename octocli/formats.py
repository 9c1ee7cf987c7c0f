"""The output formats: batches of rows in, chunks of text out, never holding more than the first rows.

Pure generators; what is fetched, capped or written where is decided elsewhere.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from octocli.values import cell_width, clip, json_text, plain_text, screen_text, sql_literal

__all__ = ["MODES", "Style", "format_rows"]

Rows = Sequence[Sequence[Any]]
Batches = Iterable[Rows]

# Rows that fix the widths of a box: enough to be right mostly, few enough to appear at once.
SAMPLE_ROWS: Final = 100
COLUMN_CELLS_MAX: Final = 60
COLUMN_CELLS_MIN: Final = 6

UNICODE_BOX: Final = ("┌┬┐", "├┼┤", "└┴┘", "─", "│")
ASCII_BOX: Final = ("+++", "+++", "+++", "-", "|")


@dataclass(frozen=True)
class Style:
    """How to write. ``width`` is the screen's, None where nothing may be cut.

    ``headers`` and ``null`` None leave it to the mode.
    """

    headers: bool | None = None
    null: str | None = None
    width: int | None = None
    unicode: bool = True
    table: str = "table_name"

    def header(self, default: bool) -> bool:
        return default if self.headers is None else self.headers

    def nullvalue(self, default: str) -> str:
        return default if self.null is None else self.null


def format_rows(mode: str, columns: Sequence[str], batches: Batches, style: Style) -> Iterator[str]:
    """Write the rows of ``batches`` in a mode of MODES. Text that comes out ends at a line's end."""
    return MODES[mode](list(columns), batches, style)


def _separated(separator: str) -> Callable[[list[str], Batches, Style], Iterator[str]]:
    def write(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
        if style.header(False):
            yield separator.join(columns) + "\n"
        null = style.nullvalue("")

        def text(value: Any) -> str:
            return value if type(value) is str else plain_text(value, null)

        for rows in batches:
            yield "".join([separator.join(map(text, row)) + "\n" for row in rows])

    return write


def _csv(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
    null = style.nullvalue("")
    buffer = io.StringIO()
    writer = csv.writer(buffer)  # RFC 4180 line ends, as the sqlite3 shell writes them
    if style.header(True):
        writer.writerow(columns)
    for rows in batches:
        writer.writerows([plain_text(value, null) for value in row] for row in rows)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json_object(columns: list[str]) -> Callable[[Sequence[Any]], str]:
    names = [json.dumps(name, ensure_ascii=False) for name in columns]

    def write(row: Sequence[Any]) -> str:
        return "{" + ",".join(f"{n}:{json_text(v)}" for n, v in zip(names, row, strict=True)) + "}"

    return write


def _jsonl(columns: list[str], batches: Batches, _style: Style) -> Iterator[str]:
    write = _json_object(columns)
    for rows in batches:
        yield "".join(write(row) + "\n" for row in rows)


def _json(columns: list[str], batches: Batches, _style: Style) -> Iterator[str]:
    write = _json_object(columns)
    before = "["
    for rows in batches:
        for row in rows:
            yield before + write(row)
            before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


def _insert(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
    quoted = '"' + style.table.replace('"', '""') + '"'
    names = ",".join('"' + name.replace('"', '""') + '"' for name in columns)
    for rows in batches:
        yield "".join(f"INSERT INTO {quoted}({names}) VALUES({','.join(map(sql_literal, row))});\n" for row in rows)


def _vertical(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
    room = max(map(cell_width, columns), default=0)
    null = style.nullvalue("NULL")
    for number, row in enumerate(itertools.chain.from_iterable(batches)):
        lines = [""] if number else []
        for name, value in zip(columns, row, strict=True):
            lines.append(f"{' ' * (room - cell_width(name))}{name} = {screen_text(value, null)}")
        yield "\n".join(lines) + "\n"


def _markdown(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    null = style.nullvalue("")
    yield line(map(screen_text, columns))
    yield "|" + "---|" * len(columns) + "\n"
    for rows in batches:
        yield "".join(line(screen_text(value, null) for value in row) for row in rows)


def _box(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
    yield from _ruled(columns, batches, style, UNICODE_BOX if style.unicode else ASCII_BOX)


def _table(columns: list[str], batches: Batches, style: Style) -> Iterator[str]:
    yield from _ruled(columns, batches, style, ASCII_BOX)


def _ruled(columns: list[str], batches: Batches, style: Style, box: tuple[str, ...]) -> Iterator[str]:
    null = style.nullvalue("NULL")
    rows = itertools.chain.from_iterable(batches)
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    if not sample:
        return
    cells = [[screen_text(value, null) for value in row] for row in sample]
    names = [screen_text(name) for name in columns]
    widths = _widths(names, cells, style.width)
    if widths is None:
        yield from _vertical(columns, itertools.chain([sample], ([row] for row in rows)), style)
        return
    numeric = [all(isinstance(row[i], int | float | None) for row in sample) for i in range(len(names))]
    top, middle, bottom, flat, wall = box
    ellipsis = "…" if style.unicode else "..."
    # A number that outgrows its column after the sample takes what is left of the screen: cut, it would be another.
    spare = max(0, (style.width or 0) - sum(widths) - 3 * len(widths) - 1) // max(1, sum(numeric))

    def rule(ends: str) -> str:
        return ends[0] + ends[1].join(flat * (width + 2) for width in widths) + ends[2] + "\n"

    def line(texts: Sequence[str], right: Sequence[bool]) -> str:
        parts = []
        for text, width, to_right in zip(texts, widths, right, strict=True):
            shown = text if style.width is None else clip(text, width + (spare if to_right else 0), ellipsis)
            pad = " " * max(0, width - cell_width(shown))
            parts.append(pad + shown if to_right else shown + pad)
        return f"{wall} " + f" {wall} ".join(parts) + f" {wall}\n"

    yield rule(top)
    if style.header(True):
        yield line(names, [False] * len(names)) + rule(middle)
    yield "".join(line(texts, numeric) for texts in cells)
    for row in rows:
        yield line([screen_text(value, null) for value in row], numeric)
    yield rule(bottom)


def _widths(names: list[str], cells: list[list[str]], screen: int | None) -> list[int] | None:
    """Cells for each column, or None where even the narrowest columns do not fit the screen."""
    widths = [max(map(cell_width, column)) for column in zip(names, *cells, strict=True)]
    if screen is None:
        return widths
    room = screen - 3 * len(names) - 1
    widths = [min(width, COLUMN_CELLS_MAX) for width in widths] if sum(widths) > room else widths
    while sum(widths) > room:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= COLUMN_CELLS_MIN:
            return None
        widths[widest] -= 1
    return widths


MODES: Final[dict[str, Callable[[list[str], Batches, Style], Iterator[str]]]] = {
    "box": _box,
    "table": _table,
    "markdown": _markdown,
    "vertical": _vertical,
    "list": _separated("|"),
    "tsv": _separated("\t"),
    "csv": _csv,
    "json": _json,
    "jsonl": _jsonl,
    "insert": _insert,
}
