"""Choosing the tunnelling method for a destination: by memory, or by a probe."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import attrs
from twisted.internet import defer
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import ProxyAuthenticationFailed, ProxyRefused, TunnelRefused
from dwcloud.net.first_use import AnotherWorks, first_use
from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.local_network import local_network
from dwcloud.net.method_memory import MethodMemory, NetworkName
from dwcloud.net.tunnel_opening import AUTO, check_method, open_by
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    PROBE_PATH,
    PROBE_TOKEN,
    Opening,
)
from dwcloud.protocol.tunnelling.prober import (
    CANDIDATE_LIMIT,
    Candidate,
    Carrier,
    Prober,
    ProbeReport,
    Selected,
    StartCandidate,
    StopCandidate,
    candidates_for,
)
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["PATIENCE", "USE_LIMIT", "Destination", "TunnelSelector"]

USE_LIMIT = 8.0
"""Seconds for a tunnel by a method that worked before. A relay may let a client wait
for 5 s."""

PATIENCE = 0.5
"""Seconds of the first use of a service after which what works there is probed."""

_IMPROVE_EVERY = 600.0
"""Seconds between two searches for a cheaper method than the one that is used."""

_FINAL = (401, 403, 404, 409, 410, 429, 503)
"""What the service itself answers: another method would change nothing."""

_OF_THE_METHOD = (
    TunnelRefused,
    ProxyRefused,
    ConnectionLost,
    ConnectionDone,
    TimeoutError,
    defer.TimeoutError,
)
"""Failures for which a method may be to blame."""

_T = TypeVar("_T")


@attrs.frozen(eq=False)
class Destination:
    """A service, and the ways to it.

    :ivar key: for the memory: the URL, and the proxy if there is one.
    :ivar carriers: what HTTP connections to it may run on, the cheapest first.
    :ivar connect: makes a connection on one of them.
    """

    url: ServiceURL
    key: str
    carriers: tuple[Carrier, ...]
    connect: Callable[[Carrier], Deferred[HTTPClientConnection]]

    def candidates(self, method: str) -> tuple[Candidate, ...]:
        """What can be tried, the cheapest first.

        :param method: the only one, or ``auto``.
        """
        return tuple(
            c for c in candidates_for(self.carriers) if method in (AUTO, c.method)
        )


class _Probe:
    """A prober at work; several may wait for what it finds."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        destination: Destination,
        candidates: tuple[Candidate, ...],
        random_bytes: Callable[[int], bytes],
        ended: Callable[[_Probe, Candidate | None], None],
    ) -> None:
        self._reactor = reactor
        self._destination = destination
        self._random_bytes = random_bytes
        self._ended = ended
        self._candidates = candidates
        self._core = Prober(candidates)
        self._trying: dict[Candidate, Deferred[None]] = {}
        self._failures: dict[Candidate, Failure] = {}
        self._unreachable: set[Candidate] = set()
        self._timer: IDelayedCall | None = None
        self._waiting: list[Deferred[Candidate]] = []
        self._acting = False
        self.over = False

    @property
    def reports(self) -> tuple[ProbeReport, ...]:
        """What became of each candidate."""
        return self._core.reports

    def start(self, *, survey: bool = False) -> None:
        """Begin."""
        self._core.start(now=self._reactor.seconds(), survey=survey)
        self._act()

    def result(self) -> Deferred[Candidate]:
        """Fires with what works, or fails with why the cheapest does not.

        When all who waited have cancelled theirs, the probe stops.
        """

        def left(waiting: Deferred[Candidate]) -> None:
            self._waiting.remove(waiting)
            if not self._waiting:
                self.cancel()

        waiting: Deferred[Candidate] = Deferred(left)
        self._waiting.append(waiting)
        return waiting

    def cancel(self) -> None:
        """Stop."""
        self._core.cancel()
        self._act()
        self._end(None, Failure(CancelledError()))

    def _act(self) -> None:
        if self._acting:
            return
        self._acting = True
        while (event := self._core.next_event()) is not None:
            if isinstance(event, StartCandidate):
                self._try(event.candidate)
            elif isinstance(event, StopCandidate):
                trying = self._trying.pop(event.candidate, None)
                if trying is not None:
                    trying.cancel()
            elif isinstance(event, Selected):
                self._end(event.candidate, None)
            else:
                self._end(None, self._first_failure())
        self._acting = False
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        at = self._core.next_timer()
        if at is not None:
            delay = max(0.0, at - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._core.handle_timer(now=self._reactor.seconds())
        self._act()

    def _try(self, candidate: Candidate) -> None:
        def not_connected(reason: Failure) -> Failure:
            if not reason.check(CancelledError):
                self._unreachable.add(candidate)
            return reason

        def connect() -> Deferred[HTTPClientConnection]:
            connecting = self._destination.connect(candidate.carrier)
            return connecting.addErrback(not_connected)

        path = self._destination.url.path + PROBE_PATH
        opening: Deferred[Any] = open_by(
            self._reactor,
            candidate.method,
            connect,
            Opening(path, PROBE_TOKEN),
            random_bytes=self._random_bytes,
        )
        opening.addTimeout(CANDIDATE_LIMIT, self._reactor)
        opening.addCallback(lambda tunnel: tunnel.disconnect())
        done = opening.addCallbacks(
            self._verified,
            self._failed,
            callbackArgs=(candidate,),
            errbackArgs=(candidate,),
        )
        if not done.called:
            self._trying[candidate] = done

    def _verified(self, _: object, candidate: Candidate) -> None:
        self._trying.pop(candidate, None)
        self._core.verify(candidate, now=self._reactor.seconds())
        self._act()

    def _failed(self, failure: Failure, candidate: Candidate) -> None:
        self._trying.pop(candidate, None)
        if not failure.check(CancelledError):
            self._failures[candidate] = failure
        reason = failure.getErrorMessage()
        if failure.check(defer.TimeoutError):
            reason = f"it did not open within {CANDIDATE_LIMIT:g} seconds"
        self._core.fail(
            candidate,
            reason,
            now=self._reactor.seconds(),
            all_on=candidate in self._unreachable,
        )
        self._act()

    def _first_failure(self) -> Failure:
        """Why the cheapest does not work, which tells most of what is in the way."""
        failures = [
            self._failures[each] for each in self._candidates if each in self._failures
        ]
        for failure in failures:
            if failure.check(ProxyAuthenticationFailed):
                return failure
        if failures:
            return failures[0]
        return Failure(TunnelRefused("no tunnelling method works", 0))

    def _end(self, candidate: Candidate | None, failure: Failure | None) -> None:
        if self.over:
            return
        self.over = True
        for report in self.reports:
            self._log.info(
                "{destination}: {method} on {carrier}: {result} {reason}",
                destination=self._destination.key,
                method=report.method,
                carrier=report.carrier,
                result=report.result.value,
                reason=report.reason,
            )
        self._ended(self, candidate)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if candidate is not None:
                each.callback(candidate)
            else:
                each.errback(failure or Failure(CancelledError()))


class TunnelSelector:
    """Knows for one program what works where.

    :param memory: of what worked; a new one without.
    :param method: the only one to use, or ``auto``.
    :raises ValueError: if there is no such method.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        memory: MethodMemory | None = None,
        method: str = AUTO,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._random_bytes = random_bytes
        self._probes: dict[str, _Probe] = {}
        self._improving: set[_Probe] = set()
        self._improved: dict[str, float] = {}
        self.method = check_method(method)
        self.memory = memory or MethodMemory(
            network=NetworkName(local_network(reactor), reactor.seconds)
        )

    def select(
        self, destination: Destination, method: str = AUTO
    ) -> Deferred[Candidate]:
        """Return what works, from memory or by a probe.

        :param method: the only one to use, or ``auto``.
        :return: fails with why the cheapest does not work if nothing does.
        """
        method = self.method if method == AUTO else method
        key = _key(destination, method)
        candidates = self._lasting(key, destination.candidates(method))
        now = self._reactor.seconds()
        selected: Deferred[Candidate] = Deferred()
        if len(candidates) == 1:
            selected.callback(candidates[0])
            return selected
        known = self.memory.selected(key, now=now)
        if known in candidates:
            self._improve(destination, key, candidates, known)
            selected.callback(known)
            return selected
        probe = self._probes.get(key)
        if probe is not None:
            return probe.result()
        demoted = self.memory.demoted(key)
        if demoted in candidates:
            kept = tuple(c for c in candidates if c != demoted)
            candidates = (*kept, demoted)

        def ended(probe: _Probe, candidate: Candidate | None) -> None:
            self._probes.pop(key, None)
            self.memory.note(destination.key, probe.reports)
            if candidate is not None:
                self._select(destination, key, candidate)

        probe = self._probe(destination, candidates, ended)
        self._probes[key] = probe
        result = probe.result()
        probe.start()
        return result

    def _probe(
        self,
        destination: Destination,
        candidates: tuple[Candidate, ...],
        ended: Callable[[_Probe, Candidate | None], None],
    ) -> _Probe:
        return _Probe(self._reactor, destination, candidates, self._random_bytes, ended)

    def _select(self, destination: Destination, key: str, candidate: Candidate) -> None:
        self._improved[key] = self._reactor.seconds()
        self.memory.select(key, candidate, now=self._reactor.seconds())
        self._log.info(
            "{destination}: {candidate} works",
            destination=destination.key,
            candidate=str(candidate),
        )

    def _improve(
        self,
        destination: Destination,
        key: str,
        candidates: tuple[Candidate, ...],
        known: Candidate,
    ) -> None:
        """Look now and then for something cheaper, while what is known is used."""
        cheaper = candidates[: candidates.index(known)]
        now = self._reactor.seconds()
        last = self._improved.get(key, self.memory.searched(key))
        if not cheaper or now - last < _IMPROVE_EVERY:
            return
        self._improved[key] = now

        def ended(probe: _Probe, candidate: Candidate | None) -> None:
            self._improving.discard(probe)
            if candidate is not None:
                self._select(destination, key, candidate)

        def nothing_found(failure: Failure) -> None:
            # One that was not finished is begun again by the next process.
            if not failure.check(CancelledError):
                self.memory.note_search(key, now=self._reactor.seconds())

        probe = self._probe(destination, cheaper, ended)
        self._improving.add(probe)
        probe.result().addErrback(nothing_found)
        probe.start()

    @inlineCallbacks
    def use(
        self,
        destination: Destination,
        attempt: Callable[[Candidate], Deferred[_T]],
        method: str = AUTO,
        *,
        tries: bool = False,
    ) -> Any:
        """Do something by what works; find something else once if it fails.

        :param attempt: called with what to use.
        :param tries: whether its success shows that bytes go both ways: then it takes
            the place of the probe if nothing is known and no proxy is to be passed;
            only if it tarries the methods are probed beside it.
        :return: a Deferred of its result.
        """
        wanted = self.method if method == AUTO else method
        alternatives = len(destination.candidates(wanted)) > 1
        again = True
        first = self._untried(destination, wanted) if tries and alternatives else None
        if first is not None:
            trying = attempt(first).addTimeout(USE_LIMIT, self._reactor, _too_slow)
            select = partial(self.select, destination, method)
            try:
                result = yield first_use(self._reactor, first, trying, select, PATIENCE)
            except AnotherWorks:
                pass
            except _OF_THE_METHOD as e:
                if _is_final(e):
                    raise
                self._log.info(
                    "{destination}: {candidate} did not work at once: {reason}",
                    destination=destination.key,
                    candidate=str(first),
                    reason=str(e),
                )
            else:
                self._select(destination, _key(destination, wanted), first)
                return result
        while True:
            selecting = self.select(destination, method)
            known = selecting.called
            candidate = yield selecting
            trying = attempt(candidate)
            if alternatives:
                trying.addTimeout(USE_LIMIT, self._reactor, _too_slow)
            try:
                result = yield trying
                return result
            except _OF_THE_METHOD as e:
                if _is_final(e):
                    raise
                self.demote(destination, candidate, str(e), method)
                if not (known and again and alternatives):
                    raise
                again = False

    def _untried(self, destination: Destination, method: str) -> Candidate | None:
        """The cheapest way, if it leads there directly and nothing is known of it."""
        key = _key(destination, method)
        candidates = self._lasting(key, destination.candidates(method))
        first = candidates[0]
        known = self.memory.selected(key, now=self._reactor.seconds())
        if (
            first.carrier is not Carrier.DIRECT
            or known in candidates
            or self.memory.demoted(key) is not None
            or key in self._probes
        ):
            return None
        return first

    def demote(
        self,
        destination: Destination,
        candidate: Candidate,
        reason: str,
        method: str = AUTO,
    ) -> None:
        """What was selected does not work any more."""
        method = self.method if method == AUTO else method
        self._log.info(
            "{destination}: {candidate} does not work any more: {reason}",
            destination=destination.key,
            candidate=str(candidate),
            reason=reason,
        )
        self.memory.demote(_key(destination, method), candidate)

    def cut(self, destination: Destination, seconds: float, method: str = AUTO) -> None:
        """An endless stream was lost, having worked before.

        There are proxies that cut whatever has lived for some time. After two such
        cuts in a row short requests take the place of endless streams for an hour.

        :param seconds: how long it lasted.
        """
        key = _key(destination, self.method if method == AUTO else method)
        now = self._reactor.seconds()
        if self.memory.note_cut(key, lasted=seconds, now=now):
            self._log.info(
                "{destination}: streams are cut again and again; short requests take "
                "their place",
                destination=destination.key,
            )

    def _lasting(
        self, key: str, candidates: tuple[Candidate, ...]
    ) -> tuple[Candidate, ...]:
        """Leave out endless streams where they are cut, if that leaves anything."""
        if not self.memory.is_cut(key, now=self._reactor.seconds()):
            return candidates
        short = tuple(c for c in candidates if c.method == FINITE_MESSAGES)
        return short or candidates

    def survey(self, destination: Destination) -> Deferred[tuple[ProbeReport, ...]]:
        """Try every method, and tell what became of each.

        :return: fires when each has come to its end, also if none works.
        """
        found: list[tuple[ProbeReport, ...]] = []

        def ended(probe: _Probe, candidate: Candidate | None) -> None:
            self._improving.discard(probe)
            self.memory.note(destination.key, probe.reports)
            found.append(probe.reports)

        probe = self._probe(destination, destination.candidates(self.method), ended)
        self._improving.add(probe)

        def report(result: Candidate | Failure) -> tuple[ProbeReport, ...]:
            if isinstance(result, Failure) and result.check(CancelledError):
                result.raiseException()
            return found[0]

        surveying: Deferred[Any] = probe.result()
        probe.start(survey=True)
        return cast("Deferred[tuple[ProbeReport, ...]]", surveying.addBoth(report))

    def stop(self) -> None:
        """Stop all probes; who waits for one gets a CancelledError."""
        for probe in (*self._probes.values(), *self._improving):
            probe.cancel()


def _too_slow(result: Any, limit: float) -> Any:
    """Tell a use that was given up by one error, whatever it was waiting for."""
    if isinstance(result, Failure):
        raise defer.TimeoutError(f"no tunnel within {limit:g} seconds")
    return result


def _is_final(error: Exception) -> bool:
    """Whether another method would come to the same."""
    if isinstance(error, TunnelRefused):
        return error.by_service and error.status in _FINAL
    return isinstance(error, ProxyAuthenticationFailed)


def _key(destination: Destination, method: str) -> str:
    return destination.key if method == AUTO else f"{destination.key} by {method}"
