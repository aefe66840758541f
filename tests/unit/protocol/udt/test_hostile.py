"""Tests of malformed and forged input (docs/protocol/udt)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import CloseReason, Configuration, Multiplexer, State
from dwcloud.protocol.udt.packets import (
    HEADER,
    Ack,
    Ack2,
    CongestionWarning,
    DataPacket,
    ErrorSignal,
    HandshakePacket,
    KeepAlive,
    MessageDropRequest,
    Nak,
    Packet,
    Shutdown,
    UserControl,
)
from tests.unit.protocol.udt.simulation import Port, World, connected_pair
from tests.unit.protocol.udt.vectors import all_datagrams


class LiveConnectionTests(SynchronousTestCase):
    """What a live connection makes of nonsense."""

    def setUp(self) -> None:
        self.world = World()
        pair = connected_pair(self.world)
        self.client, self.ours, self.server, self.theirs = pair
        self.client.write(self.ours, b"hello")
        self.world.run(seconds=0.5)
        self.start = self.client.packets(HandshakePacket)[0].handshake.initial_sequence
        self.server.sent.clear()
        self.client.sent.clear()

    def forge(self, packet: Packet, port: Port | None = None) -> None:
        """Let the server receive a packet as from the client."""
        self.server.inject(packet.encode(), port or self.client)

    def assert_alive(self) -> None:
        """Both directions still work."""
        self.client.write(self.ours, b" there")
        self.server.write(self.theirs, b"yes")
        self.world.run(seconds=2.0)
        self.assertEqual(bytes(self.server.received[self.theirs]), b"hello there")
        self.assertEqual(bytes(self.client.received[self.ours]), b"yes")

    @property
    def target(self) -> int:
        return self.theirs.socket_id

    # [udt:rebinding]
    def test_wrong_source(self) -> None:
        """Packets from another address are ignored, shutdown too."""
        stranger = self.world.port(9)
        ignored = self.server.multiplexer.datagrams_ignored
        self.forge(Shutdown(destination_id=self.target), stranger)
        self.assertEqual(self.server.multiplexer.datagrams_ignored, ignored + 1)
        self.assertEqual(self.server.sent, [])
        self.assert_alive()

    def test_unknown_destination(self) -> None:
        """Nothing is sent back to who names an unknown socket."""
        for destination in (1, 1 << 31, 0xFFFFFFFF):
            self.forge(KeepAlive(destination_id=destination))
        self.assertEqual(self.server.sent, [])
        self.assert_alive()

    def test_ack_of_the_future(self) -> None:
        """ACKs beyond what was sent are dropped, short and light ones."""
        for _ in range(20):
            self.forge(
                Ack(
                    destination_id=self.target,
                    sequence=self.start + 1000,
                    ack_number=3,
                    rtt_us=1,
                    rtt_variance_us=1,
                    available_buffer_packets=5,
                )
            )
            self.forge(Ack(destination_id=self.target, sequence=self.start + 1000))
        self.assertEqual(self.server.packets(Ack2), [])
        self.assert_alive()

    # [udt:offences]
    def test_repeated_offences(self) -> None:
        """A peer that keeps on acknowledging the future is given up."""
        for _ in range(200):
            self.forge(Ack(destination_id=self.target, sequence=self.start + 1000))
        closed = self.server.closed()
        self.assertIs(closed.reason, CloseReason.PROTOCOL_ERROR)

    # [udt:loss-list]
    def test_bad_reports(self) -> None:
        """Reports of packets never sent, or backwards, are dropped whole."""
        for ranges in (
            ((self.start + 100, self.start + 200),),
            ((self.start + 3, self.start),),
            ((self.start, self.start + (1 << 29)),),
            ((0, 0), (1, (1 << 31) - 1)),
        ):
            self.forge(Nak(destination_id=self.target, ranges=ranges))
        self.assertEqual(self.server.packets(DataPacket), [])
        self.assert_alive()

    def test_old_reports(self) -> None:
        """A report of what has been acknowledged is of no consequence."""
        self.server.write(self.theirs, b"")
        ranges = ((self.start, self.start),)
        self.client.inject(
            Nak(destination_id=self.ours.socket_id, ranges=ranges).encode(), self.server
        )
        self.assertEqual(self.client.packets(DataPacket), [])
        self.assert_alive()

    def test_data_far_ahead(self) -> None:
        """Data beyond the buffer are dropped without a report."""
        for distance in (40_000, 1 << 29, (1 << 30) + 5):
            self.forge(
                DataPacket(
                    destination_id=self.target,
                    sequence=(self.start + distance) & 0x7FFFFFFF,
                    payload=b"far",
                )
            )
        self.assertEqual(self.server.packets(Nak), [])
        self.assert_alive()

    def test_duplicates(self) -> None:
        """Old data are dropped and acknowledged again, not more than each 10 ms."""
        packet = DataPacket(
            destination_id=self.target, sequence=self.start, payload=b"HELLO"
        )
        for _ in range(50):
            self.forge(packet)
        self.world.run(seconds=0.011)
        self.assertEqual(len(self.server.packets(Ack)), 1)
        self.assert_alive()

    def test_empty_payload(self) -> None:
        """An empty packet takes its place in the sequence."""
        self.forge(
            DataPacket(destination_id=self.target, sequence=self.start + 1, payload=b"")
        )
        self.world.run(seconds=0.1)
        (ack,) = self.server.packets(Ack)
        self.assertEqual(ack.sequence, (self.start + 2) & 0x7FFFFFFF)

    def test_large_payload(self) -> None:
        """A packet above the negotiated size is never cut."""
        self.forge(
            DataPacket(
                destination_id=self.target,
                sequence=self.start + 1,
                payload=bytes(5000),
            )
        )
        self.assertEqual(len(self.server.received[self.theirs]), 5005)

    def test_harmless_packets(self) -> None:
        """What has no meaning for us is a sign of life and no more."""
        for packet in (
            CongestionWarning(destination_id=self.target),
            ErrorSignal(destination_id=self.target, error_code=4000),
            UserControl(destination_id=self.target, body=b"?"),
            UserControl(destination_id=self.target, type=9),
            MessageDropRequest(
                destination_id=self.target, message_number=1, first=9, last=3
            ),
            Ack2(destination_id=self.target, ack_number=99_999),
            KeepAlive(destination_id=self.target, padding=b"abc"),
        ):
            self.forge(packet)
        self.assertEqual(self.server.sent, [])
        self.assert_alive()

    def test_short_bodies(self) -> None:
        """Control packets with too short a body are dropped."""
        for type_ in range(9):
            if type_ == 5:
                continue
            for size in range(4):
                header = HEADER.pack(0x80000000 | type_ << 16, 0, 0, self.target)
                self.server.inject(header + bytes(size), self.client)
        self.assert_alive()

    def test_late_client_handshake(self) -> None:
        """A request on the connection's own id is answered by the response."""
        (request, *_) = [p.handshake for p in self.old_handshakes()]
        self.forge(HandshakePacket(destination_id=self.target, handshake=request))
        (answer,) = self.server.packets(HandshakePacket)
        self.assertEqual(answer.handshake.request_type, -1)
        self.assert_alive()

    def old_handshakes(self) -> list[HandshakePacket]:
        client = self.world.port(8)
        client.connect(self.server)
        return client.packets(HandshakePacket)  # type: ignore[return-value]

    # [udt:ack-order]
    def test_overtaken_ack(self) -> None:
        """An older ACK does not change the window."""
        self.server.write(self.theirs, b"x")
        fields = {
            "destination_id": self.target,
            "sequence": (self.start + 1) & 0x7FFFFFFF,
            "rtt_us": 1000,
            "rtt_variance_us": 100,
        }
        self.forge(Ack(ack_number=9, available_buffer_packets=500, **fields))
        self.forge(Ack(ack_number=8, available_buffer_packets=100, **fields))
        self.assertEqual(self.theirs.statistics.flow_window_packets, 500)
        self.forge(Ack(ack_number=10, available_buffer_packets=200, **fields))
        self.assertEqual(self.theirs.statistics.flow_window_packets, 200)


