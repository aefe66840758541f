"""Streams of applications on a path: a transport that behaves as TCP does."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITCPTransport
from zope.interface.verify import verifyObject

from dwcloud.net.cloud_stream import KEEP_ALIVE_INTERVAL, SILENCE_LIMIT
from dwcloud.protocol.opening.messages import (
    Data,
    End,
    KeepAlive,
    Open,
    Ready,
    data_header,
    encode,
)
from tests.unit.net.stream_world import (
    AttachAtOnce,
    HalfRecorder,
    Recorder,
    Source,
    StreamWorldTestCase,
    pattern,
)


class AttachedTestCase(StreamWorldTestCase):
    """Two applications on the two ends of a stream."""

    server_class: type[Recorder] = HalfRecorder
    client_class: type[Recorder] = HalfRecorder

    def setUp(self) -> None:
        super().setUp()
        self.server, self.client = self.server_class(), self.client_class()
        self.server_stream, self.client_stream = self.streams(
            AttachAtOnce(self.server), AttachAtOnce(self.client)
        )

    def settle(self) -> None:
        """Let everything arrive."""
        self.world.run_until_idle()

    def assertOver(self, server: type[Exception], client: type[Exception]) -> None:
        """Both were told of the end once, and nothing is left."""
        self.settle()
        self.assertEqual(
            (type(self.server.lost), type(self.client.lost)), (server, client)
        )
        for end in (self.server, self.client):
            self.assertEqual(end.calls.count("lost"), 1)
        self.assertNoTimers()


class DataTests(AttachedTestCase):
    """Bytes in both directions."""

    def test_both_directions_at_once(self) -> None:
        """Every byte arrives, in order, and is counted."""
        down, up = pattern(1_000_000, 1), pattern(700_000, 2)
        self.server.transport.write(down)
        for at in range(0, len(up), 10_000):
            self.client.transport.write(up[at : at + 10_000])
        self.settle()
        self.assertSame(bytes(self.client.data), down)
        self.assertSame(bytes(self.server.data), up)
        self.assertEqual(self.server_stream.bytes_sent, len(down))
        self.assertEqual(self.server_stream.bytes_received, len(up))
        self.assertEqual(self.client_stream.bytes_received, len(down))

    def test_longer_than_a_frame(self) -> None:
        """A write that no frame can hold goes out in several."""
        data = pattern(0xFFFFFF + 5)
        self.client.transport.write(data)
        self.settle()
        self.assertSame(bytes(self.server.data), data)

    def test_sequence_and_nothing(self) -> None:
        """Pieces are joined; writing nothing sends nothing."""
        self.client.transport.write(b"")
        self.client.transport.writeSequence([b"a", b"", b"b"])
        self.settle()
        self.assertEqual(bytes(self.server.data), b"ab")

    def test_interfaces(self) -> None:
        """It is what Twisted says of a TCP transport."""
        for interface in (ITCPTransport, IConsumer, IPushProducer):
            self.assertTrue(verifyObject(interface, self.client_stream))
        self.assertEqual(self.client.transport.getPeer().host, "192.168.1.2")
        self.assertEqual(self.client.transport.getHost().host, "192.168.1.3")

    def test_protocol_broken(self) -> None:
        """A far end that sends something else is cut off with the reason."""
        for garbage in (b"\xff\0\0\0", encode(Open(None))):
            with self.subTest(garbage=garbage):
                self.setUp()
                self.client_stream.transport.write(garbage)  # type: ignore[union-attr]
                self.client.transport.write(b"more")
                self.assertOver(ConnectionLost, ConnectionLost)
                self.assertEqual(bytes(self.server.data), b"")


class EndTests(AttachedTestCase):
    """Applications that know the end of a direction."""

    def test_half_close_either_way(self) -> None:
        """After the end of one direction the other one goes on, as long as it likes."""
        for client_first in (True, False):
            with self.subTest(client_first=client_first):
                self.setUp()
                ends = (self.client, self.server)
                first, second = ends if client_first else ends[::-1]
                question, answer = pattern(300_000, 1), pattern(300_000, 2)
                first.transport.write(question)
                first.transport.loseWriteConnection()
                first.transport.write(b"too late")
                self.settle()
                self.assertSame(bytes(second.data), question)
                self.assertEqual(second.calls, ["made", "data", "read ended"])
                self.assertEqual(first.calls, ["made", "write ended"])
                self.world.advance(1000)
                second.transport.write(answer)
                self.settle()
                self.assertSame(bytes(first.data), answer)
                second.transport.loseWriteConnection()
                self.assertOver(ConnectionDone, ConnectionDone)
                self.assertEqual(
                    first.calls, ["made", "write ended", "data", "read ended", "lost"]
                )

    def test_both_end_at_once(self) -> None:
        """Two ends that cross each other close in good order."""
        for end in (self.client, self.server):
            end.transport.write(b"x")
            end.transport.loseWriteConnection()
        self.assertOver(ConnectionDone, ConnectionDone)
        self.assertEqual(bytes(self.client.data + self.server.data), b"xx")

    def test_close_flushes(self) -> None:
        """All that was written arrives before the end."""
        data = pattern(2_000_000)
        self.server.transport.write(data)
        self.server.transport.loseConnection()
        self.server.transport.write(b"too late")
        self.assertOver(ConnectionDone, ConnectionDone)
        self.assertSame(bytes(self.client.data), data)

    def test_both_close_at_once(self) -> None:
        """Closing twice and from both ends ends once."""
        for end in (self.client, self.server, self.client):
            end.transport.loseConnection()
        self.assertOver(ConnectionDone, ConnectionDone)
        self.client.transport.loseConnection()
        self.client.transport.abortConnection()
        self.client.transport.write(b"x")
        self.client.transport.loseWriteConnection()
        self.assertOver(ConnectionDone, ConnectionDone)

    def test_close_waits_for_the_producer(self) -> None:
        """A registered producer writes on after close until it unregisters."""
        data = pattern(3_000_000)
        source = Source(self.server_host.reactor, self.server.transport, data)
        self.server.transport.loseConnection()
        self.assertOver(ConnectionDone, ConnectionDone)
        self.assertSame(bytes(self.client.data), data)
        self.assertEqual(source.written, len(data))

    def test_half_close_waits_for_the_producer(self) -> None:
        """So does the end of one direction."""
        data = pattern(3_000_000)
        Source(self.server_host.reactor, self.server.transport, data)
        self.server.transport.loseWriteConnection()
        self.settle()
        self.assertSame(bytes(self.client.data), data)
        self.assertEqual(self.client.calls, ["made", "data", "read ended"])
        self.client.transport.loseWriteConnection()
        self.assertOver(ConnectionDone, ConnectionDone)

    def test_abort(self) -> None:
        """Aborting tells each end what happened, and loses what was not sent."""
        self.server.transport.write(pattern(1_000_000))
        self.server.transport.abortConnection()
        self.settle()
        self.assertIsInstance(self.server.lost, ConnectionAborted)
        self.assertIsInstance(self.client.lost, ConnectionLost)
        self.assertNoTimers()

    def test_nothing_after_abort(self) -> None:
        """Frames that came together with the one that made us abort are dropped."""
        received: list[bytes] = []

        def abort(data: bytes) -> None:
            received.append(data)
            self.server.transport.abortConnection()

        self.server.dataReceived = abort  # type: ignore[method-assign]
        raw: Any = self.client_stream.transport
        raw.write(encode(Data(b"one")) + encode(Data(b"two")) + encode(End()))
        self.settle()
        self.assertEqual(received, [b"one"])
        self.assertEqual(self.server.calls, ["made", "lost"])

    def test_truncated_by_the_network(self) -> None:
        """A path that is closed in good order under a stream that is not is a loss."""
        self.server.transport.write(b"begin")
        self.settle()
        tls: Any = self.server_stream.transport
        tls.transport.loseConnection()
        self.settle()
        self.assertIsInstance(self.client.lost, ConnectionLost)
        self.assertIsInstance(self.server.lost, ConnectionLost)

    def test_truncated_within_tls(self) -> None:
        """Even TLS's own good-bye does not stand for the end of the stream."""
        tls: Any = self.server_stream.transport
        tls.write(data_header(10) + b"begin")
        tls.loseConnection()
        self.settle()
        self.assertEqual(bytes(self.client.data), b"begin")
        self.assertIsInstance(self.client.lost, ConnectionLost)

    def test_end_then_network_gone(self) -> None:
        """Once the far end has ended the stream, how the path ends does not matter."""
        self.server.transport.loseWriteConnection()
        self.settle()
        tls: Any = self.server_stream.transport
        tls.transport.loseConnection()
        self.settle()
        self.assertIsInstance(self.client.lost, ConnectionDone)

    def test_data_after_the_end(self) -> None:
        """Who has ended a direction can say no more in it."""
        raw: Any = self.client_stream.transport
        raw.write(encode(End()) + encode(Data(b"more")) + encode(End()))
        self.settle()
        self.assertEqual(self.server.calls, ["made", "read ended"])


