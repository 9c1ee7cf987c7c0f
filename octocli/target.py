"""Which database a command is about: its argument, OCTODB_URI, or the one last connected.

Owns URI texts and the file that remembers the last one. It opens no database and stores no key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from octocli.failure import Exit, Failure
from octocli.file_key import KEY_PARAMETERS, keys_of, with_asked_key

__all__ = [
    "Target",
    "choose_device",
    "choose_target",
    "database_of",
    "named_text",
    "path_of",
    "read_target",
    "remember_target",
    "state_folder",
    "with_parameters",
    "without_parameters",
]

SECRET_PARAMETERS: Final = frozenset({"key", "hexkey", "network_key"})
# https://sqlite.org/uri.html, and "modeof" of https://sqlite.org/c3ref/open.html
SQLITE_PARAMETERS: Final = frozenset({"mode", "cache", "vfs", "psow", "nolock", "immutable", "modeof"})
SQLITE_START: Final = b"SQLite format 3\0"
OUR_QUERY: Final = re.compile(r"\?(node|connect|bind)=")


@dataclass(frozen=True)
class Target:
    """One database. ``role`` is 'primary', 'secondary' or None for a plain file."""

    uri: str = field(repr=False)  # it may hold a key
    path: str
    role: str | None
    connect: tuple[str, ...] = ()
    bind: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the prompt calls it: the file's name."""
        return os.path.basename(self.path) or self.path or ":memory:"


