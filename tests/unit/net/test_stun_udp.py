"""STUN requests over UDP."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import RequestRefused, RequestTimeout
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.stun.attributes import STANDARD_ATTRIBUTES, error_attribute
from dwcloud.protocol.stun.binding import (
    binding_request,
    binding_response,
    reflexive_address,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from dwcloud.protocol.stun.transaction import Timing

SERVER = Address("192.0.2.1", 3345)
CLIENT = Address("198.51.100.1", 40000)
REQUEST = binding_request(b"transaction1")
OTHER_REQUEST = binding_request(b"transaction2")


class STUNDatagramClientTests(SynchronousTestCase):
    """STUNDatagramClient."""

    def setUp(self) -> None:
        """Make a client on a socket that keeps what is sent."""
        self.clock = Clock()
        self.sent: list[tuple[float, bytes, Address]] = []
        self.client = STUNDatagramClient(
            self.clock, self.send, known_attributes=STANDARD_ATTRIBUTES
        )

    def send(self, data: bytes, address: Address) -> None:
        """Note a datagram."""
        self.sent.append((self.clock.seconds(), data, address))

    def answer(self, message: STUNMessage, key: bytes | None = None) -> bool:
        """Let an answer arrive."""
        raw = message.encode(integrity_key=key)
        return self.client.datagramReceived(raw, SERVER)

    def assertQuiet(self) -> None:
        """Check that nothing is left running."""
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_success(self) -> None:
        """The request goes out and its answer comes back."""
        deferred = self.client.request(REQUEST, SERVER)
        self.assertEqual(self.sent, [(0.0, REQUEST.encode(), SERVER)])
        self.assertNoResult(deferred)
        self.assertTrue(self.answer(binding_response(REQUEST, CLIENT)))
        response = self.successResultOf(deferred)
        self.assertEqual(reflexive_address(response), CLIENT)
        self.assertQuiet()
        self.assertFalse(self.answer(binding_response(REQUEST, CLIENT)))

    def test_fingerprint(self) -> None:
        """The request is marked on demand."""
        deferred = self.client.request(REQUEST, SERVER, fingerprint=True)
        deferred.addErrback(lambda _: None)
        self.assertTrue(STUNMessage.decode(self.sent[0][1]).has_fingerprint)

    def test_retransmission_and_timeout(self) -> None:
        """The same datagram at the RFC's times, and a failure at 39.5 s."""
        deferred = self.client.request(REQUEST, SERVER)
        self.clock.pump([0.5] * 78)
        self.assertEqual(
            [at for at, _, _ in self.sent], [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
        )
        self.assertEqual(len({data for _, data, _ in self.sent}), 1)
        self.assertNoResult(deferred)
        self.clock.advance(0.5)
        error = self.failureResultOf(deferred, RequestTimeout).value
        self.assertIsInstance(error, TimeoutError)
        self.assertEqual(
            str(error), "no answer from 192.0.2.1:3345 within 39.5 seconds"
        )
        self.assertQuiet()

    def test_refusal(self) -> None:
        """An error answer is an exception that has the answer."""
        deferred = self.client.request(REQUEST, SERVER)
        response = REQUEST.error([error_attribute(401)])
        self.answer(response)
        error = self.failureResultOf(deferred, RequestRefused).value
        self.assertEqual((error.code, error.response), (401, response))
        self.assertEqual(
            str(error), "192.0.2.1:3345 refused the request: 401 Unauthenticated"
        )
        self.assertQuiet()

    def test_refusal_without_code(self) -> None:
        """An error answer without a code is a refusal all the same."""
        deferred = self.client.request(REQUEST, SERVER)
        self.answer(REQUEST.error([]))
        self.assertEqual(self.failureResultOf(deferred, RequestRefused).value.code, 500)

    def test_unknown_attributes(self) -> None:
        """An answer that cannot be understood is a failure at once."""
        deferred = self.client.request(REQUEST, SERVER)
        self.answer(REQUEST.success([RawAttribute(0x7001)]))
        self.assertEqual(self.failureResultOf(deferred, RequestRefused).value.code, 420)

    def test_integrity(self) -> None:
        """Only an answer protected by the same key counts."""
        deferred = self.client.request(REQUEST, SERVER, integrity_key=b"key")
        self.assertTrue(STUNMessage.decode(self.sent[0][1]).verify_integrity(b"key"))
        self.answer(REQUEST.success(), b"other")
        self.assertNoResult(deferred)
        self.answer(REQUEST.success(), b"key")
        self.successResultOf(deferred)

    def test_forgeries_only(self) -> None:
        """The failure tells that there were answers."""
        timing = Timing(tries=1, initial_interval=1.0, last_wait=1.0)
        deferred = self.client.request(
            REQUEST, SERVER, integrity_key=b"key", timing=timing
        )
        self.answer(REQUEST.success(), b"other")
        self.clock.advance(1.0)
        error = self.failureResultOf(deferred, RequestTimeout).value
        self.assertIn("integrity", str(error))

    def test_cancel(self) -> None:
        """Cancelling ends the repetitions of this request only."""
        cancelled = self.client.request(REQUEST, SERVER)
        kept = self.client.request(OTHER_REQUEST, SERVER)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.assertFalse(self.answer(REQUEST.success()))
        self.assertTrue(self.answer(OTHER_REQUEST.success()))
        self.successResultOf(kept)
        self.assertQuiet()

    def test_request_in_callback(self) -> None:
        """A callback may ask again, as after a challenge."""
        deferred = self.client.request(REQUEST, SERVER)

        def ask_again(_: Failure) -> Deferred[STUNMessage]:
            return self.client.request(OTHER_REQUEST, SERVER)

        deferred.addErrback(ask_again)
        self.answer(REQUEST.error([error_attribute(401)]))
        self.answer(OTHER_REQUEST.success())
        self.assertEqual(self.successResultOf(deferred), OTHER_REQUEST.success())
        self.assertQuiet()

    def test_answer_while_sending(self) -> None:
        """An answer may come before send() has returned, as on one machine."""
        client = STUNDatagramClient(
            self.clock,
            lambda data, address: client.datagramReceived(
                STUNMessage.decode(data).success().encode(), address
            ),
        )
        self.successResultOf(client.request(REQUEST, SERVER))
        self.assertQuiet()

    def test_socket_error(self) -> None:
        """A socket error is the loss of one datagram."""

        def refuse(data: bytes, address: Address) -> None:
            raise OSError(101, "Network is unreachable")

        client = STUNDatagramClient(self.clock, refuse)
        deferred = client.request(REQUEST, SERVER)
        self.assertNoResult(deferred)
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)

    def test_misuse(self) -> None:
        """What cannot be sent fails, and nothing stays behind."""
        for message in (
            REQUEST.success(),
            STUNMessage(0x1000, MessageClass.REQUEST, bytes(12)),
        ):
            deferred = self.client.request(message, SERVER)
            self.failureResultOf(deferred, LocalProtocolError)
        self.assertEqual(self.sent, [])
        self.assertQuiet()

    def test_stop(self) -> None:
        """Stopping fails what is pending and what comes later."""
        deferred = self.client.request(REQUEST, SERVER)
        self.client.stop()
        self.failureResultOf(deferred, ConnectionDone)
        self.failureResultOf(self.client.request(REQUEST, SERVER), ConnectionDone)
        self.assertQuiet()
        self.client.stop(Failure(ConnectionLost()))
        self.failureResultOf(self.client.request(REQUEST, SERVER), ConnectionLost)
