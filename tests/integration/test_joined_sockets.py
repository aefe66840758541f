"""Joined pairs on real sockets: spliced, pumped, with TLS, all the same scenarios."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from dwcloud.net import pump
from dwcloud.net.copying import Copying
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.pump import PumpEnd, join
from dwcloud.net.socket_direction import SocketDirection
from dwcloud.net.splice import PipePool, Splice
from dwcloud.net.tls import PeerVerifier, ServerTLS
from dwcloud.net.tls_half_close import keep_writing_after_close_notify

BLOCK = os.urandom(1 << 16)


@implementer(IHalfCloseableProtocol, IPushProducer)
class Outer(Protocol):
    """A program on the far side of an end: sends blocks, hashes what it gets."""

    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[Any] = Deferred()
        self.sent, self.received = hashlib.sha256(), hashlib.sha256()
        self.bytes_sent = self.bytes_received = 0
        self._left = 0
        self._paused = False
        self._then_end = False

    def connectionMade(self) -> None:
        self.made.callback(None)

    def send(self, count: int, *, then_end: bool = False) -> None:
        """Send so many bytes as fast as they are taken."""
        self._left, self._then_end = count, then_end
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._left and not self._paused:
            data = BLOCK[: min(self._left, len(BLOCK))]
            self._left -= len(data)
            self.sent.update(data)
            self.bytes_sent += len(data)
            self.transport.write(data)
        if not self._left:
            self.transport.unregisterProducer()
            if self._then_end:
                self.transport.loseWriteConnection()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True

    def dataReceived(self, data: bytes) -> None:
        self.received.update(data)
        self.bytes_received += len(data)

    def readConnectionLost(self) -> None:
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)


class Pair(TestCase):
    """Two outer programs, each connected to one end; the ends are to be joined."""

    timeout = 120

    @inlineCallbacks
    def setUp(self) -> Any:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.outer = [Outer(), Outer()]
        self.ends: list[PumpEnd] = []
        for outer in self.outer:
            yield self.connect(outer)

    @inlineCallbacks
    def connect(self, outer: Outer) -> Any:
        """Connect one outer program to a new end."""
        end, made = PumpEnd(), Deferred()

        class Inner(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> PumpEnd:
                self.reactor_turn.callback(None)  # type: ignore[attr-defined]
                return end

        factory = Inner()
        factory.reactor_turn = made  # type: ignore[attr-defined]
        port = self.reactor.listenTCP(0, self.inner(factory), interface="127.0.0.1")
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", port.getHost().port)
        outer_factory = self.outside(Factory.forProtocol(lambda: outer))
        outer_factory.noisy = False
        yield endpoint.connect(outer_factory)
        yield outer.made
        yield made
        yield port.stopListening()
        self.ends.append(end)
        self.addCleanup(self.close, outer, end)

    def inner(self, factory: Factory) -> Any:
        """What listens for the outer program."""
        return factory

    def outside(self, factory: Factory) -> Any:
        """What connects it."""
        return factory

    @inlineCallbacks
    def close(self, outer: Outer, end: PumpEnd) -> Any:
        inner: Any = end.transport
        if not outer.lost.called:
            outer.transport.abortConnection()
        if end.lost is None:
            inner.abortConnection()
        while end.lost is None or not outer.lost.called:
            yield deferLater(self.reactor, 0.001)
        self.flushLoggedErrors(ConnectionLost)

    @inlineCallbacks
    def until(self, condition: Any) -> Any:
        while not condition():
            yield deferLater(self.reactor, 0.001)

    @inlineCallbacks
    def join(self) -> Any:
        """Join the ends and let one byte through; a handshake is over then."""
        one, two = self.outer
        join(*self.ends)
        one.send(1)
        yield self.until(lambda: two.bytes_received == 1)

    def assertSame(self, sender: Outer, receiver: Outer) -> None:
        """All that the one sent the other got."""
        self.assertEqual(receiver.bytes_received, sender.bytes_sent)
        self.assertEqual(receiver.received.digest(), sender.sent.digest())


class Scenarios:
    """What holds for every kind of pair."""

    direction: type[SocketDirection] | None = None

    @inlineCallbacks
    def test_both_directions(self: Any) -> Any:
        """Every byte of both directions arrives once, in order, and is counted."""
        one, two = self.outer
        join(*self.ends)
        one.send(5_000_001)
        two.send(3_000_001)
        yield self.until(lambda: two.bytes_received == 5_000_001)
        yield self.until(lambda: one.bytes_received == 3_000_001)
        self.assertSame(one, two)
        self.assertSame(two, one)
        self.assertEqual(
            [end.bytes_received for end in self.ends], [5_000_001, 3_000_001]
        )
        self.assertEqual(
            [None if d is None else type(d) for d in (e._direction for e in self.ends)],
            [self.direction] * 2,
        )

    @inlineCallbacks
    def test_early(self: Any) -> Any:
        """What is written or delivered before the join comes first."""
        one, two = self.outer
        for end in self.ends:
            end.transport.write(BLOCK * 20)
        self.ends[0].dataReceived(b"behind the upgrade")
        one.send(1_000_000)
        two.send(1_000_000)
        join(*self.ends)
        early = hashlib.sha256(BLOCK * 20 + b"behind the upgrade")
        late = hashlib.sha256(BLOCK * 20)
        for outer, expected in ((two, early), (one, late)):
            yield self.until(lambda outer=outer: outer.bytes_received > 2_310_000)
            data = b"".join(
                BLOCK[: min(65536, 1_000_000 - n)] for n in range(0, 1_000_000, 65536)
            )
            expected.update(data)
            yield self.until(
                lambda outer=outer, expected=expected: (
                    outer.received.digest() == expected.digest()
                )
            )
        self.assertEqual(self.ends[0].bytes_received, 1_000_018)

    @inlineCallbacks
    def test_reset(self: Any) -> Any:
        """A reset of either side becomes a reset, with data under way or without."""
        for n in range(4):
            first, second = self.outer if n % 2 else self.outer[::-1]
            join(*self.ends)
            if n >= 2:
                first.send(50_000_000)
                yield self.until(lambda second=second: second.bytes_received > 100_000)
            else:
                first.send(10)
                yield self.until(lambda second=second: second.bytes_received == 10)
            first.transport.abortConnection()
            reason = yield second.lost
            self.assertNotIsInstance(reason, ConnectionDone)
            self.assertFalse(second.ended.called)
            yield self.until(lambda: all(end.lost for end in self.ends))
            self.outer, self.ends = [Outer(), Outer()], []
            for outer in self.outer:
                yield self.connect(outer)

    @inlineCallbacks
    def test_slow_reader(self: Any) -> Any:
        """A reader that stops stops the writer, both ways alone; nothing piles up."""
        one, two = self.outer
        yield self.join()
        two.transport.pauseProducing()
        one.send(40_000_000)
        before = -1
        while before != self.ends[0].bytes_received:
            before = self.ends[0].bytes_received
            yield deferLater(self.reactor, 0.1)
        self.assertLess(before, 20_000_000)
        for end in self.ends:
            self.assertLess(len(end.transport.dataBuffer), 550_000)
        two.send(2_000_000)
        yield self.until(lambda: one.bytes_received == 2_000_000)
        for _ in range(20):
            two.transport.resumeProducing()
            yield deferLater(self.reactor, 0)
            two.transport.pauseProducing()
        two.transport.resumeProducing()
        yield self.until(lambda: two.bytes_received == 40_000_001)
        self.assertSame(one, two)
        self.assertSame(two, one)

    @inlineCallbacks
    def test_blocked_reader_breaks(self: Any) -> Any:
        """The loss of a reader that took nothing ends its writer."""
        one, two = self.outer
        yield self.join()
        two.transport.pauseProducing()
        one.send(40_000_000)
        yield deferLater(self.reactor, 0.05)
        two.transport.abortConnection()
        reason = yield one.lost
        self.assertNotIsInstance(reason, ConnectionDone)

    @inlineCallbacks
    def test_ping_pong(self: Any) -> Any:
        """Single bytes go through at once, to and fro."""
        one, two = self.outer
        join(*self.ends)
        for n in range(1, 200):
            one.transport.write(b"x")
            yield self.until(lambda n=n: two.bytes_received == n)
            two.transport.write(b"y")
            yield self.until(lambda n=n: one.bytes_received == n)


class TCPScenarios(Scenarios):
    """What holds where one direction can end alone."""

    @inlineCallbacks
    def test_half_close(self: Any) -> Any:
        """The end of either direction passes behind its data; the other goes on."""
        for first, second in (self.outer, self.outer[::-1]):
            if first.lost.called:
                self.outer, self.ends = [Outer(), Outer()], []
                for outer in self.outer:
                    yield self.connect(outer)
                first, second = self.outer[::-1]
            join(*self.ends)
            first.send(1_500_000, then_end=True)
            yield second.ended
            self.assertSame(first, second)
            self.assertFalse(first.ended.called)
            second.send(1_500_000, then_end=True)
            yield first.ended
            self.assertSame(second, first)
            for outer in self.outer:
                outer.transport.loseConnection()
                reason = yield outer.lost
                self.assertIsInstance(reason, ConnectionDone)
            yield self.until(lambda: all(end.lost for end in self.ends))

    @inlineCallbacks
    def test_end_with_a_slow_reader(self: Any) -> Any:
        """A side that closes is not waited for, but what it sent is read by and by."""
        one, two = self.outer
        yield self.join()
        two.transport.pauseProducing()
        one.send(3_000_000)
        one.transport.loseConnection()
        yield deferLater(self.reactor, 0.05)
        two.transport.resumeProducing()
        yield self.until(lambda: two.bytes_received == 3_000_001)
        self.assertSame(one, two)


class SocketScenarios(TCPScenarios):
    """What holds where the transports' own buffers are passed by."""

    @inlineCallbacks
    def test_reset_that_the_other_turn_finds(self: Any) -> Any:
        """A reset is one although it was told to who wanted to write."""
        one, two = self.outer
        yield self.join()
        yield self.until(lambda: all(end._direction for end in self.ends))
        sink = self.ends[1].transport
        yield self.until(lambda: "doRead" in sink.__dict__)
        for end in self.ends:
            self.patch(end, "readConnectionLost", lambda: self.fail("no end in order"))
        two.transport.abortConnection()
        yield two.lost
        # The reactor has not looked since: the source's turn comes first, and then
        # what reads from the broken connection.
        one.transport.socket.send(b"in vain")
        self.ends[0].transport.doRead()
        self.assertIs(sink.doRead(), CONNECTION_LOST)
        reason = yield one.lost
        self.assertNotIsInstance(reason, ConnectionDone)
        self.assertFalse(one.ended.called)


