"""A browser that has entered uses the server's web service."""

from __future__ import annotations

import h11
from twisted.internet.error import ConnectionDone

from dwcloud.protocol.gateway.requests import websocket_accept
from dwcloud.relay.gateway.browser import KEEP_ALIVE, MAX_HEAD, REQUEST_TIMEOUT
from dwcloud.relay.gateway.streams import MAX_STREAMS
from tests.unit.net.stream_world import Source, pattern
from tests.unit.relay.gateway.gateway_world import (
    DOMAIN,
    Browser,
    GatewayTestCase,
    WebService,
    fields_of,
    hello,
    silent,
)

SOCKET = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


class BrowsingTests(GatewayTestCase):
    """Requests and answers."""

    def setUp(self) -> None:
        super().setUp()
        self.serve()
        self.cookie = self.enter()

    def test_page(self) -> None:
        """A page of the server is shown, and the server is told who asks."""
        answer = self.ask_web("/a/../b?c=d", cookie=f"{self.cookie}; mine=1")
        self.assertEqual((answer.status, answer.body), (200, b"hello"))
        (request,) = self.web.requests
        lines = fields_of(request)
        self.assertEqual(lines[0], "get /a/../b?c=d http/1.1")
        self.assertIn(f"host: {self.host}", lines)
        self.assertIn("x-forwarded-for: 203.0.113.20", lines)
        self.assertIn("x-forwarded-proto: https", lines)
        self.assertIn("cookie: mine=1", lines)

    def test_path(self) -> None:
        """The stream came by the relay, with the account's grant."""
        self.ask_web(cookie=self.cookie)
        (event,) = self.events
        self.assertEqual(event.details["path"], "relay")
        self.assertEqual(event.details["account"], "ann")
        self.assertEqual(event.details["client"], "browser")
        self.assertEqual(self.relay.switchboard.figures()["tunnels"], 1)

    def test_kept_connections(self) -> None:
        """Requests on one connection use one stream to the server."""
        browser = self.browse()
        for _ in range(3):
            self.ask_web(cookie=self.cookie, browser=browser)
        self.assertEqual(len(self.web.requests), 3)
        self.assertEqual(len(self.web.connections), 1)

    def test_stream_of_another_session(self) -> None:
        """A connection that shows another cookie does not use the first's stream."""
        browser = self.browse()
        self.ask_web(cookie=self.cookie, browser=browser)
        self.ask_web(cookie=self.enter(), browser=browser)
        self.assertEqual(len(self.web.connections), 2)
        self.world.run_until_idle()
        self.assertIsNotNone(self.web.connections[0].lost)

    def test_pipelined(self) -> None:
        """Requests sent before the answers are answered in their order."""
        browser = self.browse()
        one = f"GET /%d HTTP/1.1\r\nHost: {self.host}\r\nCookie: {self.cookie}\r\n\r\n"
        browser.transport.write((one % 1 + one % 2 + one % 3).encode())
        self.world.run_until(lambda: len(self.web.requests) == 3)
        self.assertEqual(
            [request.split()[1] for request in self.web.requests], ["/1", "/2", "/3"]
        )

    def test_stale_stream(self) -> None:
        """A stream that the service closes under a request is replaced unnoticed."""
        browser = self.browse()
        self.ask_web(cookie=self.cookie, browser=browser)

        def close_once(service: WebService) -> None:
            if service is self.web.connections[0]:
                service.transport.loseConnection()
            else:
                hello(service)

        self.web.script = close_once
        answer = self.ask_web(cookie=self.cookie, browser=browser)
        self.assertEqual(answer.body, b"hello")
        self.assertEqual(len(self.web.connections), 2)

    def test_post_not_repeated(self) -> None:
        """What may do something is never sent twice."""
        browser = self.browse()
        self.ask_web(cookie=self.cookie, browser=browser)
        self.web.script = lambda service: service.transport.loseConnection()
        answer = self.ask_web(method="POST", cookie=self.cookie, browser=browser)
        self.assertEqual(answer.status, 502)
        self.assertEqual(len(self.web.connections), 1)

    def test_whole_server_name(self) -> None:
        """A server's own host leads to it."""
        host = f"{self.name.server}.{self.host}"
        cookie = self.enter(host=host, server=self.name.server)
        answer = self.ask_web(host=host, cookie=cookie)
        self.assertEqual(answer.body, b"hello")

    def test_only_service(self) -> None:
        """Without a service called web the only one is shown; of several, none."""
        web = self.acceptor.services.pop("web")
        self.acceptor.services["camera"] = web
        self.assertEqual(self.ask_web(cookie=self.cookie).body, b"hello")
        self.acceptor.services["other"] = web
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 502)
        self.assertIn("camera, other", answer.text)

    def test_relay_itself(self) -> None:
        """The domain itself leads to the relay, tunnels and all."""
        answer = self.ask_web("/relay/statistics/", host=str(DOMAIN))
        self.assertEqual(answer.status, 200)
        self.assertIn(b'"tunnels"', answer.body)

    def test_other_host_later(self) -> None:
        """A connection does not turn from a system to the relay."""
        browser = self.browse()
        self.ask_web(cookie=self.cookie, browser=browser)
        answer = self.ask_web("/relay/", host=str(DOMAIN), browser=browser)
        self.assertEqual(answer.status, 421)

    def test_answer_without_length(self) -> None:
        """An answer that ends with the stream ends for the browser, too."""

        def old(service: WebService) -> None:
            service.transport.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
            service.transport.loseConnection()

        self.web.script = old
        answer = self.ask_web(cookie=self.cookie)
        self.assertEqual((answer.body, answer.is_whole), (b"all of it", True))

    def test_cut_answer(self) -> None:
        """An answer that was cut does not look whole."""
        for head in (b"Content-Length: 100", b"Transfer-Encoding: chunked"):

            def cut(service: WebService, head: bytes = head) -> None:
                service.transport.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\nab" % head)
                service.transport.loseConnection()

            self.web.script = cut
            browser = self.browse()
            request = f"GET / HTTP/1.1\r\nHost: {self.host}\r\nCookie: {self.cookie}"
            browser.send_raw(request.encode() + b"\r\n\r\n")
            self.world.run_until(lambda browser=browser: browser.lost is not None)
            self.assertFalse(browser.answers[0].is_whole)

    def test_head_and_no_content(self) -> None:
        """Answers without a body keep the connection."""
        browser = self.browse()

        def nothing(service: WebService) -> None:
            head = service.take_request()
            if head is not None and head.startswith(b"HEAD"):
                service.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            elif head is not None:
                service.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        self.web.script = nothing
        self.assertEqual(
            self.ask_web(method="HEAD", cookie=self.cookie, browser=browser).body, b""
        )
        answer = self.ask_web(cookie=self.cookie, browser=browser)
        self.assertEqual(answer.status, 204)
        self.assertEqual(len(self.web.connections), 1)


