"""Standard streams on pipes, files and sockets, stepped by hand."""

from __future__ import annotations

import os
import select
import socket
import tempfile
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from dwcloud.cli.failures import OutputLost
from dwcloud.cli.standard_streams import StandardStreams


class StepReactor:
    """Serves what is ready now, once for each call.

    :ivar lost: what a lost descriptor is called.
    """

    def __init__(self) -> None:
        self.lost: Exception = CONNECTION_LOST
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader = self.readers.add
        self.addWriter = self.writers.add
        self.removeReader = self.readers.discard
        self.removeWriter = self.writers.discard

    def step(self) -> bool:
        """Serve each ready descriptor once; tell whether there was one."""
        reading, writing, _ = select.select(
            list(self.readers), list(self.writers), [], 0
        )
        for each, serve, still in (
            *((r, r.doRead, self.readers) for r in reading),
            *((w, w.doWrite, self.writers) for w in writing),
        ):
            why = serve() if each in still else None
            if why is CONNECTION_LOST:
                why = self.lost
            if why is not None:
                self.readers.discard(each)
                self.writers.discard(each)
                each.connectionLost(Failure(why))
        return bool(reading or writing)

    def run(self) -> None:
        """Serve until nothing is ready."""
        for _ in range(10_000):
            if not self.step():
                return
        raise AssertionError("never comes to rest")


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Keep."""
        self.received += data

    def readConnectionLost(self) -> None:
        """Keep."""
        self.events.append("read")

    def writeConnectionLost(self) -> None:
        """Keep."""
        self.events.append("write")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Keep."""
        self.events.append("lost")
        self.reason = reason


class Producer:
    """Counts how often it is told to pause and go on."""

    paused = 0
    resumed = 0
    stopped = 0

    def pauseProducing(self) -> None:
        """Count."""
        self.paused += 1

    def resumeProducing(self) -> None:
        """Count."""
        self.resumed += 1

    def stopProducing(self) -> None:
        """Count."""
        self.stopped += 1


