"""Opening byte streams through HTTP, and endpoints that do."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import ConnectTimeout
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_echo import UsableTunnel
from dwcloud.net.tunnel_opening import AUTO, Authenticator, check_method, open_by
from dwcloud.net.tunnel_selector import Destination
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    HeaderList,
    Opening,
)
from dwcloud.protocol.tunnelling.prober import Candidate, ProbeReport
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["OPENING_TIMEOUT", "TunnelEndpoint", "probe_methods"]

OPENING_TIMEOUT = 20.0
"""Seconds for a tunnel to open, its connection included."""


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
        method: str = AUTO,
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
        self._method = check_method(method)
        self._authenticate = authenticate
        self._carrier = carrier
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._timeout = timeout

    def open(self) -> Deferred[UsableTunnel]:
        """Open a tunnel, not yet connected to a protocol.

        :return: fails with a ConnectError's relative; cancelling it gives up.
        """
        opening: Deferred[UsableTunnel] = self._open()
        return opening.addTimeout(self._timeout, self._reactor, self._timed_out)

    def _timed_out(
        self, result: UsableTunnel | Failure, timeout: float
    ) -> UsableTunnel | Failure:
        if isinstance(result, Failure):
            raise ConnectTimeout(
                f"{self._url} did not answer within {timeout:g} seconds"
            )
        return result

    def cut(self, method: str, seconds: float) -> None:
        """A tunnel was lost, though nobody meant to end it.

        :param method: the tunnel's.
        :param seconds: how long it lasted.
        """
        if method != FINITE_MESSAGES:
            self._proxies.tunnels.cut(self._destination(), seconds, self._method)

    def _destination(self) -> Destination:
        return self._proxies.destination(
            self._url,
            timeout=self._timeout,
            interface=self._interface,
            carrier=self._carrier,
        )

    def _open(self) -> Any:
        destination = self._destination()

        def attempt(candidate: Candidate) -> Deferred[UsableTunnel]:
            opening: Deferred[UsableTunnel] = open_by(
                self._reactor,
                candidate.method,
                lambda: destination.connect(candidate.carrier),
                self._opening,
                self._authenticate,
            )
            return opening

        return self._proxies.tunnels.use(destination, attempt, self._method)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Open a tunnel and connect a protocol of the factory to it."""

        def opened(tunnel: UsableTunnel) -> IProtocol:
            protocol = protocolFactory.buildProtocol(tunnel.peer)
            if protocol is None:
                tunnel.disconnect()
                raise ConnectError(string="the factory made no protocol")
            tunnel.connect(protocol)
            return protocol

        return self.open().addCallback(opened)

    def __repr__(self) -> str:
        return f"<TunnelEndpoint {self._url}{self._opening.path}>"


def probe_methods(
    reactor: IReactorTime,
    url: ServiceURL,
    *,
    proxies: Proxies | None = None,
    interface: str = "",
) -> Deferred[tuple[ProbeReport, ...]]:
    """Try every tunnelling method to a service, and tell what became of each.

    :param url: of a mediator or a relay.
    :param proxies: those to use.
    :param interface: local IP address to connect from, empty for any.
    :return: fires after 12 s at most, also if no method works; in the order of cost.
        Cancelling it gives up.
    """
    proxies = proxies or Proxies(reactor)
    destination = proxies.destination(url, interface=interface)
    return proxies.tunnels.survey(destination)
