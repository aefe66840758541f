"""Several ways to one thing, started one after the other; the first that works wins."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

__all__ = ["Candidate", "RaceLost", "WayMemory", "Winner", "race"]

_REMEMBERED = 3600.0
"""Seconds for which the way that worked last is tried first."""

ResultT = TypeVar("ResultT")


@attrs.frozen(eq=False)
class Candidate(Generic[ResultT]):
    """One way.

    :ivar name: in messages.
    :ivar start: begins it; its Deferred is cancelled when another way has won.
    """

    name: str
    start: Callable[[], Deferred[ResultT]]


@attrs.frozen(eq=False)
class Winner(Generic[ResultT]):
    """The way that worked first.

    :ivar failures: the ways that had failed by then.
    """

    candidate: Candidate[ResultT]
    result: ResultT
    failures: Mapping[str, Failure]


class RaceLost(Exception):
    """No way worked.

    :ivar failures: each way and why.
    """

    def __init__(self, failures: Mapping[str, Failure]) -> None:
        super().__init__(
            "; ".join(f"{n}: {f.getErrorMessage()}" for n, f in failures.items())
        )
        self.failures = dict(failures)


def race(
    reactor: IReactorTime,
    candidates: Sequence[Candidate[ResultT]],
    *,
    stagger: float,
    dispose: Callable[[ResultT], object],
) -> Deferred[Winner[ResultT]]:
    """Try ways in their order until one works.

    The next one starts after ``stagger`` seconds, or at once when all those before it
    have failed.

    :param dispose: told a result that came too late to be wanted.
    :return: fails with :exc:`RaceLost`. Cancelling it cancels the ways.
    """
    return _Race(reactor, candidates, stagger, dispose).start()


class _Race(Generic[ResultT]):
    def __init__(
        self,
        reactor: IReactorTime,
        candidates: Sequence[Candidate[ResultT]],
        stagger: float,
        dispose: Callable[[ResultT], object],
    ) -> None:
        self._reactor = reactor
        self._waiting = list(candidates)
        self._stagger = stagger
        self._dispose = dispose
        self._running: dict[str, Deferred[None]] = {}
        self._failures: dict[str, Failure] = {}
        self._timer: IDelayedCall | None = None
        self._starting = False
        self._over = False
        self._result: Deferred[Winner[ResultT]] = Deferred(lambda _: self._end())

    def start(self) -> Deferred[Winner[ResultT]]:
        self._next()
        return self._result

    def _next(self) -> None:
        self._cancel_timer()
        self._starting = True
        while self._waiting and not self._over:
            candidate = self._waiting.pop(0)
            trying: Deferred[ResultT] = maybeDeferred(candidate.start)
            done = trying.addCallbacks(
                partial(self._won, candidate), partial(self._failed, candidate)
            )
            if not done.called:
                self._running[candidate.name] = done
                break
        self._starting = False
        if self._over:
            return
        if self._waiting:
            self._timer = self._reactor.callLater(self._stagger, self._next)
        elif not self._running:
            self._over = True
            self._result.errback(RaceLost(self._failures))

    def _won(self, candidate: Candidate[ResultT], result: ResultT) -> None:
        self._running.pop(candidate.name, None)
        if self._over:
            self._dispose(result)
            return
        failures = dict(self._failures)
        self._end()
        self._result.callback(Winner(candidate, result, failures))

    def _failed(self, candidate: Candidate[ResultT], failure: Failure) -> None:
        self._running.pop(candidate.name, None)
        self._failures[candidate.name] = failure
        if not (self._over or self._running or self._starting):
            self._next()

    def _end(self) -> None:
        """Stop whatever still runs."""
        self._over = True
        self._waiting.clear()
        self._cancel_timer()
        running, self._running = self._running, {}
        for trying in running.values():
            trying.cancel()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


class WayMemory:
    """Remembers which way to each destination worked last, for an hour."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._first: dict[Hashable, tuple[str, float]] = {}

    def first(self, destination: Hashable) -> str:
        """The name of the way that worked last, empty if none is known."""
        name, until = self._first.get(destination, ("", 0.0))
        return name if self._reactor.seconds() <= until else ""

    def worked(self, destination: Hashable, name: str) -> None:
        """A way worked."""
        self._first[destination] = (name, self._reactor.seconds() + _REMEMBERED)

    def forget(self, destination: Hashable) -> None:
        """No way is known any more."""
        self._first.pop(destination, None)
