"""UDT's own congestion control, number for number as the reference library's."""

from __future__ import annotations

import math

from dwcloud.protocol.udt.congestion.base import (
    Acknowledgement,
    CongestionControl,
    Parameters,
)

__all__ = ["NativeControl"]

_RATE_CONTROL_INTERVAL_US = 10_000
_MINIMUM_INCREASE = 0.01
_INITIAL_ARRIVAL_SPEED = 16
_DECREASES_PER_PERIOD = 5


class NativeControl(CongestionControl):
    """Additive increase by the estimated capacity, decrease by 1/8."""

    name = "native"
    follows_reference = True

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.slow_start = True
        self._last_step_at = -math.inf
        self._last_ack = -1
        self._loss = False
        self._last_decrease_index = -2
        self._last_decrease_period_us = 1.0
        self._average_naks = 0
        self._naks = 0
        self._decreases = 0
        self._decrease_random = 1
        self._arrival_speed = _INITIAL_ARRIVAL_SPEED

    def on_ack(self, acknowledgement: Acknowledgement) -> None:
        """Open the window in slow start, afterwards raise the rate every 10 ms."""
        self._arrival_speed = acknowledgement.packet_arrival_speed
        elapsed_us = (acknowledgement.now - self._last_step_at) * 1e6
        # Clocks are floats: a step that is due to the microsecond is due.
        if elapsed_us < _RATE_CONTROL_INTERVAL_US - 0.5:
            return
        self._last_step_at = acknowledgement.now
        if self.slow_start:
            # The one packet too many is the reference library's.
            self.congestion_window_packets += acknowledgement.index - self._last_ack + 1
            self._last_ack = acknowledgement.index
            if self.congestion_window_packets > self.parameters.flow_window_packets:
                self._leave_slow_start()
        else:
            interval = acknowledgement.rtt_us + _RATE_CONTROL_INTERVAL_US
            self.congestion_window_packets = self._arrival_speed / 1e6 * interval + 16
        if self.slow_start:
            return
        if self._loss:
            self._loss = False
            return
        self._increase(acknowledgement.estimated_link_capacity)

    def _increase(self, capacity: int) -> None:
        period = self.packet_sending_period_us
        spare = int(capacity - 1e6 / period)
        if period > self._last_decrease_period_us:
            spare = min(spare, capacity // 9)
        increase = _MINIMUM_INCREASE
        if spare > 0:
            size = self.parameters.maximum_packet_size
            decade = 10.0 ** math.ceil(math.log10(spare * size * 8))
            increase = max(decade * 1.5e-6 / size, _MINIMUM_INCREASE)
        self.packet_sending_period_us = (
            period
            * _RATE_CONTROL_INTERVAL_US
            / (period * increase + _RATE_CONTROL_INTERVAL_US)
        )

    def on_loss(self, first_lost: int, largest_sent: int, *, now: float) -> None:
        """Slow down by 1/8, at most five times in one congestion period."""
        if self.slow_start:
            self._leave_slow_start()
            return
        self._loss = True
        if first_lost > self._last_decrease_index:
            self._last_decrease_period_us = self.packet_sending_period_us
            self._decrease()
            self._average_naks = math.ceil(
                0.875 * self._average_naks + 0.125 * self._naks
            )
            self._naks = 1
            self._decreases = 1
            self._last_decrease_index = largest_sent
            share = self._average_naks * self.parameters.random()
            self._decrease_random = max(1, math.ceil(share))
            return
        counted, self._decreases = self._decreases, self._decreases + 1
        if counted < _DECREASES_PER_PERIOD:
            self._naks += 1
            if self._naks % self._decrease_random == 0:
                self._decrease()
                self._last_decrease_index = largest_sent

    def on_timeout(self, *, now: float) -> None:
        """Leave slow start; afterwards a timeout changes nothing."""
        if self.slow_start:
            self._leave_slow_start()

    def _decrease(self) -> None:
        self.packet_sending_period_us = float(
            math.ceil(self.packet_sending_period_us * 1.125)
        )

    def _leave_slow_start(self) -> None:
        self.slow_start = False
        self.packet_sending_period_us = 1e6 / max(1, self._arrival_speed)
