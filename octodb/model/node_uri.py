"""The URI of a node: its parameters, what they mean and what is wrong with them (contract.md §2).

Reads text only; opens nothing.
"""

from __future__ import annotations

import difflib
import os.path
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from octodb.errors import ConfigError
from octodb.model.identities import AuthMode, Role

__all__ = ["Address", "NodeUri", "looks_like_node_uri", "parse_address", "parse_node_uri"]

OCTODB_PARAMETERS: Final = ("node", "bind", "connect", "auth")
# Named in the contract, built by later pieces of work: a clear refusal beats silence about security.
LATER_PARAMETERS: Final = ("key", "hexkey", "cipher", "key_file", "cluster", "authorizer")
SQLITE_PARAMETERS: Final = ("mode", "cache", "vfs", "psow", "nolock", "immutable", "modeof")


@dataclass(frozen=True, slots=True)
class Address:
    """One ``tcp://host:port``. Port 0 lets the system choose when binding."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class NodeUri:
    """A parsed URI. ``role`` is None for a plain database. ``sqlite_uri`` is what SQLite is given."""

    path: str
    role: Role | None
    bind: tuple[Address, ...] = ()
    connect: tuple[Address, ...] = ()
    auth: AuthMode | None = None
    sqlite_parameters: tuple[tuple[str, str], ...] = field(default=())

    @property
    def read_only(self) -> bool:
        return ("mode", "ro") in self.sqlite_parameters

    @property
    def sqlite_uri(self) -> str:
        """The ``file:`` URI for SQLite, with our parameters taken out."""
        query = "&".join(f"{quote(k)}={quote(v)}" for k, v in self.sqlite_parameters)
        return "file:" + quote(self.path) + (f"?{query}" if query else "")

    def __str__(self) -> str:
        """The URI as it is remembered in the file; it never holds a key."""
        parts = [] if self.role is None else [f"node={self.role}"]
        parts += [f"bind={','.join(map(str, self.bind))}"] if self.bind else []
        parts += [f"connect={','.join(map(str, self.connect))}"] if self.connect else []
        parts += [f"auth={self.auth}"] if self.auth else []
        parts += [f"{quote(k)}={quote(v)}" for k, v in self.sqlite_parameters]
        return "file:" + quote(self.path) + ("?" + "&".join(parts) if parts else "")


def looks_like_node_uri(database: object) -> bool:
    """Whether connect() must read ``database`` as a node URI although uri=True was not given.

    Any parameter of ours counts, also a misspelt one beside ``node=``; a plain file whose name merely
    starts with ``file:`` does not.
    """
    if not isinstance(database, str) or not database.startswith("file:"):
        return False
    query = database.partition("?")[2].partition("#")[0]
    names = {part.partition("=")[0] for part in query.split("&")}
    return bool(names & {"node", "bind", "connect", "cluster"})


def parse_node_uri(uri: str) -> NodeUri:
    """Parse ``file:path?node=…&…``. A text without ``file:`` is a plain path.

    Raises ConfigError naming the parameter, and the nearest known one where it is misspelt.
    """
    if not uri.startswith("file:"):
        return NodeUri(path=uri, role=None)
    location, _, rest = uri[5:].partition("?")
    query = rest.partition("#")[0]
    parameters = _split_query(query)
    if not {"node", "bind", "connect"} & parameters.keys():
        return NodeUri(_file_path(location), None, sqlite_parameters=tuple(parameters.items()))
    _check_names(parameters)
    role = _role(parameters)
    parsed = NodeUri(
        path=_file_path(location),
        role=role,
        bind=_addresses("bind", parameters.get("bind")),
        connect=_addresses("connect", parameters.get("connect")),
        auth=_auth_mode(parameters.get("auth")),
        sqlite_parameters=tuple((k, v) for k, v in parameters.items() if k in SQLITE_PARAMETERS),
    )
    _check_role(parsed)
    return parsed


def parse_address(text: str, parameter: str = "address") -> Address:
    """``tcp://host:port`` or ``tcp://[v6]:port``. Raises ConfigError with the right form."""
    match = re.fullmatch(r"tcp://(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:/\s]+)):(\d{1,5})/?", text)
    if match is None:
        fix = "write it as tcp://host:port, several with commas between them"
        if text.startswith("tls://"):
            raise ConfigError(f"{parameter}={text}: tls:// is not available in this version", hint=fix)
        raise ConfigError(f"{parameter}={text!r} is not an address", hint=fix)
    port = int(match[3])
    if port > 65535:
        raise ConfigError(f"{parameter}={text}: port {port} is above 65535", hint="choose 0 to 65535")
    return Address(match[1] or match[2], port)


