"""STUN messages on streams."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.errors import RequestRefused, RequestTimeout
from dwcloud.net.stun_tcp import CLOSE_TIMEOUT, STUNStreamProtocol
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.attributes import (
    AttributeType,
    decode_error_code,
    error_attribute,
)
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from dwcloud.protocol.stun.sealing import SequencedSealing
from tests.unit.protocol.stun.strategies import messages

REQUEST = binding_request(b"transaction1")
OTHER_REQUEST = binding_request(b"transaction2")
INDICATION = STUNMessage(0x0C3, MessageClass.INDICATION, b"transaction3")
SEQUENCE = 0x4D0C


class Recorder:
    """A receiver that notes what comes, and acts as it is told."""

    def __init__(self) -> None:
        self.connection: STUNStreamProtocol | None = None
        self.received: list[STUNMessage] = []
        self.raw: list[bytes] = []
        self.reasons: list[Failure] = []
        self.on_request: Callable[[STUNMessage], object] = lambda message: None

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Keep the connection."""
        self.connection = connection

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Note a request and act."""
        self.received.append(message)
        self.raw.append(raw)
        self.on_request(message)

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Note an indication; one with the attribute 0x7001 is refused."""
        self.received.append(message)
        self.raw.append(raw)
        if message.get(0x7001) is not None:
            raise RemoteProtocolError("an unwanted indication", 400)

    def connectionClosed(self, reason: Failure) -> None:
        """Note the end."""
        self.reasons.append(reason)


class OneEnd(SynchronousTestCase):
    """One protocol on a transport that keeps what is written."""

    def setUp(self) -> None:
        """Connect."""
        self.clock = Clock()
        self.connect()

    def connect(self, **options: int) -> None:
        """Make a connected protocol."""
        self.receiver = Recorder()
        self.protocol = STUNStreamProtocol(self.clock, self.receiver, **options)
        self.transport = StringTransport(
            peerAddress=IPv4Address("TCP", "192.0.2.1", 3345)
        )
        self.protocol.makeConnection(self.transport)

    def written(self) -> bytes:
        """Take what was written."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def receive(self, *sent: STUNMessage) -> None:
        """Let messages arrive in one piece."""
        self.protocol.dataReceived(b"".join(message.encode() for message in sent))

    def lose(self, error: Exception) -> None:
        """Let the connection end."""
        self.protocol.connectionLost(Failure(error))


class ConnectionTests(OneEnd):
    """Opening and closing."""

    def test_interface(self) -> None:
        """The protocol is a push producer for its transport."""
        verifyObject(IPushProducer, self.protocol)
        self.assertIs(self.transport.producer, self.protocol)
        self.assertTrue(self.transport.streaming)

    def test_opened(self) -> None:
        """The receiver is told, and the peer's address is known."""
        self.assertIs(self.receiver.connection, self.protocol)
        self.assertEqual(self.protocol.peerAddress, ("192.0.2.1", 3345))
        self.assertTrue(self.protocol.isOpen)

    def test_other_addresses(self) -> None:
        """A transport without an IP address will do."""
        protocol = STUNStreamProtocol(self.clock, Recorder())
        protocol.makeConnection(StringTransport(peerAddress=UNIXAddress(b"/x")))
        self.assertEqual(protocol.peerAddress, ("", 0))

    def test_lost(self) -> None:
        """The end fails what is pending, with its reason, and is told once."""
        pending = [self.protocol.request(r) for r in (REQUEST, OTHER_REQUEST)]
        self.lose(ConnectionLost("gone"))
        for deferred in pending:
            self.failureResultOf(deferred, ConnectionLost)
        self.assertEqual(len(self.receiver.reasons), 1)
        self.assertFalse(self.protocol.isOpen)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        late = self.protocol.request(REQUEST)
        self.failureResultOf(late, ConnectionDone)
        self.written()
        self.protocol.sendMessage(INDICATION)
        self.protocol.loseConnection()
        self.assertEqual(self.written(), b"")

    def test_lose_connection(self) -> None:
        """Closing lets the transport finish: it has no producer any more."""
        pending = self.protocol.request(REQUEST)
        self.protocol.loseConnection()
        self.protocol.loseConnection()
        self.assertIsNone(self.transport.producer)
        self.assertTrue(self.transport.disconnecting)
        self.receive(INDICATION)
        self.assertEqual(self.receiver.received, [])
        self.lose(ConnectionDone())
        self.failureResultOf(pending, ConnectionDone)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lose_connection_with_unsent(self) -> None:
        """What waits for the peer is sent before the connection closes."""
        self.protocol.pauseProducing()
        self.protocol.sendMessage(INDICATION)
        self.protocol.loseConnection()
        self.assertFalse(self.transport.disconnecting)
        self.protocol.resumeProducing()
        self.assertEqual(self.written(), INDICATION.encode())
        self.assertTrue(self.transport.disconnecting)

    def test_lose_connection_to_deaf_peer(self) -> None:
        """A peer that takes nothing does not hold the connection open."""
        self.protocol.pauseProducing()
        self.protocol.sendMessage(INDICATION)
        self.protocol.loseConnection()
        self.clock.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.transport.disconnected)
        self.lose(ConnectionDone())

    def test_abort(self) -> None:
        """Aborting is immediate; nothing is received or sent any more."""
        self.protocol.pauseProducing()
        self.protocol.sendMessage(INDICATION)
        self.protocol.abortConnection()
        self.assertTrue(self.transport.disconnected)
        self.protocol.resumeProducing()
        self.protocol.stopProducing()
        self.assertEqual(self.written(), b"")
        self.assertEqual(self.protocol.unsentBytes, 0)


