"""What is still to be told when a client ends: nobody else waits for it."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IReactorTime

__all__ = ["Reports"]

_T = TypeVar("_T")


class Reports:
    """Reports that are on their way, and what some of them wait for.

    :param limit: seconds that the last ones have when nothing else is left to do.
    """

    def __init__(self, reactor: IReactorTime, *, limit: float) -> None:
        self._reactor = reactor
        self._limit = limit
        self._waits: set[Deferred[Any]] = set()
        self._telling: set[Deferred[Any]] = set()

    def delayed(self, wanted: Deferred[_T | None] | None) -> Deferred[_T | None]:
        """Return a Deferred for something worth waiting for, or for nothing.

        :param wanted: what a report would like to contain; None if there is nothing.
        """
        if wanted is None:
            return succeed(None)
        if not wanted.called:
            self._waits.add(wanted)

        def settled(result: Any) -> Any:
            self._waits.discard(wanted)
            return result

        wanted.addTimeout(self._limit, self._reactor)
        # A report without it is better than none.
        return wanted.addBoth(settled).addErrback(lambda _: None)

    def add(self, telling: Deferred[Any]) -> None:
        """Remember a report until it is told; it must not fail."""
        if telling.called and not telling.paused:
            return
        self._telling.add(telling)

        def told(result: Any) -> Any:
            self._telling.discard(telling)
            return result

        telling.addBoth(told)

    def finish(self) -> Deferred[None]:
        """Fire when all are told; after the limit, the others are given up."""
        for wanted in list(self._waits):
            wanted.cancel()
        if not self._telling:
            return succeed(None)
        telling = list(self._telling)

        def give_up() -> None:
            for each in telling:
                each.cancel()

        timer = self._reactor.callLater(self._limit, give_up)

        def finished(_: object) -> None:
            if timer.active():
                timer.cancel()

        return DeferredList(telling).addCallback(finished)
