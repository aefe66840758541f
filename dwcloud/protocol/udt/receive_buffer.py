"""What was received: in order for the reader, and early packets behind a gap."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from dwcloud.protocol.udt.idle_queue import NOTHING

__all__ = ["ReceiveBuffer"]

_LARGEST_PIECE = 1 << 18
"""Bytes put together at once: about as many as a port collects before it passes them
on, and so few that they stay in the processor's cache."""


class ReceiveBuffer:
    """A bounded buffer that hands out the stream in order.

    :param capacity_packets: how many unread packets fit.
    :param payload_size: bytes of a full packet; larger ones count for several.
    """

    def __init__(self, capacity_packets: int, payload_size: int) -> None:
        self._capacity = capacity_packets
        self._byte_limit = capacity_packets * payload_size
        self._payload_size = payload_size
        # Pieces of the stream, and how many packets each stands for.
        self._unread: deque[tuple[bytes, int]] = NOTHING
        self._unread_packets = 0
        self._early: dict[int, bytes] = {}
        self._early_bytes = 0
        self.expected = 0
        """Index of the next packet in order; all before it have been received."""
        self.readable_bytes = 0
        """Bytes in order that have not been read."""

    @property
    def available_packets(self) -> int:
        """How many packets from :attr:`expected` on fit."""
        return max(0, self._room())

    def _room(self) -> int:
        """Return how many packets fit, below 0 if there are too many already."""
        packets = self._capacity - self._unread_packets
        if self.readable_bytes + packets * self._payload_size > self._byte_limit:
            packets = (self._byte_limit - self.readable_bytes) // self._payload_size
        return packets

    takes_runs = True
    """Whether packets can be taken many at once, by their payload alone."""

    def room_for_run(self, index: int, size: int) -> int:
        """Return how many packets of ``size`` bytes fit from ``index`` on."""
        packets = self._room() - (index - self.expected)
        spare = self._byte_limit - self.readable_bytes - self._early_bytes
        return max(0, min(packets, spare // size))

    def extend_early(self, index: int, payloads: Sequence[bytes], size: int) -> None:
        """Take packets behind a gap from ``index`` on, none of them known before.

        :param size: of all payloads, in bytes.
        """
        self._early.update(enumerate(payloads, index))
        self._early_bytes += size

    @property
    def has_early_packets(self) -> bool:
        """Whether packets wait behind a gap."""
        return bool(self._early)

    def fits(self, index: int, size: int) -> bool:
        """Tell whether a packet of ``size`` bytes can be taken.

        Two packets more than announced fit, since a window is never announced
        smaller than that.
        """
        if index - self.expected >= self._room() + 2:
            return False
        spare = 2 * self._payload_size
        total = self.readable_bytes + self._early_bytes + size
        return total <= self._byte_limit + spare or index == self.expected

    # [udt:stream]
    def insert(self, index: int, payload: bytes, word: int = 0) -> bool:
        """Take a packet at or after :attr:`expected`; return False for a duplicate.

        :param word: the second word of its header; a stream does not look at it.
        """
        if index == self.expected:
            self._append(payload)
            while self._early:
                early = self._early.pop(self.expected, None)
                if early is None:
                    break
                self._early_bytes -= len(early)
                self._append(early)
            return True
        if index < self.expected or index in self._early:
            return False
        self._early[index] = payload
        self._early_bytes += len(payload)
        return True

    def _append(self, payload: bytes) -> None:
        self.expected += 1
        if payload:
            self._put(payload, 1)

    def extend(self, payloads: Sequence[bytes], size: int) -> None:
        """Take packets in order, none of them early, with ``size`` bytes in all."""
        count = len(payloads)
        self.expected += count
        at_once = max(1, _LARGEST_PIECE * count // size)
        for start in range(0, count, at_once):
            piece = payloads[start : start + at_once]
            self._put(b"".join(piece), len(piece))

    def put_first(self, data: bytes) -> None:
        """Let the stream begin with what came before its first packet."""
        self._put(data, 0)

    def _put(self, piece: bytes, packets: int) -> None:
        if not self._unread:
            self._unread = deque()
        self._unread.append((piece, packets))
        self._unread_packets += packets
        self.readable_bytes += len(piece)

    def read(self, limit: int | None = None) -> bytes:
        """Remove and return up to ``limit`` bytes in order, all of them by default.

        Fewer where that saves cutting or joining what arrived together.
        """
        unread = self._unread
        if limit is None:
            limit = self.readable_bytes
        elif unread and limit // 4 <= len(unread[0][0]) <= limit:
            return self._take_first()
        if limit <= 0 or not unread:
            return b""
        if len(unread[0][0]) > limit:
            return self._cut(limit)
        parts: list[bytes] = []
        missing = limit
        while unread and len(unread[0][0]) <= missing:
            part, packets = unread.popleft()
            parts.append(part)
            missing -= len(part)
            self._unread_packets -= packets
        self.readable_bytes -= limit - missing
        if not unread:
            self._unread = NOTHING
        return b"".join(parts)

    def _take_first(self) -> bytes:
        piece, packets = self._unread.popleft()
        self._unread_packets -= packets
        self.readable_bytes -= len(piece)
        if not self._unread:
            self._unread = NOTHING
        return piece

    def _cut(self, limit: int) -> bytes:
        """Remove and return bytes of the first piece, which is longer."""
        piece, packets = self._unread[0]
        rest = piece[limit:]
        left = -(-len(rest) * packets // len(piece))
        self._unread[0] = (rest, left)
        self._unread_packets -= packets - left
        self.readable_bytes -= limit
        return piece[:limit]

    def discard(self) -> None:
        """Drop everything that is not in order."""
        self._early.clear()
        self._early_bytes = 0
