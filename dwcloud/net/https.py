"""A service's side of TLS, from a key and a certificate in files."""

from __future__ import annotations

from pathlib import Path

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from dwcloud.errors import ConfigurationError

__all__ = ["CertificateTLS"]

_ALPN = b"http/1.1"
# Buffers of idle connections are given back: 26 KB a connection instead of 47 KB.
_MODE_RELEASE_BUFFERS = 0x00000010


@implementer(IOpenSSLServerConnectionCreator)
class CertificateTLS:
    """Makes the TLS connections of a service that browsers and commands come to.

    :param key: the private key, PEM.
    :param certificate: the certificate, and those above it, PEM.
    :raises ConfigurationError: if they cannot be used.
    """

    def __init__(self, key: Path, certificate: Path) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_options(SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_mode(_MODE_RELEASE_BUFFERS)
        try:
            context.use_certificate_chain_file(str(certificate))
            context.use_privatekey_file(str(key))
            context.check_privatekey()
        except SSL.Error as error:
            raise ConfigurationError(
                f"{key} and {certificate} are not a key and its certificate in PEM form"
            ) from error
        # Who offers something else than HTTP/1.1 gets HTTP/1.1 all the same.
        context.set_alpn_select_callback(
            lambda _, offered: (
                _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
            )
        )
        self._context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL connection of one accepted stream."""
        return SSL.Connection(self._context, None)
