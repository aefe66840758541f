"""Tests of how connections come up between simulated ports."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt import (
    CloseReason,
    Connected,
    ConnectionClosed,
    IncomingConnection,
    State,
)
from dwcloud.protocol.udt.multiplexer import Address
from dwcloud.protocol.udt.packets import (
    DataPacket,
    HandshakePacket,
    KeepAlive,
    Packet,
    decode,
)
from tests.unit.protocol.udt.simulation import (
    Link,
    Port,
    World,
    connected_pair,
    is_handshake,
)


class HandshakeTests(SynchronousTestCase):
    """How connections come up."""

    # [udt:handshake]
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

    # [udt:rendezvous]
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

    def test_unheard_rendezvous(self) -> None:
        """To who does not answer go few handshakes, less than asked for them."""
        world = World()
        first, nobody = world.port(1), world.port(2)
        del world.ports[nobody.address]
        first.rendezvous(nobody)
        world.run(seconds=15.0)
        self.assertEqual(len(first.packets(HandshakePacket)), 9)

    def test_answers_from_elsewhere(self) -> None:
        """Packets of an alias are taken for those of the address that it stands for."""
        for known in (True, False):
            with self.subTest(known=known):
                self.answer_from_elsewhere(known)

    def answer_from_elsewhere(self, known: bool) -> None:
        """Let what one end sends come from another port than it is sent to."""
        world = World()
        first, second = world.port(1), world.port(2)
        alias, send = (second.address[0], 9), world.send

        def translate(source: Address, to: Address, data: bytes) -> None:
            send(alias if source == second.address else source, to, data)

        self.patch(world, "send", translate)
        if known:
            first.multiplexer.add_alias(alias, second.address)
        first.rendezvous(second)
        second.rendezvous(first)
        world.run(seconds=3.0)
        self.assertEqual([first.is_up(), second.is_up()], [known, known])

    def test_aliases_are_bounded(self) -> None:
        """The oldest alias goes when there are too many."""
        multiplexer = World().port(1).multiplexer
        sources = [("192.0.2.9", number) for number in range(1, 301)]
        for source in sources:
            multiplexer.add_alias(source, ("192.0.2.8", 1))
        known = [multiplexer.known_as(source) == source for source in sources]
        self.assertEqual(known, [True] * 44 + [False] * 256)

    # [udt:one-rendezvous]
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
        # 12 of the client; the rendezvous, of which nothing was heard, asks 4 times
        # in the first second, and then ever less often.
        self.assertEqual(len(port.packets(HandshakePacket)), 18)
        world.run(lambda: meeting.state is State.CLOSED)
        self.assertApproximates(world.now - started, 30.0, 0.01)
        reasons = [e.reason for e in port.of(ConnectionClosed)]
        self.assertEqual(reasons, [CloseReason.TIMED_OUT] * 2)

    # [udt:rejection]
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

    # [udt:backlog]
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

    # [udt:repeated-conclusion]
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

    # [udt:first-data]
    # [udt:response-first]
    def test_acceptor_waits(self) -> None:
        """An acceptor sends its response, a keep-alive, and data after 20 ms."""
        world = World()
        client, server = world.port(1, path_mtu_discovery=False), world.port(2)
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

    # [udt:early-packets]
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

    # [udt:rendezvous]
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
