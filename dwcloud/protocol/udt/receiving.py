"""The receiving half of a connection: data in, ACKs and NAKs out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

import attrs

from dwcloud.protocol.udt.ack_window import AckWindow
from dwcloud.protocol.udt.arrival_rate import ArrivalSpeed, LinkCapacity
from dwcloud.protocol.udt.loss_lists import Gap, ReceiverLossList
from dwcloud.protocol.udt.packets import HEADER, HEADER_SIZE, Ack, Nak, Progress
from dwcloud.protocol.udt.receive_buffer import ReceiveBuffer
from dwcloud.protocol.udt.rtt import QuickEstimator, RTTEstimator
from dwcloud.protocol.udt.sequence import SEQUENCE_MASK, SequenceSpace

__all__ = ["SYN_INTERVAL", "Receiver"]

SYN_INTERVAL = 0.01
"""The period of acknowledgements in seconds."""

_MINIMUM_WINDOW = 2
_FULL_ACK_PACKET_SIZE = 28 + HEADER_SIZE + 24
_LIGHT_ACK_PACKETS = 64
_IMMEDIATE_ACK_SPACING = 0.001
_ACK_REPETITION = 0.1
_NAK_REPETITION = 0.3
_NAK_MARGIN = 0.004
_LONGEST_REORDER_WAIT = 0.02
_NAKS_AT_ONCE = 8
_EPSILON = 1e-6


_NUMBERS = bytes(range(256)) * 2
_FIXED_COLUMNS = ((15, 7), (14, 6), (13, 5), (12, 4), (1, 1), (0, 0))
"""Places in a header of what is the same in a run: socket id, most of the number."""


@lru_cache(maxsize=64)
def _segment(size: int) -> Struct:
    """Return the layout of a data packet of ``size`` bytes."""
    return Struct(f">IIII{size - HEADER_SIZE}s")


@lru_cache(maxsize=256)
def _payloads(size: int, count: int) -> Struct:
    """Return the layout of ``count`` such packets, of which only payload counts."""
    return Struct(f"{HEADER_SIZE}x{size - HEADER_SIZE}s" * count)


def _is_run(data: bytes | memoryview, size: int, number: int, socket_id: int) -> bool:
    """Tell whether all packets of ``size`` bytes are for us and in order.

    Looks at one column of the headers after the other, which is the fastest way.

    :param number: of the first packet; the numbers differ in the last byte, and the
        byte before it rises once at the most.
    """
    low = number & 0xFF
    last_bytes = data[3::size]
    count = len(last_bytes)
    if last_bytes != _NUMBERS[low : low + count]:
        return False
    fixed = (number << 32 | socket_id).to_bytes(8)
    before = min(0x100 - low, count)
    second = fixed[2:3] * before + bytes((fixed[2] + 1 & 0xFF,)) * (count - before)
    if data[2::size] != second:
        return False
    for place, column in _FIXED_COLUMNS:
        if data[place::size] != fixed[column : column + 1] * count:
            return False
    return True


def _longest_run(number: int) -> int:
    """Return how many packets from ``number`` on :func:`_is_run` can look at."""
    carries = number & 0xFF00 == 0xFF00
    return (0x100 if carries else 0x200) - (number & 0xFF)


class Receiver:
    """Puts packets in order, notices gaps and tells the sender.

    :param sequences: the peer's sequence numbers.
    :param capacity_packets: size of the receive buffer.
    :param unread_limit_packets: unread packets at which the window is closed.
    :param payload_size: bytes of payload in a full packet.
    :param socket_id: our socket.
    :param destination_id: the peer's socket.
    :param rtt: shared with the sending half.
    """

    # More attributes than instances share the names of: it saves a kilobyte.
    __slots__ = (
        "_ack_at",
        "_ack_forced",
        "_ack_number",
        "_acknowledged",
        "_acks",
        "_announced",
        "_capacity",
        "_confirmed",
        "_destination_id",
        "_largest",
        "_last_ack_at",
        "_last_full_ack_at",
        "_light_index",
        "_payload_size",
        "_reorder_wait",
        "_repeat_at",
        "_repetitions",
        "_round_trip",
        "_rtt",
        "_sequences",
        "_socket_id",
        "_unread_limit",
        "buffer",
        "capacity",
        "losses",
        "packets_dropped",
        "packets_duplicate",
        "packets_lost",
        "packets_received",
        "reports_progress",
        "speed",
    )

    def __init__(
        self,
        *,
        sequences: SequenceSpace,
        capacity_packets: int,
        unread_limit_packets: int,
        payload_size: int,
        socket_id: int,
        destination_id: int,
        rtt: RTTEstimator,
    ) -> None:
        self._sequences = sequences
        self._capacity = capacity_packets
        self._unread_limit = min(unread_limit_packets, capacity_packets)
        self._payload_size = payload_size
        self._socket_id = socket_id
        self._destination_id = destination_id
        self._rtt = rtt
        self.buffer = ReceiveBuffer(capacity_packets, payload_size)
        self.losses = ReceiverLossList()
        self.speed = ArrivalSpeed()
        self.capacity = LinkCapacity()
        self.packets_received = 0
        self.packets_duplicate = 0
        self.packets_lost = 0
        self.packets_dropped = 0
        self._largest = -1
        self._reorder_wait = 0.0
        self._acks = AckWindow()
        self._ack_number = 0
        self._acknowledged = 0
        self._confirmed = 0
        self._announced = capacity_packets
        self._ack_at: float | None = None
        self._ack_forced = False
        self._repeat_at: float | None = None
        self._repetitions = 0
        self._last_ack_at = float("-inf")
        self._last_full_ack_at = float("-inf")
        self._light_index = 0
        self._round_trip = QuickEstimator()
        self.reports_progress = False
        """Whether the peer looks at :class:`Progress`, and wants lost reports repeated
        as soon as a round trip tells that they are."""

    # Data in

    def packet_received(
        self, data: bytes | memoryview, start: int, end: int, now: float
    ) -> None:
        """Take the data packet in ``data[start:end]``, whatever is in it."""
        number, word, timestamp, _ = HEADER.unpack_from(data, start)
        self.packets_received += 1
        self.speed.packets_arrived(1, now)
        probe = number & 15
        if probe == 0:
            self.capacity.first_arrived(now)
        elif probe == 1:
            self.capacity.second_arrived(now)
        index = self._sequences.index(number, self.buffer.expected)
        size = end - start - HEADER_SIZE
        if index < self.buffer.expected:
            self._duplicate_received(now)
            return
        if not self.buffer.fits(index, size):
            self.packets_dropped += 1
            self._plan_ack(now + SYN_INTERVAL)
            return
        payload = bytes(data[start + HEADER_SIZE : end])
        if not self.buffer.insert(index, payload, word):
            self._duplicate_received(now)
            return
        self._track(index, timestamp, now)
        irregular = size != self._payload_size
        self._plan_ack(self._soonest_ack(now) if irregular else now + SYN_INTERVAL)

    def _duplicate_received(self, now: float) -> None:
        self.packets_duplicate += 1
        # The sender may have missed our ACK.
        self._ack_forced = True
        self._plan_ack(now + SYN_INTERVAL)

    def _track(self, index: int, timestamp: int, now: float) -> None:
        """Note the gap that a packet opens, or closes."""
        if index > self._largest:
            if index > self._largest + 1:
                self.packets_lost += index - self._largest - 1
                self.losses.append(
                    Gap(
                        first=self._largest + 1,
                        last=index - 1,
                        found_at=now,
                        timestamp=timestamp,
                        report_at=now + self._reorder_wait,
                    )
                )
            self._largest = index
            return
        gap = self.losses.remove(index)
        # [udt:reordering]
        # A retransmission is younger than the packet that revealed the gap; one that
        # is older was only overtaken: from now on wait that long before a report.
        if gap is not None and (gap.timestamp - timestamp) & 0xFFFFFFFF < 1 << 31:
            wait = min(1.25 * (now - gap.found_at), _LONGEST_REORDER_WAIT)
            self._reorder_wait = max(self._reorder_wait, wait)

    def run_received(
        self, data: bytes | memoryview, start: int, size: int, now: float
    ) -> int:
        """Take many data packets at once, as long as all is as expected.

        Skips what :meth:`packet_received` does for gaps: it stops at the first packet
        that does not follow the newest one, is not full-sized or not for us.

        :param data: datagrams of ``size`` bytes each from ``start`` on.
        :returns: how many bytes were taken; 0 if the first packet is not such.
        """
        buffer = self.buffer
        if not buffer.takes_runs or size <= HEADER_SIZE:
            return 0
        early = self._largest >= buffer.expected
        index = self._largest + 1 if early else buffer.expected
        room = buffer.room_for_run(index, size - HEADER_SIZE)
        count = min((len(data) - start) // size, room)
        if count < 2:
            return 0
        first = self._sequences.number(index)
        payloads = self._run(data, start, size, count, first)
        taken = len(payloads)
        if not taken:
            return 0
        if early:
            buffer.extend_early(index, payloads, taken * (size - HEADER_SIZE))
        else:
            buffer.extend(payloads, taken * (size - HEADER_SIZE))
        self._largest = index + taken - 1
        self._measure_run(first, taken, now)
        irregular = size - HEADER_SIZE != self._payload_size
        self._plan_ack(self._soonest_ack(now) if irregular else now + SYN_INTERVAL)
        return taken * size

    def _run(
        self, data: bytes | memoryview, start: int, size: int, count: int, number: int
    ) -> Sequence[bytes]:
        """Return the payloads of the packets that are for us and in order."""
        socket_id = self._socket_id
        count = min(count, _longest_run(number))
        if start or count * size != len(data):
            data = data[start : start + count * size]
        if _is_run(data, size, number, socket_id):
            return _payloads(size, count).unpack(data)
        payloads: list[bytes] = []
        append = payloads.append
        for row in _segment(size).iter_unpack(data):
            if row[0] != number or row[3] != socket_id:
                break
            append(row[4])
            number = (number + 1) & SEQUENCE_MASK
        return payloads

    def _measure_run(self, first: int, count: int, now: float) -> None:
        self.packets_received += count
        self.speed.packets_arrived(count, now)
        if first & 15 == 1:
            self.capacity.second_arrived(now)
        last = first + count - 1
        pairs = (last - 1) // 16 - (first - 1) // 16
        if pairs:
            self.capacity.pairs_arrived(pairs)
        if last & 15 == 0:
            self.capacity.first_arrived(now)

    def read(self, limit: int | None) -> bytes:
        """Take bytes in order; a window that was nearly closed is reopened at once."""
        data = self.buffer.read(limit)
        self._reopen()
        return data

    # [udt:window-update]
    def _reopen(self) -> None:
        if (
            self._announced < self._capacity // 4
            and self._window() >= self._capacity // 2
        ):
            self._ack_forced = True
            self._ack_at = float("-inf")

    def _window(self) -> int:
        """Return how many packets the peer may send; fewer if the program is slow."""
        available = self.buffer.available_packets
        if self._unread_limit == self._capacity:
            return available
        spare = self._unread_limit - (self._capacity - available)
        return max(0, available * spare // self._unread_limit)

    # Acknowledgements out

    def _soonest_ack(self, now: float) -> float:
        return max(now, self._last_ack_at + _IMMEDIATE_ACK_SPACING)

    def _plan_ack(self, at: float) -> None:
        if self._ack_at is None or at < self._ack_at:
            self._ack_at = at

    # [udt:ack2]
    def ack2_received(self, ack_number: int, now: float) -> None:
        """Take the confirmation of an ACK."""
        confirmed = self._acks.acknowledge(ack_number, now)
        if confirmed is None:
            return
        index, rtt_us = confirmed
        self._rtt.update(rtt_us)
        self._round_trip.update(rtt_us / 1e6)
        self._confirmed = max(self._confirmed, index)
        if self._confirmed >= self._acknowledged:
            self._repeat_at = None

    def control_to_send(self, now: float) -> list[bytes]:
        """Return the ACK and the NAKs that are due."""
        packets: list[bytes] = []
        if self._ack_at is not None and now >= self._ack_at - _EPSILON:
            self._ack_at = None
            advanced = self.buffer.expected > self._acknowledged
            if advanced or self._ack_forced or self.reports_progress:
                packets.append(self._ack(now))
        elif self._repeat_at is not None and now >= self._repeat_at - _EPSILON:
            packets.append(self._ack(now))
        elif self.buffer.expected - self._light_index >= _LIGHT_ACK_PACKETS:
            packets.append(self._light_ack())
        if self.losses.next_report_at is not None:
            packets += self._naks(now)
        return packets

    def final_ack(self, now: float) -> bytes | None:
        """Return an ACK for what was not acknowledged yet, if there is such."""
        if self.buffer.expected > self._acknowledged:
            return self._ack(now)
        return None

    def _ack(self, now: float) -> bytes:
        index = self.buffer.expected
        if index > self._acknowledged:
            self._repetitions = 0
        self._acknowledged = self._light_index = index
        self._ack_forced = False
        self._ack_number = (self._ack_number + 1) & SEQUENCE_MASK
        self._acks.store(self._ack_number, index, now)
        self._announced = max(_MINIMUM_WINDOW, self._window())
        full = now >= self._last_full_ack_at + SYN_INTERVAL - _EPSILON
        self._last_ack_at = now
        if full:
            self._last_full_ack_at = now
        self._repetitions += 1
        interval = max(self._rtt.repetition_interval, _ACK_REPETITION)
        # [udt:ack-repetition]
        self._repeat_at = now + interval * self._repetitions
        ack = self._make_ack(index, full=full)
        if full and self.reports_progress:
            ack = attrs.evolve(ack, trailing=self._progress().encode())
        return ack.encode()

    def _progress(self) -> Progress:
        """Return what has arrived behind the first gap."""
        expected = self.buffer.expected
        newest = max(self._largest + 1, expected)
        early = newest - expected - self.losses.packets
        return Progress(self._sequences.number(newest), max(0, early))

    # [udt:ack]
    def _make_ack(self, index: int, *, full: bool) -> Ack:
        return Ack(
            destination_id=self._destination_id,
            ack_number=self._ack_number,
            sequence=self._sequences.number(index),
            rtt_us=self._rtt.rtt_us,
            rtt_variance_us=self._rtt.variance_us,
            available_buffer_packets=self._announced,
            packet_arrival_speed=self.speed.packets_per_second if full else None,
            estimated_link_capacity=self.capacity.packets_per_second if full else None,
        )

    def probe(self, packet_size: int, now: float) -> tuple[int, bytes]:
        """Return an ACK that fills a packet, and its number.

        It says nothing new, for it may be too large to arrive.

        :param packet_size: size of a whole IPv4 packet in bytes.
        """
        self._ack_number = (self._ack_number + 1) & SEQUENCE_MASK
        self._acks.store(self._ack_number, self._acknowledged, now)
        ack = self._make_ack(self._acknowledged, full=True)
        padding = bytes(packet_size - _FULL_ACK_PACKET_SIZE)
        return self._ack_number, attrs.evolve(ack, trailing=padding).encode()

    # [udt:light-ack]
    def _light_ack(self) -> bytes:
        self._light_index = self.buffer.expected
        return Ack(
            destination_id=self._destination_id,
            sequence=self._sequences.number(self._light_index),
        ).encode()

    # [udt:nak]
    def _naks(self, now: float) -> list[bytes]:
        repetition = max(self._rtt.repetition_interval, _NAK_REPETITION)
        prompt = self._round_trip.repetition_interval
        is_prompt = False
        if self.reports_progress and prompt is not None:
            is_prompt = True
            repetition = prompt + _NAK_MARGIN
        number = self._sequences.number
        packets: list[bytes] = []
        while len(packets) < _NAKS_AT_ONCE:
            due = self.losses.take_due(
                now + _EPSILON,
                repetition,
                self._payload_size // 8,
                backs_off=not is_prompt,
            )
            if not due:
                break
            ranges = tuple((number(first), number(last)) for first, last in due)
            nak = Nak(destination_id=self._destination_id, ranges=ranges)
            packets.append(nak.encode())
        return packets

    def next_time(self) -> float | None:
        """When something becomes due, in seconds, or None."""
        times = [
            at
            for at in (self._ack_at, self._repeat_at, self.losses.next_report_at)
            if at is not None
        ]
        return min(times, default=None)
