"""When to ask whether a control channel still works, and when to give it up."""

from __future__ import annotations

from enum import Enum

from dwcloud.protocol.mediation.parameters import KeepAlive

__all__ = ["KeepAliveMonitor", "KeepAliveStep"]


class KeepAliveStep(Enum):
    """What is to be done about a channel that is silent."""

    ASK = "ask"
    GIVE_UP = "give up"


class KeepAliveMonitor:
    """Driven by what was heard and by a timer.

    :param now: the channel was alive then, seconds.
    """

    def __init__(self, settings: KeepAlive, *, now: float) -> None:
        self._settings = settings
        self._asked = 0
        self._due = now + settings.idle

    def heard(self, *, now: float) -> None:
        """Something arrived: the channel works."""
        self._asked = 0
        self._due = now + self._settings.idle

    def next_timer(self) -> float:
        """When :meth:`handle_timer` wants to be called, absolute seconds."""
        return self._due

    def handle_timer(self, *, now: float) -> KeepAliveStep | None:
        """Return what is to be done now, if anything."""
        if now < self._due:
            return None
        if self._asked >= self._settings.misses:
            return KeepAliveStep.GIVE_UP
        self._asked += 1
        self._due = now + self._settings.interval
        return KeepAliveStep.ASK
