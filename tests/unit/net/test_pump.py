"""Joining two connections."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.pump import PumpEnd, join
from dwcloud.net.socket_direction import has_socket
from dwcloud.protocol.opening.messages import Data, encode
from tests.unit.net.stream_world import (
    AttachAtOnce,
    HalfRecorder,
    Recorder,
    Source,
    StreamWorldTestCase,
    pattern,
)


class HalfCloser(HalfRecorder):
    """One that closes, as on TCP it has to, once both directions have ended."""

    def readConnectionLost(self) -> None:
        super().readConnectionLost()
        self._close_if_over()

    def writeConnectionLost(self) -> None:
        super().writeConnectionLost()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if {"read ended", "write ended"} <= set(self.calls):
            self.transport.loseConnection()


class PumpTestCase(StreamWorldTestCase):
    """A machine between a client and a server that joins their connections."""

    protocol: type[Recorder] = HalfCloser

    def setUp(self) -> None:
        super().setUp()
        self.host = self.lan.host("192.168.1.4", name="pump")
        self.client, self.server = self.protocol(), self.protocol()
        self.client_end, self.server_end = PumpEnd(), PumpEnd()
        self.one(self.client_host, self.client, self.client_end, 5001)
        self.one(self.server_host, self.server, self.server_end, 5002)

    def one(self, host: Any, outer: Recorder, end: PumpEnd, port: int) -> None:
        """Connect one of the two to its end of the pump."""
        factory = Factory.forProtocol(lambda: end)
        factory.noisy = False
        outer_factory = Factory.forProtocol(lambda: outer)
        outer_factory.noisy = False
        self.world.run_until(
            TCP4ServerEndpoint(self.host.reactor, port).listen(factory)
        )
        self.world.run_until(
            TCP4ClientEndpoint(host.reactor, self.host.address, port).connect(
                outer_factory
            )
        )
        self.world.run_until_idle()

    def join(self) -> None:
        """Join the two and let everything arrive."""
        join(self.client_end, self.server_end)
        self.world.run_until_idle()


class DataTests(PumpTestCase):
    """What one side sends the other receives."""

    def test_both_directions_at_once(self) -> None:
        """Every byte arrives in order, those sent before the join too."""
        up, down = pattern(1_500_000, 1), pattern(1_200_000, 2)
        Source(self.client_host.reactor, self.client.transport, up)
        Source(self.server_host.reactor, self.server.transport, down)
        self.world.run_until_idle()
        self.assertEqual(self.server_end.bytes_received, 0)
        self.join()
        self.assertSame(bytes(self.server.data), up)
        self.assertSame(bytes(self.client.data), down)
        self.assertEqual(self.client_end.bytes_received, len(up))
        self.assertEqual(self.server_end.bytes_received, len(down))

    def test_nothing_is_read_before(self) -> None:
        """An end that waits for its other keeps the far sender waiting."""
        data = pattern(8_000_000)
        source = Source(self.client_host.reactor, self.client.transport, data)
        self.world.advance(60)
        self.assertTrue(source.paused)
        self.assertLess(source.written, 1_000_000)
        self.join()
        self.assertSame(bytes(self.server.data), data)

    def test_slow_reader(self) -> None:
        """A reader that pauses stops the writer; the pump's memory does not grow."""
        data = pattern(8_000_000)
        self.server.transport.pauseProducing()
        self.join()
        source = Source(self.client_host.reactor, self.client.transport, data)
        self.world.advance(60)
        self.assertTrue(source.paused)
        self.assertLess(source.written, 1_500_000)
        waiting = self.client_end.bytes_received
        self.assertLess(waiting, 800_000)
        self.world.advance(60)
        self.assertEqual(self.client_end.bytes_received, waiting)
        self.server.transport.resumeProducing()
        self.world.run_until_idle()
        self.assertSame(bytes(self.server.data), data)

    def test_data_in_spite_of_pause(self) -> None:
        """What a transport delivers after it was paused, as TLS may, is not lost."""
        one, two = PumpEnd(), PumpEnd()
        transports = [StringTransport(), StringTransport()]
        for end, transport in zip((one, two), transports, strict=True):
            end.makeConnection(transport)
            self.assertEqual(transport.producerState, "paused")
        one.dataReceived(b"early ")
        one.dataReceived(b"bird")
        join(one, two)
        self.assertEqual(transports[1].value(), b"early bird")
        self.assertEqual([t.producerState for t in transports], ["producing"] * 2)
        one.dataReceived(b"s")
        self.assertEqual(transports[1].value(), b"early birds")


