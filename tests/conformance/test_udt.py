"""Twisted's own tests of stream transports, run over ``udt:`` endpoints.

They run on every reactor of Linux over the port that uses the kernel's segmentation,
and on one of them over IPv6 and over Twisted's own UDP port.

Not run, because they do not apply:

* ``TCPConnectionTestsBuilder.test_doubleHalfClose`` and everything with
  ``IHalfCloseableProtocol``: UDT has no half close, a shutdown ends both directions.
* ``test_resumeProducing*`` of the same builder: they look for the transport among the
  reactor's readers, where all UDT connections have one socket together. What they are
  about is tested below in :class:`ReadingTestsMixin`.
* ``StreamTransportTestsMixin`` and ``TCPPortTestsMixin``: they connect TCP sockets,
  exhaust file descriptors by ``accept`` (UDT has none) or compare log lines of TCP
  ports.
* ``TCPTransportServerAddressTestMixin``: compares the ``repr`` of TCP's ``Server``.
* ``test_badContext`` and ``test_connectPort*`` of TCP's client: they test the
  arguments of ``connectTCP``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IReactorTime, IReactorUDP
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory
from twisted.internet.test.connectionmixins import (
    ConnectableProtocol,
    ConnectionTestsMixin,
    StreamClientTestsMixin,
    runProtocolsWithReactor,
)
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.internet.test.test_tcp import (
    AbortConnectionMixin,
    StopStartReadingProtocol,
    WriteSequenceTestsMixin,
)
from twisted.python import log
from twisted.test.test_tcp import MyClientFactory, MyServerFactory

from dwcloud.net import udp

from .endpoints import EndpointConnector, PlainPort, UDT6Creator, UDTCreator


class UDTTestsBase(ReactorBuilder):
    """What all of the builders below share."""

    requiredInterfaces = (IReactorUDP, IReactorTime)
    _reactors = (
        "twisted.internet.selectreactor.SelectReactor",
        "twisted.internet.pollreactor.PollReactor",
        "twisted.internet.epollreactor.EPollReactor",
        "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
    )
    endpoints = UDTCreator()


class UDTClientTests(UDTTestsBase, ConnectionTestsMixin, StreamClientTestsMixin):
    """Clients: life and end of a connection, producers, log prefixes."""

    _address: Any = None

    def listen(self, reactor: Any, factory: ServerFactory) -> Any:
        """Listen, and remember where."""
        listening: Any = self.endpoints.server(reactor).listen(factory)
        listening.addCallback(lambda port: setattr(self, "_address", port.getHost()))
        listening.addErrback(log.err)
        return listening

    def connect(self, reactor: Any, factory: ClientFactory) -> EndpointConnector:
        """Connect to where :meth:`listen` listens, or to where nobody does."""
        if self._address is None:
            unused = self.successResultOf(
                self.endpoints.server(reactor).listen(ServerFactory())
            )
            address = unused.getHost()
            unused.stopListening()
        else:
            address = self._address
        connector = EndpointConnector(
            self.endpoints.client(reactor, address), address, factory
        )
        connector.connect()
        return connector


class UDTAbortTests(UDTTestsBase, AbortConnectionMixin):
    """``abortConnection`` from everywhere."""

    # The asyncio reactor's ``stop`` leaves a delayed call of its own when a timer
    # causes it, and here timers end connections; the tests demand that none is left.
    _reactors = UDTTestsBase._reactors[:3]


class UDTWriteSequenceTests(UDTTestsBase, WriteSequenceTestsMixin):
    """``writeSequence`` and producers."""

    def getConnectedClientAndServer(
        self, reactor: Any, interface: str, addressFamily: int
    ) -> Deferred[Any]:
        """Return a Deferred of client, server and listening port."""
        server, client = MyServerFactory(), MyClientFactory()
        for factory in (server, client):
            factory.protocolConnectionMade = Deferred()
            factory.protocolConnectionLost = Deferred()
        lost = gatherResults(
            [client.protocolConnectionLost, server.protocolConnectionLost]
        )
        lost.addBoth(lambda result: (reactor.stop(), result)[1])
        made = gatherResults(
            [client.protocolConnectionMade, server.protocolConnectionMade]
        )

        async def connected() -> Any:
            port = await self.endpoints.server(reactor).listen(server)
            await self.endpoints.client(reactor, port.getHost()).connect(client)
            return (*await made, port)

        return Deferred.fromCoroutine(connected())


class ReadingTestsMixin:
    """What the tests of TCP's reading side are about, on any endpoint."""

    def test_stopStartReading(self: Any) -> None:
        """Pausing and resuming several times neither loses nor repeats data."""
        factory = ServerFactory()
        reactor = factory.reactor = self.buildReactor()
        factory.protocol = StopStartReadingProtocol
        factory.ready, factory.stop = Deferred(), Deferred()
        expected = b"x" * (2 * 4096) + b"y" * (2 * 4096)

        async def run() -> None:
            port = await self.endpoints.server(reactor).listen(factory)
            endpoint = self.endpoints.client(reactor, port.getHost())
            client = connectProtocol(endpoint, Protocol())
            (_, client), (_, server) = await DeferredList([client, factory.ready])
            client.transport.write(expected)
            self.assertEqual(await factory.stop, expected)
            client.transport.loseConnection()
            server.transport.loseConnection()
            await port.stopListening()
            reactor.stop()

        reactor.callWhenRunning(
            lambda: Deferred.fromCoroutine(run()).addErrback(log.err)
        )
        self.runReactor(reactor)

    def test_connectionLostAfterPausedTransport(self: Any) -> None:
        """The end of a connection is not reported before reading goes on."""

        class Pauser(ConnectableProtocol):
            def __init__(self) -> None:
                self.events: list[str] = []

            def dataReceived(self, data: bytes) -> None:
                self.events.append("paused")
                self.transport.pauseProducing()
                self.reactor.callLater(0, self.resume)

            def resume(self) -> None:
                self.events.append("resumed")
                self.transport.resumeProducing()

            def connectionLost(self, reason: Any) -> None:
                self.events.append("lost")
                ConnectableProtocol.connectionLost(self, reason)

        class Client(ConnectableProtocol):
            def connectionMade(self) -> None:
                self.transport.write(b"some bytes for you")
                self.transport.loseConnection()

        pauser = Pauser()
        runProtocolsWithReactor(self, pauser, Client(), self.endpoints)
        self.assertEqual(pauser.events, ["paused", "resumed", "lost"])

    def test_resumeProducingWhileDisconnecting(self: Any) -> None:
        """After ``loseConnection`` nothing is delivered, resumed or not."""
        received: list[bytes] = []

        class Server(ConnectableProtocol):
            def connectionMade(self) -> None:
                self.transport.loseConnection()
                self.transport.resumeProducing()

            def dataReceived(self, data: bytes) -> None:
                received.append(data)

        class Client(ConnectableProtocol):
            def connectionMade(self) -> None:
                self.transport.write(b"too late")

        runProtocolsWithReactor(self, Server(), Client(), self.endpoints)
        self.assertEqual(received, [])

    def test_resumeProducingWhileDisconnected(self: Any) -> None:
        """Resuming a lost connection does nothing."""

        class Server(ConnectableProtocol):
            def connectionLost(self, reason: Any) -> None:
                transport = self.transport
                transport.resumeProducing()
                transport.pauseProducing()
                ConnectableProtocol.connectionLost(self, reason)

        class Client(ConnectableProtocol):
            def connectionMade(self) -> None:
                self.transport.loseConnection()

        runProtocolsWithReactor(self, Server(), Client(), self.endpoints)

    def test_buildProtocolReturnsNone(self: Any) -> None:
        """Without a protocol the connection closes gracefully on both sides."""
        reactor = self.buildReactor()
        lost: Deferred[Any] = Deferred()
        factory = MyServerFactory()
        factory.protocolConnectionLost = lost
        reasons: list[Any] = []

        class NoneFactory(ServerFactory):
            def buildProtocol(self, address: Any) -> None:
                return None

        async def run() -> None:
            port = await self.endpoints.server(reactor).listen(factory)
            endpoint = self.endpoints.client(reactor, port.getHost())
            try:
                await endpoint.connect(NoneFactory())
            except Exception as error:
                reasons.append(type(error).__name__)
            await lost
            reactor.stop()

        reactor.callWhenRunning(
            lambda: Deferred.fromCoroutine(run()).addErrback(log.err)
        )
        self.runReactor(reactor)
        self.assertEqual(reasons, ["NoProtocol"])


class UDTReadingTests(UDTTestsBase, ReadingTestsMixin):
    """Pausing, resuming and ends on the reading side."""


class OverIPv6:
    """Mixin: the same over IPv6, on one reactor."""

    _reactors = ("twisted.internet.epollreactor.EPollReactor",)
    endpoints = UDT6Creator()


class OverPlainPort:
    """Mixin: the same without the kernel's segmentation, on one reactor."""

    _reactors = ("twisted.internet.epollreactor.EPollReactor",)

    def setUp(self: Any) -> None:
        """Let the endpoints open ports of the plain kind."""
        super().setUp()
        self.patch(udp, "SharedUDPPort", PlainPort)


for builder in (
    UDTClientTests,
    UDTAbortTests,
    UDTWriteSequenceTests,
    UDTReadingTests,
):
    for variant in (None, OverIPv6, OverPlainPort):
        if variant is None:
            cases = builder
        else:
            name = builder.__name__.replace("Tests", f"{variant.__name__}Tests")
            cases = type(name, (variant, builder), {"__module__": __name__})
        globals().update(cases.makeTestCaseClasses())
del builder, variant, cases
