"""The settings of a UDT port and its connections."""

from __future__ import annotations

import enum
from typing import Any

import attrs

__all__ = ["MINIMUM_PACKET_SIZE", "Configuration", "SocketType"]

MINIMUM_PACKET_SIZE = 76
"""The least maximum packet size that a handshake may name, in bytes."""


class SocketType(enum.IntEnum):
    """The kind of socket, as the handshake names it (docs/protocol/udt)."""

    STREAM = 1
    DATAGRAM = 2


def _at_least(minimum: float) -> Any:
    return attrs.validators.ge(minimum)


@attrs.frozen(kw_only=True)
class Configuration:
    """Settings for all connections of a multiplexer.

    Sizes are in packets or bytes as the name says, durations in seconds.
    """

    socket_type: SocketType = SocketType.STREAM
    """Stream or datagram; both ends must agree."""

    maximum_packet_size: int = attrs.field(
        default=1500,
        validator=[_at_least(MINIMUM_PACKET_SIZE), attrs.validators.le(65_535)],
    )
    """The size of a whole IPv4 packet ("MSS"); the payload is 44 bytes less."""

    path_mtu_discovery: bool = True
    """Send packets above 1260 bytes only when a probe of their size has been answered,
    see :mod:`.path_mtu`."""

    receive_buffer_packets: int = attrs.field(default=32_768, validator=_at_least(33))
    """The receive buffer; one packet less is announced to the peer. Memory is used
    only for what has arrived. 1 Gbit/s at 200 ms keeps 17,000 packets on the way."""

    unread_limit_packets: int = attrs.field(default=8192, validator=_at_least(33))
    """Packets that the program has not read at which the window is closed: beyond
    this the receive buffer is for what waits behind a gap, not for a slow reader."""

    flight_window_packets: int = attrs.field(default=32_768, validator=_at_least(32))
    """The most packets that may be unacknowledged, whatever the peer allows."""

    send_buffer_limit: int = attrs.field(default=64 << 20, validator=_at_least(1))
    """Bytes queued or unacknowledged above which the program should stop writing."""

    unsent_limit: int = attrs.field(default=1 << 20, validator=_at_least(1))
    """Bytes not sent for the first time at which it should stop already: more would
    only grow old in the queue of a slow path."""

    send_buffer_low_water: int = attrs.field(validator=_at_least(0))
    """Bytes at which, after that, :class:`SendBufferLow` tells it to go on; a quarter
    of the limit unless given, and less than the limit in any case."""

    @send_buffer_low_water.default
    def _quarter_of_the_limit(self) -> int:
        return self.send_buffer_limit // 4

    @send_buffer_low_water.validator
    def _check_low_water(self, attribute: object, value: int) -> None:
        if value >= self.send_buffer_limit:
            raise ValueError(
                f"send_buffer_low_water {value} must be less than "
                f"send_buffer_limit {self.send_buffer_limit}"
            )

    maximum_connections: int = attrs.field(default=50_000, validator=_at_least(1))
    """The most connections of a port, beyond which its listener rejects clients."""

    congestion_control: str = "bbr"
    """The name of the congestion controller, see :mod:`.congestion`."""

    fixed_rate: float = 10_000.0
    """Packets per second of the controller named ``fixed``."""

    maximum_bandwidth: float | None = None
    """Upper limit of the sending rate in bytes per second, or None."""

    maximum_burst_packets: int = attrs.field(default=512, validator=_at_least(2))
    """The most packets sent in one turn, so that others have theirs; what keeps queues
    on the way short is the pace."""

    handshake_interval: float = 0.25
    """The time between repetitions of a handshake packet (docs/protocol/udt)."""

    rendezvous_interval: float = 1.0
    """The same for a rendezvous of which nothing was heard in its first second; it
    doubles with each repetition, up to four times as much.

    Whoever names an address to meet at makes us send there: in 15 s no more bytes
    than the request to meet had, with the probes beside them
    (docs/protocol/punching)."""

    connect_timeout: float = 3.0
    """How long a regular client tries."""

    rendezvous_timeout: float = 30.0
    """How long a rendezvous tries."""

    first_data_delay: float = 0.02
    """The wait of acceptor and rendezvous before their first data."""

    keep_alive_interval: float | None = 10.0
    """A keep-alive is sent when nothing else was for that long; None leaves it to
    the expiration timer, several times a second, as the reference library does."""

    silence_limit: float = 46.0
    """A connection on which nothing was received for that long is broken."""

    linger: float = 180.0
    """How long ``close`` waits for the acknowledgement of what was written."""

    shutdown_repetitions: int = attrs.field(default=3, validator=_at_least(1))
    """How many shutdown packets are sent, as nobody acknowledges them."""

    def limit_with(self, unacknowledged: int) -> int:
        """Return the bytes in the send buffer above which writing should stop.

        They grow with what the path holds, so that little waits unsent.

        :param unacknowledged: how many of them are on their way.
        """
        return min(self.send_buffer_limit, self.unsent_limit + unacknowledged)

    def low_water_with(self, unacknowledged: int) -> int:
        """Return the bytes at which it goes on."""
        low = self.unsent_limit * 3 // 4 + unacknowledged
        return low if low < self.send_buffer_limit else self.send_buffer_low_water

    @property
    def payload_size(self) -> int:
        """The most payload of one data packet in bytes (docs/protocol/udt)."""
        return self.maximum_packet_size - 44

    @property
    def announced_window_packets(self) -> int:
        """The flow window named in our handshakes."""
        return min(self.receive_buffer_packets - 1, self.flight_window_packets)
