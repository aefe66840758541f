"""Opening byte streams through HTTP, and endpoints that do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import attrs
import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import ConnectTimeout, TunnelRefused
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.http_client import (
    HTTPAnswer,
    HTTPClientConnection,
    carrier_endpoint,
)
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import (
    HeaderList,
    Opening,
    TunnellingMethod,
    TunnellingMethods,
)
from dwcloud.protocol.tunnelling.upgrade import UpgradeMethod
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "METHODS",
    "OPENING_TIMEOUT",
    "Authenticator",
    "OpenedTunnel",
    "TunnelEndpoint",
    "connect_http",
    "open_tunnel",
]

METHODS = TunnellingMethods([UpgradeMethod()])
"""The tunnelling methods known here, the cheapest first."""

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


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A byte stream through HTTP to a resource of a service.

    :param url: where the service is.
    :param path: path of the tunnel resource, without the method's name.
    :param token: name of the protocol inside.
    :param method: name of the tunnelling method.
    :param carrier: endpoint of the connection to use instead of one to the URL's host,
        as through a proxy.
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
        timeout: float = OPENING_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._opening = Opening(url.path + path, token, headers)
        self._method = METHODS.get(method)
        self._authenticate = authenticate
        self._carrier = carrier or carrier_endpoint(reactor, url, timeout=timeout)
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
        connection = yield connect_http(self._carrier, self._url.authority)
        tunnel = yield open_tunnel(
            connection, self._opening, self._method, self._authenticate
        )
        return tunnel

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a tunnel and connect a protocol of the factory to it."""

        def opened(tunnel: OpenedTunnel) -> IProtocol:
            transport = cast(Any, tunnel.connection.transport)
            protocol = protocolFactory.buildProtocol(transport.getPeer())
            if protocol is None:
                tunnel.disconnect()
                raise ConnectError(string="the factory made no protocol")
            tunnel.connect(protocol)
            return protocol

        return self.open().addCallback(opened)

    def __repr__(self) -> str:
        return f"<TunnelEndpoint {self._url}{self._opening.path}>"
