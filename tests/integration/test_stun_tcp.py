"""STUN over real TCP: a peer that does not read, and an orderly end."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dwcloud.net.stun_tcp import MAX_UNSENT, STUNStreamProtocol
from dwcloud.protocol.stun.binding import (
    binding_request,
    binding_response,
    reflexive_address,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage


class Answerer:
    """Answers Binding requests; tells when the connection opens and ends."""

    def __init__(self) -> None:
        self.opened: Deferred[STUNStreamProtocol] = Deferred()
        self.closed: Deferred[Failure] = Deferred()

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Tell."""
        self.connection = connection
        self.opened.callback(connection)

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Answer."""
        self.connection.sendMessage(
            binding_response(message, self.connection.peerAddress)
        )

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Ignore."""

    def connectionClosed(self, reason: Failure) -> None:
        """Tell, as a result that is no failure of the test."""
        self.closed.callback(None)


class LoopbackTests(TestCase):
    """Both ends on loopback."""

    def setUp(self) -> None:
        """Listen with an answerer."""
        from twisted.internet import reactor

        self.reactor = reactor
        self.answerer = Answerer()
        protocol = STUNStreamProtocol(self.reactor, self.answerer)
        port = reactor.listenTCP(
            0, Factory.forProtocol(lambda: protocol), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        self.endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)

    async def test_ask_and_close(self) -> None:
        """A request is answered, and both ends close cleanly."""
        asker = Answerer()
        protocol = await connectProtocol(
            self.endpoint, STUNStreamProtocol(self.reactor, asker)
        )
        response = await protocol.request(binding_request(b"transaction1"))
        host = protocol.transport.getHost()
        self.assertEqual(reflexive_address(response), (host.host, host.port))
        protocol.loseConnection()
        await asker.closed
        await self.answerer.closed

    async def test_deaf_peer(self) -> None:
        """What a peer does not read is bounded: then it is cut off."""
        deaf = await connectProtocol(self.endpoint, Protocol())
        deaf.transport.pauseProducing()
        self.addCleanup(deaf.transport.abortConnection)
        connection = await self.answerer.opened
        message = STUNMessage(
            0x0C3,
            MessageClass.INDICATION,
            bytes(12),
            (RawAttribute(0x8022, bytes(8000)),),
        )
        sent, most_unsent = 0, 0
        while connection.isOpen and sent < 4000:
            connection.sendMessage(message)
            sent += 1
            most_unsent = max(most_unsent, connection.unsentBytes)
        self.assertFalse(connection.isOpen)
        self.assertGreater(sent * 8024, MAX_UNSENT)
        self.assertLessEqual(most_unsent, MAX_UNSENT)
        await self.answerer.closed
