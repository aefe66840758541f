"""The method ``websocket``: binary messages of a WebSocket (RFC 6455).

Messages carry the stream, an empty one ends a direction, pings keep it alive. The
frames themselves are those of the library wsproto, which is an extra of the package.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import (
    WEBSOCKET,
    HeaderList,
    Opening,
    RequestHead,
)
from dwcloud.protocol.tunnelling.upgrade import wants_upgrade

__all__ = ["WebSocketFraming", "WebSocketMethod", "accept_websocket", "why_unavailable"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = b"13"


@cache
def _library() -> Any:
    """Wsproto, or None without it; loaded at the first WebSocket."""
    try:
        import wsproto.connection
        import wsproto.events
        import wsproto.utilities
    except ImportError:
        return None
    return wsproto


def why_unavailable() -> str:
    """Why WebSockets cannot be used here; empty if they can."""
    if _library() is None:
        return "the package wsproto is not installed (pip install 'dwcloud[websocket]')"
    return ""


def _accept(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` for a key (RFC 6455, 4.2.2)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest)


def _key(opening: Opening) -> bytes:
    return base64.b64encode(bytes.fromhex(opening.tunnel_id))


def accept_websocket(headers: HeaderList) -> bytes:
    """Return the value of ``Sec-WebSocket-Accept`` for a client's request.

    :raises RemoteProtocolError: if it asks for no WebSocket of this version, code 426.
    """
    fields = dict(headers)
    key = fields.get(b"sec-websocket-key", b"")
    version = fields.get(b"sec-websocket-version")
    if not (wants_upgrade(headers, "websocket") and key and version == _VERSION):
        raise RemoteProtocolError(
            "this resource is for WebSockets; a proxy on the way may have removed the "
            "request for one",
            426,
        )
    return _accept(key)


class WebSocketMethod:
    """One GET that becomes a WebSocket."""

    name = WEBSOCKET

    def requests(self, opening: Opening) -> tuple[RequestHead, ...]:
        """The one request."""
        return (
            RequestHead(
                "GET",
                opening.target(self.name),
                (
                    (b"connection", b"Upgrade"),
                    (b"upgrade", b"websocket"),
                    (b"sec-websocket-key", _key(opening)),
                    (b"sec-websocket-version", _VERSION),
                    (b"cache-control", b"no-store"),
                    (b"dwcloud-upgrade", opening.token.encode("ascii")),
                    *opening.headers,
                ),
            ),
        )

    def check_answer(
        self, opening: Opening, index: int, status: int, headers: HeaderList
    ) -> None:
        """Accept 101 that answers our key."""
        if status in (200, 426):
            raise RemoteProtocolError(
                "a proxy on the way removed the request for a WebSocket", status
            )
        if status != 101:
            raise RemoteProtocolError(f"the answer was HTTP status {status}", status)
        if dict(headers).get(b"sec-websocket-accept") != _accept(_key(opening)):
            raise RemoteProtocolError("that is another WebSocket than asked for", 0)


class WebSocketFraming:
    """Binary messages on a WebSocket that is open.

    :param client: whether this is the end that asked for it, which masks its frames.
    :raises LocalProtocolError: without the library.
    """

    def __init__(self, *, client: bool) -> None:
        if why_unavailable():
            raise LocalProtocolError(why_unavailable())
        connection = _library().connection
        kind = connection.ConnectionType
        self._connection: Any = connection.Connection(
            kind.CLIENT if client else kind.SERVER
        )
        self._events: Any = _library().events
        self._violation: Any = _library().utilities.ProtocolError
        self._message_size = 0
        self._closed = False
        self._end_sent = False
        self.ended = False

    def data(self, data: bytes) -> bytes:
        """Write data as a message."""
        return bytes(self._connection.send(self._events.BytesMessage(data=data)))

    def padding(self) -> bytes:
        """Write a ping."""
        return bytes(self._connection.send(self._events.Ping()))

    def end(self) -> bytes:
        """Write an empty message."""
        self._end_sent = True
        return self.data(b"")

    def farewell(self) -> bytes:
        """Write the closing handshake, or our part of it."""
        if self._closed:
            return b""
        return bytes(self._connection.send(self._events.CloseConnection(code=1000)))

    def receive_data(self, data: bytes) -> tuple[bytes, bytes]:
        """Read messages, in whatever fragments.

        :raises RemoteProtocolError: if they are not those of a tunnel, code 400.
        """
        answer, parts = b"", []
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, self._events.Ping):
                    # The newest alone needs an answer (RFC 6455, 5.5.3).
                    answer = bytes(self._connection.send(event.response()))
                elif isinstance(event, self._events.BytesMessage):
                    parts.append(self._take(event))
                elif isinstance(event, self._events.CloseConnection):
                    self._closed = True
                    if not (self.ended and self._end_sent):
                        raise RemoteProtocolError("the WebSocket was closed", 400)
                elif not isinstance(event, self._events.Pong):
                    raise RemoteProtocolError("a message is not binary", 400)
        except self._violation as e:
            raise RemoteProtocolError(f"that is not a WebSocket: {e}", 400) from e
        return b"".join(parts), answer

    def _take(self, event: Any) -> bytes:
        data = bytes(event.data)
        if self.ended and data:
            raise RemoteProtocolError("data came behind the end", 400)
        self._message_size += len(data)
        if event.frame_finished and event.message_finished:
            self.ended = self.ended or not self._message_size
            self._message_size = 0
        return data
