"""Connections through an HTTP proxy, by CONNECT (RFC 9110, 9.3.6)."""

from __future__ import annotations

from typing import Any, cast

import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import ConnectTimeout, ProxyAuthenticationFailed, ProxyRefused
from dwcloud.net.http_client import HTTPClientConnection, TLSEndpoint, carrier_endpoint
from dwcloud.net.proxy_credentials import ProxyCredentials
from dwcloud.protocol.tunnelling.connect import (
    connect_request,
    connect_target,
    read_challenges,
    why_refused,
)
from dwcloud.protocol.tunnelling.methods import HeaderList
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["CONNECT_TIMEOUT", "Proxies", "ProxyEndpoint", "proxy_carrier"]

CONNECT_TIMEOUT = 15.0
"""Seconds for a connection through a proxy, authentication included."""


def proxy_carrier(
    reactor: Any,
    proxy: Proxy,
    *,
    timeout: float = CONNECT_TIMEOUT,
    interface: str = "",
) -> IStreamClientEndpoint:
    """Return the endpoint of the connection to the proxy itself.

    :param interface: local IP address to connect from, empty for any.
    """
    endpoint = HostnameEndpoint(
        reactor, proxy.host, proxy.port, timeout=timeout, bindAddress=interface or None
    )
    if not proxy.secure:
        return endpoint
    return TLSEndpoint(reactor, optionsForClientTLS(proxy.host), endpoint)


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """A connection to a port of a host through a proxy.

    :param credentials: shared by all connections through the proxy, so that what one
        has learned serves the next.
    :param carrier: leads to the proxy.
    :param timeout: seconds for everything.
    """

    def __init__(
        self,
        reactor: Any,
        proxy: Proxy,
        host: str,
        port: int,
        *,
        credentials: ProxyCredentials | None = None,
        carrier: IStreamClientEndpoint | None = None,
        timeout: float = CONNECT_TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._host = host
        self._port = port
        self._credentials = credentials or ProxyCredentials(proxy)
        self._carrier = carrier or proxy_carrier(reactor, proxy, timeout=timeout)
        self._timeout = timeout

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect a protocol of the factory to the host.

        :return: fails with ProxyAuthenticationFailed or ProxyRefused as the proxy
            says, with ConnectTimeout, or with another relative of ConnectError if the
            proxy cannot be reached. Cancelling it gives up.
        """

        def opened(connection: HTTPClientConnection) -> IProtocol:
            transport = cast(Any, connection.transport)
            protocol = protocolFactory.buildProtocol(transport.getPeer())
            if protocol is None:
                connection.disconnect()
                raise ConnectError(string="the factory made no protocol")
            connection.upgrade_to(protocol)
            return protocol

        opening: Deferred[HTTPClientConnection] = self._open()
        opening.addTimeout(self._timeout, self._reactor, self._timed_out)
        return opening.addCallback(opened)

    def _timed_out(
        self, result: HTTPClientConnection | Failure, timeout: float
    ) -> HTTPClientConnection | Failure:
        if isinstance(result, Failure):
            raise ConnectTimeout(
                f"proxy {self._proxy} gave no connection to {self._target} within "
                f"{timeout:g} seconds"
            )
        return result

    @property
    def _target(self) -> str:
        return connect_target(self._host, self._port)

    @inlineCallbacks
    def _open(self) -> Any:
        credentials = self._credentials
        if not credentials.may_try(self._reactor.seconds()):
            raise ProxyAuthenticationFailed(credentials.rejected, 407)
        connection: HTTPClientConnection | None = None
        while True:
            if connection is None or not connection.reusable:
                connection = HTTPClientConnection(self._target)
                yield connectProtocol(self._carrier, connection)
            answer = yield self._ask(connection)
            if 200 <= answer.status < 300:
                credentials.accepted()
                return connection
            # tinyproxy answers a wrong password by 401.
            if answer.status not in (401, 407):
                connection.disconnect()
                raise ProxyRefused(
                    f"proxy {self._proxy} does not connect to {self._target}: "
                    f"{why_refused(answer.status)}",
                    answer.status,
                )
            challenges = read_challenges(answer.headers)
            if not credentials.learn(challenges, self._reactor.seconds()):
                connection.disconnect()
                raise ProxyAuthenticationFailed(credentials.rejected, 407)
            if not connection.reusable:
                connection.disconnect()

    @inlineCallbacks
    def _ask(self, connection: HTTPClientConnection) -> Any:
        head = connect_request(
            self._host,
            self._port,
            self._credentials.authorization("CONNECT", self._target),
        )
        try:
            answer = yield connection.request(head.method, head.target, head.headers)
        except h11.RemoteProtocolError as e:
            raise ProxyRefused(f"{self._proxy} is not an HTTP proxy: {e}", 0) from e
        return answer

    def __repr__(self) -> str:
        return f"<ProxyEndpoint {self._target} through {self._proxy}>"


class Proxies:
    """The proxies of one program: settings, and what was learned of each.

    :ivar settings: which proxy leads where.
    """

    def __init__(self, reactor: Any, settings: ProxySettings = NO_PROXIES) -> None:
        self._reactor = reactor
        self.settings = settings
        self._credentials: dict[Proxy, ProxyCredentials] = {}
        self._forwarding: set[tuple[Proxy | None, ServiceURL]] = set()

    def credentials(self, proxy: Proxy) -> ProxyCredentials:
        """The one object that knows how to authenticate at ``proxy``."""
        return self._credentials.setdefault(proxy, ProxyCredentials(proxy))

    def endpoint(
        self,
        host: str,
        port: int,
        *,
        secure: bool = True,
        timeout: float = CONNECT_TIMEOUT,
        interface: str = "",
    ) -> IStreamClientEndpoint | None:
        """Return the way to a port by a proxy; None if none is to be used.

        :param secure: False only for plain HTTP.
        :param interface: local IP address to connect from, empty for any.
        """
        proxy = self.settings.choose(host, port, secure=secure)
        if proxy is None:
            return None
        return ProxyEndpoint(
            self._reactor,
            proxy,
            host,
            port,
            credentials=self.credentials(proxy),
            carrier=proxy_carrier(
                self._reactor, proxy, timeout=timeout, interface=interface
            ),
            timeout=timeout,
        )

    def connect(
        self,
        url: ServiceURL,
        *,
        timeout: float = CONNECT_TIMEOUT,
        interface: str = "",
    ) -> Deferred[HTTPClientConnection]:
        """Connect to an HTTP server, by a proxy or direct.

        A proxy that does not connect to the port of a plain http URL is asked to pass
        the requests on instead, as it does for web pages.

        :param interface: local IP address to connect from, empty for any.
        """
        connection = HTTPClientConnection(url.authority)
        proxy = self.settings.choose(url.host, url.port, secure=url.secure)
        if (proxy, url) in self._forwarding:
            return self._forward(cast(Proxy, proxy), url, timeout, interface)
        connecting: Deferred[Any] = connectProtocol(
            self.carrier(url, timeout=timeout, interface=interface), connection
        )

        def refused(reason: Failure) -> Any:
            if url.secure or proxy is None or reason.check(ProxyAuthenticationFailed):
                return reason
            reason.trap(ProxyRefused)
            self._forwarding.add((proxy, url))
            return self._forward(proxy, url, timeout, interface)

        return connecting.addErrback(refused)

    def _forward(
        self, proxy: Proxy, url: ServiceURL, timeout: float, interface: str
    ) -> Deferred[HTTPClientConnection]:
        credentials = self.credentials(proxy)

        def forwarded(method: str, path: str) -> tuple[str, HeaderList]:
            target = f"{url.scheme}://{url.authority}{path}"
            proof = credentials.authorization(method, target)
            if not proof:
                return target, ()
            return target, ((b"proxy-authorization", proof.encode("latin-1")),)

        connection = HTTPClientConnection(url.authority, forwarded)
        carrier = proxy_carrier(
            self._reactor, proxy, timeout=timeout, interface=interface
        )
        return cast(
            "Deferred[HTTPClientConnection]", connectProtocol(carrier, connection)
        )

    def carrier(
        self,
        url: ServiceURL,
        *,
        timeout: float = CONNECT_TIMEOUT,
        interface: str = "",
    ) -> IStreamClientEndpoint:
        """Return the endpoint of the connection to a URL, by a proxy or direct.

        :param interface: local IP address to connect from, empty for any.
        """
        through = self.endpoint(
            url.host,
            url.port,
            secure=url.secure,
            timeout=timeout,
            interface=interface,
        )
        return carrier_endpoint(
            self._reactor, url, timeout=timeout, interface=interface, through=through
        )
