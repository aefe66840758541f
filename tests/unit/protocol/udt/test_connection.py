"""Tests of connections between two simulated ports."""

from __future__ import annotations

import hashlib
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt import (
    CloseReason,
    Connected,
    ConnectionClosed,
    DataAvailable,
    IncomingConnection,
    SendBufferLow,
    State,
)
from dwcloud.protocol.udt.packets import (
    Ack,
    Ack2,
    DataPacket,
    HandshakePacket,
    KeepAlive,
    Nak,
    Packet,
    Shutdown,
    decode,
)
from dwcloud.protocol.udt.states import TRANSITIONS
from tests.unit.protocol.udt.simulation import (
    Link,
    Port,
    World,
    connected_pair,
    is_handshake,
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


class HandshakeTests(SynchronousTestCase):
    """How connections come up."""

    def test_client(self) -> None:
        """Request, challenge, conclusion, response; the numbers agree."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        self.assertEqual([type(e) for e in client.events], [Connected])
        self.assertEqual([type(e) for e in server.events], [IncomingConnection])
        requests = [p.handshake.request_type for p in client.packets(HandshakePacket)]
        answers = [p.handshake for p in server.packets(HandshakePacket)]
        self.assertEqual(requests, [1, -1])
        self.assertEqual([a.request_type for a in answers], [1, -1])
        self.assertEqual(answers[1].initial_sequence, answers[0].initial_sequence)
        self.assertEqual(ours.peer_address, server.address)
        self.assertEqual(answers[1].socket_id, theirs.socket_id)

    def test_packet_size(self) -> None:
        """The smaller packet size holds for both directions."""
        world = World()
        client = world.port(1, maximum_packet_size=1400)
        server = world.port(2, maximum_packet_size=1200)
        server.multiplexer.listen()
        ours = client.connect(server)
        world.run(server.is_up)
        client.write(ours, bytes(5000))
        server.write(server.accepted[0], bytes(5000))
        world.run(seconds=1.0)
        for port in (client, server):
            self.assertEqual(
                max(len(p.payload) for p in port.packets(DataPacket)), 1156
            )

    def test_half_of_the_handshakes_lost(self) -> None:
        """Whoever starts, half of all handshake packets may be lost."""
        for seed in range(20):
            chance = random.Random(seed)

            def lose(source: object, packet: Packet, chance=chance) -> bool:
                return is_handshake(packet) and chance.random() < 0.5

            for start in (self.start_client, self.start_rendezvous):
                world = World(seed, Link(lose=lose))
                client, server = world.port(1, connect_timeout=30.0), world.port(2)
                start(world, client, server)
                up = world.run(lambda c=client, s=server: c.is_up() and s.is_up(), 30.0)
                self.assertTrue(up, (seed, start))

    def start_client(self, world: World, client: Port, server: Port) -> None:
        server.multiplexer.listen()
        client.connect(server)

    def start_rendezvous(self, world: World, first: Port, second: Port) -> None:
        first.rendezvous(second)
        world.run(seconds=0.6)
        second.rendezvous(first)

    def test_rendezvous(self) -> None:
        """Both are up half a round trip after the second has heard the first."""
        world = World()
        first, second = world.port(1), world.port(2)
        self.start_rendezvous(world, first, second)
        started = world.now
        world.run(lambda: first.is_up() and second.is_up())
        self.assertLess(world.now - started, 0.25)
        ours, theirs = first.events[0].connection, second.events[0].connection
        first.write(ours, b"there")
        second.write(theirs, b"back")
        world.run(seconds=1.0)
        self.assertEqual(bytes(second.received[theirs]), b"there")
        self.assertEqual(bytes(first.received[ours]), b"back")
        requests = [p.handshake.request_type for p in first.packets(HandshakePacket)]
        self.assertIn(
            -2,
            requests
            + [p.handshake.request_type for p in second.packets(HandshakePacket)],
        )

    def test_one_rendezvous_per_address(self) -> None:
        """A second one to the same address must wait; to another it need not."""
        world = World()
        first, second, third = world.port(1), world.port(2), world.port(3)
        first.rendezvous(second)
        self.assertRaises(LocalProtocolError, first.rendezvous, second)
        first.rendezvous(third)
        second.rendezvous(first)
        world.run(lambda: bool(first.of(Connected)))
        first.rendezvous(second)

    def test_rendezvous_beside_listener(self) -> None:
        """A listening port can meet a peer, and a peer can connect meanwhile."""
        world = World()
        first, second, third = world.port(1), world.port(2), world.port(3)
        first.multiplexer.listen()
        first.rendezvous(second)
        second.rendezvous(first)
        ours = third.connect(first)
        world.run(lambda: len(first.events) == 2 and third.is_up())
        self.assertEqual(len(first.of(Connected)), 1)
        self.assertEqual(len(first.accepted), 1)
        self.assertIs(ours.state, State.CONNECTED)

    def test_connect_through_the_same_hole(self) -> None:
        """After a rendezvous, further connections use the same pair of ports."""
        world = World()
        first, second = world.port(1), world.port(2)
        first.rendezvous(second)
        second.rendezvous(first)
        world.run(lambda: first.is_up() and second.is_up())
        first.multiplexer.listen()
        further = [second.connect(first) for _ in range(3)]
        world.run(lambda: len(first.accepted) == 3)
        for number, connection in enumerate(further):
            second.write(connection, b"%d" % number)
        world.run(seconds=1.0)
        received = sorted(bytes(first.received[c]) for c in first.accepted)
        self.assertEqual(received, [b"0", b"1", b"2"])

    def test_timeouts(self) -> None:
        """Without an answer a client gives up after 3 s, a rendezvous after 30 s."""
        world = World()
        port, nobody = world.port(1), world.port(2)
        del world.ports[nobody.address]
        client, meeting = port.connect(nobody), port.rendezvous(nobody)
        started = world.now
        world.run(lambda: client.state is State.CLOSED)
        self.assertApproximates(world.now - started, 3.0, 0.01)
        self.assertEqual(len(port.packets(HandshakePacket)), 25)
        world.run(lambda: meeting.state is State.CLOSED)
        self.assertApproximates(world.now - started, 30.0, 0.01)
        reasons = [e.reason for e in port.of(ConnectionClosed)]
        self.assertEqual(reasons, [CloseReason.TIMED_OUT] * 2)

    def test_rejection(self) -> None:
        """A client of the other socket type is rejected."""
        world = World()
        client, server = world.port(1, socket_type=2), world.port(2)
        server.multiplexer.listen()
        client.connect(server)
        world.run(lambda: bool(client.events))
        self.assertIs(client.closed().reason, CloseReason.REJECTED)
        self.assertEqual(server.events, [])
        self.assertEqual(server.multiplexer.connections, ())

    def test_backlog(self) -> None:
        """Beyond the backlog clients are rejected until events are taken."""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen(backlog=2)
        server.flush = lambda: [
            world.send(server.address, t.address, t.payload)
            for t in server.multiplexer.datagrams_to_send(now=world.now)
        ]
        for _ in range(3):
            client.connect(server)
        world.run(lambda: len(client.events) == 3)
        self.assertEqual(len(client.of(ConnectionClosed)), 1)
        self.assertIsNotNone(server.multiplexer.next_event())
        client.connect(server)
        world.run(lambda: len(client.events) == 4)
        self.assertEqual(len(client.of(Connected)), 3)

    def test_listener_stops(self) -> None:
        """A port that stopped listening answers nobody, its connections stay."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        self.assertRaises(LocalProtocolError, server.multiplexer.listen)
        server.multiplexer.stop_listening()
        second = client.connect(server)
        client.write(ours, b"still")
        world.run(lambda: second.state is State.CLOSED)
        self.assertEqual(bytes(server.received[theirs]), b"still")

    def test_repeated_conclusion(self) -> None:
        """A conclusion that comes twice makes one connection and two responses."""
        world = World(link=Link(duplication=1.0))
        _, _, server, _ = connected_pair(world)
        world.run(seconds=0.005)
        self.assertEqual(len(server.multiplexer.connections), 1)
        ids = {
            p.handshake.socket_id
            for p in server.packets(HandshakePacket)
            if p.handshake.request_type == -1
        }
        self.assertEqual(len(ids), 1)

    def test_acceptor_waits(self) -> None:
        """An acceptor sends its response, a keep-alive, and data after 20 ms."""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        client.connect(server)
        world.run(server.is_up)
        started = world.now
        server.sent.clear()
        server.write(server.accepted[0], b"welcome")
        world.run(seconds=0.05)
        timeline = [(at - started, type(decode(data))) for at, data in server.sent]
        keep_alive = min(at for at, kind in timeline if kind is KeepAlive)
        data = min(at for at, kind in timeline if kind is DataPacket)
        self.assertApproximates(keep_alive, 0.01, 0.0001)
        self.assertApproximates(data, 0.02, 0.0001)
        # Nothing has been heard of the client: the response goes before all else.
        self.assertIs(timeline[0][1], HandshakePacket)

    def test_early_data(self) -> None:
        """Data that overtake the response are kept."""
        world = World()
        client, server = world.port(1), world.port(2, first_data_delay=0.0)
        server.multiplexer.listen()
        held: list[bytes] = []

        def lose(source: object, packet: Packet) -> bool:
            late = isinstance(packet, HandshakePacket) and source == server.address
            if late and packet.handshake.request_type == -1:
                held.append(packet.encode())
                return True
            return False

        world.link.lose = lose
        ours = client.connect(server)
        world.run(server.is_up)
        server.write(server.accepted[0], b"early")
        world.run(seconds=0.02)
        self.assertIs(ours.state, State.CONCLUDING)
        client.inject(held[0], server)
        self.assertEqual(bytes(client.received[ours]), b"early")

    def test_rendezvous_up_by_data(self) -> None:
        """A keep-alive of the peer agrees as well as a handshake."""
        world = World()
        first, second = world.port(1), world.port(2)

        def lose(source: object, packet: Packet) -> bool:
            return (
                isinstance(packet, HandshakePacket)
                and source == second.address
                and packet.handshake.request_type != 0
            )

        world.link.lose = lose
        first.rendezvous(second)
        second.rendezvous(first)
        self.assertTrue(world.run(lambda: first.is_up() and second.is_up(), 1.0))


class EndTests(SynchronousTestCase):
    """How connections end."""

    def test_linger(self) -> None:
        """Nothing that was written before close is lost, on a bad link too."""
        world = World(link=Link(loss=0.1))
        client, ours, server, theirs = connected_pair(world, **FAST)
        data = world.random.randbytes(200_000)
        client.write(ours, data)
        client.close(ours)
        self.assertRaises(LocalProtocolError, ours.write, b"more", now=world.now)
        world.run(lambda: bool(client.of(ConnectionClosed)))
        world.run(seconds=2.0)
        self.assertEqual(sha256(server.received[theirs]), sha256(data))
        self.assertIs(client.closed().reason, CloseReason.LOCAL)
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)

    def test_shutdown_is_repeated(self) -> None:
        """Nobody confirms a shutdown, so it is sent three times."""
        world = World()
        client, ours, server, _ = connected_pair(world)
        client.close(ours)
        world.run(seconds=2.0)
        self.assertEqual(len(client.packets(Shutdown)), 3)
        self.assertEqual(len(server.of(ConnectionClosed)), 1)

    def test_read_before_the_end(self) -> None:
        """What came before the shutdown is read first, however late."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        server.reads = False
        client.write(ours, b"last words")
        client.close(ours)
        world.run(seconds=5.0)
        self.assertIs(theirs.state, State.DRAINING)
        self.assertEqual(server.of(ConnectionClosed), [])
        theirs.write(b"into the void", now=world.now)
        self.assertEqual(theirs.read(4), b"last")
        server.flush()
        self.assertEqual(server.of(ConnectionClosed), [])
        self.assertEqual(theirs.read(), b" words")
        server.flush()
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)
        self.assertEqual(theirs.read(), b"")

    def test_abort(self) -> None:
        """Abort drops what was written; the peer sees a shutdown."""
        world = World()
        client, ours, server, _ = connected_pair(world)
        ours.write(bytes(100_000), now=world.now)
        ours.abort(now=world.now)
        client.flush()
        world.run(seconds=2.0)
        self.assertIs(client.closed().reason, CloseReason.ABORTED)
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)
        self.assertEqual(client.packets(DataPacket), [])
        ours.abort(now=world.now)
        ours.close(now=world.now)

    def test_abandoned(self) -> None:
        """An attempt can be given up; a peer that had answered is told."""
        world = World()
        first, second = world.port(1), world.port(2)
        meeting = first.rendezvous(second)
        first.close(meeting)
        self.assertIs(meeting.state, State.CLOSED)
        self.assertIs(first.closed().reason, CloseReason.LOCAL)
        again = first.rendezvous(second)
        second.rendezvous(first)
        world.run(lambda: again.state is State.AGREEING)
        again.abort(now=world.now)
        first.flush()
        self.assertEqual(len(first.packets(Shutdown)), 1)
        world.run(seconds=1.0)
        self.assertEqual(first.multiplexer.connections, ())

    def test_undelivered(self) -> None:
        """A shutdown before our data were acknowledged is told so, after a second."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=0.1)
        world.link.lose = lambda source, packet: isinstance(packet, DataPacket)
        server.write(theirs, b"lost")
        client.close(ours)
        started = world.now
        world.run(lambda: bool(server.of(ConnectionClosed)))
        self.assertApproximates(world.now - started, 1.0, 0.02)
        self.assertIn("4 bytes", server.closed().detail)

    def test_silence(self) -> None:
        """A peer that falls silent is given up; half-open connections end."""
        world = World()
        client, _, server, theirs = connected_pair(world, silence_limit=20.0)
        world.run(seconds=60.0)
        self.assertIs(theirs.state, State.CONNECTED)
        del world.ports[client.address]
        world.run(lambda: bool(server.of(ConnectionClosed)))
        self.assertIs(server.closed().reason, CloseReason.BROKEN)

    def test_linger_ends(self) -> None:
        """A peer that never reads is waited for as long as configured."""
        world = World()
        client, ours, server, _ = connected_pair(
            world, linger=5.0, receive_buffer_packets=40, **FAST
        )
        server.reads = False
        client.write(ours, bytes(200_000))
        client.close(ours)
        started = world.now
        world.run(lambda: bool(client.of(ConnectionClosed)))
        self.assertApproximates(world.now - started, 5.0, 0.1)
        self.assertIs(client.closed().reason, CloseReason.ABORTED)

    def test_transitions(self) -> None:
        """Every state but the last can be left, and leads to the last."""
        for state, following in TRANSITIONS.items():
            self.assertEqual(bool(following), state is not State.CLOSED)
        reached = {State.CLOSED}
        while True:
            more = {s for s, following in TRANSITIONS.items() if following & reached}
            if more <= reached:
                break
            reached |= more
        self.assertEqual(reached, set(State))
        world = World()
        _, ours, _, _ = connected_pair(world)
        self.assertRaises(AssertionError, ours._enter, State.MEETING, world.now)


