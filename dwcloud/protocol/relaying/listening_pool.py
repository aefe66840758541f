"""A server's idle connections at one relay (docs/protocol/relaying)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
from automat import NoTransition

from dwcloud.protocol.deadlines import Deadlines
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.relaying.pool_member import (
    MemberCore,
    PoolMember,
    make_pool_member,
)

__all__ = [
    "MAX_IDLE",
    "PREEMPTIVE_CONNECTIONS",
    "DropConnection",
    "Event",
    "ListeningPool",
    "OpenConnection",
]

PREEMPTIVE_CONNECTIONS = 7
"""Idle connections that a server keeps at each relay, at least."""

MAX_IDLE = 14
"""Idle connections of one server that a relay accepts."""

_OPENING_LIMIT = 20.0
_SILENCE_LIMIT = 65.0  # two KEEP_ALIVEs missed, and some time for the third
_FIRST_RETRY = 0.5
_LAST_RETRY = 60.0
_SHORT_LIFE = 1.0
_SURGE = 30.0

_RETRY = -1  # the name of the pool's own deadline beside those of its members


@attrs.frozen
class OpenConnection:
    """Open one more connection to the relay, and report on it by its number."""

    member: int


@attrs.frozen
class DropConnection:
    """Close a connection, or give up opening it."""

    member: int


Event = OpenConnection | DropConnection


@attrs.define(eq=False)
class _Member:
    machine: PoolMember
    idle_since: float | None = None


class ListeningPool:
    """Decides when a server opens connections to one relay.

    Driven by reports on the connections, and by :meth:`handle_timer`. A connection
    that was taken or has died is replaced at once. While the relay cannot be reached
    one connection at a time is tried, 0.5 s later and then at twice the time up to
    60 s, with jitter. When clients come faster than connections, more are kept, as
    many as a relay accepts.

    :param random_bytes: returns as many random bytes as asked for.
    :param preemptive_connections: how many idle ones to keep.
    """

    def __init__(
        self,
        *,
        random_bytes: Callable[[int], bytes],
        preemptive_connections: int = PREEMPTIVE_CONNECTIONS,
    ) -> None:
        if not 1 <= preemptive_connections <= MAX_IDLE:
            raise LocalProtocolError(
                f"a pool keeps from 1 to {MAX_IDLE} idle connections, "
                f"not {preemptive_connections}"
            )
        self.preemptive_connections = preemptive_connections
        self._random_bytes = random_bytes
        self._members: dict[int, _Member] = {}
        self._idle = 0
        self._last_member = 0
        self._failures = 0
        self._proven = False
        self._running = False
        self._surge_until = float("-inf")
        self._deadlines: Deadlines[int] = Deadlines()
        self._events: deque[Event] = deque()
        self._now = 0.0

    @property
    def idle(self) -> int:
        """How many connections wait at the relay."""
        return self._idle

    @property
    def opening(self) -> int:
        """How many connections are being opened."""
        return len(self._members) - self._idle

    @property
    def failures(self) -> int:
        """How many attempts have failed since the last that did not."""
        return self._failures

    def start(self, *, now: float) -> None:
        """Begin to keep connections."""
        self._now = now
        self._running = True
        self._refill()

    def stop(self, *, now: float) -> None:
        """Drop all idle connections; those that were taken live on."""
        self._now = now
        self._running = False
        self._deadlines.clear()
        self._events.extend(DropConnection(member) for member in self._members)
        self._members.clear()
        self._idle = 0

    def established(self, member: int, *, now: float) -> None:
        """The relay accepted a connection as an idle one.

        :raises LocalProtocolError: as the reports below, out of the order.
        """
        self._report(member, "established", now)

    def heard(self, member: int, *, now: float) -> None:
        """A KEEP_ALIVE came."""
        self._report(member, "heard", now)

    def taken(self, member: int, *, now: float) -> None:
        """An OPEN_TUNNEL came: the connection belongs to a client."""
        self._report(member, "taken", now)

    def lost(self, member: int, *, now: float) -> None:
        """A connection could not be opened, was refused or was lost."""
        self._report(member, "lost", now)

    def next_event(self) -> Event | None:
        """The next thing to do, or None."""
        return self._events.popleft() if self._events else None

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`, or None."""
        return self._deadlines.next()

    def handle_timer(self, *, now: float) -> None:
        """Act on what is due."""
        self._now = now
        for name in self._deadlines.pop_due(now):
            if name == _RETRY:
                self._refill()
            elif name in self._members:
                self._members[name].machine.timed_out()

    def _report(self, number: int, what: str, now: float) -> None:
        self._now = now
        member = self._members.get(number)
        if member is None:
            return  # given up or handed over; what becomes of it matters no more
        try:
            getattr(member.machine, what)()
        except NoTransition as e:
            raise LocalProtocolError(f"connection {number} is not to be {what}") from e

    # What members report

    def _add_member(self) -> None:
        self._last_member += 1
        number = self._last_member
        core = MemberCore(
            idle_began=lambda: self._idle_began(number),
            silence_restarted=lambda: self._expect(number, _SILENCE_LIMIT),
            was_taken=lambda: self._was_taken(number),
            failed=lambda: self._failed(number),
            died=lambda: self._died(number),
            drop=lambda: self._events.append(DropConnection(number)),
        )
        self._members[number] = _Member(make_pool_member(core))
        self._expect(number, _OPENING_LIMIT)
        self._events.append(OpenConnection(number))

    def _expect(self, number: int, limit: float) -> None:
        self._deadlines.set(number, self._now + limit)

    def _idle_began(self, number: int) -> None:
        self._members[number].idle_since = self._now
        self._idle += 1
        self._failures = 0
        self._proven = True
        self._deadlines.cancel(_RETRY)
        self._expect(number, _SILENCE_LIMIT)
        self._refill()

    def _was_taken(self, number: int) -> None:
        self._remove(number)
        if self._idle == 0:
            self._surge_until = self._now + _SURGE
        self._refill()

    def _died(self, number: int) -> None:
        since = self._members[number].idle_since
        self._remove(number)
        if since is not None and self._now - since < _SHORT_LIFE:
            # A relay that accepts and closes at once must not make us spin.
            self._back_off()
        else:
            self._refill()

    def _failed(self, number: int) -> None:
        self._remove(number)
        self._back_off()

    def _remove(self, number: int) -> None:
        member = self._members.pop(number)
        self._deadlines.cancel(number)
        if member.idle_since is not None:
            self._idle -= 1

    # How many to open

    def _back_off(self) -> None:
        self._proven = False
        if _RETRY in self._deadlines:
            return  # several attempts that fail together are one failure
        delay = min(_FIRST_RETRY * 2.0 ** min(self._failures, 10), _LAST_RETRY)
        self._failures += 1
        jitter = 0.5 + int.from_bytes(self._random_bytes(2), "big") / 0x1FFFE
        self._deadlines.set(_RETRY, self._now + delay * jitter)

    def _refill(self) -> None:
        if not self._running or _RETRY in self._deadlines:
            return
        surging = self._now < self._surge_until
        target = MAX_IDLE if surging else self.preemptive_connections
        missing = target - len(self._members)
        if not self._proven:
            # Until one has succeeded (and brought the ticket for the others), one.
            missing = min(missing, 1 - self.opening)
        for _ in range(missing):
            self._add_member()