class RequestTests(OneEnd):
    """Own requests."""

    def test_success(self) -> None:
        """Answers are matched in any order."""
        first, second = (self.protocol.request(r) for r in (REQUEST, OTHER_REQUEST))
        self.assertEqual(self.written(), REQUEST.encode() + OTHER_REQUEST.encode())
        self.receive(OTHER_REQUEST.success(), REQUEST.success())
        self.assertEqual(self.successResultOf(first), REQUEST.success())
        self.assertEqual(self.successResultOf(second), OTHER_REQUEST.success())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refusal(self) -> None:
        """An error answer is an exception."""
        deferred = self.protocol.request(REQUEST)
        self.receive(REQUEST.error([error_attribute(403)]))
        error = self.failureResultOf(deferred, RequestRefused).value
        self.assertEqual(error.code, 403)

    def test_other_method(self) -> None:
        """An answer of another method is not the answer, nor a reason to close."""
        deferred = self.protocol.request(REQUEST)
        self.receive(STUNMessage(2, MessageClass.SUCCESS, REQUEST.transaction_id))
        self.assertNoResult(deferred)
        self.receive(REQUEST.success())
        self.successResultOf(deferred)

    def test_timeouts(self) -> None:
        """39.5 s unless told otherwise, without repetitions."""
        default = self.protocol.request(REQUEST)
        short = self.protocol.request(OTHER_REQUEST, timeout=2.0)
        self.written()
        self.clock.advance(2.0)
        error = self.failureResultOf(short, RequestTimeout).value
        self.assertEqual(str(error), "no answer from 192.0.2.1:3345 within 2 seconds")
        self.clock.advance(37.4)
        self.assertNoResult(default)
        self.clock.advance(0.1)
        self.failureResultOf(default, RequestTimeout)
        self.assertEqual(self.written(), b"")
        # What comes now is too late, and harmless.
        self.receive(REQUEST.success())
        self.assertTrue(self.protocol.isOpen)

    def test_cancel(self) -> None:
        """A request can be cancelled."""
        deferred = self.protocol.request(REQUEST)
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_key(self) -> None:
        """A key protects the request and must protect the answer."""
        deferred = self.protocol.request(REQUEST, key=b"key")
        self.assertTrue(STUNMessage.decode(self.written()).verify_integrity(b"key"))
        self.receive(REQUEST.success())
        self.assertNoResult(deferred)
        self.protocol.dataReceived(REQUEST.success().encode(integrity_key=b"key"))
        self.successResultOf(deferred)

    def test_too_many(self) -> None:
        """The number of pending requests is bounded."""
        self.connect(max_pending=1)
        first = self.protocol.request(REQUEST)
        second = self.protocol.request(OTHER_REQUEST)
        self.failureResultOf(second, LocalProtocolError)
        self.receive(REQUEST.success())
        self.successResultOf(first)

    def test_too_long(self) -> None:
        """A message that the peer would refuse is not sent."""
        self.connect(max_message=20)
        long = INDICATION.with_attributes(RawAttribute(0x8022, b"long"))
        self.assertRaises(LocalProtocolError, self.protocol.sendMessage, long)
        request = REQUEST.with_attributes(RawAttribute(0x8022, b"long"))
        self.failureResultOf(self.protocol.request(request), LocalProtocolError)
        self.assertEqual(self.written(), b"")


