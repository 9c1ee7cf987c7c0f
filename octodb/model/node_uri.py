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
from octodb.model.file_key import KEY_SOURCES, SECRET_PARAMETERS, FileKey, Secret
from octodb.model.identities import AuthMode, Role

__all__ = [
    "Address",
    "NodeUri",
    "TlsParameters",
    "check_network_addresses",
    "check_network_key",
    "looks_like_node_uri",
    "parse_address",
    "parse_authorizer",
    "parse_node_uri",
]

OCTODB_PARAMETERS: Final = (
    "node", "bind", "connect", "auth", "authorizer",
    "tls_cert", "tls_key", "tls_ca", "tls_pin", "network_key", "cipher", *KEY_SOURCES,
)  # fmt: skip
# What proves itself with this key can be tried by whoever pretends to be a primary.
NETWORK_KEY_CHARACTERS_MIN: Final = 16
# Named in the contract, built by later pieces of work: a clear refusal beats silence about security.
LATER_PARAMETERS: Final = ("cluster",)
# Of a plain database too. Without uri=True they would be part of a file's name, and the key with them.
KEY_PARAMETERS: Final = frozenset({"cipher", *KEY_SOURCES, "network_key"})
# RC4 keeps no secret from who has two states of the file (RFC 7465 forbids it in TLS); "xrc4" is its other name.
_WEAK_CIPHERS: Final = frozenset({"rc4", "xrc4"})
SQLITE_PARAMETERS: Final = ("mode", "cache", "vfs", "psow", "nolock", "immutable", "modeof")


@dataclass(frozen=True, slots=True)
class Address:
    """One ``tcp://host:port`` or ``tls://host:port``. Port 0 lets the system choose when binding."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'tcp'}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on this machine."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


@dataclass(frozen=True, slots=True)
class TlsParameters:
    """Of ``tls://`` addresses. Paths of PEM files: a primary's ``certificate`` (chain) and its ``private_key``; a
    device's ``ca``. ``pins``: SHA-256 fingerprints of certificates, in small hexadecimal digits."""

    certificate: str | None = None
    private_key: str | None = None
    ca: str | None = None
    pins: tuple[str, ...] = ()

    def parameters(self) -> tuple[tuple[str, str], ...]:
        """As the URI has them; none is a secret."""
        found = (
            ("tls_cert", self.certificate),
            ("tls_key", self.private_key),
            ("tls_ca", self.ca),
            ("tls_pin", ",".join(self.pins)),
        )
        return tuple((name, value) for name, value in found if value)


@dataclass(frozen=True, slots=True)
class NodeUri:
    """A parsed URI. ``role`` is None for a plain database. ``sqlite_uri`` is what SQLite is given.

    ``secret`` is the file's key where there is a ``cipher``; otherwise find_key() makes it the ``network_key``, of
    which an empty one says that there is none any more.
    """

    path: str
    role: Role | None
    bind: tuple[Address, ...] = ()
    connect: tuple[Address, ...] = ()
    auth: AuthMode | None = None
    tls: TlsParameters = TlsParameters()
    network_key: Secret | None = None
    authorizer: Address | None = None
    sqlite_parameters: tuple[tuple[str, str], ...] = field(default=())
    cipher: str | None = None
    secret: Secret | None = None

    @property
    def file_key(self) -> FileKey | None:
        """What the file is encrypted with; None: it is not. For a URI that find_key() returned."""
        if self.cipher is None:
            return None
        assert self.secret is not None, "find_key() comes first"
        assert self.secret.source != "key_file", "find_key() comes first"
        return FileKey(self.cipher, self.secret)

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
        parts += [f"{name}={quote(value, safe='/,')}" for name, value in self.tls.parameters()]
        parts += [f"authorizer={self.authorizer}"] if self.authorizer else []
        parts += [f"cipher={self.cipher}"] if self.cipher else []
        if self.secret is not None and self.secret.source not in SECRET_PARAMETERS:
            parts.append(f"{self.secret.source}={quote(self.secret.reveal())}")  # a path, not a key
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
    return bool(names & ({"node", "bind", "connect", "cluster"} | KEY_PARAMETERS))


def parse_node_uri(uri: str) -> NodeUri:
    """Parse ``file:path?node=…&…``. A text without ``file:`` is a plain path.

    Raises ConfigError naming the parameter, and the nearest known one where it is misspelt.
    """
    if not uri.startswith("file:"):
        return NodeUri(path=uri, role=None)
    location, _, rest = uri[5:].partition("?")
    query = rest.partition("#")[0]
    parameters = _split_query(query)
    _check_escapes(rest, parameters)
    if not {"node", "bind", "connect"} & parameters.keys():
        others = tuple((k, v) for k, v in parameters.items() if k not in KEY_PARAMETERS)
        plain = NodeUri(
            path=_file_path(location),
            role=None,
            sqlite_parameters=others,
            cipher=_cipher(parameters),
            secret=_secret(parameters),
            network_key=_network_key(parameters),
        )
        _check_key(plain)
        return plain
    _check_names(parameters)
    role = _role(parameters)
    parsed = NodeUri(
        path=_file_path(location),
        role=role,
        bind=_addresses("bind", parameters.get("bind")),
        connect=_addresses("connect", parameters.get("connect")),
        auth=_auth_mode(parameters.get("auth")),
        tls=_tls_parameters(parameters),
        network_key=_network_key(parameters),
        authorizer=parse_authorizer(parameters["authorizer"]) if "authorizer" in parameters else None,
        sqlite_parameters=tuple((k, v) for k, v in parameters.items() if k in SQLITE_PARAMETERS),
        cipher=_cipher(parameters),
        secret=_secret(parameters),
    )
    _check_role(parsed)
    _check_key(parsed)
    return parsed


