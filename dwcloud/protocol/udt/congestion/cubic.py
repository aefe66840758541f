"""A controller that shares a path with TCP: CUBIC (RFC 9438), paced.

Takes a loss report for congestion, at most once in a round trip. Slow start ends early
when round trips grow (HyStart++, RFC 9406), so that it does not overrun the queue.
"""

from __future__ import annotations

import math

from dwcloud.protocol.udt.congestion.base import (
    CongestionControl,
    Delivery,
    Parameters,
)

__all__ = ["CubicControl"]

_INITIAL_WINDOW_PACKETS = 32.0
_INITIAL_PERIOD_US = 100.0
_LEAST_WINDOW_PACKETS = 4.0
_REDUCTION = 0.7
_SCALE = 0.4
_RENO_INCREASE = 3 * (1 - _REDUCTION) / (1 + _REDUCTION)

_SLOW_START_PACING = 2.0
_PACING = 1.2
_LEAST_DELAY_INCREASE = 0.004
_MOST_DELAY_INCREASE = 0.016
_SAMPLES_OF_A_ROUND = 8


class CubicControl(CongestionControl):
    """Grows its window along a cubic curve around where loss came last (``cubic``).

    :ivar slow_start: whether the window still doubles each round trip.
    """

    name = "cubic"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.congestion_window_packets = _INITIAL_WINDOW_PACKETS
        self.packet_sending_period_us = _INITIAL_PERIOD_US
        self.slow_start = True
        self._round_trip: float | None = None
        self._recovery_ends_at = -1
        self._maximum = 0.0
        self._began_at: float | None = None
        self._delay = 0.0
        self._reno = 0.0
        self._round_ends_at = 0
        self._round_least = math.inf
        self._previous_least = math.inf
        self._samples = 0

    def on_delivery(self, delivery: Delivery) -> None:
        """Grow the window by what was delivered, and pace it over the round trip."""
        self._measure(delivery)
        if not delivery.limited and delivery.newly_delivered:
            if self.slow_start:
                self.congestion_window_packets += delivery.newly_delivered
            else:
                self._grow(delivery)
        if self._round_trip is not None:
            pacing = _SLOW_START_PACING if self.slow_start else _PACING
            rate = pacing * self.congestion_window_packets / self._round_trip
            self.packet_sending_period_us = max(1.0, 1e6 / rate)

    def _measure(self, delivery: Delivery) -> None:
        sample, before = delivery.round_trip, delivery.delivered_before
        if sample is None or before is None:
            return
        smoothed = self._round_trip
        self._round_trip = sample if smoothed is None else (7 * smoothed + sample) / 8
        if not self.slow_start:
            return
        if before >= self._round_ends_at:
            self._round_ends_at = delivery.delivered
            self._previous_least, self._round_least = self._round_least, math.inf
            self._samples = 0
        self._samples += 1
        self._round_least = min(self._round_least, sample)
        previous = self._previous_least
        if self._samples >= _SAMPLES_OF_A_ROUND and previous < math.inf:
            increase = min(
                max(previous / 8, _LEAST_DELAY_INCREASE), _MOST_DELAY_INCREASE
            )
            if self._round_least >= previous + increase:
                self._leave_slow_start()

    def _leave_slow_start(self) -> None:
        self.slow_start = False
        self._maximum = self.congestion_window_packets
        self._began_at = None

    def _grow(self, delivery: Delivery) -> None:
        """Follow the curve of RFC 9438, section 4, but not below Reno's."""
        window = self.congestion_window_packets
        now, round_trip = delivery.now, self._round_trip or 0.1
        if self._began_at is None:
            self._began_at = now
            self._reno = window
            below = max(0.0, self._maximum - window)
            self._delay = math.cbrt(below / _SCALE)
        elapsed = now - self._began_at + round_trip
        curve = _SCALE * (elapsed - self._delay) ** 3 + self._maximum
        self._reno += _RENO_INCREASE * delivery.newly_delivered / window
        target = min(max(curve, self._reno), 1.5 * window)
        if target > window:
            step = (target - window) * delivery.newly_delivered / window
            self.congestion_window_packets = min(window + step, target)

    def on_loss(self, first_lost: int, largest_sent: int, *, now: float) -> None:
        """Reduce the window, unless the loss is from before the last reduction."""
        if first_lost <= self._recovery_ends_at:
            return
        self._recovery_ends_at = largest_sent
        window = self.congestion_window_packets
        # Fast convergence: leave room for a flow that came newly.
        converging = window < self._maximum and not self.slow_start
        self._maximum = window * (1 + _REDUCTION) / 2 if converging else window
        self._began_at = None
        self.slow_start = False
        self.congestion_window_packets = max(_LEAST_WINDOW_PACKETS, window * _REDUCTION)

    def on_timeout(self, *, now: float) -> None:
        """Begin again: nothing has arrived for long."""
        self._maximum = self.congestion_window_packets
        self._began_at = None
        self.congestion_window_packets = _LEAST_WINDOW_PACKETS
