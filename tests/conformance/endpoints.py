"""UDT endpoints in the form that Twisted's transport tests want them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IConnector, IProtocol
from twisted.internet.protocol import ClientFactory
from twisted.internet.test.connectionmixins import EndpointCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.udp import SharedUDPPort
from dwcloud.net.udp_port import PlainUDPPort


class UDTCreator(EndpointCreator):
    """Makes ``udt:`` endpoints on loopback."""

    interface = "127.0.0.1"

    def server(self, reactor: Any) -> Any:
        """Return an endpoint that listens on a free port."""
        return serverFromString(reactor, f"udt:0:interface={self._quoted}")

    def client(self, reactor: Any, serverAddress: Any) -> Any:
        """Return an endpoint that connects there."""
        return clientFromString(
            reactor,
            f"udt:{self._quoted}:{serverAddress.port}:bindAddress={self._quoted}",
        )

    @property
    def _quoted(self) -> str:
        return self.interface.replace(":", "\\:")


class UDT6Creator(UDTCreator):
    """Makes ``udt:`` endpoints on loopback over IPv6."""

    interface = "::1"


@implementer(IConnector)
class EndpointConnector:
    """Connects a ClientFactory by an endpoint, as ``reactor.connectTCP`` would.

    Twisted's tests of clients are written for connectors, which endpoints have
    replaced.
    """

    def __init__(self, endpoint: Any, destination: Any, factory: ClientFactory) -> None:
        self._endpoint = endpoint
        self._destination = destination
        self._factory = factory
        self._attempt: Any = None
        self._transport: Any = None

    def connect(self) -> None:
        """Start to connect."""
        self._factory.startedConnecting(self)
        self._attempt = self._endpoint.connect(self._factory)
        self._attempt.addCallbacks(self._connected, self._failed)

    def _connected(self, protocol: IProtocol) -> None:
        self._transport = protocol.transport

    def _failed(self, reason: Failure) -> None:
        if not reason.check(CancelledError):
            self._factory.clientConnectionFailed(self, reason)

    def stopConnecting(self) -> None:
        """Give up."""
        self._attempt.cancel()

    def disconnect(self) -> None:
        """Give up or disconnect."""
        if self._transport is None:
            self.stopConnecting()
        else:
            self._transport.loseConnection()

    def getDestination(self) -> Any:
        """Return the address to connect to."""
        return self._destination


class PlainPort(SharedUDPPort):
    """A port that never uses the kernel's segmentation.

    It stays open until its reactor stops: Twisted's UDP port closes by a delayed call
    of its own, and the tests of ``abortConnection`` demand that there is none.
    """

    def __init__(self, reactor: Any, **options: Any) -> None:
        super().__init__(reactor, **(options | {"port_type": PlainUDPPort}))

    def stop(self) -> Deferred[None]:
        """Leave closing to the end of the reactor."""
        return succeed(None)
