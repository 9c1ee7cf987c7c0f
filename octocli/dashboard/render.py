"""Draws one dashboard: a status, its history and a width in, lines of styled text out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from octocli.dashboard.history import History, Rates
from octocli.feed import Status, error_text
from octocli.status_text import address, age_text, download_text, mark_of, state_text, who_text
from octocli.terminal import GLYPHS, to_ascii
from octocli.values import cell_width, clip, screen_text

__all__ = ["HELP", "PANELS", "Line", "View", "plain", "render"]

Line = list[tuple[str, str]]

PANELS: Final = ("all", "servers", "events")
BARS: Final = "▁▂▃▄▅▆▇█"
ASCII_BARS: Final = "_.-=+*#@"
GAP: Final = "   "
HELP: Final = (
    "q quit",
    "p pause: the picture stands still, the node does not",
    "r reconnect: drop the connection and dial again",
    "Tab next panel (all, servers, events)",
    "? this help",
)
STYLES: Final = {
    "in sync": "ansigreen",
    "syncing": "ansiyellow",
    "offline": "ansigray",
    "attention": "ansired",
}


@dataclass(frozen=True)
class View:
    """What the person chose, and what the screen can do. ``height`` None draws everything."""

    width: int
    height: int | None = None
    unicode: bool = True
    panel: str = "all"
    paused: bool = False
    help: bool = False
    keys: bool = True


def render(
    status: Status,
    history: History,
    view: View,
    *,
    name: str,
    connect: Sequence[str] = (),
    now_s: float = 0.0,
) -> list[Line]:
    """The dashboard at ``view.width`` cells: no line is wider. ``connect`` names servers of the URI."""
    lines = _headline(status, history, view, name, now_s)
    if view.help:
        lines += [[("", f"  {text}")] for text in HELP]
    else:
        if view.panel == "all":
            lines += _facts(status, view)
            lines += _rates(status, history.rates, view)
        if view.panel in {"all", "servers"} and status.get("node_type") != "primary":
            lines += _servers(status, connect, view.width)
        if view.panel in {"all", "events"}:
            lines += _events(history, view, len(lines))
    if view.keys:
        lines.append([("class:keys", "q quit  p pause  r reconnect  Tab panels  ? help")])
    return [_fit(line, view) for line in lines]


def plain(lines: Sequence[Line]) -> str:
    """The text of lines without styles."""
    return "\n".join("".join(text for _, text in line).rstrip() for line in lines)


def _headline(status: Status, history: History, view: View, name: str, now_s: float) -> list[Line]:
    mark = mark_of(status)
    parts: Line = [
        ("bold", screen_text(name)),
        ("", who_text(status)),
        (f"bold {STYLES[mark]}", f"{GLYPHS[mark][0]} {state_text(status)}"),
    ]
    if history.started_s is not None:
        parts.append(("", f"watched {age_text(now_s - history.started_s)}"))
    if view.paused:
        parts.append(("reverse", "paused"))
    return _pack(parts, view.width)


def _facts(status: Status, view: View) -> list[Line]:
    transactions, log = status.get("transactions") or {}, status.get("log") or {}
    if status.get("node_type") == "primary":
        parts: Line = [("", f"devices {status.get('nodes') or 0:,}"), ("", f"log {_number(log.get('head'))}")]
        parts += [("", f"on {address(url)}") for url in status.get("bind") or []]
        return _pack(parts, view.width)
    rejected = int(transactions.get("rejected") or 0)
    parts = [
        ("", f"↑ queue {_number(transactions.get('pending'))}"),
        ("", f"↓ applied {_number(log.get('applied'))} of {_number(log.get('head'))}"),
        ("ansired" if rejected else "", f"✗ rejected {rejected:,}"),
        ("", f"last contact {age_text(status.get('last_contact_s'))}"),
    ]
    lines = _pack(parts, view.width)
    if snapshot := status.get("snapshot"):
        lines.append(_download(snapshot, view))
    return lines


def _download(snapshot: dict[str, Any], view: View) -> Line:
    total = snapshot.get("rows_total") or 0
    text = f"  {download_text(snapshot)}"
    room = max(5, min(40, view.width - len(text) - 12))
    done = round(room * (snapshot.get("rows") or 0) / total) if total else 0
    return [
        ("", "downloading "),
        ("ansigreen", ("█" if view.unicode else "#") * done),
        ("ansigray", "·" * (room - done)),
        ("", text),
    ]


def _rates(status: Status, rates: Rates, view: View) -> list[Line]:
    """Two sparklines; on a narrow screen they are shorter and below each other."""
    primary = status.get("node_type") == "primary"
    labels = ("↑ bytes/s", "↓ tx/s") if primary else ("↑ tx/s", "↓ tx/s")
    room = 20 if view.width >= 100 else 10
    bars = BARS if view.unicode else ASCII_BARS
    parts: Line = []
    for label, series in zip(labels, (rates.up, rates.down), strict=True):
        last = series[-1] if series else 0.0
        parts.append(("", f"{label} {_spark(series[-room:], bars).rjust(room)} {_rate(last)}"))
    if not primary:
        parts.append(("ansigray", f"(max {_rate(rates.highest)})"))
    return _pack(parts, view.width)


def _spark(series: Sequence[float], bars: str) -> str:
    highest = max(series, default=0.0)
    if not highest:
        return bars[0] * len(series)
    return "".join(bars[min(len(bars) - 1, int(value / highest * (len(bars) - 1) + 0.5))] for value in series)


def _servers(status: Status, connect: Sequence[str], width: int) -> list[Line]:
    rows = [_server_row(server) for server in status.get("servers") or _guessed_servers(status, connect)]
    if not rows:
        return []
    table = [("SERVER", "STATE", "RTT", "LAST CONTACT"), *rows]
    widths = [max(cell_width(row[column]) for row in table) for column in range(3)]
    widths[0] = min(widths[0], max(8, width // 3))
    lines: list[Line] = []
    for row in table:
        cells = [clip(cell, room) for cell, room in zip(row, widths, strict=False)]
        text = GAP.join(c + " " * (w - cell_width(c)) for c, w in zip(cells, widths, strict=True))
        lines.append([("ansigray" if row is table[0] else "", f"{text}{GAP}{row[3]}".rstrip())])
    return lines


def _server_row(server: dict[str, Any]) -> tuple[str, str, str, str]:
    rtt = server.get("rtt_ms")
    contact = server.get("last_contact_s")
    told = " ".join(filter(None, ["" if contact is None else age_text(contact), str(server.get("error") or "")]))
    return (
        screen_text(address(str(server.get("server") or "?"))),
        str(server.get("state") or ""),
        "-" if rtt is None else f"{rtt:.1f}ms",
        screen_text(told),
    )


def _guessed_servers(status: Status, connect: Sequence[str]) -> list[dict[str, Any]]:
    """From the URI's addresses, where the node tells only which one it is connected to."""
    current = status.get("server")
    names = [*connect, *([current] if current and current not in connect else [])]
    return [
        {
            "server": name,
            "state": "connected" if status.get("connected") and name == current else "standby",
            "rtt_ms": status.get("rtt_ms") if name == current else None,
            "last_contact_s": status.get("last_contact_s") if name == current else None,
            "error": "" if status.get("connected") or len(names) > 1 else error_text(status),
        }
        for name in names
    ]


def _events(history: History, view: View, used: int) -> list[Line]:
    room = 5 if view.height is None else max(1, view.height - used - 2)
    title = "── events "
    lines: list[Line] = [[("ansigray", title + "─" * max(0, view.width - len(title)))]]
    lines += [[("", f"{event.clock}  {screen_text(event.text)}")] for event in list(history.events)[-room:]]
    return lines


def _pack(parts: Line, width: int) -> list[Line]:
    """Put parts beside each other as long as they fit, then go on in the next line."""
    lines: list[Line] = [[]]
    used = 0
    for style, text in parts:
        if not text:
            continue
        cells = cell_width(text)
        if lines[-1] and used + len(GAP) + cells > width:
            lines.append([])
            used = 0
        if lines[-1]:
            lines[-1].append(("", GAP))
            used += len(GAP)
        lines[-1].append((style, text))
        used += cells
    return lines


def _fit(line: Line, view: View) -> Line:
    left = view.width
    fitted: Line = []
    for style, text in line:
        shown = clip(text if view.unicode else to_ascii(text), left, "…" if view.unicode else "")
        if left > 0 and shown:
            fitted.append((style, shown))
        left -= cell_width(shown)
    return fitted


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"


def _rate(value: float) -> str:
    if value >= 1000:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
