"""What stands between a node and its primaries, step by step: URI, file, lock, name, port, TLS, protocol, account.

Blocking, in the caller's thread, with sockets of its own: it starts no engine and changes nothing. A probe says Hello
with a key made for it, takes the Challenge, and goes.
"""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from octodb.errors import ConfigError, Error, ProtocolError
from octodb.model.identities import Role
from octodb.model.node_uri import Address, NodeUri, parse_node_uri
from octodb.runtime.device_info import new_key_pair
from octodb.runtime.nodes import read_status, remembered_uri
from octodb.runtime.tls import client_context, fingerprint, why_not_trusted
from octodb.storage.encryption import find_key
from octodb.wire.frames import FrameDecoder, encode_frames
from octodb.wire.handshake import RANDOM_BYTES
from octodb.wire.messages import (
    HANDSHAKE_BYTES_MAX,
    PROTOCOL_VERSION,
    Challenge,
    Hello,
    ProblemReport,
    decode_message,
    encode_message,
)

__all__ = ["Finding", "diagnose"]

_ANSWER_S_MAX: Final = 8.0
_READ_BYTES: Final = 65536


@dataclass(frozen=True, slots=True)
class Finding:
    """One step. ``ok`` None: nothing is wrong, and there was nothing to check. ``fix``: what to do if it is False."""

    step: str
    ok: bool | None
    text: str
    fix: str = ""


