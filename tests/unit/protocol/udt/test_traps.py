"""Where the reference library is not what one expects (docs/protocol/udt).

Each test is of something that an implementation from the draft would do otherwise, or
that costs a connection with the library when it is done otherwise.
"""

from __future__ import annotations

import itertools
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import CloseReason, ConnectionClosed, State
from dwcloud.protocol.udt.handshake import Handshake, decode_peer_ip
from dwcloud.protocol.udt.packets import (
    Ack,
    Ack2,
    CongestionWarning,
    DataPacket,
    ErrorSignal,
    HandshakePacket,
    KeepAlive,
    Nak,
    Packet,
    Shutdown,
    decode,
)
from dwcloud.protocol.udt.send_buffer import SendBuffer
from dwcloud.protocol.udt.sequence import SequenceSpace
from tests.unit.protocol.udt.simulation import Port, World, connected_pair

FAST = {"congestion_control": "fixed", "fixed_rate": 20_000.0}


def handshakes(port: Port) -> list[Handshake]:
    """Return the handshakes that a port has sent."""
    return [packet.handshake for packet in port.packets(HandshakePacket)]


class FormTests(SynchronousTestCase):
    """Numbers and bodies."""

    def test_types_without_body(self) -> None:
        """They carry four zero bytes, which the draft does not know.
        [udt:packet-format]"""
        for packet in (
            KeepAlive(destination_id=1),
            CongestionWarning(destination_id=1),
            Shutdown(destination_id=1),
            Ack2(destination_id=1, ack_number=5),
            ErrorSignal(destination_id=1, error_code=4000),
        ):
            self.assertEqual(packet.encode()[16:], bytes(4))

    def test_address_of_the_receiver(self) -> None:
        """A handshake tells its receiver the address that it is seen with.
        [udt:peer-ip]"""
        client, _, server, _ = connected_pair(World())
        for port, peer in ((client, server), (server, client)):
            self.assertEqual(
                decode_peer_ip(handshakes(port)[-1].peer_ip), peer.address[0]
            )

    def test_socket_ids(self) -> None:
        """The library's multiplexer drops what names an id with bit 31 set.
        [udt:multiplexer]"""
        port = World().port(1)
        port.multiplexer._random_bytes = lambda size: b"\xff" * size
        nobody = World().port(2)
        self.assertEqual(port.connect(nobody).socket_id, (1 << 30) - 1)

    def test_message_numbers(self) -> None:
        """They stay below 2^26, above which SRT has flags. [udt:message-word]"""
        buffer = SendBuffer(SequenceSpace(0), 10, destination_id=1)
        buffer._message_number = (1 << 26) - 2
        numbers = []
        for index in range(3):
            buffer.append(b"x")
            batch = buffer.make_batch(index, 1, 0)
            packet = decode(bytes(batch.wire))
            assert isinstance(packet, DataPacket)
            numbers.append(packet.message_number)
        self.assertEqual(numbers, [(1 << 26) - 1, 1, 2])


