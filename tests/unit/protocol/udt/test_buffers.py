"""Tests of the send and the receive buffer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.packets import FIRST, LAST, SOLO, DataPacket, decode
from dwcloud.protocol.udt.receive_buffer import ReceiveBuffer
from dwcloud.protocol.udt.send_buffer import SendBuffer
from dwcloud.protocol.udt.sequence import SequenceSpace
from dwcloud.protocol.udt.transmit import Transmit, segments_per_batch

PAYLOAD = 10


def split(wire: bytes, size: int) -> list[DataPacket]:
    transmit = Transmit(("192.0.2.1", 1), wire, size)
    return [decode(data) for data in transmit.datagrams()]


class SendBufferTests(SynchronousTestCase):
    """From the stream to packets and back."""

    def setUp(self) -> None:
        self.sequences = SequenceSpace((1 << 31) - 3)
        self.buffer = SendBuffer(self.sequences, PAYLOAD, destination_id=77)

    @given(
        st.lists(st.binary(max_size=45), max_size=20),
        st.lists(st.integers(1, 5), min_size=1, max_size=40),
        st.randoms(use_true_random=False),
    )
    def test_stream(self, writes: list[bytes], limits: list[int], chance) -> None:
        """However it is written and cut, the packets carry the stream, also again."""
        buffer = SendBuffer(self.sequences, PAYLOAD, destination_id=77)
        stream = b"".join(writes)
        for data in writes:
            buffer.append(data)
        first, made, released = 0, [], 0
        for limit in limits:
            if not buffer.unsent_bytes:
                break
            batch = buffer.make_batch(first, limit, 5)
            packets = split(batch.wire, batch.segment_size)
            self.assertEqual(len(packets), batch.count)
            self.assertLessEqual(batch.count, limit)
            for offset, packet in enumerate(packets):
                number = self.sequences.number(first + offset)
                self.assertEqual(packet.sequence, number)
            made += packets
            first = batch.end
        payloads = [packet.payload for packet in made]
        self.assertEqual(b"".join(payloads), stream[: len(b"".join(payloads))])
        self.assertEqual(buffer.unsent_bytes, len(stream) - len(b"".join(payloads)))
        while released < first:
            pending = sum(map(len, payloads[released:]))
            self.assertEqual(buffer.unacknowledged_bytes, pending)
            low = chance.randint(released, first - 1)
            high = chance.randint(low, first - 1)
            again = [
                packet
                for wire, count, size in buffer.packets(low, high, 9)
                for packet in split(wire, size)
            ]
            self.assertEqual([p.payload for p in again], payloads[low : high + 1])
            self.assertEqual({p.timestamp for p in again}, {9})
            released = chance.randint(released + 1, first)
            buffer.release(released)
        self.assertEqual(buffer.unacknowledged_bytes, 0)

    # [udt:message-word]
    def test_positions(self) -> None:
        """A batch is one message: first, middle, last; or the only packet."""
        self.buffer.append(bytes(25))
        batch = self.buffer.make_batch(0, 9, 0)
        packets = split(batch.wire, batch.segment_size)
        self.assertEqual([p.position for p in packets], [FIRST, 0, LAST])
        self.assertEqual({p.message_number for p in packets}, {1})
        self.buffer.append(b"x")
        batch = self.buffer.make_batch(3, 9, 0)
        (packet,) = split(batch.wire, batch.segment_size)
        self.assertEqual((packet.position, packet.message_number), (SOLO, 2))

    def test_size_of_the_oldest(self) -> None:
        """The last packet of a batch is shorter, and may be the only one left."""
        self.assertEqual(self.buffer.first_segment_size(), 0)
        self.buffer.append(bytes(24))
        self.buffer.make_batch(0, 3, 0)
        for released, size in ((0, 26), (1, 26), (2, 20), (3, 0)):
            self.buffer.release(released)
            self.assertEqual(self.buffer.first_segment_size(), size)

    def test_many_batches(self) -> None:
        """Released batches are forgotten, those after them still found."""
        self.buffer.append(bytes(10) * 500)
        for index in range(500):
            self.buffer.make_batch(index, 1, 0)
        for index in range(0, 400, 7):
            self.buffer.release(index)
        ((wire, _, size),) = self.buffer.packets(450, 450, 0)
        (packet,) = split(wire, size)
        self.assertEqual(packet.sequence, self.sequences.number(450))


class ReceiveBufferTests(SynchronousTestCase):
    """Order from disorder."""

    @given(
        st.lists(st.binary(max_size=PAYLOAD), min_size=1, max_size=30),
        st.randoms(use_true_random=False),
    )
    def test_order(self, payloads: list[bytes], chance) -> None:
        """Packets in any order, some twice, give the stream once."""
        buffer = ReceiveBuffer(100, PAYLOAD)
        order = list(enumerate(payloads)) * 2
        chance.shuffle(order)
        read = b""
        for index, payload in order:
            buffer.insert(index, payload)
            read += buffer.read(chance.choice([None, 0, 1, 7]))
        read += buffer.read()
        self.assertEqual(read, b"".join(payloads))
        self.assertEqual(buffer.expected, len(payloads))
        self.assertEqual(buffer.available_packets, 100)
        self.assertFalse(buffer.has_early_packets)

    def test_full(self) -> None:
        """A full buffer takes two packets more than it announces, no further."""
        buffer = ReceiveBuffer(4, PAYLOAD)
        self.assertTrue(buffer.fits(5, PAYLOAD))
        self.assertFalse(buffer.fits(6, PAYLOAD))
        buffer.extend([bytes(PAYLOAD)] * 4, 4 * PAYLOAD)
        self.assertEqual(buffer.available_packets, 0)
        self.assertTrue(buffer.fits(5, PAYLOAD))
        self.assertFalse(buffer.fits(6, PAYLOAD))

    def test_large_packets(self) -> None:
        """Packets above the usual size count for what they hold."""
        buffer = ReceiveBuffer(10, PAYLOAD)
        buffer.insert(0, bytes(60))
        self.assertEqual(buffer.available_packets, 4)
        self.assertFalse(buffer.fits(2, 70))

    def test_discard(self) -> None:
        """Early packets can be dropped; what is in order stays."""
        buffer = ReceiveBuffer(10, PAYLOAD)
        buffer.insert(0, b"a")
        buffer.insert(2, b"c")
        buffer.discard()
        self.assertFalse(buffer.has_early_packets)
        self.assertEqual(buffer.read(), b"a")


class TransmitTests(SynchronousTestCase):
    """Batches of datagrams."""

    def test_single(self) -> None:
        """Without a segment size there is one datagram."""
        self.assertEqual(list(Transmit(("a", 1), b"xyz").datagrams()), [b"xyz"])

    def test_cut(self) -> None:
        """The last datagram may be shorter."""
        transmit = Transmit(("a", 1), b"abcde", 2)
        self.assertEqual(list(transmit.datagrams()), [b"ab", b"cd", b"e"])

    def test_limits(self) -> None:
        """A batch is bounded by the kernel's segments and a datagram's size."""
        self.assertEqual(segments_per_batch(1472), 44)
        self.assertEqual(segments_per_batch(100), 64)
        self.assertEqual(segments_per_batch(65_507), 1)
