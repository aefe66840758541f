"""TLS whose first flight may travel before there is a transport for it.

A tunnel through HTTP is open when its request is answered. What a client would say
first in it does not depend on that answer, and may go right behind the request.
"""

from __future__ import annotations

from typing import Any, cast

from OpenSSL.SSL import Connection, WantReadError
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)

from dwcloud.net.bulk_tls import BulkTLSFactory, BulkTLSTransport

__all__ = ["EarlyTLSFactory"]

_LARGEST_FLIGHT = 1 << 14


class _EarlyTLSTransport(BulkTLSTransport):
    """A TLS transport of which the first flight exists already.

    :ivar unsent: that flight, if it is still to be sent.
    """

    unsent = b""

    def makeConnection(self, transport: ITransport) -> None:
        """Begin."""
        unsent, self.unsent = self.unsent, b""
        if unsent:
            transport.write(unsent)
        cast(Any, super()).makeConnection(transport)


class EarlyTLSFactory(BulkTLSFactory):
    """Makes the client's side of one TLS connection, and its first flight before.

    :ivar flight_sent: to be set by who has sent the first flight on the connection that
        the protocol is going to get.
    """

    protocol = _EarlyTLSTransport

    def __init__(
        self,
        creator: IOpenSSLClientConnectionCreator,
        inner: IProtocolFactory,
        clock: IReactorTime,
    ) -> None:
        super().__init__(creator, True, inner, clock)
        # Twisted makes the OpenSSL connection with the transport's; here it may be
        # there before.
        self._create: Any = cast(Any, self)._creatorCallable
        self._creatorCallable = self._engine
        self._prepared: Connection | None = None
        self._flight = b""
        self.flight_sent = False

    def first_flight(self) -> bytes:
        """Return what the client says first; the same until it has been answered."""
        if self._prepared is None and not self._flight:
            self._prepared = self._create(None)
            try:
                self._prepared.do_handshake()
            except WantReadError:
                self._flight = self._prepared.bio_read(_LARGEST_FLIGHT)
        return self._flight

    def _engine(self, protocol: Any) -> Connection:
        prepared, self._prepared = self._prepared, None
        return self._create(protocol) if prepared is None else prepared

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the protocol."""
        made = super().buildProtocol(addr)
        if isinstance(made, _EarlyTLSTransport) and self._prepared is not None:
            made.unsent = b"" if self.flight_sent else self._flight
        return made
