"""The race of all paths to a server: one generation, then thrown away.

Every attempt starts as soon as its delay allows; a path counts only when it is
verified. A path of lower rank (a relay's, or of the transport that is not preferred)
is held for a moment while a better one is still in progress (docs/design.rst).
Only the client selects; the server starts nothing before it is told which path. It
is told right behind ``OPEN`` of the first path that has proven the server's name, if
nothing better is in progress: that path is *begun*. While it is, no other is selected,
so that a race does not connect the service twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dwcloud.errors import AllAttemptsFailed, ConnectTimeout, IdentityMismatch
from dwcloud.net.path import Path
from dwcloud.peer.race import RaceCore, race_machine
from dwcloud.peer.race_log import RaceLog
from dwcloud.peer.status import AttemptFailure, PathKind

__all__ = ["Attempt", "CloudConnector", "OnOpen", "Start"]


_RELAY_RANK = 2

OnOpen = Callable[[Path], None]
"""Told of a path that can be begun."""

Start = Callable[[OnOpen], Deferred[Path]]


@attrs.frozen
class Attempt:
    """One path to be tried.

    :ivar name: such as ``"udp 192.0.2.1:5"``, unique within a race.
    :ivar kind: what it leads to.
    :ivar start: begins, and tells when the path can be begun; the result is cancelled
        when another path wins.
    :ivar delay: seconds after the start of the race.
    """

    name: str
    kind: PathKind
    start: Start
    delay: float = 0.0


class CloudConnector:
    """One race.

    :param attempts: those that it begins with; see :meth:`add`.
    :param peer: what the race leads to, for messages.
    :param connect_session_id: what logs call the session, if there is one.
    :param prefer: ``"udp"`` or ``"tcp"`` to hold other direct paths back.
    :param relay_grace: seconds that a relay path waits for a direct one in progress.
    :param preference_wait: seconds that a direct path waits for the preferred one.
    :param timeout: seconds until the race is lost.
    :param begin: sends the request for the service right behind ``OPEN`` of a path;
        returns False if it cannot. Without it paths are only verified.
    :param on_better: where a relay wins, the attempts over UDP go on, and this is told
        the path of the first one that succeeds after all; until :meth:`abandon`.
    :ivar failures: what failed so far, in that order.
    """

    def __init__(
        self,
        clock: IReactorTime,
        attempts: Sequence[Attempt],
        *,
        peer: str,
        connect_session_id: str | None = None,
        prefer: str | None = None,
        relay_grace: float = 0.3,
        preference_wait: float = 1.0,
        timeout: float = 20.0,
        begin: Callable[[Path], bool] | None = None,
        on_better: Callable[[Path], None] | None = None,
    ) -> None:
        self.clock = clock
        self.failures: list[AttemptFailure] = []
        self.reasons: dict[str, Failure] = {}
        self._attempts = list(attempts)
        self._peer = peer
        self._log = RaceLog(clock, peer, connect_session_id)
        self._prefer = prefer
        self._relay_grace = relay_grace
        self._preference_wait = preference_wait
        self._timeout = timeout
        self._race = race_machine(RaceCore(self))
        self._selected: Deferred[Path] = Deferred(lambda _: self._race.cancelled())
        self._waiting: dict[str, IDelayedCall] = {}
        self._running: dict[str, Deferred[Path]] = {}
        self._in_progress: dict[str, Attempt] = {}
        self._deadline: IDelayedCall | None = None
        self._over = False
        self._on_better = on_better
        self._begin_service = begin
        self._begun = ""
        self._improving = False
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
            self._schedule(attempt)
        if not self._attempts:
            self._race.all_failed()
        return self._selected

    def add(self, attempt: Attempt) -> bool:
        """Let one more attempt take part, while the race goes on.

        :return: False if the race is over, or one of that name takes part.
        """
        if self._over or self._deadline is None or attempt.name in self._in_progress:
            return False
        self._in_progress[attempt.name] = attempt
        self._schedule(attempt)
        return True

    def _schedule(self, attempt: Attempt) -> None:
        if attempt.delay > 0:
            self._waiting[attempt.name] = self.clock.callLater(
                attempt.delay, self._begin, attempt
            )
        else:
            self._begin(attempt)

    def _begin(self, attempt: Attempt) -> None:
        self._waiting.pop(attempt.name, None)
        if self._over:
            return
        self._log.begun(attempt.name)
        running = maybeDeferred(attempt.start, partial(self._opened, attempt))
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

    def _opened(self, attempt: Attempt, path: Path) -> None:
        """Begin a path if the race will select it as soon as it is verified."""
        if (
            self._begin_service is None
            or self._over
            or self._improving
            or self._begun
            or attempt.name not in self._in_progress
        ):
            return
        rank = self._rank(path.kind)
        if path.proven:
            best = rank < self._held_rank and not self._better_in_progress(rank)
        else:
            # It may be somebody who never answers: nothing else is to wait for it.
            best = len(self._in_progress) == 1 and self._held_rank > _RELAY_RANK
        if best and self._begin_service(path):
            self._begun = attempt.name
            self._race.path_begun()

    def _verified(self, path: Path, attempt: Attempt) -> None:
        self._ended(attempt)
        if self._over:
            path.close()
            return
        self._log.verified(attempt.name)
        if self._improving:
            self.abandon()
            if self._on_better is not None:
                self._on_better(path)
            return
        rank = self._rank(path.kind)
        if self._begun in ("", attempt.name) and (
            self._begun or not self._better_in_progress(rank)
        ):
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
        if self._over or self._improving:
            return
        self._record(attempt.name, reason)
        if attempt.name == self._begun:
            self._begun = ""
            self._race.begun_path_failed()
        if self._held_rank <= _RELAY_RANK:
            if not (self._begun or self._better_in_progress(self._held_rank)):
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
        self._log.failed(name, reason.getErrorMessage())

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

    def _improve(self) -> None:
        """Stop all but the attempts over UDP, which may take longer.

        One that was begun and did not come to anything is stopped as well: it may have
        connected the service.
        """
        self._improving = True
        for name, attempt in list(self._in_progress.items()):
            if attempt.kind is PathKind.UDP and name != self._begun:
                continue
            del self._in_progress[name]
            waiting = self._waiting.pop(name, None)
            if waiting is not None:
                waiting.cancel()
            running = self._running.pop(name, None)
            if running is not None:
                running.cancel()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def finish(self, path: Path | None) -> None:
        """The race is over: won by ``path``, or lost."""
        timed_out = self._deadline is not None and not self._deadline.active()
        if path is not None and path.kind is PathKind.RELAY and self._on_better:
            self._improve()
        else:
            self.abandon()
        if path is not None:
            path.on_lost = None
            self._log.selected(path.attempt)
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
