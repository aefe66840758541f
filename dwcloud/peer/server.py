"""The server: publishes services, wherever it stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from dwcloud.errors import AccessDenied, ConfigurationError
from dwcloud.net.dual_udp import DualUDTPort
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.ipv6_only import listen_tcp_ipv6
from dwcloud.net.local_network import local_network
from dwcloud.net.method_memory import MethodMemory
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.tunnel_opening import AUTO
from dwcloud.net.tunnel_selector import TunnelSelector
from dwcloud.peer.acceptor import Service, StreamAcceptor
from dwcloud.peer.activity import ActivityReporter
from dwcloud.peer.discovery import LANAnnouncer, lan_interfaces
from dwcloud.peer.local_addresses import own_addresses
from dwcloud.peer.mediator_address import (
    MediatorAddress,
    is_loopback,
    resolve_relay_url,
)
from dwcloud.peer.mediator_link import MediatorLink
from dwcloud.peer.nat_knowledge import NATKnowledge
from dwcloud.peer.port_mappings import METHODS, PortMappings
from dwcloud.peer.punching import Puncher
from dwcloud.peer.punching_port import punching_port
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.peer.relay_ports import RelayPorts
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.server_calls import ServerCalls
from dwcloud.peer.server_holes import answer_binding
from dwcloud.peer.sessions import ConnectSessions, on_link
from dwcloud.peer.status import PathKind, ServerEvent, failed_methods
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    ConnectionRequested,
    ListenResponse,
)
from dwcloud.protocol.port_mapping.mappings import MappedPort, Transport
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings

if TYPE_CHECKING:
    from dwcloud.peer.port_mapping import PortMapper

__all__ = ["CloudServer"]

_ADDRESS_CHECK_INTERVAL = 30.0
"""Seconds between looks at this machine's own addresses."""


def _nobody(host: str) -> bool:
    return False


