"""A controller that models the path: its bandwidth and its round-trip time.

After BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", and the later
versions' answer to loss). Loss alone does not slow it down: it sends at the highest
rate at which packets were delivered of late and keeps little more on the way than the
path holds, so that neither random loss nor a long queue matters much.
"""

from __future__ import annotations

import enum
import math

from dwcloud.protocol.udt.congestion.base import (
    CongestionControl,
    Delivery,
    Parameters,
)

__all__ = ["BBRControl", "Phase"]

_INITIAL_WINDOW_PACKETS = 32
_INITIAL_PERIOD_US = 100.0
_LEAST_PERIOD_US = 0.1
_LEAST_WINDOW_PACKETS = 8.0
_SPARE_PACKETS = 6.0

_STARTUP_PACING_GAIN = 2.77
_STARTUP_WINDOW_GAIN = 2.0
_DRAIN_PACING_GAIN = 0.5
_PROBE_GAINS = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
_WINDOW_GAIN = 1.5
# Slightly less than what is delivered, so that no queue stays by mistake.
_PACING_MARGIN = 0.99

_FULL_GROWTH = 1.25
_FULL_ROUNDS = 3

_RATE_ROUNDS = 10
_RATE_SECONDS = 0.25
_ROUND_TRIP_SECONDS = 10.0
_PROBE_ROUND_TRIP_SECONDS = 0.2
_PROBE_ROUND_TRIP_GAIN = 0.5

# What acknowledgements and timers add to what the path holds: light ACKs come every
# 64 packets, others every 10 ms, and both ends wake up once a millisecond.
_ACK_PACKETS = 64
_ACK_SECONDS = 0.01
_WAKE_UP_SECONDS = 0.003

_EXCESSIVE_LOSS = 0.12
_LEAST_LOSSES = 16
_LOSS_REDUCTION = 0.8


class Phase(enum.Enum):
    """What the controller is about."""

    STARTUP = "startup"
    DRAIN = "drain"
    PROBE_BANDWIDTH = "probe bandwidth"
    PROBE_ROUND_TRIP = "probe round trip"


