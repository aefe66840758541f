"""A simulated path with a bottleneck, and flows that share it.

For congestion control, which a network of whole hosts would make slow to study: flows
of real UDT connections and models of TCP, one queue, exact time. The same seed gives
the same run.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

import attrs

__all__ = ["Bottleneck", "Link", "jain_index"]

_OVERHEAD = 28
_JOINED_SECONDS = 0.0005


def jain_index(shares: list[float]) -> float:
    """Return Jain's index of fairness: 1 for equal shares, 1/n for one taking all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


@attrs.define
class Link:
    """One direction: a queue that drops its tail, a rate, a delay, random loss.

    :ivar rate: bytes per second of IP packets, or None for no limit.
    :ivar queue: bytes that may wait for the rate.
    :ivar delay: seconds.
    :ivar loss: probability that a packet is lost behind the queue.
    :ivar dropped: packets that the queue dropped.
    """

    random: random.Random
    rate: float | None
    queue: float
    delay: float
    loss: float
    dropped: int = 0
    carried: int = 0
    _free_at: float = 0.0

    def departure(self, size: int, now: float) -> float | None:
        """Queue a packet of ``size`` bytes; return when it leaves, None if dropped."""
        self.carried += 1
        departs = now
        if self.rate is not None:
            start = max(self._free_at, now)
            if (start - now) * self.rate + size > self.queue:
                self.dropped += 1
                return None
            departs = self._free_at = start + size / self.rate
        if self.loss and self.random.random() < self.loss:
            return None
        return departs

    def waiting(self, now: float) -> float:
        """Return the bytes in the queue."""
        return max(0.0, self._free_at - now) * (self.rate or 0.0)


class Bottleneck:
    """Time and the two directions of a path.

    :param rate: bits per second of the way there; the way back has no limit.
    :param round_trip: seconds without any queue.
    :param loss: probability of loss in each direction.
    :param queue: bytes of the queue in multiples of rate times round trip; at least
        ten packets fit.
    """

    def __init__(
        self,
        *,
        rate: float,
        round_trip: float,
        loss: float = 0.0,
        queue: float = 1.0,
        seed: int = 1,
    ) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        bytes_per_second = rate / 8
        room = max(queue * bytes_per_second * round_trip, 10 * 1500.0)
        delay = round_trip / 2
        self.there = Link(self.random, bytes_per_second, room, delay, loss)
        self.back = Link(self.random, None, room, delay, loss)
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def call_at(self, at: float, function: Callable[[], None]) -> None:
        """Call ``function`` at a time in seconds."""
        heapq.heappush(self._calls, (at, next(self._order), function))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        calls = self._calls
        while calls and calls[0][0] <= end:
            at, _, function = heapq.heappop(calls)
            self.now = max(self.now, at)
            function()
        self.now = end

    def carry(
        self,
        link: Link,
        payload: bytes,
        segment_size: int | None,
        arrived: Callable[[bytes, int | None], None],
    ) -> None:
        """Send datagrams; those that arrive within half a millisecond come together.

        :param segment_size: bytes of each datagram in ``payload`` but the last; None
            if it is one.
        """
        size = segment_size or len(payload)
        run: list[bytes] = []
        first_at = last_at = 0.0
        for start in range(0, len(payload), size):
            piece = payload[start : start + size]
            departs = link.departure(len(piece) + _OVERHEAD, self.now)
            if departs is None:
                continue
            if run and departs - first_at > _JOINED_SECONDS:
                self._deliver(link, run, last_at, size, arrived)
                run = []
            if not run:
                first_at = departs
            run.append(piece)
            last_at = departs
        if run:
            self._deliver(link, run, last_at, size, arrived)

    def _deliver(
        self,
        link: Link,
        run: list[bytes],
        departs: float,
        size: int,
        arrived: Callable[[bytes, int | None], None],
    ) -> None:
        data = b"".join(run)
        segment_size = size if len(run) > 1 else None
        self.call_at(departs + link.delay, lambda: arrived(data, segment_size))