class ListenerTests(SynchronousTestCase):
    """What a listener takes for a client."""

    def setUp(self) -> None:
        self.world = World()
        self.client, self.server = self.world.port(1), self.world.port(2)
        self.server.multiplexer.listen()
        self.client.connect(self.server)
        self.world.run(self.server.is_up)
        self.conclusion = handshakes(self.client)[-1]
        self.server.sent.clear()

    def conclude(self, **changes: int) -> None:
        handshake = attrs.evolve(self.conclusion, **changes)
        packet = HandshakePacket(destination_id=0, handshake=handshake)
        self.server.inject(packet.encode(), self.client)

    def test_other_types(self) -> None:
        """Only -1 with a cookie makes a connection; for the library any type does.
        [udt:handshake]"""
        for request_type in (0, -2, -3, 2, 1002):
            self.conclude(socket_id=77, request_type=request_type)
        self.assertEqual(len(self.server.multiplexer.connections), 1)
        self.conclude(socket_id=77)
        self.assertEqual(len(self.server.multiplexer.connections), 2)

    def test_other_first_number(self) -> None:
        """The same id with another first number is another connection.
        [udt:repeated-conclusion]"""
        self.conclude()
        self.assertEqual(len(self.server.multiplexer.connections), 1)
        number = self.conclusion.initial_sequence ^ 1
        self.conclude(initial_sequence=number)
        self.assertEqual(len(self.server.multiplexer.connections), 2)
        self.assertEqual(handshakes(self.server)[-1].initial_sequence, number)

    def test_wrong_cookie(self) -> None:
        """A wrong cookie is met with a right one, whatever else is wrong.
        [udt:stateless]"""
        for changes in ({}, {"version": 5}, {"socket_type": 2}):
            self.conclude(socket_id=77, cookie=1, **changes)
        self.assertEqual([h.request_type for h in handshakes(self.server)], [1, 1, 1])
        self.assertEqual(len(self.server.multiplexer.connections), 1)

    def test_wrong_terms(self) -> None:
        """Another version or type, or an impossible size, brings 1002.
        [udt:rejection]"""
        for changes in (
            {"version": 5},
            {"socket_type": 2},
            {"maximum_packet_size": 20},
        ):
            self.conclude(socket_id=77, **changes)
            self.assertEqual(handshakes(self.server)[-1].request_type, 1002)
        self.assertEqual(len(self.server.multiplexer.connections), 1)

    def test_long_handshake(self) -> None:
        """47 bytes are ignored, of 52 the first 48 count. [udt:handshake]"""
        request = attrs.evolve(self.conclusion, request_type=1, cookie=0, socket_id=9)
        packet = HandshakePacket(destination_id=0, handshake=request).encode()
        self.server.inject(packet[:-1], self.client)
        self.assertEqual(self.server.sent, [])
        self.server.inject(packet + bytes(4), self.client)
        self.assertEqual(handshakes(self.server)[-1].socket_id, 9)


class ClientTests(SynchronousTestCase):
    """What a client makes of the library's answers."""

    def test_response_without_version(self) -> None:
        """A repeated response of the library has version and type 0.
        [udt:handshake]"""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        held: list[Handshake] = []

        def lose(source: object, packet: Packet) -> bool:
            if source == server.address and isinstance(packet, HandshakePacket):
                held.append(packet.handshake)
                return packet.handshake.request_type == -1
            return False

        world.link.lose = lose
        ours = client.connect(server)
        world.run(server.is_up)
        response = attrs.evolve(held[-1], version=0, socket_type=0, cookie=0)
        packet = HandshakePacket(destination_id=ours.socket_id, handshake=response)
        client.inject(packet.encode(), server)
        self.assertIs(ours.state, State.CONNECTED)
        client.inject(packet.encode(), server)
        self.assertIs(ours.state, State.CONNECTED)

    def test_shutdown_before_it_is_up(self) -> None:
        """An attempt that the peer gave up is not the end of ours. [udt:rendezvous]"""
        world = World()
        first, second = world.port(1), world.port(2)
        ours = first.rendezvous(second)
        first.inject(Shutdown(destination_id=ours.socket_id).encode(), second)
        self.assertEqual(first.of(ConnectionClosed), [])
        second.rendezvous(first)
        self.assertTrue(world.run(lambda: first.is_up() and second.is_up(), 5.0))

    def test_client_need_not_wait(self) -> None:
        """What a client sends at once is not lost in the library. [udt:first-data]"""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        ours = client.connect(server)
        ours.write(b"at once", now=world.now)
        world.run(client.is_up)
        self.assertEqual(len(client.packets(DataPacket)), 1)