class BBRControl(CongestionControl):
    """Paces at the delivery rate and bounds what is on the way (``bbr``).

    :ivar phase: what it is about.
    :ivar bandwidth: the model's delivery rate in packets per second, 0 when unknown.
    :ivar round_trip: the model's round-trip time without queues in seconds, infinite
        when unknown.
    """

    name = "bbr"

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.phase = Phase.STARTUP
        self.bandwidth = 0.0
        self.round_trip = math.inf
        self.congestion_window_packets = float(_INITIAL_WINDOW_PACKETS)
        self.packet_sending_period_us = _INITIAL_PERIOD_US
        self._rates: list[tuple[int, float, float]] = []
        self._round = 0
        self._round_ends_at = 0
        self._full_bandwidth = 0.0
        self._full_rounds = 0
        self._pipe_filled = False
        self._cycle = 0
        self._cycle_began_at = 0.0
        self._round_trip_seen_at = 0.0
        self._probe_ends_at: float | None = None
        self._loss_bound = math.inf
        self._counted_delivered = 0
        self._counted_lost = 0
        self._window = self.congestion_window_packets

    # What happens

    def on_delivery(self, delivery: Delivery) -> None:
        """Bring the model up to date and act on it."""
        round_began = self._count_round(delivery)
        self._measure(delivery)
        if round_began:
            self._judge_losses(delivery)
            self._look_for_full_pipe(delivery)
        self._change_phase(delivery)
        self._decide(delivery)

    def on_loss(self, first_lost: int, largest_sent: int, *, now: float) -> None:
        """Change nothing: :meth:`on_delivery` has seen it."""

    def on_timeout(self, *, now: float) -> None:
        """Change nothing: packets that are sent again are not bound by the window."""

    # The model

    def _count_round(self, delivery: Delivery) -> bool:
        before = delivery.delivered_before
        if before is None or before < self._round_ends_at:
            return False
        self._round += 1
        self._round_ends_at = delivery.delivered
        return True

    def _measure(self, delivery: Delivery) -> None:
        now, rate, round_trip = delivery.now, delivery.rate, delivery.round_trip
        if rate is not None and (not delivery.limited or rate > self.bandwidth):
            self._take_rate(rate, now)
        if round_trip is None:
            return
        if round_trip <= self.round_trip:
            self.round_trip, self._round_trip_seen_at = round_trip, now

    def _take_rate(self, rate: float, now: float) -> None:
        """Keep the highest rate of the last rounds, falling samples behind it."""
        rates = self._rates
        while rates and rates[-1][2] <= rate:
            rates.pop()
        rates.append((self._round, now, rate))
        while (
            rates[0][0] < self._round - _RATE_ROUNDS
            and rates[0][1] < now - _RATE_SECONDS
        ):
            del rates[0]
        self.bandwidth = rates[0][2]

    def _on_the_way(self, gain: float) -> float:
        """Return ``gain`` times the packets that the path holds without a queue."""
        if not self.bandwidth or self.round_trip == math.inf:
            return _INITIAL_WINDOW_PACKETS
        return gain * self.bandwidth * self.round_trip

    def _allowance(self) -> float:
        """Return the packets that wait for acknowledgements and timers."""
        waiting = min(self.bandwidth * _ACK_SECONDS, _ACK_PACKETS)
        return waiting + self.bandwidth * _WAKE_UP_SECONDS + _SPARE_PACKETS

    def _judge_losses(self, delivery: Delivery) -> None:
        """Yield when far more is lost than random errors explain."""
        lost = delivery.lost - self._counted_lost
        delivered = delivery.delivered - self._counted_delivered
        if lost + delivered < _LEAST_LOSSES / _EXCESSIVE_LOSS:
            return
        self._counted_lost, self._counted_delivered = delivery.lost, delivery.delivered
        if lost >= _LEAST_LOSSES and lost > _EXCESSIVE_LOSS * (lost + delivered):
            least = self._on_the_way(1.0) + self._allowance()
            self._loss_bound = max(self._window * _LOSS_REDUCTION, least)
            if self.phase is Phase.STARTUP:
                self._pipe_filled = True
        elif self._loss_bound < math.inf:
            self._loss_bound += max(1.0, self._loss_bound / 16)
            if self._loss_bound > self._on_the_way(_WINDOW_GAIN) + self._allowance():
                self._loss_bound = math.inf

    def _look_for_full_pipe(self, delivery: Delivery) -> None:
        if self._pipe_filled or (delivery.limited and not delivery.limited_by_peer):
            return
        if self.bandwidth >= self._full_bandwidth * _FULL_GROWTH:
            self._full_bandwidth = self.bandwidth
            self._full_rounds = 0
            return
        self._full_rounds += 1
        self._pipe_filled = self._full_rounds >= _FULL_ROUNDS

    # The phases

    def _change_phase(self, delivery: Delivery) -> None:
        now = delivery.now
        if self.phase is Phase.STARTUP and self._pipe_filled:
            self.phase = Phase.DRAIN
        if (
            self.phase is Phase.DRAIN
            and delivery.packets_in_flight <= self._on_the_way(1.0) + self._allowance()
        ):
            self._probe_bandwidth(now)
        if self.phase is Phase.PROBE_BANDWIDTH:
            self._advance_cycle(delivery)
        self._probe_round_trip(delivery)

    def _probe_bandwidth(self, now: float) -> None:
        self.phase = Phase.PROBE_BANDWIDTH
        # Anywhere but at the reduced rate, so that flows do not move in step.
        choices = [0, 2, 3, 4, 5, 6, 7]
        chosen = int(self.parameters.random() * len(choices))
        self._cycle = choices[min(chosen, len(choices) - 1)]
        self._cycle_began_at = now

    def _advance_cycle(self, delivery: Delivery) -> None:
        gain = _PROBE_GAINS[self._cycle]
        over = delivery.now - self._cycle_began_at > self.round_trip
        if gain < 1:
            over = over or delivery.packets_in_flight <= self._on_the_way(1.0)
        if over:
            self._cycle = (self._cycle + 1) % len(_PROBE_GAINS)
            self._cycle_began_at = delivery.now

    def _probe_round_trip(self, delivery: Delivery) -> None:
        """Empty the queue for a moment if the round trip was not seen for long."""
        now = delivery.now
        stale = now > self._round_trip_seen_at + _ROUND_TRIP_SECONDS
        if self.phase is not Phase.PROBE_ROUND_TRIP:
            if stale and self.round_trip < math.inf:
                self.phase = Phase.PROBE_ROUND_TRIP
                self._probe_ends_at = None
                self.round_trip = delivery.round_trip or self.round_trip
                self._round_trip_seen_at = now
            return
        if self._probe_ends_at is None:
            low = self._on_the_way(_PROBE_ROUND_TRIP_GAIN) + self._allowance()
            if delivery.packets_in_flight <= low:
                wait = max(_PROBE_ROUND_TRIP_SECONDS, self.round_trip)
                self._probe_ends_at = now + wait
        elif now >= self._probe_ends_at:
            self._round_trip_seen_at = now
            if self._pipe_filled:
                self._probe_bandwidth(now)
            else:
                self.phase = Phase.STARTUP

    # The decisions

    @property
    def _pacing_gain(self) -> float:
        if self.phase is Phase.STARTUP:
            return _STARTUP_PACING_GAIN
        if self.phase is Phase.DRAIN:
            return _DRAIN_PACING_GAIN
        if self.phase is Phase.PROBE_BANDWIDTH:
            return _PROBE_GAINS[self._cycle]
        return 1.0

    def _decide(self, delivery: Delivery) -> None:
        if self.bandwidth:
            rate = self.bandwidth * self._pacing_gain * _PACING_MARGIN
            period = max(_LEAST_PERIOD_US, 1e6 / rate)
            if self._pipe_filled or period < self.packet_sending_period_us:
                self.packet_sending_period_us = period
        gain = _WINDOW_GAIN if self._pipe_filled else _STARTUP_WINDOW_GAIN
        target = self._on_the_way(gain) + self._allowance()
        grown = self._window + delivery.newly_delivered
        if self._pipe_filled:
            self._window = min(grown, target)
        elif self._window < target or delivery.delivered < _INITIAL_WINDOW_PACKETS:
            self._window = grown
        self._window = max(min(self._window, self._loss_bound), _LEAST_WINDOW_PACKETS)
        window = self._window
        if self.phase is Phase.PROBE_ROUND_TRIP:
            low = self._on_the_way(_PROBE_ROUND_TRIP_GAIN) + self._allowance()
            window = min(window, low)
        self.congestion_window_packets = window
