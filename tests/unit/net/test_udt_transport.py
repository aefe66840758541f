"""Tests of UDT connections as Twisted's transports."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IPushProducer,
    ITransport,
)
from zope.interface.verify import verifyObject

from dwcloud.errors import UDTConnectionLost
from dwcloud.net.udt_transport import UDTTransport, transport_address
from dwcloud.protocol.udt.configuration import Configuration

from .udt_world import CLIENT, SERVER, Recorder, UDTWorldTestCase


class RecordingProducer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class UDTTransportTests(UDTWorldTestCase):
    """What every transport does."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.server = self.connect()
        self.transport: UDTTransport = self.client.transport

    def test_interfaces(self) -> None:
        """The transport provides what it says."""
        for interface in (ITransport, IConsumer, IPushProducer, ILoggingContext):
            self.assertTrue(verifyObject(interface, self.transport))

    def test_addresses(self) -> None:
        """Host and peer are UDP addresses."""
        self.assertEqual(
            self.transport.getHost(), IPv4Address("UDP", "0.0.0.0", CLIENT[1])
        )
        self.assertEqual(self.transport.getPeer(), IPv4Address("UDP", *SERVER))
        self.assertEqual(transport_address(("::1", 2)).type, "UDP")
        self.assertEqual(
            repr(self.transport), "<UDTTransport to 192.0.2.1:3345 of Recorder>"
        )

    def test_like_tcp(self) -> None:
        """Programs that tune TCP find their methods."""
        self.transport.setTcpNoDelay(False)
        self.transport.setTcpKeepAlive(False)
        self.assertTrue(self.transport.getTcpNoDelay())
        self.assertTrue(self.transport.getTcpKeepAlive())

    def test_statistics(self) -> None:
        """The round-trip time is the link's."""
        for _ in range(100):
            self.transport.write(b"x" * 1000)
            self.world.advance(0.1)
        self.assertAlmostEqual(self.transport.statistics.rtt, 0.02, delta=0.01)

    def test_write(self) -> None:
        """All kinds of bytes arrive in order."""
        self.transport.write(b"bytes ")
        self.transport.write(bytearray(b"bytearray "))
        self.transport.write(memoryview(b"memoryview "))
        self.transport.write(b"")
        self.transport.writeSequence([b"se", b"quence"])
        self.world.advance(1)
        self.assertEqual(self.server.data, b"bytes bytearray memoryview sequence")

    def test_write_text(self) -> None:
        """Text is refused."""
        self.assertRaises(TypeError, self.transport.write, "text")
        self.assertRaises(TypeError, self.transport.writeSequence, [b"x", "text"])

    def test_writes_of_a_turn_leave_together(self) -> None:
        """What is written within one turn of the reactor is sent together."""
        self.world.advance(0.1)
        before = self.client_port.statistics.datagrams_sent
        for _ in range(100):
            self.transport.write(b"0123456789")
        self.assertEqual(self.client_port.statistics.datagrams_sent, before)
        self.world.advance(0)
        # A packet of data, and perhaps one that asks for its acknowledgement.
        self.assertIn(self.client_port.statistics.datagrams_sent - before, (1, 2))

    def test_large_transfer(self) -> None:
        """Megabytes arrive unchanged, both ways at once."""
        data = self.world.random_bytes(2_000_000)
        self.client.transport.write(data)
        self.server.transport.write(data[::-1])
        self.world.run_until(
            lambda: (
                (len(self.server.data), len(self.client.data)) == (len(data), len(data))
            )
        )
        self.assertTrue(self.server.data == data)
        self.assertTrue(self.client.data == data[::-1])

    def test_protocol_raises(self) -> None:
        """What a protocol raises is logged and ends its connection only."""

        def fail(data: bytes) -> None:
            raise ZeroDivisionError

        self.server.dataReceived = fail
        other_client, other_server = self.connect()
        self.transport.write(b"x")
        other_client.transport.write(b"y")
        self.world.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.server.reason.check(ZeroDivisionError))
        self.assertEqual(self.client.calls[-1], "lost")
        self.assertEqual(other_server.data, b"y")

    def test_protocol_is_let_go(self) -> None:
        """Nothing keeps the protocol of a closed connection."""
        reference = weakref.ref(self.client)
        self.transport.loseConnection()
        self.world.advance(1)
        self.client_factory.made.clear()
        self.client = self.transport = None  # type: ignore[assignment]
        gc.collect()
        self.assertIsNone(reference())