class FlowTests(SynchronousTestCase):
    """Windows, acknowledgements, keep-alives."""

    def test_slow_reader(self) -> None:
        """A reader that stops holds the sender; when it reads, all goes on at once."""
        world = World()
        client, ours, server, theirs = connected_pair(
            world, receive_buffer_packets=64, **FAST
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

    def test_acknowledgements(self) -> None:
        """Short packets are acknowledged at once, each ACK is confirmed."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        world.run(seconds=0.1)
        client.write(ours, b"a")
        world.run(seconds=0.006)
        self.assertEqual(len(server.packets(Ack)), 1)
        world.run(seconds=1.0)
        self.assertEqual(len(server.packets(Ack)), 1)
        self.assertEqual(len(client.packets(Ack2)), 1)
        self.assertLess(theirs.statistics.rtt, 0.1)

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

    def test_lost_ack(self) -> None:
        """An ACK without ACK2 is repeated, rarely."""
        world = World()
        client, ours, server, _ = connected_pair(world)
        world.run(seconds=0.1)
        world.link.lose = lambda source, packet: isinstance(packet, Ack2)
        client.write(ours, b"a")
        world.run(seconds=3.0)
        self.assertIn(len(server.packets(Ack)), range(3, 7))

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

    def test_dead_peer_is_not_flooded(self) -> None:
        """After a first vain repetition only a few packets are tried."""
        world = World()
        client, ours, server, _ = connected_pair(world, **FAST)
        client.write(ours, bytes(3_000_000))
        world.run(seconds=0.05)
        del world.ports[server.address]
        world.run(lambda: bool(client.of(ConnectionClosed)))
        self.assertLess(ours.statistics.packets_retransmitted, 2100 + 20 * 16)

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


class ManyTests(SynchronousTestCase):
    """Many connections on one port."""

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
