"""Commands that list something, or do something with one of it: ``octodb nodes``, ``octodb nodes revoke 7``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from octocli.terminal import Terminal

__all__ = ["ActionsOrList", "print_objects"]


class ActionsOrList(click.Group):
    """A group whose hidden command ``list`` is meant when the first word is none of its actions."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        if first not in self.commands and not {"-h", "--help"} & set(args[:1]):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def print_objects(
    terminal: Terminal,
    found: Iterable[dict[str, Any]],
    columns: Sequence[str],
    *,
    as_json: bool,
    shown: Callable[[str, Any], Any] = lambda _name, value: value,
) -> None:
    """Objects as JSON lines with ``"v": 1``, or ``columns`` of them as a table; ``shown`` shortens values for that."""
    from octocli.formats import Style, format_rows

    if as_json:
        for one in found:
            click.echo(json.dumps({"v": 1, **one}))
        return
    rows = ([shown(name, one[name]) for name in columns] for one in found)
    width = terminal.columns if terminal.stdout_is_tty else None
    style = Style(headers=True, null="", width=width, unicode=terminal.unicode)
    mode = "box" if terminal.stdout_is_tty else "tsv"
    for text in format_rows(mode, columns, ([row] for row in rows), style):
        click.echo(text, nl=False)
