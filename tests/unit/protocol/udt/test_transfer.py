"""Tests of streams between two simulated ports."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import (
    CloseReason,
)
from dwcloud.protocol.udt.packets import (
    DataPacket,
)
from tests.unit.protocol.udt.simulation import (
    Link,
    World,
    connected_pair,
)

FAST = {"congestion_control": "fixed", "fixed_rate": 20_000.0}


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


class TransferTests(SynchronousTestCase):
    """Every byte once and in order, whatever the link does."""

    def transfer(self, world: World, size: int, **settings: object) -> float:
        """Send so much both ways; return how long it took."""
        client, ours, server, theirs = connected_pair(world, **settings)
        started = world.now
        up, down = world.random.randbytes(size), world.random.randbytes(size)
        client.write(ours, up)
        server.write(theirs, down)
        client.received[ours] = server.received[theirs] = bytearray()
        client.received[ours] = bytearray()

        def complete() -> bool:
            return (
                len(server.received[theirs]) >= size
                and len(client.received[ours]) >= size
            )

        self.assertTrue(world.run(complete, 600.0), server.received.keys())
        seconds = world.now - started
        self.assertEqual(sha256(server.received[theirs]), sha256(up))
        self.assertEqual(sha256(client.received[ours]), sha256(down))
        client.close(ours)
        world.run(seconds=5.0)
        self.assertIs(client.closed().reason, CloseReason.LOCAL)
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)
        self.assertEqual(client.multiplexer.connections, ())
        self.assertEqual(server.multiplexer.connections, ())
        self.assertIsNone(client.multiplexer.next_timer())
        return seconds

    def test_clean(self) -> None:
        """A quiet link carries a megabyte in a few round trips."""
        self.assertLess(self.transfer(World(), 1_000_000), 0.5)

    def test_loss(self) -> None:
        """One packet in twenty is lost."""
        self.transfer(World(link=Link(loss=0.05)), 300_000)

    def test_loss_at_a_fixed_rate(self) -> None:
        """Lost packets are repeated without much delay."""
        seconds = self.transfer(World(link=Link(loss=0.05)), 1_000_000, **FAST)
        self.assertLess(seconds, 3.0)

    def test_reordering_and_duplication(self) -> None:
        """Packets overtake each other and come twice."""
        link = Link(jitter=0.02, duplication=0.1)
        self.transfer(World(link=link), 300_000, **FAST)

    def test_narrow_link(self) -> None:
        """A slow link with a short queue drops what is too much."""
        link = Link(rate=1_000_000.0, queue=60_000)
        self.transfer(World(link=link), 400_000)

    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 1 << 30),
        loss=st.floats(0, 0.2),
        jitter=st.floats(0, 0.05),
        duplication=st.floats(0, 0.2),
        control=st.sampled_from(["native", "fixed"]),
        packet_size=st.sampled_from([76, 500, 1500]),
    )
    # [udt:stream]
    def test_any_link(
        self,
        seed: int,
        loss: float,
        jitter: float,
        duplication: float,
        control: str,
        packet_size: int,
    ) -> None:
        """Any link that lets some packets through carries the stream."""
        link = Link(loss=loss, jitter=jitter, duplication=duplication)
        self.transfer(
            World(seed, link),
            20_000,
            congestion_control=control,
            fixed_rate=5000.0,
            connect_timeout=60.0,
            maximum_packet_size=packet_size,
        )

    def test_same_seed_same_run(self) -> None:
        """The same seed gives the same packets at the same times."""

        def run() -> list[tuple[float, bytes]]:
            world = World(5, Link(loss=0.1, jitter=0.01))
            client, ours, _, _ = connected_pair(world)
            client.write(ours, world.random.randbytes(30_000))
            world.run(seconds=10.0)
            return client.sent

        self.assertEqual(run(), run())

    # [udt:sequence-wrap]
    def test_sequence_wrap(self) -> None:
        """Sequence numbers wrap from 2^31-1 to 0 in the middle of the stream."""
        world = World(link=Link(loss=0.02))
        client, server = world.port(1, **FAST), world.port(2, **FAST)
        initial = (1 << 31) - 301
        numbers = iter([(77).to_bytes(4), initial.to_bytes(4)])
        client.multiplexer._random_bytes = lambda size: next(numbers, bytes(size))
        server.multiplexer.listen()
        ours = client.connect(server)
        self.assertTrue(world.run(server.is_up))
        data = world.random.randbytes(1_000_000)
        client.write(ours, data)
        server.write(server.accepted[0], data)
        world.run(lambda: len(client.received.get(ours, b"")) == len(data))
        world.run(
            lambda: len(server.received.get(server.accepted[0], b"")) == len(data)
        )
        self.assertEqual(sha256(client.received[ours]), sha256(data))
        self.assertEqual(sha256(server.received[server.accepted[0]]), sha256(data))
        numbers_sent = {p.sequence for p in client.packets(DataPacket)}
        self.assertLessEqual({initial, (1 << 31) - 1, 0, 1}, numbers_sent)

    def test_timestamp_wrap(self) -> None:
        """After 71.6 minutes timestamps start again from 0 and nothing else happens."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=4294.0 - (world.now - 1000.0))
        for _ in range(5):
            client.write(ours, b"x")
            world.run(seconds=1.0)
        stamps = [p.timestamp for p in client.packets(DataPacket)]
        self.assertGreater(max(stamps), 1 << 31)
        self.assertLess(stamps[-1], 10_000_000)
        self.assertEqual(bytes(server.received[theirs]), b"xxxxx")

    def test_joined_datagrams(self) -> None:
        """Datagrams that the kernel joined are taken in one pass, with gaps."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=0.1)
        data = world.random.randbytes(100_000)
        ours.write(data, now=world.now)
        transmits = client.multiplexer.datagrams_to_send(now=world.now)
        self.assertGreater(max(len(t.payload) for t in transmits), 20_000)
        for transmit in transmits:
            size = transmit.segment_size or len(transmit.payload)
            whole = memoryview(transmit.payload)
            for part in (whole[: 3 * size], whole[5 * size :]):
                server.multiplexer.receive_datagrams(
                    part, size, client.address, now=world.now
                )
        server.flush()
        client.flush()
        world.run(lambda: len(server.received.get(theirs, b"")) == len(data))
        self.assertEqual(sha256(server.received[theirs]), sha256(data))

    def test_joined_datagrams_of_two_connections(self) -> None:
        """Joined datagrams may be for different sockets."""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        first, second = client.connect(server), client.connect(server)
        world.run(lambda: len(server.accepted) == len(client.events) == 2)
        world.run(seconds=0.1)
        for connection, letter in ((first, b"a"), (second, b"b")):
            connection.write(letter * 1456, now=world.now)
        transmits = client.multiplexer.datagrams_to_send(now=world.now)
        packets = [t.payload for t in transmits if len(t.payload) == 1472]
        joined = b"".join(packets) + b"tail"
        server.multiplexer.receive_datagrams(
            joined, 1472, client.address, now=world.now
        )
        server.flush()
        received = sorted(bytes(data) for data in server.received.values())
        self.assertEqual(received, [b"a" * 1456, b"b" * 1456])


class ManyTests(SynchronousTestCase):
    """Many connections on one port."""

    # [udt:multiplexer]
    def test_many(self) -> None:
        """Each of many connections carries its own stream."""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen(backlog=500)
        connections = [client.connect(server) for _ in range(100)]
        world.run(lambda: len(server.accepted) == 100)
        for number, connection in enumerate(connections):
            client.write(connection, b"%d" % number)
        world.run(seconds=1.0)
        received = {bytes(server.received[c]) for c in server.accepted}
        self.assertEqual(received, {b"%d" % number for number in range(100)})
        for connection in connections:
            client.close(connection)
        world.run(seconds=2.0)
        self.assertEqual(client.multiplexer.connections, ())
        self.assertEqual(server.multiplexer.connections, ())
        self.assertEqual(server.multiplexer._by_peer, {})
        self.assertEqual(server.multiplexer._timer_of, {})
