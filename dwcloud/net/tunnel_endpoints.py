"""Opening byte streams through HTTP, and endpoints that do."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import attrs
import h11
from twisted.internet.defer import Deferred, TimeoutError, inlineCallbacks
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import ConnectTimeout, TunnelRefused
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.net.message_client import open_messages
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    HeaderList,
    Opening,
    TunnellingMethod,
    TunnellingMethods,
)
from dwcloud.protocol.tunnelling.upgrade import UpgradeMethod
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "AUTO",
    "METHODS",
    "OPENING_TIMEOUT",
    "Authenticator",
    "OpenedTunnel",
    "TunnelEndpoint",
    "connect_http",
    "open_by",
    "open_tunnel",
]

METHODS = TunnellingMethods([UpgradeMethod()])
"""The tunnelling methods known here, the cheapest first."""

AUTO = "auto"
"""In place of a method's name: the cheapest that works."""

UPGRADE_TIMEOUT = 8.0
"""Seconds for ``upgrade`` before the next method is tried. A relay may let a client
wait for 5 s."""

_FINAL = (401, 403, 404, 503)
"""What the service itself answers: another method would change nothing."""

_log = Logger()

OPENING_TIMEOUT = 20.0
"""Seconds for a tunnel to open, its connection included."""

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


def connect_http(
    endpoint: IStreamClientEndpoint, authority: str
) -> Deferred[HTTPClientConnection]:
    """Connect to an HTTP server.

    :param authority: value of the ``Host`` field.
    """
    return cast(
        "Deferred[HTTPClientConnection]",
        connectProtocol(endpoint, HTTPClientConnection(authority)),
    )


@inlineCallbacks
def open_tunnel(
    connection: HTTPClientConnection,
    opening: Opening,
    method: TunnellingMethod,
    authenticate: Authenticator | None = None,
) -> Any:
    """Open a tunnel on a connection.

    :param authenticate: answers one 401; without it a 401 is a refusal.
    :return: a Deferred of an :class:`OpenedTunnel`; fails with TunnelRefused, after
        which the connection is closed.
    """
    try:
        answer = yield _request(connection, opening, method)
        if answer.status == 401 and authenticate is not None and connection.reusable:
            binding = channel_binding(cast(Any, connection.transport))
            proof = authenticate(answer, binding)
            # The proof takes the place of what was refused.
            headers = tuple(h for h in opening.headers if h[0] != b"authorization")
            opening = attrs.evolve(opening, headers=headers + proof)
            answer = yield _request(connection, opening, method)
        method.check_answer(opening, 0, answer.status, answer.headers)
    except RemoteProtocolError as e:
        connection.disconnect()
        raise TunnelRefused(answer.sentence or str(e), answer.status) from e
    except h11.RemoteProtocolError as e:
        raise TunnelRefused(f"the answer is not HTTP: {e}", 0) from e
    return OpenedTunnel(answer, connection)


def _request(
    connection: HTTPClientConnection, opening: Opening, method: TunnellingMethod
) -> Deferred[HTTPAnswer]:
    (head,) = method.requests(opening)
    return connection.request(head.method, head.target, head.headers)


@inlineCallbacks
def open_by(
    reactor: IReactorTime,
    method: str,
    connect: Callable[[], Deferred[HTTPClientConnection]],
    opening: Opening,
    authenticate: Authenticator | None = None,
    connection: HTTPClientConnection | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Any:
    """Open a tunnel by a method, or by the cheapest that works.

    :param method: its name, or ``auto``.
    :param connect: makes a connection to the service.
    :param connection: one that is open already.
    :return: a Deferred of an :class:`OpenedTunnel` or a
        :class:`~dwcloud.net.message_client.MessageTunnel`; fails with TunnelRefused or
        another relative of ConnectError.
    """
    if method != FINITE_MESSAGES:
        name = "upgrade" if method == AUTO else method
        if connection is None:
            connection = yield connect()
        try:
            trying: Deferred[Any] = open_tunnel(
                connection, opening, METHODS.get(name), authenticate
            )
            if method == AUTO:
                trying.addTimeout(UPGRADE_TIMEOUT, reactor)
            tunnel = yield trying
            return tunnel
        except (TunnelRefused, ConnectionLost, ConnectionDone, TimeoutError) as e:
            final = isinstance(e, TunnelRefused) and e.status in _FINAL
            if method != AUTO or final:
                raise
            refused = e
            _log.info(
                "{path}: method {method} does not work: {reason}",
                path=opening.path,
                method=name,
                reason=str(e),
            )
            connection = None
    try:
        tunnel = yield open_messages(
            reactor, connect, opening, random_bytes, authenticate, connection
        )
    except TunnelRefused as e:
        if method != AUTO or e.status in _FINAL:
            raise
        # The first method's reason says more of what is in the way.
        raise refused from e
    _log.info("{path}: method finite_messages works", path=opening.path)
    return tunnel


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A byte stream through HTTP to a resource of a service.

    :param url: where the service is.
    :param path: path of the tunnel resource, without the method's name.
    :param token: name of the protocol inside.
    :param method: name of the tunnelling method, or ``auto`` for the cheapest that
        works.
    :param carrier: endpoint of the connection to use instead of one to the URL's host,
        as through a proxy.
    :param proxies: those to use where there is no ``carrier``.
    :param interface: local IP address to connect from then, empty for any.
    :param timeout: seconds for everything.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        url: ServiceURL,
        path: str,
        token: str,
        *,
        method: str = "upgrade",
        headers: HeaderList = (),
        authenticate: Authenticator | None = None,
        carrier: IStreamClientEndpoint | None = None,
        proxies: Proxies | None = None,
        interface: str = "",
        timeout: float = OPENING_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._opening = Opening(url.path + path, token, headers)
        if method not in (AUTO, FINITE_MESSAGES):
            METHODS.get(method)
        self._method = method
        self._authenticate = authenticate
        self._carrier = carrier
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._timeout = timeout

    def open(self) -> Deferred[OpenedTunnel]:
        """Open a tunnel, not yet connected to a protocol.

        :return: fails with a ConnectError's relative; cancelling it gives up.
        """
        opening: Deferred[OpenedTunnel] = self._open()
        return opening.addTimeout(self._timeout, self._reactor, self._timed_out)

    def _timed_out(
        self, result: OpenedTunnel | Failure, timeout: float
    ) -> OpenedTunnel | Failure:
        if isinstance(result, Failure):
            raise ConnectTimeout(
                f"{self._url} did not answer within {timeout:g} seconds"
            )
        return result

    @inlineCallbacks
    def _open(self) -> Any:
        tunnel = yield open_by(
            self._reactor,
            self._method,
            self._connect,
            self._opening,
            self._authenticate,
        )
        return tunnel

    def _connect(self) -> Deferred[HTTPClientConnection]:
        if self._carrier is None:
            return self._proxies.connect(
                self._url, timeout=self._timeout, interface=self._interface
            )
        return connect_http(self._carrier, self._url.authority)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a tunnel and connect a protocol of the factory to it."""

        def opened(tunnel: OpenedTunnel) -> IProtocol:
            protocol = protocolFactory.buildProtocol(tunnel.peer)
            if protocol is None:
                tunnel.disconnect()
                raise ConnectError(string="the factory made no protocol")
            tunnel.connect(protocol)
            return protocol

        return self.open().addCallback(opened)

    def __repr__(self) -> str:
        return f"<TunnelEndpoint {self._url}{self._opening.path}>"
