"""Connections through an HTTP proxy, by CONNECT (RFC 9110, 9.3.6)."""

from __future__ import annotations

from typing import Any, cast

import h11
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.errors import (
    ConnectTimeout,
    ProxyAuthenticationFailed,
    ProxyRefused,
    ProxyUnreachable,
)
from dwcloud.net.http_client import HTTPClientConnection, TLSEndpoint, carrier_endpoint
from dwcloud.net.http_messages import header_value
from dwcloud.net.proxy_credentials import ConnectionProof, ProxyCredentials
from dwcloud.net.tunnel_selector import Destination, TunnelSelector
from dwcloud.protocol.tunnelling.connect import (
    connect_request,
    connect_target,
    read_challenges,
    why_refused,
)
from dwcloud.protocol.tunnelling.methods import HeaderList
from dwcloud.protocol.tunnelling.prober import Carrier, ProbeReport
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
    endpoint: IStreamClientEndpoint = HostnameEndpoint(
        reactor, proxy.host, proxy.port, timeout=timeout, bindAddress=interface or None
    )
    if proxy.secure:
        endpoint = TLSEndpoint(reactor, optionsForClientTLS(proxy.host), endpoint)
    return _NamedCarrier(proxy, endpoint)


@implementer(IStreamClientEndpoint)
class _NamedCarrier:
    """Leads to a proxy, and says so where it cannot: nobody else is to be blamed."""

    def __init__(self, proxy: Proxy, endpoint: IStreamClientEndpoint) -> None:
        self._proxy = proxy
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with :class:`~dwcloud.errors.ProxyUnreachable`."""

        def failed(reason: Failure) -> Any:
            reason.trap(ConnectError, DNSLookupError)
            raise ProxyUnreachable(
                f"proxy {self._proxy} cannot be reached: "
                + reason.getErrorMessage().rstrip(".")
            ) from None

        return self._endpoint.connect(protocolFactory).addErrback(failed)


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
        proving = credentials.connection()
        while True:
            if connection is None or not connection.reusable:
                connection = HTTPClientConnection(self._target)
                yield connectProtocol(self._carrier, connection)
            proof = proving.authorization("CONNECT", self._target)
            answer = yield self._ask(connection, proof)
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
            if not proving.learn(challenges, bool(proof), self._reactor.seconds()):
                connection.disconnect()
                raise ProxyAuthenticationFailed(proving.rejected, 407)
            if not connection.reusable:
                connection.disconnect()
                _check_kept(self._proxy, proving)

    @inlineCallbacks
    def _ask(self, connection: HTTPClientConnection, proof: str) -> Any:
        head = connect_request(self._host, self._port, proof)
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
    :ivar tunnels: which tunnelling method leads where.
    """

    def __init__(
        self,
        reactor: Any,
        settings: ProxySettings = NO_PROXIES,
        tunnels: TunnelSelector | None = None,
    ) -> None:
        self._reactor = reactor
        self.settings = settings
        self.tunnels = tunnels or TunnelSelector(reactor)
        self._credentials: dict[Proxy, ProxyCredentials] = {}

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

    def reports(self, url: str) -> tuple[ProbeReport, ...]:
        """What the last probe of tunnelling methods to a service found.

        :param url: a service's URL that can be read.
        """
        destination = self.destination(ServiceURL.parse(url))
        return self.tunnels.memory.reports(destination.key)

    def destination(
        self,
        url: ServiceURL,
        *,
        timeout: float = CONNECT_TIMEOUT,
        interface: str = "",
        carrier: IStreamClientEndpoint | None = None,
    ) -> Destination:
        """Return the ways to an HTTP service, by a proxy or direct.

        A plain http URL has two of them behind a proxy: CONNECT, and requests that the
        proxy passes on as it does for web pages.

        :param interface: local IP address to connect from, empty for any.
        :param carrier: leads to the service in another way, the only one then.
        """
        proxy = self.settings.choose(url.host, url.port, secure=url.secure)

        def connect(by: Carrier) -> Deferred[HTTPClientConnection]:
            if by is Carrier.WEB:
                assert proxy is not None
                return self._forward(proxy, url, timeout, interface)
            endpoint = carrier or self.carrier(
                url, timeout=timeout, interface=interface
            )
            connecting: Deferred[Any] = connectProtocol(
                endpoint, HTTPClientConnection(url.authority)
            )
            return connecting.addCallback(lambda connection: connection.secured())

        carriers: tuple[Carrier, ...]
        key = str(url)
        if proxy is None or carrier is not None:
            carriers = (Carrier.DIRECT,)
        elif url.secure:
            carriers = (Carrier.CONNECT,)
        else:
            carriers = (Carrier.CONNECT, Carrier.WEB)
        if proxy is not None:
            key += f" through {proxy}"
        return Destination(url, key, carriers, connect)

    @inlineCallbacks
    def _forward(
        self, proxy: Proxy, url: ServiceURL, timeout: float, interface: str
    ) -> Any:
        """Connect to a proxy that passes requests on, whose users it knows by then."""
        credentials = self.credentials(proxy)
        if not credentials.may_try(self._reactor.seconds()):
            raise ProxyAuthenticationFailed(credentials.rejected, 407)

        carrier = proxy_carrier(
            self._reactor, proxy, timeout=timeout, interface=interface
        )
        connection: HTTPClientConnection | None = None
        passed_on = _PassedOn(self._reactor, url, credentials.connection())
        proven = proxy.username is None or (
            credentials.is_asked and not credentials.handshake
        )
        while True:
            if connection is None or not connection.reusable:
                connection = HTTPClientConnection(url.authority, passed_on)
                yield connectProtocol(carrier, connection)
            if proven:
                passed_on.in_use = True
                return connection
            # What the proxy wants to be proven by is found out with a small request.
            try:
                answer = yield connection.request("HEAD", f"{url.path}/")
            except h11.RemoteProtocolError as e:
                raise ProxyRefused(f"{proxy} is not an HTTP proxy: {e}", 0) from e
            # tinyproxy answers a wrong password by 401.
            if answer.status not in (401, 407):
                credentials.accepted()
                proven = True
            elif not passed_on.learn(answer.headers):
                connection.disconnect()
                raise ProxyAuthenticationFailed(passed_on.proving.rejected, 407)
            if not connection.reusable:
                connection.disconnect()
                _check_kept(proxy, passed_on.proving)

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


