"""What the terminal can show, and the two streams: stdout is data, stderr is narration.

Owns the decisions about colour, glyphs and width. It never reads input and knows nothing of databases.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TextIO

__all__ = ["GLYPHS", "Terminal", "detect"]

# Each glyph has an ASCII twin for terminals that are not UTF-8; a word always stands beside it.
GLYPHS: Final = {
    "in sync": ("●", "="),
    "syncing": ("◐", "~"),
    "offline": ("○", "o"),
    "attention": ("!", "!"),
    "rejected": ("✗", "x"),
    "prompt": ("›", ">"),  # noqa: RUF001 - the prompt's own sign
    "up": ("↑", "^"),
    "down": ("↓", "v"),
    "dot": ("·", "-"),
    "rule": ("─", "-"),
    "ellipsis": ("…", "..."),
}

GLYPH_SAMPLE: Final = "".join(glyph for glyph, _ in GLYPHS.values())


@dataclass(frozen=True)
class Terminal:
    """``interactive`` means that a person can be asked; ``unicode`` that glyphs beyond ASCII show."""

    stdin_is_tty: bool = False
    stdout_is_tty: bool = False
    stderr_is_tty: bool = False
    colour: bool = False
    unicode: bool = True
    dumb: bool = False
    quiet: bool = False

    @property
    def interactive(self) -> bool:
        return self.stdin_is_tty and self.stdout_is_tty

    @property
    def can_ask(self) -> bool:
        """Questions go to stderr, so that stdout may be a file."""
        return self.stdin_is_tty and self.stderr_is_tty

    @property
    def columns(self) -> int:
        """The width of the screen in cells, read anew because windows are resized."""
        return shutil.get_terminal_size((80, 24)).columns

    def glyph(self, name: str) -> str:
        """The sign called ``name`` in GLYPHS, in the form this terminal can show."""
        return GLYPHS[name][0 if self.unicode else 1]

    def say(self, text: str) -> None:
        """One line of narration on stderr; nothing with --quiet."""
        if not self.quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """A line on stderr that --quiet does not silence: errors and warnings."""
        stream = sys.stderr
        if not self.unicode:
            text = to_ascii(text)
        stream.write(text + "\n")
        stream.flush()


def detect(
    environ: Mapping[str, str] | None = None,
    *,
    no_color: bool = False,
    quiet: bool = False,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> Terminal:
    """Look at the environment and the standard streams.

    NO_COLOR (https://no-color.org) beats FORCE_COLOR; TERM=dumb has no colour and no cursor movement.
    """
    environ = os.environ if environ is None else environ
    stdout = sys.stdout if stdout is None else stdout
    tty_out = _is_tty(stdout)
    dumb = environ.get("TERM") == "dumb"
    wanted = tty_out and not dumb
    if environ.get("FORCE_COLOR"):
        wanted = True
    if no_color or environ.get("NO_COLOR"):
        wanted = False
    return Terminal(
        stdin_is_tty=_is_tty(sys.stdin if stdin is None else stdin),
        stdout_is_tty=tty_out,
        stderr_is_tty=_is_tty(sys.stderr if stderr is None else stderr),
        colour=wanted,
        unicode=_shows(stdout, GLYPH_SAMPLE),
        dumb=dumb,
        quiet=quiet,
    )


def to_ascii(text: str) -> str:
    """Our own glyphs by their ASCII twins; every other character stays."""
    for glyph, twin in GLYPHS.values():
        text = text.replace(glyph, twin)
    return text


def _is_tty(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # a closed stream
        return False


def _shows(stream: TextIO | None, glyphs: str) -> bool:
    try:
        glyphs.encode(getattr(stream, "encoding", None) or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
