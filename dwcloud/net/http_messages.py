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
    from dwcloud.net.http_server import HTTPServerProtocol

__all__ = [
    "Application",
    "Reply",
    "Request",
    "Response",
    "Routes",
    "SwitchProtocols",
    "UpgradeRoute",
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


Reply = Union[Response, SwitchProtocols]  # noqa: UP007 - evaluated with a Deferred
Application = Callable[[Request], "Reply | Deferred[Reply]"]
"""Answers requests, at once or later; a Deferred is cancelled if the client leaves."""


def plain_response(
    status: int, sentence: str = "", headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """An answer that a person at a terminal can read."""
    text = sentence or HTTPStatus(status).phrase
    return Response(status, f"{text}\n".encode(), headers=headers)


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

    def add(self, method: str, path: str, application: Application) -> None:
        """Answer ``method`` on ``path`` by ``application``."""
        self._routes.setdefault(path, {})[method] = application

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer by the application of the path; 404 or 405 where there is none."""
        by_method = self._routes.get(request.path)
        if by_method is None:
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
