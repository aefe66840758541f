"""A small TCP: enough to behave as one for the programs above and the NATs between.

It opens, closes, half-closes, resets, repeats what is not acknowledged, obeys the
window of the reader and slows down before a congested queue. It does not cut its
octets exactly as a real TCP does, and it loses nothing on a lossy link: there its
segments come late instead (see :mod:`dwcloud.testing.links`).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

import attrs

from dwcloud.protocol.addresses import Address

from .packets import Flags, Packet, Segment
from .scheduler import ScheduledCall

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["State", "StreamConnection"]

#: Octets of a full segment: an Ethernet frame without headers and time stamps.
SEGMENT_SIZE = 1448
#: What a socket buffers in each direction, octets.
BUFFER_SIZE = 128 * 1024
#: Segments sent before the first acknowledgement (RFC 6928).
INITIAL_WINDOW = 10 * SEGMENT_SIZE
#: First and least retransmission timeout (RFC 6298, section 2), and the largest; s.
LEAST_TIMEOUT = 1.0
LARGEST_TIMEOUT = 60.0
#: Repetitions of a SYN and of data before the connection fails (Linux: 6 and 15).
SYN_RETRIES = 6
DATA_RETRIES = 15
#: How long an end that nobody reads any more waits for the other's FIN, seconds.
ORPHAN_TIMEOUT = 60.0
#: How long a closed connection answers repeated FINs, seconds.
TIME_WAIT = 2.0


class State(Enum):
    """How far a connection is; half-closed ones still count as established."""

    SYN_SENT = "syn sent"
    SYN_RECEIVED = "syn received"
    ESTABLISHED = "established"
    CLOSED = "closed"


@attrs.define
class _Sent:
    """A segment that is not acknowledged yet."""

    sequence: int
    data: bytes
    fin: bool
    sent_at: float
    repeated: bool = False

    @property
    def end(self) -> int:
        return self.sequence + len(self.data) + self.fin


class StreamConnection:
    """One end of a TCP connection, in the kernel of a simulated host.

    :ivar error: the error number that ended it, 0 if none did.
    :ivar end_received: whether the other end sends no more.
    :ivar is_shut_down: whether this end takes no more to send.
    :param on_change: called when it may have become readable or writable.
    """

    def __init__(
        self, host: Host, local: Address, remote: Address, on_change: Callable[[], None]
    ) -> None:
        self._host = host
        self._scheduler = host.world.scheduler
        self._on_change: Callable[[], None] | None = on_change
        self._on_established: Callable[[], None] | None = None
        self.local = local
        self.remote = remote
        self.state = State.SYN_SENT
        self.error = 0
        # Sending.
        self._to_send = bytearray()
        self._unacknowledged: deque[_Sent] = deque()
        # How many of the unacknowledged segments are taken to be under way; those
        # after them wait to be repeated.
        self._under_way = 0
        self._send_next = 0
        self._acknowledged = 0
        self._peer_window_end = 0
        self._congestion_window: float = INITIAL_WINDOW
        self._slow_start_end: float = float("inf")
        self._reduced_at = 0
        self.is_shut_down = False
        self._fin_sent = False
        self._timer: ScheduledCall | None = None
        self._retries = 0
        self._smoothed_rtt = 0.0
        self._rtt_variation = 0.0
        # Receiving.
        self._received = bytearray()
        self._receive_next = 0
        self._window_end = BUFFER_SIZE
        self._early: dict[int, tuple[bytes, bool]] = {}
        self._congestion_seen = False
        self.end_received = False

    def __repr__(self) -> str:
        return f"<StreamConnection {self.local} - {self.remote} {self.state.value}>"

    # What the socket asks for

    def open(self) -> None:
        """Send the first SYN."""
        self._send_syn()

    def open_passively(self, on_established: Callable[[], None]) -> None:
        """Answer the SYN that made a listener create this connection."""
        self.state = State.SYN_RECEIVED
        self._on_established = on_established
        self._send_syn()

    @property
    def readable(self) -> bool:
        """Whether reading would not block."""
        return bool(self._received or self.end_received or self.error)

    @property
    def writable(self) -> bool:
        """Whether writing would not block."""
        if self.state is State.ESTABLISHED:
            return len(self._to_send) <= BUFFER_SIZE // 2
        return self.state is State.CLOSED

    @property
    def room(self) -> int:
        """How many octets :meth:`write` takes now."""
        return max(0, BUFFER_SIZE - len(self._to_send))

    @property
    def buffered_bytes(self) -> int:
        """Octets kept here: to be sent, to be acknowledged, and to be read."""
        return (
            len(self._to_send)
            + sum(len(sent.data) for sent in self._unacknowledged)
            + len(self._received)
            + sum(len(data) for data, _ in self._early.values())
        )

    def write(self, data: bytes) -> int:
        """Take octets to be sent and return how many there was room for."""
        taken = data[: self.room]
        self._to_send += taken
        self._transmit()
        return len(taken)

    def read(self, limit: int) -> bytes:
        """Return received octets, at most ``limit``; none at the end of the stream."""
        data = bytes(self._received[:limit])
        del self._received[:limit]
        window_end = self._receive_next + BUFFER_SIZE - len(self._received)
        if window_end - self._window_end >= BUFFER_SIZE // 2:
            self._send(Flags.ACK)
        return data

    def shut_down(self) -> None:
        """Send what is buffered and then the end of the stream."""
        if self.state in (State.ESTABLISHED, State.SYN_RECEIVED):
            self.is_shut_down = True
            self._transmit()

    def close(self, *, abort: bool) -> None:
        """Let go of the connection; nobody reads or writes here any more.

        As in a real kernel, unread octets turn an orderly close into a reset.
        """
        self._on_change = None
        self._on_established = None
        if self.state is State.CLOSED:
            return
        if self.state is State.SYN_SENT:
            self.vanish()
        elif abort or self._received or self.state is State.SYN_RECEIVED:
            self._send(Flags.RST)
            self.vanish()
        else:
            self.is_shut_down = True
            self._transmit()
            self._finish_if_done()
            self._scheduler.schedule(ORPHAN_TIMEOUT, self._orphan_timed_out)

    def vanish(self) -> None:
        """Forget the connection without a packet."""
        self.state = State.CLOSED
        self._stop_timer()
        self._host.remove_connection(self)

    # What arrives

    def receive(self, packet: Packet) -> None:
        """Take a segment from the network."""
        segment = packet.segment
        assert segment is not None
        if segment.flags & Flags.RST:
            refused = self.state is State.SYN_SENT
            self._fail(errno.ECONNREFUSED if refused else errno.ECONNRESET)
            return
        if segment.flags & Flags.SYN:
            self._receive_syn(packet, segment)
            return
        if self.state is State.SYN_SENT or self.state is State.CLOSED:
            return
        if self.state is State.SYN_RECEIVED:
            self._establish(segment)
        self._receive_acknowledgement(segment)
        if packet.payload or segment.flags & Flags.FIN:
            is_new = segment.sequence >= self._receive_next
            if self._on_change is None and packet.payload and is_new:
                # Nobody will ever read this: the other end must not wait.
                self._send(Flags.RST)
                self.vanish()
                return
            self._congestion_seen = self._congestion_seen or packet.congested
            self._receive_data(segment, packet.payload)
            self._send(Flags.ACK)
        self._transmit()
        self._finish_if_done()
        self._changed()

    def _receive_syn(self, packet: Packet, segment: Segment) -> None:
        if self.is_done:
            # The same two addresses again: the old connection makes room.
            self.vanish()
            self._host.receive_segment(packet)
        elif self.state is State.SYN_SENT and not segment.flags & Flags.ACK:
            # Both ends opened at once (RFC 9293, 3.5).
            self.state = State.SYN_RECEIVED
            self._send_syn()
        elif self.state is State.SYN_RECEIVED and not segment.flags & Flags.ACK:
            self._send_syn()
        else:
            if self.state is not State.ESTABLISHED:
                self._establish(segment)
            self._send(Flags.ACK)

    def _establish(self, segment: Segment) -> None:
        self.state = State.ESTABLISHED
        self._peer_window_end = segment.window_end
        self._retries = 0
        self._stop_timer()
        if self._on_established is not None:
            self._on_established()
        self._changed()

    def _receive_acknowledgement(self, segment: Segment) -> None:
        self._peer_window_end = max(self._peer_window_end, segment.window_end)
        number = segment.acknowledgement
        if segment.congestion_echo and number > self._reduced_at:
            self._congestion_window = max(
                2.0 * SEGMENT_SIZE, self._congestion_window / 2
            )
            self._slow_start_end = self._congestion_window
            self._reduced_at = self._send_next
        if number <= self._acknowledged:
            return
        newly = number - self._acknowledged
        self._acknowledged = number
        if self._congestion_window < self._slow_start_end:
            self._congestion_window += newly
        else:
            self._congestion_window += SEGMENT_SIZE * newly / self._congestion_window
        self._retries = 0
        while self._unacknowledged and self._unacknowledged[0].end <= number:
            sent = self._unacknowledged.popleft()
            self._under_way = max(0, self._under_way - 1)
            if not sent.repeated:
                self._measure(self._scheduler.now - sent.sent_at)
        if self._unacknowledged or self._to_send:
            self._start_timer()
        else:
            self._stop_timer()

    def _measure(self, rtt: float) -> None:
        """Follow the round-trip time (RFC 6298, section 2)."""
        if not self._smoothed_rtt:
            self._smoothed_rtt, self._rtt_variation = rtt, rtt / 2
        else:
            deviation = abs(self._smoothed_rtt - rtt)
            self._rtt_variation = 0.75 * self._rtt_variation + 0.25 * deviation
            self._smoothed_rtt = 0.875 * self._smoothed_rtt + 0.125 * rtt

    def _receive_data(self, segment: Segment, data: bytes) -> None:
        end = segment.sequence + len(data)
        # One segment more than announced, so that a probe of the window gets in.
        room = BUFFER_SIZE - len(self._received) + SEGMENT_SIZE
        if end > self._receive_next + room or segment.sequence < self._receive_next:
            return
        self._early[segment.sequence] = data, bool(segment.flags & Flags.FIN)
        while self._receive_next in self._early:
            data, is_last = self._early.pop(self._receive_next)
            self._received += data
            self._receive_next += len(data) + is_last
            self.end_received = self.end_received or is_last

    # What is sent

    def _send_syn(self) -> None:
        flags = Flags.SYN
        if self.state is State.SYN_RECEIVED:
            flags |= Flags.ACK
        packet = self._send(flags)
        if packet is not None and self.state is State.SYN_SENT:
            packet.on_unreachable = self._unreachable
        self._start_timer()

    def _transmit(self) -> None:
        """Send what the windows allow: first what is to be repeated, then new data."""
        if self.state is not State.ESTABLISHED:
            return
        unacknowledged = self._unacknowledged
        while self._under_way < len(unacknowledged):
            sent = unacknowledged[self._under_way]
            if self._under_way and sent.end > self._send_limit():
                break
            sent.repeated = True
            self._under_way += 1
            self._send_data(sent)
        else:
            self._transmit_new()
        if (unacknowledged or self._to_send) and self._timer is None:
            self._start_timer()

    def _send_limit(self) -> int:
        return min(
            self._peer_window_end, self._acknowledged + int(self._congestion_window)
        )

    def _transmit_new(self) -> None:
        while self._to_send:
            wanted = min(SEGMENT_SIZE, len(self._to_send))
            room = self._send_limit() - self._send_next
            # A small piece only if nothing else keeps the connection going.
            if room < wanted and (room <= 0 or self._unacknowledged):
                return
            self._send_new(min(wanted, room))
        if self.is_shut_down and not self._fin_sent:
            self._fin_sent = True
            self._send_new(0, fin=True)

    def _send_new(self, size: int, *, fin: bool = False) -> None:
        data = bytes(self._to_send[:size])
        del self._to_send[:size]
        sent = _Sent(self._send_next, data, fin, self._scheduler.now)
        self._send_next = sent.end
        self._unacknowledged.append(sent)
        self._under_way += 1
        self._send_data(sent)

    def _send_data(self, sent: _Sent) -> None:
        flags = Flags.ACK | Flags.FIN if sent.fin else Flags.ACK
        self._send(flags, sent.sequence, sent.data)

    def _send(
        self, flags: int, sequence: int | None = None, data: bytes = b""
    ) -> Packet | None:
        window = max(0, BUFFER_SIZE - len(self._received))
        self._window_end = max(self._window_end, self._receive_next + window)
        segment = Segment(
            flags=flags,
            sequence=self._send_next if sequence is None else sequence,
            acknowledgement=self._receive_next,
            window_end=self._window_end,
            congestion_echo=self._congestion_seen,
        )
        self._congestion_seen = False
        return self._host.send_segment(self.local, self.remote, segment, data)

    # Time

    def _start_timer(self) -> None:
        timeout = self._smoothed_rtt + 4 * self._rtt_variation
        timeout = max(LEAST_TIMEOUT, timeout) * 2**self._retries
        timeout = min(LARGEST_TIMEOUT, timeout)
        if self._timer is None:
            self._timer = self._scheduler.schedule(timeout, self._timed_out)
        else:
            self._timer.reset(timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        self._retries += 1
        if self.state is not State.ESTABLISHED:
            if self._retries > SYN_RETRIES:
                self._fail(errno.ETIMEDOUT)
            else:
                self._send_syn()
            return
        if self._retries > DATA_RETRIES:
            self._fail(errno.ETIMEDOUT)
            return
        if self._unacknowledged:
            self._slow_start_end = max(2.0 * SEGMENT_SIZE, self._congestion_window / 2)
            self._congestion_window = SEGMENT_SIZE
            self._under_way = 0
            self._transmit()
        elif self._to_send:
            # The window is closed and its opening may have got lost: probe it.
            self._send_new(1)
        self._start_timer()

    def _orphan_timed_out(self) -> None:
        if self.state is not State.CLOSED and not self._unacknowledged:
            self.vanish()

    # The end

    @property
    def is_done(self) -> bool:
        """Whether both directions have ended and this end knows it."""
        return self._fin_sent and not self._unacknowledged and self.end_received

    def _finish_if_done(self) -> None:
        if self.is_done and self._on_change is None:
            self._stop_timer()
            self._scheduler.schedule(TIME_WAIT, self.vanish)

    def _unreachable(self, number: int) -> None:
        if self.state is State.SYN_SENT:
            self._fail(number)

    def _fail(self, number: int) -> None:
        self.error = number
        self._to_send.clear()
        self._unacknowledged.clear()
        self.vanish()
        self._changed()

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()
