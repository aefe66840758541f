"""The client: connects to the services of servers by their names."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import (
    AllAttemptsFailed,
    CloudError,
    ConnectTimeout,
    IdentityMismatch,
    MediatorUnreachable,
)
from dwcloud.interfaces import IGrantSource
from dwcloud.net.local_network import local_network
from dwcloud.net.method_memory import MethodMemory
from dwcloud.net.path import Path
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.tunnel_opening import AUTO
from dwcloud.net.tunnel_selector import TunnelSelector
from dwcloud.peer.attempts import AttemptMaker
from dwcloud.peer.background import BackgroundPunches
from dwcloud.peer.client_access import ClientAccess
from dwcloud.peer.client_punching import ClientPunch
from dwcloud.peer.connect_options import ConnectOptions, nothing_to_try
from dwcloud.peer.connect_request import (
    ANNOUNCEMENT,
    ConnectRequest,
    came_too_early,
)
from dwcloud.peer.connector import Attempt
from dwcloud.peer.direct_retries import DirectRetries
from dwcloud.peer.discovery import LANTable, lan_interfaces
from dwcloud.peer.known_relays import KnownRelays
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_client import MediatorClient
from dwcloud.peer.nat_knowledge import NATKnowledge
from dwcloud.peer.punching_port import punching_port
from dwcloud.peer.searches import PathSearches
from dwcloud.peer.status import AttemptFailure, ConnectionReport, PathKind
from dwcloud.peer.tunnels import TunnelTable
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings

__all__ = ["CloudClient", "ConnectOptions"]

_LAN_TIMEOUT = 2.0
"""Seconds for servers heard on the LAN before the mediator is asked."""
_MEDIATOR_TIMEOUT = 10.0
"""Seconds for the mediator's answer, which may take 3 s to wait for the server."""
_TUNNEL_TIMEOUT = 3.0
"""Seconds for a stream through an open tunnel before the mediator is asked."""
_T = TypeVar("_T")


