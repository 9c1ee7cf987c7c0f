"""The text of ``--data``: where it comes from, whether it is one JSON object, what to warn about.

It never sends anything, and no message of it ever repeats a value.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from typing import Final, TextIO

from octocli.failure import Exit, Failure

__all__ = ["FILE_VARIABLE", "read_login_data"]

FILE_VARIABLE: Final = "OCTODB_LOGIN_DATA_FILE"
SECRET_NAME: Final = re.compile(r"pass|secret|token|pin\b|otp|api_?key|credential", re.IGNORECASE)


def read_login_data(
    option: str | None,
    *,
    warn: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
    stdin: TextIO | None = None,
) -> str | None:
    """The JSON object to send, or None where neither ``--data`` nor OCTODB_LOGIN_DATA_FILE is given.

    ``option`` is JSON, ``-`` for standard input or ``@FILE``. Raises Failure (exit 2) for text that is
    not one JSON object, naming the place but never the value.
    """
    environ = os.environ if environ is None else environ
    if option is None:
        file = environ.get(FILE_VARIABLE)
        return None if not file else _checked(_read_file(file, warn), file)
    if option == "-":
        return _checked((stdin or sys.stdin).read(), "standard input")
    if option.startswith("@"):
        return _checked(_read_file(option[1:], warn), option[1:])
    text = _checked(option, "--data")
    if any(SECRET_NAME.search(name) for name in json.loads(text)):
        warn(
            "warning: a secret on the command line can be seen by other users (ps) and stays in the "
            "shell's history; use --data - or --data @FILE"
        )
    return text


def _read_file(name: str, warn: Callable[[str], None]) -> str:
    try:
        with open(name, encoding="utf-8") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Failure(
            f"cannot read the sign-in data from {name}",
            why=reason,
            fix="name a file that holds one JSON object",
            code=Exit.USAGE,
        ) from None
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"warning: other users can read {name}: chmod 600 {name}")
    return text


def _checked(text: str, source: str) -> str:
    text = text.strip()
    fix = 'write one JSON object: {"email": "…", "password": "…"}'
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        why = f"{error.msg} at line {error.lineno}, column {error.colno}" if text else "it is empty"
        raise Failure(f"the sign-in data of {source} is not JSON", why=why, fix=fix, code=Exit.USAGE) from None
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a text", bool: "a truth value", type(None): "null"}
        raise Failure(
            f"the sign-in data of {source} is not a JSON object",
            why=f"it is {kind.get(type(value), 'a number')}",
            fix=fix,
            code=Exit.USAGE,
        )
    return text