class RendezvousTests(SynchronousTestCase):
    """What a rendezvous answers when it is up."""

    def setUp(self) -> None:
        self.world = World()
        self.first, self.second = self.world.port(1), self.world.port(2)
        self.imitate_library()
        self.ours = self.first.rendezvous(self.second)
        self.second.rendezvous(self.first)
        self.world.run(lambda: self.first.is_up() and self.second.is_up())
        self.theirs = handshakes(self.second)[-1]
        self.first.sent.clear()

    def imitate_library(self) -> None:
        """Leave out the cookies of the second end's handshakes."""
        send = self.world.send

        def without(source: object, to: object, data: bytes) -> None:
            packet = decode(data)
            if isinstance(packet, HandshakePacket) and source == self.second.address:
                handshake = attrs.evolve(packet.handshake, cookie=0)
                data = attrs.evolve(packet, handshake=handshake).encode()
            send(source, to, data)

        self.patch(self.world, "send", without)

    def receive(self, request_type: int) -> list[int]:
        """Return the types of the handshakes sent for one that is received."""
        handshake = attrs.evolve(self.theirs, request_type=request_type)
        packet = HandshakePacket(
            destination_id=self.ours.socket_id, handshake=handshake
        )
        self.first.sent.clear()
        self.first.inject(packet.encode(), self.second)
        return [handshake.request_type for handshake in handshakes(self.first)]

    def test_answers(self) -> None:
        """0 and -1 are answered by -2, and -2 by nothing. [udt:rendezvous]"""
        self.assertEqual(self.receive(0), [-2])
        self.assertEqual(self.receive(-1), [-2])
        self.assertEqual(self.receive(-2), [])
        self.assertEqual(self.receive(1), [])

    def test_first_data(self) -> None:
        """A keep-alive after 10 ms and data after 20 ms, in a rendezvous too.
        [udt:first-data]"""
        started = self.world.now
        self.first.write(self.ours, b"x")
        self.world.run(seconds=0.1)
        timeline = [(at - started, decode(data)) for at, data in self.first.sent]
        data = min(at for at, packet in timeline if isinstance(packet, DataPacket))
        signs = min(at for at, packet in timeline if isinstance(packet, KeepAlive))
        self.assertGreater(data, 0.009)
        self.assertGreater(data - signs, 0.009)

    def test_packet_sizes(self) -> None:
        """Each sends no more than the other named, and takes up to its own.
        [udt:packet-size]"""
        world = World()
        small = world.port(1, maximum_packet_size=1000, path_mtu_discovery=False)
        large = world.port(2, path_mtu_discovery=False)
        one, two = small.rendezvous(large), large.rendezvous(small)
        world.run(lambda: small.is_up() and large.is_up())
        small.write(one, bytes(5000))
        large.write(two, bytes(5000))
        world.run(seconds=1.0)
        for port in (small, large):
            sizes = [len(packet.payload) for packet in port.packets(DataPacket)]
            self.assertEqual(max(sizes), 956)
        # The library sends what we named, whatever it named itself.
        start = handshakes(small)[-1].initial_sequence + 6
        packet = DataPacket(
            destination_id=two.socket_id,
            sequence=start & 0x7FFFFFFF,
            payload=bytes(1456),
        )
        large.inject(packet.encode(), small)
        self.assertEqual(len(large.received[two]), 5000 + 1456)


