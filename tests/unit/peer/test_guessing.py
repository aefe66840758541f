"""Guesses and holes, at the pace that one process may."""

from __future__ import annotations

import random
import uuid

from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.guessing import Guesses, Hole, ManyHoles, governor_of
from dwcloud.peer.server_holes import ServerHoles
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.punching.governor import MAX_MAPPINGS
from dwcloud.protocol.punching.plan import random_ports
from dwcloud.protocol.punching.probes import ProbeCodec, punch_key
from dwcloud.protocol.punching.search import (
    ClientSearch,
    PathFound,
    SearchEvent,
    ServerSearch,
)
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.testing import World

KEY = punch_key(bytes(16), uuid.UUID(int=1))


class Sink(DatagramProtocol):
    """Counts what comes, and from how many ports."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.ports: set[int] = set()
        self.world: World

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.times.append(self.world.seconds())
        self.ports.add(addr[1])


class GuessingTestCase(SynchronousTestCase):
    """A host that guesses, and one at which it does."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.host = internet.host("198.51.100.1", name="host")
        self.peer = internet.host("198.51.100.2", name="peer")
        self.port = SharedUDPPort(self.host.reactor, interface=self.host.address)
        self.port.start()
        self.governor = governor_of(self.host.reactor)

    def search(self) -> ClientSearch:
        codec = ProbeCodec(KEY, from_server=False)
        return ClientSearch(
            codec, (), random.Random(1).randbytes, now=self.world.seconds(), limit=15.0
        )

    def guesses(self) -> Guesses:
        """Guess random ports of the peer."""
        addresses = random_ports(
            Address(self.peer.address, 1), random.Random(2).randbytes
        )
        return Guesses(self.host.reactor, self.port, self.search(), addresses)

    def many(self) -> ManyHoles:
        """Hold many ports open towards one of the peer."""
        self.hits: list[tuple[Hole, SearchEvent]] = []
        return ManyHoles(
            self.host.reactor,
            Address(self.peer.address, 5000),
            self.search,
            lambda hole, event: self.hits.append((hole, event)),
            interface=self.host.address,
            limit=10.0,
        )

    def sent(self) -> int:
        """How many packets left the host."""
        return self.port.statistics.datagrams_sent


class GuessesTests(GuessingTestCase):
    """Probes to ports that may be the right ones."""

    def test_pace(self) -> None:
        """Two that guess share what one process may send."""
        one, other = self.guesses(), self.guesses()
        one.start()
        other.start()
        before = self.sent()
        for _ in range(5):
            self.world.advance(1.0)
            now = self.sent()
            self.assertTrue(180 <= now - before <= 205, now - before)
            before = now
        one.stop()
        other.stop()
        self.world.advance(1.0)
        self.assertEqual(self.sent(), before)

    def test_other_process(self) -> None:
        """Another reactor has a governor of its own."""
        self.assertIs(governor_of(self.host.reactor), self.governor)
        self.assertIsNot(governor_of(self.peer.reactor), self.governor)

    def test_end(self) -> None:
        """When all was tried it ends by itself."""
        addresses = iter([Address(self.peer.address, port) for port in (7, 8, 9)])
        Guesses(self.host.reactor, self.port, self.search(), addresses).start()
        self.world.advance(5.0)
        self.assertEqual(self.sent(), 3)


