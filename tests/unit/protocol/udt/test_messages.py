"""Tests of message mode: order, time limits, drop requests, sizes."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt import (
    CloseReason,
    Configuration,
    MessageConnection,
    SocketType,
    State,
)
from dwcloud.protocol.udt.message_buffer import MessageBuffer
from dwcloud.protocol.udt.message_sending import MessageSendBuffer
from dwcloud.protocol.udt.packets import (
    FIRST,
    HEADER,
    IN_ORDER,
    LAST,
    SOLO,
    Ack,
    DataPacket,
    HandshakePacket,
    MessageDropRequest,
    Nak,
    Packet,
)
from dwcloud.protocol.udt.sequence import SequenceSpace
from tests.unit.protocol.udt.simulation import Link, Port, World, connected_pair

FAST = {"congestion_control": "fixed", "fixed_rate": 20_000.0}
MESSAGES = {"socket_type": SocketType.DATAGRAM, **FAST}


class MessageBufferTests(SynchronousTestCase):
    """Packets become messages."""

    def setUp(self) -> None:
        self.buffer = MessageBuffer(40, 100)

    def messages(self) -> list[bytes]:
        found = []
        while (message := self.buffer.read_message()) is not None:
            found.append(message)
        return found

    def test_ordered(self) -> None:
        """A message that is in order waits for those before it. [udt:message-order]"""
        self.assertTrue(self.buffer.insert(2, b"c", SOLO | IN_ORDER | 3))
        self.assertTrue(self.buffer.insert(1, b"b", LAST | IN_ORDER | 2))
        self.assertEqual(self.messages(), [])
        self.assertTrue(self.buffer.insert(0, b"a", FIRST | IN_ORDER | 2))
        self.assertEqual(self.messages(), [b"ab", b"c"])
        self.assertEqual(self.buffer.expected, 3)

    def test_unordered(self) -> None:
        """Another is delivered as soon as it is complete. [udt:message-order]"""
        self.buffer.insert(3, b"d", LAST | 2)
        self.buffer.insert(2, b"c", FIRST | 2)
        self.assertEqual(self.messages(), [b"cd"])
        self.assertFalse(self.buffer.insert(2, b"c", FIRST | 2))
        self.assertEqual(self.buffer.expected, 0)
        self.buffer.insert(0, b"a", FIRST | 1)
        self.buffer.insert(1, b"b", LAST | 1)
        self.assertEqual(self.messages(), [b"ab"])
        self.assertEqual(self.buffer.expected, 4)
        self.assertEqual(self.buffer.available_packets, 40)

    def test_without_beginning_or_end(self) -> None:
        """Pieces that no message can be made of are discarded."""
        for index, word in enumerate((1, LAST | 1, FIRST | 2, 2, SOLO | 3, FIRST | 4)):
            self.buffer.insert(index, b"x", word | IN_ORDER)
        self.assertEqual(self.messages(), [b"x"])
        self.assertEqual(self.buffer.messages_discarded, 2)
        self.assertEqual(self.buffer.expected, 6)
        self.assertEqual(self.buffer.available_packets, 39)

    def test_srt_flags(self) -> None:
        """The upper bits of the number, which SRT uses as flags, do not matter."""
        self.buffer.insert(0, b"a", FIRST | IN_ORDER | 0x04000007)
        self.buffer.insert(1, b"b", LAST | IN_ORDER | 7)
        self.assertEqual(self.messages(), [b"ab"])

    def test_dropped(self) -> None:
        """What is dropped does not hold up what follows. [udt:drop-request]"""
        self.buffer.insert(0, b"a", FIRST | IN_ORDER | 1)
        self.buffer.insert(3, b"d", SOLO | IN_ORDER | 2)
        self.buffer.drop(1, 0, 2)
        self.assertEqual(self.messages(), [b"d"])
        self.assertEqual((self.buffer.expected, self.buffer.available_packets), (4, 40))

    def test_complete_message_is_not_dropped(self) -> None:
        """A message that has arrived is delivered, whatever its sender thinks."""
        self.buffer.insert(1, b"b", SOLO | IN_ORDER | 2)
        self.buffer.drop(2, 1, 1)
        self.buffer.insert(0, b"a", SOLO | IN_ORDER | 1)
        self.assertEqual(self.messages(), [b"a", b"b"])

    def test_too_large(self) -> None:
        """A message that never fits is discarded, the next comes. [udt:message-size]"""
        for index in range(100):
            word = (FIRST if index == 0 else 0) | (LAST if index == 99 else 0)
            self.assertTrue(self.buffer.fits(index, 100))
            self.assertTrue(self.buffer.insert(index, bytes(100), word | IN_ORDER | 5))
        self.buffer.insert(100, b"next", SOLO | IN_ORDER | 6)
        self.assertEqual(self.messages(), [b"next"])
        self.assertGreaterEqual(self.buffer.messages_discarded, 1)

    def test_empty(self) -> None:
        """A message without a byte is none."""
        self.buffer.insert(0, b"", SOLO | IN_ORDER | 1)
        self.assertEqual((self.messages(), self.buffer.expected), ([], 1))

    def test_full(self) -> None:
        """Unread messages close the window; what is beyond it does not fit."""
        for index in range(40):
            self.buffer.insert(index, b"x", SOLO | IN_ORDER | index + 1)
        self.assertEqual(self.buffer.available_packets, 0)
        self.assertTrue(self.buffer.fits(41, 1))
        self.assertFalse(self.buffer.fits(42, 1))
        self.buffer.read_message()
        self.assertEqual(self.buffer.available_packets, 1)

    def test_stream_calls(self) -> None:
        """Messages are not read as a stream."""
        self.assertRaises(LocalProtocolError, self.buffer.read)

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 60),
                st.sampled_from([0, FIRST, LAST, SOLO]),
                st.integers(1, 5),
                st.booleans(),
                st.integers(0, 300),
            ),
            max_size=120,
        ),
        st.data(),
    )
    def test_any_packets(self, packets: list[Any], data: st.DataObject) -> None:
        """Nonsense stays within the buffer, and nothing is counted twice."""
        buffer = MessageBuffer(10, 100)
        for index, position, number, in_order, size in packets:
            if size > 280:
                buffer.drop(number, index, min(index + 3, buffer.expected + 12))
            elif buffer.fits(index, size):
                word = position | number | (IN_ORDER if in_order else 0)
                buffer.insert(index, bytes(size), word)
            if size % 7 == 0:
                buffer.read_message()
            self.assertLessEqual(len(buffer._owner), 40)
            held = sum(a.size for a in buffer._assemblies.values())
            self.assertEqual(held, buffer._held_bytes)
            self.assertLessEqual(held + buffer.readable_bytes, 14 * 300)
            self.assertGreaterEqual(buffer.available_packets, 0)
        while buffer.read_message() is not None:
            pass
        self.assertEqual(buffer.readable_bytes, 0)
        buffer.discard()
        self.assertEqual(buffer.available_packets, 10)


class SendBufferTests(SynchronousTestCase):
    """Messages become packets."""

    def setUp(self) -> None:
        self.buffer = MessageSendBuffer(SequenceSpace((1 << 31) - 2), 100, 7)

    def words(self, wire: bytes, size: int) -> list[tuple[int, int]]:
        starts = range(0, len(wire), size)
        return [HEADER.unpack_from(wire, start)[:2] for start in starts]

    def test_positions(self) -> None:
        """First, middle and last packet are marked, numbers wrap. [udt:message-word]"""
        self.buffer.append_message(bytes(250), True, None)
        self.buffer.append_message(b"x", False, None)
        one = self.buffer.make_batch(0, 2, 0)
        two = self.buffer.make_batch(2, 9, 0)
        three = self.buffer.make_batch(3, 9, 0)
        top = (1 << 31) - 2
        self.assertEqual(
            self.words(one.wire, 116),
            [(top, FIRST | IN_ORDER | 1), (top + 1, IN_ORDER | 1)],
        )
        self.assertEqual(self.words(two.wire, 116), [(0, LAST | IN_ORDER | 1)])
        self.assertEqual(self.words(three.wire, 116), [(1, SOLO | 2)])
        self.assertEqual(self.buffer.unsent_bytes, 0)
        self.assertEqual(self.buffer.unacknowledged_bytes, 251)
        self.buffer.release(4)
        self.assertEqual(self.buffer.unacknowledged_bytes, 0)

    def test_stream_calls(self) -> None:
        """A stream is not accepted."""
        self.assertRaises(LocalProtocolError, self.buffer.append, b"x")

    def test_outdated_before_sent(self) -> None:
        """What is too late before it was begun leaves no trace."""
        self.buffer.append_message(b"old", True, 5.0)
        self.buffer.append_message(b"new", True, 9.0)
        self.assertEqual(self.buffer.remove_outdated(4.9), [])
        self.assertEqual(self.buffer.remove_outdated(5.0), [])
        self.assertEqual(self.buffer.unsent_bytes, 3)
        self.assertEqual(self.buffer.messages_expired, 1)
        batch = self.buffer.make_batch(0, 9, 0)
        self.assertEqual(self.words(batch.wire, 116)[0][1], SOLO | IN_ORDER | 1)

    def test_outdated_when_begun(self) -> None:
        """Of what was begun the rest is forgotten."""
        self.buffer.append_message(bytes(500), True, 5.0)
        self.buffer.make_batch(0, 2, 0)
        (message,) = self.buffer.remove_outdated(6.0)
        self.assertEqual((message.first, message.end), (0, 2))
        self.assertEqual(self.buffer.unsent_bytes, 0)
        self.assertEqual(self.buffer.outdated_in_flight(6.0), [message])
        self.buffer.release(2)
        self.assertEqual(self.buffer.outdated_in_flight(6.0), [])


class ConnectionTests(SynchronousTestCase):
    """Messages between two ports."""

    def pair(
        self, world: World, **settings: Any
    ) -> tuple[Port, MessageConnection, Port, MessageConnection]:
        settings = {**MESSAGES, **settings}
        client, ours, server, theirs = connected_pair(world, **settings)
        assert isinstance(ours, MessageConnection)
        assert isinstance(theirs, MessageConnection)
        world.run(seconds=0.1)
        return client, ours, server, theirs

    def test_both_ways(self) -> None:
        """Boundaries are kept in both directions."""
        world = World(link=Link(loss=0.05, jitter=0.005))
        client, ours, server, theirs = self.pair(world)
        up = [world.random.randbytes(size) for size in (1, 1456, 1457, 100_000, 7)]
        down = [world.random.randbytes(5000) for _ in range(20)]
        client.send(ours, *up)
        server.send(theirs, *down)
        world.run(seconds=10.0)
        self.assertEqual(server.messages[theirs], up)
        self.assertEqual(client.messages[ours], down)
        client.close(ours)
        world.run(seconds=2.0)
        self.assertIs(client.closed().reason, CloseReason.LOCAL)
        self.assertIs(server.closed().reason, CloseReason.PEER_SHUTDOWN)

    def test_out_of_order(self) -> None:
        """A lost packet holds up only what is to be in order."""
        world = World()
        client, ours, server, theirs = self.pair(world)
        lost: list[int] = []

        def lose_first(source: object, packet: Packet) -> bool:
            if isinstance(packet, DataPacket) and not lost:
                lost.append(packet.sequence)
                return True
            return False

        world.link.lose = lose_first
        client.send(ours, b"slow")
        client.send(ours, b"fast", in_order=False)
        client.send(ours, b"next")
        world.run(seconds=1.0)
        self.assertEqual(server.messages[theirs], [b"fast", b"slow", b"next"])

    def test_refused(self) -> None:
        """What cannot be sent is refused at once. [udt:message-size]"""
        world = World()
        early = world.port(8, **MESSAGES).connect(world.port(9))
        assert isinstance(early, MessageConnection)
        self.assertEqual(early.maximum_message_size, 0)
        self.assertEqual(early.readable_messages, 0)
        self.assertEqual(early.messages_expired, 0)
        self.assertEqual(early.messages_discarded, 0)
        self.assertIsNone(early.read_message())
        self.assertRaises(LocalProtocolError, early.send_message, b"x", now=world.now)
        client, ours, _, _ = self.pair(world, receive_buffer_packets=64)
        size = ours.maximum_message_size
        self.assertEqual(size, 62 * 1456)
        for data in (b"", bytes(size + 1)):
            self.assertRaises(
                LocalProtocolError, ours.send_message, data, now=world.now
            )
        self.assertRaises(LocalProtocolError, ours.write, b"x", now=world.now)
        self.assertRaises(LocalProtocolError, ours.read)
        client.close(ours)
        self.assertRaises(LocalProtocolError, ours.send_message, b"x", now=world.now)

    def test_largest(self) -> None:
        """The largest message fits into the peer's buffer. [udt:message-size]"""
        world = World(link=Link(loss=0.02))
        client, ours, server, theirs = self.pair(world, receive_buffer_packets=64)
        data = world.random.randbytes(ours.maximum_message_size)
        client.send(ours, data, data)
        world.run(seconds=10.0)
        self.assertEqual(server.messages[theirs], [data, data])

    def test_slow_reader(self) -> None:
        """Messages that are not read close the window and reopen it."""
        world = World()
        client, ours, server, theirs = self.pair(world, receive_buffer_packets=40)
        server.reads = False
        sent = [b"%d" % number for number in range(300)]
        client.send(ours, *sent)
        world.run(seconds=3.0)
        self.assertLessEqual(theirs.readable_messages, 42)
        server.reads = True
        server.read(theirs)
        server.flush()
        world.run(seconds=3.0)
        self.assertEqual(server.messages[theirs], sent)

    def test_read_before_the_end(self) -> None:
        """What came before the shutdown is read first."""
        world = World()
        client, ours, server, theirs = self.pair(world)
        server.reads = False
        client.send(ours, b"last", b"words")
        client.close(ours)
        world.run(seconds=2.0)
        self.assertIs(theirs.state, State.DRAINING)
        theirs.send_message(b"into the void", now=world.now)
        self.assertEqual(theirs.read_message(), b"last")
        self.assertIs(theirs.state, State.DRAINING)
        self.assertEqual(theirs.read_message(), b"words")
        self.assertIs(theirs.state, State.CLOSED)

    def test_time_to_live(self) -> None:
        """A message that is too late is dropped, others arrive. [udt:drop-request]"""
        world = World()
        client, ours, server, theirs = self.pair(world)
        world.link.lose = lambda source, packet: isinstance(packet, DataPacket)
        client.send(ours, bytes(5000), ttl=0.2)
        world.run(seconds=0.25)
        world.link.lose = None
        client.send(ours, b"after")
        world.run(seconds=1.5)
        self.assertEqual(server.messages[theirs], [b"after"])
        (request, *_) = client.packets(MessageDropRequest)
        first = client.packets(DataPacket)[0].sequence
        self.assertEqual((request.first, request.last), (first, first + 3))
        self.assertEqual(ours.messages_expired, 1)
        self.assertEqual(ours.send_buffer_bytes, 0)

    def test_lost_drop_request(self) -> None:
        """A request that was lost is made again. [udt:drop-request]"""
        world = World()
        client, ours, server, theirs = self.pair(world)
        world.link.lose = lambda source, packet: isinstance(
            packet, DataPacket | MessageDropRequest
        )
        client.send(ours, b"late", ttl=0.2)
        world.run(seconds=1.0)
        self.assertEqual(ours.send_buffer_bytes, 4)
        world.link.lose = None
        world.run(seconds=5.0)
        self.assertEqual(ours.send_buffer_bytes, 0)
        self.assertGreater(len(client.packets(MessageDropRequest)), 1)
        self.assertEqual(ours.messages_expired, 1)
        client.send(ours, b"on time", ttl=10.0)
        world.run(seconds=1.0)
        self.assertEqual(server.messages[theirs], [b"on time"])

    def test_half_sent(self) -> None:
        """Of a message whose time ends while it is sent the receiver keeps nothing."""
        world = World()
        client, ours, server, theirs = self.pair(world, fixed_rate=100.0)
        client.send(ours, bytes(100_000), ttl=0.1)
        client.send(ours, b"next")
        world.run(seconds=3.0)
        self.assertEqual(server.messages[theirs], [b"next"])
        self.assertEqual(theirs.messages_discarded, 1)
        self.assertEqual(ours.messages_expired, 1)
        self.assertLess(len(client.packets(DataPacket)), 20)


