"""Simulated time: a heap of calls, run one after the other at their own moments."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["ScheduledCall", "Scheduler", "SimulationStalled"]

#: Calls at one and the same moment after which time is taken to stand still.
STALL_LIMIT = 1_000_000
#: Cancelled calls are only swept out of a heap at least this large.
SWEEP_FLOOR = 512


_Entry = tuple[
    float, int, "ScheduledCall | None", Callable[..., Any] | None, tuple[object, ...]
]
"""Time, number in the order of asking, and the call; without one what to call."""


class SimulationStalled(Exception):
    """Calls keep being scheduled for the present moment; time does not advance."""


@implementer(IDelayedCall)
class ScheduledCall:
    """A call to come; what ``callLater`` of a simulated reactor returns.

    :ivar owner: the reactor that asked for it; None when the network itself did.
    """

    __slots__ = (
        "_args",
        "_function",
        "_kwargs",
        "_scheduler",
        "_sequence",
        "_state",
        "owner",
        "time",
    )

    def __init__(
        self,
        scheduler: Scheduler,
        time: float,
        function: Callable[..., Any],
        args: tuple[object, ...],
        kwargs: dict[str, object] | None,
        owner: object,
    ) -> None:
        self._scheduler = scheduler
        self._function: Callable[..., Any] | None = function
        self._args = args
        self._kwargs = kwargs
        self._state = "pending"
        self._sequence = 0
        self.time = time
        self.owner = owner

    def getTime(self) -> float:
        """Return the moment of the call, in seconds of simulated time."""
        return self.time

    def active(self) -> bool:
        """Return whether the call is still to come."""
        return self._state == "pending"

    def _check_pending(self) -> None:
        if self._state == "cancelled":
            raise error.AlreadyCancelled()
        if self._state == "called":
            raise error.AlreadyCalled()

    def cancel(self) -> None:
        """Forget the call."""
        self._check_pending()
        self._finish("cancelled")
        self._scheduler._note_cancelled()

    def _finish(self, state: str) -> None:
        self._state = state
        self._function = None
        self._args = ()
        self._kwargs = None

    def reset(self, secondsFromNow: float) -> None:
        """Move the call to ``secondsFromNow`` from the present moment."""
        self._check_pending()
        self._scheduler._move(self, self._scheduler.now + secondsFromNow)

    def delay(self, secondsLater: float) -> None:
        """Move the call by ``secondsLater`` from its own moment."""
        self._check_pending()
        self._scheduler._move(self, self.time + secondsLater)

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", repr(self._function))
        return f"<ScheduledCall {self._state} at {self.time:.6f} of {name}>"


class Scheduler:
    """Runs calls in the order of their times; equal times in the order of asking.

    Time jumps from call to call, it does not flow in steps: an hour with nothing in
    it costs nothing.

    :ivar now: the present moment, seconds.
    """

    _log = Logger()

    def __init__(self, start: float = 0.0) -> None:
        self.now = start
        self._heap: list[_Entry] = []
        self._next_sequence = 0
        self._cancelled = 0
        self._calls_at_this_moment = 0

    def schedule(
        self,
        delay: float,
        function: Callable[..., Any],
        *args: object,
        owner: object = None,
        kwargs: dict[str, object] | None = None,
    ) -> ScheduledCall:
        """Run ``function(*args, **kwargs)`` after ``delay`` seconds.

        :raises ValueError: if the delay is negative or not a number.
        """
        if not delay >= 0:
            raise ValueError(f"cannot call {function!r} after {delay!r} seconds")
        time = self.now + delay
        call = ScheduledCall(self, time, function, args, kwargs, owner)
        self._next_sequence = call._sequence = sequence = self._next_sequence + 1
        heapq.heappush(self._heap, (time, sequence, call, None, ()))
        return call

    def post(self, delay: float, function: Callable[..., Any], *args: object) -> None:
        """Run ``function(*args)`` after ``delay`` seconds, whatever happens.

        What cannot be taken back costs half as much: most calls are the network's.
        """
        self._next_sequence = sequence = self._next_sequence + 1
        heapq.heappush(self._heap, (self.now + delay, sequence, None, function, args))

    def _push(self, call: ScheduledCall) -> None:
        self._next_sequence = sequence = self._next_sequence + 1
        call._sequence = sequence
        heapq.heappush(self._heap, (call.time, sequence, call, None, ()))

    def _move(self, call: ScheduledCall, time: float) -> None:
        # A call moved to later keeps its place in the heap and is put back when it
        # comes up: re-armed timeouts, the usual case, cost no heap operation.
        earlier = time < call.time
        call.time = max(time, self.now)
        if earlier:
            self._push(call)

    def _note_cancelled(self) -> None:
        self._cancelled += 1
        if self._cancelled > SWEEP_FLOOR and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if self._is_valid(entry)]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @staticmethod
    def _is_valid(entry: _Entry) -> bool:
        call = entry[2]
        return call is None or (call._state == "pending" and call._sequence == entry[1])

    def _settle(self) -> _Entry | None:
        """Bring the next call that is really due to the top and return its entry."""
        heap = self._heap
        while heap:
            entry = heap[0]
            call = entry[2]
            if call is None:
                return entry
            if call._state != "pending" or call._sequence != entry[1]:
                heapq.heappop(heap)
                if call._state == "cancelled" and self._cancelled:
                    self._cancelled -= 1
            elif call.time > entry[0]:
                heapq.heappop(heap)
                self._push(call)
            else:
                return entry
        return None

    def next_time(self) -> float | None:
        """Return the moment of the next call; None when there is none."""
        entry = self._settle()
        return None if entry is None else entry[0]

    def run_next(self, not_after: float) -> bool:
        """Run the next call if it is due by ``not_after``; return whether one was.

        What a call raises is logged, as a reactor does, and the next one goes on.

        :raises SimulationStalled: if calls follow calls without time going on.
        """
        entry = self._settle()
        if entry is None or entry[0] > not_after:
            return False
        heapq.heappop(self._heap)
        time, _, call, function, args = entry
        if time > self.now:
            self.now = time
            self._calls_at_this_moment = 0
        self._calls_at_this_moment += 1
        if self._calls_at_this_moment > STALL_LIMIT:
            raise SimulationStalled(
                f"{STALL_LIMIT} calls at {self.now} s and time stands still; "
                f"the next is {call or function!r}"
            )
        kwargs = None
        if call is not None:
            function, args, kwargs = call._function, call._args, call._kwargs
            call._finish("called")
        assert function is not None
        try:
            if kwargs:
                function(*args, **kwargs)
            else:
                function(*args)
        except Exception:
            self._log.failure("A simulated call failed", function=function)
        return True

    def run_for(self, seconds: float) -> None:
        """Run all calls of the next ``seconds`` seconds and end at that moment."""
        end = self.now + seconds
        while self.run_next(end):
            pass
        self.now = max(self.now, end)

    def pending(self, owner: object) -> list[ScheduledCall]:
        """Return the calls to come that ``owner`` asked for, soonest first."""
        calls = [
            call
            for entry in self._heap
            if (call := entry[2]) is not None
            and call.owner is owner
            and self._is_valid(entry)
        ]
        return sorted(calls, key=ScheduledCall.getTime)

    def cancel_all(self, owner: object) -> None:
        """Cancel every call that ``owner`` asked for."""
        for call in self.pending(owner):
            call.cancel()
