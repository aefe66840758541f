"""A machine between two others: it passes bytes on, or changes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from dwcloud.net.http_client import TLSEndpoint
from dwcloud.testing import Host

__all__ = ["Forwarding"]


class _Half(Protocol):
    """One of two joined connections."""

    def __init__(self, forwarding: Forwarding, other: _Half | None = None) -> None:
        self.forwarding = forwarding
        self.other = other
        self.early = b""

    def connectionMade(self) -> None:
        if self.other is None:
            half = _Half(self.forwarding, self)
            connecting = connectProtocol(self.forwarding.endpoint, half)
            connecting.addCallback(self.joined)

    def joined(self, other: _Half) -> None:
        self.other = other
        self.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:
        self.early += data
        if self.other is not None:
            data, self.early = self.early, b""
            if self.other.forwarding.tamper is not None:
                data = self.other.forwarding.tamper(data)
            assert self.other.transport is not None
            self.other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class Forwarding(Factory):
    """Passes connections on to a port of another host.

    :param destination: host and port.
    :param tls: speaks TLS to it; None for plain TCP.
    :ivar tamper: what becomes of the bytes, None if they stay as they are.
    """

    noisy = False

    def __init__(
        self, host: Host, destination: tuple[str, int], tls: Any = None
    ) -> None:
        self.host = host
        endpoint: Any = TCP4ClientEndpoint(host.reactor, *destination)
        if tls is not None:
            endpoint = TLSEndpoint(host.reactor, tls, endpoint)
        self.endpoint = endpoint
        self.tamper: Callable[[bytes], bytes] | None = None

    def buildProtocol(self, addr: IAddress | None) -> _Half:
        return _Half(self)
