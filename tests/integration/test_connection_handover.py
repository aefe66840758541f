"""Descriptors and messages between processes, over real sockets."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import inlineCallbacks
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dwcloud.net.connection_handover import Inbox, Outbox, loopback_pair


class BoxTests(TestCase):
    """An outbox and an inbox."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.received: list[tuple[bytes, int | None]] = []
        self.end, outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.end.close)
        self.addCleanup(outer.close)
        self.inbox = Inbox(
            reactor, self.end, lambda *message: self.received.append(message)
        )
        self.outbox = Outbox(reactor, outer)
        self.addCleanup(self.inbox.stop)

    @inlineCallbacks
    def receive(self, count: int) -> Any:
        self.inbox.start()
        while len(self.received) < count:
            yield deferLater(self.reactor, 0.001)

    @inlineCallbacks
    def test_order(self) -> Any:
        """More than the socket takes at once arrives whole and in order."""
        messages = [b"%d " % n + bytes(20_000) for n in range(100)]
        for message in messages:
            self.outbox.send(message)
        yield self.receive(100)
        self.assertEqual([data for data, _ in self.received], messages)

    @inlineCallbacks
    def test_descriptor(self) -> Any:
        """A descriptor arrives as another one of the same file; ours is closed."""
        reading, writing = os.pipe()
        self.outbox.send(b"x", writing)
        self.assertRaises(OSError, os.fstat, writing)
        yield self.receive(1)
        ((_, given),) = self.received
        os.write(given, b"hello")
        os.close(given)
        self.assertEqual(os.read(reading, 10), b"hello")
        self.assertEqual(os.read(reading, 10), b"")
        os.close(reading)

    def test_nobody_there(self) -> None:
        """Where nobody can receive any more, the sender is told."""
        self.end.close()
        reading, writing = os.pipe()
        os.close(reading)
        self.assertRaises(OSError, self.outbox.send, b"x", writing)
        self.assertRaises(OSError, os.fstat, writing)

    def test_too_many(self) -> None:
        """Of messages that wait there is a limit."""

        def fill() -> None:
            for _ in range(2_000):
                self.outbox.send(bytes(10_000))

        self.assertRaises(BlockingIOError, fill)
        self.reactor.removeWriter(self.outbox)


class LoopbackPairTests(TestCase):
    """A TCP connection to ourselves."""

    def test_ends(self) -> None:
        """What one end says the other hears, and neither blocks."""
        one, two = loopback_pair()
        with one, two:
            self.assertRaises(BlockingIOError, one.recv, 1)
            two.send(b"x")
            self.assertEqual(one.recv(1), b"x")
            self.assertEqual(one.getpeername(), two.getsockname())
