"""What an HTTP server hands to an application, and what it gets back."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Union

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory

from dwcloud.protocol.tunnelling.upgrade import wants_upgrade

if TYPE_CHECKING:
    from dwcloud.net.http_bodies import BodyReceiver, BodyStream
    from dwcloud.net.http_server import HTTPServerProtocol

__all__ = [
    "Application",
    "Reply",
    "Request",
    "Response",
    "Routes",
    "StreamBodies",
    "SwitchProtocols",
    "UpgradeRoute",
    "front_page",
    "header_value",
    "json_response",
    "plain_response",
]

HeaderList = tuple[tuple[bytes, bytes], ...]


def header_value(headers: HeaderList, name: str) -> str | None:
    """Return the value of a header field, None without one.

    :param name: in any case; the names in ``headers`` are in lower case.
    """
    wanted = name.lower().encode("ascii")
    values = [value for key, value in headers if key == wanted]
    # RFC 9110, 5.3: several fields of one name are one list.
    return b", ".join(values).decode("latin-1") if values else None


@attrs.frozen(eq=False)
class Request:
    """One request, whole.

    :ivar path: the target without query, as sent.
    :ivar peer: address of the connection's far end.
    :ivar secure: whether the connection is TLS.
    :ivar connection: the connection it came on, for what is bound to that.
    """

    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    peer: IAddress
    secure: bool
    connection: HTTPServerProtocol

    def header(self, name: str) -> str | None:
        """The value of a header field, None without one."""
        return header_value(self.headers, name)


@attrs.frozen
class Response:
    """An ordinary answer."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False


@attrs.frozen(eq=False)
class SwitchProtocols:
    """The answer 101: the connection belongs to ``protocol`` from here on.

    :ivar token: the name of the protocol for the ``Upgrade`` field.
    """

    protocol: IProtocol
    token: str
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen(eq=False)
class StreamBodies:
    """The answer 200 to a request whose body, or whose answer's body, has no end.

    :ivar start: called with the two bodies; returns who receives the request's.
    :ivar headers: further fields of the answer.
    :ivar late: whether the answer begins only when its body is ended.
    :ivar protocol: told of the loss of the connection if that comes before the start.
    :ivar content_type: of the answer's body.
    """

    start: Callable[[BodyStream], BodyReceiver]
    headers: tuple[tuple[str, str], ...] = ()
    late: bool = False
    protocol: IProtocol | None = None
    content_type: str = "application/octet-stream"


# Evaluated together with a Deferred, which knows no "|".
Reply = Union[Response, SwitchProtocols, StreamBodies]  # noqa: UP007
Application = Callable[[Request], "Reply | Deferred[Reply]"]
"""Answers requests, at once or later; a Deferred is cancelled if the client leaves.

It may have a method ``streams(method, path)`` that tells which requests it wants to
answer before their body, with :class:`StreamBodies`.
"""


def plain_response(
    status: int, sentence: str = "", headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """An answer that a person at a terminal can read."""
    text = sentence or HTTPStatus(status).phrase
    return Response(status, f"{text}\n".encode(), headers=headers)


def front_page(service: str, sentence: str, statistics: str) -> Response:
    """What a browser gets that found its way to a service.

    :param service: what it is: ``"relay"``.
    :param sentence: what it is there for.
    :param statistics: path of its figures.
    """
    title = f"dwcloud {service}"
    page = (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n<p>{sentence}</p>\n"
        f'<p><a href="{statistics}">Figures</a></p></body></html>\n'
    )
    return Response(200, page.encode(), "text/html; charset=utf-8")


def json_response(
    status: int, value: object, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """An answer in JSON, one line."""
    body = json.dumps(value, separators=(", ", ": ")).encode() + b"\n"
    return Response(status, body, "application/json", headers)


class Routes:
    """An application made of applications by exact path."""

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Application]] = {}
        self._mounted: dict[str, Application] = {}

    def add(self, method: str, path: str, application: Application) -> None:
        """Answer ``method`` on ``path`` by ``application``."""
        self._routes.setdefault(path, {})[method] = application

    def mount(self, prefix: str, application: Application) -> None:
        """Answer by ``application`` on all paths below ``prefix``."""
        self._mounted[prefix.rstrip("/") + "/"] = application

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer by the application of the path; 404 or 405 where there is none."""
        by_method = self._routes.get(request.path)
        if by_method is None:
            for prefix, mounted in self._mounted.items():
                if request.path.startswith(prefix):
                    return mounted(request)
            return plain_response(404, f"There is nothing at {request.path} here.")
        application = by_method.get(request.method)
        if application is None:
            return plain_response(
                405,
                f"{request.path} does not understand {request.method}.",
                (("Allow", ", ".join(sorted(by_method))),),
            )
        return application(request)


class UpgradeRoute:
    """An application that switches a connection to a protocol of a factory."""

    def __init__(self, token: str, factory: IProtocolFactory) -> None:
        self._token = token
        self._factory = factory

    def __call__(self, request: Request) -> Reply:
        """Switch if the request asks for the protocol; 426 if it does not."""
        if not wants_upgrade(request.headers, self._token):
            return plain_response(
                426,
                f"This resource is for connections with 'Upgrade: {self._token}'.",
                (("Upgrade", self._token), ("Connection", "Upgrade")),
            )
        protocol = self._factory.buildProtocol(request.peer)
        if protocol is None:
            return plain_response(503, "This service takes no more connections now.")
        return SwitchProtocols(protocol, self._token)
