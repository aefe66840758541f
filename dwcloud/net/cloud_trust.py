"""Whom the HTTPS of a cloud is believed to be.

First the certificate authorities of the system are asked, as for any web page. A cloud
of one's own often has a certificate that nobody vouches for: then the key in it counts,
which is remembered when it is first seen, as ssh does with the keys of hosts.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Callable

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

__all__ = ["WEB", "CloudTLS", "Presented", "fingerprint"]

WEB = "web"
"""Stands for the certificate authorities where a fingerprint could stand."""

_ALPN = b"http/1.1"

_REASONS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is signed by itself",
    19: "its authority is not known here",
    20: "its authority is not known here",
    21: "its authority is not known here",
}
"""Words for the likely ones of OpenSSL's errors (``X509_V_ERR_*``)."""


def fingerprint(certificate: x509.Certificate) -> str:
    """A short text that is different for each key, in the form that ssh prints.

    :return: ``SHA256:`` and the hash of the key (RFC 5280, 4.1.2.7) in Base64 without
        padding.
    """
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode("ascii")
    return f"SHA256:{digest.rstrip('=')}"


@attrs.frozen
class Presented:
    """What the far end has shown.

    :ivar fingerprint: of the key in its certificate.
    :ivar vouched: whether a certificate authority of this system vouches for it.
    :ivar reason: why none does; empty if one does.
    """

    fingerprint: str
    vouched: bool
    reason: str = ""


@implementer(IOpenSSLClientConnectionCreator)
class CloudTLS:
    """Makes one TLS connection to a cloud; nothing is sent before it was believed.

    :param host: whom the certificate has to name.
    :param believe: told what the far end shows, perhaps more than once; raises if
        that is not believed.
    :param authorities: a file of certificates to be trusted in place of the system's.
    :ivar presented: what the far end has shown.
    :ivar failure: what ``believe`` raised, to be told in place of the broken
        connection's error.
    """

    def __init__(
        self,
        host: str,
        believe: Callable[[Presented], None],
        authorities: str | None = None,
    ) -> None:
        self._host = host
        self._believe = believe
        self._errors: list[str] = []
        self.presented: Presented | None = None
        self.failure: Exception | None = None
        self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        if authorities is None:
            self._context.set_default_verify_paths()
        else:
            self._context.load_verify_locations(authorities)
        self._context.set_alpn_protos([_ALPN])
        self._context.set_verify(SSL.VERIFY_PEER, self._verify)

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL connection of one stream."""
        connection = SSL.Connection(self._context, None)
        if not _is_address(self._host):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        connection.set_connect_state()
        return connection

    def _verify(
        self,
        connection: SSL.Connection,
        certificate: crypto.X509,
        error: int,
        depth: int,
        ok: int,
    ) -> bool:
        # OpenSSL calls this for each error and then once for each certificate from
        # the top of the chain down, so that the last call is about the far end's own
        # and knows everything that was wrong before.
        if not ok:
            reason = _REASONS.get(error, f"OpenSSL's reason {error}")
            self._errors.append(reason)
        if depth > 0:
            return True
        return self._judge(certificate.to_cryptography())

    def _judge(self, certificate: x509.Certificate) -> bool:
        errors = [*self._errors]
        try:
            _check_name(certificate, self._host)
        except (CertificateError, VerificationError):
            errors.append(f"it does not name {self._host}")
        self.presented = Presented(
            fingerprint(certificate), not errors, errors[0] if errors else ""
        )
        try:
            self._believe(self.presented)
        except Exception as e:
            self.failure = e
            return False
        return True


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_name(certificate: x509.Certificate, host: str) -> None:
    if _is_address(host):
        verify_certificate_ip_address(certificate, host)
    else:
        verify_certificate_hostname(certificate, host)
