"""What a congestion controller is told and what it decides."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

import attrs

__all__ = ["Acknowledgement", "CongestionControl", "Delivery", "Parameters"]


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
    packet_arrival_speed: int
    """Smoothed packets per second at the receiver."""
    estimated_link_capacity: int
    """Smoothed packets per second that the path can carry."""


@attrs.frozen(kw_only=True)
class Delivery:
    """What an ACK of any kind or a loss report says about delivery.

    Comes more often than :class:`Acknowledgement` and sees what arrived behind a gap;
    it is worked out by the sender alone (:mod:`..scoreboard`).
    """

    now: float
    """When the news was received, in seconds."""
    delivered: int
    """Packets that have reached the peer since the beginning."""
    newly_delivered: int
    """How many of them are news; may be 0 when there are only losses."""
    lost: int
    """Losses reported since the beginning."""
    packets_in_flight: int
    """Packets that are neither delivered nor known to be lost."""
    rate: float | None
    """Packets per second delivered over about the last round trip; None if the news
    does not tell."""
    round_trip: float | None
    """Seconds since the newest of them was sent; None if the news does not tell."""
    delivered_before: int | None
    """The value of ``delivered`` when the newest of them was sent: a round trip has
    passed when this reaches the ``delivered`` of its beginning."""
    limited: bool
    """Whether the sender could have sent more at that time, but had nothing to send or
    no room at the receiver, so that ``rate`` is no limit of the path."""
    limited_by_peer: bool = False
    """If so, whether it was the receiver's room."""


class CongestionControl(abc.ABC):
    """Decides how fast and how far ahead to send.

    :ivar packet_sending_period_us: microseconds from one packet to the next.
    :ivar congestion_window_packets: the most packets that may be on their way; what
        that means says :attr:`follows_reference`.
    """

    name: str

    follows_reference: ClassVar[bool] = False
    """Whether packets are counted as the reference library does it: the window limits
    what lies between the cumulative ACK and the newest packet, delivered or not; the
    second packet of a pair does not count for the pace; each loss report counts, so
    that the peer must be sparing with them. Otherwise the window limits
    :attr:`Delivery.packets_in_flight` and everything counts for the pace."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.packet_sending_period_us = 1.0
        self.congestion_window_packets = 16.0

    def on_sent(
        self, first: int, last: int, *, retransmission: bool, now: float
    ) -> None:
        """Packets ``first`` to ``last`` (indices) were sent at ``now`` (seconds)."""
        return None

    def on_ack(self, acknowledgement: Acknowledgement) -> None:
        """An ACK, short or full, released packets; after :meth:`on_delivery`."""
        return None

    def on_delivery(self, delivery: Delivery) -> None:
        """An ACK of any kind or a loss report told about delivery."""
        return None

    @abc.abstractmethod
    def on_loss(self, first_lost: int, largest_sent: int, *, now: float) -> None:
        """A loss report came; both are indices, the first of its gaps and our last.

        ``now`` is in seconds; :meth:`on_delivery` comes before.
        """

    @abc.abstractmethod
    def on_timeout(self, *, now: float) -> None:
        """Nothing was acknowledged for a whole expiration interval."""
