"""A Twisted transport on one end of a tunnel of finite messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.protocol.tunnelling.finite_messages import MessageClient, MessageServer

__all__ = ["MessageTransport"]

_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024
_LINGER = 10.0
"""Seconds that the far end has to end its direction after we closed."""


@implementer(ITransport, IConsumer, IPushProducer)
class MessageTransport:
    """What the protocol inside a tunnel sees.

    :param core: this end.
    :param wake: called after something was written, read or closed.
    :ivar protocol: to whom it belongs, None at first.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        core: MessageClient | MessageServer,
        wake: Callable[[], None],
        host: IAddress,
        peer: IAddress,
    ) -> None:
        self._reactor = reactor
        self._core = core
        self._wake = wake
        self._host = host
        self._peer = peer
        self.protocol: Any = None
        self.disconnecting = False
        self.disconnected = False
        self._paused = False
        self._read_ended = False
        self._finished = False
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False

    def connect(self, protocol: Any) -> None:
        """Give the stream to a protocol."""
        self.protocol = protocol
        protocol.makeConnection(self)
        self._wake()

    # What came

    def deliver(self) -> None:
        """Bring to the protocol what its end of the tunnel knows."""
        core = self._core
        if self.disconnected:
            core.receiver.read()
            return
        if self.protocol is None:
            return
        if not self._paused and core.receiver.unread:
            self.protocol.dataReceived(core.receiver.read())
        self._resume_producer()
        self._tell_end()

    def _tell_end(self) -> None:
        core = self._core
        if self.disconnected:
            return
        if core.lost:
            self._lose(ConnectionLost(f"the tunnel is broken: {core.lost}"))
            return
        if core.receiver.ended and not core.receiver.unread and not self._read_ended:
            self._read_ended = True
            half: Any = IHalfCloseableProtocol(self.protocol, None)
            if half is None:
                self.loseConnection()
            else:
                half.readConnectionLost()
        done = self.disconnecting and core.sender.end_acknowledged
        if not self.disconnected and (done or core.closed):
            self._lose(ConnectionDone())

    def _lose(self, reason: Exception) -> None:
        self.disconnected = True
        self._producer = None
        if not self._core.closed and not self._core.lost:
            self._reactor.callLater(_LINGER, self._break_off)
        self._tell_lost(reason)

    def _tell_lost(self, reason: Exception) -> None:
        # Later, as with any transport: the protocol may be in the midst of a call.
        if self.protocol is not None:
            self._reactor.callLater(0, self.protocol.connectionLost, Failure(reason))

    def _break_off(self) -> None:
        if not self._core.closed and not self._core.lost:
            self._core.abort()
            self._wake()

    # ITransport

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        if self._finished or self.disconnected or not data:
            return
        self._core.sender.write(data)
        full = self._streaming and self._core.sender.buffered > _HIGH_WATER
        if full and self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            self._producer.pauseProducing()
        self._wake()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Queue several pieces."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close when all is written."""
        self.disconnecting = True
        if self._producer is None:
            self._finish()

    def loseWriteConnection(self) -> None:
        """End our direction alone."""
        self._finish()

    def _finish(self) -> None:
        self._finished = True
        self._core.sender.finish()
        self._wake()

    def abortConnection(self) -> None:
        """Break the tunnel off."""
        if self.disconnected:
            return
        self.disconnected = True
        self._producer = None
        self._core.abort()
        self._wake()
        self._tell_lost(ConnectionAborted())

    def getPeer(self) -> IAddress:
        """The far end of the connection that opened the tunnel."""
        return self._peer

    def getHost(self) -> IAddress:
        """The near end of that connection."""
        return self._host

    # IPushProducer: the protocol reads slowly

    def pauseProducing(self) -> None:
        """Deliver nothing for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Deliver again."""
        self._paused = False
        self._reactor.callLater(0, self._wake)

    def stopProducing(self) -> None:
        """Deliver no more."""
        self.loseConnection()

    # IConsumer: somebody writes faster than the tunnel carries

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause the producer while too much is queued."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        if self.disconnected:
            producer.stopProducing()
            return
        self._producer, self._streaming = producer, streaming
        self._producer_paused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """The producer has no more."""
        self._producer = None
        if self.disconnecting:
            self._finish()

    def _resume_producer(self) -> None:
        if self._producer is None or self._core.sender.buffered > _LOW_WATER:
            return
        if self._producer_paused or not self._streaming:
            self._producer_paused = False
            self._producer.resumeProducing()
