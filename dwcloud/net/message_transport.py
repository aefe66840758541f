"""A Twisted transport on one end of a tunnel, whatever carries its bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["MessageTransport", "TunnelCore"]

_HIGH_WATER = 256 * 1024
_LOW_WATER = 64 * 1024


class _Sender(Protocol):
    """The sending half of a core."""

    end_acknowledged: bool

    @property
    def buffered(self) -> int:
        """Bytes that are not on their way, or not known to have come."""

    def write(self, data: bytes) -> None:
        """Append to the stream."""

    def finish(self) -> None:
        """End the stream behind what was written."""


class _Receiver(Protocol):
    """The receiving half of a core."""

    ended: bool

    @property
    def unread(self) -> int:
        """Bytes to read."""

    def read(self) -> bytes:
        """Take what has come in order."""


class TunnelCore(Protocol):
    """One end of a tunnel's stream without input and output."""

    @property
    def sender(self) -> _Sender:
        """What goes out."""

    @property
    def receiver(self) -> _Receiver:
        """What came in."""

    @property
    def lost(self) -> str:
        """Why the tunnel is broken; empty while it is not."""

    @property
    def closed(self) -> bool:
        """Whether both directions have ended."""

    @property
    def linger(self) -> float:
        """Seconds that the far end has to end its direction after we closed."""

    def abort(self) -> None:
        """Break the tunnel off."""


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
        core: TunnelCore,
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
        self._lingering: IDelayedCall | None = None

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
            if core.closed or core.lost:
                self._stop_lingering()
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
            self._lingering = self._reactor.callLater(
                self._core.linger, self._break_off
            )
        self._tell_lost(reason)

    def _tell_lost(self, reason: Exception) -> None:
        # Later, as with any transport: the protocol may be in the midst of a call.
        if self.protocol is not None:
            self._reactor.callLater(0, self.protocol.connectionLost, Failure(reason))

    def _stop_lingering(self) -> None:
        lingering, self._lingering = self._lingering, None
        if lingering is not None and lingering.active():
            lingering.cancel()

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

    @property
    def lingering(self) -> bool:
        """Whether the tunnel lives on although the protocol was told of its end."""
        return self._lingering is not None and self._lingering.active()

    def break_off(self) -> None:
        """Break the tunnel off, also one that lingers."""
        self.abortConnection()
        self._break_off()

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
