"""The fast way to take joined packets against the plain one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.packets import HEADER_SIZE, DataPacket
from dwcloud.protocol.udt.receiving import Receiver
from dwcloud.protocol.udt.rtt import RTTEstimator
from dwcloud.protocol.udt.sequence import SequenceSpace

PAYLOAD = 20
SIZE = PAYLOAD + HEADER_SIZE
START = (1 << 31) - 30


def make_receiver() -> Receiver:
    return Receiver(
        sequences=SequenceSpace(START),
        capacity_packets=64,
        unread_limit_packets=64,
        payload_size=PAYLOAD,
        socket_id=7,
        destination_id=8,
        rtt=RTTEstimator(),
    )


def packet(index: int) -> bytes:
    return DataPacket(
        destination_id=7,
        sequence=(START + index) & 0x7FFFFFFF,
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
        """Any packets in any order, some with a false number: the same stream, gaps
        and room."""
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
            if reads:
                self.assertEqual(fast.read(None), plain.read(None))
        self.assertEqual(fast.read(None), plain.read(None))

    def test_behind_a_gap(self) -> None:
        """What follows early packets is taken at once as well."""
        receiver = make_receiver()
        feed(receiver, packet(3), 0.0, fast=True)
        run = b"".join(packet(index) for index in range(4, 10))
        self.assertEqual(receiver.run_received(run, 0, SIZE, 0.0), len(run))
        self.assertEqual(receiver.losses.ranges(), [(0, 2)])
        feed(receiver, b"".join(map(packet, range(3))), 0.0, fast=True)
        self.assertEqual(receiver.buffer.expected, 10)
