"""The mediator as a Twisted service: sockets around a :class:`Mediator`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import attrs
from twisted.application.service import IService, Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from dwcloud.mediator.announcement import announced_endpoints
from dwcloud.mediator.configuration import Limits, MediatorConfiguration
from dwcloud.mediator.connections import MediatorConnectionFactory
from dwcloud.mediator.datagrams import MediatorDatagrams
from dwcloud.mediator.first_byte import FirstByteFactory
from dwcloud.mediator.mediator import Mediator
from dwcloud.net.dual_stack import takes_ipv4
from dwcloud.net.http_messages import (
    Application,
    Reply,
    Request,
    Routes,
    UpgradeRoute,
    front_page,
    json_response,
)
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.net.local_network import local_network
from dwcloud.net.observation import HEALTH_PATH, METRICS_PATH, Health, MetricsPage
from dwcloud.net.tunnel_server import TunnelServer
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.paths import (
    RELAYS_PATH,
    STATISTICS_PATH,
    TUNNEL_PATH,
    TUNNEL_TOKEN,
)
from dwcloud.protocol.stun.behaviour import BehaviourServer

__all__ = ["MediatorService", "StreamSocket", "UDPSocket"]

_MAX_DATAGRAM = 65_536


@attrs.frozen
class StreamSocket:
    """A TCP socket to listen on.

    :ivar description: the endpoint string.
    :ivar endpoint: the endpoint.
    :ivar kind: ``tcp`` for STUN and HTTP, ``https`` for HTTP alone.
    """

    description: str
    endpoint: IStreamServerEndpoint
    kind: str = "tcp"


@attrs.frozen
class UDPSocket:
    """A UDP socket to listen on.

    :ivar port: 0 takes a free one.
    :ivar interface: an IP address, empty for all of IPv4.
    :ivar discovery: the four sockets of NAT behaviour discovery (RFC 5780), of which
        this is the primary one; the others are opened with it.
    """

    port: int
    interface: str = ""
    discovery: BehaviourServer | None = None


class MediatorService(Service):
    """A mediator on some sockets.

    :param streams: TCP sockets.
    :param datagrams: UDP sockets.
    :param parts: services that run as long as this one.
    :param accounts: answers on paths below its prefix, given as a pair.
    :param pages: adds the pages for people with accounts, ``/`` among them.
    :param tls: for connections to the TCP sockets that begin as TLS.
    :ivar mediator: what answers.
    """

    _log = Logger(namespace="dwcloud.mediator")

    def __init__(
        self,
        reactor: Any,
        configuration: MediatorConfiguration,
        streams: Sequence[StreamSocket],
        datagrams: Sequence[UDPSocket],
        *,
        mediator: Mediator | None = None,
        parts: Sequence[IService] = (),
        accounts: tuple[str, Application] | None = None,
        pages: Callable[[Routes], None] | None = None,
        tls: IOpenSSLServerConnectionCreator | None = None,
    ) -> None:
        self._parts = parts
        self._accounts = accounts
        self._add_pages = pages
        self.mediator = mediator or Mediator(reactor, configuration)
        self._relay_urls = configuration.relay_urls
        self._reactor = reactor
        self._streams = streams
        self._datagrams = datagrams
        limits = configuration.limits
        self._stun = MediatorConnectionFactory(self.mediator)
        self._failed: list[str] = []
        self._tunnels = TunnelServer(
            reactor,
            self._routes(
                MetricsPage(self.mediator.families, configuration.metrics_readers)
            ),
        )
        self._http = HTTPServerFactory(
            self._tunnels,
            reactor,
            capacity=limits.anonymous_connections,
        )
        http = self._http.connections
        self.mediator.add_gauge("connections_http", lambda: len(http))
        self.mediator.add_gauge("connections_http_evicted", lambda: http.evicted)
        self._either, self._inside_tls = self._first_byte(tls, limits)
        self._ports: list[tuple[str, IListeningPort]] = []
        self._starting: list[Deferred[Any]] = []
        self._unwatch: Callable[[], None] | None = None

    def _first_byte(
        self, tls: IOpenSSLServerConnectionCreator | None, limits: Limits
    ) -> tuple[FirstByteFactory, FirstByteFactory]:
        """Return what tells protocols apart on a socket, and inside TLS on it."""
        make = partial(
            FirstByteFactory,
            self._reactor,
            self._stun,
            cast(Any, self._http),
            limit=limits.anonymous_silence,
            capacity=limits.anonymous_connections,
        )
        inside = make()
        outside = None
        if tls is not None:
            outside = TLSMemoryBIOFactory(tls, False, cast(Any, inside))
            outside.noisy = False
        return make(tls=cast(Any, outside)), inside

    @property
    def addresses(self) -> list[tuple[str, Address]]:
        """The sockets that are open: ``tcp``, ``https`` or ``udp``, and the address."""
        return [(kind, _address(port)) for kind, port in self._ports]

    def privilegedStartService(self) -> None:
        """Open all sockets.

        :raises CannotListenError: if an address is not free.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._open()

    def startService(self) -> None:
        """Open all sockets, unless that has been done."""
        super().startService()  # type: ignore[no-untyped-call]
        for part in self._parts:
            part.startService()
        self._open()
        network = local_network(self._reactor)
        self._unwatch = network.watchNetwork(self._announce)

    def stopService(self) -> Deferred[Any]:
        """Close all sockets and connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        starting, self._starting = self._starting, []
        for listening in starting:
            listening.cancel()
        ports, self._ports = self._ports, []
        closing = [maybeDeferred(port.stopListening) for _, port in ports]
        self._either.closeAll()
        self._inside_tls.closeAll()
        self._tunnels.stop()
        self._stun.closeAll("the mediator stops")
        self.mediator.stop()
        closing += [maybeDeferred(part.stopService) for part in self._parts]
        self._log.info("mediator stopped")
        return DeferredList(closing)

    def _open(self) -> None:
        if self._ports or self._starting:
            return
        self.mediator.start()
        try:
            for stream in self._streams:
                self._listen(stream)
            for socket in self._datagrams:
                self._serve_datagrams(socket)
        except (CannotListenError, OverflowError):
            for _, port in self._ports:
                port.stopListening()
            self._ports.clear()
            raise
        self._announce()

    def _announce(self) -> None:
        """Tell peers where this mediator takes UDP, as far as that is known here."""
        ports = [port for kind, port in self._ports if kind == "udp"]
        sockets = [_address(port) for port in ports]
        sockets += [
            Address("0.0.0.0", _address(port).port)
            for port in ports
            if takes_ipv4(port)
        ]
        found = local_network(self._reactor).localAddresses()
        self.mediator.announce(announced_endpoints(sockets, found))

    def _serve_datagrams(self, socket: UDPSocket) -> None:
        discovery = socket.discovery
        addresses: tuple[Address, ...] = (Address(socket.interface, socket.port),)
        if discovery is not None:
            addresses = discovery.sockets
        siblings = {
            address: MediatorDatagrams(self.mediator, discovery, address)
            for address in addresses
        }
        for address, protocol in siblings.items():
            protocol.siblings = siblings
            port = self._reactor.listenUDP(
                address.port,
                protocol,
                interface=address.host,
                maxPacketSize=_MAX_DATAGRAM,
            )
            self._opened(port, "udp")

    def _listen(self, stream: StreamSocket) -> None:
        factory: Any = self._http if stream.kind == "https" else self._either
        failures: list[Failure] = []
        listening = stream.endpoint.listen(cast(IProtocolFactory, factory))
        listening.addCallback(self._opened, stream.kind)
        listening.addErrback(failures.append)
        if failures:
            failures[0].raiseException()
        if not listening.called:
            # Some endpoints take their time; what fails then can only be told.
            self._starting.append(listening)
            listening.addCallback(lambda _: self._report(failures, stream))

    def _report(self, failures: list[Failure], stream: StreamSocket) -> None:
        for failure in failures:
            if not failure.check(CancelledError):
                self._failed.append(f"cannot listen on {stream.description}")
                self._log.error(
                    "cannot listen on {endpoint}: {reason}",
                    endpoint=stream.description,
                    reason=failure.getErrorMessage(),
                )

    def _opened(self, port: IListeningPort, kind: str) -> IListeningPort:
        self._ports.append((kind, port))
        self._log.info(
            "mediator listens on {kind} {address}",
            kind=kind,
            address=str(_address(port)),
        )
        return port

    def _problems(self) -> list[str]:
        return self._failed if self.running else ["the mediator stops"]

    def _routes(self, metrics: MetricsPage) -> Routes:
        routes = Routes()
        routes.add(
            "GET",
            f"{TUNNEL_PATH}/upgrade",
            UpgradeRoute(TUNNEL_TOKEN, cast(Any, self._stun.inside_http())),
        )
        for method in ("GET", "HEAD"):
            routes.add(method, STATISTICS_PATH, self._show_statistics)
            routes.add(method, RELAYS_PATH, self._list_relays)
            routes.add(method, METRICS_PATH, metrics)
            routes.add(method, HEALTH_PATH, Health(self._problems))
            routes.add(method, "/", _show_front_page)
        if self._accounts is not None:
            routes.mount(*self._accounts)
        if self._add_pages is not None:
            self._add_pages(routes)
        return routes

    def _show_statistics(self, request: Request) -> Reply:
        return json_response(200, self.mediator.snapshot())

    def _list_relays(self, request: Request) -> Reply:
        return json_response(200, {"relays": list(self._relay_urls)})


def _show_front_page(request: Request) -> Reply:
    return front_page(
        "mediator",
        "Servers and clients of dwcloud find each other here; there is nothing to see "
        "for a browser but the figures.",
        STATISTICS_PATH,
    )


def _address(port: IListeningPort) -> Address:
    host = port.getHost()
    if isinstance(host, IPv4Address | IPv6Address):
        return Address(host.host, host.port)
    return Address(str(host), 0)
