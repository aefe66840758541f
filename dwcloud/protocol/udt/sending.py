"""The sending half of a connection: data out, ACKs and NAKs in (docs/protocol/udt)."""

from __future__ import annotations

from dwcloud.protocol.udt.congestion import Acknowledgement, CongestionControl
from dwcloud.protocol.udt.loss_lists import SenderLossList
from dwcloud.protocol.udt.pacing import Pacer
from dwcloud.protocol.udt.packets import (
    HEADER_SIZE,
    PROGRESS_MARK,
    Ack,
    Nak,
    Progress,
)
from dwcloud.protocol.udt.rtt import QuickEstimator, RTTEstimator
from dwcloud.protocol.udt.scoreboard import Scoreboard
from dwcloud.protocol.udt.send_buffer import SendBuffer
from dwcloud.protocol.udt.sequence import SequenceSpace, distance
from dwcloud.protocol.udt.transmit import Buffer, segments_per_batch

__all__ = ["Sender"]

_INITIAL_ARRIVAL_SPEED = 16
_INITIAL_CAPACITY = 1
_MINIMUM_WINDOW = 2
_POKE_DELAY = 0.0105
_PROBE_PACKETS = 16
_PROBE_MARGIN = 0.03
_HEADERS = 44
_EPSILON = 1e-6

_CALLS_TOGETHER = 4
"""Batches of one system call each that are made, kept and released as one: what that
costs is the same for one and for four of them."""


