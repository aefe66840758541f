"""How large packets may be on this path, found out by probing (RFC 8899).

The handshake says what the peer takes, not what the routers between carry, and a
packet too large for one of them vanishes without a word. A packet that has been sent
cannot be cut afterwards, since its number stands for all of its payload. Data are
therefore sent in packets of a size that passes everywhere, until a probe of a larger
size has been answered.

A probe is an ACK with zeros after its body. Any peer, the reference library included,
confirms its number by an ACK2 and ignores the rest.
"""

from __future__ import annotations

from dwcloud.protocol.udt.receiving import Receiver
from dwcloud.protocol.udt.rtt import RTTEstimator
from dwcloud.protocol.udt.sending import Sender

__all__ = ["BASE_PACKET_SIZE", "PathMTU"]

BASE_PACKET_SIZE = 1260
"""Bytes of a whole IPv4 packet taken for granted: 20 less than what every path of
IPv6 carries (RFC 8200, section 5)."""

_COMMON_SIZES = (1492, 1480, 1460, 1440, 1420, 1400, 1380, 1340, 1300)
"""Packet sizes between the base and Ethernet's 1500 that tunnels leave over."""

_ROUNDS = 4
_PROBE_INTERVAL = 0.25
_RAISE_INTERVAL = 600.0
_SUSPICIOUS_EXPIRATIONS = 3
_HOPELESS_EXPIRATIONS = 16
_EPSILON = 1e-6


class PathMTU:
    """Probes the path and sets the sender's packet size.

    :param limit: the most that both ends allow, in bytes of a whole IPv4 packet.
    :param enabled: if not, ``limit`` is used from the start.
    :param start: when to begin, in seconds.
    """

    __slots__ = (
        "_candidates",
        "_limit",
        "_next_at",
        "_probes",
        "_receiver",
        "_round",
        "_rtt",
        "_sender",
        "_suspected",
    )

    def __init__(
        self,
        limit: int,
        sender: Sender,
        receiver: Receiver,
        rtt: RTTEstimator,
        *,
        enabled: bool,
        start: float,
    ) -> None:
        self._limit = limit
        self._sender = sender
        self._receiver = receiver
        self._rtt = rtt
        self._probes: dict[int, int] = {}
        self._round = 0
        self._suspected = False
        self._candidates: tuple[int, ...] = ()
        if enabled and limit > BASE_PACKET_SIZE:
            smaller = (size for size in _COMMON_SIZES if size < limit)
            self._candidates = (limit, *smaller)
        self._next_at = start if self._candidates else None
        sender.set_packet_size(BASE_PACKET_SIZE if self._candidates else limit)

    @property
    def next_time(self) -> float | None:
        """When to call :meth:`handle_timer`, in seconds, or None."""
        return self._next_at

    def handle_timer(self, now: float) -> list[bytes]:
        """Return the probes that are due."""
        # [udt:black-hole]
        if self._sender.expirations <= 1:
            if self._suspected:
                # The path is back, perhaps as it was.
                self._suspected = False
                self._next_at, self._round = now, 0
        elif (
            self._sender.expirations > _SUSPICIOUS_EXPIRATIONS
            and not self._suspected
            and self._sender.packet_size > BASE_PACKET_SIZE
            and self._candidates
        ):
            self._suspected = True
            self._sender.set_packet_size(BASE_PACKET_SIZE)
            self._next_at, self._round = now, 1
        if self._next_at is None or now < self._next_at - _EPSILON:
            return []
        self._round += 1
        if self._round > _ROUNDS:
            # A path may become better, too.
            self._round, self._next_at = 0, now + _RAISE_INTERVAL
            self._probes.clear()
            return []
        self._next_at = now + max(_PROBE_INTERVAL, self._rtt.repetition_interval)
        # The largest alone first: it passes nearly always.
        candidates = self._candidates[:1] if self._round == 1 else self._candidates
        return [
            self._probe(size, now)
            for size in candidates
            if size > self._sender.packet_size
        ]

    def _probe(self, size: int, now: float) -> bytes:
        # [udt:path-mtu]
        number, packet = self._receiver.probe(size, now)
        self._probes[number] = size
        return packet

    def ack2_received(self, ack_number: int) -> None:
        """Take the confirmation of an ACK, which may have been a probe."""
        size = self._probes.pop(ack_number, 0)
        if size <= self._sender.packet_size:
            return
        self._sender.set_packet_size(size)
        if size == self._limit:
            self._round, self._next_at = 0, None
            self._probes.clear()

    def is_blocked(self) -> bool:
        """Tell whether packets sent when the path was wider cannot pass any more."""
        sender = self._sender
        return (
            self._suspected
            and sender.expirations > _HOPELESS_EXPIRATIONS
            and sender.is_sending_larger_than(sender.packet_size)
        )
