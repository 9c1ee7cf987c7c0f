"""One SQL value as text: for people (box), for programs (tsv, csv, json) and as an SQL literal."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

__all__ = ["cell_width", "clip", "json_text", "plain_text", "screen_text", "sql_literal"]

# C0, DEL and C1: a stored value must not be able to move the cursor or set the title.
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NAMED: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def plain_text(value: Any, null: str = "") -> str:
    """As the sqlite3 shell writes it, except BLOBs, which are ``X'hex'``."""
    if value is None:
        return null
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"X'{value.hex().upper()}'"
    return str(value)


def screen_text(value: Any, null: str = "NULL") -> str:
    """For one line on a terminal: control characters are shown, not sent."""
    text = plain_text(value, null)
    if text.isascii() and text.isprintable():
        return text
    return CONTROL.sub(_visible, text)


def json_text(value: Any) -> str:
    """A JSON value. BLOBs are hex text; infinity is 9e999, as SQLite's own JSON has it."""
    if isinstance(value, bytes):
        return f'"{value.hex().upper()}"'
    if isinstance(value, float) and not math.isfinite(value):
        return "null" if math.isnan(value) else f"{'-' if value < 0 else ''}9e999"
    return json.dumps(value, ensure_ascii=False)


def sql_literal(value: Any) -> str:
    """A literal that SQLite reads back as the same value."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float) and math.isinf(value):
        return f"{'-' if value < 0 else ''}9e999"
    return plain_text(value, "NULL")


def cell_width(text: str) -> int:
    """Cells a text takes on the screen: East Asian letters take two."""
    if text.isascii():
        return len(text)
    from prompt_toolkit.utils import get_cwidth

    return get_cwidth(text)


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most ``width`` cells, ending in ``ellipsis`` where something was cut."""
    if cell_width(text) <= width:
        return text
    if width <= len(ellipsis):
        return ellipsis[:width]
    kept = text[: width - len(ellipsis)]
    while cell_width(kept) > width - len(ellipsis):
        kept = kept[:-1]
    return kept + ellipsis


def _visible(match: re.Match[str]) -> str:
    char = match[0]
    code = ord(char)
    return NAMED.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
