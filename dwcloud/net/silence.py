"""Connections in the order of their last sign of life."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["SilenceTable"]

MemberT = TypeVar("MemberT", bound=Hashable)


class SilenceTable(Generic[MemberT]):
    """Gives up members that are silent for too long, with one timer for all.

    :param limit: seconds of silence; None lets members be silent while there is room.
    :param capacity: members at most; one more gives up the one silent longest.
    :param give_up: told the member, which is no longer in the table.
    :ivar timed_out: members given up for their silence, since the start.
    :ivar evicted: members given up to make room, since the start.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        limit: float | None,
        capacity: int,
        give_up: Callable[[MemberT], None],
    ) -> None:
        self.timed_out = 0
        self.evicted = 0
        self._reactor = reactor
        self._limit = limit
        self._capacity = capacity
        self._give_up = give_up
        self._heard: OrderedDict[MemberT, float] = OrderedDict()
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._heard)

    def __iter__(self) -> Iterator[MemberT]:
        return iter(list(self._heard))

    def __contains__(self, member: MemberT) -> bool:
        return member in self._heard

    def add(self, member: MemberT) -> None:
        """Add a member, which has just given a sign of life."""
        self._heard[member] = self._reactor.seconds()
        if self._timer is None and self._limit is not None:
            self._timer = self._reactor.callLater(self._limit, self._check)
        while len(self._heard) > self._capacity:
            oldest, _ = self._heard.popitem(last=False)
            self.evicted += 1
            self._give_up(oldest)

    def heard(self, member: MemberT) -> None:
        """Note a sign of life of a member; of others it is ignored."""
        if member in self._heard:
            self._heard[member] = self._reactor.seconds()
            self._heard.move_to_end(member)

    def remove(self, member: MemberT) -> None:
        """Remove a member; it need not be there."""
        self._heard.pop(member, None)

    def stop(self) -> list[MemberT]:
        """Stop watching; returns the members, of which none is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        members = list(self._heard)
        self._heard.clear()
        return members

    def _check(self) -> None:
        assert self._limit is not None
        self._timer = None
        now = self._reactor.seconds()
        while self._heard:
            member, heard_at = next(iter(self._heard.items()))
            due = heard_at + self._limit
            if due > now:
                self._timer = self._reactor.callLater(due - now, self._check)
                return
            del self._heard[member]
            self.timed_out += 1
            self._give_up(member)
