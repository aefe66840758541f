"""The stream that an application uses, on whatever path carries it.

The application never holds the path itself: it gets a :class:`CloudStream`, which
speaks the frames of :mod:`dwcloud.protocol.opening` on the path's TLS connection and
behaves towards the application like a TCP transport, half-close included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProducer,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.channel_binding import tls_binding
from dwcloud.net.no_delay import send_at_once
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.opening.messages import (
    MAX_DATA_BODY,
    Data,
    Decoder,
    End,
    KeepAlive,
    Message,
    data_header,
    encode,
)

__all__ = ["KEEP_ALIVE_INTERVAL", "SILENCE_LIMIT", "CloudStream", "StreamOpening"]

KEEP_ALIVE_INTERVAL = 12.0
"""Seconds. A side that said nothing in one says at its end that it is still there, so
after 24 s at the latest: proxies cut what is silent for 50 s."""

SILENCE_LIMIT = 10
"""Intervals in which nothing came, after which the far end counts as gone."""


class StreamOpening(Protocol):
    """What a stream tells its owner until the application takes over."""

    def path_connected(self, stream: CloudStream) -> None:
        """The path is there, TLS not necessarily up yet."""

    def path_secured(self, stream: CloudStream) -> None:
        """TLS is up on the path, and the far end's certificate was accepted."""

    def message_received(self, stream: CloudStream, message: Message) -> None:
        """The far end said something that is not data."""

    def path_lost(self, stream: CloudStream, reason: Failure) -> None:
        """The path ended before an application was attached."""


