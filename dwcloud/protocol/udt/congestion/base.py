"""What a congestion controller is told and what it decides."""

from __future__ import annotations

import abc
from collections.abc import Callable

import attrs

__all__ = ["Acknowledgement", "CongestionControl", "Parameters"]


@attrs.frozen(kw_only=True)
class Parameters:
    """What a controller is made with."""

    maximum_packet_size: int
    """Size of a whole packet in bytes."""
    flow_window_packets: int
    """The peer's window as announced in its handshake."""
    random: Callable[[], float]
    """Returns a number from 0 to 1."""
    fixed_rate: float = 10_000.0
    """Packets per second for a controller that does not control."""


@attrs.frozen(kw_only=True)
class Acknowledgement:
    """What an ACK that released packets says."""

    now: float
    """When it was received, in seconds."""
    index: int
    """All packets before this index (counted from 0) have been received."""
    newly_acknowledged: int
    """How many packets it released."""
    packets_in_flight: int
    """How many stay unacknowledged."""
    rtt_us: int
    """Smoothed round-trip time in microseconds."""
    round_trip: float
    """Seconds since the newest released packet was last sent."""
    packet_arrival_speed: int
    """Smoothed packets per second at the receiver."""
    estimated_link_capacity: int
    """Smoothed packets per second that the path can carry."""


class CongestionControl(abc.ABC):
    """Decides how fast and how far ahead to send.

    :ivar packet_sending_period_us: microseconds from one packet to the next.
    :ivar congestion_window_packets: the most packets that may be unacknowledged.
    """

    name: str

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.packet_sending_period_us = 1.0
        self.congestion_window_packets = 16.0

    def on_sent(
        self, first: int, last: int, *, retransmission: bool, now: float
    ) -> None:
        """Packets ``first`` to ``last`` (indices) were sent at ``now`` (seconds)."""
        return None

    @abc.abstractmethod
    def on_ack(self, acknowledgement: Acknowledgement) -> None:
        """An ACK released packets."""

    @abc.abstractmethod
    def on_loss(self, first_lost: int, largest_sent: int, *, now: float) -> None:
        """A loss report came; both are indices, the first of its gaps and our last."""

    @abc.abstractmethod
    def on_timeout(self, *, now: float) -> None:
        """Nothing was acknowledged for a whole expiration interval."""
