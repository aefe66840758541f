"""The mediator as a Twisted service: sockets around a :class:`Mediator`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import attrs
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.connections import MediatorConnectionFactory
from dwcloud.mediator.datagrams import MediatorDatagrams
from dwcloud.mediator.first_byte import FirstByteFactory
from dwcloud.mediator.mediator import Mediator
from dwcloud.net.http_messages import (
    Reply,
    Request,
    Routes,
    UpgradeRoute,
    json_response,
)
from dwcloud.net.http_server import HTTPServerFactory
from dwcloud.net.message_server import MessageTunnels
from dwcloud.protocol.addresses import Address

__all__ = [
    "STATISTICS_PATH",
    "TUNNEL_PATH",
    "TUNNEL_TOKEN",
    "MediatorService",
    "StreamSocket",
    "UDPSocket",
]

TUNNEL_PATH = "/mediator/tunnel/upgrade"
"""Where HTTP carries the control channel."""
TUNNEL_TOKEN = "dwcloud-mediator"
"""The name of the control channel in the ``Upgrade`` field."""
STATISTICS_PATH = "/mediator/statistics/"
"""Where the counters are shown."""

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
    """

    port: int
    interface: str = ""


class MediatorService(Service):
    """A mediator on some sockets.

    :param streams: TCP sockets.
    :param datagrams: UDP sockets.
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
    ) -> None:
        self.mediator = mediator or Mediator(reactor, configuration)
        self._reactor = reactor
        self._streams = streams
        self._datagrams = datagrams
        limits = configuration.limits
        self._stun = MediatorConnectionFactory(self.mediator)
        self._tunnels = MessageTunnels(reactor, self._routes())
        self._http = HTTPServerFactory(
            self._tunnels,
            reactor,
            capacity=limits.anonymous_connections,
        )
        http = self._http.connections
        self.mediator.add_gauge("connections_http", lambda: len(http))
        self.mediator.add_gauge("connections_http_evicted", lambda: http.evicted)
        self._either = FirstByteFactory(
            reactor,
            self._stun,
            self._http,
            limit=limits.anonymous_silence,
            capacity=limits.anonymous_connections,
        )
        self._ports: list[tuple[str, IListeningPort]] = []
        self._starting: list[Deferred[Any]] = []

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
        self._open()

    def stopService(self) -> Deferred[Any]:
        """Close all sockets and connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        starting, self._starting = self._starting, []
        for listening in starting:
            listening.cancel()
        ports, self._ports = self._ports, []
        closing = [maybeDeferred(port.stopListening) for _, port in ports]
        self._either.closeAll()
        self._tunnels.stop()
        self._stun.closeAll("the mediator stops")
        self.mediator.stop()
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
                port = self._reactor.listenUDP(
                    socket.port,
                    MediatorDatagrams(self.mediator),
                    interface=socket.interface,
                    maxPacketSize=_MAX_DATAGRAM,
                )
                self._opened(port, "udp")
        except (CannotListenError, OverflowError):
            for _, port in self._ports:
                port.stopListening()
            self._ports.clear()
            raise

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

    def _routes(self) -> Routes:
        routes = Routes()
        routes.add(
            "GET", TUNNEL_PATH, UpgradeRoute(TUNNEL_TOKEN, cast(Any, self._stun))
        )
        routes.add("GET", STATISTICS_PATH, self._show_statistics)
        return routes

    def _show_statistics(self, request: Request) -> Reply:
        return json_response(200, self.mediator.snapshot())


def _address(port: IListeningPort) -> Address:
    host = port.getHost()
    if isinstance(host, IPv4Address | IPv6Address):
        return Address(host.host, host.port)
    return Address(str(host), 0)
