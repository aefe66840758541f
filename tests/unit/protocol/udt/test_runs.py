"""The fast way to take joined packets against the plain one."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.packets import (
    HEADER_SIZE,
    Ack,
    DataPacket,
    Packet,
    decode,
)
from dwcloud.protocol.udt.receiving import Receiver
from dwcloud.protocol.udt.rtt import RTTEstimator
from dwcloud.protocol.udt.sequence import SequenceSpace

PAYLOAD = 20
SIZE = PAYLOAD + HEADER_SIZE
START = (1 << 31) - 30


def make_receiver(start: int = START, capacity: int = 64) -> Receiver:
    return Receiver(
        sequences=SequenceSpace(start),
        capacity_packets=capacity,
        unread_limit_packets=capacity,
        payload_size=PAYLOAD,
        socket_id=7,
        destination_id=8,
        rtt=RTTEstimator(),
    )


def packet(index: int, start: int = START) -> bytes:
    return DataPacket(
        destination_id=7,
        sequence=(start + index) & 0x7FFFFFFF,
        timestamp=index,
        payload=bytes([index % 251]) * PAYLOAD,
    ).encode()


def feed(receiver: Receiver, data: bytes, now: float, *, fast: bool) -> None:
    """Take joined packets as a connection does."""
    offset = 0
    while offset < len(data):
        if fast and len(data) - offset >= 2 * SIZE:
            taken = receiver.run_received(data, offset, SIZE, now)
            if taken:
                offset += taken
                continue
        receiver.packet_received(data, offset, offset + SIZE, now)
        offset += SIZE


def answers(receiver: Receiver, now: float) -> list[Packet]:
    """Return the ACKs and NAKs that are due, without what the receiver measured.

    Arrival times of joined packets are estimated from the whole bunch.
    """
    return [
        attrs.evolve(made, packet_arrival_speed=None, estimated_link_capacity=None)
        if isinstance(made, Ack)
        else made
        for made in map(decode, receiver.control_to_send(now))
    ]


class RunTests(SynchronousTestCase):
    """Both give the same."""

    @settings(max_examples=200)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 90),
                st.integers(1, 30),
                st.booleans(),
                st.none() | st.integers(0, 30 * 4 - 1),
            ),
            max_size=20,
        )
    )
    def test_equal(self, arrivals: list[tuple[int, int, bool, int | None]]) -> None:
        """Any packets in any order, some with a false number: the same stream, gaps,
        room and answers."""
        fast, plain = make_receiver(), make_receiver()
        for step, (first, count, reads, damaged) in enumerate(arrivals):
            data = bytearray(b"".join(packet(first + each) for each in range(count)))
            if damaged is not None and damaged < count * 4:
                data[damaged // 4 * SIZE + damaged % 4] ^= 1
            data = bytes(data)
            for receiver in (fast, plain):
                feed(receiver, data, step * 0.001, fast=receiver is fast)
            self.assertEqual(fast.buffer.expected, plain.buffer.expected)
            self.assertEqual(fast.losses.ranges(), plain.losses.ranges())
            self.assertEqual(
                fast.buffer.available_packets, plain.buffer.available_packets
            )
            self.assertEqual(fast.packets_received, plain.packets_received)
            self.assertEqual(fast.packets_dropped, plain.packets_dropped)
            self.assertEqual(fast.packets_duplicate, plain.packets_duplicate)
            self.assertEqual(fast.packets_lost, plain.packets_lost)
            now = step * 0.001
            self.assertEqual(answers(fast, now), answers(plain, now))
            if reads:
                self.assertEqual(fast.read(None), plain.read(None))
        self.assertEqual(fast.read(None), plain.read(None))

    @given(
        st.integers(0, (1 << 31) - 1) | st.integers(0x1FE00, 0x20100),
        st.integers(2, 600),
        st.data(),
    )
    def test_carry(self, start: int, count: int, data: st.DataObject) -> None:
        """Any stretch of numbers is taken; a false byte in any number stops there."""
        packets = b"".join(packet(index, start) for index in range(count))
        receiver = make_receiver(start, 1024)
        feed(receiver, packets, 0.0, fast=True)
        self.assertEqual(receiver.buffer.expected, count)
        damaged = data.draw(st.integers(0, count - 1), "damaged packet")
        place = damaged * SIZE + data.draw(st.integers(0, 3), "byte")
        bad = bytearray(packets)
        bad[place] ^= data.draw(st.integers(1, 127), "change")
        receiver = make_receiver(start, 1024)
        offset = 0
        while taken := receiver.run_received(memoryview(bad), offset, SIZE, 0.0):
            offset += taken
        self.assertLessEqual(offset, damaged * SIZE)
        self.assertGreaterEqual(offset, (damaged - 1) * SIZE)

    def test_behind_a_gap(self) -> None:
        """What follows early packets is taken at once as well."""
        receiver = make_receiver()
        feed(receiver, packet(3), 0.0, fast=True)
        run = b"".join(packet(index) for index in range(4, 10))
        self.assertEqual(receiver.run_received(run, 0, SIZE, 0.0), len(run))
        self.assertEqual(receiver.losses.ranges(), [(0, 2)])
        feed(receiver, b"".join(map(packet, range(3))), 0.0, fast=True)
        self.assertEqual(receiver.buffer.expected, 10)
