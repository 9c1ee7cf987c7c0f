"""JSON from an issuer, over HTTPS: bounded in time and size, never redirected.

Plain http is for loopback addresses only: keys and codes that anybody on the way could exchange prove nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import IO, Any, Final, Self
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

__all__ = ["IssuerError", "checked_url", "fetch_json", "host_of", "is_for", "is_safe_url"]

_TIMEOUT_S: Final = 5.0  # of connecting and of each read
_WHOLE_S_MAX: Final = 8.0  # of all, also of an answer that comes in drips: sign-ins wait for it
_BYTES_MAX: Final = 256 * 1024  # a hundred times what issuers send
_URL_CHARACTERS_MAX: Final = 2_000


class IssuerError(Exception):
    """The issuer cannot be reached, or what it sent is not what it should be. The text is for people."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """An issuer says itself where things are; a redirect could lead to plain http."""


def is_safe_url(url: object) -> bool:
    """Whether ``url`` is https, or http to this machine, without user, password and fragment."""
    if not isinstance(url, str) or len(url) > _URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable():
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if not host or "@" in parts.netloc or parts.fragment or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def is_for(url: object, issuer: str) -> bool:
    """Whether an issuer may name ``url``: one elsewhere must not send anybody to services of his own machine."""
    return is_safe_url(url) and (str(url).startswith("https:") or issuer.startswith("http:"))


def checked_url(url: object, what: str) -> str:
    """``url``, if it is safe. Raises ValueError."""
    if not is_safe_url(url):
        raise ValueError(f"{what} must be an https:// address (http:// for this machine only)")
    return str(url)


def host_of(url: str) -> str:
    """Host and port of a safe URL, to be shown to a person."""
    return urlsplit(url).netloc


def fetch_json(url: str, form: dict[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """(HTTP status, JSON object) of a GET, or of a POST of ``form``. Raises IssuerError; its text has the host only,
    since paths and answers may hold codes."""
    if not is_safe_url(url):
        raise IssuerError("the issuer names an address that is not https")
    host = host_of(url)
    body = None if form is None else urlencode(form).encode()
    request = Request(url, data=body, headers={"Accept": "application/json", "User-Agent": "octodb"})  # noqa: S310 - checked above
    with _Deadline() as deadline:
        return _exchange(_opener(url, deadline), request, host)


def _exchange(opener: OpenerDirector, request: Request, host: str) -> tuple[int, dict[str, Any]]:
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return int(answer.status), _read(answer, host)
    except HTTPError as error:
        with error:
            if error.code >= 500 or error.code < 400:
                raise IssuerError(f"{host} answered with HTTP status {error.code}") from None
            return error.code, _read(error, host)
    except URLError as error:
        raise IssuerError(f"{host} cannot be reached: {_words(error.reason)}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise IssuerError(f"{host} cannot be reached: {_words(error)}") from None


class _Deadline:
    """Ends the connections of a request that takes too long: urllib's time-out is for each read, and all may drip."""

    def __init__(self) -> None:
        self._connections: list[HTTPConnection] = []
        self._sockets: list[socket.socket] = []  # urllib takes them from the connections when the headers are in
        self._timer = threading.Timer(_WHOLE_S_MAX, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def connection(self, kind: type[HTTPConnection]) -> Callable[..., HTTPConnection]:
        def make(*arguments: Any, **options: Any) -> HTTPConnection:
            connection = kind(*arguments, **options)
            connect = connection.connect

            def connect_and_note() -> None:
                connect()
                self._sockets.append(connection.sock)

            connection.connect = connect_and_note  # type: ignore[method-assign] # the one place where the socket is seen
            self._connections.append(connection)
            return connection

        return make

    def _end(self) -> None:
        connecting = (connection.sock for connection in self._connections)
        for one in (*self._sockets, *connecting):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


class _Http(HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: Request) -> Any:
        return self.do_open(self._deadline.connection(HTTPConnection), req)


class _Https(HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__(context=ssl.create_default_context())
        self._deadline, self._tls = deadline, ssl.create_default_context()

    def https_open(self, req: Request) -> Any:
        return self.do_open(self._deadline.connection(HTTPSConnection), req, context=self._tls)


def _opener(url: str, deadline: _Deadline) -> OpenerDirector:
    # a proxy cannot reach what is on this machine
    own = [ProxyHandler({})] if _is_loopback(urlsplit(url).hostname or "") else []
    return build_opener(_NoRedirects(), _Http(deadline), _Https(deadline), *own)


def _read(answer: IO[bytes], host: str) -> dict[str, Any]:
    end = time.monotonic() + _WHOLE_S_MAX
    received = bytearray()
    try:
        while piece := answer.read1(65_536):  # type: ignore[attr-defined]  # HTTPResponse and HTTPError have it
            received += piece
            if len(received) > _BYTES_MAX:
                raise IssuerError(f"{host} sent more than {_BYTES_MAX // 1024} KiB")
            if time.monotonic() > end:
                raise IssuerError(f"{host} took longer than {_WHOLE_S_MAX:g} s")
    except (OSError, HTTPException) as error:
        raise IssuerError(f"{host} did not send all of its answer: {_words(error)}") from None
    try:
        found = json.loads(received)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise IssuerError(f"{host} did not answer with a JSON object")
    return found


def _words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return str(getattr(reason, "strerror", None) or getattr(reason, "verify_message", None) or type(reason).__name__)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