class CloudClient:
    """Connects to services of servers, by whatever path works first.

    All connections share one UDP port, so that a hole punched once serves all
    streams to the same server.

    :param mediator: whom to ask; None restricts the client to the LAN.
    :param interface: the only local IP address to use, empty for any.
    :param lan: whether to look for servers on the LAN.
    :param client_name: a name for the logs of mediator and server.
    :param proxies: those that lead to mediator and relays.
    :param method: the only tunnelling method to use, or ``auto``.
    :param memory: of the methods that worked; by default it lasts as long as this.
    :param grants: what lets this client in where only accounts with a role may.
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
        method: str = AUTO,
        memory: MethodMemory | None = None,
        grants: IGrantSource | None = None,
    ) -> None:
        self._reactor = reactor
        self._proxies = Proxies(
            reactor, proxies, TunnelSelector(reactor, memory, method)
        )
        self._relays = KnownRelays(reactor, mediator, self._proxies, interface)
        self._mediator = mediator
        self._interface = interface
        self._client_name = client_name
        self._access = ClientAccess(reactor, grants)
        self._network = local_network(reactor)
        self._port = punching_port(reactor, mediator, interface=interface)
        self._stun = STUNDatagramClient(reactor, self._port.sendDatagram)
        self._searches = PathSearches(reactor, self._port)
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
                mediator,
                limit=_MEDIATOR_TIMEOUT,
                proxies=self._proxies,
                interface=interface,
            )
        )
        self._direct = DirectRetries(reactor, self._find_direct)
        self._unwatch: Callable[[], None] | None = None
        self._lan: LANTable | None = None
        if lan:
            found = self._network.localAddresses()
            interfaces = lan_interfaces(found, interface)
            self._lan = LANTable(reactor, interfaces)
        self._introductions: dict[PeerName, list[Deferred[None]]] = {}
        self._background = BackgroundPunches(self._background_over)
        self._nat = (
            None
            if mediator is None
            else NATKnowledge(reactor, self._port, mediator, interface=interface)
        )

    def start(self) -> None:
        """Open the UDP port and ask who is on the LAN.

        :raises twisted.internet.error.CannotListenError: if the interface is not this
            machine's.
        """
        self._port.onSTUN = self._stun_received
        self._port.start()
        if self._lan is not None:
            self._lan.start()
        self._unwatch = self._network.watchNetwork(self._network_changed)

    def _network_changed(self) -> None:
        """This machine has other addresses, or slept: trust nothing of before."""
        self._log.info("the network changed")
        self._port.look()
        self._background.stop()
        if self._nat is not None:
            self._nat.forget()
        self._tunnels.stop()
        if self._asking is not None:
            self._asking.ways.forget()
        if self._lan is not None:
            found = self._network.localAddresses()
            self._lan.use(lan_interfaces(found, self._interface))
        self._direct.network_changed()

    def _stun_received(self, data: bytes, address: Address) -> None:
        if not self._searches.datagramReceived(data, address):
            self._stun.datagramReceived(data, self._port.udt.known_as(address))

    def stop(self) -> Deferred[None]:
        """Give everything up that is open or in progress."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self._background.stop()
        self._direct.stop()
        if self._nat is not None:
            self._nat.stop()
        self._tunnels.stop()
        self._searches.stop_all()
        asking = self._asking
        told = succeed(None) if asking is None else asking.finish_reports()
        stopping = [told.addCallback(lambda _: self._close_port())]
        stopping.append(succeed(None) if self._lan is None else self._lan.stop())
        return gatherResults(stopping).addCallback(lambda _: None)

    def _close_port(self) -> Deferred[None]:
        self._stun.stop()
        return self._port.stop()

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
        request = ConnectRequest(
            peer,
            service,
            factory,
            options or ConnectOptions(),
            self._reactor.seconds(),
        )
        return Deferred.fromCoroutine(self._connect(request, onReport))

    async def _connect(
        self, request: ConnectRequest, report: Callable[[ConnectionReport], None] | None
    ) -> IProtocol:
        path: Path | None = None
        try:
            path, protocol = await self._access.use(request, self._open)
        except CancelledError:
            self._tell_end(request, None, "cancelled")
            raise
        except Exception as e:
            told = self._tell_end(request, None, str(e))
            if report is not None:
                report(told)
            raise
        told = self._tell_end(request, path, None)
        if report is not None:
            report(told)
        return protocol

    async def try_out(
        self,
        peer: PeerName,
        options: ConnectOptions,
        introduced: Callable[[ConnectResponse], None],
    ) -> tuple[ConnectionReport, Failure | None]:
        """Find a path to a server as :meth:`connect` does, and give it up again.

        :param introduced: told what the mediator says of the server, if it does.
        :return: how it went, and why it failed if it did.
        """
        request = ConnectRequest(peer, "", Factory(), options, self._reactor.seconds())
        request.introduced = introduced
        request.begins = False
        try:
            path = await self._access.use(request, self._find_path)
        except (CloudError, ConnectError, ConnectionLost) as e:
            return self._tell_end(request, None, str(e)), Failure()
        report = self._tell_end(request, path, None)
        path.close()
        return report, None

    async def _open(self, request: ConnectRequest) -> tuple[Path, IProtocol]:
        try:
            return await self._open_once(request)
        except ConnectionLost:
            # The path broke between winning and starting: once more.
            return await self._open_once(request)

    async def _open_once(self, request: ConnectRequest) -> tuple[Path, IProtocol]:
        path = await self._find_path(request)
        starting = path.start(request.service, request.factory)
        try:
            return path, await self._limited(starting, request, "the service")
        except ConnectionLost as e:
            request.failures.append(AttemptFailure(path.attempt, str(e)))
            raise

    def _tell_end(
        self, request: ConnectRequest, path: Path | None, error: str | None
    ) -> ConnectionReport:
        report = request.report(path, error, now=self._reactor.seconds())
        request.log_end(report)
        return report

    def _remaining(self, request: ConnectRequest) -> float:
        used: float = self._reactor.seconds() - request.started
        return max(request.options.timeout - used, 0.001)

    def _limited(
        self, waiting: Deferred[_T], request: ConnectRequest, what: str
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

    async def _find_path(self, request: ConnectRequest) -> Path:
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
                if request.peer in self._background and request.wants("relay"):
                    # A relayed connection goes on looking for a direct path.
                    break
                return await self._punch(asking, request)
            # Another connection to the same server is punching: what it opens
            # serves this one, too.
            punching: Deferred[None] = Deferred()
            waiting.append(punching)
            await self._limited(punching, request, "the connection before this one")
            if self._tunnels.find(request.peer) is None and request.wants("relay"):
                break
        return await self._introduce(asking, request, punch=False)

    async def _try_lan(self, request: ConnectRequest) -> Path | None:
        addresses: list[Address] = []
        forced = request.options.path == "lan"
        if self._lan is not None:
            addresses = await self._lan.look_up(request.peer, only=forced)
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

    async def _try_tunnel(self, request: ConnectRequest) -> Path | None:
        tunnel = self._tunnels.find(request.peer)
        if tunnel is None:
            return None
        request.session, request.server = tunnel.session, tunnel.server
        maker = self._maker(request, tunnel.server, tunnel.session)
        timeout = min(self._remaining(request), _TUNNEL_TIMEOUT)
        port = self._port if tunnel.hole is None else tunnel.hole.port
        attempt = maker.tunnel(port, tunnel.address)
        try:
            return await self._race(request, [attempt], timeout)
        except (AllAttemptsFailed, ConnectTimeout, IdentityMismatch):
            self._tunnels.drop_if_current(tunnel)
            return None

    async def _punch(self, asking: MediatorClient, request: ConnectRequest) -> Path:
        """Have the mediator introduce us, letting others wait for the outcome."""
        self._direct.give_way(request.peer)
        self._introductions[request.peer] = []
        try:
            return await self._introduce(asking, request, punch=True)
        finally:
            for waiting in self._introductions.pop(request.peer):
                if not waiting.called:
                    waiting.callback(None)

    async def _introduce(
        self, asking: MediatorClient, request: ConnectRequest, *, punch: bool
    ) -> Path:
        with self._relays.begun(request.wants("relay")) as request.head_starts:
            return await self._introduce_by(asking, request, punch=punch)

    async def _introduce_by(
        self, asking: MediatorClient, request: ConnectRequest, *, punch: bool
    ) -> Path:
        request.session = uuid.uuid4()
        punch = punch and request.wants("udp") and self._nat is not None
        mediator = f"mediator {self._mediator}"
        introducing = asking.request_connection(
            request.session,
            request.peer,
            self._client_name,
            grant=request.encoded_grant,
            without_udp=not punch,
        )
        response = await self._limited(introducing, request, mediator)
        if response.server is None or not request.peer.includes(response.server):
            raise IdentityMismatch(
                f"asked for {request.peer}, the mediator named {response.server}"
            )
        request.server = response.server
        told = request.encoded_grant
        self._access.is_public(request, response.grant)
        request.introduced(response)
        punching = self._punching(asking, request, response, told) if punch else None
        attempts = self._attempts(request, response, punching)
        try:
            try:
                path = await self._race(
                    request, attempts, self._remaining(request), response, punching
                )
            except AllAttemptsFailed as e:
                if punch or not came_too_early(e):
                    raise
                await deferLater(self._reactor, ANNOUNCEMENT)
                attempts = self._attempts(request, response, None)
                path = await self._race(
                    request, attempts, self._remaining(request), response
                )
        except (CancelledError, Exception):
            nat = self._told_nat(punching)
            asking.report_result(request.session, None, Failure(), request.started, nat)
            raise
        nat = self._told_nat(punching)
        asking.report_result(
            request.session, path.kind.value, None, request.started, nat
        )
        if punching is not None:
            self._settle(punching, path, response.parameters)
        return path

    def _told_nat(
        self, punching: ClientPunch | None
    ) -> Deferred[NATSummary | None] | None:
        """What the mediator is told of this NAT: nothing if no hole was punched."""
        return None if punching is None or self._nat is None else self._nat.learnt()

    async def _find_direct(self, server: PeerName) -> bool:
        """Punch to a server that is reached by a relay; tell whether it succeeded.

        The next stream goes through the hole.
        """
        asking = self._asking
        if asking is None or any(p.includes(server) for p in self._introductions):
            return False
        if self._tunnels.find(server) is not None:
            return True
        request = ConnectRequest(
            server,
            "",
            Factory(),
            ConnectOptions(path="udp"),
            self._reactor.seconds(),
            begins=False,
        )
        try:
            path = await self._access.use(
                request, partial(self._introduce, asking, punch=True)
            )
        except (CloudError, ConnectError, ConnectionLost):
            return False
        path.close()
        return True

    def _punching(
        self,
        asking: MediatorClient,
        request: ConnectRequest,
        response: ConnectResponse,
        grant: bytes | None,
    ) -> ClientPunch | None:
        session, server = request.session, response.server
        if not request.wants("udp") or server is None or self._nat is None:
            return None
        assert session is not None
        self._background.give_way(server)
        return ClientPunch(
            self._reactor,
            self._port,
            self._searches,
            self._maker(request, server, session),
            response,
            self._nat,
            lambda nat: asking.tell_nat(
                session, request.peer, self._client_name, nat, grant
            ),
            partial(asking.introduce_quietly, server, self._client_name, grant),
            self._interface,
        )

    def _settle(
        self, punching: ClientPunch, path: Path, parameters: ConnectionParameters
    ) -> None:
        """Keep the hole of a path, or go on looking for one."""
        if path.kind is PathKind.RELAY:
            self._background.add(path.server, punching)
            return
        if path.kind is PathKind.UDP:
            self._tunnels.keep(path, parameters, punching.take_hole(path))
        punching.end()

    def _background_over(self, server: PeerName) -> None:
        if self._tunnels.find(server) is None:
            self._direct.relayed(server)

    def _better_found(
        self, punching: ClientPunch, path: Path, parameters: ConnectionParameters
    ) -> None:
        """A direct path was found while a relay carries the first stream."""
        self._log.info(
            "{peer}: new streams go over UDP to {address}",
            peer=str(path.server),
            address=path.remote_address,
        )
        self._tunnels.keep(path, parameters, punching.take_hole(path))
        if self._asking is not None and punching.session is not None:
            kind, nat = path.kind.value, self._told_nat(punching)
            self._asking.report_result(punching.session, kind, None, None, nat)
        path.close()
        punching.end()

    def _attempts(
        self,
        request: ConnectRequest,
        response: ConnectResponse,
        punching: ClientPunch | None,
    ) -> list[Attempt]:
        assert response.server is not None
        maker = self._maker(
            request, response.server, request.session, response.relay_grant
        )
        attempts = [] if punching is None else punching.attempts()
        if request.wants("tcp"):
            attempts += maker.named(response)
        if request.wants("relay"):
            attempts += self._relays.attempts(maker, response, request.head_starts)
        if not attempts:
            why = nothing_to_try(request.options.path)
            raise AllAttemptsFailed(f"no path to {request.server}: {why}", {})
        return attempts

    def _maker(
        self,
        request: ConnectRequest,
        wanted: PeerName,
        session: uuid.UUID | None,
        relay_grant: bytes | None = None,
    ) -> AttemptMaker:
        return AttemptMaker(
            self._reactor,
            wanted,
            session,
            self._client_name,
            self._interface,
            request.options.tls,
            request.grant,
            relay_grant,
        )

    async def _race(
        self,
        request: ConnectRequest,
        attempts: list[Attempt],
        timeout: float,
        response: ConnectResponse | None = None,
        punching: ClientPunch | None = None,
    ) -> Path:
        on_better = None
        if punching is not None and response is not None:
            on_better = partial(
                self._better_found, punching, parameters=response.parameters
            )
        connector = request.connector(
            self._reactor, attempts, timeout, response, on_better
        )
        if punching is not None:
            punching.begin(connector)
        try:
            return await connector.connect()
        except BaseException:
            if punching is not None:
                punching.end()
            raise
        finally:
            request.failures += connector.failures
