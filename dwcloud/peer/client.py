"""The client: connects to the services of servers by their names."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import (
    AllAttemptsFailed,
    ConfigurationError,
    ConnectTimeout,
    IdentityMismatch,
    MediatorUnreachable,
)
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.attempts import AttemptMaker
from dwcloud.peer.connector import Attempt, CloudConnector
from dwcloud.peer.discovery import LANTable, lan_interfaces
from dwcloud.peer.mediator_address import (
    MediatorAddress,
    any_address,
    resolve_relay_url,
)
from dwcloud.peer.mediator_client import MediatorClient
from dwcloud.peer.path import Path
from dwcloud.peer.status import AttemptFailure, ConnectionReport, PathKind
from dwcloud.peer.tunnels import TunnelTable
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.mediation.parameters import Transport
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings

__all__ = ["CloudClient", "ConnectOptions"]

_LAN_TIMEOUT = 2.0
"""Seconds for servers heard on the LAN before the mediator is asked."""
_MEDIATOR_TIMEOUT = 10.0
"""Seconds for the mediator's answer, which may take 3 s to wait for the server."""
_TUNNEL_TIMEOUT = 3.0
"""Seconds for a stream through an open tunnel before the mediator is asked."""
_T = TypeVar("_T")
PATHS = ("auto", "lan", "tcp", "udp", "relay")


@attrs.frozen
class ConnectOptions:
    """How to connect.

    :ivar path: ``"auto"`` for the first that works, or the only kind to use:
        ``"lan"``, ``"tcp"``, ``"udp"``, ``"relay"``.
    :ivar prefer: ``"udp"`` or ``"tcp"`` to wait a moment for that transport; None
        takes what comes first, or what the mediator's operator prefers.
    :ivar timeout: seconds for the whole.
    :ivar tls: False to send in the clear what the application encrypts by itself; the
        server must offer the service so. Its identity is proven all the same.
    """

    path: str = "auto"
    prefer: str | None = None
    timeout: float = 20.0
    tls: bool = True

    def __attrs_post_init__(self) -> None:
        if self.path not in PATHS:
            raise ConfigurationError(
                f"path {self.path!r} is not one of {', '.join(PATHS)}"
            )
        if self.prefer not in (None, "udp", "tcp"):
            raise ConfigurationError(f"prefer {self.prefer!r} is neither udp nor tcp")
        if not 0 < self.timeout < math.inf:
            raise ConfigurationError(f"timeout {self.timeout!r} is not above 0 s")


@attrs.define(eq=False)
class _Request:
    """One connection on its way."""

    peer: PeerName
    service: str
    factory: IProtocolFactory
    options: ConnectOptions
    started: float
    failures: list[AttemptFailure] = attrs.field(factory=list)
    session: uuid.UUID | None = None
    server: PeerName | None = None

    def wants(self, *paths: str) -> bool:
        """Whether one of these kinds of path may be used."""
        return self.options.path == "auto" or self.options.path in paths


