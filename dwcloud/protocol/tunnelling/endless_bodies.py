"""The methods ``post`` and ``get_post``: HTTP bodies without end.

``post`` is one POST whose body goes up while the body of its answer comes down.
``get_post`` has a GET, whose answer comes down, and a POST, whose body goes up; the
service knows by the tunnel's id that they belong together. Both bodies hold frames
(:mod:`dwcloud.protocol.tunnelling.framed_stream`).
"""

from __future__ import annotations

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import (
    GET_POST,
    POST,
    HeaderList,
    Opening,
    RequestHead,
)

__all__ = ["ENDLESS", "GetPostMethod", "PostMethod"]

ENDLESS = 2**53 - 1
"""``Content-Length`` of a body without end. More proxies pass such a body on as it
comes than one in chunks, and those that limit bodies refuse it at once."""

_FIELDS: HeaderList = (
    (b"cache-control", b"no-store"),
    (b"accept", b"application/octet-stream"),
)
_BODY: HeaderList = (
    (b"content-type", b"application/octet-stream"),
    (b"content-length", str(ENDLESS).encode("ascii")),
)


def _check(status: int, headers: HeaderList) -> None:
    if status != 200:
        raise RemoteProtocolError(f"the answer was HTTP status {status}", status)
    if dict(headers).get(b"dwcloud-tunnel") is None:
        raise RemoteProtocolError("the answer is not that of a tunnel", 0)


class PostMethod:
    """One POST, endless both ways."""

    name = POST

    def requests(self, opening: Opening) -> tuple[RequestHead, ...]:
        """The one request."""
        token = (b"dwcloud-upgrade", opening.token.encode("ascii"))
        headers = (*_FIELDS, *_BODY, token, *opening.headers)
        return (RequestHead("POST", opening.target(self.name), headers),)

    def check_answer(
        self, opening: Opening, index: int, status: int, headers: HeaderList
    ) -> None:
        """Accept 200 of a tunnel."""
        _check(status, headers)


class GetPostMethod:
    """An endless answer down and an endless body up."""

    name = GET_POST

    def requests(self, opening: Opening) -> tuple[RequestHead, ...]:
        """The GET, which opens the tunnel, and the POST, which joins it."""
        token = (b"dwcloud-upgrade", opening.token.encode("ascii"))
        target = opening.target(self.name)
        return (
            RequestHead("GET", target, (*_FIELDS, token, *opening.headers)),
            # Another URL, so that nothing takes it for the same resource.
            RequestHead("POST", f"{target}&up=1", _FIELDS + _BODY),
        )

    def check_answer(
        self, opening: Opening, index: int, status: int, headers: HeaderList
    ) -> None:
        """Accept 200 of a tunnel."""
        _check(status, headers)
