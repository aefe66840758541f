"""TLS whose first flight exists before the transport."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.bulk_tls import BulkTLSFactory
from dwcloud.net.early_tls import EarlyTLSFactory
from dwcloud.net.tls import PeerVerifier, ServerTLS
from tests.unit.net.stream_world import test_identity
from tests.unit.net.test_tls import Recorder


class Ahead(FakeTransport):  # type: ignore[misc]
    """A transport on which the first flight has been sent already."""

    def __init__(self, protocol: Any, flight: bytes) -> None:
        super().__init__(protocol, isServer=False)
        self.stream.append(flight)


class EarlyTLSTests(SynchronousTestCase):
    """The client's side of TLS."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.identity = test_identity()
        self.client, self.server = Recorder(b"secret"), Recorder(b"hello")
        self.factory = EarlyTLSFactory(
            PeerVerifier(self.identity.name),
            Factory.forProtocol(lambda: self.client),
            self.clock,
        )

    def exchange(self, *, ahead: bool) -> None:
        """Join the client with its server and let both speak."""
        server_tls = BulkTLSFactory(
            ServerTLS(self.identity),
            False,
            Factory.forProtocol(lambda: self.server),
            self.clock,
        ).buildProtocol(None)
        flight = self.factory.first_flight() if ahead else b""
        self.factory.flight_sent = ahead
        client_tls = self.factory.buildProtocol(None)
        pump = connect(
            server_tls,
            FakeTransport(server_tls, isServer=True),
            client_tls,
            Ahead(client_tls, flight),
        )
        pump.flush()
        self.clock.advance(0)
        pump.flush()
        self.assertEqual(self.client.received, b"hello")
        self.assertEqual(self.server.received, b"secret")

    def test_sent_ahead(self) -> None:
        """What was sent ahead is not sent again, and the handshake goes on from it."""
        self.exchange(ahead=True)

    def test_not_sent(self) -> None:
        """Where it could not be sent ahead the protocol sends it, and once."""
        flight = self.factory.first_flight()
        self.exchange(ahead=False)
        self.assertGreater(len(flight), 100)

    def test_not_asked_for(self) -> None:
        """Without any of this it is TLS like any other."""
        self.exchange(ahead=False)

    def test_the_same_each_time(self) -> None:
        """It may go on several connections until one is the right one."""
        flight = self.factory.first_flight()
        self.assertEqual(flight[0], 22, "a TLS handshake")
        self.assertEqual(self.factory.first_flight(), flight)
        transport = StringTransport()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.assertEqual(transport.value(), flight)

    def test_says_nothing_of_the_application(self) -> None:
        """The application's bytes wait for the far end's proof, as ever."""
        self.factory.first_flight()
        transport = StringTransport()
        self.factory.buildProtocol(None).makeConnection(transport)
        self.clock.advance(0)
        self.assertEqual(transport.value(), self.factory.first_flight())
