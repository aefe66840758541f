"""The race of all paths to a server: one generation, then thrown away.

Every attempt starts as soon as its delay allows; a path counts only when it is
verified. A path of lower rank (a relay's, or of the transport that is not preferred)
is held for a moment while a better one is still in progress (docs/design.rst).
Only the client selects; the server starts nothing before it is told which path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import AllAttemptsFailed, ConnectTimeout, IdentityMismatch
from dwcloud.peer.path import Path
from dwcloud.peer.status import AttemptFailure, PathKind

__all__ = ["Attempt", "CloudConnector", "Race", "race_machine"]


_RELAY_RANK = 2


@attrs.frozen
class Attempt:
    """One path to be tried.

    :ivar name: such as ``"udp 192.0.2.1:5"``, unique within a race.
    :ivar kind: what it leads to.
    :ivar start: begins; the result is cancelled when another path wins.
    :ivar delay: seconds after the start of the race.
    """

    name: str
    kind: PathKind
    start: Callable[[], Deferred[Path]]
    delay: float = 0.0


class Race(Protocol):
    """What happens in a race, in the past tense."""

    def path_held(self, path: Path, seconds: float) -> None:
        """A verified path has to wait ``seconds`` for a better one."""

    def held_path_lost(self) -> None:
        """The path that was held broke; the others go on."""

    def path_selected(self, path: Path) -> None:
        """This path is the best that can be had."""

    def all_failed(self) -> None:
        """Nothing is in progress and nothing is held."""

    def time_ran_out(self) -> None:
        """The time of a held path, or of the whole race, is over."""

    def cancelled(self) -> None:
        """Nobody wants the result any more."""


@attrs.define
class _RaceCore:
    connector: CloudConnector
    held: Path | None = None
    hold: IDelayedCall | None = None

    def release_hold(self) -> None:
        hold, self.hold = self.hold, None
        if hold is not None and hold.active():
            hold.cancel()

    def keep(self, race: Race, path: Path, seconds: float) -> None:
        """Hold ``path`` instead of what was held before."""
        self.drop()
        self.held = path
        clock = self.connector.clock
        self.hold = clock.callLater(seconds, race.time_ran_out)

    def drop(self) -> None:
        """Let go of what is held."""
        self.release_hold()
        held, self.held = self.held, None
        if held is not None:
            held.on_lost = None
            held.close()


_builder = TypeMachineBuilder(Race, _RaceCore)
_racing = _builder.state("racing")
_holding = _builder.state("holding")
_over = _builder.state("over")


@_racing.upon(Race.path_held).to(_holding)
def _hold(race: Race, core: _RaceCore, path: Path, seconds: float) -> None:
    core.keep(race, path, seconds)


@_holding.upon(Race.path_held).to(_holding)
def _hold_better(race: Race, core: _RaceCore, path: Path, seconds: float) -> None:
    core.keep(race, path, seconds)


@_holding.upon(Race.held_path_lost).to(_racing)
def _lose_held(race: Race, core: _RaceCore) -> None:
    core.release_hold()
    core.held = None


@_racing.upon(Race.path_selected).to(_over)
def _select(race: Race, core: _RaceCore, path: Path) -> None:
    core.connector.finish(path)


@_holding.upon(Race.path_selected).to(_over)
def _select_instead(race: Race, core: _RaceCore, path: Path) -> None:
    core.drop()
    core.connector.finish(path)


@_holding.upon(Race.time_ran_out).to(_over)
def _select_held(race: Race, core: _RaceCore) -> None:
    held, core.held = core.held, None
    core.release_hold()
    assert held is not None
    core.connector.finish(held)


@_racing.upon(Race.all_failed).to(_over)
def _fail(race: Race, core: _RaceCore) -> None:
    core.connector.finish(None)


@_racing.upon(Race.time_ran_out).to(_over)
def _give_up(race: Race, core: _RaceCore) -> None:
    core.connector.finish(None)


@_racing.upon(Race.cancelled).to(_over)
def _cancel(race: Race, core: _RaceCore) -> None:
    core.connector.abandon()


@_holding.upon(Race.cancelled).to(_over)
def _cancel_held(race: Race, core: _RaceCore) -> None:
    core.drop()
    core.connector.abandon()


# What was still on its way when the race ended changes nothing any more.
_over.upon(Race.path_held).loop().returns(None)
_over.upon(Race.held_path_lost).loop().returns(None)
_over.upon(Race.path_selected).loop().returns(None)
_over.upon(Race.all_failed).loop().returns(None)
_over.upon(Race.time_ran_out).loop().returns(None)
_over.upon(Race.cancelled).loop().returns(None)

race_machine = _builder.build()
"""Builds a :class:`Race`."""


class CloudConnector:
    """One race.

    :param attempts: all of them; none may be added later.
    :param peer: what the race leads to, for messages.
    :param prefer: ``"udp"`` or ``"tcp"`` to hold other direct paths back.
    :param relay_grace: seconds that a relay path waits for a direct one in progress.
    :param preference_wait: seconds that a direct path waits for the preferred one.
    :param timeout: seconds until the race is lost.
    :ivar failures: what failed so far, in that order.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        attempts: Sequence[Attempt],
        *,
        peer: str,
        prefer: str | None = None,
        relay_grace: float = 0.3,
        preference_wait: float = 1.0,
        timeout: float = 20.0,
    ) -> None:
        self.clock = clock
        self.failures: list[AttemptFailure] = []
        self.reasons: dict[str, Failure] = {}
        self._attempts = list(attempts)
        self._peer = peer
        self._prefer = prefer
        self._relay_grace = relay_grace
        self._preference_wait = preference_wait
        self._timeout = timeout
        self._race = race_machine(_RaceCore(self))
        self._selected: Deferred[Path] = Deferred(lambda _: self._race.cancelled())
        self._waiting: dict[str, IDelayedCall] = {}
        self._running: dict[str, Deferred[Path]] = {}
        self._in_progress: dict[str, Attempt] = {}
        self._deadline: IDelayedCall | None = None
        self._over = False
        self._held_rank = _RELAY_RANK + 1

    def connect(self) -> Deferred[Path]:
        """Start the race.

        :return: fires with the selected path; fails with
            :class:`~dwcloud.errors.AllAttemptsFailed`, with
            :class:`~dwcloud.errors.IdentityMismatch` if that is why each of them
            failed, or with :class:`~dwcloud.errors.ConnectTimeout`.
        """
        self._in_progress = {attempt.name: attempt for attempt in self._attempts}
        self._deadline = self.clock.callLater(self._timeout, self._time_ran_out)
        for attempt in self._attempts:
            if self._over:
                break
            if attempt.delay > 0:
                self._waiting[attempt.name] = self.clock.callLater(
                    attempt.delay, self._begin, attempt
                )
            else:
                self._begin(attempt)
        if not self._attempts:
            self._race.all_failed()
        return self._selected

    def _begin(self, attempt: Attempt) -> None:
        self._waiting.pop(attempt.name, None)
        if self._over:
            return
        running = maybeDeferred(attempt.start)
        self._running[attempt.name] = running
        running.addCallbacks(
            self._verified,
            self._failed,
            callbackArgs=(attempt,),
            errbackArgs=(attempt,),
        )

    def _rank(self, kind: PathKind) -> int:
        """How much a path has to wait for others: 0 not at all."""
        if kind is PathKind.RELAY:
            return _RELAY_RANK
        transport = "udp" if kind is PathKind.UDP else "tcp"
        return 1 if self._prefer not in (None, transport) else 0

    def _better_in_progress(self, rank: int) -> bool:
        return any(self._rank(a.kind) < rank for a in self._in_progress.values())

    def _verified(self, path: Path, attempt: Attempt) -> None:
        self._ended(attempt)
        if self._over:
            path.close()
            return
        rank = self._rank(path.kind)
        if not self._better_in_progress(rank):
            self._race.path_selected(path)
            return
        if rank >= self._held_rank:
            # The one that is held is as good, and has waited already.
            path.close()
            return
        self._held_rank = rank
        path.on_lost = lambda reason: self._held_path_lost(reason, attempt)
        wait = self._relay_grace if rank == _RELAY_RANK else self._preference_wait
        self._race.path_held(path, wait)

    def _failed(self, reason: Failure, attempt: Attempt) -> None:
        self._ended(attempt)
        if self._over:
            return
        self._record(attempt.name, reason)
        if self._held_rank <= _RELAY_RANK:
            if not self._better_in_progress(self._held_rank):
                self._race.time_ran_out()
        elif not self._in_progress:
            self._race.all_failed()

    def _held_path_lost(self, reason: Failure, attempt: Attempt) -> None:
        if self._over:
            return
        self._held_rank = _RELAY_RANK + 1
        self._record(attempt.name, reason)
        self._race.held_path_lost()
        if not self._in_progress:
            self._race.all_failed()

    def _ended(self, attempt: Attempt) -> None:
        self._running.pop(attempt.name, None)
        self._in_progress.pop(attempt.name, None)

    def _record(self, name: str, reason: Failure) -> None:
        self.reasons[name] = reason
        self.failures.append(AttemptFailure(name, reason.getErrorMessage()))
        self._log.info(
            "{peer}: {attempt} failed: {reason}",
            peer=self._peer,
            attempt=name,
            reason=reason.getErrorMessage(),
        )

    def _time_ran_out(self) -> None:
        message = f"no answer within {self._timeout:g} s"
        for name in list(self._in_progress):
            self._record(name, Failure(ConnectTimeout(message)))
        self._race.time_ran_out()

    # What the machine does.

    def abandon(self) -> None:
        """Stop everything that is in progress."""
        self._over = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        for running in list(self._running.values()):
            running.cancel()
        self._in_progress.clear()

    def finish(self, path: Path | None) -> None:
        """The race is over: won by ``path``, or lost."""
        timed_out = self._deadline is not None and not self._deadline.active()
        self.abandon()
        if path is not None:
            path.on_lost = None
            self._selected.callback(path)
        else:
            self._selected.errback(self._why(timed_out))

    def _why(self, timed_out: bool) -> Failure:
        listing = "; ".join(f"{f.attempt}: {f.reason}" for f in self.failures)
        if not listing:
            listing = "there was nothing to try"
        message = f"no path to {self._peer}: {listing}"
        reasons = self.reasons.values()
        if self.reasons and all(r.check(IdentityMismatch) for r in reasons):
            return Failure(IdentityMismatch(message))
        if timed_out and all(r.check(ConnectTimeout) for r in reasons):
            return Failure(ConnectTimeout(message))
        return Failure(AllAttemptsFailed(message, self.reasons))
