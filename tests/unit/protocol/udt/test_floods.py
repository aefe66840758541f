"""Tests of floods: memory and answers stay bounded, and the connection lives.

Also a short run of the fuzz target, see ``tests/fuzz/udt.py``.
"""

from __future__ import annotations

import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import CloseReason, ConnectionClosed, State
from dwcloud.protocol.udt.listener import CHALLENGES_PER_SECOND
from dwcloud.protocol.udt.packets import (
    Ack,
    Ack2,
    DataPacket,
    HandshakePacket,
    KeepAlive,
    Nak,
    Packet,
    Shutdown,
)
from tests.fuzz.udt import (
    feed_connection,
    feed_opening,
    feed_parser,
    make_script,
    mutate,
)
from tests.unit.protocol.udt.simulation import Port, World, connected_pair
from tests.unit.protocol.udt.vectors import all_datagrams

FAST = {"congestion_control": "fixed", "fixed_rate": 5_000.0}


class ConnectionFloodTests(SynchronousTestCase):
    """Floods from who knows address and socket id."""

    def setUp(self) -> None:
        self.world = World()
        pair = connected_pair(self.world, **FAST)
        self.client, self.ours, self.server, self.theirs = pair
        self.world.run(seconds=0.1)
        handshake = self.client.packets(HandshakePacket)[0].handshake
        self.start = handshake.initial_sequence
        self.target = self.theirs.socket_id
        self.server.sent.clear()

    def number(self, offset: int) -> int:
        return (self.start + offset) & 0x7FFFFFFF

    def forge(self, packet: Packet) -> None:
        self.server.inject(packet.encode(), self.client)

    def test_loss_reports(self) -> None:
        """Reports of what is in flight cause no more than the sender's rate.
        [udt:floods]"""
        data = self.world.random.randbytes(100_000)
        self.server.write(self.theirs, data)
        started = self.world.now
        for _ in range(5000):
            sender = self.theirs._sender
            last = self.number(sender._next - 1)
            first = self.number(sender._acknowledged)
            if sender._next > sender._acknowledged:
                self.forge(Nak(destination_id=self.target, ranges=((first, last),)))
            self.world.run(seconds=0.0002)
        seconds = self.world.now - started
        sent = len(self.server.packets(DataPacket))
        self.assertLess(sent, 1.2 * 5000 * seconds + 200)
        self.world.run(seconds=5.0)
        self.assertEqual(bytes(self.client.received[self.ours]), data)

    def test_acknowledgements(self) -> None:
        """Each ACK is answered by one ACK2, which is shorter. [udt:floods]"""
        for number in range(1, 3000):
            ack = Ack(
                destination_id=self.target,
                sequence=self.start,
                ack_number=number,
                rtt_us=1000,
                rtt_variance_us=100,
                available_buffer_packets=100,
            )
            self.forge(ack)
        self.assertEqual(len(self.server.sent), 2999)
        self.assertEqual(len(self.server.packets(Ack2)), 2999)
        self.assertIs(self.theirs.state, State.CONNECTED)

    def test_gaps(self) -> None:
        """Every second packet only: gaps and reports are bounded. [udt:floods]"""
        for offset in range(1, 60_000, 2):
            self.forge(
                DataPacket(
                    destination_id=self.target,
                    sequence=self.number(offset),
                    payload=b"x",
                )
            )
        receiver = self.theirs._receiver
        window = self.server.multiplexer.configuration.receive_buffer_packets
        self.assertLessEqual(len(receiver.losses), window // 2 + 1)
        size = max(len(packet.encode()) for packet in self.server.packets(Nak))
        self.assertLessEqual(size, 1472)
        self.assertIs(self.theirs.state, State.CONNECTED)

    def test_acknowledgements_of_the_future(self) -> None:
        """Who keeps on acknowledging what was never sent is given up, clearly.
        [udt:offences]"""
        for _ in range(200):
            self.forge(Ack(destination_id=self.target, sequence=self.number(900)))
        closed = self.server.closed()
        self.assertIs(closed.reason, CloseReason.PROTOCOL_ERROR)
        self.assertIn("never sent", closed.detail)

    def test_spoofed_shutdown(self) -> None:
        """From elsewhere nothing happens; from the peer's address it is the end.
        [udt:rebinding]"""
        shutdown = Shutdown(destination_id=self.target).encode()
        self.server.inject(shutdown, self.world.port(9))
        self.assertIs(self.theirs.state, State.CONNECTED)
        self.server.inject(shutdown, self.client)
        self.assertIs(self.server.closed().reason, CloseReason.PEER_SHUTDOWN)

    def test_rebinding(self) -> None:
        """A peer whose NAT gave it another port is not followed. [udt:rebinding]"""
        self.server.write(self.theirs, b"before")
        self.world.run(seconds=0.5)
        moved = self.world.port(77)
        for packet in (
            KeepAlive(destination_id=self.target),
            DataPacket(
                destination_id=self.target, sequence=self.number(0), payload=b"moved"
            ),
        ):
            self.server.inject(packet.encode(), moved)
        self.assertEqual(self.theirs.peer_address, self.client.address)
        self.assertNotIn(self.theirs, self.server.received)
        self.client.write(self.ours, b"still here")
        self.world.run(seconds=0.5)
        self.assertEqual(bytes(self.server.received[self.theirs]), b"still here")

    def test_handshakes(self) -> None:
        """Handshakes for a live connection get one answer each. [udt:floods]"""
        first = self.client.packets(HandshakePacket)[0]
        for request_type in (1, 0, -1, -2, 1002):
            for _ in range(100):
                handshake = attrs.evolve(first.handshake, request_type=request_type)
                self.forge(
                    HandshakePacket(destination_id=self.target, handshake=handshake)
                )
        self.assertLessEqual(len(self.server.sent), 500)
        self.assertIs(self.theirs.state, State.CONNECTED)
        self.assertEqual(len(self.server.multiplexer.connections), 1)


class ListenerFloodTests(SynchronousTestCase):
    """Floods of handshakes."""

    def setUp(self) -> None:
        self.world = World()
        self.server = self.world.port(2, maximum_connections=20)
        self.server.multiplexer.listen(backlog=50)

    def handshake(self, **changes: int) -> HandshakePacket:
        client = self.world.port(1)
        client.connect(self.server)
        (packet,) = client.packets(HandshakePacket)
        assert isinstance(packet, HandshakePacket)
        return attrs.evolve(packet, handshake=attrs.evolve(packet.handshake, **changes))

    def test_requests(self) -> None:
        """Requests leave nothing behind, and are answered within limits.
        [udt:stateless] [udt:floods]"""
        data = self.handshake().encode()
        multiplexer = self.server.multiplexer
        before = {name: repr(value) for name, value in vars(multiplexer).items()}
        for number in range(2 * CHALLENGES_PER_SECOND):
            address = (f"198.51.{number >> 8 & 255}.{number & 255}", 5)
            multiplexer.receive_datagram(data, address, now=self.world.now)
        answers = multiplexer.datagrams_to_send(now=self.world.now)
        self.assertEqual(len(answers), CHALLENGES_PER_SECOND)
        self.assertEqual({len(answer.payload) for answer in answers}, {len(data)})
        after = {name: repr(value) for name, value in vars(multiplexer).items()}
        self.assertEqual(before, after)

    def conclude(self, port: Port, number: int) -> None:
        """Go through a handshake as one of many clients of one address."""
        packet = self.handshake(socket_id=number + 1, initial_sequence=number)
        port.sent.clear()
        self.server.sent.clear()
        self.server.inject(packet.encode(), port)
        (challenge,) = self.server.packets(HandshakePacket)
        assert isinstance(challenge, HandshakePacket)
        conclusion = attrs.evolve(challenge.handshake, request_type=-1)
        self.server.sent.clear()
        self.server.inject(
            HandshakePacket(destination_id=0, handshake=conclusion).encode(), port
        )

    def test_conclusions(self) -> None:
        """Who has an address and a cookie does not get all memory.
        [udt:bounded-connections]"""
        port = self.world.port(5)
        for number in range(60):
            self.conclude(port, number)
        self.assertEqual(len(self.server.multiplexer.connections), 20)
        (answer,) = self.server.packets(HandshakePacket)
        self.assertEqual(answer.handshake.request_type, 1002)
        self.world.run(seconds=100.0)
        self.assertEqual(self.server.multiplexer.connections, ())
        reasons = {event.reason for event in self.server.of(ConnectionClosed)}
        self.assertEqual(reasons, {CloseReason.BROKEN})

    def test_waiting_client(self) -> None:
        """A client that waits for its response keeps few early packets.
        [udt:early-packets]"""
        client, nobody = self.world.port(1), self.world.port(6)
        connection = client.connect(nobody)
        for number in range(1000):
            packet = DataPacket(
                destination_id=connection.socket_id, sequence=number, payload=bytes(99)
            )
            client.inject(packet.encode(), nobody)
        self.assertLessEqual(len(connection._opening.early), 64)


class FuzzTargetTests(SynchronousTestCase):
    """Some hundred inputs of what ``python -m tests.fuzz.udt`` runs without end."""

    def test_mutations(self) -> None:
        """Mutated packets of captured connections."""
        chance = random.Random(1)
        packets = [data for _, data in all_datagrams()]
        for _ in range(150):
            feed_parser(mutate(chance, chance.choice(packets)))
            script = make_script(chance, packets)
            feed_connection(script)
            feed_opening(script)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        """Anything at all."""
        feed_parser(data)
        feed_connection(data)
        feed_opening(data)
