"""Signing in with a token of an OpenID Connect issuer: the device-code flow (RFC 8628) at a terminal.

The primary names the issuer, and gets the token; where the issuer is to be asked is what the issuer itself publishes.
"""

from __future__ import annotations

import time
from typing import Any

from octocli.failure import Exit, Failure
from octocli.feed import Status
from octocli.terminal import Terminal

__all__ = ["check_issuer", "issuer_of", "token_of_issuer"]


def check_issuer(issuer: str, jwks: str | None) -> None:
    """Before a primary is made for it. Raises Failure (exit 2) for addresses that are not https, and for a file without
    keys."""
    from octodb.oidc import Issuer, IssuerError

    try:
        Issuer(issuer, jwks=jwks).check_keys_file()
    except (ValueError, IssuerError) as error:
        raise Failure("--oidc cannot be used so", why=str(error), code=Exit.USAGE) from None


def issuer_of(status: Status) -> dict[str, Any] | None:
    """``issuer``, and ``client_id`` and ``scope`` where the issuer can be asked; None: the primary wants no token.

    Raises Failure (exit 4) for an issuer whose address is none: it would be shown.
    """
    fields = (status.get("auth") or {}).get("fields") or []
    about = fields[0].get("oidc") if len(fields) == 1 and isinstance(fields[0], dict) else None
    if not isinstance(about, dict):
        return None
    from octodb.oidc import is_safe_url

    if not is_safe_url(about.get("issuer")):
        raise Failure(
            "the primary names an issuer that cannot be trusted",
            why="its address is not https",
            fix="ask the administrator",
            code=Exit.AUTHORIZATION,
        )
    return about


def token_of_issuer(terminal: Terminal, about: dict[str, Any], server: str) -> str | None:
    """A token that the person approves of on another screen; None where the issuer does not offer that.

    Raises Failure: exit 4 when it is refused or nobody approves in time, exit 5 when the issuer cannot be reached.
    """
    from octodb.oidc import DeviceCodeFlow, FlowEnded, IssuerError

    client_id, scope = about.get("client_id"), about.get("scope", "openid")
    if not isinstance(client_id, str) or not isinstance(scope, str):
        return None
    try:
        flow = DeviceCodeFlow(about["issuer"], client_id, scope=scope)
        if not flow.is_offered():
            return None
        code = flow.start()
        terminal.complain(f"to sign in at {flow.issuer_host}, which gives {server} a token of yours, open")
        terminal.complain(f"  {code.verification_uri}")
        terminal.complain(f"and enter the code  {code.user_code}")
        if code.verification_uri_complete:
            terminal.complain(f"or open  {code.verification_uri_complete}")
        end = time.monotonic() + code.expires_s
        while time.monotonic() < end:
            time.sleep(flow.interval_s)
            token = flow.poll(code)
            if token is not None:
                return token
        raise FlowEnded("expired_token", "the code has expired before anybody approved it")
    except FlowEnded as error:
        fix = "run the command again for another code"
        raise Failure("no token was given", why=str(error), fix=fix, code=Exit.AUTHORIZATION) from None
    except (IssuerError, ValueError) as error:
        fix = "try again later, or give a token: octodb login --data '{\"token\": …}'"
        raise Failure("the issuer gave no token", why=str(error), fix=fix, code=Exit.NETWORK) from None