class ManyHolesTests(GuessingTestCase):
    """Many ports towards one address."""

    def setUp(self) -> None:
        super().setUp()
        self.sink = Sink()
        self.sink.world = self.world
        self.peer.reactor.listenUDP(5000, self.sink)

    def test_budget(self) -> None:
        """As many as may be, at the pace that may be; all are closed in the end."""
        holes = [self.many(), self.many()]
        for each in holes:
            each.start()
        self.world.advance(5.0)
        self.assertEqual(sum(map(len, holes)), MAX_MAPPINGS)
        self.assertEqual(self.governor.mappings, MAX_MAPPINGS)
        self.assertEqual(len(self.sink.ports), MAX_MAPPINGS)
        for second in range(5):
            within = [at for at in self.sink.times if second <= at < second + 1]
            self.assertLessEqual(len(within), 200)
        self.world.advance(5.1)
        self.assertEqual(self.governor.mappings, 0)
        self.assertEqual(self.hits, [])

    def test_hit(self) -> None:
        """The hole that the peer hits is handed over, and the others are closed."""
        holes = self.many()
        holes.start()
        self.world.advance(0.5)
        self.assertEqual(len(holes), 100)
        codec = ProbeCodec(KEY, from_server=True)
        peer = ServerSearch(
            codec, (), random.Random(3).randbytes, now=self.world.seconds(), limit=15.0
        )
        target = min(self.sink.ports)
        send = self.sink.transport.write
        received: list[tuple[bytes, tuple[str, int]]] = []
        self.patch(self.sink, "datagramReceived", lambda *a: received.append(a))
        send(peer.guess(), (self.host.address, target))
        for _ in range(6):
            self.world.advance(0.05)
            for data, address in received:
                now = self.world.seconds()
                peer.receive_datagram(data, Address(*address), now=now)
            received.clear()
            for to, data in peer.datagrams_to_send():
                send(data, to)
        ((hole, event),) = self.hits
        self.assertEqual(event, PathFound(Address(self.peer.address, 5000)))
        self.assertEqual(hole.port.getHost().port, target)
        self.assertEqual(self.governor.mappings, 1)
        hole.close_when_idle()
        hole.close()
        self.assertEqual(self.governor.mappings, 0)


class ServerHolesTests(GuessingTestCase):
    """A port that one client came through."""

    def setUp(self) -> None:
        super().setUp()
        self.accepted: list[Protocol] = []
        factory = Factory.forProtocol(self.accept)
        self.holes = ServerHoles(self.host.reactor, factory)
        self.client = SharedUDPPort(self.peer.reactor, interface=self.peer.address)
        self.client.start()
        self.answers: list[bytes] = []
        self.client.onSTUN = lambda data, address: self.answers.append(data)
        self.assertTrue(self.governor.take_mapping())
        self.hole = Hole(self.host.reactor, self.host.address, self.governor)
        self.hole.open()

    def accept(self) -> Protocol:
        self.accepted.append(Protocol())
        return self.accepted[-1]

    def meet(self) -> None:
        """Let both ends meet."""
        self.holes.meet(self.hole, self.client.getHost(), 10.0)
        meeting = self.client.udt.rendezvous(
            self.hole.port.getHost(), Factory.forProtocol(Protocol)
        )
        self.world.run_until(meeting, 5.0)
        self.world.advance(0.1)

    def test_kept(self) -> None:
        """Later streams come through, and the client is told that it is open."""
        self.meet()
        later = self.client.udt.connect(
            self.hole.port.getHost(), Factory.forProtocol(Protocol)
        )
        self.world.run_until(later, 5.0)
        self.world.advance(0.1)
        self.assertEqual(len(self.accepted), 2)
        request = binding_request(b"transactions").encode(fingerprint=True)
        self.client.sendDatagram(request, self.hole.port.getHost())
        self.world.advance(0.1)
        self.assertEqual(len(self.answers), 1)

    def test_closed_when_quiet(self) -> None:
        """Nothing heard for a minute ends it."""
        self.meet()
        self.assertEqual((len(self.holes), self.governor.mappings), (1, 1))
        self.client.stop()
        self.world.advance(130.0)
        self.assertEqual((len(self.holes), self.governor.mappings), (0, 0))

    def test_missed(self) -> None:
        """A client that does not come leaves nothing."""
        self.holes.meet(self.hole, Address(self.peer.address, 9), 2.0)
        self.world.advance(3.0)
        self.assertEqual((len(self.holes), self.governor.mappings), (0, 0))

    def test_stopped(self) -> None:
        """Stopping closes what is pending and what is kept."""
        self.holes.meet(self.hole, Address(self.peer.address, 9), 2.0)
        self.holes.stop()
        self.assertEqual((len(self.holes), self.governor.mappings), (0, 0))
