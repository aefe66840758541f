"""One UDT connection."""

from __future__ import annotations

import enum

import attrs

__all__ = ["Connection", "State", "Statistics"]


class State(enum.Enum):
    """Where a connection stands."""

    REQUESTING = "client: first request sent"
    CONCLUDING = "client: cookie received, conclusion sent"
    MEETING = "rendezvous: nothing heard from the peer"
    AGREEING = "rendezvous: peer heard, conclusion sent"
    CONNECTED = "up"
    LINGERING = "closed here, waiting for acknowledgements"
    PEER_CLOSED = "shut down by the peer, waiting for the reader and late ACKs"
    CLOSING = "shutdown sent, repeated a few times"
    CLOSED = "gone"


@attrs.frozen
class Statistics:
    """A snapshot of a connection's measurements."""

    rtt: float
    """Smoothed round-trip time in seconds."""
    rtt_variance: float
    """Its variance in seconds."""
    packets_sent: int
    packets_retransmitted: int
    packets_received: int
    packets_duplicate: int
    packets_lost: int
    """Packets that were seen missing on receipt, whether they came later or not."""
    flow_window_packets: int
    congestion_window_packets: float
    packet_sending_period: float
    """Seconds between packets sent."""
    packet_arrival_speed: int
    """Packets per second received, as told to the peer."""
    estimated_link_capacity: int
    """Packets per second the way to us can carry, as told to the peer."""


class Connection:
    """One connection; made by a multiplexer, never directly."""

    socket_id: int
    peer_address: tuple[str, int]
    state: State
    send_buffer_limit: int
    send_buffer_low_water: int

    @property
    def send_buffer_bytes(self) -> int:
        """Bytes written but not yet acknowledged by the peer."""
        ...

    @property
    def readable_bytes(self) -> int:
        """Bytes that :meth:`read` can return."""
        ...

    @property
    def statistics(self) -> Statistics:
        """Measurements so far."""
        ...

    def write(self, data: bytes, *, now: float) -> None:
        """Queue bytes for the peer; the limit is the caller's affair."""

    def read(self, limit: int | None = None) -> bytes:
        """Take up to ``limit`` received bytes, all of them by default."""
        ...

    def close(self, *, now: float) -> None:
        """Send what was written, wait for its acknowledgement, then shut down."""

    def abort(self, *, now: float) -> None:
        """Shut down at once and drop what was written."""