class CloudClient:
    """Connects to services of servers, by whatever path works first.

    All connections share one UDP port, so that a hole punched once serves all
    streams to the same server.

    :param mediator: whom to ask; None restricts the client to the LAN.
    :param interface: the only local IP address to use, empty for any.
    :param lan: whether to look for servers on the LAN.
    :param client_name: a name for the logs of mediator and server.
    :param proxies: those that lead to mediator and relays.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        mediator: MediatorAddress | None,
        *,
        interface: str = "",
        lan: bool = True,
        client_name: str = "",
        proxies: ProxySettings = NO_PROXIES,
    ) -> None:
        self._reactor = reactor
        self._proxies = Proxies(reactor, proxies)
        self._mediator = mediator
        self._interface = interface
        self._client_name = client_name
        self._port = SharedUDPPort(
            reactor, interface=interface or any_address(mediator)
        )
        self._stun = STUNDatagramClient(reactor, self._port.sendDatagram)
        self._tunnels = TunnelTable(
            reactor, self._stun, self._port.udt.has_connections_to
        )
        self._asking = (
            None
            if mediator is None
            else MediatorClient(
                reactor,
                self._port,
                self._stun,
                mediator.host,
                mediator.port,
                limit=_MEDIATOR_TIMEOUT,
                endpoint=self._proxies.endpoint(
                    mediator.host,
                    mediator.port,
                    timeout=_MEDIATOR_TIMEOUT,
                    interface=interface,
                ),
                interface=interface,
            )
        )
        self._lan: LANTable | None = None
        if lan:
            interfaces = lan_interfaces(interface)
            self._lan = LANTable(reactor, interfaces)
        self._introductions: dict[PeerName, list[Deferred[None]]] = {}

    def start(self) -> None:
        """Open the UDP port and ask who is on the LAN.

        :raises twisted.internet.error.CannotListenError: if the interface is not this
            machine's.
        """
        self._port.onSTUN = self._stun_received
        self._port.start()
        if self._lan is not None:
            self._lan.start()

    def _stun_received(self, data: bytes, address: Address) -> None:
        self._stun.datagramReceived(data, address)

    def stop(self) -> Deferred[None]:
        """Give everything up that is open or in progress."""
        self._tunnels.stop()
        self._stun.stop()
        stopping: list[Deferred[None]] = [self._port.stop()]
        stopping.append(succeed(None) if self._lan is None else self._lan.stop())
        return gatherResults(stopping).addCallback(lambda _: None)

    def connect(
        self,
        peer: PeerName,
        service: str,
        factory: IProtocolFactory,
        options: ConnectOptions | None = None,
        onReport: Callable[[ConnectionReport], None] | None = None,
    ) -> Deferred[IProtocol]:
        """Connect to a service of a server.

        :param peer: the server, or a system for any online server of it.
        :param service: its name; empty for the server's only one.
        :param factory: makes the protocol for the stream.
        :param onReport: told how it went, just before the result fires.
        :return: fires with the connected protocol; fails with an error of
            :mod:`dwcloud.errors`.
        """
        request = _Request(
            peer,
            service,
            factory,
            options or ConnectOptions(),
            self._reactor.seconds(),
        )
        return Deferred.fromCoroutine(self._connect(request, onReport))

    async def _connect(
        self, request: _Request, report: Callable[[ConnectionReport], None] | None
    ) -> IProtocol:
        path: Path | None = None
        try:
            try:
                path, protocol = await self._open(request)
            except ConnectionLost:
                # The path broke between winning and starting: once more.
                path, protocol = await self._open(request)
        except CancelledError:
            raise
        except Exception as e:
            if report is not None:
                report(self._report(request, None, str(e)))
            raise
        if report is not None:
            report(self._report(request, path, None))
        return protocol

    async def _open(self, request: _Request) -> tuple[Path, IProtocol]:
        path = await self._find_path(request)
        starting = path.start(request.service, request.factory)
        try:
            return path, await self._limited(starting, request, "the service")
        except ConnectionLost as e:
            request.failures.append(AttemptFailure(path.attempt, str(e)))
            raise

    def _report(
        self, request: _Request, path: Path | None, error: str | None
    ) -> ConnectionReport:
        server = request.server or request.peer if path is None else path.server
        return ConnectionReport(
            event="connected" if error is None else "failed",
            peer=str(server),
            service=request.service,
            path=None if path is None else path.kind,
            remote_address=None if path is None else path.remote_address,
            connect_seconds=self._reactor.seconds() - request.started,
            failures=tuple(request.failures),
            connect_session_id=None
            if request.session is None
            else str(request.session),
            error=error,
        )

    def _remaining(self, request: _Request) -> float:
        used: float = self._reactor.seconds() - request.started
        return max(request.options.timeout - used, 0.001)

    def _limited(
        self, waiting: Deferred[_T], request: _Request, what: str
    ) -> Deferred[_T]:
        """Wait no longer than the request may take."""

        def timed_out(_: object, __: float) -> Any:
            raise ConnectTimeout(
                f"{what} did not answer within {request.options.timeout:g} s"
            )

        return waiting.addTimeout(
            self._remaining(request), self._reactor, onTimeoutCancel=timed_out
        )

    # The order that docs/design.rst gives for a connection.

    async def _find_path(self, request: _Request) -> Path:
        if request.wants("lan"):
            path = await self._try_lan(request)
            if path is not None:
                return path
        asking = self._asking
        if asking is None:
            raise MediatorUnreachable(
                f"{request.peer} is not on the LAN and no mediator is named"
            )
        while request.wants("udp"):
            # Also for those who prefer TCP: had that worked, there were no tunnel.
            path = await self._try_tunnel(request)
            if path is not None:
                return path
            waiting = self._introductions.get(request.peer)
            if waiting is None:
                return await self._punch(asking, request)
            # Another connection to the same server is punching: what it opens
            # serves this one, too.
            punching: Deferred[None] = Deferred()
            waiting.append(punching)
            await self._limited(punching, request, "the connection before this one")
            if self._tunnels.find(request.peer) is None and request.wants("relay"):
                break
        return await self._introduce(asking, request, punch=False)

    async def _try_lan(self, request: _Request) -> Path | None:
        addresses: list[Address] = []
        if self._lan is not None:
            addresses = await self._lan.look_up(request.peer)
        forced = request.options.path == "lan"
        if addresses:
            attempts = self._maker(request, request.peer, None).lan(addresses)
            timeout = self._remaining(request)
            timeout = timeout if forced else min(timeout, _LAN_TIMEOUT)
            try:
                return await self._race(request, attempts, timeout)
            except (AllAttemptsFailed, IdentityMismatch, ConnectTimeout):
                if forced:
                    raise
        elif forced:
            raise AllAttemptsFailed(
                f"{request.peer} was not heard on the LAN; it answers only in the same "
                "network, and only to clients that look there",
                {},
            )
        return None

    async def _try_tunnel(self, request: _Request) -> Path | None:
        tunnel = self._tunnels.find(request.peer)
        if tunnel is None:
            return None
        request.session, request.server = tunnel.session, tunnel.server
        maker = self._maker(request, tunnel.server, tunnel.session)
        timeout = min(self._remaining(request), _TUNNEL_TIMEOUT)
        attempt = maker.tunnel(self._port, tunnel.address, timeout)
        try:
            return await self._race(request, [attempt], timeout)
        except (AllAttemptsFailed, ConnectTimeout, IdentityMismatch):
            self._tunnels.drop_if_current(tunnel)
            return None

    async def _punch(self, asking: MediatorClient, request: _Request) -> Path:
        """Have the mediator introduce us, letting others wait for the outcome."""
        self._introductions[request.peer] = []
        try:
            return await self._introduce(asking, request, punch=True)
        finally:
            for waiting in self._introductions.pop(request.peer):
                if not waiting.called:
                    waiting.callback(None)

    async def _introduce(
        self, asking: MediatorClient, request: _Request, *, punch: bool
    ) -> Path:
        request.session = uuid.uuid4()
        response = await self._limited(
            asking.request_connection(request.session, request.peer, self._client_name),
            request,
            f"mediator {self._mediator}",
        )
        if response.server is None or not request.peer.includes(response.server):
            raise IdentityMismatch(
                f"asked for {request.peer}, the mediator named {response.server}"
            )
        request.server = response.server
        attempts = self._attempts(request, response, punch)
        try:
            path = await self._race(
                request, attempts, self._remaining(request), response
            )
        except CancelledError:
            raise
        except Exception:
            asking.report_result(request.session, None, Failure(), request.started)
            raise
        if path.kind is PathKind.UDP:
            self._tunnels.add(
                path.server, path.address, request.session, response.parameters
            )
        asking.report_result(request.session, path.kind.value, None, request.started)
        return path

    def _attempts(
        self, request: _Request, response: ConnectResponse, punch: bool
    ) -> list[Attempt]:
        assert response.server is not None and self._mediator is not None
        maker = self._maker(request, response.server, request.session)
        parameters = response.parameters
        attempts: list[Attempt] = []
        if request.wants("udp") and punch:
            attempts += maker.rendezvous(
                self._port,
                response.udp_endpoints,
                parameters.udp_start_delay,
                parameters.rendezvous_timeout,
            )
        if request.wants("tcp"):
            addresses = (*response.forwarded_endpoints, *response.tcp_endpoints)
            attempts += maker.tcp(addresses, parameters.tcp_start_delay)
        if request.wants("relay"):
            urls = [resolve_relay_url(u, self._mediator) for u in response.relay_urls]
            attempts += maker.relay(urls, parameters.relay_start_delay, self._proxies)
        if not attempts:
            raise AllAttemptsFailed(_nothing_to_try(request), {})
        return attempts

    def _maker(
        self, request: _Request, wanted: PeerName, session: uuid.UUID | None
    ) -> AttemptMaker:
        return AttemptMaker(
            self._reactor,
            wanted,
            session,
            self._client_name,
            self._interface,
            request.options.tls,
        )

    async def _race(
        self,
        request: _Request,
        attempts: list[Attempt],
        timeout: float,
        response: ConnectResponse | None = None,
    ) -> Path:
        prefer, grace = request.options.prefer, 0.3
        if response is not None:
            preferred = response.parameters.preferred_transport
            if prefer is None and preferred is not Transport.NONE:
                prefer = preferred.name.lower()
            grace = response.parameters.relay_grace
        connector = CloudConnector(
            self._reactor,
            attempts,
            peer=str(request.server or request.peer),
            prefer=prefer,
            relay_grace=grace,
            timeout=timeout,
        )
        try:
            return await connector.connect()
        finally:
            request.failures += connector.failures


def _nothing_to_try(request: _Request) -> str:
    why = {
        "udp": "the mediator named no UDP address: the server's connection_ack did "
        "not arrive, so UDP may be blocked between the server and the mediator",
        "tcp": "the server reports no TCP address",
        "relay": "the mediator announces no relay",
    }
    reason = why.get(request.options.path, "the mediator named no address and no relay")
    return f"no path to {request.server}: {reason}"
