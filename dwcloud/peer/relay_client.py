"""A client's side of a relay (docs/protocol/relaying)."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
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
from dwcloud.net.early_tls import EarlyTLSFactory
from dwcloud.net.http_client import (
    HTTPAnswer,
    HTTPClientConnection,
    with_fresh_proofs,
)
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_echo import UsableTunnel
from dwcloud.net.tunnel_endpoints import OPENING_TIMEOUT
from dwcloud.net.tunnel_opening import AHEAD, AUTO, check_method, open_by
from dwcloud.net.tunnel_selector import Destination
from dwcloud.peer.head_start import HeadStart
from dwcloud.protocol.grants.relay import authorization_of
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import (
    CLIENT_HEADER,
    CLIENT_TOKEN,
    CONNECT_SESSION_HEADER,
    client_sessions_path,
    new_tunnel_path,
)
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    HeaderList,
    Opening,
)
from dwcloud.protocol.tunnelling.prober import Candidate, Carrier
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["RelayClientEndpoint"]

_MAX_REDIRECTS = 3

_ASK_FIRST = (307, 404)
"""Answers after which a session is asked for: the server may be at another relay, and
an older relay knows no tunnels without a session."""


@implementer(IStreamClientEndpoint)
class RelayClientEndpoint:
    """A byte stream to a server by way of a relay.

    :param relay_url: ``http://HOST:PORT`` or the same with https.
    :param peer_name: the server, or the system of which any will do.
    :param client_name: how the server's log is to call this client.
    :param connect_session_id: how the relay's log is to call the connect session.
    :param method: name of the tunnelling method, or ``auto``.
    :param carrier: endpoint of the connection to the relay, instead of a direct one.
    :param proxies: those to use where there is no ``carrier``.
    :param interface: local IP address to connect from then, empty for any.
    :param timeout: seconds for everything.
    :param grant: what says that this client may be joined with the server.
    :param head_start: a connection to the relay that is being made already.
    :ivar selected_method: by which the last stream was opened; empty before.
    :raises ConfigurationError: if the URL is not one.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        relay_url: str,
        peer_name: PeerName,
        *,
        client_name: str = "",
        connect_session_id: str = "",
        method: str = AUTO,
        carrier: IStreamClientEndpoint | None = None,
        proxies: Proxies | None = None,
        interface: str = "",
        timeout: float = OPENING_TIMEOUT,
        grant: bytes | None = None,
        head_start: HeadStart | None = None,
    ) -> None:
        self._reactor = reactor
        try:
            self._url = ServiceURL.parse(relay_url)
            self._method = check_method(method)
        except ValueError as e:
            raise ConfigurationError(str(e)) from e
        self._peer_name = peer_name
        self._client_name = client_name
        self._connect_session_id = connect_session_id
        self._carrier = carrier
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._timeout = timeout
        self._grant = grant
        self._head_start = head_start
        self.selected_method = ""
        self._used: Destination | None = None
        self._flight_sent = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a stream and connect a protocol of the factory to it.

        :return: fails with RelayRefused if the relay has no such server, no idle
            connection of it or no room, with ConnectTimeout, or with another relative
            of ConnectError if the relay cannot be reached.
        """

        early = (
            protocolFactory if isinstance(protocolFactory, EarlyTLSFactory) else None
        )
        flight = b"" if early is None else early.first_flight()

        def opened(tunnel: UsableTunnel) -> IProtocol:
            if early is not None:
                early.flight_sent = self._flight_sent
            protocol = protocolFactory.buildProtocol(tunnel.peer)
            if protocol is None:
                tunnel.disconnect()
                raise ConnectError(string="the factory made no protocol")
            self.selected_method = tunnel.method
            tunnel.connect(protocol)
            return protocol

        opening: Deferred[UsableTunnel] = self._open(flight)
        opening.addTimeout(self._timeout, self._reactor, self._timed_out)
        return opening.addCallback(opened)

    def cut(self, seconds: float) -> None:
        """The stream opened last was lost, though neither end meant to end it.

        :param seconds: how long it lasted.
        """
        if self._used is not None and self.selected_method != FINITE_MESSAGES:
            self._proxies.tunnels.cut(self._used, seconds, self._method)

    def _timed_out(
        self, result: UsableTunnel | Failure, timeout: float
    ) -> UsableTunnel | Failure:
        if isinstance(result, Failure):
            raise ConnectTimeout(
                f"relay {self._url} did not answer within {timeout:g} seconds"
            )
        return result

    @inlineCallbacks
    def _open(self, flight: bytes) -> Any:
        """Open a tunnel, at the relay that has the server.

        :param flight: what the client says first.
        """
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            destination = self._proxies.destination(
                url,
                timeout=self._timeout,
                interface=self._interface,
                carrier=self._carrier if url == self._url else None,
            )
            try:
                tunnel = yield self._proxies.tunnels.use(
                    destination,
                    partial(self._attempt, destination, flight),
                    self._method,
                    tries=True,
                )
                self._used = destination
                return tunnel
            except _Redirected as e:
                url = e.url
            except TunnelRefused as e:
                raise RelayRefused(f"relay {url}: {e}", e.status) from e
        raise RelayRefused(f"relay {self._url} redirects without end", 307)

    @inlineCallbacks
    def _attempt(
        self, destination: Destination, flight: bytes, candidate: Candidate
    ) -> Any:
        """Open a tunnel by one method, with as few requests as the relay allows."""
        ahead = candidate.carrier is Carrier.DIRECT and candidate.method in AHEAD
        self._flight_sent = ahead
        begun = self._take_head_start(destination, candidate)
        connection = None if begun is None else (yield begun)
        attempt = partial(self._attempt_at_once, destination, flight, candidate)
        try:
            try:
                tunnel = yield attempt(connection)
            except (ConnectionLost, ConnectionDone):
                if connection is None:
                    raise
                # It waited for its request; that the relay had no more patience, or
                # no more room, says nothing of one that does not wait.
                tunnel = yield attempt(None)
            return tunnel
        except TunnelRefused as e:
            if not (e.by_service and e.status in _ASK_FIRST):
                raise
        self._flight_sent = False
        tunnel = yield self._attempt_with_session(destination, candidate)
        return tunnel

    def _take_head_start(
        self, destination: Destination, candidate: Candidate
    ) -> Deferred[HTTPClientConnection] | None:
        """The connection that was begun before, if this is what it leads to."""
        fits = candidate.carrier is Carrier.DIRECT and destination.url == self._url
        if self._head_start is None or not fits:
            return None
        return self._head_start.take()

    def _attempt_at_once(
        self,
        destination: Destination,
        flight: bytes,
        candidate: Candidate,
        connection: HTTPClientConnection | None,
    ) -> Deferred[UsableTunnel]:
        """Open a tunnel by one request, on a connection that is there or another."""
        path = destination.url.path + new_tunnel_path(self._peer_name)
        return open_by(
            self._reactor,
            candidate.method,
            lambda: destination.connect(candidate.carrier),
            Opening(path, CLIENT_TOKEN, (*self._authorization(), *self._headers())),
            connection=connection,
            ahead=flight if self._flight_sent else None,
        )

    @inlineCallbacks
    def _attempt_with_session(
        self, destination: Destination, candidate: Candidate
    ) -> Any:
        """Ask and open by one method, on one connection if possible."""
        url = destination.url
        connection, answer = yield with_fresh_proofs(
            lambda: self._create_session(destination, candidate)
        )
        try:
            if answer.status == 307:
                raise _Redirected(_redirected(url, answer))
            path = _tunnel_path(url, answer)
        except (RelayRefused, TunnelRefused, _Redirected):
            connection.disconnect()
            raise
        tunnel = yield open_by(
            self._reactor,
            candidate.method,
            lambda: destination.connect(candidate.carrier),
            Opening(path, CLIENT_TOKEN, self._headers()),
            connection=connection,
        )
        return tunnel

    @inlineCallbacks
    def _create_session(self, destination: Destination, candidate: Candidate) -> Any:
        """Ask for a session; returns the connection and the answer."""
        url = destination.url
        connection = yield destination.connect(candidate.carrier)
        try:
            answer = yield connection.request(
                "POST",
                url.path + client_sessions_path(self._peer_name),
                (
                    (b"cache-control", b"no-store"),
                    *self._authorization(),
                    *self._headers(),
                ),
            )
        except h11.RemoteProtocolError as e:
            raise RelayRefused(f"{url} is not a relay: {e}", 0) from e
        return connection, answer

    def _authorization(self) -> HeaderList:
        if self._grant is None:
            return ()
        return ((b"authorization", authorization_of(self._grant).encode("ascii")),)

    def _headers(self) -> HeaderList:
        fields = {
            CLIENT_HEADER: quote(self._client_name, safe=""),
            CONNECT_SESSION_HEADER: self._connect_session_id,
        }
        return tuple(
            (name.lower().encode("ascii"), value.encode("ascii"))
            for name, value in fields.items()
            if value
        )


class _Redirected(Exception):
    """The server is at another relay."""

    def __init__(self, url: ServiceURL) -> None:
        super().__init__(str(url))
        self.url = url


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
        if not answer.by_service:
            # A proxy's word, which another method may do without.
            raise TunnelRefused(what, answer.status)
        raise RelayRefused(f"relay {url}: {what}", answer.status)
    try:
        path = json.loads(answer.body)["url"]
        if not (isinstance(path, str) and path.startswith("/") and path.isascii()):
            raise ValueError(f"{path!r} is not a path")
    except (ValueError, KeyError, TypeError) as e:
        raise RelayRefused(f"{url} is not a relay: its answer has no url", 201) from e
    return url.path + path.removesuffix("/")
