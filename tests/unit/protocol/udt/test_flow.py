"""Tests of windows, acknowledgements, reports and keep-alives."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import (
    ConnectionClosed,
    DataAvailable,
    SendBufferLow,
)
from dwcloud.protocol.udt.packets import (
    Ack,
    Ack2,
    DataPacket,
    HandshakePacket,
    KeepAlive,
    Nak,
    Packet,
    decode,
)
from tests.unit.protocol.udt.simulation import (
    Link,
    Port,
    World,
    connected_pair,
)

FAST = {"congestion_control": "fixed", "fixed_rate": 20_000.0}


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


class FlowTests(SynchronousTestCase):
    """Windows, acknowledgements, keep-alives."""

    # [udt:window-update]
    # [udt:window]
    def test_slow_reader(self) -> None:
        """A reader that stops holds the sender; when it reads, all goes on at once."""
        world = World()
        client, ours, server, theirs = connected_pair(
            world, receive_buffer_packets=64, path_mtu_discovery=False, **FAST
        )
        server.reads = False
        data = world.random.randbytes(500_000)
        client.write(ours, data)
        world.run(seconds=5.0)
        self.assertLessEqual(theirs.readable_bytes, 66 * 1456)
        self.assertGreaterEqual(theirs.readable_bytes, 60 * 1456)
        resent = ours.statistics.packets_retransmitted
        self.assertLess(resent, 100)
        server.reads = True
        received = server.received.setdefault(theirs, bytearray())
        received += theirs.read()
        server.flush()
        started = world.now
        world.run(lambda: len(received) == len(data), 10.0)
        self.assertEqual(sha256(received), sha256(data))
        self.assertLess(world.now - started, 1.0)

    def test_send_buffer_low(self) -> None:
        """A writer above the limit is told once when the buffer has emptied."""
        world = World()
        client, ours, _, _ = connected_pair(
            world, send_buffer_limit=50_000, send_buffer_low_water=10_000
        )
        client.write(ours, bytes(49_999))
        world.run(seconds=1.0)
        self.assertEqual(client.of(SendBufferLow), [])
        client.write(ours, bytes(60_000))
        self.assertGreaterEqual(ours.send_buffer_bytes, ours.send_buffer_limit)
        world.run(lambda: bool(client.of(SendBufferLow)))
        self.assertLessEqual(ours.send_buffer_bytes, ours.send_buffer_low_water)
        world.run(seconds=1.0)
        self.assertEqual(len(client.of(SendBufferLow)), 1)
        self.assertEqual(ours.send_buffer_bytes, 0)

    def test_written_before_it_is_up(self) -> None:
        """What is written during the handshake goes out when it is up."""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        ours = client.connect(server)
        ours.write(b"eager", now=world.now)
        self.assertEqual(ours.send_buffer_bytes, 5)
        self.assertEqual(ours.read(), b"")
        self.assertEqual(ours.statistics.packets_sent, 0)
        world.run(seconds=1.0)
        self.assertEqual(bytes(server.received[server.accepted[0]]), b"eager")

    # [udt:ack]
    def test_acknowledgements(self) -> None:
        """Short packets are acknowledged at once, each ACK is confirmed."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=0.1)
        client.sent.clear()
        server.sent.clear()
        client.write(ours, b"a")
        world.run(seconds=0.006)
        self.assertEqual(len(server.packets(Ack)), 1)
        world.run(seconds=1.0)
        self.assertEqual(len(server.packets(Ack)), 1)
        self.assertEqual(len(client.packets(Ack2)), 1)
        self.assertLess(theirs.statistics.rtt, 0.1)

    # [udt:light-ack]
    def test_light_acks(self) -> None:
        """A long burst brings light ACKs in between."""
        world = World()
        client, ours, server, _ = connected_pair(world, **FAST)
        client.write(ours, bytes(2_000_000))
        world.run(seconds=1.0)
        acks = server.packets(Ack)
        self.assertTrue(any(ack.light for ack in acks))
        self.assertTrue(all(ack.ack_number == 0 for ack in acks if ack.light))
        self.assertTrue(any(ack.packet_arrival_speed for ack in acks))

    # [udt:light-ack]
    def test_light_ack_frees_memory(self) -> None:
        """What a light ACK tells is not kept, but for the last packet.

        That one is sent again if the full ACK does not come.
        """
        data = bytes(range(256)) * 569
        world = World(link=Link(rate=20e6))
        client, ours, server, theirs = connected_pair(world, **FAST)
        world.run(seconds=0.1)
        world.link.lose = lambda _, packet: isinstance(packet, Ack) and not packet.light
        client.write(ours, data)
        world.run(seconds=0.2)
        self.assertTrue(any(ack.light for ack in server.packets(Ack)))
        self.assertEqual(bytes(server.received[theirs]), data)
        self.assertLessEqual(ours.send_buffer_bytes, len(data) - 63 * 1456)
        self.assertGreater(ours.send_buffer_bytes, 0)
        world.link.lose = None
        world.run(seconds=5.0)
        self.assertEqual(ours.send_buffer_bytes, 0)
        self.assertEqual(bytes(server.received[theirs]), data)

    # [udt:ack-repetition]
    def test_lost_ack(self) -> None:
        """An ACK without ACK2 is repeated, rarely."""
        world = World()
        client, ours, server, _ = connected_pair(world)
        world.run(seconds=0.1)
        world.link.lose = lambda source, packet: isinstance(packet, Ack2)
        client.write(ours, b"a")
        world.run(seconds=3.0)
        self.assertIn(len(server.packets(Ack)), range(3, 7))

    # [udt:nak]
    def test_gap(self) -> None:
        """A gap is reported at once with one entry, and the packets come again."""
        world = World()
        client, ours, server, theirs = connected_pair(world, **FAST)
        world.run(seconds=0.1)
        lost = {3, 4, 8}
        start = client.packets(HandshakePacket)[0].handshake.initial_sequence

        def lose(source: object, packet: Packet) -> bool:
            if isinstance(packet, DataPacket):
                index = packet.sequence - start
                if index in lost:
                    lost.remove(index)
                    return True
            return False

        world.link.lose = lose
        client.write(ours, bytes(1456 * 20))
        world.run(seconds=0.1)
        ranges = [nak.ranges for nak in server.packets(Nak)]
        self.assertEqual(ranges, [((start + 3, start + 4),), ((start + 8, start + 8),)])
        self.assertEqual(len(server.received[theirs]), 1456 * 20)
        self.assertEqual(ours.statistics.packets_retransmitted, 3)

    # [udt:nak]
    def test_lost_report(self) -> None:
        """A lost report is repeated, not before 300 ms."""
        world = World()
        client, ours, server, theirs = connected_pair(world, **FAST)
        world.run(seconds=0.1)
        losing = [True]

        def lose(source: object, packet: Packet) -> bool:
            if isinstance(packet, Nak):
                return losing[0]
            return (
                isinstance(packet, DataPacket)
                and losing[0]
                and (packet.sequence % 5 == 0)
            )

        world.link.lose = lose
        client.write(ours, bytes(1456 * 20))
        world.run(seconds=0.05)
        losing[0] = False
        reports = len(server.packets(Nak))
        world.run(seconds=0.2)
        self.assertEqual(len(server.packets(Nak)), reports)
        world.run(lambda: len(server.received[theirs]) == 1456 * 20, 1.0)
        self.assertEqual(len(server.received[theirs]), 1456 * 20)

    # [udt:reordering]
    def test_mere_reordering(self) -> None:
        """Once packets were seen to overtake each other, reports wait a little."""
        world = World()
        client, ours, server, theirs = connected_pair(
            world, congestion_control="fixed", fixed_rate=900.0
        )
        world.run(seconds=0.1)
        world.link.jitter = 0.004
        client.write(ours, bytes(1456 * 400))
        world.run(seconds=0.2)
        self.assertGreater(theirs.statistics.packets_lost, 20)
        self.assertLess(len(server.packets(Nak)), 6)

    # [udt:expiration]
    def test_lost_tail_with_traffic_the_other_way(self) -> None:
        """A lost last packet is repeated although the peer keeps on sending."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=0.1)
        world.link.lose = lambda source, packet: (
            isinstance(packet, DataPacket) and source == client.address
        )
        client.write(ours, b"tail")
        world.run(seconds=0.05)
        world.link.lose = None
        for _ in range(20):
            server.write(theirs, b"x")
            world.run(seconds=0.05)
        self.assertEqual(bytes(server.received[theirs]), b"tail")

    # [udt:expiration]
    def test_dead_peer_is_not_flooded(self) -> None:
        """After a first vain repetition only a few packets are tried."""
        world = World()
        client, ours, server, _ = connected_pair(world, **FAST)
        client.write(ours, bytes(3_000_000))
        world.run(seconds=0.05)
        del world.ports[server.address]
        world.run(lambda: bool(client.of(ConnectionClosed)))
        self.assertLess(ours.statistics.packets_retransmitted, 2100 + 20 * 16)

    # [udt:poke]
    def test_poke(self) -> None:
        """After a burst without an answer a keep-alive prompts the peer."""
        world = World()
        client, ours, _, _ = connected_pair(world)
        world.run(seconds=0.1)
        world.link.delay = 0.05
        client.sent.clear()
        client.write(ours, bytes(1456))
        world.run(seconds=0.04)
        kinds = [type(decode(data)) for _, data in client.sent]
        self.assertEqual(kinds, [DataPacket, KeepAlive])

    # [udt:keep-alive]
    def test_keep_alive(self) -> None:
        """An idle connection gives a sign of life in each interval."""
        world = World()
        client, _, _, _ = connected_pair(world, keep_alive_interval=2.0)
        world.run(seconds=21.0)
        self.assertIn(len(client.packets(KeepAlive)), (9, 10, 11))

    def test_keep_alive_as_the_library(self) -> None:
        """Without an interval the expiration timer alternates both sides' signs."""
        world = World()
        client, _, server, _ = connected_pair(world, keep_alive_interval=None)
        world.run(seconds=10.0)
        number = len(client.packets(KeepAlive)) + len(server.packets(KeepAlive))
        self.assertIn(number, range(20, 40))

    # [udt:packet-pairs]
    def test_packet_pairs(self) -> None:
        """The packet after one numbered 16k leaves with it."""
        world = World()
        client, ours, _, _ = connected_pair(
            world, congestion_control="fixed", fixed_rate=100.0
        )
        client.write(ours, bytes(1456 * 80))
        world.run(seconds=2.0)
        at = {p.sequence: t for t, p in self.data_of(client)}
        pairs = [number for number in at if number % 16 == 0 and number + 1 in at]
        self.assertTrue(pairs)
        for number in pairs:
            self.assertEqual(at[number], at[number + 1])

    def data_of(self, port: Port) -> list[tuple[float, DataPacket]]:
        decoded = [(at, decode(data)) for at, data in port.sent]
        return [(at, p) for at, p in decoded if isinstance(p, DataPacket)]

    def test_maximum_bandwidth(self) -> None:
        """A configured upper rate is kept to."""
        world = World()
        client, ours, server, theirs = connected_pair(
            world, maximum_bandwidth=150_000.0
        )
        client.write(ours, bytes(300_000))
        started = world.now
        world.run(lambda: len(server.received.get(theirs, b"")) == 300_000)
        self.assertGreater(world.now - started, 1.8)

    def test_data_event(self) -> None:
        """There is one event until the program reads."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        server.reads = False
        for _ in range(5):
            client.write(ours, b"abc")
            world.run(seconds=0.1)
        self.assertEqual(len(server.of(DataAvailable)), 1)
        self.assertEqual(theirs.read(2), b"ab")
        client.write(ours, b"abc")
        world.run(seconds=0.1)
        self.assertEqual(len(server.of(DataAvailable)), 2)
        self.assertEqual(theirs.readable_bytes, 16)
