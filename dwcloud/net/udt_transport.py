"""A UDT connection as Twisted sees it: transport, consumer and producer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IConsumer,
    ILoggingContext,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import UDTConnectionLost, UDTHandshakeTimeout, UDTRejected
from dwcloud.protocol.addresses import format_address
from dwcloud.protocol.udt.connection import Connection, State, Statistics
from dwcloud.protocol.udt.events import CloseReason

__all__ = ["TransportPort", "UDTTransport", "transport_address"]

_READ_CHUNK = 1 << 18
"""Bytes handed to a protocol at once; what is more comes in several calls."""


def transport_address(address: tuple[str, int]) -> IPv4Address | IPv6Address:
    """Return Twisted's form of a UDP address."""
    host, port = address
    if ":" in host:
        return IPv6Address("UDP", host, port)
    return IPv4Address("UDP", host, port)


class TransportPort(Protocol):
    """What a transport needs of the port that it belongs to."""

    def seconds(self) -> float:
        """Return the present time of the core's clock, in seconds."""

    def local_address(self) -> tuple[str, int]:
        """Return the IP address and UDP port bound."""

    def schedule(self) -> None:
        """Let the port send and look for events, soon but not within this call."""

    def schedule_read(self, transport: UDTTransport) -> None:
        """Let the port call :meth:`UDTTransport.reading_resumed` soon."""

    def wait_for_room(self, transport: UDTTransport) -> None:
        """Let the port call :meth:`UDTTransport.resume_producer` once it has sent
        and as long as the transport asks again."""

    def transport_lost(self, transport: UDTTransport) -> None:
        """Forget the transport."""


