"""TLS 1.3 for ``tls://`` addresses, by the ssl module: a primary's certificate, how a device checks it.

A device trusts a certificate because a CA signed it (``tls_ca=`` or the system's), because its fingerprint was given
(``tls_pin=``), or because whoever has it also knows the network key, which is proved inside (wire/handshake.py). In any
case its signature speaks of the certificate it sees, so a relay with another one gets nowhere (RFC 5929).
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from octodb.errors import ConfigError
from octodb.model.node_uri import Address, TlsParameters

__all__ = [
    "Certificate",
    "check_certificate",
    "client_context",
    "fingerprint",
    "load_certificate",
    "make_certificate",
    "peer_certificate",
    "server_context",
    "why_not_trusted",
]

# A pinned certificate is good until it is replaced; one that ends would cut all devices off on that day.
_YEARS: Final = 50


@dataclass(frozen=True, slots=True)
class Certificate:
    """``chain``: PEM, the primary's own first. ``private_key``: PEM. ``der``: the primary's own."""

    chain: bytes
    private_key: bytes
    der: bytes

    def __repr__(self) -> str:
        return f"<certificate {fingerprint(self.der)}>"


def fingerprint(der: bytes) -> str:
    """SHA-256 of a certificate in hexadecimal digits, as ``tls_pin=`` takes it and openssl prints it."""
    return hashlib.sha256(der).hexdigest()


def make_certificate(addresses: tuple[Address, ...]) -> tuple[bytes, bytes]:
    """A self-signed certificate and its private key, PEM: for this host's name and the addresses it listens on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "octodb primary")])
    hosts = dict.fromkeys(
        [_as_ascii(socket.gethostname()), "localhost", *(_as_ascii(address.host) for address in addresses)]
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # devices whose clocks are behind
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts if host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private_key


def _as_ascii(host: str) -> str:
    """The A-label of a name with other letters (RFC 5890); '' for one that has none."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def load_certificate(parameters: TlsParameters) -> Certificate:
    """The files of ``tls_cert=`` and ``tls_key=`` (without it, both are in the first). Raises ConfigError."""
    assert parameters.certificate is not None
    chain = _read("tls_cert", parameters.certificate)
    private_key = chain if parameters.private_key is None else _read("tls_key", parameters.private_key)
    return check_certificate(chain, private_key)


def check_certificate(chain: bytes, private_key: bytes) -> Certificate:
    """Raises ConfigError where they are no certificate and its key."""
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
        key = serialization.load_pem_private_key(private_key, None)
        fits = _public_bytes(key.public_key()) == _public_bytes(first.public_key())
    except (ValueError, TypeError) as error:  # TypeError: the key is encrypted
        encrypted = isinstance(error, TypeError)
        raise ConfigError(
            "the private key is encrypted" if encrypted else "tls_cert= and tls_key= are no PEM certificate and key",
            hint="give the key without a passphrase, in a file that only this user can read"
            if encrypted
            else "name PEM files; a file with both will do as tls_cert=",
        ) from None
    if not fits:
        raise ConfigError("tls_key= is not the key of tls_cert=", hint="name the certificate's own key")
    return Certificate(chain, private_key, first.public_bytes(serialization.Encoding.DER))


def _public_bytes(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    found: bytes = key.public_bytes(serialization.Encoding.DER, form)
    return found


def _read(parameter: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(
            f"{parameter}={path} cannot be read: {error.strerror or error}",
            hint="name a PEM file that this user can read",
        ) from None


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """What a primary listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with _as_file(certificate.chain + b"\n" + certificate.private_key) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise ConfigError(f"the certificate cannot be used: {error.reason or error}") from None
    return context


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """The ssl module reads keys from files only. Where the system has files in memory this one is never on a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("octodb", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # mode 0600
        file.write(data)
        file.flush()
        yield file.name


def client_context(parameters: TlsParameters, *, has_network_key: bool) -> ssl.SSLContext:
    """What a device dials with. Raises ConfigError for a CA file that is none."""
    if parameters.pins or (has_network_key and parameters.ca is None):
        # trusted by its fingerprint (peer_certificate), or by the network key, not by who signed it
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        if parameters.ca is not None:
            _read("tls_ca", parameters.ca)
        try:
            context = ssl.create_default_context(cafile=parameters.ca)
        except ssl.SSLError:
            raise ConfigError(f"tls_ca={parameters.ca} has no PEM certificate", hint="name a CA's PEM file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def peer_certificate(transport: Any, parameters: TlsParameters) -> bytes:
    """The certificate (DER) of the primary that ``transport`` is connected to.

    Raises ssl.SSLCertVerificationError where it is none of the pinned ones.
    """
    der: bytes = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    if parameters.pins and fingerprint(der) not in parameters.pins:
        raise ssl.SSLCertVerificationError(f"its certificate is not the pinned one: {fingerprint(der)}")
    return der


def why_not_trusted(error: ssl.SSLError) -> str:
    """What went wrong while TLS was agreed on, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = getattr(error, "verify_message", "") or str(error.args[0] if error.args else error)
        if "pinned" in reason:
            return f"{reason}; tls_pin= names another: somebody stands between, or the primary has a new certificate"
        return f"its certificate is not trusted: {reason}; give its CA with tls_ca= or its fingerprint with tls_pin="
    if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
        return "what answers there does not speak TLS: is it tcp://?"
    if error.reason in {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"}:
        return "it does not speak TLS 1.3"
    return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}"