class _PassedOn:
    """Makes requests of one connection those that a proxy passes on.

    :ivar in_use: whether the connection belongs to those who tunnel.
    """

    def __init__(self, reactor: Any, url: ServiceURL, proving: ConnectionProof) -> None:
        self._reactor = reactor
        self._url = url
        self._proof = False
        self.proving = proving
        self.in_use = False

    def __call__(self, method: str, path: str) -> tuple[str, HeaderList]:
        target = f"{self._url.scheme}://{self._url.authority}{path}"
        proof = self.proving.authorization(method, target)
        self._proof = bool(proof)
        if not proof:
            return target, ()
        return target, ((b"proxy-authorization", proof.encode("latin-1")),)

    def keeps_open(self, status: int, headers: HeaderList) -> bool:
        """Whether the connection stays open after this answer.

        The proxy has to say so: some close after each answer and leave nothing in it
        that tells. Those that prove connections keep them, as HTTP/1.1 does by itself.
        """
        if self.proving.begun:
            return status != 407 or not self.in_use
        fields = [header_value(headers, n) for n in ("connection", "proxy-connection")]
        return any("keep-alive" in (field or "").lower() for field in fields)

    def renews_proof(self, status: int, headers: HeaderList) -> bool:
        """Take an answer; True if its request is worth another try."""
        if not self.in_use:
            return False
        if status != 407:
            self.proving.passed()
            return False
        # What proves a connection is of no use to it twice: another has to begin anew.
        return self.proving.begun or self.learn(headers)

    def learn(self, headers: HeaderList) -> bool:
        """Take an answer 407; True if another request is worth it."""
        return self.proving.learn(
            read_challenges(headers), self._proof, self._reactor.seconds()
        )


def _check_kept(proxy: Proxy, proving: ConnectionProof) -> None:
    """Refuse to prove one connection after the other without end."""
    if proving.begun:
        raise ProxyRefused(
            f"proxy {proxy} closed the connection that was being proven to it", 407
        )
