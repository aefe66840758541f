"""How requests find the functions that answer them."""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs
import msgspec

from dwcloud.accounts.api.messages import Problem
from dwcloud.accounts.api.services import Services
from dwcloud.accounts.audit import Actor
from dwcloud.accounts.refusals import Refused, invalid
from dwcloud.net.http_messages import Reply, Request, Response

__all__ = [
    "BASE",
    "Access",
    "Answered",
    "Call",
    "Endpoint",
    "Parameter",
    "RoutingTable",
    "problem_response",
    "struct_response",
]

BASE = "/api/v1"
"""Path under which the API is."""

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
_PROBLEM_TYPE = "application/problem+json"
_encoder = msgspec.json.Encoder()


class Access(enum.Enum):
    """Who may use an endpoint."""

    ANYBODY = enum.auto()
    SIGNED_IN = enum.auto()
    OPERATOR = enum.auto()
    """Who has the key in the directory, on the machine itself."""


@attrs.frozen
class Parameter:
    """A parameter of the query: a whole number.

    :ivar least: the smallest that is taken.
    :ivar most: the greatest.
    """

    name: str
    least: int
    most: int
    description: str


@attrs.frozen(eq=False)
class Call:
    """A request to an endpoint, checked.

    :ivar session: who asks, None where that may be anybody.
    :ivar began_ms: when it came, milliseconds since 1970: before anything was looked up
        for it, so that a revocation meanwhile is not overtaken.
    :ivar access_token: by which that was shown; empty for anybody.
    :ivar by_cookie: whether it came as a cookie.
    :ivar path: the variable parts of the path.
    :ivar query: the parameters of the query that were given.
    :ivar body: as the endpoint's type says.
    :ivar address: the IP address of who asks.
    """

    services: Services
    request: Request
    address: str
    began_ms: int
    session: Actor | None = None
    access_token: str = ""
    by_cookie: bool = False
    path: Mapping[str, str] = attrs.field(factory=dict)
    query: Mapping[str, int] = attrs.field(factory=dict)
    body: Any = None

    @property
    def actor(self) -> Actor:
        """Who asks, where that is known."""
        assert self.session is not None
        return self.session


@attrs.frozen
class Answered:
    """An answer with header fields."""

    body: msgspec.Struct | None
    headers: tuple[tuple[str, str], ...] = ()


Outcome = msgspec.Struct | Answered | Reply | None


@attrs.frozen(kw_only=True)
class Endpoint:
    """One method of one path, and what there is to say about it.

    :ivar path: below :data:`BASE`, with variable parts such as ``{id}``.
    :ivar run: answers; its docstring describes it.
    :ivar tokens: whether a token for one system will do in place of a session.
    :ivar body: the type of the request's body, None for no body.
    :ivar answer: the type of the answer's body, None for no body.
    :ivar status: of an answer that is none of the refusals.
    :ivar media_type: of an answer's body that is of no type of ours, and has no end.
    :ivar refusals: statuses that mean a refusal, besides those that may always come.
    """

    method: str
    path: str
    run: Callable[[Call], Awaitable[Outcome]]
    access: Access = Access.SIGNED_IN
    tokens: bool = False
    body: type[msgspec.Struct] | None = None
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    media_type: str = ""
    query: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = ()

    def read_body(self, request: Request) -> Any:
        """Return the request's body.

        :raises Refused: 400 or 415, if it is not as it should be.
        """
        if self.body is None:
            if request.body.strip() not in (b"", b"{}"):
                raise invalid("This request has no body, or an empty object.")
            return None
        media_type = (request.header("content-type") or "").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            raise Refused(
                415,
                "unsupported_media_type",
                "The body must be JSON, with Content-Type: application/json.",
            )
        try:
            return msgspec.json.decode(request.body, type=self.body)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise invalid(f"The body is not as it should be: {error}.") from None
        except (UnicodeDecodeError, RecursionError):
            raise invalid("The body is not JSON in UTF-8.") from None

    def read_query(self, request: Request) -> dict[str, int]:
        """Return the parameters of the request's query.

        :raises Refused: 400, if one is unknown or not as it should be.
        """
        known = {parameter.name: parameter for parameter in self.query}
        values: dict[str, int] = {}
        for name, text in parse_qsl(request.query, keep_blank_values=True):
            parameter = known.get(name)
            if parameter is None:
                raise invalid(f"There is no parameter {name!r} here.")
            digits = text[:20]
            if not (digits.isascii() and digits.isdigit()) or not (
                parameter.least <= int(digits) <= parameter.most
            ):
                raise invalid(
                    f"{name} is a whole number from {parameter.least} to "
                    f"{parameter.most}."
                )
            values[name] = int(digits)
        return values

    async def answer_to(self, call: Call) -> Reply:
        """Answer a request."""
        outcome: Outcome = await self.run(call)
        headers: tuple[tuple[str, str], ...] = ()
        if isinstance(outcome, Answered):
            headers = outcome.headers
            outcome = outcome.body
        if outcome is None:
            return Response(self.status, headers=(*_HEADERS, *headers))
        if isinstance(outcome, msgspec.Struct):
            return struct_response(self.status, outcome, headers)
        return outcome


def struct_response(
    status: int, body: Any, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """An answer in JSON."""
    return Response(
        status, _encoder.encode(body), "application/json", (*_HEADERS, *headers)
    )


def problem_response(
    refused: Refused, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """A refusal (:rfc:`9457`)."""
    problem = Problem(
        type="about:blank",
        title=HTTPStatus(refused.status).phrase,
        status=refused.status,
        detail=refused.detail,
        code=refused.code,
    )
    if refused.retry_after > 0:
        headers = (*headers, ("Retry-After", str(math.ceil(refused.retry_after))))
    return Response(
        refused.status, _encoder.encode(problem), _PROBLEM_TYPE, (*_HEADERS, *headers)
    )


class RoutingTable:
    """Endpoints by path and method."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.endpoints = endpoints
        self._by_length: dict[int, list[tuple[list[str], Endpoint]]] = {}
        for endpoint in endpoints:
            parts = endpoint.path.strip("/").split("/")
            self._by_length.setdefault(len(parts), []).append((parts, endpoint))

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        """Return what answers, and the variable parts of the path.

        :param path: the whole target without its query.
        :raises Refused: 404 or 405.
        """
        parts = path.removeprefix(BASE).strip("/").split("/")
        allowed: set[str] = set()
        # A path without variable parts goes before one that would fit as well.
        found: list[tuple[int, Endpoint, dict[str, str]]] = []
        for pattern, endpoint in self._by_length.get(len(parts), ()):
            values = _match(pattern, parts)
            if values is None:
                continue
            allowed.add(endpoint.method)
            if endpoint.method == "GET" and not endpoint.media_type:
                allowed.add("HEAD")
            wanted = "GET" if method == "HEAD" and "HEAD" in allowed else method
            if endpoint.method == wanted:
                found.append((len(values), endpoint, values))
        if found:
            _, endpoint, values = min(found, key=lambda item: item[0])
            return endpoint, values
        if not allowed:
            raise Refused(404, "no_such_resource", "There is nothing at this path.")
        raise NotAllowed(allowed)


class NotAllowed(Refused):
    """A path that does not understand the method."""

    def __init__(self, allowed: set[str]) -> None:
        self.allowed = ", ".join(sorted(allowed))
        super().__init__(
            405, "method_not_allowed", f"This path understands {self.allowed}."
        )


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    values = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            values[wanted[1:-1]] = unquote(part, errors="replace")
        elif wanted != part:
            return None
    return values
