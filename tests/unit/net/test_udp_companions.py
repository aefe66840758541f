"""Tests of sockets that are connected to one peer, without the kernel."""

from __future__ import annotations

import errno
import socket

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.net.udp_companions import MAX_COMPANIONS, UNUSED_AFTER
from dwcloud.net.udp_direct import DirectUDPPort
from tests.unit.net.test_udp_batch import FakeReactor, FakeSocket, RecordingReceiver

PEER = ("192.0.2.1", 4000)
REUSE = (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", 15))
BULK = b"x" * 64


class ConnectedSocket(FakeSocket):
    """A socket that can be connected."""

    peer: tuple[str, int] | None = None
    refused = False

    def connect(self, address: tuple[str, int]) -> None:
        if self.refused:
            raise OSError(errno.ENETUNREACH, "no")
        self.peer = address

    def send(self, data: bytes) -> int:
        assert self.peer is not None
        return self.sendto(data, self.peer)


class CompanionTests(SynchronousTestCase):
    """A port that sends much to some peers."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.receiver = RecordingReceiver()
        self.sockets: list[ConnectedSocket] = []
        self.refused = False
        self.port = DirectUDPPort(
            self.reactor,
            self.receiver,
            interface="192.0.2.9",
            port=7,
            make_socket=self._make,  # type: ignore[arg-type]
        )
        self.port.start()

    def _make(self, family: int, kind: int) -> ConnectedSocket:
        made = ConnectedSocket(family, kind)
        made.refused = self.refused
        self.sockets.append(made)
        return made

    def test_much(self) -> None:
        """A long batch goes by a socket of its own, made once; single ones do not."""
        self.port.send(b"one", None, PEER)
        self.port.send(BULK, 8, PEER)
        self.assertEqual(len(self.sockets), 1)
        for _ in range(2):
            self.port.send(BULK, 4, PEER)
        own, companion = self.sockets
        self.assertEqual((companion.bound, companion.peer), (("192.0.2.9", 7), PEER))
        self.assertEqual([d for d, _, _ in companion.sent], [b"xxxx"] * 32)
        self.assertEqual(len(own.sent), 9)
        self.assertEqual(self.port.statistics.datagrams_sent, 41)

    def test_address_stays_closed(self) -> None:
        """Others may not join the address before or after that."""
        self.port.send(BULK, 4, PEER)
        self.assertEqual(self.sockets[0].options[REUSE], 0)

    def test_read(self) -> None:
        """What a peer sends to its socket reaches the receiver."""
        self.port.send(BULK, 4, PEER)
        [_, reader] = self.reactor.readers
        verifyObject(IReadDescriptor, reader)
        self.sockets[1].waiting = [(b"aa", None, PEER), (b"bb", None, PEER)]
        reader.doRead()
        self.assertEqual(self.receiver.received, [(b"aabb", 2, PEER)])
        self.assertEqual(self.port.statistics.datagrams_received, 2)

    def test_refused(self) -> None:
        """Where there can be no such socket the port's own goes on, and none is tried
        for each batch."""
        self.refused = True
        for _ in range(3):
            self.port.send(BULK, 4, PEER)
        own, companion = self.sockets
        self.assertTrue(companion.closed)
        self.assertEqual(len(own.sent), 48)
        self.assertEqual(self.reactor.readers, [self.port])

    def test_bounded(self) -> None:
        """Peers beyond the limit wait for one that is used no more."""
        for number in range(MAX_COMPANIONS + 1):
            self.port.send(BULK, 4, ("192.0.2.1", number + 1))
        self.assertEqual(len(self.sockets), 1 + MAX_COMPANIONS)
        self.assertEqual(len(self.sockets[0].sent), 16)
        self.reactor.advance(UNUSED_AFTER)
        self.port.send(BULK, 4, ("192.0.2.1", 1))
        self.port.send(BULK, 4, ("192.0.2.1", 99))
        self.assertEqual(self.sockets[-1].peer, ("192.0.2.1", 99))
        closed = [made.peer for made in self.sockets if made.closed]
        self.assertEqual(closed, [("192.0.2.1", 2)])
        self.assertEqual(len(self.reactor.readers), 1 + MAX_COMPANIONS)

    def test_closed(self) -> None:
        """The port closes all, and so does the reactor."""
        for number in (1, 2):
            self.port.send(BULK, 4, ("192.0.2.1", number))
        self.reactor.readers[-1].connectionLost(Failure(ConnectionDone()))
        self.assertTrue(self.sockets[2].closed)
        self.port.stop()
        self.assertTrue(all(made.closed for made in self.sockets))
        self.assertEqual(self.reactor.readers, [])
