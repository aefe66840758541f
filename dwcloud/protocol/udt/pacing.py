"""When packets may leave: one per sending period on average, in batches if short."""

from __future__ import annotations

__all__ = ["Pacer"]

QUANTUM = 0.001
"""Seconds between wake-ups when the sending period is shorter than that."""

_LATENESS = 0.01
_WORTHWHILE_PACKETS = 16


class Pacer:
    """Spreads packets over time without a wake-up for each.

    The time of the next packet moves on by one period for each one sent. Whoever
    comes late may send what has become due meanwhile, but no more than 10 ms worth,
    so that a pause is not followed by a flood.
    """

    __slots__ = ("_next_at", "_wake_at")

    def __init__(self) -> None:
        self._next_at = 0.0
        self._wake_at = 0.0

    def packets_due(self, now: float, period: float) -> int:
        """Return how many packets may be sent now.

        :param period: seconds between packets.
        """
        late = min(now - self._next_at, _LATENESS)
        if late < 0:
            return 0
        due = 1 + int(late / period)
        # Between wake-ups only a batch that is worth the effort is sent.
        if now < self._wake_at and due < _WORTHWHILE_PACKETS:
            return 0
        return due

    def packets_sent(self, count: int, now: float, period: float) -> None:
        """Take note that ``count`` packets were sent now."""
        start = max(self._next_at, now - _LATENESS)
        self._next_at = start + count * period
        if period < QUANTUM and self._next_at > now:
            self._wake_at = max(self._next_at, now + QUANTUM)
        else:
            self._wake_at = self._next_at

    @property
    def next_time(self) -> float:
        """When to come again if there is something to send, in seconds."""
        return self._wake_at