class PipeTests(SynchronousTestCase):
    """Both streams are pipes."""

    def setUp(self) -> None:
        """Make the pipes and connect."""
        self.reactor = StepReactor()
        self.protocol = Recorder()
        self.source, self.input = os.pipe()
        self.output, self.sink = os.pipe()
        os.set_blocking(self.output, False)
        self.open = {self.source, self.input, self.output, self.sink}
        self.addCleanup(lambda: [os.close(fd) for fd in self.open])
        self.streams = StandardStreams(
            self.reactor, self.protocol, self.source, self.sink
        )

    def close(self, descriptor: int) -> None:
        """Close one end, as the program there would."""
        self.open.discard(descriptor)
        os.close(descriptor)

    def test_interfaces(self) -> None:
        """It is what it says it is."""
        for interface in (ITransport, IConsumer, IPushProducer):
            self.assertTrue(verifyObject(interface, self.streams))

    def test_input(self) -> None:
        """What comes in reaches the protocol."""
        os.write(self.input, b"hello")
        self.reactor.run()
        self.assertEqual(self.protocol.received, b"hello")

    def test_input_ends(self) -> None:
        """The end of the input ends that direction only."""
        os.write(self.input, b"last")
        self.close(self.input)
        self.reactor.run()
        self.assertEqual(self.protocol.events, ["read"])
        self.assertEqual(self.protocol.received, b"last")
        self.streams.write(b"still")
        self.reactor.run()
        self.assertEqual(os.read(self.output, 100), b"still")

    def test_output_ends(self) -> None:
        """The reader of the output sees its end while the input goes on."""
        self.streams.write(b"all")
        self.streams.loseWriteConnection()
        self.reactor.run()
        self.assertEqual(os.read(self.output, 100), b"all")
        self.assertEqual(os.read(self.output, 100), b"")
        self.assertEqual(self.protocol.events, ["write"])
        os.write(self.input, b"more")
        self.reactor.run()
        self.assertEqual(self.protocol.received, b"more")

    def test_close(self) -> None:
        """Closing writes everything first, also to a slow reader."""
        data = os.urandom(1_000_000)
        self.streams.write(data)
        self.streams.loseConnection()
        self.reactor.run()
        self.assertEqual(self.protocol.events, [])
        taken = b""
        while "lost" not in self.protocol.events:
            taken += os.read(self.output, 65536)
            self.reactor.run()
        while rest := os.read(self.output, 65536):
            taken += rest
        self.assertEqual(taken, data)
        assert self.protocol.reason is not None
        self.assertTrue(self.protocol.reason.check(ConnectionDone))

    def test_abort(self) -> None:
        """An abort still writes what came, in spite of a registered producer."""
        self.streams.registerProducer(Producer(), True)
        self.streams.write(b"what came")
        self.streams.abortConnection()
        self.reactor.run()
        self.assertEqual(os.read(self.output, 100), b"what came")
        self.assertEqual(self.protocol.events, ["lost"])

    def test_reader_gone(self) -> None:
        """A reader that went away is noticed without writing."""
        self.close(self.output)
        self.reactor.run()
        self.assertEqual(self.protocol.events, ["lost"])
        assert self.protocol.reason is not None
        self.assertTrue(self.protocol.reason.check(ConnectionLost))

    def test_reader_gone_by_another_name(self) -> None:
        """Some reactors call it a clean end; it is not one that we asked for."""
        self.reactor.lost = CONNECTION_DONE
        self.test_reader_gone()

    def test_full(self) -> None:
        """An output that takes nothing more says why, also at the very end."""
        for ending in (False, True):
            full = os.open("/dev/full", os.O_WRONLY)
            self.addCleanup(os.close, full)
            protocol = Recorder()
            streams = StandardStreams(self.reactor, protocol, self.source, full)
            streams.write(b"x")
            if ending:
                streams.loseWriteConnection()
            self.reactor.run()
            assert protocol.reason is not None
            self.assertTrue(protocol.reason.check(OutputLost))
            self.assertEqual(str(protocol.reason.value), "No space left on device")

    def test_back_pressure(self) -> None:
        """A producer is paused while nobody takes the output."""
        producer = Producer()
        self.streams.registerProducer(producer, True)
        self.streams.write(b"x" * 500_000)
        self.reactor.run()
        self.assertEqual((producer.paused, producer.resumed), (1, 0))
        taken = 0
        while taken < 500_000:
            taken += len(os.read(self.output, 65536))
            self.reactor.run()
        self.assertEqual((producer.paused, producer.resumed), (1, 1))

    def test_paused_input(self) -> None:
        """Nothing is read while paused, and nothing is lost."""
        self.streams.pauseProducing()
        self.assertTrue(self.streams.paused)
        os.write(self.input, b"later")
        self.reactor.run()
        self.assertEqual(self.protocol.received, b"")
        self.streams.resumeProducing()
        self.reactor.run()
        self.assertEqual(self.protocol.received, b"later")

    def test_blocking_mode_is_restored(self) -> None:
        """Other holders of the pipes find them as they were."""
        self.assertFalse(os.get_blocking(self.source))
        self.streams.loseConnection()
        self.reactor.run()
        self.assertTrue(os.get_blocking(self.source))
        self.assertTrue(os.get_blocking(self.sink))


class OtherDescriptorTests(SynchronousTestCase):
    """Streams that are no pipes."""

    def setUp(self) -> None:
        """Have a reactor and a protocol."""
        self.reactor = StepReactor()
        self.protocol = Recorder()

    def test_files(self) -> None:
        """A file is read to its end, and a file is written."""
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
            source.write(b"a" * 200_000)
            source.seek(0)
            streams = StandardStreams(
                self.reactor, self.protocol, source.fileno(), os.dup(sink.fileno())
            )
            self.reactor.run()
            self.assertEqual(len(self.protocol.received), 200_000)
            self.assertEqual(self.protocol.events, ["read"])
            streams.write(b"b" * 300_000)
            streams.loseConnection()
            self.reactor.run()
            sink.seek(0)
            self.assertEqual(sink.read(), b"b" * 300_000)
        self.assertEqual(self.protocol.events, ["read", "lost"])

    def test_one_socket_for_both(self) -> None:
        """The far end of a socket sees the end of our output, and can still send."""
        here, there = socket.socketpair()
        self.addCleanup(there.close)
        self.addCleanup(here.close)
        sink = os.dup(here.fileno())
        self.addCleanup(os.close, sink)
        streams = StandardStreams(self.reactor, self.protocol, here.fileno(), sink)
        streams.write(b"bye")
        streams.loseWriteConnection()
        self.reactor.run()
        self.assertEqual(there.recv(100), b"bye")
        self.assertEqual(there.recv(100), b"")
        there.sendall(b"answer")
        there.close()
        self.reactor.run()
        self.assertEqual(self.protocol.received, b"answer")
        self.assertEqual(self.protocol.events, ["write", "read"])
