"""The server: publishes services, wherever it stands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from dwcloud.net.identity import ServerIdentity
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.acceptor import Service, StreamAcceptor
from dwcloud.peer.discovery import LANAnnouncer, lan_interfaces
from dwcloud.peer.local_addresses import local_addresses
from dwcloud.peer.mediator_address import (
    MediatorAddress,
    any_address,
    resolve_relay_url,
)
from dwcloud.peer.mediator_link import MediatorLink
from dwcloud.peer.punching import Puncher
from dwcloud.peer.relay_pool import RelayPool
from dwcloud.peer.sessions import ConnectSessions, on_link
from dwcloud.peer.status import PathKind, ServerEvent
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.messages import ConnectionRequested, ListenResponse
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings

__all__ = ["CloudServer", "local_addresses"]

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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.identity = identity
        self._reactor = reactor
        self._proxies = Proxies(reactor, proxies)
        self._mediator = mediator
        self._tcp_port = tcp_port
        self._interface = interface
        self._lan = lan
        self._on_event = onEvent
        self._sessions = ConnectSessions(reactor.seconds)
        self.acceptor = StreamAcceptor(
            reactor,
            identity,
            services,
            self._sessions,
            self._tell,
            isLocal if lan else _nobody,
            plainServices,
        )
        self._udp = SharedUDPPort(
            reactor, interface=interface or any_address(mediator), port=udp_port
        )
        self._stun = STUNDatagramClient(reactor, self._udp.sendDatagram)
        self._puncher = Puncher(reactor, self._udp, self.acceptor.factory(PathKind.UDP))
        self._tcp: IListeningPort | None = None
        self._udt: IListeningPort | None = None
        self._announcer: LANAnnouncer | None = None
        self._link: MediatorLink | None = None
        self._pools: dict[str, RelayPool] = {}
        self._address_check: Any = None
        self._addresses: list[str] = []

    def _tell(self, event: ServerEvent) -> None:
        self._log.info("{event}", event=event.as_dict())
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

    def startService(self) -> None:
        """Announce the server on the LAN and at the mediator."""
        self._bind()
        super().startService()  # type: ignore[no-untyped-call]
        if self._lan:
            interfaces = lan_interfaces(self._interface)
            self._announcer = LANAnnouncer(
                self._reactor, self.identity.name, self.tcp_port, interfaces
            )
            self._announcer.start()
        if self._mediator is not None:
            self._link = MediatorLink(
                self._reactor,
                self.identity,
                self._mediator.host,
                self._mediator.port,
                udp=self._udp,
                stun=self._stun,
                onOnline=self._online,
                onOffline=self._offline,
                onConnectionRequested=self._connection_requested,
                proxy=self._proxies.endpoint(
                    self._mediator.host,
                    self._mediator.port,
                    interface=self._interface,
                ),
                interface=self._interface,
            )
            self._check_addresses()
            self._link.startService()

    def stopService(self) -> Deferred[None]:
        """Take leave of LAN, mediator and relays, and close all ports."""
        self._puncher.stop()
        self._stun.stop()
        if self._address_check is not None:
            self._address_check.cancel()
            self._address_check = None
        stopping: list[Deferred[Any]] = [maybeDeferred(super().stopService)]
        if self._announcer is not None:
            stopping.append(self._announcer.stop())
        if self._link is not None:
            stopping.append(maybeDeferred(self._link.stopService))
        for pool in self._pools.values():
            stopping.append(maybeDeferred(pool.stopService))
        self._pools.clear()
        for port in (self._tcp, self._udt):
            if port is not None:
                stopping.append(maybeDeferred(port.stopListening))
        self._tcp = self._udt = None
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
        found = [self._interface] if self._interface else local_addresses()
        if found != self._addresses:
            self._addresses = found
            assert self._link is not None
            self._link.set_endpoints(
                tcp=[Address(host, self.tcp_port) for host in found],
                udp=[
                    address
                    for address in (Address(host, self.udp_port) for host in found)
                    if address.family == self._udp.getHost().family
                ],
            )

    def _online(self, response: ListenResponse) -> None:
        assert self._mediator is not None
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
                    proxies=self._proxies,
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
                    "tcp_port": self.tcp_port,
                    "udp_port": self.udp_port,
                },
            )
        )

    def _relay_status(self, url: str) -> Callable[[str, str], None]:
        def tell(state: str, reason: str) -> None:
            details = {"url": url, "state": state}
            if reason:
                details["reason"] = reason
            self._tell(ServerEvent("relay", details))

        return tell

    def _offline(self, reason: str) -> None:
        self._tell(ServerEvent("offline", {"reason": reason}))

    def _connection_requested(self, request: ConnectionRequested) -> None:
        self._sessions.add(request.session_id, request.client_name)
        self._log.info(
            "session {session}: client {client!r} at {addresses}",
            session=str(request.session_id),
            client=request.client_name,
            addresses=[str(address) for address in request.udp_endpoints],
        )
        self._puncher.punch(request)

    # STUN on the punching port.

    def _stun_received(self, data: bytes, address: Address) -> None:
        if self._stun.datagramReceived(data, address):
            return
        if not self._puncher.knows(address):
            # Only clients that punched may ask whether their hole is still open.
            return
        try:
            message = STUNMessage.decode(data)
        except RemoteProtocolError:
            return
        if is_binding_request(message):
            response = binding_response(message, address)
            self._udp.sendDatagram(
                response.encode(fingerprint=message.has_fingerprint), address
            )
