"""Holes that are kept open for later streams."""

from __future__ import annotations

import uuid

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.guessing import Hole, governor_of
from dwcloud.peer.tunnels import TunnelTable
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.testing import World

SYSTEM = uuid.UUID(int=1)
ONE, TWO = PeerName(SYSTEM, uuid.UUID(int=2)), PeerName(SYSTEM, uuid.UUID(int=3))
HERE, THERE = Address("198.51.100.1", 1), Address("203.0.113.1", 4000)
SESSION = uuid.UUID(int=9)
PARAMETERS = ConnectionParameters()


class TunnelTests(SynchronousTestCase):
    """A client's tunnels, to servers that answer as long as they are told to."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.probes: list[tuple[float, Address]] = []
        self.answering = True
        self.streams: set[Address] = set()
        self.stun = STUNDatagramClient(self.clock, self.send)
        self.table = TunnelTable(self.clock, self.stun, self.streams.__contains__)

    def send(self, data: bytes, address: Address) -> None:
        """The network: a server answers at once, or not at all."""
        self.probes.append((self.clock.seconds(), address))
        request = STUNMessage.decode(data)
        self.assertTrue(is_binding_request(request))
        if self.answering:
            answer = binding_response(request, HERE).encode(fingerprint=True)
            self.clock.callLater(0, self.stun.datagramReceived, answer, address)

    def wait(self, seconds: int) -> None:
        """Let time pass, in steps in which answers arrive."""
        for _ in range(10 * seconds):
            self.clock.advance(0.1)

    def add(self, server: PeerName = ONE, address: Address = THERE) -> None:
        """A hole that was just punched."""
        self.table.add(server, address, SESSION, PARAMETERS)

    def test_found(self) -> None:
        """A tunnel is found by the server's name and by its system's."""
        self.assertIsNone(self.table.find(ONE))
        self.add()
        for peer in (ONE, PeerName(SYSTEM)):
            tunnel = self.table.find(peer)
            assert tunnel is not None
            self.assertEqual(
                (tunnel.server, tunnel.address, tunnel.session), (ONE, THERE, SESSION)
            )
        self.assertIsNone(self.table.find(TWO))

    def test_probed(self) -> None:
        """Each interval the far end is asked, whether or not there are streams."""
        self.add()
        self.wait(35)
        self.assertEqual([round(at) for at, _ in self.probes], [10, 20, 30])
        self.assertEqual({address for _, address in self.probes}, {THERE})
        self.assertEqual(len(self.table), 1)

    def test_silent(self) -> None:
        """A far end that misses three probes in a row is given up, not before."""
        self.add()
        self.answering = False
        self.wait(32)
        self.assertEqual(len(self.table), 1)
        self.wait(3)
        self.assertEqual((len(self.table), len(self.probes)), (0, 3))
        self.wait(100)
        self.assertEqual(len(self.probes), 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_miss_is_forgiven(self) -> None:
        """An answer in between starts the count again."""
        self.add()
        for _ in range(6):
            self.answering = not self.answering
            self.wait(10)
        self.assertEqual(len(self.table), 1)

    def test_unused(self) -> None:
        """A tunnel that nobody uses is kept for eight minutes."""
        self.add()
        self.wait(480)
        self.assertEqual(len(self.table), 1)
        self.wait(20)
        self.assertEqual(len(self.table), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_asked_for(self) -> None:
        """Asking for it counts as using it."""
        self.add()
        self.wait(400)
        self.table.find(ONE)
        self.wait(400)
        self.assertEqual(len(self.table), 1)

    def test_used_by_streams(self) -> None:
        """As long as streams run through it, it stays."""
        self.add()
        self.streams.add(THERE)
        self.wait(1000)
        self.assertEqual(len(self.table), 1)
        self.streams.clear()
        self.wait(500)
        self.assertEqual(len(self.table), 0)

    def test_replaced(self) -> None:
        """A new hole to the same server takes the place of the old one."""
        self.add()
        self.wait(5)
        other = Address("203.0.113.1", 4001)
        self.add(ONE, other)
        self.assertEqual(len(self.table), 1)
        self.wait(11)
        self.assertEqual([address for _, address in self.probes], [other])

    def test_replaced_while_probed(self) -> None:
        """What the old hole misses does not count against the new one."""
        self.answering = False
        for _ in range(4):
            self.add()
            self.wait(11)
        self.wait(5)
        self.assertEqual(len(self.table), 1)

    def test_dropped(self) -> None:
        """A dropped tunnel is probed no more; dropping what is not there is nothing."""
        self.add()
        self.table.drop(TWO)
        self.table.drop(ONE)
        self.table.drop(ONE)
        self.assertIsNone(self.table.find(ONE))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Stopping drops all, also while a probe is on its way."""
        self.add()
        self.add(TWO, Address("203.0.113.2", 4000))
        self.answering = False
        self.wait(11)
        self.table.stop()
        self.stun.stop()
        self.assertEqual(len(self.table), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class HoleTests(SynchronousTestCase):
    """A tunnel through a port of its own."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.host = internet.host(HERE.host)
        self.server = SharedUDPPort(
            internet.host(THERE.host).reactor, interface=THERE.host, port=THERE.port
        )
        self.asked: list[Address] = []
        self.server.onSTUN = lambda data, address: self.asked.append(address)
        self.server.start()
        self.governor = governor_of(self.host.reactor)
        self.governor.take_mapping()
        self.hole = Hole(self.host.reactor, HERE.host, self.governor)
        self.hole.open()
        stun = STUNDatagramClient(self.host.reactor, self.fail)
        self.table = TunnelTable(self.host.reactor, stun, lambda address: False)
        self.table.add(ONE, THERE, SESSION, PARAMETERS, self.hole)

    def test_probed(self) -> None:
        """It is kept open from its own port."""
        self.world.advance(12.0)
        self.assertEqual(set(self.asked), {self.hole.port.getHost()})

    def test_closed(self) -> None:
        """Its port closes with it, but not before the last stream."""
        self.server.udt.listen(Factory.forProtocol(Protocol))
        connecting = self.hole.port.udt.connect(THERE, Factory.forProtocol(Protocol))
        stream = self.world.run_until(connecting, 5.0)
        assert stream is not None and stream.transport is not None
        self.table.drop(ONE)
        self.world.advance(5.0)
        self.assertEqual(self.governor.mappings, 1)
        stream.transport.loseConnection()
        self.world.advance(60.0)
        self.assertEqual(self.governor.mappings, 0)
