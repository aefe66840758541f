"""A client's side of a relay (docs/protocol/relaying)."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import (
    ConfigurationError,
    ConnectTimeout,
    RelayRefused,
    TunnelRefused,
)
from dwcloud.net.http_client import HTTPAnswer, HTTPClientConnection
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_endpoints import (
    AUTO,
    METHODS,
    OPENING_TIMEOUT,
    OpenedTunnel,
    connect_http,
    open_by,
)
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import CLIENT_TOKEN, client_sessions_path
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    HeaderList,
    Opening,
)
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["RelayClientEndpoint"]

_MAX_REDIRECTS = 3


@implementer(IStreamClientEndpoint)
class RelayClientEndpoint:
    """A byte stream to a server by way of a relay.

    :param relay_url: ``http://HOST:PORT`` or the same with https.
    :param peer_name: the server, or the system of which any will do.
    :param client_name: how the server's log is to call this client.
    :param method: name of the tunnelling method, or ``auto``.
    :param carrier: endpoint of the connection to the relay, instead of a direct one.
    :param proxies: those to use where there is no ``carrier``.
    :param interface: local IP address to connect from then, empty for any.
    :param timeout: seconds for everything.
    :raises ConfigurationError: if the URL is not one.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        relay_url: str,
        peer_name: PeerName,
        *,
        client_name: str = "",
        method: str = AUTO,
        carrier: IStreamClientEndpoint | None = None,
        proxies: Proxies | None = None,
        interface: str = "",
        timeout: float = OPENING_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        try:
            self._url = ServiceURL.parse(relay_url)
            if method not in (AUTO, FINITE_MESSAGES):
                METHODS.get(method)
            self._method = method
        except ValueError as e:
            raise ConfigurationError(str(e)) from e
        self._peer_name = peer_name
        self._client_name = client_name
        self._carrier = carrier
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a stream and connect a protocol of the factory to it.

        :return: fails with RelayRefused if the relay has no such server, no idle
            connection of it or no room, with ConnectTimeout, or with another relative
            of ConnectError if the relay cannot be reached.
        """

        def opened(tunnel: OpenedTunnel) -> IProtocol:
            protocol = protocolFactory.buildProtocol(tunnel.peer)
            if protocol is None:
                tunnel.disconnect()
                raise ConnectError(string="the factory made no protocol")
            tunnel.connect(protocol)
            return protocol

        opening: Deferred[OpenedTunnel] = self._open()
        opening.addTimeout(self._timeout, self._reactor, self._timed_out)
        return opening.addCallback(opened)

    def _timed_out(
        self, result: OpenedTunnel | Failure, timeout: float
    ) -> OpenedTunnel | Failure:
        if isinstance(result, Failure):
            raise ConnectTimeout(
                f"relay {self._url} did not answer within {timeout:g} seconds"
            )
        return result

    @inlineCallbacks
    def _open(self) -> Any:
        """Ask for a session and open its tunnel, on one connection if possible."""
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            connection = yield self._connect(url)
            answer = yield self._create_session(connection, url)
            if answer.status != 307:
                break
            connection.disconnect()
            url = _redirected(url, answer)
        else:
            raise RelayRefused(f"relay {self._url} redirects without end", 307)
        try:
            path = _tunnel_path(url, answer)
        except RelayRefused:
            connection.disconnect()
            raise
        if not connection.reusable:
            connection = yield self._connect(url)
        opening = Opening(path, CLIENT_TOKEN, self._headers())
        try:
            tunnel = yield open_by(
                self._reactor,
                self._method,
                lambda: self._connect(url),
                opening,
                connection=connection,
            )
        except TunnelRefused as e:
            raise RelayRefused(f"relay {url}: {e}", e.status) from e
        return tunnel

    def _connect(self, url: ServiceURL) -> Deferred[HTTPClientConnection]:
        if self._carrier is None or url != self._url:
            return self._proxies.connect(
                url, timeout=self._timeout, interface=self._interface
            )
        return connect_http(self._carrier, url.authority)

    @inlineCallbacks
    def _create_session(self, connection: HTTPClientConnection, url: ServiceURL) -> Any:
        try:
            answer = yield connection.request(
                "POST",
                url.path + client_sessions_path(self._peer_name),
                ((b"cache-control", b"no-store"), *self._headers()),
            )
        except h11.RemoteProtocolError as e:
            raise RelayRefused(f"{url} is not a relay: {e}", 0) from e
        return answer

    def _headers(self) -> HeaderList:
        if not self._client_name:
            return ()
        return ((b"dwcloud-client", quote(self._client_name, safe="").encode("ascii")),)


def _redirected(url: ServiceURL, answer: HTTPAnswer) -> ServiceURL:
    """Read where a relay says that the server is."""
    try:
        location = urlsplit(urljoin(f"{url}/", answer.header("location") or ""))
        prefix, found, _ = location.path.partition("/relay/server/")
        if not found:
            raise ValueError(f"{location.geturl()!r} is not a relay's")
        return ServiceURL.parse(f"{location.scheme}://{location.netloc}{prefix}")
    except ValueError as e:
        raise RelayRefused(f"relay {url} redirects to nowhere: {e}", 307) from e


def _tunnel_path(url: ServiceURL, answer: HTTPAnswer) -> str:
    """Take the path of the tunnel out of the answer that created the session."""
    if answer.status != 201:
        what = answer.sentence or f"the answer was HTTP status {answer.status}"
        raise RelayRefused(f"relay {url}: {what}", answer.status)
    try:
        path = json.loads(answer.body)["url"]
        if not (isinstance(path, str) and path.startswith("/") and path.isascii()):
            raise ValueError(f"{path!r} is not a path")
    except (ValueError, KeyError, TypeError) as e:
        raise RelayRefused(f"{url} is not a relay: its answer has no url", 201) from e
    return url.path + path.removesuffix("/")