class EndTests(PumpTestCase):
    """The end of one connection is that of the other."""

    def assertOver(self, kind: type[Exception]) -> None:
        """All four ends are closed in the same way, each told once."""
        self.world.run_until_idle()
        for end in (self.client, self.server):
            self.assertIsInstance(end.lost, kind)
            self.assertEqual(end.calls.count("lost"), 1)
        for inner in (self.client_end, self.server_end):
            self.assertIsNotNone(inner.lost)
        self.assertNoTimers()

    def test_half_close_either_way(self) -> None:
        """The end of one direction is passed on behind all data; the other goes on."""
        for client_first in (True, False):
            with self.subTest(client_first=client_first):
                self.setUp()
                self.join()
                ends = (self.client, self.server)
                first, second = ends if client_first else ends[::-1]
                question, answer = pattern(900_000, 1), pattern(900_000, 2)
                first.transport.write(question)
                first.transport.loseWriteConnection()
                self.world.advance(600)
                self.assertSame(bytes(second.data), question)
                self.assertEqual(second.calls, ["made", "data", "read ended"])
                self.assertNotIn("lost", first.calls)
                second.transport.write(answer)
                second.transport.loseWriteConnection()
                self.assertOver(ConnectionDone)
                self.assertSame(bytes(first.data), answer)

    def test_half_close_before_the_join(self) -> None:
        """A direction that ended early ends right after its data."""
        self.client.transport.write(b"all I have to say")
        self.client.transport.loseWriteConnection()
        self.world.run_until_idle()
        self.join()
        self.assertEqual(bytes(self.server.data), b"all I have to say")
        self.assertEqual(self.server.calls, ["made", "data", "read ended"])
        self.server.transport.loseConnection()
        self.assertOver(ConnectionDone)

    def test_close_with_data_under_way(self) -> None:
        """A side that closes is not waited for, but all that it sent arrives."""
        self.join()
        data = pattern(3_000_000)
        self.client.transport.write(data)
        self.client.transport.loseConnection()
        self.world.run_until_idle()
        self.assertSame(bytes(self.server.data), data)
        self.server.transport.loseConnection()
        self.assertOver(ConnectionDone)

    def test_close_with_a_slow_reader(self) -> None:
        """Closing ends nothing that the other side has not read yet."""
        self.join()
        self.server.transport.pauseProducing()
        data = pattern(3_000_000)
        self.client.transport.write(data)
        self.client.transport.loseConnection()
        self.world.advance(30)
        self.server.transport.resumeProducing()
        self.world.run_until_idle()
        self.assertSame(bytes(self.server.data), data)

    def test_abort_either_way(self) -> None:
        """A connection that breaks breaks the other, and it shows there."""
        for client_first in (True, False):
            with self.subTest(client_first=client_first):
                self.setUp()
                self.join()
                ends = (self.client, self.server)
                first, second = ends if client_first else ends[::-1]
                first.transport.abortConnection()
                self.world.run_until_idle()
                self.assertIsInstance(second.lost, ConnectionLost)
                self.assertEqual(second.calls, ["made", "lost"])
                self.assertNoTimers()

    def test_abort_with_data_under_way(self) -> None:
        """Nobody takes the part that arrived for the whole."""
        self.join()
        source = Source(
            self.client_host.reactor, self.client.transport, pattern(3_000_000)
        )
        self.world.run_until(lambda: len(self.server.data) > 100_000)
        self.client.transport.abortConnection()
        self.world.run_until_idle()
        self.assertTrue(source.stopped)
        self.assertIsInstance(self.server.lost, ConnectionLost)
        self.assertNotIn("read ended", self.server.calls)

    def test_abort_does_not_look_like_an_end(self) -> None:
        """A stream whose other side broke is not ended in good order first."""
        path = StringTransport()
        self.server_end = PumpEnd()
        stream = CloudStream(AttachAtOnce(self.server_end), self.host.reactor)
        stream.makeConnection(path)
        self.join()
        self.client.transport.write(b"part")
        self.world.run_until_idle()
        self.client.transport.abortConnection()
        self.world.run_until_idle()
        self.assertEqual(path.value(), encode(Data(b"part")))
        self.assertTrue(path.disconnected)

    def test_lost_before_the_join(self) -> None:
        """Joining what is lost already ends the other."""
        for client_first in (True, False):
            with self.subTest(client_first=client_first):
                self.setUp()
                ends = (self.client, self.server)
                first, second = ends if client_first else ends[::-1]
                inner = self.client_end if client_first else self.server_end
                inner_transport: Any = inner.transport
                inner_transport.abortConnection()
                self.world.run_until_idle()
                self.join()
                self.assertIsInstance(first.lost, ConnectionLost)
                self.assertIsInstance(second.lost, ConnectionLost)

    def test_both_lost_before_the_join(self) -> None:
        """Nothing is left to end then."""
        for end in (self.client_end, self.server_end):
            transport: Any = end.transport
            transport.abortConnection()
        self.world.run_until_idle()
        self.join()
        self.assertOver(ConnectionLost)

    def test_both_end_at_once(self) -> None:
        """Ends that cross each other close both connections."""
        self.join()
        for end in (self.client, self.server):
            end.transport.write(b"x")
            end.transport.loseWriteConnection()
        self.assertOver(ConnectionDone)
        self.assertEqual(bytes(self.client.data + self.server.data), b"xx")


class PlainProtocolTests(PumpTestCase):
    """Programs that close all at once."""

    protocol = Recorder

    def test_close(self) -> None:
        """One closes, the other is told of an orderly end."""
        self.join()
        self.server.transport.write(b"bye")
        self.server.transport.loseConnection()
        self.world.run_until_idle()
        self.assertEqual(bytes(self.client.data), b"bye")
        for end in (self.client, self.server):
            self.assertIsInstance(end.lost, ConnectionDone)
        self.assertNoTimers()


class HasSocketTests(SynchronousTestCase):
    """:func:`has_socket` of what comes at the wrong time."""

    def test_ended(self) -> None:
        """A connection that has ended in the meantime is no socket any more."""
        protocol = Protocol()
        self.assertFalse(has_socket(protocol))
        # Twisted's transport deletes its protocol when the connection is lost.
        ended = Server.__new__(Server)
        ended.reactor = object()
        protocol.transport = ended
        self.assertFalse(has_socket(protocol))