class SpliceTests(SocketScenarios, Pair):
    """Plain sockets."""

    direction = Splice

    if not hasattr(os, "splice"):
        skip = "no splice on this system"

    @inlineCallbacks
    def test_no_payload_in_python(self) -> Any:
        """Once spliced, neither dataReceived nor write sees a byte."""
        one, two = self.outer
        join(*self.ends)
        one.send(10)
        yield self.until(lambda: two.bytes_received == 10)
        for end in self.ends:
            self.patch(end, "dataReceived", None)
            self.patch(end.transport, "write", None)
        one.send(2_000_000)
        two.send(2_000_000)
        yield self.until(lambda: two.bytes_received == 2_000_010)
        yield self.until(lambda: one.bytes_received == 2_000_000)
        self.assertSame(one, two)

    @inlineCallbacks
    def test_idle_pairs_hold_no_pipe(self) -> Any:
        """A pair through which nothing goes costs no more than its sockets."""
        one, two = self.outer
        join(*self.ends)
        one.send(2_000_000)
        yield self.until(lambda: two.bytes_received == 2_000_000)
        yield self.until(
            lambda: all(
                isinstance(end._direction, Splice) and end._direction._pipe is None
                for end in self.ends
            )
        )

    @inlineCallbacks
    def test_out_of_descriptors(self) -> Any:
        """Without a pipe to be had the bytes are copied."""

        def refuse(self: object) -> None:
            raise OSError(errno.EMFILE, "too many open files")

        self.patch(PipePool, "take", refuse)
        one, two = self.outer
        join(*self.ends)
        one.send(3_000_000, then_end=True)
        yield two.ended
        self.assertSame(one, two)
        self.assertEqual(self.ends[0].bytes_received, 3_000_000)
        self.assertFalse(self.ends[0].spliced)

    @inlineCallbacks
    def test_stopped_with_bytes_in_the_pipe(self) -> Any:
        """A splice that is stopped hands what it holds to the sink's transport."""
        one, two = self.outer
        join(*self.ends)
        two.transport.pauseProducing()
        one.send(20_000_000)
        splice = self.ends[0]._direction
        assert isinstance(splice, Splice)
        yield self.until(lambda: splice._held)
        splice._fall_back()
        two.transport.resumeProducing()
        yield self.until(lambda: two.bytes_received == 20_000_000)
        self.assertSame(one, two)
        self.assertEqual(self.ends[0].bytes_received, 20_000_000)


