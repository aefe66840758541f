"""How a client learns from a router's clock that the router lost its mappings."""

from __future__ import annotations

__all__ = ["EpochMonitor"]


class EpochMonitor:
    """Compares the seconds that a router counts since it lost state with our own."""

    def __init__(self) -> None:
        self._server: int | None = None
        self._client = 0.0

    def state_was_lost(self, epoch: int, *, now: float) -> bool:
        """Take the epoch of an answer; tell whether all mappings have to be renewed.

        By RFC 6887, section 8.5, which is the stricter of two rules: the one of RFC
        6886, section 3.6, ignores clocks that run too fast.
        """
        before, self._server = self._server, epoch
        elapsed, self._client = now - self._client, now
        if before is None:
            return False
        if epoch < before - 1:
            return True
        counted = epoch - before
        return elapsed + 2 < counted * 15 / 16 or counted + 2 < elapsed * 15 / 16
