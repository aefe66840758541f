"""The HTTP server: requests, limits, and giving connections away."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dwcloud.net.http_messages import (
    Reply,
    Request,
    Routes,
    SwitchProtocols,
    UpgradeRoute,
    json_response,
    plain_response,
)
from dwcloud.net.http_server import (
    MAX_BODY,
    MAX_HEAD,
    REQUEST_TIMEOUT,
    HTTPServerFactory,
)
from tests.unit.net.http_world import HTTPTransport

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
UPGRADE = (
    b"GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: Test\r\n\r\n"
)


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """Remembers what happens to it."""

    def __init__(self) -> None:
        self.happened: list[object] = []

    def connectionMade(self) -> None:
        self.happened.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.happened.append(data)

    def readConnectionLost(self) -> None:
        self.happened.append("end of input")

    def writeConnectionLost(self) -> None:
        self.happened.append("end of output")

    def connectionLost(self, reason: Any = None) -> None:
        self.happened.append("lost")


class ElsewhereTests(SynchronousTestCase):
    """Connections whose requests are answered by somebody else."""

    def setUp(self) -> None:
        self.requests: list[Request] = []
        self.taken: list[bytes] = []

    def application(self, request: Request) -> Reply:
        self.requests.append(request)
        return plain_response(200)

    def elsewhere(self, target: str) -> Any:
        if target.startswith("/away"):
            return lambda protocol, data: self.taken.append(data)
        return None

    def factory(self, elsewhere: Any = None) -> HTTPServerFactory:
        return HTTPServerFactory(self.application, Clock(), elsewhere=elsewhere)

    @given(
        body=st.binary(max_size=200),
        names=st.lists(st.from_regex(r"[A-Za-z][A-Za-z-]{0,20}", fullmatch=True)),
        values=st.lists(st.from_regex(r"[!-~]{1,20}( [!-~]{1,20})?", fullmatch=True)),
        cuts=st.lists(st.integers(0, 400), max_size=5),
    )
    def test_same_request(
        self, body: bytes, names: list[str], values: list[str], cuts: list[int]
    ) -> None:
        """What the other one gets is the same request, wherever it was cut."""
        self.setUp()
        fields = "".join(
            f"X-{name}: {value}\r\n" for name, value in zip(names, values, strict=False)
        )
        sent = (
            f"POST /away?x=1 HTTP/1.1\r\nHost: h\r\n{fields}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        here, there, direct = HTTPTransport(), HTTPTransport(), HTTPTransport()
        here.attach(self.factory(self.elsewhere).buildProtocol(None))
        begin, rest = 0, b""
        for end in (*sorted(cuts), len(sent)):
            piece = sent[begin:end]
            if self.taken:
                rest += piece
            else:
                here.protocol.dataReceived(piece)
            begin = max(begin, end)
        there.attach(self.factory().buildProtocol(None))
        there.protocol.dataReceived(self.taken[0] + rest)
        direct.attach(self.factory().buildProtocol(None))
        direct.protocol.dataReceived(sent)
        one, two = self.requests
        self.assertEqual(
            (one.method, one.path, one.query, one.headers, one.body),
            (two.method, two.path, two.query, two.headers, two.body),
        )
        self.assertEqual(here.take(), b"")

    def test_later_request(self) -> None:
        """A connection leaves with the first request that belongs elsewhere."""
        transport = HTTPTransport()
        factory = self.factory(self.elsewhere)
        transport.attach(factory.buildProtocol(None))
        transport.protocol.dataReceived(GET)
        self.assertEqual(len(factory.connections), 1)
        transport.take()
        transport.protocol.dataReceived(b"GET /away HTTP/1.1\r\nHost: h\r\n\r\nmore")
        self.assertEqual(self.taken, [b"GET /away HTTP/1.1\r\nHost: h\r\n\r\nmore"])
        self.assertEqual(len(factory.connections), 0)
        transport.protocol.dataReceived(GET)
        self.assertEqual(transport.take(), b"")
        self.assertEqual([r.path for r in self.requests], ["/"])


class HTTPServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[Request] = []
        self.replies: list[Reply | Deferred[Reply]] = []
        self.transport = HTTPTransport()
        self.factory = HTTPServerFactory(self.application, self.clock)
        self.transport.attach(self.factory.buildProtocol(None))

    def application(self, request: Request) -> Reply | Deferred[Reply]:
        self.requests.append(request)
        return self.replies.pop(0) if self.replies else plain_response(200, "Hello.")

    def status(self) -> int:
        match = re.match(rb"HTTP/1.1 (\d+) ", self.transport.take())
        return int(match[1]) if match else 0

    def test_answer(self) -> None:
        """A request is answered, with what keeps proxies from harm."""
        self.transport.deliver(GET)
        answer = self.transport.take().decode()
        self.assertTrue(answer.startswith("HTTP/1.1 200 OK\r\n"), answer)
        self.assertTrue(answer.endswith("\r\n\r\nHello.\n"), answer)
        for field in ("Cache-Control: no-store", "X-Accel-Buffering: no"):
            self.assertIn(field.lower(), answer.lower())
        self.assertFalse(self.transport.disconnecting)

    def test_request(self) -> None:
        """The application gets all of the request."""
        self.transport.deliver(
            b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\n"
            b"Content-Length: 4\r\n\r\nbody"
        )
        (request,) = self.requests
        self.assertEqual(
            (request.method, request.path, request.query, request.body),
            ("POST", "/a", "b=c", b"body"),
        )
        self.assertEqual(request.header("X-A"), "1, 2")
        self.assertIsNone(request.header("x-b"))
        self.assertEqual(request.peer.host, "192.0.2.7")
        self.assertFalse(request.secure)

    def test_split_at_every_byte(self) -> None:
        """Requests may arrive in any pieces."""
        for cut in range(1, len(GET)):
            self.transport.deliver(GET[:cut])
            self.transport.deliver(GET[cut:])
            self.assertEqual(self.status(), 200)
            self.clock.advance(0)

    def test_keep_alive_and_pipelining(self) -> None:
        """Several requests on one connection are answered in their order."""
        waiting: Deferred[Reply] = Deferred()
        self.replies = [waiting, plain_response(201), plain_response(202)]
        self.transport.deliver(GET * 3)
        self.assertEqual(len(self.requests), 1)
        waiting.callback(plain_response(200))
        self.clock.pump([0, 0, 0])
        statuses = re.findall(rb"HTTP/1.1 (\d+)", self.transport.take())
        self.assertEqual(statuses, [b"200", b"201", b"202"])

    def test_head(self) -> None:
        """HEAD gets the head of the answer only."""
        self.transport.deliver(GET.replace(b"GET", b"HEAD"))
        answer = self.transport.take()
        self.assertIn(b"content-length: 7", answer.lower())
        self.assertTrue(answer.endswith(b"\r\n\r\n"))

    def test_connection_close(self) -> None:
        """A client that asks for it gets the connection closed."""
        self.transport.deliver(GET.replace(b"Host", b"Connection: close\r\nHost"))
        self.assertEqual(self.status(), 200)
        self.assertTrue(self.transport.disconnecting)

    def test_expect_continue(self) -> None:
        """A client that waits for 100 Continue gets it."""
        self.transport.deliver(
            b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        self.assertEqual(self.status(), 100)
        self.transport.deliver(b"body")
        self.assertEqual(self.status(), 200)

    def test_limits(self) -> None:
        """Too much of anything is refused with the status for it."""
        for data, status in [
            (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 1), 431),
            (
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"20000\r\n" + b"x" * (MAX_BODY + 1),
                413,
            ),
            (b"nonsense\r\n\r\n", 400),
        ]:
            self.setUp()
            self.transport.deliver(data)
            self.assertEqual(self.status(), status)
            self.assertTrue(self.transport.disconnecting)
            self.clock.advance(5.0)
            self.assertTrue(self.transport.aborted)

    def test_slow_request(self) -> None:
        """Who does not finish a request in 15 s gets 408 and is cut off."""
        self.transport.deliver(GET[:-1])
        self.clock.advance(REQUEST_TIMEOUT - 1)
        self.transport.deliver(b"X: 1")
        self.clock.advance(1)
        self.assertEqual(self.status(), 408)
        self.assertTrue(self.transport.disconnecting)

    def test_silent_connection(self) -> None:
        """Who says nothing is cut off without a word."""
        self.clock.advance(REQUEST_TIMEOUT)
        self.assertEqual(self.transport.take(), b"")
        self.assertTrue(self.transport.disconnecting)

    def test_application_takes_its_time(self) -> None:
        """The time limit is the client's, not the application's."""
        waiting: Deferred[Reply] = Deferred()
        self.replies = [waiting]
        self.transport.deliver(GET)
        self.clock.advance(100)
        waiting.callback(json_response(201, {"a": 1}))
        self.assertIn(b'{"a": 1}', self.transport.take())

    def test_client_leaves(self) -> None:
        """The work for a client that has left is cancelled."""
        for ends_input in (False, True):
            self.setUp()
            cancelled: list[object] = []
            waiting: Deferred[Reply] = Deferred(cancelled.append)
            self.replies = [waiting]
            self.transport.deliver(GET)
            if ends_input:
                self.transport.protocol.readConnectionLost()
                self.assertTrue(self.transport.disconnecting)
            self.transport.lose()
            self.assertEqual(cancelled, [waiting])
            self.assertEqual(self.flushLoggedErrors(CancelledError), [])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_impatient_client(self) -> None:
        """Who sends on and on while waiting is not read any more."""
        waiting: Deferred[Reply] = Deferred()
        self.replies = [waiting]
        self.transport.deliver(GET)
        self.transport.deliver(bytes(65536))
        self.assertEqual(self.transport.producerState, "producing")
        self.transport.deliver(b"x")
        self.assertEqual(self.transport.producerState, "paused")
        waiting.callback(plain_response(200))
        self.assertEqual(self.transport.producerState, "producing")

    def test_application_fails(self) -> None:
        """A mistake of ours is a 500 for the client and a traceback for us."""
        waiting: Deferred[Reply] = Deferred()
        self.replies = [waiting]
        self.transport.deliver(GET)
        waiting.errback(ZeroDivisionError())
        self.assertEqual(self.status(), 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_disconnect_all(self) -> None:
        """The factory can break what is still HTTP."""
        self.factory.disconnect_all()
        self.assertTrue(self.transport.aborted)

    def test_too_many(self) -> None:
        """One more closes the one without a request for longest; bytes do not count."""
        factory = HTTPServerFactory(self.application, self.clock, capacity=3)
        transports = []
        for _ in range(3):
            transports.append(HTTPTransport())
            transports[-1].attach(factory.buildProtocol(None))
            self.clock.advance(1.0)
        transports[0].deliver(GET)
        transports[1].deliver(GET[:-1])
        self.assertEqual(len(factory.connections), 3)
        newest = HTTPTransport()
        newest.attach(factory.buildProtocol(None))
        self.assertEqual([t.aborted for t in transports], [False, True, False])
        transports[1].deliver(b"\n")
        self.assertEqual(len(self.requests), 1)
        transports[1].lose()
        self.assertEqual(
            (len(factory.connections), factory.connections.evicted), (3, 1)
        )
        newest.deliver(GET)
        self.assertIn(b"200", newest.take())

    def test_eviction_cancels(self) -> None:
        """The work for one that had to make room is cancelled."""
        factory = HTTPServerFactory(self.application, self.clock, capacity=1)
        cancelled: list[object] = []
        self.replies = [Deferred(cancelled.append)]
        self.transport.attach(factory.buildProtocol(None))
        self.transport.deliver(GET)
        HTTPTransport().attach(factory.buildProtocol(None))
        self.transport.lose()
        self.assertEqual(len(cancelled), 1)
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])

    @given(st.lists(st.binary()))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """No bytes bring the server down."""
        self.setUp()
        for piece in pieces:
            if not self.transport.disconnecting:
                self.transport.deliver(piece)
        self.transport.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SwitchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.recorder = Recorder()
        factory = Factory.forProtocol(lambda: self.recorder)
        self.routes = Routes()
        self.routes.add("GET", "/tunnel", UpgradeRoute("test", factory))
        self.factory = HTTPServerFactory(self.routes, self.clock)
        self.transport = HTTPTransport()
        self.transport.attach(self.factory.buildProtocol(None))

    def test_no_switch_in_http_1_0(self) -> None:
        """A proxy that asks by HTTP/1.0 passes no 101 on: Upgrade does not count."""
        self.transport.deliver(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        self.assertTrue(self.transport.take().startswith(b"HTTP/1.1 426 "))

    def test_switch(self) -> None:
        """The protocol gets the connection, and what came with the request."""
        self.transport.deliver(UPGRADE + b"early")
        answer = self.transport.take().lower()
        self.assertTrue(answer.startswith(b"http/1.1 101 switching protocols\r\n"))
        self.assertIn(b"upgrade: test\r\n", answer)
        self.assertTrue(answer.endswith(b"\r\n\r\n"))
        self.assertIs(self.transport.protocol, self.recorder)
        self.transport.deliver(b"later")
        self.assertEqual(self.recorder.happened, ["made", b"early", b"later"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.factory.connections), 0)
        self.factory.disconnect_all()
        self.assertFalse(self.transport.aborted)

    def test_switch_below_a_wrapper(self) -> None:
        """Where the transport belongs to a wrapper, everything is passed on."""
        server = self.transport.protocol
        self.transport.protocol = object()
        server.dataReceived(UPGRADE)
        server.dataReceived(b"data")
        server.readConnectionLost()
        server.writeConnectionLost()
        server.connectionLost(None)
        self.assertEqual(
            self.recorder.happened,
            ["made", b"data", "end of input", "end of output", "lost"],
        )

    def test_not_asked_for(self) -> None:
        """Without the header fields there is a 426 that names the protocol."""
        self.transport.deliver(b"GET /tunnel HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = self.transport.take().lower()
        self.assertTrue(answer.startswith(b"http/1.1 426 "))
        self.assertIn(b"upgrade: test\r\n", answer)

    def test_no_protocol(self) -> None:
        """A factory that makes none means 503."""
        refusing = Factory.forProtocol(Protocol)
        refusing.buildProtocol = lambda addr: None  # type: ignore[method-assign]
        self.routes.add("GET", "/tunnel", UpgradeRoute("test", refusing))
        self.transport.deliver(UPGRADE)
        self.assertTrue(self.transport.take().startswith(b"HTTP/1.1 503 "))

    def test_routes(self) -> None:
        """Other paths are 404, other methods 405."""
        self.transport.deliver(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(self.transport.take().startswith(b"HTTP/1.1 404 "))
        self.transport.deliver(
            b"POST /tunnel HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
        )
        answer = self.transport.take().lower()
        self.assertTrue(answer.startswith(b"http/1.1 405 "))
        self.assertIn(b"allow: get\r\n", answer)

    def test_client_left_before_the_switch(self) -> None:
        """A protocol that comes too late learns that the connection is lost."""
        waiting: Deferred[Reply] = Deferred()
        waiting.addErrback(lambda failure: SwitchProtocols(self.recorder, "test"))
        self.routes.add("GET", "/tunnel", lambda request: waiting)
        self.transport.deliver(UPGRADE)
        self.transport.lose()
        self.assertEqual(self.transport.take(), b"")
        self.assertEqual(self.recorder.happened, ["made", "lost"])
