"""A line that shows how far a transfer is."""

from __future__ import annotations

from collections.abc import Callable

from dwcloud.cli.console import Console

__all__ = ["ProgressBar"]

_WIDTH = 30
_INTERVAL = 0.1
"""Seconds between two drawings at least."""
_ERASE = "\r\x1b[K"


class ProgressBar:
    """A bar on a terminal; silent where no person looks.

    :param clock: returns seconds.
    :param total: bytes of the whole transfer.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float],
        label: str,
        total: int,
    ) -> None:
        self._console = console
        self._clock = clock
        self._label = label
        self._total = total
        self._shown = console.interactive
        self._started = clock()
        self._drawn: float | None = None

    def update(self, done: int) -> None:
        """``done`` bytes have come so far."""
        now = self._clock()
        if not self._shown or (
            self._drawn is not None and now - self._drawn < _INTERVAL
        ):
            return
        self._drawn = now
        self._console.draw(_ERASE + self.render(done))

    def render(self, done: int) -> str:
        """The bar as it looks after ``done`` bytes."""
        share = min(done / self._total, 1.0) if self._total else 1.0
        filled = int(share * _WIDTH)
        elapsed = self._clock() - self._started
        rate = done / elapsed / 1e6 if elapsed > 0 else 0.0
        bar = "#" * filled + "." * (_WIDTH - filled)
        return f"{self._label:<6} [{bar}] {share:4.0%}  {rate:6.1f} MB/s"

    def finish(self) -> None:
        """Remove the bar."""
        if self._drawn is not None:
            self._console.draw(_ERASE)
            self._drawn = None