class FuzzTests(SynchronousTestCase):
    """Any bytes, anywhere."""

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["raw", "data", "control", "request"]),
                st.binary(max_size=90),
                st.integers(0, 8),
                st.integers(-3, 20),
            ),
            max_size=20,
        )
    )
    def test_any_bytes(self, inputs: list[tuple[str, bytes, int, int]]) -> None:
        """Nothing that is received raises, and memory stays bounded."""
        world = World()
        client, _, server, theirs = connected_pair(world)
        server.write(theirs, bytes(3000))
        start = client.packets(HandshakePacket)[0].handshake.initial_sequence
        for kind, body, type_, near in inputs:
            data = body
            number = (start + near) & 0x7FFFFFFF
            if kind == "data":
                data = HEADER.pack(number, 0, 0, theirs.socket_id) + body
            elif kind == "control":
                header = HEADER.pack(
                    0x80000000 | type_ << 16, near & 1, 0, theirs.socket_id
                )
                data = header + number.to_bytes(4) + body
            elif kind == "request":
                data = HEADER.pack(0x80000000, 0, 0, 0) + body
            server.inject(data, client)
            server.multiplexer.receive_datagrams(
                data, max(1, len(data) // 3), client.address, now=world.now
            )
            server.flush()
            world.run(seconds=0.01)
        world.run(seconds=1.0)
        self.assertLessEqual(len(server.multiplexer.connections), 1)

    def test_vectors(self) -> None:
        """All captured packets, in order, at a port that meets and listens."""
        port = Multiplexer(
            configuration=Configuration(),
            random_bytes=lambda size: b"\x07" * size,
            now=0.0,
        )
        address = ("192.0.2.9", 1000)
        port.listen()
        connection = port.rendezvous(address, now=0.0)
        for number, (_, data) in enumerate(all_datagrams()):
            now = number / 100
            port.receive_datagram(data, address, now=now)
            redirected = data[:12] + connection.socket_id.to_bytes(4) + data[16:]
            port.receive_datagram(redirected, address, now=now)
            port.handle_timer(now=now)
            port.datagrams_to_send(now=now)
        self.assertIsNot(connection.state, State.MEETING)

    def test_not_a_handshake_for_nobody(self) -> None:
        """Packets with destination 0 that are no handshakes are ignored."""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        for word in (0, 5, 0x80010000, 0x80000001, 0xFFFF0000):
            server.inject(HEADER.pack(word, 0, 0, 0) + bytes(48), client)
        for size in range(16):
            server.inject(bytes(size), client)
        self.assertEqual(server.sent, [])
        self.assertEqual(server.events, [])
