"""A node's status as words: one look in a few lines, one line for a log, the glyph and word of a state.

Pure functions of a status; they read no clock and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from octocli.feed import Status, error_text
from octocli.terminal import Terminal

__all__ = ["address", "age_text", "mark_of", "one_line", "state_text", "status_lines", "who_text"]


def mark_of(status: Status) -> str:
    """The name in GLYPHS of the sign for this status; attention first, then what is rejected."""
    state = status.get("state")
    auth = status.get("auth") or {}
    if state in {"unauthorized", "revoked"} or (auth.get("required") and not status.get("node_id")):
        return "attention"
    if state == "in sync":
        return "in sync"
    if state in {"syncing", "downloading", "authorizing"}:
        return "syncing"
    if status.get("node_type") == "primary" and status.get("bind"):
        return "in sync"
    return "offline"


def state_text(status: Status) -> str:
    """The word beside the glyph; a primary that listens is 'serving', never 'in sync' with itself."""
    if status.get("node_type") == "primary" and status.get("bind"):
        return "serving"
    state = str(status.get("state") or "unknown")
    auth = status.get("auth") or {}
    if state == "unauthorized" or (auth.get("required") and not status.get("node_id")):
        return "sign-in needed"
    return state


def who_text(status: Status) -> str:
    """``node 7 · user 3 · secondary``; what is not known is left out."""
    parts = [f"{name} {status[f'{name}_id']}" for name in ("node", "user") if status.get(f"{name}_id")]
    return " · ".join([*parts, str(status.get("node_type") or "")]).strip(" ·")


def age_text(seconds: float | None) -> str:
    """A duration for people: ``0.2 s``, ``18 s``, ``2h11m``, ``3d4h``; an en dash where it is unknown."""
    if seconds is None:
        return "never"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours}h{minutes % 60:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24}h"


def address(url: str) -> str:
    return url.removeprefix("tcp://").removeprefix("tls://")


def status_lines(status: Status, name: str, terminal: Terminal) -> list[str]:
    """One look, for a person: a headline and one ``label  value`` line for each fact that is known."""
    primary = status.get("node_type") == "primary"
    sign = terminal.glyph(mark_of(status))
    lines = [f"{name}   {who_text(status)}   {sign} {state_text(status)}"]
    facts = _primary_facts(status) if primary else _secondary_facts(status)
    engine = status.get("engine")
    if engine is None:
        facts.append(("engine", "no process is syncing this file now"))
    else:
        facts.append(("engine", f"process {engine.get('pid')}, {age_text(engine.get('age_s'))} ago"))
    if problem := error_text(status):
        facts.append(("last error", problem))
    return lines + [f"  {label:<14}{value}" for label, value in facts]


def _secondary_facts(status: Status) -> list[tuple[str, str]]:
    transactions, log = status.get("transactions") or {}, status.get("log") or {}
    facts = []
    if server := status.get("server"):
        rtt = status.get("rtt_ms")
        facts.append(("server", address(server) + (f" ({rtt:.1f} ms)" if rtt is not None else "")))
    if snapshot := status.get("snapshot"):
        facts.append(("download", download_text(snapshot)))
    queue = f"{transactions.get('pending', 0):,} to send"
    if transactions.get("oldest_pending_s") is not None:
        queue += f", the oldest {age_text(transactions['oldest_pending_s'])} old"
    facts.append(("queue", queue))
    facts.append(("rejected", f"{transactions.get('rejected', 0):,}"))
    applied = f"{log.get('applied') or 0:,}"
    # Only a connected primary says where its log ends; between connections nobody here knows.
    facts.append(("applied", applied if log.get("head") is None else f"{applied} of {_head(log)}"))
    if status.get("engine") is not None:
        facts.append(("last contact", _ago(status.get("last_contact_s"))))
    if status.get("checksum_ok") is not None:
        facts.append(("checksum", "equal" if status["checksum_ok"] else "DIFFERENT"))
    return facts


def _primary_facts(status: Status) -> list[tuple[str, str]]:
    facts = []
    if bind := status.get("bind"):
        facts.append(("listening on", ", ".join(map(address, bind))))
    if status.get("nodes") is not None:
        facts.append(("devices", f"{status['nodes']:,} connected"))
    if service := status.get("authorizer"):
        reached = "connected" if service.get("connected") else "NOT REACHED"
        facts.append(
            ("authorizer", f"{address(service['service'])}, {reached}, {service.get('waiting') or 0:,} waiting")
        )
    log = status.get("log") or {}
    if log.get("head") is not None:
        facts.append(("log", f"{_head(log)} entries"))
    return facts


def download_text(snapshot: dict[str, Any]) -> str:
    rows, total = snapshot.get("rows") or 0, snapshot.get("rows_total") or 0
    percent = f"{100 * rows / total:.0f} %, " if total else ""
    return f"{percent}{rows:,} of {total:,} rows"


def one_line(status: Status, name: str, before: Sequence[str] = ()) -> str:
    """A status in one line for logs: the same words in the same order each time."""
    transactions, log = status.get("transactions") or {}, status.get("log") or {}
    parts = [*before, name, state_text(status)]
    if status.get("node_type") == "primary":
        parts += [f"devices={status.get('nodes') or 0}", f"log={_head(log)}"]
    else:
        parts += [
            f"queue={transactions.get('pending', 0)}",
            f"applied={log.get('applied') or 0}/{_head(log)}",
            f"rejected={transactions.get('rejected', 0)}",
        ]
        if snapshot := status.get("snapshot"):
            parts.append(f"rows={snapshot.get('rows')}/{snapshot.get('rows_total')}")
    if problem := error_text(status):
        parts.append(f"error={problem!r}")
    return " ".join(parts)


def _head(log: dict[str, Any]) -> str:
    head = log.get("head")
    return "?" if head is None else f"{head:,}"


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{age_text(seconds)} ago"
