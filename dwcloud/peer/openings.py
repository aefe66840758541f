"""The paths to a server that are being opened: so many of each kind and no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from dwcloud.peer.status import PathKind

__all__ = ["Openings"]


class Openings:
    """Paths that have not come to a stream yet, the oldest first.

    When there are too many of a kind the oldest is closed: a stranger who opens paths
    and says nothing drives out his own, and clients get through.

    :param capacity: of each kind of path.
    :ivar evicted: how many were closed to make room.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._close: dict[PathKind, OrderedDict[object, Callable[[], None]]] = {
            kind: OrderedDict() for kind in PathKind
        }
        self.evicted = 0

    def __getitem__(self, kind: PathKind) -> int:
        return len(self._close[kind])

    def total(self) -> int:
        """How many there are of all kinds."""
        return sum(len(openings) for openings in self._close.values())

    def add(self, kind: PathKind, path: object, close: Callable[[], None]) -> None:
        """A path came in; ``close`` ends it."""
        openings = self._close[kind]
        while len(openings) >= self._capacity:
            _, close_oldest = openings.popitem(last=False)
            self.evicted += 1
            close_oldest()
        openings[path] = close

    def remove(self, kind: PathKind, path: object) -> None:
        """The path came to a stream or ended; it need not be known any more."""
        self._close[kind].pop(path, None)

    def close_all(self) -> None:
        """End all that are being opened."""
        for openings in self._close.values():
            while openings:
                _, close = openings.popitem(last=False)
                close()