def _split_query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        name = unquote(name)
        if name in parameters:
            raise ConfigError(f"the URI names {name}= twice", hint=f"keep one {name}=")
        if not equals:
            raise ConfigError(f"the URI parameter {name!r} has no value", hint=f"write {name}=value")
        parameters[name] = unquote(value)
    return parameters


def _check_names(parameters: dict[str, str]) -> None:
    known = (*OCTODB_PARAMETERS, *LATER_PARAMETERS, *SQLITE_PARAMETERS)
    for name in parameters:
        if name in LATER_PARAMETERS:
            raise ConfigError(
                f"the URI parameter {name}= is not available in this version",
                hint=f"leave {name}= out",
            )
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}=?" if near else f"known parameters: {', '.join(known)}"
            raise ConfigError(f"unknown URI parameter {name}=", hint=hint)


def _role(parameters: dict[str, str]) -> Role:
    value = parameters.get("node")
    if value is None:
        role = Role.PRIMARY if "bind" in parameters else Role.SECONDARY
        raise ConfigError("the URI has no node= parameter", hint=f"add node={role} to the URI")
    try:
        return Role(value)
    except ValueError:
        near = difflib.get_close_matches(value, list(Role), n=1, cutoff=0.4)
        hint = f"did you mean node={near[0]}?" if near else "use node=primary or node=secondary"
        raise ConfigError(f"node={value} is no role", hint=hint) from None


def _auth_mode(value: str | None) -> AuthMode | None:
    if value is None:
        return None
    try:
        return AuthMode(value)
    except ValueError:
        near = difflib.get_close_matches(value, list(AuthMode), n=1, cutoff=0.4)
        hint = f"did you mean auth={near[0]}?" if near else "use auth=none, auth=node or auth=user"
        raise ConfigError(f"auth={value} is no authorization mode", hint=hint) from None


def _addresses(name: str, value: str | None) -> tuple[Address, ...]:
    if value is None:
        return ()
    if not value.strip():
        raise ConfigError(f"{name}= is empty", hint=f"write {name}=tcp://host:port")
    return tuple(parse_address(part.strip(), name) for part in value.split(","))


def _check_role(uri: NodeUri) -> None:
    if not uri.path or uri.path == ":memory:" or ("mode", "memory") in uri.sqlite_parameters:
        raise ConfigError("a node needs a database file", hint="name one: file:app.db?node=…")
    if uri.role is Role.PRIMARY and uri.connect:
        raise ConfigError("connect= is for secondaries", hint="a primary listens: bind=tcp://host:port")
    if uri.role is Role.SECONDARY:
        if uri.bind:
            raise ConfigError("bind= is for primaries", hint="a secondary dials: connect=tcp://host:port")
        if uri.auth is not None:
            raise ConfigError("auth= is for primaries", hint="leave it out: the primary decides")
        if any(address.port == 0 for address in uri.connect):
            raise ConfigError("connect= names port 0", hint="name the port the primary listens on")
    if ("immutable", "1") in uri.sqlite_parameters:
        raise ConfigError("a node file cannot be immutable", hint="use mode=ro to read it only")


def _file_path(location: str) -> str:
    if location.startswith("//"):
        authority, slash, path = location[2:].partition("/")
        if authority not in {"", "localhost"}:
            raise ConfigError(f"the URI names a host: {authority}", hint="write file:/path or file:path")
        location = slash + path
    return os.path.normpath(unquote(location)) if location else ""