class PipePoolTests(SynchronousTestCase):
    """What slow readers may hold on to."""

    if not hasattr(os, "splice"):
        skip = "no splice on this system"

    def take(self, pool: PipePool) -> tuple[int, int]:
        """Take a pipe and close it in the end."""
        pipe = pool.take()
        self.addCleanup(self.close, pipe)
        return pipe

    def close(self, pipe: tuple[int, int]) -> None:
        for descriptor in pipe:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def test_large_pipes_are_few(self) -> None:
        """Some pipes are large, those beyond have the default size, as ever."""
        pool = PipePool()
        pipes = [self.take(pool) for _ in range(40)]
        sizes = [fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) for _, write in pipes]
        self.assertLessEqual(sum(size > 65536 for size in sizes), 32)
        self.assertLessEqual(max(sizes[32:]), 65536)
        for pipe in pipes[:2]:
            pool.give(pipe, empty=False)
        # What was closed makes room for another large one.
        self.assertEqual(
            sum(fcntl.fcntl(self.take(pool)[1], fcntl.F_GETPIPE_SZ) for _ in "12"),
            sum(sizes[:2]),
        )

    def test_given_pipes_are_lent_again(self) -> None:
        """An empty pipe is kept, and no more of them than a few."""
        pool = PipePool()
        pipes = [self.take(pool) for _ in range(30)]
        for pipe in pipes:
            pool.give(pipe)
        self.assertIn(pool.take(), pipes)
        closed = 0
        for read, _ in pipes:
            try:
                os.fstat(read)
            except OSError:
                closed += 1
        self.assertEqual(closed, 14)