class _Stop(Exception):  # noqa: N818 - not an error: what follows cannot be looked at
    """The steps that need this one are left out."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


def diagnose(uri: str) -> Iterator[Finding]:
    """Look at a node step by step, giving each finding as soon as it is there.

    ``uri``: its URI, or the path of a file that has been a node. Never raises for what it finds.
    """
    try:
        parsed = find_key(_uri(uri))
    except Error as error:
        yield Finding("URI", False, str(error), error.hint)
        return
    yield Finding("URI", True, f"{parsed.role} {parsed.path}")
    status: dict[str, Any] | None = None
    if os.path.exists(parsed.path):
        try:
            status = read_status(uri)
        except Error as error:
            yield Finding("file", False, str(error), error.hint)
            return
        yield from _file(parsed, status)
    else:
        yield Finding("file", None, "there is none yet: the first connection makes it")
    if parsed.role is Role.PRIMARY:
        yield from _primary(parsed, status)
        return
    for address in parsed.connect:
        yield from _server(parsed, address)
    if not parsed.connect:
        fix = "connect it once with a URI: file:app.db?node=secondary&connect=tls://host:port"
        yield Finding("server", False, "no primary is named: connect= is missing", fix)
    if status is not None:
        yield _account(status)


def _uri(text: str) -> NodeUri:
    """What is given, with what the file remembers where that names no role or address; the keys are those given."""
    given = parse_node_uri(text)
    if given.role is not None and (given.connect or given.bind):
        return given
    remembered = remembered_uri(text)
    if remembered is None and given.role is None:
        raise ConfigError(
            f"{given.path} is no node", hint="give a URI: file:app.db?node=secondary&connect=tls://host:port"
        )
    if remembered is None:
        return given
    known = parse_node_uri(remembered)
    return replace(known, role=given.role or known.role, secret=given.secret, network_key=given.network_key)


def _file(uri: NodeUri, status: dict[str, Any]) -> Iterator[Finding]:
    queue = status["transactions"]
    told = f"node {status['node_id']}, user {status['user_id']}" if status["node_id"] else "not signed in yet"
    if uri.role is Role.SECONDARY:
        told += f"; {queue['pending']} to send, {queue['rejected']} rejected"
    yield Finding("file", True, told)
    if not os.access(uri.path, os.W_OK):
        yield Finding("file", False, f"{uri.path} cannot be written", "change its owner or mode (chmod u+w)")
    engine = status.get("engine")
    verb = "serves" if uri.role is Role.PRIMARY else "syncs"
    if engine is None:
        yield Finding("lock", None, f"no process {verb} this file now")
    else:
        yield Finding("lock", True, f"process {engine['pid']} {verb} it, heard of {engine['age_s']:.1f} s ago")


def _account(status: dict[str, Any]) -> Finding:
    auth, state = status["auth"], status["state"]
    if state == "revoked":
        return Finding("authorization", False, "this device was revoked", "sign in with a new database file")
    if auth.get("error"):
        return Finding("authorization", False, f"refused: {auth['error'].get('reason')}", "octodb login, or signup")
    if status["node_id"]:
        return Finding("authorization", True, f"user {status['user_id']}, node {status['node_id']}")
    if auth.get("pending"):
        return Finding("authorization", None, "asked for, not decided yet")
    return Finding("authorization", None, "not signed in yet: octodb connect asks")


def _server(uri: NodeUri, address: Address) -> Iterator[Finding]:
    """Name, port, TLS and protocol of one primary; what follows a failure is left out."""
    try:
        hosts = _resolve(address)
        if hosts != [address.host]:
            yield Finding("DNS", True, f"{address.host} is {', '.join(hosts)}")
        connection, took_s = _connected(address)
        with connection:
            yield Finding("TCP", True, f"{address} answers in {took_s * 1000:.1f} ms")
            if address.tls:
                connection, finding = _secured(uri, address, connection)
                yield finding
            with connection:
                yield _greeted(address, connection, has_key=bool(uri.network_key))
    except _Stop as stop:
        yield stop.finding


def _resolve(address: Address) -> list[str]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        fix = "check the name in connect=, and that this machine is on the network"
        raise _Stop(Finding("DNS", False, f"{address.host}: {error.strerror or error}", fix)) from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _connected(address: Address) -> tuple[socket.socket, float]:
    began = time.monotonic()
    try:
        connection = socket.create_connection((address.host, address.port), timeout=_ANSWER_S_MAX)
    except OSError as error:
        reason = "connection refused" if isinstance(error, ConnectionRefusedError) else str(error.strerror or error)
        fix = "start the primary (octodb serve), check host and port, and firewalls in between"
        raise _Stop(Finding("TCP", False, f"{address}: {reason}", fix)) from None
    return connection, time.monotonic() - began


def _secured(uri: NodeUri, address: Address, plain: socket.socket) -> tuple[socket.socket, Finding]:
    try:
        context = client_context(uri.tls, has_network_key=bool(uri.network_key))
        secure = context.wrap_socket(plain, server_hostname=address.host)
        der = secure.getpeercert(binary_form=True) or b""
        if uri.tls.pins and fingerprint(der) not in uri.tls.pins:
            secure.close()
            raise ssl.SSLCertVerificationError(f"its certificate is not the pinned one: {fingerprint(der)}")
    except ConfigError as error:
        raise _Stop(Finding("TLS", False, str(error), error.hint)) from None
    except ssl.SSLError as error:
        fix = "octodb serve prints the fingerprint to pin: &tls_pin=…"
        raise _Stop(Finding("TLS", False, f"{address}: {why_not_trusted(error)}", fix)) from None
    except OSError:
        reason = f"{address}: the other side closed the connection"
        raise _Stop(
            Finding("TLS", False, reason, "is it tcp://? Write the scheme that the primary has in bind=")
        ) from None
    trusted = "pinned" if uri.tls.pins else "signed by a known CA"
    if uri.network_key and not uri.tls.pins and uri.tls.ca is None:
        trusted = "to be proved by the network key"
    return secure, Finding("TLS", True, f"{secure.version()}, certificate {fingerprint(der)[:16]}… ({trusted})")


def _greeted(address: Address, connection: socket.socket, *, has_key: bool) -> Finding:
    try:
        answer = _challenge(connection)
    except (OSError, ProtocolError) as error:
        reason = str(error) or "the other side closed the connection"
        fix = "check that an octodb primary listens there" + ("" if address.tls else "; is it tls://?")
        raise _Stop(Finding("protocol", False, f"{address}: {reason}", fix)) from None
    if isinstance(answer, ProblemReport):
        return Finding("protocol", False, f"{address}: {answer.reason}", "update the older octodb")
    if answer.version != PROTOCOL_VERSION:
        reason = f"the primary speaks protocol {answer.version}, this octodb {PROTOCOL_VERSION}"
        return Finding("protocol", False, reason, "update the older one")
    if answer.wants_network_proof is not has_key:
        reason = "wants a network key" if answer.wants_network_proof else "has no network key, and one is given here"
        return Finding("protocol", False, f"the primary {reason}", "give the network's key, or leave it out")
    return Finding("protocol", True, f"version {answer.version}, auth={answer.auth_mode}")


def _challenge(connection: socket.socket) -> Challenge | ProblemReport:
    """Say Hello as nobody in particular. Raises ProtocolError, OSError."""
    _, public_key = new_key_pair()
    hello = Hello(PROTOCOL_VERSION, public_key, secrets.token_bytes(RANDOM_BYTES), secrets.token_bytes(16), b"", 0)
    connection.settimeout(_ANSWER_S_MAX)
    connection.sendall(encode_frames(encode_message(hello)))
    decoder = FrameDecoder(HANDSHAKE_BYTES_MAX)
    while data := connection.recv(_READ_BYTES):
        for payload in decoder.feed(data):
            message = decode_message(payload)
            if not isinstance(message, Challenge | ProblemReport):
                raise ProtocolError(f"it answers with {type(message).__name__}")
            return message
    raise ProtocolError("the other side closed the connection before it said a word")


def _primary(uri: NodeUri, status: dict[str, Any] | None) -> Iterator[Finding]:
    """A served one is spoken to, otherwise the addresses are tried."""
    served = (status or {}).get("bind") or []
    for text in served:
        yield from _served(text, (status or {}).get("certificate"))
    if served:
        return
    for address in uri.bind:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            socket.create_server((address.host, address.port), family=family).close()
        except OSError as error:
            fix = "choose another port (0: a free one), or stop what uses it"
            yield Finding("bind", False, f"{address}: {error.strerror or error}", fix)
        else:
            yield Finding("bind", True, f"{address} can be listened on")


def _served(text: str, certificate: str | None) -> Iterator[Finding]:
    """As its devices reach it from this machine."""
    scheme, _, place = text.partition("://")
    host, _, port = place.rpartition(":")
    here = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - compared with, not bound
    pin = f"&tls_pin={certificate}" if scheme == "tls" and certificate else ""
    probe = parse_node_uri(f"file:probe?node=secondary&connect={scheme}://{here}:{port}{pin}")
    for finding in _server(probe, probe.connect[0]):
        if finding.step == "protocol" and "wants a network key" in finding.text:
            yield Finding("protocol", True, "answers, and wants its network key")
        else:
            yield finding
