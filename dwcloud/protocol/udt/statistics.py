"""What a connection has measured."""

from __future__ import annotations

import attrs

from dwcloud.protocol.udt.receiving import Receiver
from dwcloud.protocol.udt.rtt import RTTEstimator
from dwcloud.protocol.udt.sending import Sender

__all__ = ["Statistics"]


@attrs.frozen(kw_only=True)
class Statistics:
    """A snapshot of a connection's measurements."""

    rtt: float
    """Smoothed round-trip time in seconds."""
    rtt_variance: float
    """Its variance in seconds."""
    packets_sent: int = 0
    packets_retransmitted: int = 0
    packets_received: int = 0
    packets_duplicate: int = 0
    packets_lost: int = 0
    """Packets that were seen missing on receipt, whether they came later or not."""
    packets_dropped: int = 0
    """Packets that came when the receive buffer was full."""
    packet_size: int = 0
    """Bytes of a whole IPv4 packet as sent now, see :mod:`.path_mtu`."""
    flow_window_packets: int = 0
    congestion_window_packets: float = 0.0
    packet_sending_period: float = 0.0
    """Seconds between packets sent."""
    packet_arrival_speed: int = 0
    """Packets per second received, as told to the peer."""
    estimated_link_capacity: int = 0
    """Packets per second the way to us can carry, as told to the peer."""

    @classmethod
    def take(
        cls, rtt: RTTEstimator, sender: Sender | None, receiver: Receiver | None
    ) -> Statistics:
        """Return the state of a connection; before it is up there are no halves."""
        if sender is None or receiver is None:
            return cls(rtt=rtt.rtt, rtt_variance=rtt.variance_us / 1e6)
        return cls(
            rtt=rtt.rtt,
            rtt_variance=rtt.variance_us / 1e6,
            packets_sent=sender.packets_sent,
            packets_retransmitted=sender.packets_retransmitted,
            packets_received=receiver.packets_received,
            packets_duplicate=receiver.packets_duplicate,
            packets_lost=receiver.packets_lost,
            packets_dropped=receiver.packets_dropped,
            packet_size=sender.packet_size,
            flow_window_packets=sender.flow_window,
            congestion_window_packets=sender.congestion.congestion_window_packets,
            packet_sending_period=sender.period,
            packet_arrival_speed=receiver.speed.packets_per_second,
            estimated_link_capacity=receiver.capacity.packets_per_second,
        )
