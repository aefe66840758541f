"""The first use of a way that nobody has tried: it goes on while others are tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dwcloud.protocol.tunnelling.prober import Candidate

__all__ = ["AnotherWorks", "first_use"]

_T = TypeVar("_T")


class AnotherWorks(Exception):
    """The probe has found something else, while the first use was still waited for."""


def first_use(
    reactor: IReactorTime,
    candidate: Candidate,
    trying: Deferred[_T],
    probe: Callable[[], Deferred[Candidate]],
    patience: float,
) -> Deferred[_T]:
    """Wait for the first use of a candidate, and probe beside it if it tarries.

    :param trying: the use; cancelled when something else works.
    :param probe: finds out what works.
    :param patience: seconds until then.
    :return: fires as ``trying`` does, or fails with :exc:`AnotherWorks`. Cancelling it
        cancels both.
    """
    return _FirstUse(reactor, candidate, trying, probe, patience).result


class _FirstUse(Generic[_T]):
    def __init__(
        self,
        reactor: IReactorTime,
        candidate: Candidate,
        trying: Deferred[_T],
        probe: Callable[[], Deferred[Candidate]],
        patience: float,
    ) -> None:
        self._candidate = candidate
        self._trying = trying
        self._probe = probe
        self._probing: Deferred[Any] | None = None
        self._over = False
        self.result: Deferred[_T] = Deferred(lambda _: self._end())
        self._timer: IDelayedCall = reactor.callLater(patience, self._tarries)
        trying.addCallbacks(self._worked, self._failed)

    def _worked(self, result: _T) -> None:
        if not self._over:
            self._end(tried=True)
            self.result.callback(result)

    def _failed(self, failure: Failure) -> None:
        # Of what was given up nobody wants to know why it failed.
        if not self._over:
            self._end(tried=True)
            self.result.errback(failure)

    def _tarries(self) -> None:
        probing = self._probing = self._probe()
        probing.addCallbacks(self._found, lambda _: None)

    def _found(self, candidate: Candidate) -> None:
        # The same one is only slow, as where a server has no connection free.
        if candidate != self._candidate and not self._over:
            self._end()
            self.result.errback(Failure(AnotherWorks(str(candidate))))

    def _end(self, *, tried: bool = False) -> None:
        self._over = True
        if self._timer.active():
            self._timer.cancel()
        if self._probing is not None:
            self._probing.cancel()
        if not tried:
            self._trying.cancel()
