"""The sending and the receiving half, made when a handshake has succeeded."""

from __future__ import annotations

from collections.abc import Callable

from dwcloud.protocol.udt.configuration import (
    MINIMUM_PACKET_SIZE,
    Configuration,
    SocketType,
)
from dwcloud.protocol.udt.congestion import Parameters, create_congestion_control
from dwcloud.protocol.udt.handshake import Handshake
from dwcloud.protocol.udt.message_receiving import MessageReceiver
from dwcloud.protocol.udt.message_sending import MessageSender
from dwcloud.protocol.udt.receiving import Receiver
from dwcloud.protocol.udt.rtt import RTTEstimator
from dwcloud.protocol.udt.sending import Sender
from dwcloud.protocol.udt.sequence import SequenceSpace

__all__ = ["make_halves", "packet_size_limit"]

_LONGER_IPV6_HEADER = 20


def packet_size_limit(own: Handshake, peer: Handshake, host: str) -> int:
    """Return the largest packet that both ends and the IP version allow, in bytes.

    The size of a packet is that over IPv4; over IPv6 it becomes 20 bytes longer on
    the wire, which the reference library does not take into account.

    :param host: the peer's IP address.
    """
    # [udt:packet-size]
    size = min(own.maximum_packet_size, peer.maximum_packet_size)
    if ":" in host and "." not in host:
        size = max(MINIMUM_PACKET_SIZE, size - _LONGER_IPV6_HEADER)
    return size


def make_halves(
    configuration: Configuration,
    own: Handshake,
    peer: Handshake,
    *,
    rtt: RTTEstimator,
    random: Callable[[], float],
    opened_at: float,
) -> tuple[Sender, Receiver]:
    """Return both halves of a connection on the terms of two handshakes.

    :param random: returns a number from 0 to 1.
    :param opened_at: origin of our timestamps in seconds.
    """
    packet_size = min(configuration.maximum_packet_size, peer.maximum_packet_size)
    minimum_period = 0.0
    if configuration.maximum_bandwidth:
        minimum_period = packet_size / configuration.maximum_bandwidth
    parameters = Parameters(
        maximum_packet_size=packet_size,
        flow_window_packets=peer.flow_window_packets,
        random=random,
        fixed_rate=configuration.fixed_rate,
    )
    messages = configuration.socket_type is SocketType.DATAGRAM
    sender = (MessageSender if messages else Sender)(
        sequences=SequenceSpace(own.initial_sequence),
        packet_size=packet_size,
        destination_id=peer.socket_id,
        flow_window=peer.flow_window_packets,
        flight_window=configuration.flight_window_packets,
        maximum_burst=configuration.maximum_burst_packets,
        minimum_period=minimum_period,
        congestion=create_congestion_control(
            configuration.congestion_control, parameters
        ),
        rtt=rtt,
        opened_at=opened_at,
    )
    capacity = configuration.announced_window_packets
    receiver = (MessageReceiver if messages else Receiver)(
        sequences=SequenceSpace(peer.initial_sequence),
        capacity_packets=capacity,
        # A message cannot be read before it is whole.
        unread_limit_packets=(
            capacity if messages else configuration.unread_limit_packets
        ),
        payload_size=packet_size - 44,
        socket_id=own.socket_id,
        destination_id=peer.socket_id,
        rtt=rtt,
    )
    return sender, receiver
