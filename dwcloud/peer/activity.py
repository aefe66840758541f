"""What a server carries, told to its mediator while that wants to know."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dwcloud.protocol.mediation.activity import (
    REPORT_INTERVAL,
    WATCH_LIFETIME,
    Activity,
)

__all__ = ["ActivityReporter"]

_SOON = 0.1
"""Seconds in which what happens becomes one report."""


class ActivityReporter:
    """Looks every 2 seconds while somebody watches, and tells what has changed.

    :param clock: the clock.
    :param look: returns what the server carries.
    :param tell: takes it to the mediator.
    """

    def __init__(
        self,
        clock: IReactorTime,
        look: Callable[[], Activity],
        tell: Callable[[Activity], None],
    ) -> None:
        self._clock = clock
        self._look = look
        self._tell = tell
        self._until = 0.0
        self._last: tuple[object, ...] | None = None
        self._timer: IDelayedCall | None = None

    def watched(self) -> None:
        """The mediator wants to know: all soon, then for a minute what changes."""
        self._until = self._clock.seconds() + WATCH_LIFETIME
        self._last = None
        self._look_in(_SOON)

    def changed(self) -> None:
        """A stream began or ended."""
        if self._timer is not None:
            self._look_in(_SOON)

    def stop(self) -> None:
        """Look no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look_in(self, seconds: float) -> None:
        at = self._clock.seconds() + seconds
        if self._timer is not None:
            if self._timer.getTime() <= at:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._clock.seconds() >= self._until:
            return
        activity = self._look()
        # Getting older is no news.
        news = tuple((s.number, s.to_client, s.to_server) for s in activity.streams)
        if (activity.count, *news) != self._last:
            self._last = (activity.count, *news)
            self._tell(activity)
        self._look_in(REPORT_INTERVAL)
