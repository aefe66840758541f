"""Many things that each end the same time after they were last touched."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["ExpiryQueue"]

KeyT = TypeVar("KeyT", bound=Hashable)


class ExpiryQueue(Generic[KeyT]):
    """Keys in the order of their deadlines, all ``delay`` seconds after a touch.

    Since the delay is the same for all, the order of touching is that of expiry:
    nothing needs sorting, however many there are.
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self._deadlines: dict[KeyT, float] = {}

    def touch(self, key: KeyT, now: float) -> None:
        """Let ``key`` expire ``delay`` seconds from now."""
        self._deadlines.pop(key, None)
        self._deadlines[key] = now + self.delay

    def discard(self, key: KeyT) -> None:
        """Forget ``key``; it need not be there."""
        self._deadlines.pop(key, None)

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        return next(iter(self._deadlines.values()), None)

    def oldest(self) -> KeyT | None:
        """The key that expires next, or None."""
        return next(iter(self._deadlines), None)

    def pop_due(self, now: float) -> list[KeyT]:
        """Remove and return what has expired, the earliest first."""
        due = []
        for key, deadline in self._deadlines.items():
            if deadline > now:
                break
            due.append(key)
        for key in due:
            del self._deadlines[key]
        return due

    def __contains__(self, key: KeyT) -> bool:
        return key in self._deadlines

    def __len__(self) -> int:
        return len(self._deadlines)
