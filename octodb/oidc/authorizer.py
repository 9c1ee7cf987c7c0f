"""Users of an OpenID Connect issuer on a primary: a signed token is checked, its subject becomes a user.

Keeps (issuer, subject) → user id in ``private_oidc_subjects``, which exists on primaries only. A refusal says what is
wrong with a token and never repeats any of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import jwt

from octodb.dbapi.connection import Connection
from octodb.model.admissions import DENIED, FAILED
from octodb.oidc.fetch import IssuerError
from octodb.oidc.issuer import ALGORITHMS, Issuer
from octodb.sign_in_work import SignInWork

__all__ = ["OpenIdConnect"]

_TOKEN_BYTES_MAX: Final = 16 * 1024  # tokens with many groups have 4 KiB
_SUBJECT_CHARACTERS_MAX: Final = 255  # OpenID Connect Core 1.0 section 2
_CLOCKS_APART_S_MAX: Final = 30
_REQUIRED: Final = ("exp", "iat", "iss", "aud", "sub")

# In the order of PyJWT's exceptions: the more special ones first.
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.ExpiredSignatureError, "the token has expired; get a new one"),
    (jwt.ImmatureSignatureError, "the token is not valid yet; check the clocks of issuer and primary"),
    (jwt.InvalidAudienceError, "the token was made for another audience"),
    (jwt.InvalidIssuerError, "the token is another issuer's"),
    (jwt.InvalidIssuedAtError, "the token does not say properly when it was made"),
    (jwt.InvalidSignatureError, "the token's signature is wrong"),
)


class OpenIdConnect:
    """Answers signups and logins on the primary ``connection`` until it is closed.

    issuer       its URL, exactly as tokens have it in ``iss``; https, or http on this machine
    audience     what tokens must have in ``aud``; None: ``client_id``
    client_id    of devices, for the device-code flow (RFC 8628); None: devices ask for a token
    jwks         a file or URL of the issuer's keys; None: as the issuer publishes it
    sign_up      False: only subjects of ``private_oidc_subjects`` may come in
    scope        what devices ask the issuer for

    Raises ValueError for addresses that are not https, OperationalError when ``connection`` is no primary. An issuer
    that cannot be reached is no error here: sign-ins are told to try again later.
    """

    def __init__(
        self,
        connection: Connection,
        issuer: str,
        *,
        audience: str | None = None,
        client_id: str | None = None,
        jwks: str | None = None,
        sign_up: bool = True,
        scope: str = "openid",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        expected = audience or client_id
        if not expected:
            raise ValueError("an audience or a client id is needed: tokens made for others must not count")
        self._audience = expected
        self._client_id = client_id
        self._scope = scope
        self._sign_up = sign_up
        self._issuer = Issuer(issuer, jwks=jwks, clock=clock)
        # of its own: a callback must not land in a transaction that the application has open
        self._db = Connection(connection.node_uri, isolation_level=None, check_same_thread=False)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS private_oidc_subjects (issuer TEXT NOT NULL, subject TEXT NOT NULL,"
            " user_id INTEGER NOT NULL DEFAULT 0, created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,"
            " PRIMARY KEY (issuer, subject))"
        )
        self._lock = threading.Lock()  # what is known of the issuer, and the connection
        self._work = SignInWork()
        connection.set_login_fields([self._login_field()])
        connection.register_function("user_login", 2, self._on_sign_in)
        connection.register_function("user_signup", 2, self._on_sign_in)

    def add(self, subject: str, user_id: int = 0) -> None:
        """Let ``subject`` in, as the user ``user_id`` (0: a new one, given at its first login), or make it that
        user's from now on."""
        with self._lock:
            self._add(subject, user_id)

    def _add(self, subject: str, user_id: int) -> None:
        self._db.execute(
            "INSERT INTO private_oidc_subjects(issuer, subject, user_id) VALUES (?, ?, ?)"
            " ON CONFLICT(issuer, subject) DO UPDATE SET user_id = excluded.user_id",
            (self._issuer.url, subject, user_id),
        )

    def close(self) -> None:
        """Sign-ins that are being decided are waited for."""
        self._work.close()
        self._db.close()

    def _login_field(self) -> dict[str, Any]:
        """What devices are told to ask for. Where the issuer is to be asked they find out at the issuer itself: a
        primary must not be able to name other places than those."""
        about = {"issuer": self._issuer.url}
        if self._client_id is not None:
            about |= {"client_id": self._client_id, "scope": self._scope}
        return {"name": "token", "secret": True, "label": "ID token", "oidc": about}

    def _on_sign_in(self, data: str, _node_info: str) -> Any:
        return self._work.run(self._decide, data)

    def _decide(self, data: str) -> Any:
        token = _read_token(data)
        if token is None:
            return DENIED, "that is no token"
        with self._lock:
            try:
                subject = self._subject(token)
            except IssuerError as error:
                return FAILED, f"the token cannot be checked now: {error}; try again later"
            except _Refusal as refusal:
                return DENIED, str(refusal)
            return self._user_of(subject)

    def _subject(self, token: str) -> str:
        """The subject of a token that is good. Raises _Refusal, IssuerError."""
        algorithm, kid = _read_header(token)
        key = self._issuer.key(kid, algorithm)
        if key is None:
            raise _Refusal(f"the token is signed with a key that {self._issuer.host} does not publish")
        try:
            claims = jwt.decode(
                token,
                key=key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer.url,
                leeway=_CLOCKS_APART_S_MAX,
                options={"require": list(_REQUIRED)},
            )
        except jwt.MissingRequiredClaimError as error:
            raise _Refusal(f"the token has no claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            reasons = (text for kind, text in _REASONS if isinstance(error, kind))
            raise _Refusal(next(reasons, "that is no token that can be read")) from None
        self._check_party(claims)
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARACTERS_MAX:
            raise _Refusal("the token's subject is not a text of 1 to 255 characters")
        return subject

    def _check_party(self, claims: dict[str, Any]) -> None:
        """A token for several audiences names whom it was made for (OpenID Connect Core 1.0 section 3.1.3.7)."""
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if several and claims.get("azp") not in [one for one in (self._audience, self._client_id) if one]:
            raise _Refusal("the token was made for another client")

    def _user_of(self, subject: str) -> Any:
        row = self._db.execute(
            "SELECT user_id FROM private_oidc_subjects WHERE issuer = ? AND subject = ?", (self._issuer.url, subject)
        ).fetchone()
        if row is None and not self._sign_up:
            return DENIED, "signing up is closed here; ask to be let in"
        if row is not None and row[0] > 0:
            return row[0]
        user_id = self._db.new_user_id()
        self._add(subject, user_id)
        return user_id


class _Refusal(Exception):  # noqa: N818 - nothing went wrong: the answer is no
    """Why a token does not count, for people."""


def _read_token(data: str) -> str | None:
    """The token: ``data`` itself, or of ``{"token": …}``."""
    text: Any = data.strip()
    if text.startswith("{"):
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return None
        text = fields.get("token") if isinstance(fields, dict) else None
    if not isinstance(text, str) or not text.isascii() or not 0 < len(text.strip()) <= _TOKEN_BYTES_MAX:
        return None
    return text.strip()


def _read_header(token: str) -> tuple[str, str | None]:
    """(algorithm, key id) as the token claims. Raises _Refusal."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise _Refusal("that is no token that can be read") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _Refusal("the token is signed in a way that is not accepted here")
    if "crit" in header:  # RFC 7515 section 4.1.11: what is critical and not understood makes it invalid
        raise _Refusal("the token needs an extension that is not known here")
    if kid is not None and not isinstance(kid, str):
        raise _Refusal("that is no token that can be read")
    return algorithm, kid
