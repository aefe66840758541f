"""The searches of one port."""

from __future__ import annotations

import random
import uuid
from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.searches import PathSearches
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.punching.probes import Probe, ProbeCodec, punch_key
from dwcloud.protocol.punching.search import ClientSearch, PathFound, SearchEvent

SERVER = Address("198.51.100.2", 2000)


class RecordingPort:
    """A port that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address]] = []

    def sendDatagram(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))


class PathSearchesTests(SynchronousTestCase):
    """Searches are fed, timed, bounded and ended."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = RecordingPort()
        self.searches = PathSearches(
            self.clock, cast(SharedUDPPort, self.port), capacity=3
        )
        self.events: list[SearchEvent] = []

    def search(self, number: int = 1, limit: float = 15.0) -> ClientSearch:
        """Start a search of a session of its own."""
        search = ClientSearch(
            ProbeCodec(self.key(number), from_server=False),
            [SERVER],
            random.Random(number).randbytes,
            now=self.clock.seconds(),
            limit=limit,
        )
        self.searches.start(search, self.events.append, limit)
        return search

    def key(self, number: int) -> bytes:
        """The key of a session."""
        return punch_key(bytes(16), uuid.UUID(int=number))

    def test_time(self) -> None:
        """Probes go out at their times until the end, and no timer stays."""
        self.search(limit=2.0)
        self.assertEqual(len(self.port.sent), 1)
        for _ in range(30):
            self.clock.advance(0.1)
        self.assertEqual(len(self.port.sent), 8)
        self.assertEqual(len(self.searches), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_by_tag(self) -> None:
        """A probe reaches the search that it belongs to; nothing else is taken."""
        self.search(1)
        self.search(2)
        server = ProbeCodec(self.key(2), from_server=True)
        other = Address(SERVER.host, 2345)
        first = server.encode(Probe(b"a" * 12))
        self.assertTrue(self.searches.datagramReceived(first, other))
        answer, address = self.port.sent[-1]
        self.assertEqual(address, other)
        hello = server.decode(answer).hello
        second = server.encode(Probe(b"a" * 12, hello))
        self.assertTrue(self.searches.datagramReceived(second, other))
        self.assertEqual(self.events, [PathFound(other)])
        stranger = ProbeCodec(self.key(3), from_server=True).encode(Probe(b"a" * 12))
        self.assertFalse(self.searches.datagramReceived(stranger, other))
        self.assertFalse(self.searches.datagramReceived(b"something else", other))

    def test_capacity(self) -> None:
        """The oldest search makes room."""
        oldest = self.search(1)
        for number in (2, 3, 4):
            self.search(number)
        self.assertEqual(len(self.searches), 3)
        self.assertIsNone(self.searches.find(oldest.tag))

    def test_stopped_by_its_owner(self) -> None:
        """A search may be ended while it tells something."""
        search = self.search()
        self.searches.start(search, lambda event: self.searches.stop(search), 15.0)
        server = ProbeCodec(self.key(1), from_server=True)
        other = Address(SERVER.host, 2345)
        self.searches.datagramReceived(server.encode(Probe(b"a" * 12)), other)
        hello = server.decode(self.port.sent[-1][0]).hello
        self.searches.datagramReceived(server.encode(Probe(b"a" * 12, hello)), other)
        self.assertEqual(len(self.searches), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_all(self) -> None:
        """Ending all leaves no timer."""
        self.search(1)
        self.search(2)
        self.searches.stop_all()
        self.assertEqual(self.clock.getDelayedCalls(), [])