@implementer(ITransport, IConsumer, IPushProducer, ILoggingContext)
class UDTTransport:
    """One UDT connection.

    UDT has no half close: a shutdown ends both directions (docs/protocol/udt), so
    there is no ``loseWriteConnection``. No method calls the protocol before it
    returns, except those by which a producer learns that it has to pause.

    :ivar protocol: what the connection belongs to, None once it is lost.
    :ivar connected: whether the protocol has not yet been told of the end.
    :ivar disconnecting: whether ``loseConnection`` was called.
    """

    _log = Logger()

    def __init__(
        self, port: TransportPort, connection: Connection, protocol: IProtocol
    ) -> None:
        self.protocol: IProtocol | None = protocol
        self.connected = True
        self.disconnecting = False
        self._port = port
        self._connection = connection
        self._writable = True
        self._reading = True
        self._producer: Any = None
        self._producer_streams = False
        self._producer_paused = False
        self._buffer_size: int | None = None
        # Why the connection ended, as long as the protocol cannot be told.
        self._held_end: Failure | None = None
        self._abort_reason: Failure | None = None
        self._on_lost: Callable[[], object] | None = None
        if ILoggingContext.providedBy(protocol):
            self._log_prefix = protocol.logPrefix()
        else:
            self._log_prefix = type(protocol).__name__

    def __repr__(self) -> str:
        host, port = self._connection.peer_address
        return f"<UDTTransport to {host}:{port} of {self._log_prefix}>"

    @property
    def socket_id(self) -> int:
        """The UDT socket id of our end."""
        return self._connection.socket_id

    @property
    def peer_address(self) -> tuple[str, int]:
        """The UDP address of the far end."""
        return self._connection.peer_address

    # What Twisted's interfaces ask for

    @property
    def bufferSize(self) -> int:
        """Bytes written and not acknowledged above which a producer has to pause."""
        if self._buffer_size is None:
            return self._connection.send_buffer_limit
        return self._buffer_size

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self._buffer_size = size

    @property
    def statistics(self) -> Statistics:
        """The measurements of the connection."""
        return self._connection.statistics

    def logPrefix(self) -> str:
        """Return what stands before lines logged while the protocol is called."""
        return self._log_prefix

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address of our UDP port, a wildcard if bound to one."""
        return transport_address(self._port.local_address())

    def getPeer(self) -> IPv4Address | IPv6Address:
        """Return the UDP address of the far end."""
        return transport_address(self._connection.peer_address)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: UDT never holds back a short packet."""

    def getTcpNoDelay(self) -> bool:
        """Return True: UDT never holds back a short packet."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing: UDT always sends keep-alives."""

    def getTcpKeepAlive(self) -> bool:
        """Return True: UDT always sends keep-alives."""
        return True

    # Writing

    def write(self, data: bytes) -> None:
        """Queue bytes for the far end; without effect when the end has begun."""
        if type(data) is not bytes:
            if not isinstance(data, bytes | bytearray | memoryview):
                raise TypeError("Data must be bytes")
            data = bytes(data)
        if not data or not self._writable:
            return
        self._connection.write(data, now=self._port.seconds())
        self._written()

    def _written(self) -> None:
        self._port.schedule()
        if self._producer is not None:
            self._pause_producer_if_full()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Queue several pieces as if they were one."""
        pieces = list(data)
        for piece in pieces:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise TypeError("Data must be bytes")
        self.write(b"".join(pieces))

    def _pause_producer_if_full(self) -> None:
        if not self._producer_streams:
            self._port.wait_for_room(self)
        elif not self._producer_paused and self._is_full():
            self._producer_paused = True
            if self._buffer_size is not None:
                # The core tells only about its own limit.
                self._port.wait_for_room(self)
            self._producer.pauseProducing()

    def _is_full(self) -> bool:
        """Tell whether a producer has to wait.

        It also has when the far end has gone: what it wrote would be dropped, and
        one that writes until it is told to pause would never return.
        """
        connection = self._connection
        return (
            connection.state is not State.CONNECTED
            or connection.send_buffer_bytes > self.bufferSize
        )

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let ``producer`` write, and tell it when to pause and go on.

        :raises RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer!r}, because producer "
                f"{self._producer!r} was never unregistered."
            )
        if not self._writable:
            producer.stopProducing()
            return
        self._producer = producer
        self._producer_streams = streaming
        self._producer_paused = False
        if not streaming:
            if self._connection.send_buffer_bytes:
                self._port.wait_for_room(self)
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer; a close that waited for its end begins."""
        self._producer = None
        if self.disconnecting and self._writable:
            self._begin_close()

    def send_buffer_low(self) -> None:
        """Let a paused producer go on; called by the port."""
        if self._connection.state is not State.CONNECTED:
            return
        if self._producer is not None and self._producer_paused:
            self._producer_paused = False
            self._call(self._producer.resumeProducing)

    def resume_producer(self) -> bool:
        """Let a producer go on if there is room; called by the port.

        :return: whether the port has to ask again.
        """
        if self._producer is None or not self._writable:
            return False
        if self._producer_streams:
            if self._connection.send_buffer_bytes * 2 > self.bufferSize:
                return self._producer_paused
            self.send_buffer_low()
        elif self._is_full():
            return True
        else:
            self._call(self._producer.resumeProducing)
        return False

    # Closing

    def loseConnection(self) -> None:
        """Close when all that was written has been acknowledged.

        With a producer registered the close waits for its end, too. Nothing is
        delivered to the protocol any more.
        """
        if not self.connected or self.disconnecting:
            return
        self.disconnecting = True
        # The far end may wait for room in our buffer before it reads: what it still
        # sends is taken and dropped.
        self._port.schedule_read(self)
        if self._producer is None and self._writable:
            self._begin_close()

    def stopConsuming(self) -> None:
        """Do without the producer and close; see :meth:`loseConnection`."""
        self.unregisterProducer()
        self.loseConnection()

    def _begin_close(self) -> None:
        self._writable = False
        self._connection.close(now=self._port.seconds())
        self._port.schedule()

    def abortConnection(self) -> None:
        """Close at once; what was written and not yet delivered is dropped."""
        self._abort(Failure(ConnectionAborted()))

    def _abort(self, reason: Failure) -> None:
        if not self.connected or self._abort_reason is not None:
            return
        self._abort_reason = reason
        self.disconnecting = True
        self._writable = False
        if self._held_end is None:
            self._connection.abort(now=self._port.seconds())
            self._port.schedule()
        else:
            self._port.schedule_read(self)

    # Reading

    def pauseProducing(self) -> None:
        """Take nothing more from the receive buffer, so that the far end stops."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Go on after :meth:`pauseProducing`."""
        if self.connected and not self.disconnecting and not self._reading:
            self._reading = True
            self._port.schedule_read(self)

    def stopProducing(self) -> None:
        """Close; see :meth:`loseConnection`."""
        self.loseConnection()

    def stopReading(self) -> None:
        """Do as :meth:`pauseProducing`; Twisted's transports have both."""
        self.pauseProducing()

    def startReading(self) -> None:
        """Do as :meth:`resumeProducing`; Twisted's transports have both."""
        self.resumeProducing()

    def data_available(self) -> None:
        """Hand to the protocol what it is willing to take; called by the port."""
        if self._may_deliver():
            self._call(self._deliver)

    def _may_deliver(self) -> bool:
        wanted = self._reading or self.disconnecting
        return self.connected and self._held_end is None and wanted

    def _deliver(self) -> None:
        """Hand over what is there, as long as the protocol wants it."""
        read = self._connection.read
        while self._may_deliver():
            data = read(_READ_CHUNK)
            if not data:
                return
            if not self.disconnecting and self.protocol is not None:
                self.protocol.dataReceived(data)

    def reading_resumed(self) -> None:
        """Deliver what waited while reading was paused; called by the port."""
        self.data_available()
        if self._held_end is not None and (self._reading or self.disconnecting):
            self.lose(self._held_end)

    # The end

    def connection_closed(self, reason: CloseReason, detail: str) -> None:
        """Take note of the end of the UDT connection; called by the port."""
        end = self._end_for(reason, detail)
        self._writable = False
        if (
            reason is CloseReason.PEER_SHUTDOWN
            and not self._reading
            and not self.disconnecting
        ):
            # As with TCP, who does not read does not see the end either.
            self._held_end = end
        else:
            self.lose(end)

    def _end_for(self, reason: CloseReason, detail: str) -> Failure:
        if self._abort_reason is not None:
            return self._abort_reason
        if reason is CloseReason.LOCAL:
            return Failure(ConnectionDone())
        peer = format_address(self._connection.peer_address)
        if reason is CloseReason.TIMED_OUT:
            message = f"{peer} did not answer the UDT handshake in time"
            return Failure(UDTHandshakeTimeout(message))
        if reason is CloseReason.REJECTED:
            return Failure(UDTRejected(f"{peer} rejected the UDT handshake"))
        if reason is CloseReason.PEER_SHUTDOWN:
            undelivered = self._connection.send_buffer_bytes
            if not undelivered:
                return Failure(ConnectionDone())
            return Failure(
                UDTConnectionLost(
                    f"The far end closed the UDT connection before it confirmed "
                    f"{undelivered} bytes"
                )
            )
        return Failure(UDTConnectionLost(detail or f"UDT: {reason.value}"))

    def lose(self, reason: Failure) -> None:
        """Tell producer and protocol of the end; called by the port, or once."""
        if not self.connected:
            return
        self.connected = self._writable = False
        protocol, self.protocol = self.protocol, None
        producer, self._producer = self._producer, None
        self._port.transport_lost(self)
        if self._abort_reason is not None:
            reason = self._abort_reason
        if producer is not None:
            self._call(producer.stopProducing)
        if protocol is not None:
            self._call(protocol.connectionLost, reason)
        if self._on_lost is not None:
            self._on_lost()

    def start(self, on_lost: Callable[[], object] | None = None) -> None:
        """Give the protocol its transport; called by the port.

        :param on_lost: called after the protocol has learned of the end.
        """
        self._on_lost = on_lost
        if self.protocol is not None:
            self._call(self.protocol.makeConnection, self)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        """Run code of the application; what it raises ends the connection."""
        try:
            log.callWithContext({"system": self._log_prefix}, function, *args)
        except Exception:
            failure = Failure()
            self._log.failure("Closing {transport!r}", failure, transport=self)
            self._abort(failure)
