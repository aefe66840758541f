"""What a receiver measures for the sender: arrival speed and link capacity."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["ArrivalSpeed", "LinkCapacity"]

_SPEED_SAMPLES = 16
_CAPACITY_SAMPLES = 64
_ENOUGH_SAMPLES = 4
_SAMPLE_PACKETS = 16
_SAMPLE_TIME = 0.0005
_JOINED_PAIR_US = 10.0


def _filtered(intervals: Sequence[float]) -> tuple[float, int, float]:
    """Return median, number and sum of the intervals near the median."""
    median = sorted(intervals)[(len(intervals) - 1) // 2]
    near = [x for x in intervals if median / 8 < x < median * 8]
    return median, len(near), sum(near)


class ArrivalSpeed:
    """Packets received per second, from the last 16 intervals (docs/protocol/udt).

    The reference library times every packet. Kernels deliver packets in bunches that
    share one time of arrival, so here an interval is the average over at least 16
    packets or half a millisecond; at low rates both are the same.
    """

    def __init__(self) -> None:
        self._intervals: list[float] = []
        self._since: float | None = None
        self._packets = 0

    def packets_arrived(self, count: int, now: float) -> None:
        """Take in that ``count`` data packets arrived at ``now`` (seconds)."""
        if self._since is None:
            self._since = now
            return
        self._packets += count
        elapsed = now - self._since
        if elapsed <= 0:
            return
        if elapsed >= _SAMPLE_TIME or self._packets >= _SAMPLE_PACKETS:
            self._intervals.append(elapsed * 1e6 / self._packets)
            del self._intervals[:-_SPEED_SAMPLES]
            self._since = now
            self._packets = 0

    @property
    def packets_per_second(self) -> int:
        """The speed, 0 when it is not known."""
        if len(self._intervals) < _ENOUGH_SAMPLES:
            return 0
        _, number, total = _filtered(self._intervals)
        if number <= len(self._intervals) // 2:
            return 0
        return math.ceil(1e6 * number / total)


class LinkCapacity:
    """Packets per second the path can carry, from packet pairs (docs/protocol/udt).

    Packets numbered 16k and 16k+1 leave together; their distance on arrival shows the
    narrowest link. Two that come in one bunch were too near to tell apart: they count
    as 10 microseconds.
    """

    def __init__(self) -> None:
        self._intervals: list[float] = []
        self._first_at: float | None = None

    def first_arrived(self, now: float) -> None:
        """Take in the arrival of a packet numbered 16k at ``now`` (seconds)."""
        self._first_at = now

    def second_arrived(self, now: float) -> None:
        """Take in the arrival of the packet numbered 16k+1 after it."""
        if self._first_at is not None:
            interval = (now - self._first_at) * 1e6
            self._intervals.append(max(interval, _JOINED_PAIR_US))
            del self._intervals[:-_CAPACITY_SAMPLES]
            self._first_at = None

    def pairs_arrived(self, count: int) -> None:
        """Take in that ``count`` whole pairs came in one bunch."""
        self._intervals += [_JOINED_PAIR_US] * min(count, _CAPACITY_SAMPLES)
        del self._intervals[:-_CAPACITY_SAMPLES]

    @property
    def packets_per_second(self) -> int:
        """The estimate, 0 when it is not known."""
        if len(self._intervals) < _ENOUGH_SAMPLES:
            return 0
        median, number, total = _filtered(self._intervals)
        return math.ceil(1e6 * (number + 1) / (total + median))
