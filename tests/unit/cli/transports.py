"""A transport for the ends of a pump."""

from __future__ import annotations

from twisted.internet.testing import StringTransport

__all__ = ["PumpTransport"]


class PumpTransport(StringTransport):
    """A transport in memory with half-close and abort.

    :ivar paused: what a test says about its input.
    """

    half_closed = False
    aborted = False
    paused = False

    def loseWriteConnection(self) -> None:
        """Keep."""
        self.half_closed = True

    def abortConnection(self) -> None:
        """Keep."""
        self.aborted = True
