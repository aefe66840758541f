"""What servers carry, asked of them while somebody watches."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime

from dwcloud.protocol.mediation.activity import WATCH_LIFETIME, Activity
from dwcloud.protocol.names import PeerName

__all__ = ["LastOutcomes", "Watching"]

_ASK_EVERY = 15.0
"""Seconds between two questions; the answers come for a minute."""

_LEAST_INTERVAL = 0.2
"""Seconds between two reports of a server; what comes sooner is dropped."""

_MAX_OUTCOMES = 20_000

Publish = Callable[[uuid.UUID, str, Mapping[str, Any]], None]
"""Tells whoever watches a system of an event."""


class Watching:
    """Which systems are watched, and what their servers say.

    :param clock: tells the time.
    :param ask: makes the servers of a system tell what they carry, for a minute.
    :param publish: takes ``activity`` events.
    """

    def __init__(
        self,
        clock: IReactorTime,
        ask: Callable[[uuid.UUID], None],
        publish: Publish,
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._publish = publish
        self._asked: OrderedDict[uuid.UUID, float] = OrderedDict()
        self._reported: dict[PeerName, float] = {}

    def watched(self, system: uuid.UUID, fresh: bool) -> None:
        """Somebody watches a system.

        :param fresh: whether that one has just begun, and so knows nothing yet.
        """
        now = self._clock.seconds()
        self._forget(now)
        if fresh or now - self._asked.get(system, now - WATCH_LIFETIME) >= _ASK_EVERY:
            self._asked[system] = now
            self._asked.move_to_end(system)
            self._ask(system)

    def server_online(self, system: uuid.UUID) -> None:
        """A server that may be watched already has come."""
        self._forget(self._clock.seconds())
        if system in self._asked:
            self._ask(system)

    def server_offline(self, name: PeerName) -> None:
        """A server is gone, and what it carried with it."""
        self._reported.pop(name, None)

    def report(self, name: PeerName, activity: Activity) -> None:
        """A server tells what it carries."""
        now = self._clock.seconds()
        self._forget(now)
        before = self._reported.get(name, now - _LEAST_INTERVAL)
        if name.system not in self._asked or now - before < _LEAST_INTERVAL:
            return
        self._reported[name] = now
        self._publish(
            name.system,
            "activity",
            {
                "server": str(name.server),
                "count": activity.count,
                "streams": [
                    {
                        "number": stream.number,
                        "path": stream.path,
                        "session": str(stream.session) if stream.session else None,
                        "age": stream.age,
                        "to_client": stream.to_client,
                        "to_server": stream.to_server,
                        "account": stream.account,
                        "client": stream.client,
                    }
                    for stream in activity.streams
                ],
            },
        )

    def _forget(self, now: float) -> None:
        """Forget those that nobody has watched for a minute."""
        while self._asked:
            system, asked = next(iter(self._asked.items()))
            if now - asked < WATCH_LIFETIME:
                return
            del self._asked[system]


class LastOutcomes:
    """How the last introduction of each system ended, as far as remembered."""

    def __init__(self) -> None:
        self._outcomes: OrderedDict[uuid.UUID, Mapping[str, Any]] = OrderedDict()

    def add(self, system: uuid.UUID, outcome: Mapping[str, Any]) -> None:
        """Remember one."""
        self._outcomes[system] = outcome
        self._outcomes.move_to_end(system)
        if len(self._outcomes) > _MAX_OUTCOMES:
            self._outcomes.popitem(last=False)

    def forget(self, system: uuid.UUID) -> None:
        """Forget a system's."""
        self._outcomes.pop(system, None)

    def get(self, system: uuid.UUID) -> Mapping[str, Any] | None:
        """Return a system's."""
        return self._outcomes.get(system)