class Sender:
    """Makes packets of the stream and sends them until they are acknowledged.

    :param sequences: our sequence numbers.
    :param packet_size: negotiated size of a whole packet in bytes.
    :param destination_id: the peer's socket.
    :param flow_window: packets that the peer announced in its handshake.
    :param flight_window: the most packets in flight, whatever the peer allows.
    :param maximum_burst: the most packets at one wake-up.
    :param minimum_period: least seconds between packets.
    :param congestion: the controller.
    :param rtt: shared with the receiving half.
    :param opened_at: origin of our timestamps in seconds.
    """

    def __init__(
        self,
        *,
        sequences: SequenceSpace,
        packet_size: int,
        destination_id: int,
        flow_window: int,
        flight_window: int,
        maximum_burst: int,
        minimum_period: float,
        congestion: CongestionControl,
        rtt: RTTEstimator,
        opened_at: float,
    ) -> None:
        self._sequences = sequences
        payload_size = packet_size - _HEADERS
        self._flight_window = flight_window
        self._maximum_burst = maximum_burst
        self._minimum_period = minimum_period
        self._rtt = rtt
        self._opened_at = opened_at
        self._pacer = Pacer()
        self.congestion = congestion
        self.buffer = SendBuffer(sequences, payload_size, destination_id)
        self.set_packet_size(packet_size)
        self.flow_window = flow_window
        self.packets_sent = 0
        self.packets_retransmitted = 0
        self.offences = 0
        """Impossible ACKs and NAKs in a row."""
        self._next = 0
        self._acknowledged = 0
        self._released = 0
        self._last_ack_number: int | None = None
        self._arrival_speed = _INITIAL_ARRIVAL_SPEED
        self._capacity = _INITIAL_CAPACITY
        self._expire_at: float | None = None
        self._probe_at: float | None = None
        self._probes = 0
        self._expirations = 1
        self._poke_at: float | None = None
        self._losses = SenderLossList()
        self._scoreboard = Scoreboard()
        self._round_trip = QuickEstimator()

    def set_packet_size(self, size: int) -> None:
        """Make packets of that size from now on; it is that of a whole IPv4 packet."""
        self.packet_size = size
        self.buffer.payload_size = size - _HEADERS
        in_one_call = segments_per_batch(size - _HEADERS + HEADER_SIZE)
        self._per_batch = _CALLS_TOGETHER * in_one_call

    # State

    @property
    def expirations(self) -> int:
        """1, and one more for each expiration since anything was acknowledged."""
        return self._expirations

    def is_sending_larger_than(self, size: int) -> bool:
        """Tell whether the first unacknowledged packet is larger than that."""
        return self.buffer.first_segment_size() + _HEADERS - HEADER_SIZE > size

    @property
    def bytes_pending(self) -> int:
        """Bytes written but not yet acknowledged."""
        return self.buffer.unsent_bytes + self.buffer.unacknowledged_bytes

    @property
    def is_done(self) -> bool:
        """Whether everything written has been acknowledged."""
        return not self.buffer.unsent_bytes and self._released == self._next

    @property
    def period(self) -> float:
        """Seconds between packets."""
        return max(self.congestion.packet_sending_period_us / 1e6, self._minimum_period)

    # [udt:window]
    def _room(self) -> int:
        """How many new packets the windows allow."""
        unacknowledged = self._next - self._acknowledged
        # A window of 0 would be final: nothing would make the peer speak again.
        window = min(max(1, self.flow_window), self._flight_window)
        congestion = self.congestion
        if congestion.follows_reference:
            window = int(min(window, congestion.congestion_window_packets))
            return window - unacknowledged
        return min(window - unacknowledged, self._path_room())

    def _path_room(self) -> int:
        """How many packets more the controller wants on the way."""
        window = self.congestion.congestion_window_packets
        return int(min(window, self._flight_window)) - self._scoreboard.in_flight

    def _is_held_back(self) -> bool:
        """Tell whether the peer's buffer is what keeps us from sending."""
        window = min(self.flow_window, self._flight_window)
        return self._next - self._acknowledged >= window

    # Data out

    def packets_to_send(self, now: float) -> list[tuple[Buffer, int]]:
        """Return the datagrams due now: buffers and the size of each datagram in them.

        Lost packets go first and are not limited by the windows.
        """
        if not (self._losses or self.buffer.unsent_bytes):
            return []
        period = self.period
        budget = min(self._pacer.packets_due(now, period), self._maximum_burst)
        if budget <= 0:
            return []
        output: list[tuple[Buffer, int]] = []
        timestamp = int((now - self._opened_at) * 1e6) & 0xFFFFFFFF
        spent = self._retransmit(output, budget, timestamp, now)
        spent += self._send_new(output, budget - spent, timestamp, now)
        if not output:
            return output
        self._pacer.packets_sent(spent, now, period)
        if self._expire_at is None:
            self._expire_at = now + self._rtt.expiration(self._expirations)
            self._plan_probe(now)
        stalled = not self.buffer.unsent_bytes or self._room() <= 0
        if not self.buffer.unsent_bytes or self._is_held_back():
            by_peer = bool(self.buffer.unsent_bytes)
            self._scoreboard.limited(by_peer=by_peer)
        # [udt:poke]
        # The reference library acknowledges only when a packet comes or every 100 ms;
        # a keep-alive 10 ms after the last packet of a burst makes it do so.
        self._poke_at = now + _POKE_DELAY if stalled and not self._losses else None
        return output

    def _retransmit(
        self,
        output: list[tuple[Buffer, int]],
        budget: int,
        timestamp: int,
        now: float,
    ) -> int:
        spent = 0
        if not self.congestion.follows_reference:
            budget = min(budget, max(1, self._path_room()))
        while self._losses and spent < budget:
            limit = min(budget - spent, self._per_batch)
            first, last = self._losses.pop_first(limit)
            for wire, _, size in self.buffer.packets(first, last, timestamp):
                output.append((wire, size))
            self._scoreboard.sent_again(first, last, now)
            self.congestion.on_sent(first, last, retransmission=True, now=now)
            spent += last - first + 1
        self.packets_retransmitted += spent
        return spent

    def _send_new(
        self,
        output: list[tuple[Buffer, int]],
        budget: int,
        timestamp: int,
        now: float,
    ) -> int:
        """Send new packets; return how many of them count for the pace."""
        spent, begin, room = 0, self._next, self._room()
        while spent < budget and room > 0 and self.buffer.unsent_bytes:
            limit = min(room, budget - spent, self._per_batch)
            count = limit
            if self._sequences.number(self._next + limit - 1) & 15 == 0:
                # [udt:packet-pairs]
                # The packet after one numbered 16k leaves without delay: the pair
                # by which the receiver measures the capacity of the path.
                count = min(limit + 1, room, self._per_batch)
            batch = self.buffer.make_batch(self._next, count, timestamp)
            self._next = batch.end
            output.append((batch.wire, batch.segment_size))
            room -= batch.count
            free = limit if self.congestion.follows_reference else batch.count
            spent += min(batch.count, free)
        if self._next > begin:
            last = self._next - 1
            self._scoreboard.sent(begin, last, now)
            self.congestion.on_sent(begin, last, retransmission=False, now=now)
            self.packets_sent += self._next - begin
        return spent

    # Acknowledgements in

    @property
    def ack2_body(self) -> bytes:
        """What our ACK2s carry, which nobody looks at but a peer of our kind."""
        return bytes(4) if self.congestion.follows_reference else PROGRESS_MARK

    def ack_received(self, ack: Ack, now: float) -> bool:
        """Take an ACK; return False if it is impossible."""
        index = self._sequences.index(ack.sequence, self._acknowledged)
        if index > self._next:
            self.offences += 1
            return False
        self.offences = 0
        if ack.light:
            if index > self._acknowledged:
                self.flow_window = max(
                    0, self.flow_window - (index - self._acknowledged)
                )
                self._acknowledged = index
                self._losses.remove_before(index)
                # The last packet stays: sent again, it makes the peer send a full ACK.
                self.buffer.release(min(index, self._next - 1))
                self._scoreboard.acknowledged(index)
                self._progress(now)
                self._tell(now)
            return True
        progress = Progress.of(ack)
        if progress is not None:
            newest = self._sequences.index(progress.newest, self._acknowledged)
            if self._scoreboard.confirmed(index, newest, progress.early_packets):
                self._progress(now)
        if index >= self._acknowledged and not self._is_overtaken(ack, index):
            self._open_window(ack.available_buffer_packets or 0, index)
            self._acknowledged = index
        if index > self._released:
            self._release(ack, index, now)
        elif progress is not None:
            self._tell(now)
        return True

    # [udt:ack-order]
    def _is_overtaken(self, ack: Ack, index: int) -> bool:
        """Tell whether a younger ACK has told the window already."""
        last = self._last_ack_number
        if (
            index == self._acknowledged
            and last is not None
            and ack.ack_number
            and distance(last, ack.ack_number) < 0
        ):
            return True
        if ack.ack_number:
            self._last_ack_number = ack.ack_number
        return False

    def _open_window(self, window: int, index: int) -> None:
        unacknowledged = self._next - index
        if (
            self.flow_window <= _MINIMUM_WINDOW < window
            and 0 < unacknowledged <= _MINIMUM_WINDOW
            and index == self._acknowledged
        ):
            # Sent into a full buffer, announced as the minimum, and dropped there.
            self._losses.insert(index, self._next - 1)
        self.flow_window = window

    def _release(self, ack: Ack, index: int, now: float) -> None:
        newly_acknowledged = index - self._released
        self.buffer.release(index)
        self._released = index
        self._losses.remove_before(index)
        self._scoreboard.acknowledged(index)
        self._progress(now)
        self._tell(now)
        if ack.rtt_us is not None:
            self._rtt.update(ack.rtt_us)
        if ack.packet_arrival_speed:
            self._arrival_speed = (
                7 * self._arrival_speed + ack.packet_arrival_speed
            ) // 8
        if ack.estimated_link_capacity:
            self._capacity = (7 * self._capacity + ack.estimated_link_capacity) // 8
        self.congestion.on_ack(
            Acknowledgement(
                now=now,
                index=index,
                newly_acknowledged=newly_acknowledged,
                packets_in_flight=self._next - self._acknowledged,
                rtt_us=self._rtt.rtt_us,
                packet_arrival_speed=self._arrival_speed,
                estimated_link_capacity=self._capacity,
            )
        )

    def _tell(self, now: float) -> None:
        """Tell the controller what has reached the peer."""
        delivery = self._scoreboard.news(now)
        if delivery is not None:
            if delivery.round_trip is not None:
                self._round_trip.update(delivery.round_trip)
            self.congestion.on_delivery(delivery)

    def _progress(self, now: float) -> None:
        self._expirations = 1
        self._probes = 0
        if self._released == self._next:
            self._expire_at = self._poke_at = self._probe_at = None
        else:
            self._expire_at = now + self._rtt.expiration(1)
            self._plan_probe(now)

    # [udt:loss-list]
    def nak_received(self, nak: Nak, now: float) -> bool:
        """Take a loss report; return False if it is impossible."""
        ranges: list[tuple[int, int]] = []
        for first_number, last_number in nak.ranges:
            first = self._sequences.index(first_number, self._acknowledged)
            last = self._sequences.index(last_number, self._acknowledged)
            if first > last or last >= self._next:
                self.offences += 1
                return False
            first = max(first, self._acknowledged)
            if first <= last:
                ranges.append((first, last))
        if not ranges:
            return True
        for first, last in ranges:
            for repeat_first, repeat_last in self._scoreboard.reported(
                first, last, now
            ):
                self._losses.insert(repeat_first, repeat_last)
        self._tell(now)
        self.congestion.on_loss(ranges[0][0], self._next - 1, now=now)
        return True

    # Time

    def handle_timer(self, now: float) -> bool:
        """Do what is due; return whether a keep-alive should prompt the peer."""
        poke = False
        if self._poke_at is not None and now >= self._poke_at - _EPSILON:
            self._poke_at = None
            poke = self._released < self._next
        if self._probe_at is not None and now >= self._probe_at - _EPSILON:
            self._probe(now)
        if self._expire_at is not None and now >= self._expire_at - _EPSILON:
            poke = self._expired(now) or poke
        return poke

    def _plan_probe(self, now: float) -> None:
        if self.congestion.follows_reference:
            return
        interval = self._round_trip.repetition_interval
        if interval is None:
            interval = self._rtt.repetition_interval
        interval += _PROBE_MARGIN
        self._probe_at = now + interval * 2**self._probes

    def _probe(self, now: float) -> None:
        """No news for more than a round trip: send one packet again.

        Either a repetition was lost, of which the reference library does not tell, or
        the end of a burst, behind which there is nothing that reveals the gap.
        """
        self._probes += 1
        self._plan_probe(now)
        if not self._losses and self._released < self._next:
            index = self._scoreboard.suspect(self._probes)
            if index >= self._released:
                self._losses.insert(index, index)

    # [udt:expiration]
    def _expired(self, now: float) -> bool:
        """Nothing was acknowledged for too long: send what is in flight again."""
        if not self._losses:
            ranges = [(self._acknowledged, self._next - 1)]
            missing = self._scoreboard.expired()
            if not self.congestion.follows_reference:
                ranges = missing
            if self._expirations > 1:
                # The first attempt was in vain too: the peer may be gone.
                first, last = ranges[0] if ranges else (0, -1)
                ranges = [(first, min(last, first + _PROBE_PACKETS - 1))]
            for first, last in ranges:
                if first <= last:
                    self._losses.insert(first, last)
            self.congestion.on_timeout(now=now)
            self._expirations += 1
        self._expire_at = now + self._rtt.expiration(self._expirations)
        return not self._losses

    def next_time(self, not_before: float) -> float | None:
        """When something becomes due, in seconds, or None.

        :param not_before: no data leave before that time.
        """
        timers = (self._expire_at, self._poke_at, self._probe_at)
        times = [at for at in timers if at is not None]
        if self._losses or (self.buffer.unsent_bytes and self._room() > 0):
            times.append(max(self._pacer.next_time, not_before))
        return min(times, default=None)