def state_folder() -> Path:
    """The platform's folder for state that is nobody's document, made with mode 0700."""
    import platformdirs

    folder = Path(platformdirs.user_state_path("octodb", appauthor=False))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def choose_target(
    argument: str | None,
    *,
    role: str | None = None,
    plain: bool = False,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Target:
    """The database meant by ``argument``, else OCTODB_URI, else the one last connected.

    ``role`` is what a URI without ``node=`` is taken as. ``plain`` allows a path that never was a node.
    Raises Failure (exit 2) where nothing names a database, ConfigError for a URI that is wrong.
    """
    text = named_text(argument, environ=environ, folder=folder)
    target = read_target(with_asked_key(text, environ), role=role)
    if target.role is None and not plain:
        raise _no_node(target.path)
    return target


def named_text(argument: str | None, *, environ: Mapping[str, str] | None = None, folder: Path | None = None) -> str:
    """The text that names the database: the argument, OCTODB_URI, or what was last connected. Raises Failure."""
    environ = os.environ if environ is None else environ
    if argument is not None and not argument.strip():
        raise Failure(
            "the URI is empty",
            why="most likely a variable that is not set",
            fix="name a database, or leave the URI out to use OCTODB_URI or the one last connected",
            code=Exit.USAGE,
        )
    text = argument or environ.get("OCTODB_URI") or _last_uri(folder)
    if not text:
        raise Failure(
            "no database named",
            why="no URI was given, OCTODB_URI is not set, and no database was connected before",
            fix="give a URI, or set OCTODB_URI: file:app.db?node=secondary&connect=tcp://HOST:PORT",
            code=Exit.USAGE,
        )
    return text


def choose_device(argument: str | None, *, why: str) -> Target:
    """As choose_target, for commands that only devices have; ``why`` says so of a primary.

    Raises Failure (exit 2) for a primary, and for a new database without an address to get it from.
    """
    target = choose_target(argument, role="secondary")
    if target.role != "secondary":
        raise Failure(
            f"{target.path} is a primary",
            why=why,
            fix="octodb shell for its SQL shell, octodb serve to run it",
            code=Exit.USAGE,
        )
    if not target.connect and not os.path.exists(target.path):
        raise Failure(
            f"no primary to download {target.path} from",
            why="the URI has no connect=, and there is no such file yet",
            fix=f"say where: '{path_uri(target.path)}?node=secondary&connect=tcp://HOST:PORT'",
            code=Exit.USAGE,
        )
    return target


def read_target(text: str, *, role: str | None = None) -> Target:
    """Parse a URI or a path. A path of a database that was a node before gets its remembered URI."""
    import octodb

    _check_text(text)
    if text.startswith("file:"):
        names = _parameter_names(text)
        # A parameter that SQLite has not is ours or misspelt: as a node's URI it is understood or its error is told.
        if (
            names - SQLITE_PARAMETERS - KEY_PARAMETERS
            and "node" not in names
            and (role is not None or not names & {"connect", "bind"})
        ):
            text = with_parameters(text, node=role or "secondary")
        parsed = octodb.parse_node_uri(text)
        if parsed.role is None:
            text = _remembered(parsed.path, keys_of(text)) or text
    else:
        text = _remembered(text) or text
    parsed = octodb.parse_node_uri(text)
    return Target(
        uri=text,
        path=parsed.path,
        role=None if parsed.role is None else str(parsed.role),
        connect=tuple(str(address) for address in parsed.connect),
        bind=tuple(str(address) for address in parsed.bind),
    )


def path_of(text: str) -> str:
    """The path of a database that is named by path or URI. Raises Failure (exit 2) where it names none."""
    import octodb

    if not text.strip():
        raise Failure(
            "the name of the database is empty", why="most likely a variable that is not set", code=Exit.USAGE
        )
    _check_text(text)
    return octodb.parse_node_uri(text).path


def database_of(text: str) -> str:
    """A database that is named by path or URI, with its key where it is encrypted. Raises Failure as ``path_of``."""
    path_of(text)
    return with_asked_key(text)


def with_parameters(uri: str, **parameters: str) -> str:
    """The URI with parameters appended; a plain path becomes a ``file:`` URI first."""
    if not uri.startswith("file:"):
        uri = path_uri(uri)
    extra = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{uri}{'&' if '?' in uri else '?'}{extra}"


def without_parameters(uri: str, *names: str) -> str:
    """The URI without the parameters called ``names``."""
    base, _, query = uri.partition("?")
    kept = [part for part in query.partition("#")[0].split("&") if part and _name(part) not in names]
    return f"{base}?{'&'.join(kept)}" if kept else base


def path_uri(path: str) -> str:
    """``file:`` and the path, with the characters escaped that have a meaning in a URI."""
    return "file:" + quote(os.fspath(path).replace(os.sep, "/"), safe="/:")


def remember_target(target: Target, *, folder: Path | None = None) -> None:
    """Make this node the one that commands without a URI mean. Plain files are not remembered."""
    if target.role is None:
        return
    file = (folder or state_folder()) / "last-database"
    partial = file.with_suffix(f".{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(_absolute_without_secrets(target) + "\n")
    os.replace(partial, file)


def _check_text(text: str) -> None:
    """Raises Failure (exit 2) for a text that names no file, or is a URI but for its beginning."""
    if "\0" in unquote(text):
        raise Failure("the name of the database holds a NUL character", fix="take it out", code=Exit.USAGE)
    if text.partition("?")[0] in {"file:", "file://", "file:///"}:
        raise Failure(f"{text.partition('?')[0]} names no file", fix="name one: file:app.db?node=…", code=Exit.USAGE)
    if OUR_QUERY.search(text) and not text.startswith("file:") and not os.path.exists(text):
        raise Failure(
            f"{text.partition('?')[0]}?… is not a URI",
            why="a URI starts with file:",
            fix=f"put file: in front of it: 'file:{without_parameters(text, *SECRET_PARAMETERS)}'",
            code=Exit.USAGE,
        )


def _no_node(path: str) -> Failure:
    """Why ``path`` cannot be used as a node without its URI: exit 3 for what can never be one, else 2."""
    fix = f"give its URI: '{path_uri(path)}?node=secondary&connect=tcp://HOST:PORT'"
    if os.path.isdir(path):
        return Failure(f"cannot open {path}", why="that is a folder", fix="name a file in it", code=Exit.CANNOT_OPEN)
    if not os.path.exists(path):
        return Failure(f"there is no database {path}", why="no URI says where to get it from", fix=fix, code=Exit.USAGE)
    if not _is_sqlite(path):
        return Failure(
            f"cannot open {path}",
            why="it is not a SQLite database, or it is encrypted",
            fix="name another file; a new one is made where there is none. If it is encrypted, say how:"
            f" '{path_uri(path)}?cipher=chacha20&key_file=PATH'",
            code=Exit.CANNOT_OPEN,
        )
    why = "it was never connected, and no URI says where its primary is"
    return Failure(f"{path} is not a node", why=why, fix=fix, code=Exit.USAGE)


def _is_sqlite(path: str) -> bool:
    """Whether the file starts as every SQLite file does (https://sqlite.org/fileformat.html), or is still empty."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(len(SQLITE_START))
    except OSError:
        return True  # it may well be one: whoever opens it tells what is in the way
    return start in {b"", SQLITE_START}


def _last_uri(folder: Path | None) -> str:
    try:
        return ((folder or state_folder()) / "last-database").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _remembered(path: str, keys: str = "") -> str | None:
    import octodb

    if not path or not os.path.exists(path):
        return None
    if not keys:
        uri: str | None = octodb.remembered_uri(path)
        return uri
    uri = octodb.remembered_uri(f"{path_uri(path)}?{keys}")
    return None if uri is None else f"{without_parameters(uri, 'cipher')}&{keys}"


def _absolute_without_secrets(target: Target) -> str:
    query = without_parameters(target.uri, *SECRET_PARAMETERS).partition("?")[2]
    query = "&".join(_absolute_key_file(part) for part in query.split("&"))
    uri = path_uri(os.path.abspath(target.path))
    return f"{uri}?{query}" if query else uri


def _absolute_key_file(part: str) -> str:
    name, _, value = part.partition("=")
    return f"{name}={quote(os.path.abspath(unquote(value)))}" if name == "key_file" else part


def _parameter_names(uri: str) -> set[str]:
    query = uri.partition("?")[2].partition("#")[0]
    return {_name(part) for part in query.split("&") if part}


def _name(part: str) -> str:
    return unquote(part.partition("=")[0])