class AckTests(SynchronousTestCase):
    """The three forms of ACK, and what they do to windows."""

    def setUp(self) -> None:
        self.world = World()
        pair = connected_pair(self.world, path_mtu_discovery=False, **FAST)
        self.client, self.ours, self.server, self.theirs = pair
        self.world.run(seconds=0.1)
        self.start = handshakes(self.client)[0].initial_sequence
        self.client.sent.clear()
        self.server.sent.clear()

    def ack(self, offset: int, **fields: Any) -> None:
        """Let the client receive an ACK."""
        ack = Ack(
            destination_id=self.ours.socket_id,
            sequence=(self.start + offset) & 0x7FFFFFFF,
            **fields,
        )
        self.client.inject(ack.encode(), self.server)

    def send_unheard(self, packets: int) -> None:
        """Send packets that nobody hears of."""
        self.world.link.lose = lambda source, packet: True
        self.client.write(self.ours, bytes(1456 * packets))
        self.world.run(seconds=0.02)
        self.client.sent.clear()

    def test_numbers(self) -> None:
        """ACKs are numbered from 1, one by one, light ones not at all. [udt:ack]"""
        self.client.write(self.ours, bytes(1456 * 1000))
        self.world.run(seconds=1.0)
        acks = self.server.packets(Ack)
        numbers = [ack.ack_number for ack in acks if not ack.light]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual({ack.ack_number for ack in acks if ack.light}, {0})

    def test_nothing_before_data(self) -> None:
        """Without data there is nothing to acknowledge, then or later. [udt:ack]"""
        self.server.inject(
            KeepAlive(destination_id=self.theirs.socket_id).encode(), self.client
        )
        self.world.run(seconds=2.0)
        self.assertEqual(self.server.packets(Ack), [])

    def test_nothing_new(self) -> None:
        """Packets behind a gap bring no ACKs, as the first one has said it all.
        [udt:ack-repetition]"""
        world = World()
        client, _, server, theirs = connected_pair(world, congestion_control="native")
        world.run(seconds=0.1)
        start = handshakes(client)[0].initial_sequence
        server.sent.clear()
        for offset in (0, *range(2, 30)):
            packet = DataPacket(
                destination_id=theirs.socket_id,
                sequence=(start + offset) & 0x7FFFFFFF,
                payload=b"abc",
            )
            server.inject(packet.encode(), client)
            world.run(seconds=0.008)
        self.assertLess(len(server.packets(Ack)), 5)

    def test_light(self) -> None:
        """A light ACK takes from the window, frees memory only and has no ACK2.
        [udt:window] [udt:light-ack]"""
        self.send_unheard(10)
        window = self.ours.statistics.flow_window_packets
        self.ack(4)
        self.assertEqual(self.ours.statistics.flow_window_packets, window - 4)
        self.assertEqual(self.ours.send_buffer_bytes, 6 * 1456)
        self.assertEqual(self.client.packets(Ack2), [])
        self.ack(10)
        # One packet is kept to ask for the full ACK without which nothing is done.
        self.assertEqual(self.ours.send_buffer_bytes, 1456)

    def test_light_is_followed(self) -> None:
        """After light ACKs comes a full one, without which the library would stop.
        [udt:light-ack]"""
        self.client.write(self.ours, bytes(1456 * 64))
        self.world.run(lambda: bool(self.server.packets(Ack)), 1.0)
        self.assertTrue(self.server.packets(Ack)[0].light)
        self.world.run(seconds=0.02)
        last = self.server.packets(Ack)[-1]
        self.assertFalse(last.light)
        self.assertEqual(last.sequence, (self.start + 64) & 0x7FFFFFFF)

    def test_short_without_number(self) -> None:
        """SRT numbers short ACKs 0; they are confirmed like others. [udt:ack2]"""
        self.send_unheard(4)
        fields = {"rtt_us": 9000, "rtt_variance_us": 1, "available_buffer_packets": 9}
        for _ in range(2):
            self.ack(2, **fields)
        self.assertEqual(
            [ack2.ack_number for ack2 in self.client.packets(Ack2)], [0, 0]
        )
        self.assertEqual(self.ours.statistics.flow_window_packets, 9)
        self.assertEqual(self.ours.send_buffer_bytes, 2 * 1456)

    def test_least_window(self) -> None:
        """A full buffer announces 2, never less. [udt:window]"""
        world = World()
        client, ours, server, _ = connected_pair(
            world, receive_buffer_packets=40, path_mtu_discovery=False, **FAST
        )
        server.reads = False
        client.write(ours, bytes(100_000))
        world.run(seconds=1.0)
        windows = [ack.available_buffer_packets for ack in server.packets(Ack)]
        self.assertEqual(min(w for w in windows if w is not None), 2)

    def test_windows_of_both(self) -> None:
        """Each end keeps to the other's window; the smaller is not for both.
        [udt:window]"""
        world = World()
        client = world.port(1, receive_buffer_packets=101)
        server = world.port(2, receive_buffer_packets=1001)
        server.multiplexer.listen()
        ours = client.connect(server)
        world.run(lambda: client.is_up() and server.is_up())
        self.assertEqual(ours.statistics.flow_window_packets, 1000)
        self.assertEqual(server.accepted[0].statistics.flow_window_packets, 100)

    def test_top_bits(self) -> None:
        """Bit 31 of what should be a number is masked away, in ACKs and reports.
        [udt:loss-list]"""
        self.send_unheard(4)
        header = Ack(destination_id=self.ours.socket_id, sequence=0).encode()[:16]
        number = (self.start + 2) & 0x7FFFFFFF | 1 << 31
        self.client.inject(header + number.to_bytes(4), self.server)
        self.assertEqual(self.ours._sender._acknowledged, 2)
        report = Nak(destination_id=self.ours.socket_id, ranges=()).encode()
        first = (self.start + 2) & 0x7FFFFFFF | 1 << 31
        report += first.to_bytes(4) + (first + 1 & 0xFFFFFFFF).to_bytes(4)
        self.client.inject(report, self.server)
        self.world.run(seconds=0.01)
        again = {packet.sequence for packet in self.client.packets(DataPacket)}
        self.assertEqual(
            again, {(self.start + offset) & 0x7FFFFFFF for offset in (2, 3)}
        )