class ReceivingTests(OneEnd):
    """What the peer sends."""

    def test_requests_and_indications(self) -> None:
        """Both go to the receiver, with their bytes; answers go back by it."""
        self.receiver.on_request = lambda message: self.protocol.sendMessage(
            message.success()
        )
        self.receive(REQUEST, INDICATION)
        self.assertEqual(self.receiver.received, [REQUEST, INDICATION])
        self.assertEqual(self.receiver.raw, [REQUEST.encode(), INDICATION.encode()])
        self.assertEqual(self.written(), REQUEST.success().encode())

    def test_keyed_answer(self) -> None:
        """An answer can be protected by a key of its own."""
        self.protocol.sendMessage(REQUEST.success(), key=b"key")
        self.assertTrue(STUNMessage.decode(self.written()).verify_integrity(b"key"))

    def test_refused_request(self) -> None:
        """A receiver's RemoteProtocolError becomes the answer."""

        def refuse(message: STUNMessage) -> None:
            raise RemoteProtocolError("nonsense", 404)

        self.receiver.on_request = refuse
        self.receive(REQUEST)
        answer = STUNMessage.decode(self.written())
        self.assertEqual(answer.transaction_id, REQUEST.transaction_id)
        value = answer.require(AttributeType.ERROR_CODE)
        self.assertEqual(decode_error_code(value).code, 404)
        self.assertTrue(self.protocol.isOpen)

    def assertRefused(self, act: Callable[[], object]) -> None:
        """Check that ``act`` makes the protocol abort, with one line in the log."""
        with capturedLogs() as events:
            act()
        self.assertTrue(self.transport.disconnected)
        self.assertFalse(self.protocol.isOpen)
        warnings = [e for e in events if e["log_level"] is LogLevel.warn]
        self.assertEqual([e["peer"] for e in warnings], ["192.0.2.1:3345"])

    def test_refused_indication(self) -> None:
        """An indication has no answer: a bad one ends the connection."""
        bad = INDICATION.with_attributes(RawAttribute(0x7001))
        self.assertRefused(lambda: self.receive(bad))

    def test_garbage(self) -> None:
        """Another protocol is cut off."""
        self.assertRefused(lambda: self.protocol.dataReceived(b"GET / HTTP/1.1\r\n"))

    def test_malformed_message(self) -> None:
        """So is a message that is one only from outside."""
        raw = bytes.fromhex("000100042112a442") + bytes(12) + b"\x80\x22\0\1"
        self.assertRefused(lambda: self.protocol.dataReceived(raw))

    def test_close_between_messages(self) -> None:
        """A receiver that closes the connection gets nothing more."""
        self.receiver.on_request = lambda message: self.protocol.abortConnection()
        self.receive(REQUEST, INDICATION, OTHER_REQUEST)
        self.assertEqual(self.receiver.received, [REQUEST])

    @given(st.lists(st.binary(max_size=50) | messages.map(lambda m: m.encode())))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Any stream ends in an open or an aborted connection, without exception."""
        self.connect()
        for chunk in chunks:
            self.protocol.dataReceived(chunk)
        self.assertNotEqual(self.protocol.isOpen, self.transport.disconnected)


class BackPressureTests(OneEnd):
    """A peer that does not read."""

    def test_waits(self) -> None:
        """While the transport is full messages wait, in order."""
        self.protocol.pauseProducing()
        deferred = self.protocol.request(REQUEST)
        self.protocol.sendMessage(INDICATION)
        self.assertEqual(self.written(), b"")
        self.assertEqual(self.protocol.unsentBytes, 40)
        self.protocol.resumeProducing()
        self.assertEqual(self.written(), REQUEST.encode() + INDICATION.encode())
        self.assertEqual(self.protocol.unsentBytes, 0)
        self.receive(REQUEST.success())
        self.successResultOf(deferred)

    def test_pauses_again(self) -> None:
        """The transport may be full again after the first message."""
        self.protocol.pauseProducing()
        for _ in range(3):
            self.protocol.sendMessage(INDICATION)
        write = self.transport.write

        def write_and_pause(data: bytes) -> None:
            write(data)
            self.protocol.pauseProducing()

        self.transport.write = write_and_pause
        self.protocol.resumeProducing()
        self.assertEqual(self.written(), INDICATION.encode())
        self.assertEqual(self.protocol.unsentBytes, 40)

    def test_bounded(self) -> None:
        """Who lets more than the limit pile up is cut off, and it is logged."""
        self.connect(max_unsent=100)
        self.protocol.pauseProducing()
        with capturedLogs() as events:
            for _ in range(5):
                self.protocol.sendMessage(INDICATION)
            self.assertFalse(self.transport.disconnected)
            self.protocol.sendMessage(INDICATION)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.protocol.unsentBytes, 0)
        (event,) = events
        self.assertEqual(event["unsent"], 120)

    def test_bounded_by_answers(self) -> None:
        """Also who asks and asks and never takes an answer."""
        self.connect(max_unsent=100)
        self.receiver.on_request = lambda message: self.protocol.sendMessage(
            message.success()
        )
        self.protocol.pauseProducing()
        self.receive(*[REQUEST] * 50)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(len(self.receiver.received), 6)


class BothEndsTests(SynchronousTestCase):
    """Two protocols, connected."""

    def setUp(self) -> None:
        """Connect both."""
        clock = Clock()
        self.near_receiver, self.far_receiver = Recorder(), Recorder()
        self.near = STUNStreamProtocol(clock, self.near_receiver)
        self.far = STUNStreamProtocol(clock, self.far_receiver)
        self.pump = iosim.connect(
            self.far,
            iosim.makeFakeServer(self.far),
            self.near,
            iosim.makeFakeClient(self.near),
        )

    def test_both_ask(self) -> None:
        """Each end asks the other, on the same connection, with the same id."""
        for end, receiver in (
            (self.near, self.near_receiver),
            (self.far, self.far_receiver),
        ):
            receiver.on_request = lambda message, end=end: end.sendMessage(
                message.success()
            )
        asked = [self.near.request(REQUEST), self.far.request(REQUEST)]
        self.pump.flush()
        for deferred in asked:
            self.assertEqual(self.successResultOf(deferred), REQUEST.success())

    def test_sealing(self) -> None:
        """Both ends change over between two messages, and go on protected."""
        near = SequencedSealing(b"there", b"back", SEQUENCE)
        far = SequencedSealing(b"back", b"there", SEQUENCE)

        def accept(message: STUNMessage) -> None:
            self.far.sendMessage(message.success())
            self.far.sealing = far
            # In the same piece as the answer: the near end must have changed over.
            self.far.sendMessage(INDICATION)

        def change_over(message: STUNMessage) -> None:
            self.near.sealing = near

        self.far_receiver.on_request = accept
        asked = self.near.request(REQUEST).addCallback(change_over)
        self.pump.flush()
        self.successResultOf(asked)
        self.assertTrue(self.near_receiver.received[0].has_integrity_sha256)
        self.far_receiver.on_request = lambda message: self.far.sendMessage(
            message.success()
        )
        protected = self.near.request(OTHER_REQUEST)
        self.pump.flush()
        self.assertTrue(self.successResultOf(protected).has_integrity_sha256)
        refused = self.near.request(REQUEST, key=b"key")
        self.failureResultOf(refused, LocalProtocolError)

    def test_unsealed_message(self) -> None:
        """Once sealed, a plain message ends the connection."""
        self.far.sealing = SequencedSealing(b"back", b"there", SEQUENCE)
        asked = self.near.request(REQUEST)
        self.pump.flush()
        self.failureResultOf(asked, ConnectionLost, ConnectionDone)
        self.assertEqual(self.far_receiver.received, [])
