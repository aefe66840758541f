"""The paths that can be tried to a server, from what is known of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
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

from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.connector import Attempt
from dwcloud.peer.path import Path, open_path
from dwcloud.peer.relay_client import RelayClientEndpoint
from dwcloud.peer.status import PathKind
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.names import PeerName

__all__ = ["AttemptMaker"]

_TCP_CONNECT_TIMEOUT = 10.0


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _RendezvousEndpoint:
    """The far end of a hole that both sides punch."""

    port: SharedUDPPort
    address: Address
    timeout: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Punch."""
        return self.port.udt.rendezvous(self.address, protocolFactory, self.timeout)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class _TunnelEndpoint:
    """The far end of a hole that is open already."""

    port: SharedUDPPort
    address: Address
    timeout: float

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect as to a directly reachable address."""
        return self.port.udt.connect(self.address, protocolFactory, self.timeout)


@attrs.frozen
class AttemptMaker:
    """Makes the attempts of one connect session.

    :ivar reactor: Twisted's.
    :ivar wanted: who has to be at the far end.
    :ivar session: the connect session id; None for LAN paths.
    :ivar interface: local address to connect from, empty for any.
    :ivar tls: False for streams in the clear.
    """

    reactor: Any
    wanted: PeerName
    session: uuid.UUID | None
    client_name: str = ""
    interface: str = ""
    tls: bool = True

    def lan(self, addresses: Iterable[Address]) -> list[Attempt]:
        """Direct TCP to addresses heard on the LAN."""
        return self._tcp(addresses, PathKind.LAN, 0.0)

    def tcp(self, addresses: Iterable[Address], delay: float) -> list[Attempt]:
        """Direct TCP to addresses that the mediator named."""
        return self._tcp(addresses, PathKind.TCP, delay)

    def rendezvous(
        self,
        port: SharedUDPPort,
        addresses: Iterable[Address],
        delay: float,
        timeout: float,
    ) -> list[Attempt]:
        """UDT rendezvous on the port that asked the mediator."""
        return [
            self._attempt(
                PathKind.UDP,
                f"udp {address}",
                _RendezvousEndpoint(port, address, timeout),
                delay,
            )
            for address in dict.fromkeys(addresses)
        ]

    def tunnel(self, port: SharedUDPPort, address: Address, timeout: float) -> Attempt:
        """Regular UDT through an open hole."""
        endpoint = _TunnelEndpoint(port, address, timeout)
        return self._attempt(PathKind.UDP, f"tunnel {address}", endpoint, 0.0)

    def relay(
        self, urls: Iterable[str], delay: float, proxies: Proxies | None = None
    ) -> list[Attempt]:
        """A relayed connection, to the relay by a proxy if there is one."""
        return [
            self._attempt(
                PathKind.RELAY,
                f"relay {url}",
                RelayClientEndpoint(
                    self.reactor,
                    url,
                    self.wanted,
                    proxies=proxies,
                    interface=self.interface,
                ),
                delay,
            )
            for url in dict.fromkeys(urls)
        ]

    def _tcp(
        self, addresses: Iterable[Address], kind: PathKind, delay: float
    ) -> list[Attempt]:
        bind = (self.interface, 0) if self.interface else None
        attempts = []
        for address in dict.fromkeys(addresses):
            endpoint: IStreamClientEndpoint
            v6 = address.family == 6
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
    ) -> Callable[[], Deferred[Path]]:
        def start() -> Deferred[Path]:
            path = Path(
                self.reactor,
                kind,
                name,
                self.wanted,
                self.session,
                self.client_name,
                tls=self.tls,
            )
            return open_path(path, endpoint)

        return start
