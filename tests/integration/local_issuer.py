"""An OpenID Connect issuer on this machine: discovery, keys, tokens, the device-code flow. Nobody's real accounts."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "octodb-test"


class LocalIssuer:
    """``answers``: what the token endpoint says to polls, in order; the last one again and again."""

    def __init__(self):
        self.keys = {}
        self.down = False
        self.requests = []
        self.answers = []
        self.flow = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer._answer(self, None)

            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                issuer._answer(self, {name: values[0] for name, values in parse_qs(form).items()})

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.offers_device_flow = True
        self.add_key("first")

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add_key(self, kid, kind="EC"):
        key = ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)
        self.keys[kid] = key

    def jwks(self):
        found = []
        for kid, key in self.keys.items():
            algorithm = (
                jwt.algorithms.ECAlgorithm
                if isinstance(key, ec.EllipticCurvePrivateKey)
                else jwt.algorithms.RSAAlgorithm
            )
            found.append(json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"})
        return {"keys": found}

    def token(self, subject="ada", *, kid="first", key=None, algorithm=None, **claims):
        """A token as it should be, but for ``claims`` (None: left out)."""
        key = key or self.keys[kid]
        algorithm = algorithm or ("ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256")
        now = int(time.time())
        fields = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300} | claims
        fields = {name: value for name, value in fields.items() if value is not None}
        return jwt.encode(fields, key, algorithm=algorithm, headers={"kid": kid})

    def confused_token(self):
        """Signed by HMAC with the text of the public key, which everybody has (RFC 8725 section 2.1)."""
        pem = (
            self.keys["first"]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        import hashlib
        import hmac

        head = {"alg": "HS256", "kid": "first"}
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "mallory", "iat": now, "exp": now + 300}
        signed = b".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        return (signed + b"." + _url64(hmac.digest(pem, signed, hashlib.sha256))).decode()

    def unsigned_token(self):
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "mallory", "iat": now, "exp": now + 300}
        parts = (_url64(json.dumps(part).encode()) for part in ({"alg": "none", "kid": "first"}, claims))
        return (b".".join(parts) + b".").decode()

    @staticmethod
    def token_like(algorithm):
        """Nobody's, of an issuer that does not get to be asked."""
        key = ec.generate_private_key(ec.SECP256R1())
        return jwt.encode({"sub": "ada"}, key, algorithm=algorithm, headers={"kid": "first"})

    def _answer(self, handler, form):
        self.requests.append((handler.path, form))
        status, found = 404, {}
        if self.down:
            status = 503
        elif handler.path == "/.well-known/openid-configuration":
            status, found = (
                200,
                {"issuer": self.url, "jwks_uri": self.url + "/keys", "token_endpoint": self.url + "/token"},
            )
            if self.offers_device_flow:
                found["device_authorization_endpoint"] = self.url + "/device"
        elif handler.path == "/keys":
            status, found = 200, self.jwks()
        elif handler.path == "/device":
            status = 200
            found = {"device_code": "the-secret-code", "user_code": "WDJB-MJHT", "verification_uri": self.url + "/go"}
            found |= {"expires_in": 60, "interval": 0.05} | self.flow
        elif handler.path == "/token":
            found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            status = 400 if "error" in found else 200
        body = json.dumps(found).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
