"""Opening one byte stream through HTTP by one method."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import attrs
import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IAddress, IProtocol, IReactorTime

from dwcloud.errors import TunnelRefused
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.framed_client import WebSocketTunnel, open_bodies
from dwcloud.net.http_client import (
    HTTPAnswer,
    HTTPClientConnection,
    with_fresh_proofs,
)
from dwcloud.net.message_client import open_messages
from dwcloud.net.tunnel_echo import Tunnel, verify
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.endless_bodies import GetPostMethod, PostMethod
from dwcloud.protocol.tunnelling.methods import (
    ECHO_FIELD,
    ECHO_SIZE,
    FINITE_MESSAGES,
    GET_POST,
    METHOD_NAMES,
    POST,
    UPGRADE,
    WEBSOCKET,
    HeaderList,
    Opening,
    TunnellingMethod,
    TunnellingMethods,
)
from dwcloud.protocol.tunnelling.upgrade import UpgradeMethod
from dwcloud.protocol.tunnelling.websocket import WebSocketMethod, why_unavailable

__all__ = [
    "AHEAD",
    "AUTO",
    "METHODS",
    "Authenticator",
    "OpenedTunnel",
    "check_method",
    "open_by",
    "open_switched",
]

METHODS = TunnellingMethods(
    [UpgradeMethod(), WebSocketMethod(), PostMethod(), GetPostMethod()]
)
"""The methods of which one or two requests open a tunnel, the cheapest first."""

AHEAD = (UPGRADE,)
"""The methods by which a tunnel can be used before its request is answered."""

AUTO = "auto"
"""In place of a method's name: the cheapest that works."""

Authenticator = Callable[[HTTPAnswer, bytes], HeaderList]
"""Answers a 401 with the header fields of a proof.

Called with the answer and the connection's channel binding; raises
RemoteProtocolError if the answer asks for something else.
"""


@attrs.frozen(eq=False)
class OpenedTunnel:
    """A tunnel that is open and belongs to nobody yet.

    :ivar answer: the answer that opened it.
    """

    answer: HTTPAnswer
    connection: HTTPClientConnection

    @property
    def peer(self) -> IAddress:
        """The far end of the connection."""
        return cast(IAddress, cast(Any, self.connection.transport).getPeer())

    def connect(self, protocol: IProtocol) -> None:
        """Give the byte stream to ``protocol``."""
        self.connection.upgrade_to(protocol)

    def disconnect(self) -> None:
        """Close it unused."""
        self.connection.disconnect()


def check_method(name: str) -> str:
    """Return the name of a method, or ``auto``.

    :raises ValueError: if it is neither; the message lists those there are.
    """
    if name not in (AUTO, *METHOD_NAMES):
        raise ValueError(
            f"{name!r} is not a tunnelling method: expected auto or one of "
            + ", ".join(METHOD_NAMES)
        )
    return name


@inlineCallbacks
def open_switched(
    connect: Callable[[], Deferred[HTTPClientConnection]],
    opening: Opening,
    method: TunnellingMethod,
    authenticate: Authenticator | None = None,
    connection: HTTPClientConnection | None = None,
    ahead: bytes = b"",
) -> Any:
    """Open a tunnel that takes over the connection of its request.

    :param connect: makes a connection to the service.
    :param connection: one that is open already.
    :param ahead: what to send in the tunnel before the answer is there.
    :param authenticate: answers one 401; without it a 401 is a refusal.
    :return: a Deferred of an :class:`OpenedTunnel`; fails with TunnelRefused, after
        which the connection is closed.
    """
    if connection is None or not connection.reusable:
        connection = yield connect()
    try:
        asking = _request(connection, opening, method)
        if ahead:
            connection.send_ahead(ahead)
        answer = yield asking
        if answer.status == 401 and authenticate is not None:
            if not connection.reusable:
                connection.disconnect()
                connection = yield connect()
            # The proof belongs to the connection on which it goes.
            binding = channel_binding(cast(Any, connection.transport))
            proof = authenticate(answer, binding)
            opening = opening.proven(proof)
            answer = yield _request(connection, opening, method)
        method.check_answer(opening, 0, answer.status, answer.headers)
    except RemoteProtocolError as e:
        connection.disconnect()
        # A service says 426 to what a proxy made of our request.
        said = answer.sentence if answer.status != 426 else ""
        raise TunnelRefused(
            said or str(e), answer.status, by_service=answer.by_service
        ) from e
    except h11.RemoteProtocolError as e:
        raise TunnelRefused(f"the answer is not HTTP: {e}", 0) from e
    return OpenedTunnel(answer, connection)