class PlainProtocolTests(AttachedTestCase):
    """Applications that know only one end, that of everything."""

    server_class = Recorder
    client_class = Recorder

    def test_end_closes(self) -> None:
        """The end of one direction is the end of the stream, after what is written."""
        answer = pattern(500_000)
        self.server.transport.write(answer)
        self.client.transport.loseWriteConnection()
        self.assertOver(ConnectionDone, ConnectionDone)
        self.assertSame(bytes(self.client.data), answer)

    def test_close(self) -> None:
        """One closes, both are told of an orderly end."""
        self.client.transport.loseConnection()
        self.assertOver(ConnectionDone, ConnectionDone)


class BackPressureTests(AttachedTestCase):
    """Slow readers."""

    def test_writer_is_held(self) -> None:
        """Nothing grows while the reader pauses, and nothing is lost by it."""
        data = pattern(8_000_000)
        self.client.transport.pauseProducing()
        source = Source(self.server_host.reactor, self.server.transport, data)
        self.world.advance(30)
        self.assertTrue(source.paused)
        held = source.written
        self.assertLess(held, 1_000_000)
        self.assertEqual(bytes(self.client.data), b"")
        self.world.advance(30)
        self.assertEqual(source.written, held)
        self.client.transport.resumeProducing()
        self.settle()
        self.assertSame(bytes(self.client.data), data)

    def test_close_while_paused(self) -> None:
        """A reader that pauses can close all the same."""
        self.client.transport.pauseProducing()
        self.client.transport.loseConnection()
        self.assertOver(ConnectionDone, ConnectionDone)

    def test_producer_is_stopped(self) -> None:
        """The producer of a lost stream is told to stop."""
        source = Source(
            self.server_host.reactor, self.server.transport, pattern(8_000_000)
        )
        self.client.transport.abortConnection()
        self.settle()
        self.assertTrue(source.stopped)
        self.assertIsInstance(self.server.lost, ConnectionLost)

    def test_stop_producing_closes(self) -> None:
        """Who wants no more data ends the stream."""
        self.client.transport.stopProducing()
        self.assertOver(ConnectionDone, ConnectionDone)