@implementer(ITCPTransport, IConsumer, IPushProducer, IHandshakeListener)
class CloudStream(TwistedProtocol):
    """A byte stream to the far end: a protocol on the path, a transport on top.

    :ivar bytes_received: of the application.
    :ivar bytes_sent: of the application.
    :ivar disconnected: whether the path is gone.
    """

    _log = Logger()

    def __init__(self, opening: StreamOpening, clock: IReactorTime) -> None:
        self._opening: StreamOpening | None = opening
        self._clock = clock
        self._decoder = Decoder()
        self._application: IProtocol | None = None
        self._half_closeable: IHalfCloseableProtocol | None = None
        self._producer: IProducer | None = None
        self._end_sent = False
        self._end_received = False
        self._half_close_wanted = False
        self._closing = False
        self._fault: Failure | None = None
        self._keep_alive: IDelayedCall | None = None
        self._on_closed: Callable[[Failure], None] | None = None
        self._quiet = True
        self._paused = False
        self._silent_intervals = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.disconnected = False

    # Towards the path.

    @property
    def _path(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """Tell the owner that opening can begin."""
        assert self._opening is not None
        send_at_once(self.transport)
        self._opening.path_connected(self)

    def handshakeCompleted(self) -> None:
        """Tell the owner that TLS is up."""
        if self._opening is not None:
            self._opening.path_secured(self)

    def dataReceived(self, data: bytes) -> None:
        """Take frames apart; data goes to the application as it comes."""
        if self._fault is not None:
            return
        self._silent_intervals = 0
        try:
            messages = self._decoder.receive_data(data)
        except RemoteProtocolError as e:
            self.fail(Failure(ConnectionLost(f"the far end broke the protocol: {e}")))
            return
        for message in messages:
            self._message_received(message)

    def _message_received(self, message: Message) -> None:
        if self._fault is not None:
            return
        if self._application is not None:
            self._deliver(message)
        elif self._opening is not None and not isinstance(message, KeepAlive):
            # Data, too: nobody may send any before both sides have an application,
            # or a stranger could fill our memory.
            self._opening.message_received(self, message)

    def _deliver(self, message: Message) -> None:
        assert self._application is not None
        match message:
            case Data(data):
                self.bytes_received += len(data)
                if not self._closing and not self._end_received:
                    self._application.dataReceived(data)
            case End():
                self._end_arrived()
            case KeepAlive():
                pass
            case _:
                self.fail(
                    Failure(ConnectionLost("the far end opened the stream twice"))
                )

    def _end_arrived(self) -> None:
        if self._end_received:
            return
        self._end_received = True
        if self._closing:
            return
        if self._half_closeable is not None:
            self._half_closeable.readConnectionLost()
            self._close_if_both_ended()
        else:
            self.loseConnection()

    def _close_if_both_ended(self) -> None:
        if self._end_sent and self._end_received and not self._closing:
            self._closing = True
            self._path.loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Tell the application in TCP's words how the stream ended."""
        self.disconnected = True
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None
        opening, self._opening = self._opening, None
        if self._application is None:
            if opening is not None:
                opening.path_lost(self, self._fault or reason)
            return
        why = self._why_lost(reason)
        self._application.connectionLost(why)
        if self._on_closed is not None:
            self._on_closed(why)

    def _why_lost(self, reason: Failure) -> Failure:
        if self._fault is not None:
            return self._fault
        if self._end_received or (self._closing and self._end_sent):
            return Failure(ConnectionDone())
        if reason.check(ConnectionDone):
            # The path closed in good order, the stream on it did not.
            return Failure(ConnectionLost("the far end vanished within the stream"))
        return reason

    def fail(self, reason: Failure) -> None:
        """End the path at once, for ``reason``."""
        if self._fault is None and not self.disconnected:
            self._fault = reason
            self._path.abortConnection()

    # Towards the owner.

    @property
    def tls_binding(self) -> bytes:
        """What only the two ends of the path's TLS know; once that is up."""
        return tls_binding(self._path)

    def send(self, message: Message) -> None:
        """Send a message of the opening."""
        self._path.write(encode(message))

    def attach(
        self,
        application: IProtocol,
        on_closed: Callable[[Failure], None] | None = None,
    ) -> None:
        """Give the stream to an application; it is connected now.

        :param on_closed: told after the application how the stream ended.
        """
        self._opening = None
        self._application = application
        self._half_closeable = IHalfCloseableProtocol(application, None)
        self._on_closed = on_closed
        self._keep_alive = self._clock.callLater(
            KEEP_ALIVE_INTERVAL, self._interval_ended
        )
        application.makeConnection(self)

    def _interval_ended(self) -> None:
        self._keep_alive = None
        if self._quiet:
            # Even when this direction has ended: the far end wants to know whom it
            # is still sending to.
            self.send(KeepAlive())
        self._quiet = True
        # Who does not listen cannot complain of silence.
        self._silent_intervals += not self._paused
        if self._silent_intervals >= SILENCE_LIMIT:
            seconds = SILENCE_LIMIT * KEEP_ALIVE_INTERVAL
            self.fail(
                Failure(ConnectionLost(f"the far end was silent for {seconds:.0f} s"))
            )
            return
        self._keep_alive = self._clock.callLater(
            KEEP_ALIVE_INTERVAL, self._interval_ended
        )

    # Towards the application: ITCPTransport, IConsumer, IPushProducer.

    @property
    def disconnecting(self) -> bool:
        """Whether the stream is being closed; Twisted's line protocols ask."""
        return self._closing

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self._end_sent or not data:
            return
        self._quiet = False
        self.bytes_sent += len(data)
        for at in range(0, len(data), MAX_DATA_BODY):
            piece = data[at : at + MAX_DATA_BODY]
            self._path.write(data_header(len(piece)) + piece)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send all pieces in order."""
        self.write(b"".join(data))

    def _send_end(self) -> None:
        if not self._end_sent:
            self._end_sent = True
            self.send(End())

    def loseWriteConnection(self) -> None:
        """End the sending direction after all that was written."""
        if self._producer is not None:
            self._half_close_wanted = True
            return
        if self._end_sent:
            return
        self._send_end()
        if self._half_closeable is not None:
            self._half_closeable.writeConnectionLost()
        self._close_if_both_ended()

    def loseConnection(self) -> None:
        """Close after all that was written, and by a registered producer will be."""
        if self._closing:
            return
        self._closing = True
        if self._producer is None:
            self._finish()

    def _finish(self) -> None:
        self._send_end()
        # A paused path would never see the far end's agreement to close.
        self.resumeProducing()
        self._path.loseConnection()

    def abortConnection(self) -> None:
        """Close at once; what is not sent yet is lost."""
        self.fail(Failure(ConnectionAborted()))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """Let ``producer`` be paused while the path is full."""
        self._producer = producer
        self._path.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has written its last."""
        self._producer = None
        self._path.unregisterProducer()
        if self._closing:
            self._finish()
        elif self._half_close_wanted:
            self.loseWriteConnection()

    def pauseProducing(self) -> None:
        """Deliver no data until :meth:`resumeProducing`."""
        self._paused = True
        self._path.pauseProducing()

    def resumeProducing(self) -> None:
        """Deliver data again."""
        if self._paused:
            self._paused = False
            self._silent_intervals = 0
        self._path.resumeProducing()

    def stopProducing(self) -> None:
        """Deliver no more: close."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address | IPv6Address:
        """The far end of the path: a relay's address when it is relayed."""
        return cast(IPv4Address, self._path.getPeer())

    def getHost(self) -> IPv4Address | IPv6Address:
        """The near end of the path."""
        return cast(IPv4Address, self._path.getHost())

    def getTcpNoDelay(self) -> bool:
        """Whether small writes leave at once; they always do."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Accepted and without effect: small writes leave at once."""

    def getTcpKeepAlive(self) -> bool:
        """Whether quiet streams are kept alive."""
        return self._keep_alive is not None

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Accepted and without effect: both sides keep streams alive."""
