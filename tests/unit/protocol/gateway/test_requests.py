"""Requests of browsers: what is refused, and what a server is told."""

from __future__ import annotations

import h11
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.requests import accepts_websocket, websocket_accept
from tests.unit.protocol.gateway.heads import head, request

HOST = "x.relay.example.org"
ORIGIN = f"https://{HOST}"
SOCKET = f"""GET /live HTTP/1.1
Host: {HOST}
Connection: keep-alive, Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="""


def sent(text: str) -> dict[bytes, bytes]:
    """The fields that the server gets; one of a name at most."""
    told = request(text).to_server(HOST, "192.0.2.9")
    fields = dict(told.headers)
    assert len(fields) == len(list(told.headers)), told.headers
    return fields


class RefusalTests(SynchronousTestCase):
    """Requests that two programs might read in different ways."""

    def refused(self, text: str) -> int:
        error = self.assertRaises(RemoteProtocolError, request, text)
        assert error.code is not None
        return error.code

    def test_two_framings(self) -> None:
        """A body has one length."""
        both = f"POST / HTTP/1.1\nHost: {HOST}\nTransfer-Encoding: chunked\n"
        self.assertEqual(self.refused(both + "Content-Length: 5"), 400)

    def test_framings_that_h11_refuses(self) -> None:
        """Two lengths, codings other than chunked, blanks before the colon."""
        for field in (
            "Content-Length: 5\nContent-Length: 6",
            "Content-Length: +5",
            "Content-Length: 5, 6",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked\nTransfer-Encoding: identity",
            "Transfer-Encoding : chunked",
            "X-Bad: a\rb",
            "X-Bad: a\0b",
            "Host: other.relay.example.org",
        ):
            with self.assertRaises(h11.RemoteProtocolError, msg=field):
                head(f"POST / HTTP/1.1\nHost: {HOST}\n{field}")

    def test_old_version(self) -> None:
        """HTTP/1.0 has no chunks, and needs a host like all others."""
        old = f"POST / HTTP/1.0\nHost: {HOST}\nTransfer-Encoding: chunked"
        self.assertEqual(self.refused(old), 400)
        self.assertEqual(self.refused("GET / HTTP/1.0"), 400)

    def test_targets(self) -> None:
        """No absolute target, which may name another host than Host does."""
        for target in ("http://evil/", "evil:443", "x", "*"):
            self.assertEqual(self.refused(f"GET {target} HTTP/1.1\nHost: {HOST}"), 400)
        self.assertEqual(request(f"OPTIONS * HTTP/1.1\nHost: {HOST}").target, "*")

    def test_methods(self) -> None:
        """TRACE would show cookies to scripts, and CONNECT is for proxies."""
        for method in ("TRACE", "CONNECT"):
            self.assertEqual(self.refused(f"{method} / HTTP/1.1\nHost: {HOST}"), 405)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes is read as a request whole, or not at all."""
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(b"GET /" + data + b"\r\n\r\n")
        try:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                from dwcloud.protocol.gateway.requests import read_request

                told = read_request(event).to_server(HOST, "192.0.2.9")
                client = h11.Connection(h11.CLIENT)
                out = client.send(told)
                assert out is not None
                self.assertEqual(out.count(b"\r\n\r\n"), 1)
        except (h11.RemoteProtocolError, RemoteProtocolError):
            pass


class PassedOnTests(SynchronousTestCase):
    """What a server is told."""

    def test_target_untouched(self) -> None:
        """The path goes on as it came, with dots, escapes and all."""
        target = "/a/../..//%2e%2e/%00?x=/../&y=%2F"
        told = request(f"GET {target} HTTP/1.1\nHost: {HOST}")
        self.assertEqual(told.to_server(HOST, "::1").target, target.encode())

    def test_hop_by_hop(self) -> None:
        """What is for the next one only does not go on, named or known."""
        fields = sent(
            f"GET / HTTP/1.1\nHost: {HOST}\nConnection: close, X-Once, Cookie, Host\n"
            "X-Once: 1\nKeep-Alive: 5\nTE: trailers\nProxy-Authorization: x\n"
            "Upgrade: h2c\nHTTP2-Settings: x\nCookie: a=1\nAccept: */*"
        )
        self.assertEqual(
            set(fields),
            {
                b"host",
                b"accept",
                b"cookie",
                b"x-forwarded-for",
                b"x-forwarded-host",
                b"x-forwarded-proto",
            },
        )
        self.assertEqual(fields[b"host"], HOST.encode())

    def test_told_by_us_alone(self) -> None:
        """No browser says where it comes from, in any spelling."""
        fields = sent(
            f"GET / HTTP/1.1\nHost: {HOST}\nX-Forwarded-For: 127.0.0.1\n"
            "X_Forwarded_For: 127.0.0.1\nForwarded: for=127.0.0.1\n"
            "X-Real-IP: 127.0.0.1\nX-Forwarded-User: admin\nX-Original-URL: /admin\n"
            "Connection: X-Forwarded-Proto"
        )
        self.assertEqual(fields[b"x-forwarded-for"], b"192.0.2.9")
        self.assertEqual(fields[b"x-forwarded-proto"], b"https")
        self.assertEqual(len(fields), 4)

    def test_own_cookies_stay(self) -> None:
        """A server does not get what lets the browser in."""
        fields = sent(
            f"GET / HTTP/1.1\nHost: {HOST}\nCookie: __Host-dwcloud-web=s; a=1"
        )
        self.assertEqual(fields[b"cookie"], b"a=1")
        fields = sent(f"GET / HTTP/1.1\nHost: {HOST}\nCookie: __Host-dwcloud-web=s")
        self.assertNotIn(b"cookie", fields)

    def test_bodies(self) -> None:
        """A length stays one, chunks stay chunks, and an expectation ends here."""
        post = f"POST / HTTP/1.1\nHost: {HOST}\n"
        fields = sent(f"{post}Content-Length: 5\nExpect: 100-continue")
        self.assertEqual(fields[b"content-length"], b"5")
        self.assertNotIn(b"expect", fields)
        fields = sent(f"{post}Transfer-Encoding: chunked")
        self.assertEqual(fields[b"transfer-encoding"], b"chunked")
        self.assertNotIn(b"content-length", fields)

    def test_websocket(self) -> None:
        """A WebSocket's request goes on as one; no other upgrade does."""
        fields = sent(SOCKET)
        self.assertEqual(fields[b"upgrade"], b"websocket")
        self.assertEqual(fields[b"connection"], b"Upgrade")
        self.assertIn(b"sec-websocket-key", fields)
        for changed in (
            SOCKET.replace("GET", "POST"),
            SOCKET.replace("websocket\n", "websocket, h2c\n"),
            SOCKET.replace("keep-alive, Upgrade", "keep-alive"),
            SOCKET.replace("HTTP/1.1", "HTTP/1.0"),
            SOCKET + "\nContent-Length: 5",
        ):
            self.assertFalse(request(changed).wants_websocket)
            self.assertNotIn(b"upgrade", sent(changed))

    def test_websocket_answer(self) -> None:
        """Only who speaks WebSocket knows the answer (RFC 6455, 1.3)."""
        accept = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        asked = request(SOCKET)
        self.assertEqual(websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), accept)
        upgrade = (b"upgrade", b"websocket")
        right = (upgrade, (b"sec-websocket-accept", accept))
        self.assertTrue(accepts_websocket(asked, right))
        self.assertFalse(accepts_websocket(asked, (upgrade,)))
        wrong = (upgrade, (b"sec-websocket-accept", b"x"))
        self.assertFalse(accepts_websocket(asked, wrong))

    def test_repeated(self) -> None:
        """Only what does the same twice is sent twice."""
        self.assertTrue(request(f"GET / HTTP/1.1\nHost: {HOST}").may_be_repeated)
        self.assertFalse(request(SOCKET).may_be_repeated)
        self.assertFalse(request(f"POST / HTTP/1.1\nHost: {HOST}").may_be_repeated)
        with_body = f"GET / HTTP/1.1\nHost: {HOST}\nContent-Length: 1"
        self.assertFalse(request(with_body).may_be_repeated)


