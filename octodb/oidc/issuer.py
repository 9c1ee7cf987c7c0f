"""What an issuer publishes of itself: its metadata (OpenID Connect Discovery 1.0) and its signing keys (RFC 7517).

Keeps both, fetches them anew when they are old or a key is missing, and never more often than the bounds below say:
anybody can send tokens that name keys which do not exist.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from octodb.oidc.fetch import IssuerError, checked_url, fetch_json, host_of, is_for

__all__ = ["ALGORITHMS", "Issuer"]

_RSA: Final = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
_CURVES: Final = {"ES256": {"P-256"}, "ES384": {"P-384"}, "ES512": {"P-521"}, "EdDSA": {"Ed25519", "Ed448"}}
# What a token may be signed with. No HS*: a published key would be its secret. No "none" (RFC 8725 section 3.1).
ALGORITHMS: Final = frozenset(_RSA | _CURVES.keys())

_RSA_BITS_MIN: Final = 2048  # RFC 7518 section 3.3
_KEYS_MAX: Final = 100
_FILE_BYTES_MAX: Final = 256 * 1024
_REFRESH_S: Final = 3600.0  # a key that the issuer withdrew is trusted this much longer, at most …
_OLD_S_MAX: Final = 24 * 3600.0  # … or this much, while the issuer cannot be reached
_UNKNOWN_KEY_S_MIN: Final = 30.0  # between two looks for keys that were not there
_TROUBLE_S_MIN: Final = 10.0  # after a look that failed


class Issuer:
    """One issuer. ``jwks``: a file or URL of its keys, else the one it publishes. From one thread at a time.

    Raises ValueError for addresses that are not https.
    """

    def __init__(self, url: str, *, jwks: str | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = checked_url(url, "the issuer")
        self.host = host_of(url)
        self._jwks = jwks
        if jwks is not None and "://" in jwks:
            checked_url(jwks, "the address of the issuer's keys")
        self._clock = clock
        self._metadata: dict[str, Any] | None = None
        self._metadata_at = 0.0
        self._keys: list[dict[str, Any]] = []
        self._keys_at: float | None = None
        self._failed_at: dict[str, float] = {}
        self._failure: dict[str, IssuerError] = {}

    def check_keys_file(self) -> None:
        """Raises IssuerError where ``jwks`` is a file that has no keys; where it is an address nothing is asked."""
        if self._jwks is not None and "://" not in self._jwks:
            self._read_keys()

    def metadata(self) -> dict[str, Any]:
        """What the issuer says of itself. Raises IssuerError."""
        now = self._clock()
        if self._metadata is None or now - self._metadata_at > _REFRESH_S:
            try:
                self._metadata, self._metadata_at = self._trying("metadata", self._discover), now
            except IssuerError:
                if self._metadata is None:
                    raise
        return self._metadata

    def key(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The public key called ``kid`` that signs with ``algorithm``; None where the issuer has none. ``kid`` None is
        for issuers with one such key. Raises IssuerError when the keys cannot be had now."""
        now = self._clock()
        if self._keys_at is None or now - self._keys_at > _REFRESH_S:
            self._refresh(now)
        found = self._find(kid, algorithm)
        if found is None and self._keys_at is not None and now - self._keys_at >= _UNKNOWN_KEY_S_MIN:
            self._keys, self._keys_at = self._trying("keys", self._read_keys), now
            found = self._find(kid, algorithm)
        return found

    def _refresh(self, now: float) -> None:
        try:
            self._keys, self._keys_at = self._trying("keys", self._read_keys), now
        except IssuerError:
            if self._keys_at is None or now - self._keys_at > _OLD_S_MAX:
                raise

    def _trying(self, what: str, work: Callable[[], Any]) -> Any:
        """Do ``work``, unless it failed a moment ago: sign-ins that wait must not each wait for the issuer."""
        if what in self._failed_at and self._clock() - self._failed_at[what] < _TROUBLE_S_MIN:
            raise self._failure[what]
        try:
            result = work()
        except IssuerError as error:
            self._failed_at[what], self._failure[what] = self._clock(), error  # it may have taken long
            raise
        self._failed_at.pop(what, None)
        return result

    def _discover(self) -> dict[str, Any]:
        status, found = fetch_json(f"{self.url.rstrip('/')}/.well-known/openid-configuration")
        if status != 200:
            raise IssuerError(f"{self.host} answered with HTTP status {status}")
        if found.get("issuer") != self.url:  # OpenID Connect Discovery 1.0 section 4.3
            raise IssuerError(f"{self.host} publishes the settings of another issuer; check how its name is written")
        return found

    def _read_keys(self) -> list[dict[str, Any]]:
        if self._jwks is not None and "://" not in self._jwks:
            found = _read_file(self._jwks)
        else:
            url = self._jwks or self.metadata().get("jwks_uri")
            if self._jwks is None and not is_for(url, self.url):
                raise IssuerError(f"{self.host} names no https address of its keys")
            status, found = fetch_json(str(url))
            if status != 200:
                raise IssuerError(f"{host_of(str(url))} answered with HTTP status {status}")
        keys = found.get("keys")
        if not isinstance(keys, list):
            raise IssuerError("the issuer's keys are not a JWK set")
        return [key for key in keys[:_KEYS_MAX] if isinstance(key, dict)]

    def _find(self, kid: str | None, algorithm: str) -> PyJWK | None:
        fitting = [key for key in self._keys if _fits(key, algorithm) and (kid is None or key.get("kid") == kid)]
        if kid is None and len(fitting) != 1:
            return None
        return _parsed(fitting[0], algorithm) if fitting else None


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            text = stream.read(_FILE_BYTES_MAX + 1)
        found = json.loads(text) if len(text) <= _FILE_BYTES_MAX else None
    except (OSError, ValueError, RecursionError) as error:
        raise IssuerError(f"cannot read the issuer's keys from {path}: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise IssuerError(f"{path} is not a JWK set")
    return found


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    """Whether a JWK is a public key for signatures by ``algorithm``: the token must not choose how a key is used
    (RFC 8725 section 3.1)."""
    if key.get("use", "sig") != "sig" or key.get("alg", algorithm) != algorithm:
        return False
    if "key_ops" in key and (not isinstance(key["key_ops"], list) or "verify" not in key["key_ops"]):
        return False
    if algorithm in _RSA:
        return key.get("kty") == "RSA"
    return key.get("kty") == ("OKP" if algorithm == "EdDSA" else "EC") and key.get("crv") in _CURVES[algorithm]


def _parsed(key: dict[str, Any], algorithm: str) -> PyJWK | None:
    public = {name: value for name, value in key.items() if name not in {"d", "p", "q", "dp", "dq", "qi", "oth"}}
    try:
        parsed = PyJWK(public, algorithm=algorithm)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(parsed.key, RSAPublicKey) and parsed.key.key_size < _RSA_BITS_MIN:
        return None
    return parsed
