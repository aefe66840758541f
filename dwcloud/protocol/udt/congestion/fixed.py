"""A controller that keeps one rate, for dedicated links and for measurements."""

from __future__ import annotations

from dwcloud.protocol.udt.congestion.base import (
    Acknowledgement,
    CongestionControl,
    Parameters,
)

__all__ = ["FixedControl"]


class FixedControl(CongestionControl):
    """Sends at the configured rate, bounded by the peer's window alone."""

    name = "fixed"
    follows_reference = True

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.packet_sending_period_us = 1e6 / parameters.fixed_rate
        self.congestion_window_packets = float("inf")

    def on_ack(self, acknowledgement: Acknowledgement) -> None:
        """Change nothing."""

    def on_loss(self, first_lost: int, largest_sent: int, *, now: float) -> None:
        """Change nothing."""

    def on_timeout(self, *, now: float) -> None:
        """Change nothing."""
