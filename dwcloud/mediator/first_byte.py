"""STUN, HTTP and TLS on one TCP port, told apart by the first byte.

A STUN message starts with two zero bits (RFC 8489, 5), and its first byte is 0 or 1 for
all methods there are; TLS starts with a handshake record, 22 (RFC 8446, 5.1); an HTTP
request starts with a letter.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import (
    IAddress,
    IProtocolFactory,
    IProtocolNegotiationFactory,
)
from twisted.internet.protocol import Factory
from zope.interface import implementer

from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.silence import SilenceTable

__all__ = ["FirstByteFactory"]

_STUN_END = 0x40
_TLS_HANDSHAKE = 0x16


class _FirstByteProtocol(SwitchingProtocol):
    """Waits for the first byte and then leaves."""

    def __init__(self, factory: FirstByteFactory, address: IAddress | None) -> None:
        self._factory = factory
        self._address = address

    def connectionMade(self) -> None:
        """Start waiting (called by Twisted)."""
        self._factory.silent.add(self)

    def bytesReceived(self, data: bytes) -> None:
        """Decide."""
        self._factory.silent.remove(self)
        chosen = self._factory.choose(data[0])
        successor = chosen.buildProtocol(cast(IAddress, self._address))
        if successor is None:
            self.close()
        else:
            self.switch_to(successor, data)

    def connectionEnded(self, reason: object) -> None:
        """It was lost without a byte."""
        self._factory.silent.remove(self)

    def close(self) -> None:
        """Close the connection."""
        cast(Any, self.transport).abortConnection()


@implementer(IProtocolNegotiationFactory)
class FirstByteFactory(Factory):
    """Gives each connection to one of several protocols.

    :param stun: makes the protocol of connections that carry STUN.
    :param http: makes that of all others.
    :param tls: makes that of connections that begin as TLS; without it there are none,
        and their first byte is one of STUN.
    :param limit: seconds to wait for the first byte.
    :param capacity: connections that may wait; one more closes the one that has
        waited longest.
    :ivar silent: the connections that wait.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        stun: IProtocolFactory,
        http: IProtocolFactory,
        *,
        limit: float,
        capacity: int,
        tls: IProtocolFactory | None = None,
    ) -> None:
        self.stun = stun
        self.http = http
        self.tls = tls
        self.silent: SilenceTable[_FirstByteProtocol] = SilenceTable(
            reactor, limit, capacity, _FirstByteProtocol.close
        )

    def acceptableProtocols(self) -> list[bytes]:
        """Tell clients that would like another one what is spoken (RFC 7301)."""
        return [b"http/1.1"]

    def choose(self, first: int) -> IProtocolFactory:
        """Return what makes the protocol of a connection with this first byte."""
        if first == _TLS_HANDSHAKE and self.tls is not None:
            return self.tls
        return self.stun if first < _STUN_END else self.http

    def buildProtocol(self, addr: IAddress | None) -> _FirstByteProtocol:
        """Make the protocol of one connection."""
        protocol = _FirstByteProtocol(self, addr)
        protocol.factory = self
        return protocol

    def closeAll(self) -> None:
        """Close the connections that wait."""
        for protocol in self.silent.stop():
            protocol.close()
