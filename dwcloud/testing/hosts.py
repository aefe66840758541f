"""Simulated hosts: interfaces, routing and the table of sockets."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from dwcloud.protocol.addresses import Address

from .datagram_sockets import DatagramSocket
from .links import Link, LinkProfile
from .network import Interface, Network
from .packets import (
    TCP,
    UDP,
    Flags,
    Packet,
    Segment,
    canonical_host,
    is_broadcast,
    is_loopback,
    is_multicast,
    is_wildcard,
    system_error,
)
from .reactor import HostReactor
from .sockets import PortTable
from .stream_sockets import StreamSocket
from .trace import DELIVERED

if TYPE_CHECKING:
    from .firewall import Firewall
    from .streams import StreamConnection
    from .topology import World

__all__ = ["Host"]


class Host:
    """A machine with addresses and a reactor of its own.

    :ivar reactor: the :class:`~dwcloud.testing.HostReactor` its programs use.
    :ivar interfaces: in the order of preference for the default route.
    :ivar firewall: rules of the host itself; None lets everything pass.
    :ivar address_watchers: called when the addresses changed.
    :ivar names: host names that only this host knows, to lists of addresses.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.interfaces: list[Interface] = []
        self.firewall: Firewall | None = None
        self.names: dict[str, list[str]] = {}
        self.address_watchers: list[Callable[[], None]] = []
        self.datagram_ports: PortTable[DatagramSocket] = PortTable()
        self.stream_ports: PortTable[StreamSocket] = PortTable()
        self._connections: dict[tuple[Address, Address], StreamConnection] = {}
        self.reactor = HostReactor(self)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.addresses}>"

    @property
    def addresses(self) -> list[str]:
        """All addresses of all interfaces."""
        return [a for interface in self.interfaces for a in interface.addresses]

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]

    @property
    def link(self) -> Link:
        """The link of the first interface."""
        return self.interfaces[0].link

    def attach(
        self, network: Network, addresses: Iterable[str], profile: LinkProfile
    ) -> Interface:
        """Connect the host to one more network."""
        interface = network.attach(self, addresses, profile)
        self.interfaces.append(interface)
        self._addresses_changed()
        return interface

    def detach(self, interface: Interface) -> None:
        """Take a cable out; connections through it hear nothing more."""
        interface.network.detach(interface)
        self.interfaces.remove(interface)
        self._addresses_changed()

    def change_addresses(self, interface: Interface, addresses: Iterable[str]) -> None:
        """Replace the addresses of an interface, as after a new DHCP lease.

        Sockets bound to the old ones stay but their packets no longer come back.
        """
        for address in list(interface.addresses):
            interface.network.remove_address(interface, address)
        for address in addresses:
            interface.network.add_address(interface, address)
        self._addresses_changed()

    def _addresses_changed(self) -> None:
        for changed in tuple(self.address_watchers):
            self.reactor.callLater(0.0, changed)

    def restart(self) -> HostReactor:
        """End the program of this host and return a new reactor for the next one."""
        self.reactor.crash()
        self.reactor = HostReactor(self)
        return self.reactor

    def power_off(self) -> None:
        """Stop at once, silently: no packet, no callback comes from here again."""
        for connection in self.connections:
            connection.vanish()
        for interface in self.interfaces:
            interface.network.detach(interface)
        self.interfaces.clear()
        self.reactor.crash()

    def look_up(self, name: str) -> list[str]:
        """Return the addresses of a host name, none if it is unknown."""
        name = name.lower().rstrip(".")
        return self.names.get(name) or self.world.names.get(name) or []

    # Routing

    def owns(self, host: str) -> bool:
        """Return whether packets to ``host`` stay on this machine."""
        for interface in self.interfaces:
            if host in interface.addresses:
                return True
        return is_loopback(host)

    def route(self, host: str, source: str = "") -> Interface:
        """Return the interface by which packets to ``host`` leave.

        :param source: the address a socket is bound to, if it is.
        :raises OSError: ENETUNREACH if there is none.
        """
        if len(self.interfaces) == 1:
            only = self.interfaces[0]
            network = only.network
            if only.default_address(host) and (
                network.gateway is not None or network.includes(host)
            ):
                return only
            raise system_error(errno.ENETUNREACH)
        candidates = [i for i in self.interfaces if i.default_address(host)]
        nearest = max(
            candidates, key=lambda i: i.network.match_length(host), default=None
        )
        if nearest is not None and nearest.network.includes(host):
            return nearest
        with_gateway = [i for i in candidates if i.network.gateway is not None]
        with_gateway.sort(key=lambda i: source not in i.addresses)
        if not with_gateway:
            raise system_error(errno.ENETUNREACH)
        return with_gateway[0]

    def source_for(self, host: str) -> str:
        """Return the address from which this host talks to ``host``.

        :raises OSError: ENETUNREACH if it cannot.
        """
        if is_loopback(host) or self.owns(host):
            return host
        address = self.route(host).default_address(host)
        assert address is not None
        return address

    def route_or_local(self, host: str, source: str) -> None:
        """Raise ENETUNREACH unless ``host`` can be reached from ``source``."""
        if not self.owns(host):
            self.route(host, source)

    def check_bindable(self, host: str) -> None:
        """Raise EADDRNOTAVAIL unless a socket may be bound to this address."""
        if not (is_wildcard(host) or is_multicast(host) or self.owns(host)):
            raise system_error(errno.EADDRNOTAVAIL)

    def interface_with(self, address: str) -> Interface | None:
        """Return the interface that has this address."""
        return next((i for i in self.interfaces if address in i.addresses), None)

    def multicast_interface(self, address: str = "") -> Interface:
        """Return the interface for multicast: that with ``address``, or the first.

        :raises OSError: ENODEV if there is none.
        """
        if is_wildcard(address):
            if self.interfaces:
                return self.interfaces[0]
        else:
            interface = self.interface_with(canonical_host(address))
            if interface is not None:
                return interface
        raise system_error(errno.ENODEV)

    def is_broadcast(self, host: str) -> bool:
        """Return whether ``host`` is a broadcast address where this host is."""
        for interface in self.interfaces:
            if interface.network.is_broadcast(host):
                return True
        return is_broadcast(host)

    def broadcast_interface(self, host: str) -> Interface:
        """Return the interface for broadcasts to ``host``.

        :raises OSError: ENETUNREACH if there is none.
        """
        for interface in self.interfaces:
            if interface.network.is_broadcast(host):
                return interface
        raise system_error(errno.ENETUNREACH)

    def loop_back(self, packet: Packet, interface: Interface) -> None:
        """Give a multicast or broadcast that leaves here to this host's sockets."""
        if any(
            socket.takes_group(packet.destination.host, interface)
            for socket in self.datagram_ports.at(packet.destination.port)
        ):
            self.world.carry(
                0.0, lambda copy: self._receive_datagram(copy, interface), packet
            )

    def send(self, packet: Packet, interface: Interface | None = None) -> None:
        """Send a packet, by ``interface`` if given, else by the route.

        :raises OSError: ENETUNREACH if there is no route.
        """
        host = packet.destination[0]
        if interface is None and self.owns(host):
            self.world.carry(0.0, self._receive_locally, packet)
            return
        if interface is None:
            interface = self.route(host, packet.source[0])
        if self.firewall is not None:
            reason = self.firewall.refuses_outbound(packet, self.world.seconds())
            if reason is not None:
                self.world.trace.add(packet, self.name, reason)
                return
        interface.transmit(packet)

    def receive(self, packet: Packet, interface: Interface) -> None:
        """Take a packet from an interface."""
        if self.firewall is not None:
            reason = self.firewall.refuses_inbound(packet, self.world.seconds())
            if reason is not None:
                self.world.trace.add(packet, self.name, reason)
                return
        if packet.protocol == UDP:
            self._receive_datagram(packet, interface)
        else:
            self.receive_segment(packet)

    def _receive_locally(self, packet: Packet) -> None:
        if packet.protocol == UDP:
            self._receive_datagram(packet, None)
        else:
            self.receive_segment(packet)

    # UDP

    def _receive_datagram(self, packet: Packet, interface: Interface | None) -> None:
        host, port = packet.destination
        sockets = self.datagram_ports.at(port)
        if is_multicast(host) or (interface and interface.network.is_broadcast(host)):
            takers = [s for s in sockets if s.takes_group(host, interface)]
        else:
            # The socket that names most of the addresses wins, the latest of equals.
            best, most = None, 1
            for socket in sockets:
                fit = socket.match(packet)
                if fit >= most:
                    best, most = socket, fit
            takers = [] if best is None else [best]
        if not takers:
            self.world.trace.add(packet, self.name, "port unreachable")
            if packet.on_unreachable is not None:
                elapsed = self.world.seconds() - packet.sent_at
                self.world.scheduler.schedule(
                    elapsed, packet.on_unreachable, errno.ECONNREFUSED
                )
            return
        taken = [taker.receive(packet) for taker in takers]
        verdict = DELIVERED if any(taken) else "receive buffer full"
        self.world.trace.add(packet, self.name, verdict)

    # TCP

    def receive_segment(self, packet: Packet) -> None:
        """Give a TCP segment to its connection or listener, or answer with RST."""
        segment = packet.segment
        assert segment is not None
        connection = self._connections.get((packet.destination, packet.source))
        if connection is not None:
            self.world.trace.add(packet, self.name, DELIVERED)
            connection.receive(packet)
            return
        if segment.flags == Flags.SYN:
            for socket in self.stream_ports.at(packet.destination[1]):
                if socket.takes_syn_to(packet.destination[0]):
                    self.world.trace.add(packet, self.name, DELIVERED)
                    socket.receive_syn(packet)
                    return
        if segment.flags & Flags.RST:
            self.world.trace.add(packet, self.name, "no such connection")
            return
        self.world.trace.add(packet, self.name, "refused")
        self.send_segment(
            packet.destination, packet.source, Segment(flags=Flags.RST), b""
        )

    def send_segment(
        self, source: Address, destination: Address, segment: Segment, data: bytes
    ) -> Packet | None:
        """Send a TCP segment; None if there is no route any more."""
        packet = self.world.new_packet(self.name, TCP, source, destination, data)
        packet.segment = segment
        try:
            self.send(packet)
        except OSError:
            self.world.trace.add(packet, self.name, "no route")
            return None
        return packet

    def add_connection(self, connection: StreamConnection) -> None:
        """Let segments of a connection find it.

        :raises OSError: EADDRNOTAVAIL if the two addresses are connected already.
        """
        key = connection.local, connection.remote
        older = self._connections.get(key)
        if older is not None and older.is_done:
            older.vanish()
        elif older is not None:
            raise system_error(errno.EADDRNOTAVAIL)
        self._connections[key] = connection

    def remove_connection(self, connection: StreamConnection) -> None:
        """Forget a connection."""
        key = connection.local, connection.remote
        if self._connections.get(key) is connection:
            del self._connections[key]

    @property
    def connections(self) -> list[StreamConnection]:
        """The TCP connections of this host, those that are closing too."""
        return list(self._connections.values())
