"""The texts around what is typed: prompt, continuation prompt, bottom toolbar. Pure functions."""

from __future__ import annotations

from octocli.feed import Status
from octocli.status_text import address, mark_of, state_text
from octocli.terminal import GLYPHS, Terminal, to_ascii

__all__ = ["continuation_text", "prompt_text", "toolbar_text"]


def prompt_text(name: str, status: Status | None, in_transaction: bool, terminal: Terminal) -> str:
    """The file's name, its sync sign (none for a plain file), ``*`` within a transaction, and a bracket."""
    sign = "" if status is None else GLYPHS[_prompt_mark(status)][0]
    text = f"{name}{sign}{'*' if in_transaction else ''}{GLYPHS['prompt'][0]} "
    return text if terminal.unicode else to_ascii(text)


def continuation_text(open_delimiter: str, width: int) -> str:
    """As wide as the prompt, showing what is still open (``'``, ``(``, ``/*``)."""
    return f"{open_delimiter}> ".rjust(width)[-width:] if width > 2 else "> "


def toolbar_text(status: Status, terminal: Terminal) -> str:
    """``● in sync h1:1234 0.4ms · ↑0 ↓12 · ✗1 · user 3``: word and sign, never colour alone."""
    transactions, log = status.get("transactions") or {}, status.get("log") or {}
    head = f"{GLYPHS[mark_of(status)][0]} {state_text(status)}"
    if status.get("node_type") == "primary":
        parts = [" ".join([head, *map(address, status.get("bind") or [])])]
        parts.append(f"{status.get('nodes') or 0} devices")
    else:
        if status.get("connected") and status.get("server"):
            rtt = status.get("rtt_ms")
            head += f" {address(status['server'])}" + ("" if rtt is None else f" {rtt:.1f}ms")
        behind = max(0, (log.get("head") or 0) - (log.get("applied") or 0))
        parts = [head, f"↑{transactions.get('pending') or 0} ↓{behind}"]
        if transactions.get("rejected"):
            parts.append(f"✗{transactions['rejected']} rejected")
        if status.get("user_id"):
            parts.append(f"user {status['user_id']}")
    text = " · ".join(parts)
    return text if terminal.unicode else to_ascii(text)


def _prompt_mark(status: Status) -> str:
    mark = mark_of(status)
    rejected = (status.get("transactions") or {}).get("rejected")
    return "rejected" if rejected and mark == "in sync" else mark
