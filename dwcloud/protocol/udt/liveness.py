"""Signs of life: when to give one, and when to stop waiting for one."""

from __future__ import annotations

from dwcloud.protocol.udt.rtt import RTTEstimator

__all__ = ["Liveness"]


class Liveness:
    """Remembers when anything was sent and received.

    :param keep_alive_interval: seconds without sending after which a keep-alive is
        due; None follows the expiration timer as the reference library does.
    :param rtt: the round-trip time that timer depends on.
    :ivar heard: whether anything has been received.
    :ivar last_received: when, in seconds.
    """

    def __init__(
        self, keep_alive_interval: float | None, rtt: RTTEstimator, now: float
    ) -> None:
        self._interval = keep_alive_interval
        self._rtt = rtt
        self._count = 1
        self._last_sent = now
        self.last_received = now
        self.heard = False

    def restart(self, now: float) -> None:
        """Begin to wait now."""
        self.last_received = now
        self.heard = False

    def received(self, now: float) -> None:
        """Take note that something was received."""
        self.last_received = now
        self.heard = True
        self._count = 1

    def sent(self, now: float) -> None:
        """Take note that something is sent."""
        self._last_sent = now

    def keep_alive_due(self) -> None:
        """Take note that a keep-alive was due, which makes the next one rarer."""
        self._count += 1

    # [udt:keep-alive]
    @property
    def keep_alive_at(self) -> float:
        """When the next keep-alive is due, in seconds."""
        if self._interval is not None:
            return self._last_sent + self._interval
        since = max(self.last_received, self._last_sent)
        return since + self._rtt.expiration(self._count)
