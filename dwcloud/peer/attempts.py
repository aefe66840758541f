"""The paths that can be tried to a server, from what is known of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.path import Path, open_path
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.connector import Attempt, OnOpen, Start
from dwcloud.peer.head_start import HeadStarts
from dwcloud.peer.mediator_address import MediatorAddress, resolve_relay_url
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.status import PathKind
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.grants.possession import ClientGrant
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.names import PeerName

__all__ = ["AttemptMaker"]

_TCP_CONNECT_TIMEOUT = 10.0


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _RendezvousEndpoint:
    """The far end of a hole that both sides punch."""

    port: AnyUDPPort
    address: Address
    timeout: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Punch."""
        return self.port.udt.rendezvous(self.address, protocolFactory, self.timeout)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _TunnelEndpoint:
    """The far end of a hole that is open already."""

    port: AnyUDPPort
    address: Address

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect as to a directly reachable address.

        The first bytes go with the handshake: the far end is one of ours.
        """
        return self.port.udt.connect_early(self.address, protocolFactory)


@attrs.frozen
class AttemptMaker:
    """Makes the attempts of one connect session.

    :ivar reactor: Twisted's.
    :ivar wanted: who has to be at the far end.
    :ivar session: the connect session id; None for LAN paths.
    :ivar interface: local address to connect from, empty for any.
    :ivar tls: False for streams in the clear.
    :ivar grant: what says to the server that this client may connect.
    :ivar relay_grant: what says so to relays.
    """

    reactor: Any
    wanted: PeerName
    session: uuid.UUID | None
    client_name: str = ""
    interface: str = ""
    tls: bool = True
    grant: ClientGrant | None = None
    relay_grant: bytes | None = attrs.field(default=None, repr=False)

    def lan(self, addresses: Iterable[Address]) -> list[Attempt]:
        """Direct TCP to addresses heard on the LAN."""
        return self._tcp(addresses, PathKind.LAN, 0.0)

    def tcp(self, addresses: Iterable[Address], delay: float) -> list[Attempt]:
        """Direct TCP to addresses that the mediator named."""
        return self._tcp(addresses, PathKind.TCP, delay)

    def named(self, response: ConnectResponse) -> list[Attempt]:
        """Direct TCP to all addresses that the mediator's answer names."""
        addresses = (*response.forwarded_endpoints, *response.tcp_endpoints)
        return self.tcp(addresses, response.parameters.tcp_start_delay)

    def relays(
        self,
        response: ConnectResponse,
        mediator: MediatorAddress,
        proxies: Proxies | None = None,
        begun: HeadStarts | None = None,
    ) -> list[Attempt]:
        """Connections by all relays that the mediator's answer names.

        :param begun: connections to relays that are being made; those to others are
            closed.
        """
        urls = [resolve_relay_url(url, mediator) for url in response.relay_urls]
        delay = response.parameters.relay_start_delay
        attempts = self.relay(urls, delay, proxies, begun)
        if begun is not None:
            begun.keep_only(urls)
        return attempts

    def rendezvous(
        self,
        port: AnyUDPPort,
        addresses: Iterable[Address],
        delay: float,
        timeout: float,
        name: str = "",
    ) -> list[Attempt]:
        """UDT rendezvous on the port that asked the mediator, or another.

        :param name: tells the attempts from others to the same address.
        """
        return [
            self._attempt(
                PathKind.UDP,
                f"udp {address}{name}",
                _RendezvousEndpoint(port, address, timeout),
                delay,
            )
            for address in dict.fromkeys(addresses)
        ]

    def tunnel(self, port: AnyUDPPort, address: Address) -> Attempt:
        """Regular UDT through an open hole."""
        endpoint = _TunnelEndpoint(port, address)
        return self._attempt(PathKind.UDP, f"tunnel {address}", endpoint, 0.0)

    def relay(
        self,
        urls: Iterable[str],
        delay: float,
        proxies: Proxies | None = None,
        begun: HeadStarts | None = None,
    ) -> list[Attempt]:
        """A relayed connection, to the relay by a proxy if there is one."""
        attempts = []
        for url in dict.fromkeys(urls):
            endpoint = RelayClientEndpoint(
                self.reactor,
                url,
                self.wanted,
                connect_session_id="" if self.session is None else log_id(self.session),
                proxies=proxies,
                interface=self.interface,
                grant=self.relay_grant,
                head_start=None if begun is None else begun.find(url),
            )
            name = f"relay {url}"
            start = self._start(PathKind.RELAY, name, endpoint)
            relayed = partial(_start_relayed, start, endpoint)
            attempts.append(Attempt(name, PathKind.RELAY, relayed, delay))
        return attempts

    def _tcp(
        self, addresses: Iterable[Address], kind: PathKind, delay: float
    ) -> list[Attempt]:
        bind = (self.interface, 0) if self.interface else None
        attempts = []
        for address in dict.fromkeys(addresses):
            endpoint: IStreamClientEndpoint
            v6 = address.family == 6
            if self.interface and v6 != (":" in self.interface):
                continue
            endpoint_class = TCP6ClientEndpoint if v6 else TCP4ClientEndpoint
            endpoint = endpoint_class(
                self.reactor,
                address.host,
                address.port,
                timeout=_TCP_CONNECT_TIMEOUT,
                bindAddress=bind,
            )
            name = f"{kind.value} {address}"
            attempts.append(self._attempt(kind, name, endpoint, delay))
        return attempts

    def _attempt(
        self, kind: PathKind, name: str, endpoint: IStreamClientEndpoint, delay: float
    ) -> Attempt:
        return Attempt(name, kind, self._start(kind, name, endpoint), delay)

    def _start(
        self, kind: PathKind, name: str, endpoint: IStreamClientEndpoint
    ) -> Start:
        def start(opened: OnOpen) -> Deferred[Path]:
            path = Path(
                self.reactor,
                kind,
                name,
                self.wanted,
                self.session,
                self.client_name,
                tls=self.tls,
                grant=self.grant,
            )
            path.on_open = opened
            return open_path(path, endpoint)

        return start


def _start_relayed(
    start: Start, endpoint: RelayClientEndpoint, opened: OnOpen
) -> Deferred[Path]:
    """Start an attempt and note in its path by which tunnelling method it runs.

    The method hears it when the path is cut later.
    """

    def verified(path: Path) -> Path:
        path.method = endpoint.selected_method
        path.on_cut = endpoint.cut
        return path

    return start(opened).addCallback(verified)
