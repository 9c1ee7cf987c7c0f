"""Which build of the module ``apsw`` is installed: two packages make it, ``apsw`` and ``apsw-sqlite3mc`` (encryption).

Imported before anything else of octodb, so that a module that is in pieces is told with the command that mends it.
"""

from __future__ import annotations

from importlib import metadata
from typing import Final

from octodb.errors import ConfigError

__all__ = ["INSTALL_ENCRYPTION", "can_encrypt", "check_fit", "why_no_encryption"]

# It lays the files over whatever is there: the same command from every state of an installation.
INSTALL_ENCRYPTION: Final = "python -m pip install --force-reinstall --no-deps 'apsw-sqlite3mc!=3.54.0.*'"
# tests/integration/test_always_in_transaction.py finds it
_UNFIT: Final = frozenset({"3.54.0"})
_INSTALL_PLAIN: Final = "python -m pip install --force-reinstall --no-deps 'apsw!=3.54.0.*'"

try:
    import apsw

    _whole = hasattr(apsw, "Connection")
except ModuleNotFoundError:
    _whole = False
if not _whole:  # pip removed files of one package that belonged to the other, too
    raise ImportError(
        "the module apsw is missing or in pieces: the packages apsw and apsw-sqlite3mc both make it, and one was"
        f" removed; mend it: {_INSTALL_PLAIN} (or, with encryption: {INSTALL_ENCRYPTION})"
    )


def can_encrypt() -> bool:
    """Whether the module that is loaded is the build with encryption."""
    return bool(getattr(apsw, "mc_version", None))


def check_fit() -> None:
    """Raises ConfigError for a build with which a node would read what is not true any more."""
    if apsw.sqlite_lib_version() in _UNFIT:
        package = "apsw-sqlite3mc" if can_encrypt() else "apsw"
        raise ConfigError(
            f"{package} with SQLite {apsw.sqlite_lib_version()} is not fit for nodes: after rollback() a connection may"
            " go on reading an old state",
            hint=INSTALL_ENCRYPTION if can_encrypt() else _INSTALL_PLAIN,
        )


def why_no_encryption() -> str:
    """What is the matter where ``can_encrypt()`` is false."""
    try:
        metadata.version("apsw-sqlite3mc")
    except metadata.PackageNotFoundError:
        return "the installed apsw is the build without encryption"
    return "apsw-sqlite3mc is installed, but the package apsw was installed over it: both make the module apsw"
