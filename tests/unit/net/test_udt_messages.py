"""Tests of messages over UDT, on simulated hosts."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, MessageLengthError
from twisted.internet.protocol import Factory, Protocol

from dwcloud.net.udt_messages import MessageProtocol, UDTMessageTransport
from dwcloud.protocol.udt.configuration import Configuration, SocketType
from tests.unit.net.udt_world import (
    SERVER,
    Recorder,
    RecordingFactory,
    UDTWorldTestCase,
)


class Messages(MessageProtocol, Recorder):
    """Keeps the messages that it is sent."""

    def __init__(self) -> None:
        Recorder.__init__(self)
        self.messages: list[bytes] = []

    def messageReceived(self, data: bytes) -> None:
        self.messages.append(data)


class MessageTests(UDTWorldTestCase):
    """A port that carries messages."""

    configuration = Configuration(socket_type=SocketType.DATAGRAM)

    def setUp(self) -> None:
        super().setUp()
        self.client_factory = RecordingFactory(Messages)
        self.server_factory = RecordingFactory(Messages)
        self.client, self.server = self.connect()
        self.transport: Any = self.client.transport

    def test_boundaries(self) -> None:
        """What is sent as one message arrives as one."""
        self.assertIsInstance(self.transport, UDTMessageTransport)
        sent = [b"one", b"2" * 100_000, b"three"]
        for message in sent:
            self.transport.sendMessage(message)
        self.server.transport.sendMessage(b"back", ttl=1.0, in_order=False)
        self.world.advance(2.0)
        self.assertEqual(self.server.messages, sent)
        self.assertEqual(self.client.messages, [b"back"])

    def test_writes(self) -> None:
        """A write is a message, pieces of a sequence become one."""
        self.transport.write(b"whole")
        self.transport.write(b"")
        self.transport.writeSequence([b"in", b" ", b"pieces"])
        self.world.advance(1.0)
        self.assertEqual(self.server.messages, [b"whole", b"in pieces"])

    def test_refused(self) -> None:
        """Too short, too long, or no bytes."""
        size = self.transport.maximumMessageSize
        for data in (b"", bytes(size + 1)):
            self.assertRaises(MessageLengthError, self.transport.sendMessage, data)
        self.assertRaises(TypeError, self.transport.sendMessage, "text")

    def test_pause(self) -> None:
        """Who pauses gets no message until it goes on."""
        self.server.transport.pauseProducing()
        self.transport.sendMessage(b"later")
        self.world.advance(1.0)
        self.assertEqual(self.server.messages, [])
        self.server.transport.resumeProducing()
        self.world.advance(1.0)
        self.assertEqual(self.server.messages, [b"later"])

    def test_close(self) -> None:
        """What was sent before the close arrives, nothing after it."""
        self.transport.sendMessage(b"last")
        self.transport.loseConnection()
        self.transport.sendMessage(b"too late")
        self.world.advance(2.0)
        self.assertEqual(self.server.messages, [b"last"])
        for protocol in (self.client, self.server):
            self.assertIsNotNone(protocol.reason.check(ConnectionDone))

    def test_not_delivered_after_close(self) -> None:
        """What comes after our close is dropped."""
        self.server.transport.sendMessage(b"crossing")
        self.transport.loseConnection()
        self.world.advance(2.0)
        self.assertEqual(self.client.messages, [])

    def test_plain_protocol(self) -> None:
        """A protocol of another kind gets each message as its data."""
        received: list[bytes] = []

        class Plain(Protocol):
            def dataReceived(self, data: bytes) -> None:
                received.append(data)

        self.server_port.udt._listener.factory = Factory.forProtocol(Plain)
        client: Any = self.world.run_until(
            self.client_port.udt.connect(SERVER, RecordingFactory(Messages))
        )
        client.transport.sendMessage(b"a")
        client.transport.sendMessage(b"b")
        self.world.advance(1.0)
        self.assertEqual(received, [b"a", b"b"])
        protocol = MessageProtocol()
        protocol.dataReceived(b"nobody minds")
