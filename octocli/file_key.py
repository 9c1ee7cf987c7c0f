"""The key of an encrypted database on the command line: asked for at a terminal where the URI names none.

A key is part of a URI in memory only; it is never an option, which every process of the machine could read.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote

from octocli.failure import Exit, Failure
from octocli.terminal import detect

__all__ = ["KEY_PARAMETERS", "keys_of", "with_asked_key"]

KEY_PARAMETERS: Final = frozenset({"cipher", "key", "hexkey", "key_file", "network_key"})
KEY_SOURCES: Final = KEY_PARAMETERS - {"cipher", "network_key"}


def keys_of(uri: str) -> str:
    """The part of a URI's query that tells how the file is encrypted; "" where it is not."""
    if not uri.startswith("file:"):
        return ""
    parts = uri.partition("?")[2].partition("#")[0].split("&")
    return "&".join(part for part in parts if _name(part) in KEY_PARAMETERS)


def with_asked_key(uri: str, environ: Mapping[str, str] | None = None) -> str:
    """``uri`` with a key where it has ``cipher=`` and none; it is asked for only at a terminal."""
    names = {_name(part) for part in keys_of(uri).split("&")}
    environ = os.environ if environ is None else environ
    if "cipher" not in names or names & KEY_SOURCES or environ.get("OCTODB_KEY") or not detect().can_ask:
        return uri
    try:
        key = getpass.getpass(f"key of {uri[5:].partition('?')[0]}: ", stream=sys.stderr)
    except EOFError:
        key = ""
    if not key:
        fix = "name a file that holds it: key_file=PATH, or set OCTODB_KEY"
        raise Failure("no key was given", fix=fix, code=Exit.USAGE)
    return f"{uri}&key={quote(key, safe='')}"


def _name(part: str) -> str:
    return unquote(part.partition("=")[0])
