"""Sign-in with somebody else's accounts: OAuth / OpenID Connect tokens (docs/authorization.md).

``OpenIdConnect`` is a primary's side, ``DeviceCodeFlow`` a device's. Tokens and codes are never stored, logged or put
into an error.
"""

from octodb.oidc.authorizer import OpenIdConnect
from octodb.oidc.device_code import DeviceCode, DeviceCodeFlow, FlowEnded
from octodb.oidc.fetch import IssuerError, is_safe_url
from octodb.oidc.issuer import Issuer

__all__ = ["DeviceCode", "DeviceCodeFlow", "FlowEnded", "Issuer", "IssuerError", "OpenIdConnect", "is_safe_url"]