class ExpirationTests(SynchronousTestCase):
    """Timers of the reference library."""

    def test_back_off(self) -> None:
        """Without an answer the intervals grow by 0.3 s or more each time.
        [udt:expiration]"""
        world = World()
        client, ours, server, _ = connected_pair(
            world, keep_alive_interval=None, congestion_control="native"
        )
        world.run(seconds=5.0)
        client.write(ours, b"once")
        world.run(seconds=0.5)
        del world.ports[server.address]
        client.sent.clear()
        client.write(ours, b"lost")
        heard = ours._liveness.last_received
        world.run(lambda: bool(client.of(ConnectionClosed)), 100.0)
        times = [at for at, data in client.sent if not data[0] & 0x80]
        intervals = [b - a for a, b in itertools.pairwise(times)]
        self.assertGreater(len(intervals), 10)
        for number, interval in enumerate(intervals, 1):
            self.assertApproximates(interval, 0.3 * number, 0.1 + 0.02 * number)
        self.assertIs(client.closed().reason, CloseReason.BROKEN)
        self.assertIn("nothing received", client.closed().detail)
        self.assertApproximates(world.now - heard, 46.0, 0.1)

    def test_all_is_sent_again(self) -> None:
        """The first expiration sends everything in flight again. [udt:expiration]"""
        world = World()
        client, ours, _, _ = connected_pair(world, path_mtu_discovery=False, **FAST)
        world.run(seconds=0.1)
        world.link.lose = lambda source, packet: True
        client.write(ours, bytes(1456 * 40))
        world.run(seconds=0.2)
        self.assertEqual(ours.statistics.packets_retransmitted, 0)
        world.run(seconds=0.25)
        self.assertEqual(ours.statistics.packets_retransmitted, 40)

    def test_lost_report_on_a_short_path(self) -> None:
        """Each report counts against the library's rate: 300 ms at least lie between
        two of one gap, however short the path is. [udt:nak]"""
        world = World()
        client, ours, server, _ = connected_pair(world, **FAST)
        for _ in range(60):
            client.write(ours, b"x")
            world.run(seconds=0.05)
        self.assertLess(ours.statistics.rtt, 0.05)

        def lose(source: object, packet: Packet) -> bool:
            first = isinstance(packet, DataPacket) and packet.sequence % 4 == 0
            return isinstance(packet, Nak) or first

        world.link.lose = lose
        client.write(ours, bytes(1456 * 6))
        world.run(lambda: bool(server.packets(Nak)), 1.0)
        reports = len(server.packets(Nak))
        world.run(seconds=0.28)
        self.assertEqual(len(server.packets(Nak)), reports)
        world.run(seconds=0.1)
        self.assertGreater(len(server.packets(Nak)), reports)

    def test_pace_of_pairs(self) -> None:
        """The second packet of a pair does not count. [udt:packet-pairs]"""
        world = World()
        client, ours, _, _ = connected_pair(
            world, congestion_control="fixed", fixed_rate=1000.0
        )
        client.write(ours, bytes(1456 * 3000))
        world.run(seconds=0.5)
        before = ours.statistics.packets_sent
        world.run(seconds=1.6)
        sent = ours.statistics.packets_sent - before
        self.assertApproximates(sent, 1600 * 17 / 16, 20)

    def test_answer_ends_it(self) -> None:
        """Progress starts the count again. [udt:expiration]"""
        world = World()
        client, ours, server, theirs = connected_pair(
            world, congestion_control="native"
        )
        world.run(seconds=1.0)
        world.link.lose = lambda source, packet: True
        client.write(ours, b"lost")
        world.run(seconds=4.0)
        self.assertGreater(ours._sender.expirations, 3)
        world.link.lose = None
        world.run(seconds=3.0)
        self.assertEqual(bytes(server.received[theirs]), b"lost")
        self.assertEqual(ours._sender.expirations, 1)

    def test_library_is_kept_alive(self) -> None:
        """An idle connection says something well within 40 s. [udt:keep-alive]"""
        world = World()
        client, _, server, _ = connected_pair(world)
        world.run(seconds=300.0)
        for port in (client, server):
            times = [at for at, _ in port.sent] + [world.now]
            gaps = [b - a for a, b in itertools.pairwise(times)]
            self.assertLess(max(gaps), 40.0)
        self.assertEqual(client.of(ConnectionClosed), [])

    def test_window_of_nothing(self) -> None:
        """A window of 0, which nobody announces, does not end the sender.
        [udt:window]"""
        world = World()
        client, ours, server, theirs = connected_pair(world, **FAST)
        world.run(seconds=0.1)
        start = handshakes(client)[0].initial_sequence
        ack = Ack(
            destination_id=ours.socket_id,
            sequence=start,
            ack_number=1,
            rtt_us=1000,
            rtt_variance_us=100,
            available_buffer_packets=0,
        )
        client.inject(ack.encode(), server)
        client.write(ours, bytes(10_000))
        world.run(seconds=5.0)
        self.assertEqual(len(server.received[theirs]), 10_000)