class BodyTests(GatewayTestCase):
    """Bodies without end, in bounded memory."""

    def setUp(self) -> None:
        super().setUp()
        self.serve()
        self.cookie = self.enter()

    def begin(self, *fields: tuple[str, str], method: str = "POST") -> Browser:
        """Send the head of a request."""
        browser = self.browse()
        headers = [("Host", self.host), ("Cookie", self.cookie), *fields]
        browser.send(h11.Request(method=method, target="/up", headers=headers))
        return browser

    def test_upload(self) -> None:
        """A body arrives as it was sent, with a length and in chunks."""
        sent = pattern(300_000)
        self.web.script = silent
        for field in (("Content-Length", "300000"), ("Transfer-Encoding", "chunked")):
            browser = self.begin(field)
            for at in range(0, len(sent), 10_000):
                browser.send(h11.Data(data=sent[at : at + 10_000]))
            browser.send(h11.EndOfMessage())
            self.world.run_until(lambda: bool(self.web.connections))
            service = self.web.connections.pop()
            self.assertEqual(self.upload(service), sent)
            service.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            self.assertEqual(self.answer(browser).status, 200)

    def upload(self, service: WebService) -> bytes:
        """Wait for the end of a request; its body."""
        reader = h11.Connection(h11.SERVER)
        body = bytearray()

        def has_come() -> bool:
            if service.received:
                reader.receive_data(bytes(service.received))
                service.received.clear()
            while (event := reader.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Data):
                    body.extend(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    return True
            return False

        self.world.run_until(has_come)
        return bytes(body)

    def test_expectation(self) -> None:
        """A browser that waits for leave to send its body gets it."""
        self.web.script = silent
        browser = self.begin(("Content-Length", "3"), ("Expect", "100-continue"))
        informed: list[bytes] = []
        browser.dataReceived = informed.append  # type: ignore[method-assign]
        self.world.run_until(lambda: bool(informed))
        self.assertIn(b"100", informed[0])

    def test_slow_service(self) -> None:
        """A service that does not read stops the browser, wherever bytes wait."""
        self.web.script = silent
        browser = self.begin(("Content-Length", str(1 << 26)))
        self.world.run_until(lambda: bool(self.web.connections))
        self.web.connections[0].transport.pauseProducing()
        sent = 0
        for _ in range(400):
            browser.send(h11.Data(data=bytes(65_536)))
            sent += 65_536
            self.world.advance(0.05)
        held = self.gateway_bytes_in()
        self.assertLess(held, 4 << 20)
        self.assertLess(held, sent / 4)

    def gateway_bytes_in(self) -> int:
        """How much the relay has taken from browsers and passed on."""
        (tunnel,) = self.relay.switchboard._tunnels
        return int(tunnel.bytes_to_server)

    def test_slow_browser(self) -> None:
        """A browser that does not read stops the service."""
        sent = 0

        class Endless:
            def __init__(self, service: WebService) -> None:
                self.service = service
                self.paused = False
                service.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
                service.transport.registerProducer(self, True)
                self.go()

            def go(self) -> None:
                nonlocal sent
                for _ in range(1000):
                    if self.paused:
                        return
                    sent += 65_536
                    self.service.transport.write(bytes(65_536))

            def pauseProducing(self) -> None:
                self.paused = True

            def resumeProducing(self) -> None:
                self.paused = False
                self.service.factory.reactor.callLater(0, self.go)

            def stopProducing(self) -> None:
                self.paused = True

        self.web.reactor = self.server_host.reactor  # type: ignore[attr-defined]
        self.web.script = Endless  # type: ignore[assignment]
        browser = self.begin(method="GET")
        browser.transport.pauseProducing()
        browser.send(h11.EndOfMessage())
        self.world.advance(30)
        self.assertGreater(sent, 0)
        self.assertLess(sent, 8 << 20)

    def test_early_answer(self) -> None:
        """An answer before the end of the request ends the connection, not the body."""

        def refuse(service: WebService) -> None:
            if not service.factory.requests:
                service.factory.requests.append("")
                service.transport.write(
                    b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
                )

        self.web.script = refuse
        browser = self.begin(("Content-Length", "100000"))
        browser.send(h11.Data(data=bytes(1000)))
        answer = self.answer(browser)
        self.assertEqual((answer.status, answer.header("connection")), (413, "close"))
        self.world.run_until(lambda: browser.lost is not None)

    def test_browser_leaves(self) -> None:
        """A stream whose browser has gone is cut."""
        self.web.script = silent
        browser = self.begin(method="GET")
        browser.send(h11.EndOfMessage())
        self.world.run_until(lambda: bool(self.web.connections))
        browser.transport.abortConnection()
        self.world.run_until(lambda: self.web.connections[0].lost is not None)

    def test_too_much_ahead(self) -> None:
        """Who sends on and on without reading answers is not read any more."""
        self.web.script = silent
        browser = self.begin(method="GET")
        browser.send(h11.EndOfMessage())
        self.world.run_until(lambda: bool(self.web.connections))
        source = Source(self.client_host.reactor, browser.transport, bytes(8 << 20))
        self.world.advance(5)
        self.assertLess(source.written, 2 << 20)


class WebSocketTests(GatewayTestCase):
    """WebSockets."""

    def setUp(self) -> None:
        super().setUp()
        self.serve()
        self.cookie = self.enter()

    def open(self, accept: bytes, first: bytes = b"") -> Browser:
        """Ask for a WebSocket, whose server answers with ``accept`` and echoes."""

        def echo(service: WebService) -> None:
            if service.take_request() is not None:
                service.transport.write(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\nSec-WebSocket-Accept: %b\r\n\r\nhi" % accept
                )
            service.transport.write(bytes(service.received))
            service.received.clear()

        self.web.script = echo
        browser = self.browse()
        headers = [("Host", self.host), ("Cookie", self.cookie), *SOCKET]
        browser.send(
            h11.Request(method="GET", target="/live", headers=headers),
            h11.EndOfMessage(),
        )
        browser.transport.write(first)
        return browser

    def test_echo(self) -> None:
        """What either side says after the switch arrives at the other, untouched."""
        browser = self.open(websocket_accept(SOCKET[3][1]), b"early")
        self.world.run_until(lambda: browser.after_switch == b"hiearly")
        sent = pattern(200_000)
        browser.transport.write(sent)
        self.world.run_until(lambda: len(browser.after_switch) == len(sent) + 7)
        self.assertEqual(browser.after_switch[7:], sent)
        self.assertEqual(browser.answers[0].header("upgrade"), "websocket")

    def test_end(self) -> None:
        """The end of one side is that of the other."""
        browser = self.open(websocket_accept(SOCKET[3][1]))
        self.world.run_until(lambda: bool(browser.after_switch))
        self.web.connections[0].transport.loseConnection()
        self.world.run_until(lambda: browser.lost is not None)
        assert browser.lost is not None
        self.assertTrue(browser.lost.check(ConnectionDone))

    def test_no_websocket(self) -> None:
        """A service that answers 101 without knowing WebSocket gets no raw bytes."""
        browser = self.open(b"guessed", b"GET /admin HTTP/1.1\r\n\r\n")
        self.world.run_until(lambda: bool(browser.answers))
        self.assertEqual(browser.answers[0].status, 502)
        self.world.run_until_idle()
        self.assertNotIn("admin", self.web.connections[0].text)

    def test_left(self) -> None:
        """Leaving ends the browser's WebSockets as well."""
        browser = self.open(websocket_accept(SOCKET[3][1]))
        self.world.run_until(lambda: bool(browser.after_switch))
        self.ask_web("/.dwcloud/leave", method="POST", cookie=self.cookie)
        self.world.run_until(lambda: browser.lost is not None)


class TroubleTests(GatewayTestCase):
    """What a person reads when there is nothing to show."""

    def test_offline(self) -> None:
        """A server that is not there is offline, in plain words."""
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 502)
        self.assertIn("offline", answer.text)
        answer = self.ask_web(cookie=self.enter(), navigation=False)
        self.assertEqual(answer.header("content-type"), "text/plain; charset=utf-8")

    def test_server_comes_back(self) -> None:
        """A browser that has entered sees a server that was away."""
        cookie = self.enter()
        self.assertEqual(self.ask_web(cookie=cookie).status, 502)
        self.serve()
        self.assertEqual(self.ask_web(cookie=cookie).status, 200)
        self.world.run_until(self.pools.pop().stopService())
        self.world.advance(20)
        self.assertEqual(self.ask_web(cookie=cookie).status, 502)
        self.serve()
        self.assertEqual(self.ask_web(cookie=cookie).status, 200)

    def test_busy(self) -> None:
        """One browser has a limited number of streams."""
        self.serve()
        self.web.script = silent
        cookie = self.enter()
        for _ in range(MAX_STREAMS):
            browser = self.browse()
            headers = [("Host", self.host), ("Cookie", cookie)]
            browser.send(
                h11.Request(method="GET", target="/", headers=headers),
                h11.EndOfMessage(),
            )
            self.world.advance(0.5)
        self.assertEqual(len(self.web.connections), MAX_STREAMS)
        answer = self.ask_web(cookie=cookie)
        self.assertEqual((answer.status, answer.header("retry-after")), (503, "5"))

    def test_service_gone(self) -> None:
        """A service that ends without an answer is told."""
        self.serve()
        self.web.script = lambda service: service.transport.loseConnection()
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 502)
        self.assertIn("does not answer", answer.text)

    def test_no_http(self) -> None:
        """What does not speak HTTP is told, and what it said is not shown."""
        self.serve()
        self.web.script = lambda service: service.transport.write(
            b"SSH-2.0-OpenSSH\r\n<script>alert(1)</script>\r\n\r\n"
        )
        answer = self.ask_web(cookie=self.enter())
        self.assertEqual(answer.status, 502)
        self.assertNotIn("<script>", answer.text)

    def test_no_system(self) -> None:
        """A name that is no system's host is told how one looks."""
        answer = self.ask_web(host=f"garage.{DOMAIN}")
        self.assertEqual(answer.status, 404)
        self.assertIn("GUID", answer.text)

    def test_slow_head(self) -> None:
        """A head that does not come to its end is not waited for."""
        browser = self.browse()
        self.world.advance(REQUEST_TIMEOUT - 1)
        browser.send_raw(b"GET / HTTP/1.1\r\n")
        self.world.advance(REQUEST_TIMEOUT / 2)
        browser.transport.write(b"Host: x\r\n")
        self.world.advance(REQUEST_TIMEOUT / 2 + 1)
        self.assertEqual(browser.answers[0].status, 408)
        self.world.run_until(lambda: browser.lost is not None)

    def test_silence(self) -> None:
        """A connection without requests is closed after a while."""
        first = self.browse()
        self.world.advance(REQUEST_TIMEOUT + 1)
        self.assertIsNotNone(first.lost)
        browser = self.browse()
        self.ask_web(browser=browser)
        self.world.advance(KEEP_ALIVE - 1)
        self.assertIsNone(browser.lost)
        self.world.advance(2)
        self.assertIsNotNone(browser.lost)

    def test_long_head(self) -> None:
        """A head that is longer than any is refused."""
        browser = self.browse()
        browser.send_raw(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD + b"\r\n")
        self.world.run_until(lambda: bool(browser.answers))
        self.assertEqual(browser.answers[0].status, 431)

    def test_relay_stops(self) -> None:
        """A relay that stops ends the connections of browsers."""
        self.serve()
        self.web.script = silent
        cookie = self.enter()
        browser = self.browse()
        browser.send(
            h11.Request(
                method="GET",
                target="/",
                headers=[("Host", self.host), ("Cookie", cookie)],
            ),
            h11.EndOfMessage(),
        )
        self.world.run_until(lambda: bool(self.web.connections))
        self.world.run_until(self.relay.stopService())
        self.world.run_until(lambda: browser.lost is not None)