class DropRequestTests(SynchronousTestCase):
    """Drop requests as the reference library makes them (docs/protocol/udt)."""

    def setUp(self) -> None:
        self.world = World()
        self.client, self.server = (
            self.world.port(1, **MESSAGES),
            self.world.port(2, **MESSAGES),
        )
        self.server.multiplexer.listen()
        self.client.connect(self.server)
        self.world.run(self.server.is_up)
        (self.theirs,) = self.server.accepted
        self.world.run(seconds=0.1)
        handshake = self.client.packets(HandshakePacket)[0].handshake
        self.start = handshake.initial_sequence
        self.server.sent.clear()

    def number(self, offset: int) -> int:
        return (self.start + offset) & 0x7FFFFFFF

    def data(self, offset: int, payload: bytes, message: int, position: int) -> None:
        packet = DataPacket(
            destination_id=self.theirs.socket_id,
            sequence=self.number(offset),
            payload=payload,
            position=position,
            in_order=True,
            message_number=message,
        )
        self.server.inject(packet.encode(), self.client)

    def drop(self, message: int, first: int, last: int, timestamp: int = 0) -> None:
        request = MessageDropRequest(
            timestamp=timestamp,
            destination_id=self.theirs.socket_id,
            message_number=message,
            first=self.number(first),
            last=self.number(last),
        )
        self.server.inject(request.encode(), self.client)

    @property
    def messages(self) -> list[bytes]:
        return self.server.messages.get(self.theirs, [])

    def last_ack(self) -> int:
        self.world.run(seconds=0.05)
        sequence = self.server.packets(Ack)[-1].sequence
        return (sequence - self.start) & 0x7FFFFFFF

    def test_last_is_one_too_far(self) -> None:
        """The message after the dropped one, named too, is not lost. [udt:drop-last]"""
        self.data(0, b"a", 1, FIRST)
        self.drop(1, 0, 3)
        self.assertEqual(self.last_ack(), 3)
        self.data(3, b"next", 2, SOLO)
        self.assertEqual(self.messages, [b"next"])
        self.assertEqual(self.last_ack(), 4)

    def test_next_is_there(self) -> None:
        """The message after the dropped one may have come before. [udt:drop-last]"""
        self.data(3, b"next", 2, SOLO)
        self.drop(1, 0, 3)
        self.assertEqual(self.messages, [b"next"])
        self.assertEqual(self.last_ack(), 4)

    def test_exact(self) -> None:
        """A request that names one packet is meant so. [udt:drop-request]"""
        self.data(1, b"next", 2, SOLO)
        self.drop(1, 0, 0)
        self.assertEqual(self.messages, [b"next"])
        self.drop(1, 0, 0)
        self.assertEqual(self.last_ack(), 2)

    def test_with_a_gap_before(self) -> None:
        """What is missing before the dropped message is still asked for."""
        self.drop(5, 4, 6)
        (nak,) = self.server.packets(Nak)
        self.assertEqual(nak.ranges, ((self.number(0), self.number(3)),))
        for offset in range(4):
            self.data(offset, b"x", offset + 1, SOLO)
        self.assertEqual(self.messages, [b"x"] * 4)
        self.assertEqual(self.last_ack(), 6)

    def test_skipped_numbers(self) -> None:
        """Numbers that the library leaves out are not asked for. [udt:drop-skip]"""
        self.drop(1, 0, 3)
        self.data(5, b"two", 2, SOLO)
        self.assertEqual(self.server.packets(Nak), [])
        self.assertEqual(self.messages, [b"two"])
        self.assertEqual(self.last_ack(), 6)
        self.data(8, b"five", 5, SOLO)
        (nak,) = self.server.packets(Nak)
        self.assertEqual(nak.ranges, ((self.number(6), self.number(7)),))

    def test_nothing_skipped(self) -> None:
        """What is lost after a drop is asked for as ever. [udt:drop-skip]"""
        self.drop(1, 0, 3)
        self.data(4, b"two", 3, SOLO)
        (nak,) = self.server.packets(Nak)
        self.assertEqual(nak.ranges, ((self.number(3), self.number(3)),))

    def test_answer_waits(self) -> None:
        """The library breaks off at an ACK that comes at once. [udt:drop-ack]"""
        self.data(0, b"a", 1, FIRST)
        self.server.sent.clear()
        self.drop(1, 0, 3)
        at = self.world.now
        self.world.run(seconds=0.5)
        acks = [sent - at for sent, data in self.server.sent if data[:2] == b"\x80\x02"]
        self.assertGreater(min(acks), 0.009)
        self.assertLess(min(acks), 0.02)
        self.assertEqual(self.server.packets(Ack)[-1].sequence, self.number(3))

    def test_of_our_kind(self) -> None:
        """With a timestamp the range is exact. [udt:drop-last]"""
        self.drop(1, 0, 3, timestamp=5)
        self.data(4, b"next", 2, SOLO)
        self.assertEqual(self.messages, [b"next"])
        self.assertEqual(self.server.packets(Nak), [])

    def test_nonsense(self) -> None:
        """Reversed, huge and old ranges do no harm. [udt:bounded-ranges]"""
        self.drop(1, 5, 2)
        self.assertEqual(self.server.packets(Nak), [])
        self.drop(1, 1 << 29, (1 << 29) + 5)
        self.drop(1, (1 << 31) - 9, (1 << 31) - 5)
        self.assertEqual(self.server.packets(Nak), [])
        self.drop(1, 0, (1 << 30) - 1)
        buffer = self.theirs._receiver.buffer
        self.assertLessEqual(buffer.expected, 32_768)
        self.assertEqual(len(buffer._owner), 0)
        self.assertIs(self.theirs.state, State.CONNECTED)

    def test_in_a_stream(self) -> None:
        """A stream has no messages that could be dropped."""
        world = World()
        client, ours, server, theirs = connected_pair(world)
        request = MessageDropRequest(
            destination_id=theirs.socket_id, message_number=1, first=0, last=9
        )
        server.inject(request.encode(), client)
        client.write(ours, b"all of it")
        world.run(seconds=1.0)
        self.assertEqual(bytes(server.received[theirs]), b"all of it")

    def test_stream_and_messages(self) -> None:
        """A stream client is rejected by a listener for messages, at once."""
        client = self.world.port(3)
        client.connect(self.server)
        self.world.run(seconds=0.5)
        self.assertIs(client.closed().reason, CloseReason.REJECTED)


