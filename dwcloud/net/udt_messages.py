"""Messages over UDT: reliable like a stream, with boundaries and time limits.

A port whose configuration says ``socket_type=SocketType.DATAGRAM`` carries messages.
Connecting and listening are as with streams; the protocols derive from
:class:`MessageProtocol`::

    class Greeter(MessageProtocol):
        def connectionMade(self):
            self.transport.sendMessage(b"hello", ttl=0.5)

        def messageReceived(self, data):
            print(data)

    port = SharedUDPPort(
        reactor, configuration=Configuration(socket_type=SocketType.DATAGRAM)
    )
    port.start()
    port.udt.connect(("192.0.2.1", 4000), Factory.forProtocol(Greeter))
"""

from __future__ import annotations

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import Protocol

from dwcloud.net.udt_transport import TransportPort, UDTTransport
from dwcloud.protocol.udt.message_connection import MessageConnection

__all__ = ["MessageProtocol", "UDTMessageTransport"]


class MessageProtocol(Protocol):
    """The base of protocols that exchange messages.

    :ivar transport: a :class:`UDTMessageTransport` while connected.
    """

    def messageReceived(self, data: bytes) -> None:
        """Take one whole message; called by the transport."""

    def dataReceived(self, data: bytes) -> None:
        """Take a message from a transport that knows no other name for it."""
        self.messageReceived(data)


class UDTMessageTransport(UDTTransport):
    """One UDT connection that carries messages.

    Closing, producers and limits are as with streams. ``write`` sends a message in
    order and without a time limit, ``writeSequence`` joins its pieces into one, so that
    producers work here, too.
    """

    def __init__(
        self, port: TransportPort, connection: MessageConnection, protocol: IProtocol
    ) -> None:
        super().__init__(port, connection, protocol)
        self._messages = connection

    @property
    def maximumMessageSize(self) -> int:
        """The most bytes of a message: what the far end's buffer holds."""
        return self._messages.maximum_message_size

    def sendMessage(
        self, data: bytes, ttl: float | None = None, in_order: bool = True
    ) -> None:
        """Send one message; without effect when the end has begun.

        :param data: at least one byte and at most :attr:`maximumMessageSize`.
        :param ttl: seconds after which it may be dropped instead of sent again; None
            for never.
        :param in_order: deliver it after all that was sent before it; otherwise it may
            overtake messages that were lost on the way.
        :raises twisted.internet.error.MessageLengthError: it is empty or too long.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError("Data must be bytes")
        if not self._writable:
            return
        size = memoryview(data).nbytes
        if not 0 < size <= self.maximumMessageSize:
            raise MessageLengthError(
                f"{size} bytes, not 1 to {self.maximumMessageSize}"
            )
        self._messages.send_message(
            bytes(data), ttl=ttl, in_order=in_order, now=self._port.seconds()
        )
        self._written()

    def write(self, data: bytes) -> None:
        """Send one message; nothing if it is empty."""
        if len(data):
            self.sendMessage(data)

    def _deliver(self) -> None:
        while self._may_deliver():
            message = self._messages.read_message()
            if message is None:
                return
            if not self.disconnecting and self.protocol is not None:
                deliver = getattr(
                    self.protocol, "messageReceived", self.protocol.dataReceived
                )
                deliver(message)
