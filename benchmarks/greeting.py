"""A service that speaks first, and who waits for it."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

__all__ = ["Greeted", "Greeter"]


class Greeter(Protocol):
    """Says one byte when somebody comes."""

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(b"!")


class Greeted(Protocol):
    """Waits for that byte.

    :ivar heard: fires when it has come, and fails if it does not.
    """

    def __init__(self) -> None:
        self.heard: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """It has come."""
        if not self.heard.called:
            self.heard.callback(None)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """It does not come any more."""
        if not self.heard.called:
            self.heard.errback(reason)