class CopyingTests(SocketScenarios, Pair):
    """Plain sockets on a system that cannot splice."""

    direction = Copying

    @inlineCallbacks
    def setUp(self) -> Any:
        self.patch(pump, "can_splice", lambda protocol: False)
        yield super().setUp()

    @inlineCallbacks
    def test_stopped_with_bytes_held(self) -> Any:
        """One that is stopped hands what it holds to the sink's transport."""
        one, two = self.outer
        join(*self.ends)
        two.transport.pauseProducing()
        one.send(20_000_000)
        copying = self.ends[0]._direction
        assert isinstance(copying, Copying)
        yield self.until(lambda: copying._held)
        self.ends[0]._stop_direction()
        self.ends[0].start_copying()
        two.transport.resumeProducing()
        yield self.until(lambda: two.bytes_received == 20_000_000)
        self.assertSame(one, two)
        self.assertEqual(self.ends[0].bytes_received, 20_000_000)


class PumpTests(TCPScenarios, Pair):
    """Plain sockets that a reactor watches in another way."""

    @inlineCallbacks
    def setUp(self) -> Any:
        self.patch(pump, "can_splice", lambda protocol: False)
        self.patch(pump, "has_socket", lambda protocol: False)
        yield super().setUp()


class TLSTests(Scenarios, Pair):
    """TLS on both sides; a Twisted program outside ends both directions at once."""

    def setUp(self) -> Any:
        self.identity = SystemIdentity.generate().issue_server()
        return super().setUp()

    def inner(self, factory: Factory) -> Any:
        return TLSMemoryBIOFactory(ServerTLS(self.identity), False, factory)

    def outside(self, factory: Factory) -> Any:
        return TLSMemoryBIOFactory(PeerVerifier(self.identity.name), True, factory)


class MixedTests(Scenarios, Pair):
    """TLS on one side, a plain socket on the other; either direction can end alone."""

    def setUp(self) -> Any:
        self.identity = SystemIdentity.generate().issue_server()
        return super().setUp()

    def inner(self, factory: Factory) -> Any:
        if self.ends:
            return factory
        return TLSMemoryBIOFactory(ServerTLS(self.identity), False, factory)

    def outside(self, factory: Factory) -> Any:
        if self.ends:
            return factory
        return TLSMemoryBIOFactory(PeerVerifier(self.identity.name), True, factory)

    @inlineCallbacks
    def test_close_notify(self) -> Any:
        """What TLS ends by close_notify ends alone; the answer comes after that."""
        encrypted, plain = self.outer
        join(*self.ends)
        encrypted.send(1_500_000)
        yield self.until(lambda: plain.bytes_received == 1_500_000)
        # Twisted sends close_notify, and reads until that of the far end comes.
        encrypted.transport.loseConnection()
        yield plain.ended
        self.assertSame(encrypted, plain)
        self.assertIsNone(self.ends[0].lost)
        plain.send(1_500_000, then_end=True)
        reason = yield encrypted.lost
        self.assertIsInstance(reason, ConnectionDone)
        self.assertSame(plain, encrypted)
        yield self.until(lambda: all(end.lost for end in self.ends))

    @inlineCallbacks
    def test_end_of_the_plain_side(self) -> Any:
        """The end of a plain direction becomes close_notify; the other one goes on."""
        encrypted, plain = self.outer
        keep_writing_after_close_notify(
            encrypted.transport, encrypted.readConnectionLost
        )
        yield self.join()
        plain.send(1_500_000, then_end=True)
        yield encrypted.ended
        self.assertSame(plain, encrypted)
        self.assertFalse(plain.ended.called)
        encrypted.send(1_500_000)
        yield self.until(lambda: plain.bytes_received == 1_500_001)
        self.assertSame(encrypted, plain)
        encrypted.transport.loseConnection()
        yield plain.ended
        plain.transport.loseConnection()
        yield encrypted.lost
        yield self.until(lambda: all(end.lost for end in self.ends))