def parse_address(text: str, parameter: str = "address") -> Address:
    """``tcp://host:port``, ``tls://host:port`` or with ``[v6]`` as host. Raises ConfigError with the right form."""
    match = re.fullmatch(r"(tcp|tls)://(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:/\s]+)):(\d{1,5})/?", text)
    if match is None:
        fix = "write it as tcp://host:port or tls://host:port, several with commas between them"
        raise ConfigError(f"{parameter}={text!r} is not an address", hint=fix)
    port = int(match[4])
    if port > 65535:
        raise ConfigError(f"{parameter}={text}: port {port} is above 65535", hint="choose 0 to 65535")
    return Address(match[2] or match[3], port, match[1] == "tls")


def parse_authorizer(text: str, parameter: str = "authorizer") -> Address:
    """Where an authorization service listens: ``tcp://host:port`` and nothing else. Raises ConfigError as
    ``parse_address`` does, and for port 0."""
    if not text.strip().startswith("tcp://"):
        raise ConfigError(f"{parameter}={text!r} is not an address of a service", hint="write it as tcp://host:port")
    address = parse_address(text.strip(), parameter)
    if address.port == 0:
        raise ConfigError(f"{parameter}= names port 0", hint="name the port the authorization service listens on")
    if address.tls:
        raise ConfigError(
            f"{parameter}={text}: authorization services speak plain TCP",
            hint="write tcp://; run the service on this machine, or reach it by a tunnel",
        )
    return address


