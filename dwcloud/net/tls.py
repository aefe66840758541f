"""TLS 1.3 between client and server, bound to self-certifying names."""

from __future__ import annotations

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from dwcloud.errors import IdentityMismatch
from dwcloud.net.identity import ServerIdentity, verify_certificates
from dwcloud.protocol.names import PeerName

__all__ = ["ALPN", "PeerVerifier", "ServerTLS"]

ALPN = b"dwcloud/1"
"""Application protocol (RFC 7301) of the streams between client and server."""

# Buffers of idle connections are given back: 26 KB a connection instead of 47 KB.
_MODE_RELEASE_BUFFERS = 0x00000010


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(_MODE_RELEASE_BUFFERS)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes a server's side of TLS connections from its identity."""

    def __init__(self, identity: ServerIdentity) -> None:
        context = _context()
        context.use_privatekey(crypto.PKey.from_cryptography_key(identity.key))
        context.use_certificate(crypto.X509.from_cryptography(identity.certificate))
        context.add_extra_chain_cert(
            crypto.X509.from_cryptography(identity.system_certificate)
        )
        context.set_alpn_select_callback(
            lambda _, offered: ALPN if ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
        )
        self._context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL connection of one accepted stream."""
        return SSL.Connection(self._context, None)


@implementer(IOpenSSLClientConnectionCreator)
class PeerVerifier:
    """Makes a client's side of one TLS connection and verifies the far end.

    The chain is checked against the GUID alone: the certificate authority is trusted
    exactly if its key hashes to the system's GUID (see docs/design.rst). A new object
    is needed for each connection.

    :ivar verified_name: ``server.system`` of the far end once it has proven itself.
    :ivar failure: why it could not, if it could not.
    """

    def __init__(self, wanted: PeerName) -> None:
        self.wanted = wanted
        self.verified_name: PeerName | None = None
        self.failure: IdentityMismatch | None = None
        self._system_certificate: bytes | None = None

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL connection, which sends nothing before it has verified."""
        context = _context()
        context.set_alpn_protos([ALPN])
        context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify
        )
        connection = SSL.Connection(context, None)
        # The name of a system alone is not a host name that a certificate can carry,
        # but it tells the server's log what was wanted.
        connection.set_tlsext_host_name(self.wanted.dns_name.encode("ascii"))
        return connection

    def _verify(
        self,
        connection: SSL.Connection,
        certificate: crypto.X509,
        error: int,
        depth: int,
        ok: int,
    ) -> bool:
        # OpenSSL calls this from the top of the chain down, with errors for a root
        # that it was never told to trust. What counts is decided at the bottom, by
        # a verification of our own that trusts the hash of the key.
        der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
        if depth > 0:
            if depth == 1:
                self._system_certificate = der
            return True
        self.verified_name = None
        if self._system_certificate is None:
            self.failure = IdentityMismatch(
                "the certificate of the far end does not lead to that of its system"
            )
            return False
        try:
            name = verify_certificates((der, self._system_certificate))
        except IdentityMismatch as e:
            self.failure = e
            return False
        if not self.wanted.includes(name):
            self.failure = IdentityMismatch(
                f"wanted {self.wanted}, but the far end is {name}; nothing was sent"
            )
            return False
        self.failure = None
        self.verified_name = name
        return True
