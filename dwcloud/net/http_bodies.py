"""Bodies of HTTP messages as they come and go, for requests and answers without end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import h11
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

__all__ = ["BodyReceiver", "BodyStream"]


class BodyReceiver(Protocol):
    """Gets the body that the far end sends."""

    def dataReceived(self, data: bytes) -> None:
        """A piece of the body came."""

    def bodyEnded(self) -> None:
        """The body ended in good order."""

    def carrierLost(self, reason: Failure) -> None:
        """The connection was lost; the last call."""


class BodyStream:
    """The two bodies of one exchange: ours to write, the far end's for a receiver.

    It has those methods of a transport that a carrier of a stream needs.

    :param http: the connection's state; our head is sent.
    :param transport: the connection.
    :param start: called with this; returns who receives the far end's body.
    :param late_head: our head, if it is sent only at the end of the body.
    """

    def __init__(
        self,
        http: h11.Connection,
        transport: Any,
        start: Callable[[BodyStream], BodyReceiver],
        late_head: h11.Response | None = None,
    ) -> None:
        self._http = http
        self._transport = transport
        self._late_head = late_head
        self._over = False
        self._receiver = start(self)

    # What comes

    def receive(self, data: bytes) -> None:
        """Bytes came on the connection; empty at its end."""
        if data and self._http.their_state is h11.DONE:
            # Nobody has anything to say behind his body, and h11 would keep it.
            self.abortConnection()
            return
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError:
            self.abortConnection()
            return
        self.read()

    def read(self) -> None:
        """Bring what has come to the receiver."""
        while not self._over:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                # Also an end that is none: the body was cut off.
                self.abortConnection()
                return
            if isinstance(event, h11.Data):
                self._receiver.dataReceived(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._over = True
                self._receiver.bodyEnded()
            else:
                return

    def lost(self, reason: Failure) -> None:
        """The connection was lost."""
        self._over = True
        self._receiver.carrierLost(reason)

    # What goes

    def write(self, data: bytes) -> None:
        """Send a piece of our body."""
        if data and self._http.our_state is h11.SEND_BODY:
            self._send(h11.Data(data=data))

    def loseConnection(self) -> None:
        """End our body where its length allows that, and close the connection."""
        if self._late_head is not None and self._http.our_state is h11.SEND_RESPONSE:
            self._send(self._late_head)
        if self._http.our_state is h11.SEND_BODY:
            try:
                self._send(h11.EndOfMessage())
            except h11.LocalProtocolError:
                # More was announced than there is; only the connection's end is left.
                self._over = True
        self._transport.loseConnection()

    def abortConnection(self) -> None:
        """Break the connection off."""
        self._over = True
        self._transport.abortConnection()

    def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._transport.write(data)

    # The rest of a transport

    def pauseProducing(self) -> None:
        """Receive nothing for now."""
        self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Receive again."""
        self._transport.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause the producer while too much waits to be sent."""
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """The producer has no more."""
        self._transport.unregisterProducer()

    def getPeer(self) -> IAddress:
        """The far end of the connection."""
        peer: IAddress = self._transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """The near end of the connection."""
        host: IAddress = self._transport.getHost()
        return host
