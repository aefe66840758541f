"""Giving a connection that is open already to another protocol."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["SwitchingProtocol"]


def _replace(transport: Any, old: IProtocol, new: IProtocol) -> bool:
    """Make the transport deliver to ``new``; False if it does not let us."""
    places = (
        (transport, "protocol"),  # TCP
        (transport, "wrappedProtocol"),  # TLS from the start
        (getattr(transport, "protocol", None), "wrappedProtocol"),  # TLS later
    )
    for holder, attribute in places:
        if holder is not None and getattr(holder, attribute, None) is old:
            setattr(holder, attribute, new)
            return True
    return False


@implementer(IHalfCloseableProtocol)
class SwitchingProtocol(Protocol):
    """A protocol that speaks first and gives the connection to another one later.

    Subclasses override :meth:`bytesReceived`, :meth:`endOfInput` and
    :meth:`connectionEnded` instead of the methods of Twisted's Protocol.
    """

    _successor: IProtocol | None = None

    def switch_to(self, successor: IProtocol, leftover: bytes = b"") -> None:
        """Give the connection to ``successor``.

        :param leftover: bytes that arrived already and belong to it.
        """
        transport = cast(Any, self.transport)
        # Where the transport holds us itself we leave altogether: an idle connection
        # then costs one protocol object. A wrapper between keeps us as its go-between.
        if not _replace(transport, self, successor):
            self._successor = successor
        successor.makeConnection(transport)
        if leftover:
            successor.dataReceived(leftover)

    def bytesReceived(self, data: bytes) -> None:
        """Bytes arrived before the switch."""

    def endOfInput(self) -> None:
        """The far end sends no more, before the switch; closes by default."""
        cast(Any, self.transport).loseConnection()

    def connectionEnded(self, reason: Failure) -> None:
        """The connection was lost before the switch."""

    def dataReceived(self, data: bytes) -> None:
        """Pass to whom the connection belongs."""
        if self._successor is None:
            self.bytesReceived(data)
        else:
            self._successor.dataReceived(data)

    def readConnectionLost(self) -> None:
        """Pass to whom the connection belongs, if it cares."""
        if self._successor is None:
            self.endOfInput()
            return
        half_closeable: Any = IHalfCloseableProtocol(self._successor, None)
        if half_closeable is None:
            cast(Any, self.transport).loseConnection()
        else:
            half_closeable.readConnectionLost()

    def writeConnectionLost(self) -> None:
        """Pass to whom the connection belongs, if it cares."""
        half_closeable: Any = IHalfCloseableProtocol(self._successor, None)
        if half_closeable is not None:
            half_closeable.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Pass to whom the connection belongs."""
        if self._successor is None:
            self.connectionEnded(reason)
        else:
            self._successor.connectionLost(reason)
