"""Named points in time, of which the earliest drives an object's timer."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

NameT = TypeVar("NameT", bound=Hashable)


class Deadlines(Generic[NameT]):
    """A few named deadlines in absolute seconds of the caller's clock."""

    def __init__(self) -> None:
        self._at: dict[NameT, float] = {}

    def set(self, name: NameT, at: float) -> None:
        """Set or move the deadline ``name`` to ``at``."""
        self._at[name] = at

    def cancel(self, name: NameT) -> None:
        """Forget ``name``; it need not be set."""
        self._at.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        self._at.clear()

    def next(self) -> float | None:
        """The earliest deadline, or None."""
        return min(self._at.values(), default=None)

    def pop_due(self, now: float) -> list[NameT]:
        """Remove what is due at ``now`` and return the names, earliest first."""
        due = sorted(
            (at, i, n) for i, (n, at) in enumerate(self._at.items()) if at <= now
        )
        for _, _, name in due:
            del self._at[name]
        return [name for _, _, name in due]

    def __contains__(self, name: NameT) -> bool:
        return name in self._at
