"""A stream in frames on its carriers: two bodies, or one WebSocket."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dwcloud.net.message_transport import MessageTransport
from dwcloud.protocol.tunnelling.framed_stream import FramedStream, Framing
from dwcloud.protocol.tunnelling.websocket import WebSocketFraming

__all__ = ["FramedConnection", "WebSocketEnd"]

_MOST_UNREAD = 256 * 1024
"""Bytes that a slow reader leaves before the carrier is read no more."""
_PARTING = 5.0
"""Seconds that a client waits for the service to close first."""


class FramedConnection:
    """One end of the stream, as a receiver of its carrier's bytes.

    :param framing: how it is written on its carriers.
    :param above: a transport that knows the addresses of both ends.
    :param closes_last: whether the far end is to close the carriers when the stream
        has ended: a proxy may throw away what is on its way when a client closes.
    :ivar transport: for the protocol inside.
    :ivar on_end: called when the carriers are let go.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        framing: Framing,
        above: Any,
        *,
        closes_last: bool = False,
    ) -> None:
        self._reactor = reactor
        self._core = FramedStream(framing, now=reactor.seconds())
        self.transport = MessageTransport(
            reactor, self._core, self._act, above.getHost(), above.getPeer()
        )
        self._framing = framing
        self._closes_last = closes_last
        self.on_end: Callable[[], None] | None = None
        self._reader: Any = None
        self._writer: Any = None
        self._reading_paused = False
        self._acting = False
        self._over = False
        self._timer: IDelayedCall | None = None

    @property
    def lost(self) -> str:
        """Why the stream is broken; empty while it is not."""
        return self._core.lost

    def read_from(self, carrier: Any) -> None:
        """Bytes come on this carrier, which tells them to us."""
        self._reader = carrier
        if self._over:
            carrier.abortConnection()

    def write_to(self, carrier: Any) -> None:
        """Bytes go out on this carrier."""
        self._writer = carrier
        if self._over:
            carrier.abortConnection()
            return
        carrier.registerProducer(self, True)
        self._arm()

    def pad(self) -> None:
        """Send something, so that a proxy that waits for it passes on what it has."""
        self._writer.write(self._framing.padding())

    def connect(self, protocol: IProtocol) -> None:
        """Give the stream to a protocol."""
        self.transport.connect(protocol)

    def break_off(self, reason: str) -> None:
        """Break the stream, for a reason of the carriers'."""
        self._core.receive_loss(reason)
        self._act()

    # What the carriers tell

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        self._core.receive_data(data, now=self._reactor.seconds())
        self._act()

    def bodyEnded(self) -> None:
        """No more bytes come."""
        self.break_off("the connection ended before the stream")
        self._end()

    def carrierLost(self, reason: Failure) -> None:
        """A connection was lost."""
        self.break_off(f"the connection was lost: {reason.getErrorMessage()}")
        self._end()

    def pauseProducing(self) -> None:
        """The carrier takes no more for now."""
        self._core.carrier_full = True

    def resumeProducing(self) -> None:
        """The carrier takes more."""
        self._core.carrier_full = False
        self._act()
        self._mind_time()

    def stopProducing(self) -> None:
        """The carrier is lost, which it tells by itself."""

    # The loop

    def _act(self) -> None:
        """Deliver, send, and end what has ended."""
        if self._acting:
            return
        if self._over:
            # Somebody may read slowly what came before the end.
            self.transport.deliver()
            return
        self._acting = True
        self.transport.deliver()
        if self._writer is not None and not self._core.carrier_full:
            data = self._core.data_to_send(now=self._reactor.seconds())
            if data:
                self._writer.write(data)
            # Whoever writes may have waited for room.
            self.transport.deliver()
        self._acting = False
        if self._core.lost:
            self._end(abort=True)
        elif self._core.closed and not self._core.sender.buffered:
            self._part()
        else:
            self._mind_reading()

    def _mind_reading(self) -> None:
        full = self._core.receiver.unread > _MOST_UNREAD
        if self._reader is not None and full is not self._reading_paused:
            self._reading_paused = full
            if full:
                self._core.stop_listening()
                self._reader.pauseProducing()
            else:
                self._core.listen(now=self._reactor.seconds())
                self._reader.resumeProducing()
                self._mind_time()

    def _part(self) -> None:
        """Both directions have ended: close, or wait for the far end to."""
        if not self._closes_last:
            self._end()
        elif self._timer is None or self._timer_at < math.inf:
            self._cancel_timer()
            self._timer_at = math.inf
            self._timer = self._reactor.callLater(_PARTING, self._end)

    def _end(self, abort: bool = False) -> None:
        """Let go of the carriers."""
        if self._over:
            return
        self._over = True
        self._cancel_timer()
        if self._writer is not None:
            self._writer.unregisterProducer()
        for carrier in {id(c): c for c in (self._writer, self._reader)}.values():
            if carrier is None:
                continue
            if abort:
                carrier.abortConnection()
            else:
                carrier.loseConnection()
        self.transport.deliver()
        if self.on_end is not None:
            self.on_end()

    # Time

    _timer_at = 0.0

    def _arm(self) -> None:
        self._cancel_timer()
        at = self._core.next_timer()
        if at < math.inf:
            self._timer_at = at
            delay = max(0.0, at - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._timed_out)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        self._core.handle_timer(now=self._reactor.seconds())
        self._act()
        self._mind_time()

    def _mind_time(self) -> None:
        """Look again in time, unless the stream has ended."""
        parting = self._timer is not None and self._timer_at == math.inf
        if not self._over and not parting and self._writer is not None:
            self._arm()


class WebSocketEnd(Protocol):
    """A WebSocket that carries a stream, from the frames on.

    :param protocol: gets the stream.
    :param client: whether this is the end that asked for it.
    """

    _connection: FramedConnection | None = None

    def __init__(
        self, reactor: IReactorTime, protocol: IProtocol, *, client: bool
    ) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._client = client

    def connectionMade(self) -> None:
        """Begin the stream."""
        connection = self._connection = FramedConnection(
            self._reactor,
            WebSocketFraming(client=self._client),
            self.transport,
            closes_last=self._client,
        )
        connection.read_from(self.transport)
        connection.write_to(self.transport)
        connection.connect(self._protocol)

    def dataReceived(self, data: bytes) -> None:
        """Frames came."""
        assert self._connection is not None
        self._connection.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection was lost."""
        assert self._connection is not None
        self._connection.carrierLost(reason)
