"""TLS 1.3 between client and server, bound to self-certifying names."""

from __future__ import annotations

from functools import cache

from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from dwcloud.errors import IdentityMismatch
from dwcloud.net.identity import ServerIdentity, verify_certificates
from dwcloud.protocol.names import PeerName

__all__ = ["ALPN", "PeerVerifier", "ServerTLS", "UnverifiedTLS"]

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


class _VerifiedConnection(SSL.Connection):
    """Knows who verifies its far end.

    :ivar verifier: does.
    """

    verifier: PeerVerifier


def _verify(
    connection: SSL.Connection,
    certificate: crypto.X509,
    error: int,
    depth: int,
    ok: int,
) -> bool:
    assert isinstance(connection, _VerifiedConnection)
    return connection.verifier.verify(certificate, depth)


# A context costs as much time as a key exchange, and the memory of some connections.


@cache
def _client_context() -> SSL.Context:
    context = _context()
    context.set_alpn_protos([ALPN])
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    return context


@cache
def _unverified_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_NONE)
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
        connection = _VerifiedConnection(_client_context(), None)
        connection.verifier = self
        # The name of a system alone is not a host name that a certificate can carry,
        # but it tells the server's log what was wanted.
        connection.set_tlsext_host_name(self.wanted.dns_name.encode("ascii"))
        return connection

    def verify(self, certificate: crypto.X509, depth: int) -> bool:
        """Judge a certificate of the far end; OpenSSL asks.

        :param depth: how far above the far end's own it is.
        """
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


@implementer(IOpenSSLClientConnectionCreator)
class UnverifiedTLS:
    """Makes a client's side of TLS connections to whoever is there.

    For what proves itself inside, where TLS is only to get through a firewall or a
    proxy that lets nothing else pass.
    """

    def __init__(self, host: str) -> None:
        self._host = host

    def clientConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the OpenSSL connection of one stream."""
        connection = SSL.Connection(_unverified_context(), None)
        if not (isIPAddress(self._host) or isIPv6Address(self._host)):
            connection.set_tlsext_host_name(self._host.encode("idna"))
        connection.set_connect_state()
        return connection
