"""Transports for tests of HTTP: what was written, and how it ended."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


class HTTPTransport(StringTransport):
    """A TCP transport that knows its protocol, as the real one does."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 4000))
        self.protocol: Any = None
        self.aborted = False

    def attach(self, protocol: Any) -> Any:
        """Connect ``protocol``."""
        self.protocol = protocol
        protocol.makeConnection(self)
        return protocol

    def abortConnection(self) -> None:
        """Remember it."""
        self.aborted = True
        super().abortConnection()

    def deliver(self, data: bytes) -> None:
        """Let the protocol receive ``data``."""
        self.protocol.dataReceived(data)

    def lose(self, reason: Exception | None = None) -> None:
        """Let the protocol lose its connection."""
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data: bytes = self.value()
        self.clear()
        return data