class KeepAliveTests(AttachedTestCase):
    """Streams on which nobody speaks."""

    def carried(self) -> int:
        """Packets with data that left the client."""
        return sum(
            1
            for record in self.world.trace.select(origin="client")
            if record.payload_size
        )

    def test_quiet_stream(self) -> None:
        """Silence is broken in each interval, unheard by the application."""
        self.assertTrue(self.client.transport.getTcpKeepAlive())
        self.assertTrue(self.server.transport.getTcpKeepAlive())
        before = self.carried()
        self.world.advance(10 * KEEP_ALIVE_INTERVAL)
        self.assertEqual(self.carried() - before, 10)
        self.assertEqual(self.server.calls, ["made"])
        self.client.transport.loseConnection()
        self.assertOver(ConnectionDone, ConnectionDone)

    def test_quiet_for_less_than_proxies_allow(self) -> None:
        """After its last word a side is silent for less than 25 s, as proxies ask."""
        self.world.advance(0.1)
        self.client.transport.write(b"x")
        self.settle()
        before = self.carried()
        self.world.advance(24.9)
        self.assertGreater(self.carried(), before)

    def test_busy_stream(self) -> None:
        """Who speaks need not say that he is there."""
        before = self.carried()
        for _ in range(10):
            self.client.transport.write(b"x")
            self.world.advance(KEEP_ALIVE_INTERVAL)
        self.assertEqual(self.carried() - before, 10)

    def test_after_the_end(self) -> None:
        """A direction that has ended still tells that somebody reads the other."""
        self.client.transport.loseWriteConnection()
        self.settle()
        self.world.advance(10 * KEEP_ALIVE_INTERVAL)
        self.assertNotIn("lost", self.server.calls)
        self.server.transport.write(b"still here")
        self.settle()
        self.assertEqual(bytes(self.client.data), b"still here")

    def test_far_end_vanishes(self) -> None:
        """A far end that says nothing at all any more is given up."""
        self.world.hosts["client"].power_off()
        self.world.advance((SILENCE_LIMIT + 2) * KEEP_ALIVE_INTERVAL)
        self.assertIn("silent", str(self.server.lost))

    def test_paused_reader_waits(self) -> None:
        """Who does not read does not take the far end's silence for an end."""
        self.server.transport.pauseProducing()
        self.world.advance(3 * SILENCE_LIMIT * KEEP_ALIVE_INTERVAL)
        self.client.transport.write(b"late")
        self.server.transport.resumeProducing()
        self.settle()
        self.assertEqual(bytes(self.server.data), b"late")