class ClosingTests(UDTWorldTestCase):
    """The ends of a connection."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.server = self.connect()

    def test_lose_connection(self) -> None:
        """Everything written before arrives, then both sides see a normal end."""
        data = self.world.random_bytes(1_000_000)
        self.client.transport.write(data)
        self.client.transport.loseConnection()
        self.client.transport.write(b"too late")
        self.assertTrue(self.client.transport.disconnecting)
        self.assertIsNone(self.client.reason)
        self.world.run_until(lambda: self.server.reason and self.client.reason)
        self.assertTrue(self.server.data == data)
        self.assertTrue(self.server.reason.check(ConnectionDone))
        self.assertTrue(self.client.reason.check(ConnectionDone))
        self.client.transport.loseConnection()
        self.client.transport.write(b"gone")

    def test_both_close(self) -> None:
        """Both sides may close at once with much unread: neither waits forever."""
        for protocol in (self.client, self.server):
            protocol.transport.pauseProducing()
            protocol.transport.write(bytes(20_000_000))
            protocol.transport.loseConnection()
        self.world.run_until(
            lambda: self.client.reason and self.server.reason, limit=120
        )
        self.assertEqual(self.client.calls, ["made", "lost"])

    def test_abort(self) -> None:
        """Aborting ends at once, but not within the call."""
        self.client.transport.write(bytes(10_000_000))
        self.client.transport.abortConnection()
        self.client.transport.abortConnection()
        self.client.transport.loseConnection()
        self.assertIsNone(self.client.reason)
        self.world.advance(0.5)
        self.assertTrue(self.client.reason.check(ConnectionAborted))
        self.assertEqual(self.server.calls[-1], "lost")
        self.assertLess(len(self.server.data), 10_000_000)

    def test_abort_while_closing(self) -> None:
        """An abort overrides a close that waits for acknowledgements."""
        self.client.transport.write(bytes(10_000_000))
        self.client.transport.loseConnection()
        self.client.transport.abortConnection()
        self.world.advance(0.1)
        self.assertTrue(self.client.reason.check(ConnectionAborted))

    def test_undelivered(self) -> None:
        """Who had not been heard in full learns that the end was no good one."""
        self.server.transport.pauseProducing()
        self.client.transport.write(bytes(30_000_000))
        self.world.advance(2)
        self.server.transport.abortConnection()
        self.world.advance(3)
        self.assertTrue(self.client.reason.check(UDTConnectionLost))
        self.assertTrue(self.client.reason.check(ConnectionLost))
        self.assertIn("bytes", str(self.client.reason.value))

    def test_peer_falls_silent(self) -> None:
        """A peer that vanishes is noticed in the end."""
        self.server_host.power_off()
        self.world.advance(120)
        self.assertTrue(self.client.reason.check(UDTConnectionLost))

    def test_close_with_producer(self) -> None:
        """With a producer registered the close waits for its end."""
        producer = RecordingProducer()
        self.client.transport.registerProducer(producer, True)
        self.client.transport.loseConnection()
        self.client.transport.write(b"from the producer")
        self.world.advance(1)
        self.assertIsNone(self.client.reason)
        self.client.transport.unregisterProducer()
        self.world.advance(1)
        self.assertTrue(self.client.reason.check(ConnectionDone))
        self.assertEqual(self.server.data, b"from the producer")
        self.assertEqual(producer.calls, [])

    def test_producer_learns_of_the_end(self) -> None:
        """A producer is stopped when the connection is lost, also a late one."""
        producer, late = RecordingProducer(), RecordingProducer()
        self.client.transport.registerProducer(producer, True)
        self.server.transport.loseConnection()
        self.world.advance(1)
        self.assertEqual(producer.calls, ["stop"])
        self.client.transport.unregisterProducer()
        self.client.transport.registerProducer(late, False)
        self.assertEqual(late.calls, ["stop"])

    def test_end_waits_for_the_reader(self) -> None:
        """While reading is paused neither data nor the end are delivered."""
        self.client.transport.pauseProducing()
        self.server.transport.write(b"last words")
        self.server.transport.loseConnection()
        self.world.advance(3)
        self.assertEqual(self.client.calls, ["made"])
        self.client.transport.resumeProducing()
        self.world.advance(1)
        self.assertEqual(self.client.calls, ["made", "data", "lost"])
        self.assertEqual(self.client.data, b"last words")

    def test_close_while_the_end_waits(self) -> None:
        """Closing or aborting brings a waiting end forward."""
        other, other_server = self.connect()
        for protocol in (self.client, other):
            protocol.transport.pauseProducing()
        self.server.transport.loseConnection()
        other_server.transport.loseConnection()
        self.world.advance(3)
        self.client.transport.loseConnection()
        other.transport.abortConnection()
        self.assertEqual(self.client.calls, ["made"])
        self.world.advance(0.1)
        self.assertTrue(self.client.reason.check(ConnectionDone))
        self.assertTrue(other.reason.check(ConnectionAborted))

    def test_stop_producing(self) -> None:
        """A consumer that stops its producer closes the connection."""
        self.client.transport.stopProducing()
        self.world.advance(1)
        self.assertTrue(self.client.reason.check(ConnectionDone))


class BackPressureTests(UDTWorldTestCase):
    """Both directions of flow control."""

    configuration = Configuration(
        receive_buffer_packets=64,
        send_buffer_limit=100_000,
        send_buffer_low_water=50_000,
    )

    def setUp(self) -> None:
        super().setUp()
        self.client, self.server = self.connect()

    def test_slow_reader(self) -> None:
        """A reader that pauses bounds what is received and stops the writer."""
        producer = RecordingProducer()
        self.client.transport.registerProducer(producer, True)
        self.server.transport.pauseProducing()
        sent = 0
        for _ in range(1000):
            if producer.calls[-1:] == ["pause"]:
                break
            self.client.transport.write(bytes(10_000))
            sent += 10_000
            self.world.advance(0.05)
        self.world.advance(5)
        self.assertEqual(self.server.data, b"")
        unread = self.server.transport._connection.readable_bytes
        self.assertLessEqual(unread, 66 * 1456)
        self.assertLessEqual(sent, 66 * 1456 + 100_000 + 10_000)
        self.assertEqual(producer.calls, ["pause"])
        self.server.transport.resumeProducing()
        self.world.run_until(lambda: len(self.server.data) == sent)
        self.world.advance(1)
        self.assertEqual(producer.calls, ["pause", "resume"])

    def test_streaming_producer(self) -> None:
        """A streaming producer pauses above the limit and goes on below."""

        class Producer(RecordingProducer):
            transport: Any = None
            left = 50

            def resumeProducing(self) -> None:
                super().resumeProducing()
                while self.left and (self.calls[-1] != "pause"):
                    self.left -= 1
                    self.transport.write(bytes(20_000))
                if not self.left:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

        producer = Producer()
        producer.transport = self.client.transport
        self.client.transport.registerProducer(producer, True)
        producer.resumeProducing()
        self.assertEqual(producer.calls, ["resume", "pause"])
        self.world.run_until(lambda: self.server.reason)
        self.assertEqual(len(self.server.data), 1_000_000)
        self.assertGreater(producer.calls.count("pause"), 5)

    def test_producer_without_a_far_end(self) -> None:
        """Who writes until told to pause is told so although nothing piles up."""

        class Producer(RecordingProducer):
            def resumeProducing(inner) -> None:
                inner.calls.append("resume")
                while inner.calls[-1] == "resume":
                    self.client.transport.write(b"x" * 100_000)

        producer = Producer()
        self.client.transport.registerProducer(producer, True)
        producer.resumeProducing()
        self.world.run_until(lambda: producer.calls.count("resume") > 3)
        self.server.transport.abortConnection()
        self.world.advance(0.1)
        # Late acknowledgements may still come.
        self.assertIsNone(self.client.reason)
        self.client.transport.send_buffer_low()
        self.assertEqual(producer.calls[-1], "pause")
        self.world.run_until(lambda: self.client.reason)
        self.assertEqual(producer.calls[-1], "stop")

    def test_pull_producer(self) -> None:
        """A pull producer is asked again when there is room, once a turn."""

        class Producer(RecordingProducer):
            transport: Any = None
            highest = 0
            left = 50

            def resumeProducing(self) -> None:
                if self.left:
                    self.left -= 1
                    self.transport.write(bytes(20_000))
                    pending = self.transport._connection.send_buffer_bytes
                    self.highest = max(self.highest, pending)
                else:
                    self.transport.unregisterProducer()
                    self.transport.loseConnection()

        producer = Producer()
        producer.transport = self.client.transport
        self.client.transport.registerProducer(producer, False)
        self.assertEqual(producer.left, 49)
        self.world.run_until(lambda: self.server.reason)
        self.assertEqual(len(self.server.data), 1_000_000)
        self.assertLessEqual(producer.highest, 100_000 + 20_000)

    def test_producer_raises(self) -> None:
        """A producer that raises ends the connection."""

        class Producer(RecordingProducer):
            def resumeProducing(self) -> None:
                if self.calls:
                    raise ZeroDivisionError
                super().resumeProducing()

        self.client.transport.registerProducer(Producer(), False)
        self.client.transport.write(b"x")
        self.world.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.client.reason.check(ZeroDivisionError))

    def test_second_producer(self) -> None:
        """Two producers at a time are an error."""
        self.client.transport.registerProducer(RecordingProducer(), True)
        self.assertRaises(
            RuntimeError,
            self.client.transport.registerProducer,
            RecordingProducer(),
            True,
        )

    def test_buffer_size(self) -> None:
        """The limit can be set as on Twisted's transports."""
        producer = RecordingProducer()
        transport = self.client.transport
        self.assertEqual(transport.bufferSize, 100_000)
        transport.bufferSize = 500
        transport.registerProducer(producer, True)
        transport.writeSequence([b"x" * 50] * 20)
        self.assertEqual(producer.calls, ["pause"])
        self.world.advance(1)
        self.assertEqual(producer.calls, ["pause", "resume"])

    def test_pause_within_data_received(self) -> None:
        """A protocol that pauses gets nothing more until it resumes."""

        class Pausing(Recorder):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.transport.stopReading()

        self.server_factory._protocol = Pausing
        client, server = self.connect()
        client.transport.write(b"one")
        self.world.advance(1)
        client.transport.write(b"two")
        self.world.advance(1)
        self.assertEqual(server.data, b"one")
        server.transport.startReading()
        self.assertEqual(server.data, b"one")
        self.world.advance(1)
        self.assertEqual(server.data, b"onetwo")
