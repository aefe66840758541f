"""Requests of browsers: what is let through, and how it is told to a server."""

from __future__ import annotations

import base64
import hashlib

import attrs
import h11

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.cookies import without_own_cookies
from dwcloud.protocol.gateway.fields import Fields, end_to_end, joined, values_of

__all__ = ["BrowserRequest", "accepts_websocket", "read_request", "websocket_accept"]

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NO_RETRY_LIMIT = frozenset({"GET", "HEAD", "OPTIONS"})

_ABOUT_THE_CLIENT = (
    b"forwarded",
    b"x-forwarded-",
    b"x-real-ip",
    b"x-client-ip",
    b"true-client-ip",
    b"x-original-",
    b"x-rewrite-url",
)
"""Beginnings of names: what proxies tell servers, so that no browser may say it."""


@attrs.frozen
class BrowserRequest:
    """The head of a request that is well-formed.

    :ivar target: path and query, as sent.
    :ivar headers: names in lower case.
    :ivar host: the value of ``Host``.
    :ivar has_body: whether a body follows.
    :ivar length: of the body; None if it is not told before.
    :ivar wants_websocket: whether it asks for a WebSocket (RFC 6455, 4.1).
    """

    method: str
    target: str
    headers: Fields
    host: str
    has_body: bool
    length: int | None
    wants_websocket: bool

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition("?")[2]

    @property
    def may_be_repeated(self) -> bool:
        """Whether sending it twice does what once does (RFC 9110, 9.2.2)."""
        return self.method in _NO_RETRY_LIMIT and not (
            self.has_body or self.wants_websocket
        )

    @property
    def is_navigation(self) -> bool:
        """Whether a person opens a page by it, as far as the browser tells."""
        if self.method not in ("GET", "HEAD") or self.wants_websocket:
            return False
        mode = self.field("sec-fetch-mode")
        if mode:
            return mode == "navigate" and self.field("sec-fetch-dest") == "document"
        return "text/html" in self.field("accept")

    def field(self, name: str) -> str:
        """The value of a field, empty without it."""
        return joined(self.headers, name.encode("ascii")).decode("latin-1")

    def is_foreign(self, origin: str) -> bool:
        """Tell whether another site's page makes this request.

        Systems below one domain are one site to a browser, whose cookies go along with
        requests that their pages make to each other. Opening a page by a link is
        nobody's harm.

        :param origin: of the host that is asked.
        """
        site, told = self.field("sec-fetch-site"), self.field("origin").lower()
        # A page that hides where it is from is "null" in Origin even to its own host.
        foreign = (
            site in ("same-site", "cross-site")
            if site
            else told
            not in (
                "",
                origin,
            )
        )
        return foreign and not self.is_navigation

    def to_server(self, authority: str, client: str) -> h11.Request:
        """Return the head that the server gets.

        :param authority: of the host, as the browser knows it.
        :param client: IP address of the browser.
        """
        fields = [(b"Host", authority.encode("ascii"))]
        for name, value in end_to_end(self.headers):
            if name in (b"host", b"content-length", b"expect"):
                continue
            # Many servers know no difference between the two characters.
            if name.replace(b"_", b"-").startswith(_ABOUT_THE_CLIENT):
                continue
            if name == b"cookie":
                value = without_own_cookies(value)
                if not value:
                    continue
            fields.append((name, value))
        fields += [
            (b"X-Forwarded-For", client.encode("ascii", "replace")),
            (b"X-Forwarded-Host", authority.encode("ascii")),
            (b"X-Forwarded-Proto", b"https"),
        ]
        if self.wants_websocket:
            fields += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        elif self.has_body and self.length is not None:
            fields.append((b"Content-Length", b"%d" % self.length))
        elif self.has_body:
            fields.append((b"Transfer-Encoding", b"chunked"))
        return h11.Request(
            method=self.method, target=self.target.encode("ascii"), headers=fields
        )


def read_request(head: h11.Request) -> BrowserRequest:
    """Look at the head of a request.

    h11 has refused what is no HTTP, two lengths that differ, and two hosts. What is
    left that two programs might read in different ways is refused here.

    :raises RemoteProtocolError: with the status of the refusal.
    """
    headers: Fields = tuple(head.headers)
    method, target = head.method.decode("ascii"), head.target.decode("ascii")
    if method in ("CONNECT", "TRACE"):
        raise RemoteProtocolError(f"{method} is not for this host", 405)
    if not target.startswith("/") and (method, target) != ("OPTIONS", "*"):
        raise RemoteProtocolError("the target of a request begins with '/'", 400)
    hosts = values_of(headers, b"host")
    if len(hosts) != 1:
        raise RemoteProtocolError("a request needs one Host", 400)
    lengths = values_of(headers, b"content-length")
    codings = values_of(headers, b"transfer-encoding")
    if codings and (lengths or head.http_version != b"1.1"):
        raise RemoteProtocolError(
            "a body has either Content-Length or Transfer-Encoding, and that only in "
            "HTTP/1.1",
            400,
        )
    length = int(lengths[0]) if lengths else None
    return BrowserRequest(
        method=method,
        target=target,
        headers=headers,
        host=hosts[0].decode("latin-1"),
        has_body=bool(codings) or bool(length),
        length=length,
        wants_websocket=_wants_websocket(head, method, bool(codings) or bool(length)),
    )


def _wants_websocket(head: h11.Request, method: str, has_body: bool) -> bool:
    """Any other upgrade is passed over: nobody is to talk past us to a server."""
    headers: Fields = tuple(head.headers)
    options = joined(headers, b"connection").lower().replace(b" ", b"").split(b",")
    return (
        method == "GET"
        and head.http_version == b"1.1"
        and not has_body
        and b"upgrade" in options
        and joined(headers, b"upgrade").strip().lower() == b"websocket"
        and len(values_of(headers, b"sec-websocket-key")) == 1
    )


def websocket_accept(key: str) -> bytes:
    """Return what a server answers to a key (RFC 6455, 4.2.2)."""
    digest = hashlib.sha1(key.strip().encode("latin-1") + _WEBSOCKET_GUID).digest()
    return base64.b64encode(digest)


def accepts_websocket(request: BrowserRequest, headers: Fields) -> bool:
    """Tell whether an answer 101 is that of a WebSocket server to this request."""
    return joined(headers, b"upgrade").strip().lower() == b"websocket" and joined(
        headers, b"sec-websocket-accept"
    ).strip() == websocket_accept(request.field("sec-websocket-key"))
