"""Tests of how the size of packets is found out."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import CloseReason, Connection, ConnectionClosed
from dwcloud.protocol.udt.halves import packet_size_limit
from dwcloud.protocol.udt.handshake import Handshake
from dwcloud.protocol.udt.packets import Ack, DataPacket, Packet
from dwcloud.protocol.udt.path_mtu import BASE_PACKET_SIZE
from tests.unit.protocol.udt.simulation import Address, Port, World, connected_pair

FAST = {"congestion_control": "fixed", "fixed_rate": 20_000.0}


class PathTests(SynchronousTestCase):
    """Paths that are narrower than the handshake says."""

    def setUp(self) -> None:
        self.world = World()
        self.limit = 1500
        self.probes_lost = 0
        self.world.link.lose = self.is_too_large

    def is_too_large(self, source: Address, packet: Packet) -> bool:
        return len(packet.encode()) + 28 > self.limit

    def sizes(self, port: Port) -> set[int]:
        """Return the sizes of the data packets sent, all but the last of a write."""
        return {len(p.payload) + 44 for p in port.packets(DataPacket)}

    def pair(self, **settings: object) -> tuple[Port, Connection, Port, Connection]:
        return connected_pair(self.world, **{**FAST, **settings})

    def check(self, expected: int, limit: int, **settings: object) -> None:
        """Send on a path of such a limit and see what size is found."""
        self.limit = limit
        client, ours, server, theirs = self.pair(**settings)
        self.world.run(seconds=1.0)
        data = self.world.random.randbytes(200_000)
        client.write(ours, data)
        server.write(theirs, data)
        self.world.run(seconds=5.0)
        self.assertEqual(server.received[theirs], data)
        self.assertEqual(client.received[ours], data)
        self.assertEqual(ours.statistics.packet_size, expected)
        self.assertEqual(max(self.sizes(server)), expected)
        self.assertEqual(ours.statistics.packets_retransmitted, 0)

    def test_wide(self) -> None:
        """Ethernet's 1500 bytes, after one round trip. [udt:path-mtu]"""
        self.check(1500, 1500)

    def test_narrow(self) -> None:
        """Tunnels of several kinds. [udt:path-mtu]"""
        for limit, expected in ((1492, 1492), (1450, 1440), (1420, 1420), (1280, 1260)):
            self.world = World()
            self.world.link.lose = self.is_too_large
            self.check(expected, limit)

    def test_jumbo(self) -> None:
        """What both ends agree on may be more than Ethernet carries. [udt:path-mtu]"""
        self.check(9000, 9000, maximum_packet_size=9000)
        self.world = World()
        self.world.link.lose = self.is_too_large
        self.check(1492, 1500, maximum_packet_size=9000)

    def test_small_by_agreement(self) -> None:
        """Nothing is probed below the base. [udt:packet-size]"""
        self.check(1000, 1500, maximum_packet_size=1000)

    def test_switched_off(self) -> None:
        """Without probing, what was agreed on is used from the start."""
        self.check(1500, 1500, path_mtu_discovery=False)

    def test_data_before_the_answer(self) -> None:
        """Data do not wait for the probe: they leave in packets of the base."""
        client, ours, _, _ = self.pair()
        client.write(ours, bytes(40 * (BASE_PACKET_SIZE - 44)))
        self.assertEqual(self.sizes(client), {BASE_PACKET_SIZE})
        self.world.run(seconds=1.0)
        client.write(ours, bytes(50_000))
        self.world.run(seconds=1.0)
        self.assertIn(1500, self.sizes(client))

    def test_lost_probe(self) -> None:
        """A probe that is lost by chance is repeated."""

        def lose(source: Address, packet: Packet) -> bool:
            if isinstance(packet, Ack) and packet.trailing and self.probes_lost < 2:
                self.probes_lost += 1
                return True
            return False

        self.world.link.lose = lose
        _, ours, _, _ = self.pair()
        self.world.run(seconds=1.0)
        self.assertEqual(ours.statistics.packet_size, 1500)

    def test_probes_end(self) -> None:
        """A path that stays narrow is not probed all the time, but again later."""
        self.limit = 1260
        client, ours, _, _ = self.pair()
        self.world.run(seconds=10.0)
        probes = sum(1 for p in client.packets(Ack) if p.trailing)
        self.assertLess(probes, 40)
        self.world.run(seconds=500.0)
        self.assertEqual(sum(1 for p in client.packets(Ack) if p.trailing), probes)
        self.limit = 1500
        self.world.run(seconds=200.0)
        self.assertEqual(ours.statistics.packet_size, 1500)

    def test_narrower_later(self) -> None:
        """A path that becomes narrow while nothing is on its way. [udt:black-hole]"""
        client, ours, server, theirs = self.pair()
        self.world.run(seconds=1.0)
        # A stall for another reason, during which the path changes.
        self.limit = 0
        client.write(ours, b"small")
        self.world.run(seconds=4.0)
        self.limit = 1400
        data = bytes(100_000)
        client.write(ours, data)
        self.world.run(seconds=10.0)
        self.assertEqual(server.received[theirs], b"small" + data)
        self.assertEqual(ours.statistics.packet_size, 1400)

    def test_too_narrow_for_what_was_sent(self) -> None:
        """Packets that cannot pass any more end the connection with a clear word.
        [udt:black-hole]"""
        client, ours, server, _ = self.pair(keep_alive_interval=1.0)
        self.world.run(seconds=1.0)
        self.limit = 1400
        client.write(ours, bytes(100_000))
        self.world.run(lambda: bool(client.of(ConnectionClosed)), 300.0)
        closed = client.closed()
        self.assertIs(closed.reason, CloseReason.BROKEN)
        self.assertIn("do not pass", closed.detail)
        self.assertEqual(server.of(ConnectionClosed), [])

    def test_recovers(self) -> None:
        """After an interruption of the path the size is as before."""
        client, ours, server, theirs = self.pair()
        self.world.run(seconds=1.0)
        self.limit = 0
        client.write(ours, bytes(100_000))
        self.world.run(seconds=5.0)
        self.assertEqual(ours.statistics.packet_size, BASE_PACKET_SIZE)
        self.limit = 1500
        self.world.run(seconds=20.0)
        self.assertEqual(len(server.received[theirs]), 100_000)
        self.assertEqual(ours.statistics.packet_size, 1500)


class LimitTests(SynchronousTestCase):
    """What is agreed on in the handshake."""

    def limit(self, own: int, peer: int, host: str) -> int:
        handshakes = [
            Handshake(
                socket_type=1,
                initial_sequence=0,
                maximum_packet_size=size,
                flow_window_packets=100,
                request_type=1,
                socket_id=1,
            )
            for size in (own, peer)
        ]
        return packet_size_limit(*handshakes, host)

    def test_smaller(self) -> None:
        """The smaller of both. [udt:packet-size]"""
        self.assertEqual(self.limit(1500, 1400, "192.0.2.1"), 1400)
        self.assertEqual(self.limit(1300, 1400, "192.0.2.1"), 1300)

    def test_ipv6(self) -> None:
        """20 bytes less over IPv6, whose header is longer. [udt:packet-size]"""
        self.assertEqual(self.limit(1500, 1500, "2001:db8::1"), 1480)
        self.assertEqual(self.limit(1500, 1500, "::ffff:192.0.2.1"), 1500)
        self.assertEqual(self.limit(76, 76, "2001:db8::1"), 76)
