"""What is to be sent: datagrams of one address, many of them in one buffer."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

__all__ = [
    "MAXIMUM_DATAGRAM",
    "MAXIMUM_SEGMENTS",
    "Buffer",
    "Transmit",
    "segments_per_batch",
]

MAXIMUM_DATAGRAM = 65_507
"""The largest payload of a UDP datagram over IPv4, hence of one batch, in bytes."""

MAXIMUM_SEGMENTS = 64
"""The most datagrams that the Linux kernel cuts one buffer into (UDP_SEGMENT)."""


Buffer = bytes | bytearray
"""Datagrams one after another; who gets them may read, but not change them."""


@attrs.frozen
class Transmit:
    """One datagram, or several of equal size back to back, for one address.

    Kernels that can segment take up to 64 KiB of the buffer in one system call;
    elsewhere :meth:`datagrams` cuts it.
    """

    address: tuple[str, int]
    """Host and port to send to."""

    payload: Buffer
    """The datagram, or the datagrams one after another."""

    segment_size: int | None = None
    """The size of each datagram in bytes, of which the last may be shorter; None
    when the payload is a single datagram."""

    def datagrams(self) -> Iterator[Buffer]:
        """Yield the datagrams one by one."""
        size = self.segment_size
        if size is None:
            yield self.payload
            return
        for start in range(0, len(self.payload), size):
            yield self.payload[start : start + size]


def segments_per_batch(segment_size: int) -> int:
    """Return how many datagrams of that many bytes one system call can take."""
    return max(1, min(MAXIMUM_SEGMENTS, MAXIMUM_DATAGRAM // segment_size))
