"""Tests of whole connections across a simulated bottleneck, for each controller."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.packets import (
    PROGRESS_MARK,
    Ack,
    Ack2,
    DataPacket,
    Progress,
    decode,
)
from dwcloud.testing.bottleneck import Bottleneck, jain_index
from dwcloud.testing.flows import TCPModel, UDTFlow
from tests.unit.protocol.udt.simulation import Link, World, connected_pair

PAYLOAD_SHARE = 1456 / 1500


def goodput(
    controller: str,
    rate: float = 20e6,
    round_trip: float = 0.05,
    loss: float = 0.0,
    seconds: float = 8.0,
) -> tuple[float, UDTFlow]:
    """Return the share of the rate that a flow gets in its first seconds, and it."""
    path = Bottleneck(rate=rate, round_trip=round_trip, loss=loss)
    flow = UDTFlow(path, 1, congestion_control=controller)
    path.run(seconds)
    return flow.delivered * 8 / seconds / rate / PAYLOAD_SHARE, flow


def shares(kinds: tuple[str, str], queue: float = 1.0) -> list[float]:
    """Return how two flows share 10 Mbit/s at 50 ms."""
    path = Bottleneck(rate=10e6, round_trip=0.05, queue=queue)
    flows: list[UDTFlow | TCPModel] = []
    for number, kind in enumerate(kinds, 1):
        if kind == "tcp":
            flows.append(TCPModel(path))
        else:
            flows.append(UDTFlow(path, number, congestion_control=kind))
        path.run(2.0)
    path.run(8.0)
    before = [flow.delivered for flow in flows]
    path.run(30.0)
    return [
        (flow.delivered - start) * 8 / 30 / 10e6
        for flow, start in zip(flows, before, strict=True)
    ]


class GoodputTests(SynchronousTestCase):
    """A single flow."""

    def test_clean(self) -> None:
        """Each fills a path without loss."""
        for controller in ("bbr", "cubic"):
            self.assertGreater(goodput(controller)[0], 0.85)
        self.assertGreater(goodput("native")[0], 0.5)

    def test_random_loss(self) -> None:
        """The model-based one is not impressed by random loss."""
        for loss, least in ((0.01, 0.85), (0.05, 0.75)):
            self.assertGreater(goodput("bbr", loss=loss)[0], least, loss)

    def test_beside_the_others(self) -> None:
        """At one percent it is several times faster than the others."""
        model, _ = goodput("bbr", rate=50e6, loss=0.01, seconds=5.0)
        self.assertGreater(model, 0.8)
        for controller in ("cubic", "native"):
            other, _ = goodput(controller, rate=50e6, loss=0.01, seconds=5.0)
            self.assertGreater(model, 3 * other)

    def test_long_path(self) -> None:
        """At 200 ms it fills the path as well."""
        share, _ = goodput("bbr", round_trip=0.2, loss=0.01, seconds=15.0)
        self.assertGreater(share, 0.75)

    def test_few_repetitions(self) -> None:
        """Little more is sent again than was lost."""
        _, flow = goodput("bbr", rate=50e6, loss=0.05, seconds=10.0)
        statistics = flow.connection.statistics
        repeated = statistics.packets_retransmitted / statistics.packets_sent
        self.assertLess(repeated, 0.09)

    def test_short_queue(self) -> None:
        """In the long run the queue is nearly empty."""
        path = Bottleneck(rate=20e6, round_trip=0.05, queue=4.0)
        UDTFlow(path, 1, congestion_control="bbr")
        path.run(5.0)
        waiting = []
        for _ in range(100):
            path.run(0.05)
            waiting.append(path.there.waiting(path.now) / path.there.rate)
        self.assertLess(sum(waiting) / len(waiting), 0.02)


class SharingTests(SynchronousTestCase):
    """Two flows in one queue."""

    def test_with_itself(self) -> None:
        """Two of a kind get about the same."""
        for controller, least in (("bbr", 0.7), ("cubic", 0.9), ("native", 0.9)):
            self.assertGreater(jain_index(shares((controller, controller))), least)

    def test_with_tcp(self) -> None:
        """Neither starves the other where the queue holds a round trip."""
        for controller in ("bbr", "cubic"):
            ours, tcp = shares((controller, "tcp"))
            self.assertGreater(ours, 0.2)
            self.assertGreater(tcp, 0.1)


class RepairTests(SynchronousTestCase):
    """What the ends tell each other about loss."""

    def lose_once(self, indices: set[int], world: World) -> None:
        """Lose the first copies of some data packets."""
        start: list[int] = []
        left = dict.fromkeys(indices, 1)

        def lose(source: object, packet: object) -> bool:
            sequence = getattr(packet, "payload", None) and packet.sequence
            if not sequence:
                return False
            start.append(sequence)
            index = sequence - start[0]
            if left.get(index, 0) > 0:
                left[index] -= 1
                return True
            return False

        world.link.lose = lose

    def test_tail(self) -> None:
        """The last packet of a burst is repaired long before the timer expires."""
        world = World(link=Link(delay=0.02))
        client, ours, server, theirs = connected_pair(world, congestion_control="bbr")
        client.write(ours, bytes(100_000))
        world.run(lambda: not ours.send_buffer_bytes)
        self.lose_once({9}, world)
        began = world.now
        client.write(ours, bytes(14_560))
        world.run(lambda: len(server.received[theirs]) == 114_560)
        self.assertLess(world.now - began, 0.2)

    def test_silence_after_a_light_ack(self) -> None:
        """A peer that is gone after it acknowledged all is probed, now and then."""
        world = World(link=Link(delay=0.001))
        client, ours, server, _ = connected_pair(world, congestion_control="bbr")
        world.link.lose = lambda source, packet: True
        client.write(ours, bytes(20 * 1456))
        newest = client.packets(DataPacket)[-1].sequence
        light = Ack(destination_id=ours.socket_id, sequence=newest + 1 & 0x7FFFFFFF)
        client.inject(light.encode(), server)
        before = len(client.sent)
        world.run(seconds=40.0, steps=20_000)
        self.assertTrue(ours.send_buffer_bytes)
        self.assertLess(len(client.sent) - before, 600)

    def test_marks(self) -> None:
        """Full ACKs tell what came early, to a sender that looks at it."""
        world = World(link=Link(delay=0.02, loss=0.05))
        client, ours, server, _ = connected_pair(world, congestion_control="bbr")
        client.write(ours, bytes(2_000_000))
        world.run(lambda: not ours.send_buffer_bytes)
        self.assertEqual(
            {packet.padding for packet in client.packets(Ack2)}, {PROGRESS_MARK}
        )
        told = [Progress.of(ack) for ack in server.packets(Ack) if not ack.light]
        self.assertTrue(any(each and each.early_packets for each in told))

    def test_no_marks(self) -> None:
        """With the native controller all is as the reference library's."""
        world = World(link=Link(delay=0.02, loss=0.02))
        client, ours, server, _ = connected_pair(world, congestion_control="native")
        client.write(ours, bytes(1_000_000))
        world.run(lambda: not ours.send_buffer_bytes)
        self.assertEqual(
            {packet.padding for packet in client.packets(Ack2)}, {bytes(4)}
        )
        self.assertEqual(
            {Progress.of(ack) for ack in server.packets(Ack)},
            {None},
        )

    def test_coding(self) -> None:
        """The words behind a full ACK are found again, and no others."""
        progress = Progress(newest=70, early_packets=3)
        ack = Ack(
            destination_id=1,
            sequence=60,
            rtt_us=1,
            rtt_variance_us=1,
            available_buffer_packets=1,
            packet_arrival_speed=1,
            estimated_link_capacity=1,
            trailing=progress.encode(),
        )
        decoded = decode(ack.encode())
        assert isinstance(decoded, Ack)
        self.assertEqual(Progress.of(decoded), progress)
        for trailing in (b"", bytes(4), bytes(12), progress.encode() + b"0"):
            other = Ack(destination_id=1, sequence=60, trailing=trailing)
            self.assertIsNone(Progress.of(other))


class MemoryTests(SynchronousTestCase):
    """Buffers with the default settings."""

    def test_slow_reader(self) -> None:
        """What is not read closes the window long before the receive buffer is full."""
        world = World(link=Link(delay=0.005, rate=5e6))
        client, ours, server, theirs = connected_pair(
            world, congestion_control="bbr", unread_limit_packets=500
        )
        server.reads = False
        client.write(ours, bytes(8_000_000))
        world.run(seconds=5.0)
        self.assertLess(theirs.readable_bytes, 1300 * 1456)
        self.assertGreater(theirs.readable_bytes, 400 * 1456)

    def test_little_waits_unsent(self) -> None:
        """A program that heeds the limit has little unsent, however slow the path."""
        path = Bottleneck(rate=5e6, round_trip=0.1)
        flow = UDTFlow(path, 1)
        path.run(10.0)
        connection = flow.connection
        self.assertLess(connection.send_buffer_bytes, 2_000_000)
