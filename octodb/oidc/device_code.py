"""A device's side of the device-code flow (RFC 8628): a person approves on another screen, the device gets a token.

Speaks with the issuer it is given, at the addresses which that issuer publishes; a primary only names the issuer. It
never waits: who calls waits ``interval_s`` between two polls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from octodb.oidc.fetch import IssuerError, fetch_json, is_for, is_safe_url
from octodb.oidc.issuer import Issuer

__all__ = ["DeviceCode", "DeviceCodeFlow", "FlowEnded"]

_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL_S: Final = 5.0  # RFC 8628 section 3.2
_SLOWER_S: Final = 5.0  # section 3.5
_INTERVAL_S_MAX: Final = 300.0
_EXPIRES_S_MAX: Final = 3600.0
_TEXT_MAX: Final = 100
_TROUBLES_MAX: Final = 5  # polls in a row that do not reach the issuer


class FlowEnded(Exception):  # noqa: N818 - often nobody's mistake: somebody said no, or nobody came
    """There will be no token. ``code``: access_denied, expired_token, or what the issuer calls it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class DeviceCode:
    """What to show a person, and for how long it counts."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    expires_s: float
    secret: str = field(repr=False)

    @property
    def verification_host(self) -> str:
        return urlsplit(self.verification_uri).netloc


class DeviceCodeFlow:
    """One sign-in with ``issuer`` (a URL) for the public client ``client_id``.

    Raises ValueError for an issuer that is not https.
    """

    def __init__(self, issuer: str, client_id: str, *, scope: str = "openid") -> None:
        self._issuer = Issuer(issuer)
        self._client_id = client_id
        self._scope = scope
        self._token_endpoint = ""
        self._troubles = 0
        self.issuer_host = self._issuer.host
        self.interval_s = _INTERVAL_S

    def is_offered(self) -> bool:
        """Whether the issuer has this flow. Raises IssuerError where it cannot be reached."""
        return "device_authorization_endpoint" in self._issuer.metadata()

    def start(self) -> DeviceCode:
        """Ask for a code. Raises IssuerError where the issuer cannot be reached or offers no such flow."""
        metadata = self._issuer.metadata()
        endpoint, token_endpoint = metadata.get("device_authorization_endpoint"), metadata.get("token_endpoint")
        if not is_for(endpoint, self._issuer.url) or not is_for(token_endpoint, self._issuer.url):
            raise IssuerError(f"{self.issuer_host} names no https address for the device-code flow")
        self._token_endpoint = str(token_endpoint)
        status, answer = fetch_json(str(endpoint), {"client_id": self._client_id, "scope": self._scope})
        if status != 200:
            raise IssuerError(f"{self.issuer_host} gave no code: {_error_of(answer, status)}")
        complete = answer.get("verification_uri_complete")
        self.interval_s = min(_number(answer.get("interval"), _INTERVAL_S), _INTERVAL_S_MAX)
        code = DeviceCode(
            user_code=_shown(answer.get("user_code")),
            verification_uri=str(answer.get("verification_uri") or ""),
            verification_uri_complete=complete if is_safe_url(complete) else None,
            expires_s=min(_number(answer.get("expires_in"), 600.0), _EXPIRES_S_MAX),
            secret=str(answer.get("device_code") or ""),
        )
        if not code.user_code or not code.secret or not is_safe_url(code.verification_uri):
            raise IssuerError(f"{self.issuer_host} sent a code that cannot be used")
        return code

    def poll(self, code: DeviceCode) -> str | None:
        """The ID token, or None: not yet, ask again after ``interval_s``. Raises FlowEnded, IssuerError."""
        form = {"grant_type": _GRANT, "device_code": code.secret, "client_id": self._client_id}
        try:
            status, answer = fetch_json(self._token_endpoint, form)
        except IssuerError:
            # section 3.5: the issuer may be busy or the line down; ask less often
            self._troubles += 1
            if self._troubles >= _TROUBLES_MAX:
                raise
            self.interval_s = min(2 * max(self.interval_s, 1.0), _INTERVAL_S_MAX)
            return None
        self._troubles = 0
        if status == 200:
            return _id_token(answer, self.issuer_host)
        match answer.get("error"):
            case "authorization_pending":
                return None
            case "slow_down":
                self.interval_s = min(self.interval_s + _SLOWER_S, _INTERVAL_S_MAX)
                return None
            case "access_denied":
                raise FlowEnded("access_denied", f"it was refused at {self.issuer_host}")
            case "expired_token":
                raise FlowEnded("expired_token", "the code has expired before anybody approved it")
        raise FlowEnded("error", f"{self.issuer_host} gave no token: {_error_of(answer, status)}")


def _id_token(answer: dict[str, Any], host: str) -> str:
    token = answer.get("id_token")
    if not isinstance(token, str) or not token:
        raise FlowEnded("error", f"{host} sent no ID token: its client may not ask for the scope openid")
    return token


def _error_of(answer: dict[str, Any], status: int) -> str:
    return _shown(answer.get("error")) or f"HTTP status {status}"


def _shown(text: object) -> str:
    """``text`` as it may go to a terminal: it comes from elsewhere."""
    return "".join(c for c in text[:_TEXT_MAX] if c.isprintable()) if isinstance(text, str) else ""


def _number(value: object, otherwise: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 1e9 else otherwise  # type: ignore[operator, arg-type] # a number, as is_number says