class CloudServer(MultiService):
    """A server of a system: reachable by its name while this service runs.

    :param identity: who this server is.
    :param services: what it publishes, by name.
    :param mediator: where it is found; None restricts it to the LAN.
    :param tcp_port: for direct connections; 0 takes a free one.
    :param udp_port: for hole punching; 0 takes a free one.
    :param interface: the only local IP address to use, empty for all.
    :param lan: whether it announces itself on the LAN and admits clients there.
    :param onEvent: told what happens.
    :param plainServices: names of services that may be used without TLS, too.
    :param isLocal: tells whether an address is on a network of this machine, from
        where clients may come without the mediator's introduction.
    :param proxies: those that lead to mediator and relays.
    :param portMapping: how the router may be asked to forward the ports, of
        :data:`dwcloud.peer.port_mappings.METHODS`; empty for not at all.
    :param method: the only tunnelling method to use, or ``auto``.
    :param memory: of the methods that worked; by default it lasts as long as this.
    :param loadAccess: tells whom the cloud lets in that the system is bound to, None
        for whoever is introduced; asked again when the mediator says that the system
        is bound, which may have happened after the start.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: ServerIdentity,
        services: Mapping[str, Service],
        mediator: MediatorAddress | None,
        *,
        tcp_port: int = 0,
        udp_port: int = 0,
        interface: str = "",
        lan: bool = True,
        onEvent: Callable[[ServerEvent], None] | None = None,
        plainServices: Collection[str] = (),
        isLocal: Callable[[str], bool] = on_link,
        proxies: ProxySettings = NO_PROXIES,
        portMapping: Collection[str] = METHODS,
        method: str = AUTO,
        memory: MethodMemory | None = None,
        loadAccess: Callable[[], ServerAccess | None] = lambda: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.identity = identity
        self._reactor = reactor
        self._proxies = Proxies(
            reactor, proxies, TunnelSelector(reactor, memory, method)
        )
        self._relay_ports = RelayPorts(reactor, self._proxies)
        self._mediator = mediator
        self._tcp_port = tcp_port
        self._interface = interface
        self._lan = lan
        self._port_mapping = portMapping
        self._network = local_network(reactor)
        self._mapper: PortMapper | None = None
        self._on_event = onEvent
        self._load_access = loadAccess
        self._sessions = ConnectSessions(reactor.seconds)
        self.acceptor = StreamAcceptor(
            reactor,
            identity,
            services,
            self._sessions,
            self._tell,
            isLocal if lan else _nobody,
            plainServices,
            loadAccess(),
        )
        factory = self.acceptor.factory(PathKind.UDP)
        self._udp = punching_port(reactor, mediator, interface=interface, port=udp_port)
        self._stun = STUNDatagramClient(reactor, self._udp.sendDatagram)
        self._puncher = Puncher(reactor, self._udp, factory, interface=interface)
        self._calls = ServerCalls(reactor, factory, interface)
        self._nat = (
            None
            if mediator is None
            else NATKnowledge(reactor, self._udp, mediator, interface=interface)
        )
        self._tcp: IListeningPort | None = None
        self._tcp_ipv6: IListeningPort | None = None
        self._udt: DualUDTPort | None = None
        self._announcer: LANAnnouncer | None = None
        self._link: MediatorLink | None = None
        self._reporter: ActivityReporter | None = None
        self._pools: dict[str, RelayPool] = {}
        self._address_check: Any = None
        self._unwatch: Callable[[], None] | None = None
        self._was_offline = False

    def _tell(self, event: ServerEvent) -> None:
        event.log(self._log)
        if self._on_event is not None:
            self._on_event(event)

    def privilegedStartService(self) -> None:
        """Bind all ports.

        :raises twisted.internet.error.CannotListenError: if one is not free.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._bind()

    def _bind(self) -> None:
        if self._tcp is not None:
            return
        self._tcp = self._reactor.listenTCP(
            self._tcp_port,
            self.acceptor.factory(PathKind.TCP),
            interface=self._interface,
        )
        self._udp.onSTUN = self._stun_received
        try:
            self._udp.start()
        except CannotListenError:
            tcp, self._tcp = self._tcp, None
            tcp.stopListening()
            raise
        self._udt = self._udp.udt.listen(self.acceptor.factory(PathKind.UDP))
        self._use_ipv6()

    def _use_ipv6(self) -> None:
        """Listen on IPv6 as well, if this machine has come to have that."""
        self._udp.look()
        if self._interface or 6 not in self._udp.ports or self._tcp_ipv6 is not None:
            return
        try:
            self._tcp_ipv6 = listen_tcp_ipv6(
                self._reactor, self.tcp_port, self.acceptor.factory(PathKind.TCP)
            )
        except CannotListenError as error:
            self._log.info(
                "TCP port {port} of IPv6 cannot be used: {reason}",
                port=self.tcp_port,
                reason=str(error.socketError),
            )

    def startService(self) -> None:
        """Announce the server on the LAN and at the mediator."""
        self._bind()
        super().startService()  # type: ignore[no-untyped-call]
        if self._lan:
            found = self._network.localAddresses()
            interfaces = lan_interfaces(found, self._interface)
            self._announcer = LANAnnouncer(
                self._reactor, self.identity.name, self.tcp_port, interfaces
            )
            self._announcer.start()
        if self._mediator is not None:
            self._link = MediatorLink(
                self._reactor,
                self.identity,
                self._mediator,
                udp=self._udp,
                stun=self._stun,
                onOnline=self._online,
                onOffline=self._offline,
                onConnectionRequested=self._puncher.punch,
                onAnnounced=self._connection_requested,
                onAccessChanged=self._access_changed,
                onWatched=self._watched,
                apart=self._calls.open,
                admits=self._admits,
                proxies=self._proxies,
                interface=self._interface,
            )
            self._reporter = ActivityReporter(
                self._reactor, self.acceptor.activity, self._link.report
            )
            self.acceptor.on_running = self._reporter.changed
            self._check_addresses()
            self._map_ports(self._mediator)
            self._link.startService()
        self._unwatch = self._network.watchNetwork(self._network_changed)

    def stopService(self) -> Deferred[None]:
        """Take leave of LAN, mediator and relays, and close all ports."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        if self._nat is not None:
            self._nat.stop()
        self._puncher.stop()
        self._calls.stop()
        self._proxies.tunnels.stop()
        self._stun.stop()
        if self._address_check is not None:
            self._address_check.cancel()
            self._address_check = None
        stopping: list[Deferred[Any]] = [maybeDeferred(super().stopService)]
        if self._announcer is not None:
            stopping.append(self._announcer.stop())
        if self._mapper is not None:
            stopping.append(self._mapper.stopService())
            self._mapper = None
        if self._reporter is not None:
            self._reporter.stop()
        if self._link is not None:
            stopping.append(maybeDeferred(self._link.stopService))
        for pool in self._pools.values():
            stopping.append(maybeDeferred(pool.stopService))
        self._pools.clear()
        for port in (self._tcp, self._tcp_ipv6, self._udt):
            if port is not None:
                stopping.append(maybeDeferred(port.stopListening))
        self._tcp = self._tcp_ipv6 = self._udt = None
        done = gatherResults(stopping)
        done.addCallback(lambda _: self._udp.stop())
        return done.addCallback(lambda _: None)

    @property
    def tcp_port(self) -> int:
        """The TCP port for direct connections."""
        assert self._tcp is not None, "not started"
        return int(cast(IPv4Address, self._tcp.getHost()).port)

    @property
    def udp_port(self) -> int:
        """The UDP port for hole punching and the streams after it."""
        return self._udp.getHost().port

    # The mediator.

    def _check_addresses(self) -> None:
        """Tell the mediator the addresses, now and whenever they change."""
        self._address_check = self._reactor.callLater(
            _ADDRESS_CHECK_INTERVAL, self._check_addresses
        )
        self._tell_addresses()

    def _tell_addresses(self) -> None:
        """Tell the mediator what has changed, if anything has."""
        if self._link is None:
            return
        self._use_ipv6()
        hosts = [self._interface] if self._interface else own_addresses(self._network)
        mappings = PortMappings() if self._mapper is None else self._mapper.mappings
        forwarded = {port.transport: a for port, a in mappings.external.items()}
        udp, tcp = [], [Address(host, self.tcp_port) for host in hosts]
        if not self._interface and self._tcp_ipv6 is None:
            tcp = [address for address in tcp if address.family == 4]
        for family, port in sorted(self._udp.ports.items()):
            own = [Address(host, port.getHost().port) for host in hosts]
            udp += [address for address in own if address.family == family]
        if Transport.UDP in forwarded:
            udp.insert(0, forwarded[Transport.UDP])
        self._link.set_endpoints(
            tcp=tcp,
            udp=[address for address in udp if address.family in self._udp.ports],
            forwarded=[a for t, a in forwarded.items() if t is Transport.TCP],
        )

    def _network_changed(self) -> None:
        """This machine has other addresses, or slept: be found again at once."""
        self._log.info("the network changed")
        self._tell_addresses()
        if self._nat is not None:
            self._nat.forget()
        if self._announcer is not None:
            found = self._network.localAddresses()
            self._announcer.use(lan_interfaces(found, self._interface))
        if self._mapper is not None:
            self._mapper.network_changed()
        if self._link is not None:
            self._link.network_changed()
        for pool in self._pools.values():
            pool.network_changed()

    def _map_ports(self, mediator: MediatorAddress) -> None:
        """Ask the router to let clients in, unless they are all on this machine."""
        if not self._port_mapping or is_loopback(mediator.host):
            return
        # Late: it would be a tenth of what a server loads, and many ask no router.
        from dwcloud.peer.port_mapping import PortMapper

        self._mapper = PortMapper(
            self._reactor,
            [
                MappedPort(Transport.TCP, self.tcp_port),
                MappedPort(Transport.UDP, self.udp_port),
            ],
            self._mappings_changed,
            methods=self._port_mapping,
            interface=self._interface,
        )
        self._mapper.startService()

    def _mappings_changed(self, mappings: PortMappings) -> None:
        if self.running:
            self._tell_addresses()
            self._tell(ServerEvent("port_mapping", mappings.as_dict()))

    def _explore_nat(self) -> None:
        """Find out how the NAT behaves, for the clients to come."""
        if self._nat is not None:
            self._nat.find_out()

    def _use_nat(self) -> None:
        """Let punching and confirmations have what is known of the NAT by now."""
        if self._nat is not None and self._link is not None:
            self._puncher.nat = self._calls.nat = self._nat.known
            self._link.set_nat(self._nat.known)

    def _online(self, response: ListenResponse) -> None:
        assert self._mediator is not None
        self._explore_nat()
        if self._mapper is not None and self._was_offline:
            # What broke the channel may have been the router, or its new address.
            self._mapper.check()
        self._was_offline = False
        urls = [resolve_relay_url(u, self._mediator) for u in response.relay_urls]
        for url in set(self._pools) - set(urls):
            maybeDeferred(self._pools.pop(url).stopService)
        for url in urls:
            if url not in self._pools:
                pool = RelayPool(
                    self._reactor,
                    url,
                    self.identity,
                    self.acceptor.factory(PathKind.RELAY),
                    onStatus=self._relay_status(url),
                    proxies=self._relay_ports,
                    interface=self._interface,
                )
                self._pools[url] = pool
                pool.startService()
        name = self.identity.name
        self._tell(
            ServerEvent(
                "online",
                {
                    "system": str(name.system),
                    "server": str(name.server),
                    "peer": str(name),
                    "relays": urls,
                    **self._way(),
                    "tcp_port": self.tcp_port,
                    "udp_port": self.udp_port,
                },
            )
        )

    def _way(self) -> dict[str, Any]:
        """How the mediator is reached, and why not in a better way."""
        way = None if self._link is None else self._link.status.way
        if way is None:
            return {}
        return {"way": way.name, "failed_ways": dict(way.failures)}

    def _relay_status(self, url: str) -> Callable[[str, str], None]:
        def tell(state: str, reason: str) -> None:
            details: dict[str, Any] = {"url": url, "state": state}
            if reason:
                details["reason"] = reason
            pool = self._pools.get(url)
            if pool is not None and pool.selected_method and state == "listening":
                details["method"] = pool.selected_method
                if elsewhere := self._relay_ports.reached_at(url):
                    details["reached_at"] = elsewhere
            failed = failed_methods(self._proxies.reports(url))
            if failed:
                details["failed_methods"] = failed
            self._tell(ServerEvent("relay", details))

        return tell

    def _offline(self, reason: str) -> None:
        self._was_offline = True
        if self.acceptor.access is not None:
            self.acceptor.access.lost_touch()
        self._tell(ServerEvent("offline", {"reason": reason}))

    def _admits(self, request: ConnectionRequested) -> bool:
        """Whether a client may connect of whom the mediator tells."""
        if self.acceptor.access is None:
            return True
        try:
            grant = self.acceptor.access.check_request(request)
        except AccessDenied as e:
            self._log.warn(
                "session {connect_session_id}: client {client!r} is passed over: "
                "{reason}",
                connect_session_id=log_id(request.session_id),
                client=request.client_name,
                reason=str(e),
            )
            return False
        self._log.info(
            "session {connect_session_id}: account {account!r}, {role}",
            connect_session_id=log_id(request.session_id),
            account=grant.account_name,
            role=grant.role.label,
        )
        return True

    def _access_changed(self, change: AccessChanged) -> None:
        """The mediator says who may connect."""
        state = change.state
        found = state.is_bound and self._found_cloud()
        details: dict[str, Any] = {"bound": state.is_bound}
        if self.acceptor.access is not None:
            before = self.acceptor.access.state
            cut = self.acceptor.access.change(change)
            same = attrs.evolve(before, as_of_ms=state.as_of_ms) == state
            if same and not (cut or found):
                return
            details |= {
                "public": state.is_public,
                "web": state.has_web,
                "streams_cut": cut,
            }
        elif state.is_bound:
            # It would be let down by who relies on it: anybody in its network comes in.
            details["unchecked"] = True
        else:
            # Why it is offline says all.
            return
        self._tell(ServerEvent("access", details))

    def _watched(self) -> None:
        """Somebody looks at this system: tell what it carries, if that is a cloud's."""
        if self.acceptor.access is not None and self._reporter is not None:
            self._reporter.watched()

    def _found_cloud(self) -> bool:
        """Use the cloud that the system was bound to since the start, if it was."""
        try:
            access = self._load_access()
        except ConfigurationError as e:
            self._log.error("the cloud of this system is not known: {reason}", reason=e)
            return False
        before = self.acceptor.access
        if access is None or (
            before is not None
            and before.membership.cloud_key == access.membership.cloud_key
        ):
            # Nor does a file that has gone open a server that runs.
            return False
        self.acceptor.use_access(access)
        return True

    def _connection_requested(self, request: ConnectionRequested) -> None:
        self._use_nat()
        self._sessions.add(request.session_id, request.client_name)
        self._log.info(
            "session {connect_session_id}: the mediator tells of client {client!r} at "
            "{addresses}",
            connect_session_id=log_id(request.session_id),
            client=request.client_name,
            addresses=[str(address) for address in request.udp_endpoints],
        )

    # STUN on the punching port.

    def _stun_received(self, data: bytes, address: Address) -> None:
        if self._puncher.searches.datagramReceived(data, address):
            return
        if self._stun.datagramReceived(data, address):
            return
        # Only clients that punched may ask whether their hole is still open.
        if self._puncher.knows(address):
            answer_binding(self._udp, data, address)
