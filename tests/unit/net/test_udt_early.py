"""Connections whose protocol speaks before the listener has answered."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionAborted, NoProtocol
from twisted.internet.protocol import Factory

from dwcloud.errors import UDTHandshakeTimeout, UDTRejected
from dwcloud.protocol.udt.configuration import Configuration, SocketType
from dwcloud.testing import LinkProfile
from tests.unit.net.udt_world import (
    CLIENT,
    SERVER,
    Recorder,
    RecordingFactory,
    UDTWorldTestCase,
)


class Speaker(Recorder):
    """Speaks first, and notes when it was answered."""

    def connectionMade(self) -> None:
        super().connectionMade()
        transport: Any = self.transport
        transport.write(b"first words")


class Echo(Recorder):
    """Sends back what it gets."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        transport: Any = self.transport
        transport.write(data)


class EarlyTests(UDTWorldTestCase):
    """What :meth:`UDTPort.connect_early` does."""

    link = LinkProfile(latency=0.05)

    def setUp(self) -> None:
        super().setUp()
        self.server_factory = RecordingFactory(Echo)
        self.client_factory = RecordingFactory(Speaker)

    def early(self, factory: Any = None) -> Any:
        """The protocol of a connection that has just begun."""
        attempt: Deferred[Any] = self.client_port.udt.connect_early(
            SERVER, factory or self.client_factory
        )
        return self.successResultOf(attempt)

    def seconds_to_answer(self) -> float:
        """How long a connection takes to the echo of its first words."""
        before = self.world.seconds()
        client = self.early()
        self.world.run_until(lambda: client.data == b"first words")
        took: float = self.world.seconds() - before
        self.world.advance(1)
        self.assertEqual(client.calls, ["made", "data"])
        return took

    def test_one_round_trip(self) -> None:
        """Once the cookie is known the answer takes one round trip, before that two."""
        self.server_port.udt.listen(self.server_factory)
        self.assertApproximates(self.seconds_to_answer(), 0.4, 0.01)
        self.assertApproximates(self.seconds_to_answer(), 0.2, 0.01)
        self.assertEqual(
            [made.data for made in self.server_factory.made][1:], [b"first words"]
        )

    def test_after_a_rendezvous(self) -> None:
        """The first stream through a hole that was punched takes one, too."""
        self.server_port.udt.listen(self.server_factory)
        quiet = RecordingFactory()
        self.server_port.udt.rendezvous(CLIENT, quiet)
        self.world.run_until(self.client_port.udt.rendezvous(SERVER, quiet))
        self.world.advance(1)
        self.assertApproximates(self.seconds_to_answer(), 0.2, 0.01)

    def test_nobody_there(self) -> None:
        """The protocol is told that nobody answered."""
        client = self.early()
        self.world.advance(3.5)
        self.assertEqual(client.calls, ["made", "lost"])
        self.assertTrue(client.reason.check(UDTHandshakeTimeout))
        self.assertIn("192.0.2.1:3345", str(client.reason.value))
        self.assertEqual(self.client_factory.running, 0)
        self.assertTrue(self.client_port.udt.idle)

    def test_rejected(self) -> None:
        """Or that it is not wanted."""
        self.world.run_until(self.server_port.stop())
        self.configuration = Configuration(socket_type=SocketType.DATAGRAM)
        port = self.make_port(self.server_host, SERVER[1])
        port.udt.listen(self.server_factory)
        client = self.early()
        self.world.advance(1)
        self.assertTrue(client.reason.check(UDTRejected))

    def test_given_up(self) -> None:
        """It may give up before there is an answer."""
        client = self.early()
        self.world.advance(0.05)
        client.transport.abortConnection()
        self.world.advance(1)
        self.assertTrue(client.reason.check(ConnectionAborted))
        self.assertEqual(self.client_host.reactor.getDelayedCalls(), [])

    def test_no_protocol(self) -> None:
        """A factory that refuses or fails leaves nothing."""

        class Refusing(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                return None

        class Failing(Factory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Any:
                raise ZeroDivisionError

        connect = self.client_port.udt.connect_early
        self.failureResultOf(connect(SERVER, Refusing()), NoProtocol)
        self.failureResultOf(connect(SERVER, Failing()), ZeroDivisionError)
        self.world.advance(1)
        self.assertTrue(self.client_port.udt.idle)

    def test_wrong_use(self) -> None:
        """Names, messages and closed ports are refused."""
        connect = self.client_port.udt.connect_early
        attempt = connect(("localhost", 1), self.client_factory)
        self.failureResultOf(attempt, ConnectError)
        self.world.run_until(self.client_port.stop())
        self.failureResultOf(connect(SERVER, self.client_factory), ConnectError)
        self.configuration = Configuration(socket_type=SocketType.DATAGRAM)
        port = self.make_port(self.client_host, CLIENT[1])
        attempt = port.udt.connect_early(SERVER, self.client_factory)
        self.failureResultOf(attempt, ConnectError)
        self.assertEqual(self.client_factory.running, 0)

    def test_producer(self) -> None:
        """One that is registered before the answer goes on when there is one."""
        self.server_port.udt.listen(self.server_factory)
        client = self.early()
        told: list[str] = []

        class Producer:
            def pauseProducing(self) -> None:
                told.append("pause")

            def resumeProducing(self) -> None:
                told.append("resume")

            def stopProducing(self) -> None:
                told.append("stop")

        client.transport.registerProducer(Producer(), True)
        client.transport.write(b"more")
        self.assertEqual(told, ["pause"])
        self.world.advance(1)
        self.assertEqual(told, ["pause", "resume"])
        self.assertEqual(client.data, b"first wordsmore")
