"""STUN messages on a stream: one protocol for both ends of a control connection."""

from __future__ import annotations

from collections import deque
from typing import Protocol as TypingProtocol
from typing import cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    IDelayedCall,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.stun_requests import PendingRequests
from dwcloud.protocol.addresses import Address, unmapped
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import error_attribute
from dwcloud.protocol.stun.message import MessageClass, STUNMessage
from dwcloud.protocol.stun.sealing import Sealing, Unsealed
from dwcloud.protocol.stun.stream import MAX_STREAM_MESSAGE, StreamDecoder
from dwcloud.protocol.stun.transaction import STREAM_TIMING, Timing

__all__ = ["MAX_UNSENT", "STUNReceiver", "STUNStreamProtocol"]

MAX_UNSENT = 256 * 1024
"""Bytes kept for a peer that does not read, beyond what its transport buffers."""

MAX_PENDING_REQUESTS = 100
"""Requests without an answer on one connection, unless told otherwise."""

CLOSE_TIMEOUT = 10.0
"""Seconds for the peer to take what is unsent when the connection is closed."""


class STUNReceiver(TypingProtocol):
    """Gets what arrives on one connection."""

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """The connection is there; ``connection`` can send from now on."""

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """A request came: answer it with ``connection.sendMessage()``, now or later.

        A :exc:`RemoteProtocolError` raised here becomes the error answer.
        """

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """An indication came."""

    def connectionClosed(self, reason: Failure) -> None:
        """The connection is gone; all pending requests have failed with ``reason``."""


