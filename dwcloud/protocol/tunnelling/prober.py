"""Which tunnelling method works: candidates race, the first verified one wins.

Candidates start in the order of their cost, one every 0.2 s or as soon as those under
way have failed. One counts when real bytes have gone both ways through it. A *survey*
tries them in the same way, but lets each come to its end.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.deadlines import Deadlines
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES

__all__ = [
    "CANDIDATE_LIMIT",
    "PROBE_LIMIT",
    "STAGGER",
    "Candidate",
    "Carrier",
    "NoneWorks",
    "ProbeReport",
    "ProbeResult",
    "Prober",
    "ProberEvent",
    "Selected",
    "StartCandidate",
    "StopCandidate",
    "candidates_for",
    "probing_machine",
]

STAGGER = 0.2
"""Seconds until the next candidate starts beside those under way."""

CANDIDATE_LIMIT = 8.0
"""Seconds that one candidate may take."""

PROBE_LIMIT = 12.0
"""Seconds for all of it."""


class Carrier(enum.StrEnum):
    """What the HTTP connections of a tunnel run on."""

    DIRECT = "direct"
    CONNECT = "CONNECT"
    WEB = "web requests"


@attrs.frozen
class Candidate:
    """A way to carry a stream.

    :ivar carrier: a connection to the service, the same through a proxy's CONNECT, or
        requests that a proxy passes on as those for web pages.
    """

    method: str
    carrier: Carrier = Carrier.DIRECT

    def __str__(self) -> str:
        if self.carrier is Carrier.DIRECT:
            return self.method
        return f"{self.method} by {self.carrier}"


def candidates_for(carriers: Sequence[Carrier]) -> tuple[Candidate, ...]:
    """All candidates in the order of cost: by method, then by carrier."""
    return tuple(Candidate(m, c) for m in METHOD_NAMES for c in carriers)


class ProbeResult(enum.StrEnum):
    """What became of a candidate."""

    WORKS = "works"
    FAILED = "failed"
    NOT_TRIED = "not tried"
    STOPPED = "stopped"


@attrs.frozen
class ProbeReport:
    """What became of a candidate, and why.

    :ivar reason: a sentence; empty for one that works.
    :ivar seconds: from its start to its end, 0 without one.
    """

    method: str
    carrier: str
    result: ProbeResult
    reason: str = ""
    seconds: float = 0.0


@attrs.frozen
class StartCandidate:
    """Open a tunnel by it, verify that by an echo, and tell."""

    candidate: Candidate


@attrs.frozen
class StopCandidate:
    """Stop what was started."""

    candidate: Candidate


@attrs.frozen
class Selected:
    """This one works; the end."""

    candidate: Candidate


@attrs.frozen
class NoneWorks:
    """Nothing works; the end."""


ProberEvent = StartCandidate | StopCandidate | Selected | NoneWorks


class _Timer(enum.Enum):
    NEXT = "the next one is due"
    LIMIT = "time limit"


class Probing(Protocol):
    """What happens to a probe, in the past tense."""

    def race_began(self) -> None:
        """The first that works is wanted."""

    def survey_began(self) -> None:
        """The fate of each is wanted."""

    def next_fell_due(self) -> None:
        """The last candidate has had its head start."""

    def candidate_verified(self, candidate: Candidate) -> None:
        """Bytes went both ways through it."""

    def candidate_failed(self, candidate: Candidate, reason: str) -> None:
        """It does not work."""

    def carrier_failed(self, carrier: Carrier, reason: str) -> None:
        """No method can work on this carrier."""

    def time_ran_out(self) -> None:
        """The time limit of it all is over."""

    def cancelled(self) -> None:
        """Nobody wants to know any more."""

    def _left_none(self) -> None:
        """Nothing is under way and nothing is left to start."""


@attrs.define
class ProbingCore:
    """What the machine acts on.

    :ivar waiting: what has not been started, the cheapest first.
    :ivar running: what is under way, and since when.
    """

    waiting: list[Candidate]
    now: float = 0.0
    running: dict[Candidate, float] = attrs.field(factory=dict)
    reports: dict[Candidate, ProbeReport] = attrs.field(factory=dict)
    deadlines: Deadlines[_Timer] = attrs.field(factory=Deadlines)
    events: deque[ProberEvent] = attrs.field(factory=deque)

    def begin(self, probing: Probing) -> None:
        """Start the first one."""
        self.deadlines.set(_Timer.LIMIT, self.now + PROBE_LIMIT)
        self.go_on(probing)

    def go_on(self, probing: Probing) -> None:
        """Start the next one, or see that none is left."""
        self.deadlines.cancel(_Timer.NEXT)
        if self.waiting:
            candidate = self.waiting.pop(0)
            self.running[candidate] = self.now
            self.events.append(StartCandidate(candidate))
            if self.waiting:
                self.deadlines.set(_Timer.NEXT, self.now + STAGGER)
        elif not self.running:
            probing._left_none()

    def note(self, candidate: Candidate, result: ProbeResult, reason: str) -> None:
        """Note how one that was under way ended."""
        began = self.running.pop(candidate, None)
        if began is None:
            return  # it was given up before
        self._report(candidate, result, reason, self.now - began)

    def note_carrier(self, carrier: Carrier, reason: str) -> None:
        """Note that those of a carrier need not be tried."""
        for candidate in [c for c in self.waiting if c.carrier is carrier]:
            self.waiting.remove(candidate)
            self._report(candidate, ProbeResult.FAILED, reason, 0.0)

    def _report(
        self, candidate: Candidate, result: ProbeResult, reason: str, seconds: float
    ) -> None:
        self.reports[candidate] = ProbeReport(
            candidate.method, candidate.carrier.value, result, reason, seconds
        )

    def stop(self, result: ProbeResult, reason: str) -> None:
        """Stop what is under way."""
        self.deadlines.clear()
        for candidate in list(self.running):
            self.events.append(StopCandidate(candidate))
            self.note(candidate, result, reason)
        for candidate in self.waiting:
            self._report(candidate, ProbeResult.NOT_TRIED, "there was no need", 0.0)
        self.waiting.clear()

    def end(self) -> None:
        """Tell the end of a probe that nobody won outright."""
        for candidate, report in self.reports.items():
            if report.result is ProbeResult.WORKS:
                self.events.append(Selected(candidate))
                return
        self.events.append(NoneWorks())


_builder = TypeMachineBuilder(Probing, ProbingCore)
_fresh = _builder.state("fresh")
_racing = _builder.state("racing")
_surveying = _builder.state("surveying")
_over = _builder.state("over")


@_fresh.upon(Probing.race_began).to(_racing)
def _begin_race(probing: Probing, core: ProbingCore) -> None:
    core.begin(probing)


@_fresh.upon(Probing.survey_began).to(_surveying)
def _begin_survey(probing: Probing, core: ProbingCore) -> None:
    core.begin(probing)


@_racing.upon(Probing.candidate_verified).to(_over)
def _win(probing: Probing, core: ProbingCore, candidate: Candidate) -> None:
    core.note(candidate, ProbeResult.WORKS, "")
    core.stop(ProbeResult.STOPPED, f"{candidate} was verified before")
    core.events.append(Selected(candidate))


@_surveying.upon(Probing.candidate_verified).loop()
def _note_verified(probing: Probing, core: ProbingCore, candidate: Candidate) -> None:
    core.note(candidate, ProbeResult.WORKS, "")
    if not core.running:
        core.go_on(probing)


def _next(probing: Probing, core: ProbingCore) -> None:
    core.go_on(probing)


def _fail(
    probing: Probing, core: ProbingCore, candidate: Candidate, reason: str
) -> None:
    core.note(candidate, ProbeResult.FAILED, reason)
    if not core.running:
        core.go_on(probing)


def _fail_carrier(
    probing: Probing, core: ProbingCore, carrier: Carrier, reason: str
) -> None:
    core.note_carrier(carrier, reason)


def _end(probing: Probing, core: ProbingCore) -> None:
    core.stop(ProbeResult.FAILED, "")
    core.end()


def _give_up(probing: Probing, core: ProbingCore) -> None:
    core.stop(ProbeResult.FAILED, f"it did not work within {PROBE_LIMIT:g} seconds")
    core.end()


def _cancel(probing: Probing, core: ProbingCore) -> None:
    core.stop(ProbeResult.STOPPED, "nobody wanted to know any more")


for _state in (_racing, _surveying):
    _state.upon(Probing.next_fell_due).loop()(_next)
    _state.upon(Probing.candidate_failed).loop()(_fail)
    _state.upon(Probing.carrier_failed).loop()(_fail_carrier)
    _state.upon(Probing._left_none).to(_over)(_end)
    _state.upon(Probing.time_ran_out).to(_over)(_give_up)
    _state.upon(Probing.cancelled).to(_over)(_cancel)
    # It begins once.
    _state.upon(Probing.race_began).loop().returns(None)
    _state.upon(Probing.survey_began).loop().returns(None)

_fresh.upon(Probing.cancelled).to(_over).returns(None)
# Before the start nothing is under way.
_fresh.upon(Probing.next_fell_due).loop().returns(None)
_fresh.upon(Probing.candidate_verified).loop().returns(None)
_fresh.upon(Probing.candidate_failed).loop().returns(None)
_fresh.upon(Probing.carrier_failed).loop().returns(None)
_fresh.upon(Probing.time_ran_out).loop().returns(None)
_fresh.upon(Probing._left_none).loop().returns(None)
# What was stopped may still tell what became of it.
_over.upon(Probing.race_began).loop().returns(None)
_over.upon(Probing.survey_began).loop().returns(None)
_over.upon(Probing.next_fell_due).loop().returns(None)
_over.upon(Probing.candidate_verified).loop().returns(None)
_over.upon(Probing.candidate_failed).loop().returns(None)
_over.upon(Probing.carrier_failed).loop().returns(None)
_over.upon(Probing.time_ran_out).loop().returns(None)
_over.upon(Probing.cancelled).loop().returns(None)
_over.upon(Probing._left_none).loop().returns(None)

probing_machine = _builder.build()
"""Builds a :class:`Probing` from a :class:`ProbingCore`."""


class Prober:
    """One probe of a destination: fed with results and time.

    :param candidates: in the order in which they are to be tried.
    """

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._candidates = tuple(candidates)
        self._core = ProbingCore(list(self._candidates))
        self._machine = probing_machine(self._core)

    @property
    def reports(self) -> tuple[ProbeReport, ...]:
        """What became of those that have come to an end, in their order."""
        known = self._core.reports
        return tuple(known[c] for c in self._candidates if c in known)

    def start(self, *, now: float, survey: bool = False) -> None:
        """Begin.

        :param survey: whether each is to come to its end.
        """
        self._core.now = now
        if survey:
            self._machine.survey_began()
        else:
            self._machine.race_began()

    def verify(self, candidate: Candidate, *, now: float) -> None:
        """Bytes went both ways through a candidate."""
        self._core.now = now
        self._machine.candidate_verified(candidate)

    def fail(
        self, candidate: Candidate, reason: str, *, now: float, all_on: bool = False
    ) -> None:
        """A candidate does not work.

        :param all_on: whether no other can work on its carrier.
        """
        self._core.now = now
        if all_on:
            self._machine.carrier_failed(candidate.carrier, reason)
        self._machine.candidate_failed(candidate, reason)

    def cancel(self) -> None:
        """Stop; nothing more is selected."""
        self._machine.cancelled()

    def handle_timer(self, *, now: float) -> None:
        """Time has passed."""
        self._core.now = now
        for timer in self._core.deadlines.pop_due(now):
            if timer is _Timer.NEXT:
                self._machine.next_fell_due()
            else:
                self._machine.time_ran_out()

    def next_timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called, absolute seconds."""
        return self._core.deadlines.next()

    def next_event(self) -> ProberEvent | None:
        """Return what is to be done next, or None."""
        return self._core.events.popleft() if self._core.events else None
