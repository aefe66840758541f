"""STUN and HTTP on one TCP port, told apart by the first byte.

A STUN message starts with two zero bits (RFC 8489, 5), an HTTP request with a letter.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Factory

from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.silence import SilenceTable

__all__ = ["FirstByteFactory"]

_STUN_END = 0x40


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
        is_stun = data[0] < _STUN_END
        chosen = self._factory.stun if is_stun else self._factory.http
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


class FirstByteFactory(Factory):
    """Gives each connection to one of two protocols.

    :param stun: makes the protocol of connections that carry STUN.
    :param http: makes that of all others.
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
    ) -> None:
        self.stun = stun
        self.http = http
        self.silent: SilenceTable[_FirstByteProtocol] = SilenceTable(
            reactor, limit, capacity, _FirstByteProtocol.close
        )

    def buildProtocol(self, addr: IAddress | None) -> _FirstByteProtocol:
        """Make the protocol of one connection."""
        protocol = _FirstByteProtocol(self, addr)
        protocol.factory = self
        return protocol

    def closeAll(self) -> None:
        """Close the connections that wait."""
        for protocol in self.silent.stop():
            protocol.close()