def _request(
    connection: HTTPClientConnection, opening: Opening, method: TunnellingMethod
) -> Deferred[HTTPAnswer]:
    (head,) = method.requests(opening)
    return connection.request(head.method, head.target, head.headers)


def open_by(
    reactor: IReactorTime,
    method: str,
    connect: Callable[[], Deferred[HTTPClientConnection]],
    opening: Opening,
    authenticate: Authenticator | None = None,
    connection: HTTPClientConnection | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
    ahead: bytes | None = None,
) -> Deferred[Any]:
    """Open a tunnel by a method.

    :param method: its name.
    :param connect: makes a connection to the service.
    :param connection: one that is open already.
    :param ahead: if the echo is to go with the request, what follows it; without
        ``authenticate``, and for those methods alone that can do so (see
        :data:`AHEAD`).
    :return: a Deferred of a :class:`~dwcloud.net.tunnel_echo.UsableTunnel`; fails with
        TunnelRefused or another relative of ConnectError.
    """
    connections = [] if connection is None else [connection]

    def attempt() -> Deferred[Any]:
        first = connections.pop() if connections else None
        opened: Deferred[Any] = _open_once(
            reactor, method, connect, opening, authenticate, first, random_bytes, ahead
        )
        return opened

    opening_by: Deferred[Any] = with_fresh_proofs(attempt)
    return opening_by


@inlineCallbacks
def _open_once(
    reactor: IReactorTime,
    method: str,
    connect: Callable[[], Deferred[HTTPClientConnection]],
    opening: Opening,
    authenticate: Authenticator | None,
    connection: HTTPClientConnection | None,
    random_bytes: Callable[[int], bytes],
    ahead: bytes | None,
) -> Any:
    opening = attrs.evolve(opening, tunnel_id=random_bytes(16).hex())
    if method == FINITE_MESSAGES:
        messages = yield open_messages(
            reactor, connect, opening, random_bytes, authenticate, connection
        )
        return messages
    if method == WEBSOCKET and why_unavailable():
        raise TunnelRefused(why_unavailable(), 0)
    echo = (ECHO_FIELD, str(ECHO_SIZE).encode("ascii"))
    opening = attrs.evolve(opening, headers=(*opening.headers, echo))
    how = METHODS.get(method)
    if method in (POST, GET_POST):
        bodies = yield open_bodies(
            reactor, connect, opening, how, authenticate, connection
        )
        try:
            verified = yield verify(reactor, method, bodies, random_bytes(ECHO_SIZE))
        except TunnelRefused:
            # The second request may have been the one that needed another proof.
            if bodies.outdated is not None:
                raise bodies.outdated from None
            raise
    else:
        sent = random_bytes(ECHO_SIZE)
        early = ahead is not None and method in AHEAD and authenticate is None
        opened: OpenedTunnel = yield open_switched(
            connect,
            opening,
            how,
            authenticate,
            connection,
            sent + (ahead or b"") if early else b"",
        )
        tunnel: Tunnel = opened
        if method == WEBSOCKET:
            tunnel = WebSocketTunnel(reactor, opened.answer, opened.connection)
        verified = yield verify(reactor, method, tunnel, sent, sent_ahead=early)
    return verified
