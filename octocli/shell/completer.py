"""What to offer while SQL is typed: keywords, tables, columns, dot commands.

Works on the last catalogue it was given and on text alone, so that typing never waits for the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from octocli.shell.catalogue import Catalogue
from octocli.sqltext import is_dot_command, tokens

__all__ = ["SqlCompleter"]

WORD: Final = re.compile(r"[^\W\d][\w$]*$")
# After these words a table's name is expected, whatever else could stand there.
BEFORE_TABLE: Final = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "ON"})
OFFERS_MAX: Final = 200


class SqlCompleter(Completer):
    """``catalogue`` is replaced from outside whenever the schema has changed."""

    def __init__(self, keywords: Iterable[str], commands: Iterable[str]) -> None:
        self._keywords = sorted(word.upper() for word in keywords)
        self._commands = sorted(commands)
        self.catalogue = Catalogue()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        before = document.text_before_cursor
        if is_dot_command(before) or before.strip() == ".":
            yield from self._command(before)
            return
        match = WORD.search(before)
        typed = match[0] if match else ""
        if not typed and not complete_event.completion_requested and not before.endswith("."):
            return
        names = self._candidates(before[: len(before) - len(typed)], typed, document.text)
        for shown, name in enumerate(names):
            if shown == OFFERS_MAX:
                return
            yield Completion(_quoted(name), start_position=-len(typed), display=name)

    def _command(self, before: str) -> Iterator[Completion]:
        text = before.lstrip()
        name, space, argument = text[1:].partition(" ")
        if not space:
            for command in self._commands:
                if command.startswith(name):
                    yield Completion(command, start_position=-len(name))
        elif name in {"schema", "tables", "indexes", "d", "dt"}:
            for table in self.catalogue.tables:
                if table.lower().startswith(argument.lower()):
                    yield Completion(table, start_position=-len(argument))

    def _candidates(self, before: str, typed: str, text: str) -> Iterator[str]:
        words = [token for kind, token in tokens(before) if kind not in {"space", "comment"}]
        if words and words[-1] == ".":
            table = _table_of(words[-2] if len(words) > 1 else "", text, self.catalogue)
            yield from _starting(self.catalogue.columns.get(table, ()), typed)
            return
        last = words[-1].upper() if words else ""
        if last in BEFORE_TABLE:
            yield from _starting(self.catalogue.tables, typed)
            return
        used = _used_tables(text, self.catalogue)
        columns = dict.fromkeys(column for table in used for column in self.catalogue.columns[table])
        yield from _starting(columns, typed)
        if typed:
            yield from _starting(self.catalogue.tables, typed)
            lower = typed.islower()
            for word in self._keywords:
                if word.startswith(typed.upper()):
                    yield word.lower() if lower else word


def _used_tables(text: str, catalogue: Catalogue) -> list[str]:
    by_lower = {table.lower(): table for table in catalogue.tables}
    words = {token.lower().strip('"`[]') for kind, token in tokens(text) if kind in {"word", "quoted"}}
    return [by_lower[word] for word in words & by_lower.keys()]


def _table_of(name: str, text: str, catalogue: Catalogue) -> str:
    """The table that ``name`` stands for: itself, or an alias (``FROM contact c``, ``contact AS c``)."""
    by_lower = {table.lower(): table for table in catalogue.tables}
    wanted = name.lower().strip('"`[]')
    if wanted in by_lower:
        return by_lower[wanted]
    words = [t.lower().strip('"`[]') for kind, t in tokens(text) if kind in {"word", "quoted"}]
    for first, second, third in zip(words, words[1:], [*words[2:], ""], strict=False):
        if first in by_lower and wanted in ({third} if second == "as" else {second}):
            return by_lower[first]
    return ""


def _starting(names: Iterable[str], typed: str) -> Iterator[str]:
    lower = typed.lower()
    return (name for name in names if name.lower().startswith(lower))


def _quoted(name: str) -> str:
    if name.isidentifier() and name.isascii():
        return name
    return '"' + name.replace('"', '""') + '"'
