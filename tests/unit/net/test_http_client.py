"""The HTTP client: answers, errors, and giving connections away."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConnectTimeout, TunnelRefused
from dwcloud.net.http_client import (
    MAX_ANSWER,
    HTTPAnswer,
    HTTPClientConnection,
    TLSEndpoint,
    carrier_endpoint,
)
from dwcloud.net.http_messages import HeaderList
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.net.tunnel_opening import open_switched
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import Opening
from dwcloud.protocol.tunnelling.upgrade import UpgradeMethod
from dwcloud.protocol.tunnelling.urls import ServiceURL
from tests.unit.net.http_world import HTTPTransport
from tests.unit.net.test_http_server import Recorder

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nHello.\n"
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n"
)
OPENING = Opening("/x/tunnel", "test", ((b"authorization", b"old"),))
CHALLENGE = (
    b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: T\r\nContent-Length: 0\r\n\r\n"
)


class HTTPClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.transport = HTTPTransport()
        self.connection: HTTPClientConnection = self.transport.attach(
            HTTPClientConnection("h:1")
        )

    def test_get(self) -> None:
        """A request goes out, and its answer comes back whole."""
        asked = self.connection.request("GET", "/a", ((b"x", b"y"),))
        self.assertEqual(
            self.transport.take(), b"GET /a HTTP/1.1\r\nhost: h:1\r\nx: y\r\n\r\n"
        )
        self.transport.deliver(OK)
        answer = self.successResultOf(asked)
        self.assertEqual((answer.status, answer.body), (200, b"Hello.\n"))
        self.assertEqual(answer.sentence, "Hello.")
        self.assertTrue(self.connection.reusable)

    def test_post(self) -> None:
        """A POST has a length, even without a body; the connection is used again."""
        for body in (b"body", b""):
            asked = self.connection.request("POST", "/", body=body)
            sent = self.transport.take().lower()
            self.assertIn(b"content-length: %d\r\n" % len(body), sent)
            self.assertTrue(sent.endswith(b"\r\n\r\n" + body))
            self.transport.deliver(OK)
            self.assertEqual(self.successResultOf(asked).status, 200)

    def test_split_at_every_byte(self) -> None:
        """Answers may arrive in any pieces."""
        for cut in range(1, len(OK)):
            asked = self.connection.request("GET", "/")
            self.transport.deliver(OK[:cut])
            self.transport.deliver(OK[cut:])
            self.assertEqual(self.successResultOf(asked).body, b"Hello.\n")

    def test_one_at_a_time(self) -> None:
        """A second request before the answer is a mistake of ours."""
        self.connection.request("GET", "/")
        self.assertRaises(LocalProtocolError, self.connection.request, "GET", "/")

    def test_answer_until_close(self) -> None:
        """An answer without a length ends with the connection."""
        for ends_input in (False, True):
            self.setUp()
            asked = self.connection.request("GET", "/")
            self.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\nbody")
            if ends_input:
                self.connection.readConnectionLost()
            self.transport.lose()
            self.assertEqual(self.successResultOf(asked).body, b"body")
            self.assertFalse(self.connection.reusable)
            self.failureResultOf(self.connection.request("GET", "/"))

    def test_lost(self) -> None:
        """A connection lost before the answer fails the request."""
        asked = self.connection.request("GET", "/")
        self.transport.lose(ConnectionLost())
        self.failureResultOf(asked, ConnectionLost)
        self.setUp()
        asked = self.connection.request("GET", "/")
        self.transport.lose()
        failure = self.failureResultOf(asked, ConnectionLost)
        self.assertIn("closed before the answer", failure.getErrorMessage())

    def test_not_http(self) -> None:
        """Something else than HTTP fails the request and ends the connection."""
        asked = self.connection.request("GET", "/")
        self.transport.deliver(b"SSH-2.0-x\r\n\r\n")
        self.failureResultOf(asked, h11.RemoteProtocolError)
        self.assertTrue(self.transport.aborted)

    def test_too_long(self) -> None:
        """An endless answer is not collected."""
        asked = self.connection.request("GET", "/")
        self.transport.deliver(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_ANSWER + 1))
        self.failureResultOf(asked, h11.RemoteProtocolError)

    def test_unasked(self) -> None:
        """What nobody asked for is not collected either."""
        self.transport.deliver(bytes(MAX_ANSWER))
        self.transport.deliver(b"x")
        self.assertTrue(self.transport.aborted)

    def test_cancel(self) -> None:
        """Cancelling breaks the connection off."""
        asked = self.connection.request("GET", "/")
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertTrue(self.transport.aborted)
        self.transport.lose()

    def test_upgrade(self) -> None:
        """After 101 the connection and what came with it belong to a protocol."""
        headers = ((b"connection", b"upgrade"), (b"upgrade", b"test"))
        asked = self.connection.request("GET", "/", headers)
        self.transport.deliver(SWITCHED + b"early")
        self.assertEqual(self.successResultOf(asked).status, 101)
        recorder = Recorder()
        self.connection.upgrade_to(recorder)
        self.transport.deliver(b"later")
        self.assertEqual(recorder.happened, ["made", b"early", b"later"])

    def test_sentence(self) -> None:
        """Only plain text is shown to people, and no control characters."""
        plain = ((b"content-type", b"text/plain; charset=utf-8"),)
        self.assertEqual(HTTPAnswer(404, plain, b"No\x1b[1m.\nx").sentence, "No[1m.")
        self.assertEqual(HTTPAnswer(404, plain, b"").sentence, "")
        html = ((b"content-type", b"text/html"),)
        self.assertEqual(HTTPAnswer(404, html, b"<html>").sentence, "")

    @given(st.lists(st.binary(min_size=1)))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Whatever comes, the request ends one way or the other."""
        self.setUp()
        asked = self.connection.request("GET", "/")
        results: list[object] = []
        asked.addBoth(results.append)
        for piece in [b"HTTP/1.1 2", *pieces]:
            if not self.transport.aborted:
                self.transport.deliver(piece)
        self.transport.lose()
        self.assertEqual(len(results), 1)

    def test_carrier(self) -> None:
        """http goes over TCP, https over TLS."""
        reactor = MemoryReactorClock()
        for text, secure in (("http://192.0.2.1:5", False), ("https://h", True)):
            endpoint = carrier_endpoint(reactor, ServiceURL.parse(text))
            self.assertEqual(isinstance(endpoint, TLSEndpoint), secure)


class OpenTunnelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.transport = HTTPTransport()
        self.connection = self.transport.attach(HTTPClientConnection("h"))
        self.asked: list[tuple[HTTPAnswer, bytes]] = []

    def authenticate(self, answer: HTTPAnswer, binding: bytes) -> HeaderList:
        self.asked.append((answer, binding))
        return ((b"authorization", b"new"),)

    def open(self) -> Deferred[object]:
        opening: Deferred[object] = open_switched(
            self.connect_again,
            OPENING,
            UpgradeMethod(),
            self.authenticate,
            self.connection,
        )
        return opening

    def connect_again(self) -> Deferred[HTTPClientConnection]:
        self.again = HTTPTransport()
        return succeed(self.again.attach(HTTPClientConnection("h")))

    def test_proof_on_the_same_connection(self) -> None:
        """A 401 is answered with a proof in place of what was sent first."""
        opening = self.open()
        self.assertIn(b"authorization: old\r\n", self.transport.take())
        self.transport.deliver(CHALLENGE)
        sent = self.transport.take()
        self.assertIn(b"authorization: new\r\n", sent)
        self.assertNotIn(b"old", sent)
        self.transport.deliver(SWITCHED)
        self.successResultOf(opening)
        self.assertEqual([binding for _, binding in self.asked], [b""])

    def test_proof_on_another_connection(self) -> None:
        """A connection that closes after the 401 is replaced for the proof."""
        opening = self.open()
        self.transport.deliver(
            CHALLENGE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        )
        self.assertTrue(self.transport.disconnecting)
        self.assertIn(b"authorization: new\r\n", self.again.take())
        self.again.deliver(SWITCHED)
        self.successResultOf(opening)

    def test_proof_once(self) -> None:
        """A second 401 is a refusal."""
        opening = self.open()
        self.transport.deliver(CHALLENGE)
        self.transport.deliver(CHALLENGE)
        self.assertEqual(self.failureResultOf(opening, TunnelRefused).value.status, 401)
        self.assertTrue(self.transport.disconnecting)

    def test_strange_challenge(self) -> None:
        """A 401 that asks for something else is a refusal."""

        def authenticate(answer: HTTPAnswer, binding: bytes) -> HeaderList:
            raise RemoteProtocolError("not ours", 401)

        self.authenticate = authenticate  # type: ignore[method-assign]
        opening = self.open()
        self.transport.deliver(CHALLENGE)
        failure = self.failureResultOf(opening, TunnelRefused)
        self.assertEqual(failure.getErrorMessage(), "not ours")

    def test_refused(self) -> None:
        """A refusal keeps the sentence of the far end."""
        opening = self.open()
        self.transport.deliver(OK.replace(b"200 OK", b"403 No"))
        failure = self.failureResultOf(opening, TunnelRefused)
        self.assertEqual(failure.getErrorMessage(), "Hello.")
        self.assertTrue(self.transport.disconnecting)

    def test_not_http(self) -> None:
        """Something else than HTTP is a refusal as well."""
        opening = self.open()
        self.transport.deliver(b"220 mail\r\n\r\n")
        self.assertEqual(self.failureResultOf(opening, TunnelRefused).value.status, 0)


class TunnelEndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.endpoint = TunnelEndpoint(
            self.reactor,
            ServiceURL.parse("http://192.0.2.1:5/p"),
            "/x/tunnel",
            "test",
            method="upgrade",
        )

    def accept(self) -> HTTPTransport:
        """Let the TCP connection succeed."""
        self.reactor.advance(0)
        factory = self.reactor.tcpClients[-1][2]
        transport = HTTPTransport()
        transport.attach(factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 5)))
        return transport

    def test_connect(self) -> None:
        """The factory's protocol gets the stream inside the tunnel."""
        recorder = Recorder()
        connecting = self.endpoint.connect(Factory.forProtocol(lambda: recorder))
        transport = self.accept()
        self.assertTrue(transport.take().startswith(b"GET /p/x/tunnel/upgrade "))
        transport.deliver(SWITCHED)
        transport.deliver(transport.take() + b"data")
        self.assertIs(self.successResultOf(connecting), recorder)
        transport.lose()
        self.assertEqual(recorder.happened, ["made", b"data", "lost"])

    def test_no_answer(self) -> None:
        """Without an answer the attempt ends in time, and so does the connection."""
        connecting = self.endpoint.connect(Factory.forProtocol(Recorder))
        transport = self.accept()
        self.reactor.advance(20)
        failure = self.failureResultOf(connecting, ConnectTimeout)
        self.assertEqual(
            failure.getErrorMessage(),
            "http://192.0.2.1:5/p did not answer within 20 seconds",
        )
        self.assertTrue(transport.aborted)

    def test_no_echo(self) -> None:
        """An answer as it should be and then nothing is no tunnel."""
        connecting = self.endpoint.connect(Factory.forProtocol(Recorder))
        transport = self.accept()
        transport.deliver(SWITCHED)
        self.reactor.advance(3)
        failure = self.failureResultOf(connecting, TunnelRefused)
        self.assertIn("no byte comes back", failure.getErrorMessage())
        self.assertTrue(transport.aborted)

    def test_other_echo(self) -> None:
        """Bytes that are not ours are no echo."""
        connecting = self.endpoint.connect(Factory.forProtocol(Recorder))
        transport = self.accept()
        transport.deliver(SWITCHED + bytes(16))
        failure = self.failureResultOf(connecting, TunnelRefused)
        self.assertIn("other bytes", failure.getErrorMessage())

    def test_cancel(self) -> None:
        """An attempt can be given up."""
        connecting = self.endpoint.connect(Factory.forProtocol(Recorder))
        transport = self.accept()
        connecting.cancel()
        self.failureResultOf(connecting, CancelledError)
        self.assertTrue(transport.aborted)

    def test_no_protocol(self) -> None:
        """A factory that makes no protocol fails the attempt."""
        factory = Factory.forProtocol(Recorder)
        factory.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        connecting = self.endpoint.connect(factory)
        transport = self.accept()
        transport.take()
        transport.deliver(SWITCHED)
        transport.deliver(transport.take())
        self.failureResultOf(connecting)
        self.assertTrue(transport.disconnecting)

    def test_unknown_method(self) -> None:
        """A method that is not known is told at once."""
        with self.assertRaises(ValueError):
            TunnelEndpoint(
                Clock(), ServiceURL("http", "h", 1), "/", "t", method="pigeon"
            )
