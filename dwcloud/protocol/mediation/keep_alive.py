"""When to ask whether a control channel still works, and when to give it up."""

from __future__ import annotations

import math
from enum import Enum

from dwcloud.protocol.mediation.parameters import KeepAlive

__all__ = ["KeepAliveMonitor", "KeepAliveStep"]


class KeepAliveStep(Enum):
    """What is to be done about a channel that is silent."""

    ASK = "ask"
    GIVE_UP = "give up"


class KeepAliveMonitor:
    """Driven by what was heard and by a timer.

    It asks after silence, and now and then whatever was heard: a mediator that hears
    nothing gives the channel up, too, and so may what is on the way.

    :param ask_within: seconds after which to ask again at the latest.
    :param now: the channel was alive then, seconds.
    """

    def __init__(
        self, settings: KeepAlive, *, now: float, ask_within: float = math.inf
    ) -> None:
        self._settings = settings
        self._asked = 0
        self._due = now + settings.idle
        self._ask_within = min(ask_within, settings.idle + settings.interval)
        self._last_asked = now

    def heard(self, *, now: float) -> None:
        """Something arrived: the channel works."""
        self._asked = 0
        self._due = now + self._settings.idle

    def next_timer(self) -> float:
        """When :meth:`handle_timer` wants to be called, absolute seconds."""
        return min(self._due, self._last_asked + self._ask_within)

    def handle_timer(self, *, now: float) -> KeepAliveStep | None:
        """Return what is to be done now, if anything."""
        if now < self._due:
            if now < self._last_asked + self._ask_within:
                return None
            # It is not silent: this question counts among no misses.
            self._last_asked = now
            return KeepAliveStep.ASK
        if self._asked >= self._settings.misses:
            return KeepAliveStep.GIVE_UP
        self._asked += 1
        self._due = now + self._settings.interval
        self._last_asked = now
        return KeepAliveStep.ASK
