"""The portal's files as an HTTP server gives them out."""

from __future__ import annotations

import re
from typing import Any, cast

import attrs
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import crypto
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.http_messages import Request, Response, Routes
from dwcloud.net.identity import SystemIdentity
from dwcloud.web.pages import CONTENT_SECURITY_POLICY, add_pages


@attrs.define
class _Handle:
    """The OpenSSL connection of a transport."""

    certificate: crypto.X509

    def get_certificate(self) -> crypto.X509:
        return self.certificate


@attrs.define
class _Transport:
    """A TLS transport, as far as the portal looks at it."""

    handle: _Handle

    def getHandle(self) -> _Handle:
        return self.handle


@attrs.define
class _Connection:
    transport: _Transport | None = None


def request(
    path: str = "/",
    *,
    secure: bool = True,
    peer: str = "192.0.2.1",
    transport: _Transport | None = None,
    **fields: str,
) -> Request:
    """Return a request for a file of the portal."""
    headers = tuple(
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in fields.items()
    )
    connection = cast(Any, _Connection(transport))
    address = IPv4Address("TCP", peer, 4000)
    return Request("GET", path, "", headers, b"", address, secure, connection)


class PagesTests(SynchronousTestCase):
    """What a browser gets."""

    def setUp(self) -> None:
        self.routes = Routes()
        add_pages(self.routes)

    def ask(self, *arguments: Any, **named: Any) -> Response:
        """Return the answer to a request."""
        answer = self.routes(request(*arguments, **named))
        assert isinstance(answer, Response)
        return answer

    def test_page(self) -> None:
        """Each page is there, and all that it names is there, too."""
        for page_path, script in (("/", "app.js"), ("/gateway", "gateway.js")):
            page = self.ask(page_path)
            self.assertEqual((page.status, page.content_type[:9]), (200, "text/html"))
            named = re.findall(r'(?:src|href)="(/[^"]*)"', page.body.decode())
            self.assertIn(f"/portal/{script}", named)
            for path in named:
                self.assertEqual(self.ask(path).status, 200, path)

    def test_modules(self) -> None:
        """Each module finds those that it imports, and all are reached by the page."""
        reached, waiting = set(), {"app.js", "gateway.js"}
        while waiting:
            name = waiting.pop()
            answer = self.ask(f"/portal/{name}")
            self.assertEqual((answer.status, name), (200, name))
            self.assertEqual(answer.content_type, "text/javascript; charset=utf-8")
            reached.add(name)
            found = re.findall(r'from "\./([^"]+)"', answer.body.decode())
            waiting |= set(found) - reached
        self.assertIn("topology.js", reached)

    def test_no_markup_from_text(self) -> None:
        """No module has a way to make markup of a text, or names another host."""
        forbidden = re.compile(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function"
            r"|srcdoc|DOMParser|https?://(?!www\.w3\.org/2000/svg|\$\{)"
        )
        for name in self.names(".js"):
            found = forbidden.search(self.ask(f"/portal/{name}").body.decode())
            self.assertIsNone(found, f"{name}: {found}")

    def test_nothing_inline(self) -> None:
        """The page has no script or style of its own, which the policy would stop."""
        for path in ("/", "/gateway"):
            page = self.ask(path).body.decode()
            self.assertEqual(
                re.findall(r"<style|style=|<script>|\son[a-z]+=", page), []
            )

    def names(self, ending: str) -> list[str]:
        """Return the names of files that the page's modules and links reach."""
        from importlib.resources import files

        static = files("dwcloud.web").joinpath("static")
        names = [e.name for e in static.iterdir() if e.name.endswith(ending)]
        self.assertTrue(names)
        return names

    def test_headers(self) -> None:
        """Each file comes under the policy and with what else browsers heed."""
        for path in ("/", "/portal/app.js", "/portal/portal.css", "/portal/icon.svg"):
            headers = dict(self.ask(path).headers)
            policy = headers["Content-Security-Policy"]
            self.assertEqual(policy, CONTENT_SECURITY_POLICY)
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(headers["Referrer-Policy"], "no-referrer")
            self.assertEqual(headers["Cross-Origin-Opener-Policy"], "same-origin")
        for part in ("default-src 'none'", "frame-ancestors 'none'"):
            self.assertIn(part, CONTENT_SECURITY_POLICY)
        self.assertNotIn("unsafe", CONTENT_SECURITY_POLICY)

    def test_nothing_else(self) -> None:
        """No file is reached by another path, above all none outside."""
        for path in (
            "/portal/",
            "/portal/index.html",
            "/portal/../pages.py",
            "/portal/%2e%2e/pages.py",
            "/portal//app.js",
        ):
            self.assertEqual(self.ask(path).status, 404, path)

    def test_without_tls(self) -> None:
        """Without TLS a browser is sent to the same place with it."""
        answer = self.ask(secure=False, host="cloud.example.org:3345")
        self.assertEqual(answer.status, 308)
        location = dict(answer.headers)["Location"]
        self.assertEqual(location, "https://cloud.example.org:3345/")

    @given(st.text(st.characters(max_codepoint=255), max_size=40))
    def test_any_host(self, host: str) -> None:
        """Whatever the host is said to be, it cannot become anything else there."""
        answer = self.ask(secure=False, host=host)
        location = dict(answer.headers).get("Location")
        if location is None:
            self.assertEqual(answer.status, 403)
        else:
            self.assertRegex(location, r"\Ahttps://[A-Za-z0-9._:\[\]-]+/\Z")

    def test_behind_a_web_server(self) -> None:
        """A web server on this machine may have done the TLS; nobody else may."""
        forwarded = {"x_forwarded_proto": "https", "host": "a.example", "secure": False}
        self.assertEqual(self.ask(peer="127.0.0.1", **forwarded).status, 200)
        self.assertEqual(self.ask(peer="192.0.2.1", **forwarded).status, 308)

    def test_strict_transport(self) -> None:
        """Browsers are held to TLS where an authority has issued the certificate."""
        issued, own = SystemIdentity.generate().issue_server().certificates
        for certificate, strict in ((issued, True), (own, False)):
            loaded = crypto.load_certificate(crypto.FILETYPE_ASN1, certificate)
            transport = _Transport(_Handle(loaded))
            names = dict(self.ask(transport=transport).headers)
            self.assertEqual("Strict-Transport-Security" in names, strict)
