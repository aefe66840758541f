"""The round-trip time of a connection."""

from __future__ import annotations

__all__ = ["QuickEstimator", "RTTEstimator"]

SYN_INTERVAL_US = 10_000
MINIMUM_EXPIRATION_US = 300_000


class RTTEstimator:
    """Smoothed round-trip time and variance, one pair for both directions.

    Fed by ACKs (as sender) and by ACK2s (as receiver), in integer microseconds as
    the reference library computes them (docs/protocol/udt).

    :ivar rtt_us: smoothed round-trip time in microseconds.
    :ivar variance_us: its variance in microseconds.
    """

    __slots__ = ("rtt_us", "variance_us")

    def __init__(self) -> None:
        self.rtt_us = 100_000
        self.variance_us = 50_000

    # [udt:rtt]
    def update(self, sample_us: int) -> None:
        """Take in a sample; the variance uses the average from before it."""
        self.variance_us = (3 * self.variance_us + abs(sample_us - self.rtt_us)) // 4
        self.rtt_us = (7 * self.rtt_us + sample_us) // 8

    @property
    def rtt(self) -> float:
        """Smoothed round-trip time in seconds."""
        return self.rtt_us / 1e6

    @property
    def repetition_interval(self) -> float:
        """How long to wait for an answer before repeating, in seconds."""
        return (self.rtt_us + 4 * self.variance_us) / 1e6

    def expiration(self, count: int) -> float:
        """Return the interval of the expiration timer in seconds (docs/protocol/udt).

        :param count: 1, and one more for each expiration in a row.
        """
        interval = count * (self.rtt_us + 4 * self.variance_us) + SYN_INTERVAL_US
        return max(interval, count * MINIMUM_EXPIRATION_US) / 1e6


class QuickEstimator:
    """Round-trip time that believes the first sample (RFC 6298, section 2).

    The reference library's average starts at 100 ms and needs dozens of samples to
    forget that, which is long when a repetition waits for it.
    """

    __slots__ = ("_average", "_variance")

    def __init__(self) -> None:
        self._average: float | None = None
        self._variance = 0.0

    def update(self, sample: float) -> None:
        """Take in a sample in seconds."""
        if self._average is None:
            self._average, self._variance = sample, sample / 2
            return
        self._variance += (abs(self._average - sample) - self._variance) / 4
        self._average += (sample - self._average) / 8

    @property
    def repetition_interval(self) -> float | None:
        """How long to wait for an answer in seconds; None before the first sample."""
        if self._average is None:
            return None
        return self._average + 4 * self._variance
