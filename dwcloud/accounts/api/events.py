"""What happens to systems, told to whoever watches: server-sent events (HTML, 9.2)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.accounts.audit import Actor
from dwcloud.accounts.changes import AccessChange, RoleGranted, RoleRevoked
from dwcloud.accounts.roles import Role
from dwcloud.net.http_bodies import BodyReceiver, BodyStream

__all__ = ["EventBus", "EventStream", "WhatToWatch"]

_MAX_STREAMS = 1_000
_MAX_PER_ACCOUNT = 10
_KEEP_ALIVE = 20.0
_LONGEST = 600.0
"""Seconds after which the browser asks anew, and shows again who it is."""

_MAX_WAITING = 200

WhatToWatch = Callable[[], Deferred["Mapping[uuid.UUID, Role] | None"]]
"""Returns the systems that may be watched, None if nothing may any more."""

_PEOPLE = frozenset({"who", "account", "client"})
"""Members that tell who somebody is."""


@implementer(IPushProducer)
class EventStream:
    """The events of one account's systems, to one browser.

    :param actor: whose they are.
    :param look_up: asked at the start, and when what it says may have changed.
    """

    _log = Logger()

    def __init__(
        self, bus: EventBus, reactor: IReactorTime, actor: Actor, look_up: Any
    ) -> None:
        self.account = actor.account
        self.systems: Mapping[uuid.UUID, Role] = {}
        self._name = actor.name
        self._bus = bus
        self._reactor = reactor
        self._look_up: WhatToWatch = look_up
        self._body: BodyStream | None = None
        self._timer: IDelayedCall | None = None
        self._ends = reactor.seconds() + _LONGEST
        self._paused = False
        self._waiting = 0
        self._watching = False

    def start(self, body: BodyStream) -> BodyReceiver:
        """Begin to tell; the request has no body that would be received."""
        self._body = body
        body.registerProducer(self, True)
        self._bus.add(self)
        self._write(b"retry: 2000\n\n")
        self.look_again()
        return self

    def look_again(self) -> None:
        """Ask what may be watched."""
        self._wait()
        looking = self._look_up()
        looking.addCallbacks(self._found, self._failed)

    def _found(self, systems: Mapping[uuid.UUID, Role] | None) -> None:
        if self._body is None:
            return
        if systems is None:
            self.close()
            return
        fresh = set(systems) - set(self.systems)
        self.systems = systems
        if fresh or not self._watching:
            # What happened before this may have been missed.
            self._watching = True
            self.send("watching", {})
        for system in systems:
            self._bus.on_watched(system, system in fresh)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("what may be watched is not known", failure)
        self.close()

    def tell(self, system: uuid.UUID, event: str, data: Mapping[str, Any]) -> None:
        """Tell of an event of a system, if that may be known.

        A viewer reads no log, and hears no names of others here.
        """
        role = self.systems.get(system)
        if role is not None:
            seen = data if role > Role.VIEWER else _without_others(data, self._name)
            self.send(event, seen)

    def send(self, event: str, data: Mapping[str, Any]) -> None:
        """Tell of an event, unless the browser does not read."""
        text = json.dumps(data, separators=(",", ":"))
        self._write(f"event: {event}\ndata: {text}\n\n".encode())

    def _write(self, data: bytes) -> None:
        if self._body is None:
            return
        if self._paused:
            self._waiting += 1
            if self._waiting > _MAX_WAITING:
                # It asks anew, and gets the whole picture.
                body, self._body = self._body, None
                self._stop()
                body.abortConnection()
                return
        self._body.write(data)

    # Time

    def _wait(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._reactor.callLater(_KEEP_ALIVE, self._tick)

    def _tick(self) -> None:
        if self._reactor.seconds() >= self._ends:
            self.close()
            return
        # Also through proxies that end what is silent.
        self._write(b": still here\n\n")
        if self._body is not None:
            self.look_again()

    # The end

    def close(self) -> None:
        """End the stream."""
        body, self._body = self._body, None
        if body is not None:
            self._stop()
            body.unregisterProducer()
            body.loseConnection()

    def _stop(self) -> None:
        self._bus.remove(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    # BodyReceiver

    def dataReceived(self, data: bytes) -> None:
        """The request's body, which there is none of."""

    def bodyEnded(self) -> None:
        """The request is complete, as it was."""

    def carrierLost(self, reason: Failure) -> None:
        """The browser is gone."""
        self._body = None
        self._stop()

    # IPushProducer

    def pauseProducing(self) -> None:
        """The browser does not read as fast."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The browser has read."""
        self._paused = False
        self._waiting = 0

    def stopProducing(self) -> None:
        """The connection is being lost."""


class EventBus:
    """Brings events to those who may know of them.

    :param reactor: the clock.
    :ivar on_watched: called with each system that a stream tells of, when it begins to
        and at least every 20 s from then, and with whether it has just begun.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self.on_watched: Callable[[uuid.UUID, bool], None] = lambda system, fresh: None
        self._reactor = reactor
        self._streams: dict[EventStream, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, actor: Actor, look_up: WhatToWatch) -> EventStream:
        """Return a stream of the events that somebody may know of.

        Of too many the oldest ends.
        """
        mine = [s for s in self._streams if s.account == actor.account]
        if len(mine) >= _MAX_PER_ACCOUNT:
            mine[0].close()
        elif len(self._streams) >= _MAX_STREAMS:
            next(iter(self._streams)).close()
        return EventStream(self, self._reactor, actor, look_up)

    def add(self, stream: EventStream) -> None:
        """Tell a stream from now on."""
        self._streams[stream] = None

    def remove(self, stream: EventStream) -> None:
        """Tell a stream no more; it need not be there."""
        self._streams.pop(stream, None)

    def publish(self, system: uuid.UUID, event: str, data: Mapping[str, Any]) -> None:
        """Tell all who may see a system of an event.

        :param event: ``system``, ``server``, ``connection`` or ``activity``.
        """
        told = {"system": str(system), **data}
        for stream in list(self._streams):
            stream.tell(system, event, told)

    def access_changed(self, change: AccessChange) -> None:
        """Take in who may see what now."""
        self.publish(change.system, "system", {})
        if isinstance(change, RoleGranted | RoleRevoked):
            for stream in list(self._streams):
                if stream.account == change.account:
                    stream.send("system", {"system": str(change.system)})
                    stream.look_again()

    def close(self) -> None:
        """End all streams."""
        for stream in list(self._streams):
            stream.close()


def _without_others(value: Any, name: str) -> Any:
    """Return what a viewer may know: names of people other than himself left empty."""
    if isinstance(value, list | tuple):
        return [_without_others(item, name) for item in value]
    if not isinstance(value, Mapping):
        return value
    own = name in (value.get("who"), value.get("account"))
    return {
        key: "" if key in _PEOPLE and not own else _without_others(inner, name)
        for key, inner in value.items()
    }
