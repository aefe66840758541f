"""Further tries for a direct path to servers that are reached by a relay.

What stood in the way may pass: another network, a mapped port, a packet that was
lost. The stream that is relayed stays so; the next one goes the direct way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.protocol.names import PeerName

__all__ = ["WAITS", "DirectRetries"]

WAITS = (2.0, 15.0, 60.0, 300.0)
"""Seconds before each try, from the last relayed connection or the last try on."""

_MAX_SERVERS = 100
"""Servers that are tried for; of one more the first is given up."""


@attrs.define(eq=False)
class _Wait:
    """What is done for one server.

    :ivar tries: how many there were.
    """

    tries: int = 0
    timer: IDelayedCall | None = None
    trying: Deferred[None] | None = None


class DirectRetries:
    """Tries a few times for each server, ever more rarely.

    :param find: looks for a direct path to a server; tells whether it found one.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, find: Callable[[PeerName], Awaitable[bool]]
    ) -> None:
        self._clock = clock
        self._find = find
        self._waits: dict[PeerName, _Wait] = {}

    def __len__(self) -> int:
        return len(self._waits)

    def relayed(self, server: PeerName) -> None:
        """A connection to ``server`` had to take the relay."""
        if server in self._waits:
            return
        while len(self._waits) >= _MAX_SERVERS:
            self._give_up(next(iter(self._waits)))
        self._waits[server] = _Wait()
        self._schedule(server)

    def give_way(self, peer: PeerName) -> None:
        """Interrupt what is tried for a server: a connection looks for itself now."""
        for server, wait in list(self._waits.items()):
            if wait.trying is not None and peer.includes(server):
                trying, wait.trying = wait.trying, None
                wait.tries -= 1
                trying.cancel()
                self._schedule(server)

    def network_changed(self) -> None:
        """In another network everything is possible again: begin anew."""
        for server in list(self._waits):
            self._give_up(server)
            self.relayed(server)

    def stop(self) -> None:
        """Try no longer."""
        for server in list(self._waits):
            self._give_up(server)

    def _give_up(self, server: PeerName) -> None:
        wait = self._waits.pop(server)
        if wait.timer is not None:
            wait.timer.cancel()
        if wait.trying is not None:
            wait.trying.cancel()

    def _schedule(self, server: PeerName) -> None:
        wait = self._waits[server]
        wait.timer = self._clock.callLater(WAITS[wait.tries], self._try, server)

    def _try(self, server: PeerName) -> None:
        wait = self._waits[server]
        wait.timer = None
        wait.tries += 1
        wait.trying = trying = Deferred.fromCoroutine(self._look(server, wait))
        trying.addErrback(self._broken, server)

    async def _look(self, server: PeerName, wait: _Wait) -> None:
        found = await self._find(server)
        wait.trying = None
        if found or wait.tries >= len(WAITS):
            del self._waits[server]
            outcome = "found" if found else "not found"
            self._log.info(
                "a direct path to {server} was {outcome} after {tries} tries",
                server=str(server),
                outcome=outcome,
                tries=wait.tries,
            )
        else:
            self._schedule(server)

    def _broken(self, reason: Failure, server: PeerName) -> None:
        if not reason.check(CancelledError):
            self._waits.pop(server, None)
            self._log.failure(
                "while looking for a direct path to {server}",
                reason,
                server=str(server),
            )
