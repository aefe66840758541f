"""What the gateway itself says to a browser, in plain words."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from http import HTTPStatus

from twisted.python.failure import Failure

from dwcloud.errors import AccessDenied, IdentityMismatch, ServiceRefused
from dwcloud.net.http_messages import Response, plain_response
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.gateway.requests import BrowserRequest

__all__ = ["Trouble", "page", "trouble_of"]

_STYLE = (
    ":root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}"
    "body{max-width:40rem;margin:10vh auto;padding:0 1rem}"
    "h1{font-size:1.4rem}button{font:inherit;padding:.4rem 1rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class Trouble(Exception):
    """A request that cannot be served.

    :ivar status: of the answer.
    :ivar title: of the page.
    :ivar sentences: for who reads it.
    :ivar headers: further fields.
    :ivar result: what figures call it, see :data:`~.statistics.REQUESTS`.
    """

    def __init__(
        self,
        status: int,
        title: str,
        *sentences: str,
        headers: tuple[tuple[str, str], ...] = (),
        result: str = "refused",
    ) -> None:
        super().__init__(title)
        self.result = result
        self.status = status
        self.title = title
        self.sentences = sentences
        self.headers = headers

    def response(self, request: BrowserRequest | None) -> Response:
        """The answer: a page for a person, a sentence for a program."""
        if request is not None and request.is_navigation:
            paragraphs = "".join(f"<p>{escape(s)}</p>\n" for s in self.sentences)
            retry = '<p><a href="/">Try again</a></p>\n'
            return page(self.status, self.title, paragraphs + retry, self.headers)
        text = " ".join((f"{self.title}.", *self.sentences))
        return plain_response(self.status, text, (*_HEADERS, *self.headers))


def page(
    status: int, title: str, body: str, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Return a page.

    :param body: in HTML, of which what others have said is escaped.
    """
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}</body></html>\n"
    )
    return Response(
        status, text.encode(), "text/html; charset=utf-8", (*_HEADERS, *headers)
    )


def trouble_of(failure: Failure) -> Trouble:
    """Put into words why there is no stream to the server."""
    error = failure.value
    reason = failure.getErrorMessage().rstrip(".") + "."
    reason = reason[:1].upper() + reason[1:]
    if isinstance(error, RemoteProtocolError) and error.code == HTTPStatus.NOT_FOUND:
        return Trouble(
            502,
            "The server is offline",
            "It has no connection to this relay. It may be switched off, without "
            "Internet, or use another relay.",
            result="offline",
        )
    if isinstance(error, RemoteProtocolError):
        return Trouble(
            503,
            "The server is busy",
            f"{reason} Try again in a few seconds.",
            headers=(("Retry-After", "5"),),
            result="busy",
        )
    if isinstance(error, AccessDenied):
        return Trouble(
            403,
            "The server does not let you in",
            reason,
            "The owner of the system decides who may see it, and whether browsers may.",
            result="denied",
        )
    if isinstance(error, ServiceRefused):
        return Trouble(
            502,
            "There is no web page to see",
            reason,
            "Browsers see the service that is published as web, or the only one.",
            result="no_service",
        )
    if isinstance(error, IdentityMismatch):
        return Trouble(
            502,
            "This is not the right server",
            f"{reason} Nothing was sent to it.",
            result="no_answer",
        )
    return Trouble(502, "The server does not answer", reason, result="no_answer")