@implementer(IPushProducer)
class STUNStreamProtocol(Protocol):
    """Frames messages, matches answers to requests, and hands the rest over.

    Close it by its own :meth:`loseConnection` and :meth:`abortConnection`, not by the
    transport's: a transport waits for its producer before it closes.

    :ivar sealing: how messages are protected from now on; may be exchanged between
        any two messages.
    """

    transport: ITCPTransport
    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        receiver: STUNReceiver,
        *,
        max_pending: int = MAX_PENDING_REQUESTS,
        max_message: int = MAX_STREAM_MESSAGE,
        max_unsent: int = MAX_UNSENT,
    ) -> None:
        """Wait for a connection.

        :param max_pending: own requests that may be without an answer.
        :param max_message: bytes of the longest message in either direction.
        :param max_unsent: see :data:`MAX_UNSENT`.
        """
        self.sealing: Sealing = Unsealed()
        self._reactor = reactor
        self._receiver = receiver
        self._max_message = max_message
        self._max_unsent = max_unsent
        self._decoder = StreamDecoder(max_message=max_message)
        self._requests = PendingRequests(
            reactor, self._requestReady, capacity=max_pending
        )
        self._peer = Address("", 0)
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._paused = False
        self._open = False
        self._ended = False
        self._close_timer: IDelayedCall | None = None

    # Connection

    @property
    def peerAddress(self) -> Address:
        """The far end as the transport knows it; empty if that is no IP address."""
        return self._peer

    @property
    def isOpen(self) -> bool:
        """Whether messages can be sent and are received."""
        return self._open

    @property
    def unsentBytes(self) -> int:
        """Bytes that wait for the transport to take more."""
        return self._unsent_bytes

    def connectionMade(self) -> None:
        """Start (called by Twisted)."""
        peer = self.transport.getPeer()
        if isinstance(peer, IPv4Address | IPv6Address):
            self._peer = unmapped((peer.host, peer.port))
        self._open = True
        cast(IConsumer, self.transport).registerProducer(self, True)
        self._receiver.connectionOpened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Fail what is pending (called by Twisted)."""
        self._end()
        self._requests.stop(reason)
        self._receiver.connectionClosed(reason)

    def loseConnection(self) -> None:
        """Close as soon as the peer has taken what was sent; within 10 seconds."""
        if not self._open:
            return
        self._open = False
        self._close_timer = self._reactor.callLater(CLOSE_TIMEOUT, self._closeTimedOut)
        if not self._unsent:
            self._close()

    def abortConnection(self) -> None:
        """Close at once and drop what is unsent."""
        if self._end():
            self.transport.abortConnection()

    # Sending

    def request(
        self,
        message: STUNMessage,
        *,
        key: bytes | None = None,
        timeout: float | None = None,
    ) -> Deferred[STUNMessage]:
        """Send a request.

        :param key: protects this request, and must protect its answer; only while
            the connection is not sealed.
        :param timeout: seconds to wait for the answer, 39.5 by default.
        :return: fires with the success answer; fails with
            :exc:`~dwcloud.errors.RequestRefused`,
            :exc:`~dwcloud.errors.RequestTimeout`, or the reason why the connection
            was lost. Cancellable.
        """
        if not self._open:
            return fail(ConnectionDone("the control connection is closed"))
        try:
            encoded = self._encode(message, key)
        except LocalProtocolError:
            return fail(Failure())
        timing = STREAM_TIMING
        if timeout is not None:
            timing = Timing(tries=1, initial_interval=timeout, last_wait=timeout)
        return self._requests.request(
            message, self._peer, timing=timing, encoded=encoded, integrity_key=key
        )

    def sendMessage(self, message: STUNMessage, *, key: bytes | None = None) -> None:
        """Send an answer or an indication; nothing happens once it is closed.

        :param key: adds MESSAGE-INTEGRITY-SHA256, while the connection is not sealed.
        """
        if self._open:
            self._write(self._encode(message, key))

    def _encode(self, message: STUNMessage, key: bytes | None) -> bytes:
        if key is None:
            encoded = self.sealing.seal(message)
        elif isinstance(self.sealing, Unsealed):
            encoded = message.encode(integrity_key=key)
        else:
            raise LocalProtocolError("a sealed connection has its own keys")
        if len(encoded) > self._max_message:
            raise LocalProtocolError(f"a message of {len(encoded)} bytes is too long")
        return encoded

    def _requestReady(self, encoded: bytes, _: Address) -> None:
        self._write(encoded)

    def _write(self, encoded: bytes) -> None:
        if not self._paused:
            self.transport.write(encoded)
            return
        self._unsent.append(encoded)
        self._unsent_bytes += len(encoded)
        if self._unsent_bytes > self._max_unsent:
            self._log.warn(
                "{peer} does not read: {unsent} bytes are unsent; closing",
                peer=str(self._peer),
                unsent=self._unsent_bytes,
            )
            self.abortConnection()

    # IPushProducer

    def pauseProducing(self) -> None:
        """Keep what is sent (called by the transport when its buffer is full)."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on sending (called by the transport)."""
        self._paused = False
        while self._unsent and not self._paused:
            encoded = self._unsent.popleft()
            self._unsent_bytes -= len(encoded)
            self.transport.write(encoded)
        if self._close_timer is not None and not self._unsent:
            self._close()

    def stopProducing(self) -> None:
        """Nothing to do: ``connectionLost`` follows (called by the transport)."""

    # Receiving

    def dataReceived(self, data: bytes) -> None:
        """Take what arrived (called by Twisted)."""
        for raw in self._decoder.receive_data(data):
            # Each message may close the connection or change how the next is sealed.
            if not self._open:
                return
            try:
                message = self.sealing.open(raw)
            except RemoteProtocolError as error:
                self._refuse(error)
                return
            self._messageReceived(message, raw)
        if self._open and self._decoder.failure is not None:
            self._refuse(self._decoder.failure)

    def _messageReceived(self, message: STUNMessage, raw: bytes) -> None:
        if message.message_class is MessageClass.REQUEST:
            try:
                self._receiver.requestReceived(message, raw)
            except RemoteProtocolError as error:
                self._log.info(
                    "refused request 0x{method:03X} of {peer}: {error}",
                    method=message.method,
                    peer=str(self._peer),
                    error=error,
                )
                self.sendMessage(message.error((error_attribute(error.code or 400),)))
        elif message.message_class is MessageClass.INDICATION:
            try:
                self._receiver.indicationReceived(message, raw)
            except RemoteProtocolError as error:
                self._refuse(error)
        elif not self._requests.receive_message(message, self._peer):
            self._log.debug(
                "an answer of {peer} came too late or to no request",
                peer=str(self._peer),
            )

    def _refuse(self, error: RemoteProtocolError) -> None:
        self._log.warn(
            "{peer} broke the protocol: {error}; closing",
            peer=str(self._peer),
            error=error,
        )
        self.abortConnection()

    # Closing

    def _close(self) -> None:
        cast(IConsumer, self.transport).unregisterProducer()
        self.transport.loseConnection()

    def _closeTimedOut(self) -> None:
        self._close_timer = None
        self.abortConnection()

    def _end(self) -> bool:
        """Stop for good; tell whether that was still to do."""
        if self._ended:
            return False
        self._ended, self._open = True, False
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        return True