class ForeignTests(SynchronousTestCase):
    """Requests that pages of other hosts make a browser send."""

    def is_foreign(self, *fields: str, first: str = "GET / HTTP/1.1") -> bool:
        lines = "\n".join((first, f"Host: {HOST}", *fields))
        return request(lines).is_foreign(ORIGIN)

    def test_own_pages(self) -> None:
        """The host's own pages may do all, also those that tell no referrer."""
        post = "POST / HTTP/1.1"
        self.assertFalse(self.is_foreign(f"Origin: {ORIGIN}", first=post))
        self.assertFalse(
            self.is_foreign("Origin: null", "Sec-Fetch-Site: same-origin", first=post)
        )
        self.assertFalse(self.is_foreign("Sec-Fetch-Site: none", first=post))
        self.assertFalse(self.is_foreign())

    def test_links(self) -> None:
        """A link on any page may lead here."""
        for site in ("same-site", "cross-site"):
            self.assertFalse(
                self.is_foreign(
                    f"Sec-Fetch-Site: {site}",
                    "Sec-Fetch-Mode: navigate",
                    "Sec-Fetch-Dest: document",
                )
            )

    def test_other_pages(self) -> None:
        """Other systems' pages are other sites: no form, frame, image, socket."""
        site = "Sec-Fetch-Site: same-site"
        navigate, document = "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"
        post = "POST / HTTP/1.1"
        self.assertTrue(self.is_foreign(site, navigate, document, first=post))
        self.assertTrue(self.is_foreign(site, navigate, "Sec-Fetch-Dest: iframe"))
        self.assertTrue(self.is_foreign(site, "Sec-Fetch-Mode: no-cors"))
        self.assertTrue(self.is_foreign("Origin: https://evil.example", first=post))
        self.assertTrue(self.is_foreign("Origin: null", first=post))
        self.assertTrue(self.is_foreign(f"Origin: {ORIGIN}.evil", first=post))
        self.assertTrue(self.is_foreign(f"Origin: http://{HOST}", first=post))
        socket = request(f"{SOCKET}\nOrigin: https://y.relay.example.org")
        self.assertTrue(socket.is_foreign(ORIGIN))
        self.assertFalse(request(f"{SOCKET}\nOrigin: {ORIGIN}").is_foreign(ORIGIN))

    def test_navigation(self) -> None:
        """Only what opens a page is sent to sign in."""
        get = f"GET / HTTP/1.1\nHost: {HOST}\n"
        self.assertTrue(request(f"{get}Accept: text/html,*/*").is_navigation)
        self.assertFalse(request(f"{get}Accept: image/*").is_navigation)
        self.assertFalse(
            request(f"{get}Accept: text/html\nSec-Fetch-Mode: cors").is_navigation
        )
