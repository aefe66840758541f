"""The start-up and shut-down triggers of a simulated reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

__all__ = ["SystemEvents", "Trigger"]

#: Phase, event type, callable and its arguments.
Trigger = tuple[str, str, Callable[..., Any], tuple[object, ...], dict[str, object]]

_PHASES = ("before", "during", "after")


class SystemEvents:
    """Calls triggers in three phases, as ``IReactorCore`` describes."""

    _log = Logger()

    def __init__(self) -> None:
        self._triggers: list[Trigger] = []

    def add(
        self,
        phase: str,
        event: str,
        function: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> Trigger:
        """Call ``function`` in ``phase`` of ``event``; the result identifies it.

        :raises KeyError: if there is no such phase.
        """
        if phase not in _PHASES:
            raise KeyError(f"{phase!r} is not one of {_PHASES}")
        trigger = (phase, event, function, args, kwargs)
        self._triggers.append(trigger)
        return trigger

    def remove(self, trigger: Trigger) -> None:
        """Take a trigger out.

        :raises ValueError: if it is not there.
        """
        self._triggers.remove(trigger)

    def fire(self, event: str) -> Deferred[None]:
        """Run all triggers of ``event``; the result fires when the last is done.

        "during" waits for the Deferreds that "before" returned.
        """
        results = [
            result
            for result in self._run("before", event)
            if isinstance(result, Deferred)
        ]

        def go_on(ignored: object) -> None:
            self._run("during", event)
            self._run("after", event)

        return DeferredList(results, consumeErrors=True).addCallback(go_on)

    def _run(self, phase: str, event: str) -> list[object]:
        results: list[object] = []
        while True:
            trigger = next((t for t in self._triggers if t[:2] == (phase, event)), None)
            if trigger is None:
                return results
            self._triggers.remove(trigger)
            _, _, function, args, kwargs = trigger
            try:
                results.append(function(*args, **kwargs))
            except Exception:
                self._log.failure("A {event} trigger failed", event=event)
