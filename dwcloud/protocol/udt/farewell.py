"""The shutdown at the end of a connection (docs/protocol/udt)."""

from __future__ import annotations

__all__ = ["Farewell"]

_INTERVAL = 0.1
_EPSILON = 1e-6


class Farewell:
    """Repeats the shutdown, which nobody confirms, at growing intervals.

    The last wait keeps late packets from meeting a listener as new ones.

    :param repetitions: how often to send it.
    :ivar next_time: when to call :meth:`handle_timer`, in seconds.
    :ivar is_over: whether there is nothing left to do.
    """

    __slots__ = ("_count", "_packet", "_repetitions", "is_over", "next_time")

    def __init__(self, packet: bytes, repetitions: int, now: float) -> None:
        self._packet = packet
        self._repetitions = repetitions
        self._count = 0
        self.is_over = False
        self.next_time = now

    def handle_timer(self, control: list[bytes], now: float) -> None:
        """Send one more if it is time.

        :param control: where packets to send are put.
        """
        if now < self.next_time - _EPSILON:
            return
        # [udt:shutdown]
        if self._count == self._repetitions:
            self.is_over = True
            return
        self._count += 1
        self.next_time = now + _INTERVAL * self._count
        control.append(self._packet)