class EndTests(SynchronousTestCase):
    """What a shutdown leaves behind."""

    def test_early_packets(self) -> None:
        """What waits behind a gap is lost with the shutdown. [udt:drain]"""
        world = World()
        _, _, server, theirs = pair = connected_pair(world)
        client = pair[0]
        world.run(seconds=0.1)
        start = handshakes(client)[0].initial_sequence
        server.reads = False
        for offset in (0, 2):
            packet = DataPacket(
                destination_id=theirs.socket_id,
                sequence=(start + offset) & 0x7FFFFFFF,
                payload=b"abc",
            )
            server.inject(packet.encode(), client)
        shutdown = Shutdown(destination_id=theirs.socket_id).encode()
        server.inject(shutdown, client)
        missing = DataPacket(
            destination_id=theirs.socket_id,
            sequence=(start + 1) & 0x7FFFFFFF,
            payload=b"late",
        )
        server.inject(missing.encode(), client)
        self.assertFalse(theirs._receiver.buffer.has_early_packets)
        self.assertEqual(theirs.read(), b"abc")

    def test_last_acknowledgement(self) -> None:
        """Who closes acknowledges first what has arrived. [udt:late-acks]"""
        world = World()
        client, ours, server, theirs = connected_pair(world, path_mtu_discovery=False)
        world.run(seconds=0.1)
        server.sent.clear()
        client.write(ours, bytes(1456))
        world.run(lambda: bool(server.received.get(theirs)), 1.0)
        self.assertEqual(server.packets(Ack), [])
        server.close(theirs)
        kinds = [type(decode(data)) for _, data in server.sent]
        self.assertEqual(kinds[-2:], [Ack, Shutdown])
        world.run(seconds=1.0)
        self.assertEqual(client.closed().detail, "")

    def test_shutdown_of_a_rejected_client(self) -> None:
        """The library's client, rejected, shuts its own id down; nobody answers.
        [udt:rejection]"""
        world = World()
        client, server = world.port(1), world.port(2)
        server.multiplexer.listen()
        server.inject(Shutdown(destination_id=4711).encode(), client)
        self.assertEqual(server.sent, [])
        self.assertEqual(server.events, [])
