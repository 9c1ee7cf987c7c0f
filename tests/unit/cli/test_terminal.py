"""Colour and glyphs: what the environment asks for and what the stream can show."""

import io

import pytest

from octocli.terminal import GLYPHS, Terminal, detect, to_ascii


class Screen(io.TextIOWrapper):
    def isatty(self):
        return True


def screen(encoding="utf-8"):
    return Screen(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("environ", "stdout", "colour"),
    [
        ({"TERM": "xterm"}, screen(), True),
        ({"TERM": "dumb"}, screen(), False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, screen(), False),
        ({"TERM": "xterm"}, io.StringIO(), False),
        ({"TERM": "xterm", "FORCE_COLOR": "1"}, io.StringIO(), True),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "NO_COLOR": "1"}, screen(), False),
    ],
)
def test_colour(environ, stdout, colour):
    assert detect(environ, stdout=stdout).colour is colour


def test_the_option_beats_the_environment():
    assert not detect({"FORCE_COLOR": "1"}, stdout=screen(), no_color=True).colour


@pytest.mark.parametrize(("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_glyphs_follow_the_encoding(encoding, unicode):
    terminal = detect({}, stdout=screen(encoding))
    assert terminal.unicode is unicode
    assert terminal.glyph("in sync").encode(encoding)


def test_every_glyph_has_an_ascii_twin():
    assert to_ascii("".join(glyph for glyph, _ in GLYPHS.values())).isascii()


def test_quiet_silences_narration_only(capsys):
    Terminal(quiet=True).say("narration")
    Terminal(quiet=True).complain("error")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error\n"