class OpeningTests(StreamWorldTestCase):
    """Streams without an application yet."""

    def setUp(self) -> None:
        super().setUp()
        self.server, self.client = AttachAtOnce(None), AttachAtOnce(None)
        self.server_stream, self.client_stream = self.streams(self.server, self.client)

    def test_messages_reach_the_owner(self) -> None:
        """All but keep-alives is the owner's affair, data before its time too."""
        for message in (Open(None), KeepAlive(), Data(b"x"), End()):
            self.client_stream.send(message)
        self.server_stream.send(Ready())
        self.world.run_until_idle()
        self.assertEqual(self.server.messages, [Open(None), Data(b"x"), End()])
        self.assertEqual(self.client.messages, [Ready()])

    def test_attached_between_two_frames(self) -> None:
        """What follows the last message of the opening is the application's."""
        application = HalfRecorder()
        self.client.message_received = (  # type: ignore[method-assign]
            lambda stream, message: stream.attach(application)
        )
        raw: Any = self.server_stream.transport
        raw.write(encode(Ready()) + encode(Data(b"hello")) + encode(End()))
        self.world.run_until_idle()
        self.assertEqual(application.calls, ["made", "data", "read ended"])

    def test_lost(self) -> None:
        """The owner learns how the path was lost, once."""
        self.server_stream.abortConnection()
        self.world.run_until_idle()
        self.assertIsInstance(self.server.lost, ConnectionAborted)
        self.assertIsInstance(self.client.lost, ConnectionLost)
        self.assertNoTimers()

    def test_garbage(self) -> None:
        """So it does when the far end does not speak our protocol."""
        raw: Any = self.client_stream.transport
        raw.write(b"GET / HTTP/1.1\r\n\r\n")
        self.world.run_until_idle()
        assert self.server.lost is not None
        self.assertIn("broke the protocol", str(self.server.lost))