class AnyLinkTests(SynchronousTestCase):
    """Messages over any link."""

    @settings(max_examples=60, deadline=None)
    @given(
        seed=st.integers(0, 1 << 30),
        loss=st.floats(0, 0.2),
        jitter=st.floats(0, 0.05),
        duplication=st.floats(0, 0.2),
        sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=20),
        options=st.lists(
            st.tuples(st.booleans(), st.sampled_from([None, None, 0.05, 0.5])),
            min_size=1,
            max_size=6,
        ),
    )
    def test_any_link(
        self,
        seed: int,
        loss: float,
        jitter: float,
        duplication: float,
        sizes: list[int],
        options: list[tuple[bool, float | None]],
    ) -> None:
        """Each message comes once, whole and in order, unless it may be dropped."""
        link = Link(loss=loss, jitter=jitter, duplication=duplication)
        world = World(seed, link)
        client, ours, server, theirs = connected_pair(
            world, connect_timeout=60.0, **MESSAGES
        )
        sent: list[tuple[bytes, bool, float | None]] = []
        for number, size in enumerate(sizes):
            in_order, ttl = options[number % len(options)]
            data = number.to_bytes(4) + world.random.randbytes(size)
            sent.append((data, in_order, ttl))
            client.send(ours, data, in_order=in_order, ttl=ttl)
        self.assertTrue(world.run(lambda: not ours.send_buffer_bytes, 300.0))
        received = server.messages.get(theirs, [])
        self.assertEqual(len(set(received)), len(received))
        self.assertLessEqual(set(received), {data for data, _, _ in sent})
        certain = [data for data, _, ttl in sent if ttl is None]
        self.assertLessEqual(set(certain), set(received))
        ordered = [data for data, in_order, _ in sent if in_order]
        in_turn = [data for data in received if data in ordered]
        self.assertEqual(in_turn, [data for data in ordered if data in in_turn])
        client.close(ours)
        world.run(seconds=5.0)
        self.assertIs(client.closed().reason, CloseReason.LOCAL)


class SettingsTests(SynchronousTestCase):
    """A port is for streams or for messages."""

    def test_default(self) -> None:
        """Streams, unless told otherwise."""
        self.assertIs(Configuration().socket_type, SocketType.STREAM)