def _split_query(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        name = unquote(name)
        if name in parameters:
            raise ConfigError(f"the URI names {name}= twice", hint=f"keep one {name}=")
        if not equals and SECRET_PARAMETERS & parameters.keys():
            raise _cut_key()  # what stands there may be the rest of the key
        if not equals:
            raise ConfigError(f"the URI parameter {name!r} has no value", hint=f"write {name}=value")
        parameters[name] = unquote(value)
    return parameters


def _check_escapes(query: str, parameters: dict[str, str]) -> None:
    """A key that is cut off by the URI's own punctuation would be another key, and what is left of it be told."""
    if SECRET_PARAMETERS & parameters.keys() and ("#" in query or any("\ufffd" in v for v in parameters.values())):
        raise _cut_key()


def _cut_key() -> ConfigError:
    return ConfigError(
        "the key in the URI has characters that mean something else there",
        hint="write & as %26, # as %23, % as %25 (urllib.parse.quote does), or put the key into a file: key_file=PATH",
    )


def _cipher(parameters: dict[str, str]) -> str | None:
    cipher = parameters.get("cipher")
    if cipher is None:
        return None
    if cipher.lower() in _WEAK_CIPHERS:
        raise ConfigError(
            f"cipher={cipher} is refused: RC4 is weak, and it hides no change of the file",
            hint="use cipher=chacha20",
        )
    if not re.fullmatch(r"[A-Za-z0-9]{1,32}", cipher):
        raise ConfigError(f"cipher={cipher!r} is no cipher", hint="use cipher=chacha20")
    return cipher.lower()


def _secret(parameters: dict[str, str]) -> Secret | None:
    given = [name for name in KEY_SOURCES if name in parameters]
    if not given:
        return None
    if len(given) > 1:
        raise ConfigError(f"the URI has {'= and '.join(given)}=", hint="keep one of them")
    (source,) = given
    value = parameters[source]
    if not value or "\0" in value:
        raise ConfigError(f"{source}= is empty or holds a NUL character", hint=f"write {source}=… with a value")
    if source == "hexkey" and not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", value):
        raise ConfigError(
            "hexkey= is not hexadecimal digits, two for each byte", hint="a passphrase is given as key= or key_file="
        )
    return Secret(source, value)


def _check_key(uri: NodeUri) -> None:
    addresses = (*uri.bind, *uri.connect)
    secured = bool(addresses) and all(address.tls for address in addresses)
    if uri.secret is not None and uri.cipher is None and not secured:
        raise ConfigError(
            f"{uri.secret.source}= without cipher= protects nothing here",
            hint="add cipher=chacha20 to encrypt the file; as the key of the network it needs tls:// addresses",
        )


def _check_names(parameters: dict[str, str]) -> None:
    known = (*OCTODB_PARAMETERS, *LATER_PARAMETERS, *SQLITE_PARAMETERS)
    for name in parameters:
        if name in LATER_PARAMETERS:
            raise ConfigError(
                f"the URI parameter {name}= is not available in this version",
                hint=f"leave {name}= out",
            )
        if name not in known:
            before = list(parameters)[: list(parameters).index(name)]
            if SECRET_PARAMETERS & set(before[-1:]) and not difflib.get_close_matches(name, known, n=1, cutoff=0.5):
                raise _cut_key()  # most likely the rest of a key
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


def _tls_parameters(parameters: dict[str, str]) -> TlsParameters:
    pins = parameters.get("tls_pin", "")
    return TlsParameters(
        certificate=parameters.get("tls_cert"),
        private_key=parameters.get("tls_key"),
        ca=parameters.get("tls_ca"),
        pins=tuple(_fingerprint(pin) for pin in pins.split(",")) if "tls_pin" in parameters else (),
    )


def _network_key(parameters: dict[str, str]) -> Secret | None:
    if "network_key" not in parameters:
        return None
    if {*KEY_SOURCES} & parameters.keys() and "cipher" not in parameters:
        raise ConfigError(
            "network_key= and another key are given, and no cipher=",
            hint="keep network_key=; the other is the file's key where there is cipher=",
        )
    return Secret("network_key", parameters["network_key"])


def check_network_addresses(uri: NodeUri, source: str) -> None:
    """Raises ConfigError where a network key (from ``source``) would be proved on a plain connection, too."""
    if not all(address.tls for address in (*uri.bind, *uri.connect)):
        raise ConfigError(
            f"{source} needs tls:// addresses: on a plain connection whoever stands between reads everything",
            hint=f"write tls:// in {'bind' if uri.role is Role.PRIMARY else 'connect'}=, or leave {source} out",
        )


def check_network_key(secret: Secret) -> None:
    """Raises ConfigError for one that could be guessed."""
    if secret and len(secret.to_bytes()) < NETWORK_KEY_CHARACTERS_MIN:
        raise ConfigError(
            f"the network key is shorter than {NETWORK_KEY_CHARACTERS_MIN} characters: it could be guessed",
            hint="take a long random text, the same on all nodes; openssl rand -hex 24 makes one",
        )


def _fingerprint(text: str) -> str:
    digits = text.strip().removeprefix("sha256:").replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ConfigError(
            f"tls_pin={text} is not the SHA-256 fingerprint of a certificate, which has 64 hexadecimal digits",
            hint="octodb serve prints it; also: openssl x509 -in FILE -noout -fingerprint -sha256",
        )
    return digits


def _check_tls(uri: NodeUri) -> None:
    """A parameter that has no effect is a mistake, and one about security must not pass in silence."""
    addresses, tls = (*uri.bind, *uri.connect), uri.tls
    given = [name for name, _ in tls.parameters()]
    if given and addresses and not any(address.tls for address in addresses):
        raise ConfigError(
            f"{given[0]}= is given, and no address is tls://",
            hint=f"write tls:// in {'bind' if uri.bind else 'connect'}=, or leave {given[0]}= out",
        )
    if uri.connect and (tls.pins or tls.ca) and not all(address.tls for address in addresses):
        raise ConfigError(
            f"{given[0]}= is given, and an address is tcp://: whoever blocks the others would choose that one",
            hint="write tls:// in all of connect=",
        )
    if uri.network_key:
        check_network_addresses(uri, "network_key=")
    if uri.role is Role.PRIMARY and (tls.ca or tls.pins):
        raise ConfigError(
            f"{'tls_ca' if tls.ca else 'tls_pin'}= is for secondaries, which check a primary's certificate",
            hint="a primary has tls_cert= and tls_key=, or makes a certificate of its own",
        )
    if uri.role is Role.SECONDARY and (tls.certificate or tls.private_key):
        raise ConfigError(
            f"{'tls_cert' if tls.certificate else 'tls_key'}= is for primaries: a device proves itself by its own key",
            hint="a secondary has tls_ca= or tls_pin=",
        )
    if tls.private_key and not tls.certificate:
        raise ConfigError("tls_key= is given without tls_cert=", hint="name the certificate's file, too: tls_cert=FILE")
    if tls.ca and tls.pins:
        raise ConfigError("both tls_ca= and tls_pin= are given", hint="keep one: a pinned certificate needs no CA")


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
        if uri.authorizer is not None:
            raise ConfigError("authorizer= is for primaries", hint="leave it out: the primary asks")
        if any(address.port == 0 for address in uri.connect):
            raise ConfigError("connect= names port 0", hint="name the port the primary listens on")
    _check_tls(uri)
    if ("immutable", "1") in uri.sqlite_parameters:
        raise ConfigError("a node file cannot be immutable", hint="use mode=ro to read it only")


def _file_path(location: str) -> str:
    if location.startswith("//"):
        authority, slash, path = location[2:].partition("/")
        if authority not in {"", "localhost"}:
            raise ConfigError(f"the URI names a host: {authority}", hint="write file:/path or file:path")
        location = slash + path
    return os.path.normpath(unquote(location)) if location else ""
