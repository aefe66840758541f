"""Networks and the interfaces of hosts and routers in them."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from .links import Link, LinkProfile
from .packets import Packet, canonical_host, is_broadcast, is_multicast

if TYPE_CHECKING:
    from .routers import Router
    from .topology import World

__all__ = ["Interface", "Network", "Node"]

#: How long a host asks for the hardware address of a neighbour that does not
#: exist before it reports the destination unreachable (Linux: 3 times 1 s), seconds.
NEIGHBOUR_TIMEOUT = 3.0


class Node(Protocol):
    """What has interfaces: a host or a router."""

    name: str

    def receive(self, packet: Packet, interface: Interface) -> None:
        """Take a packet that arrived at ``interface``."""


@lru_cache(maxsize=4096)
def _match_length(prefixes: tuple[str, ...], host: str) -> int:
    address = ipaddress.ip_address(host)
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    return max((n.prefixlen for n in networks if address in n), default=-1)


class Interface:
    """The attachment of a node to a network, with its addresses and its link.

    :ivar addresses: IP addresses in text form, the first of a family is its default.
    :ivar groups: multicast groups joined here, with the number of sockets in each.
    """

    def __init__(
        self, node: Node, network: Network, addresses: Iterable[str], link: Link
    ) -> None:
        self.node = node
        self.network = network
        self.addresses = [canonical_host(address) for address in addresses]
        self.link = link
        self.groups: dict[str, int] = {}

    def transmit(self, packet: Packet) -> None:
        """Send a packet into the network."""
        self.link.up.carry(packet, self._arrived_in_network)

    def _arrived_in_network(self, packet: Packet) -> None:
        self.network.forward(packet, self)

    def deliver(self, packet: Packet) -> None:
        """Bring a packet from the network to the node."""
        self.link.down.carry(packet, self._arrived_at_node)

    def _arrived_at_node(self, packet: Packet) -> None:
        self.node.receive(packet, self)

    def default_address(self, family_of: str) -> str | None:
        """Return the first address of the same family as ``family_of``."""
        wanted = ":" in family_of
        for address in self.addresses:
            if (":" in address) is wanted:
                return address
        return None

    def __repr__(self) -> str:
        return f"<Interface of {self.node.name} in {self.network.name}>"


class Network:
    """One IP network: its members reach each other, anything else by its gateway.

    :ivar prefixes: the address ranges of the network, ``192.168.1.0/24``.
    :ivar gateway: where packets to other addresses go; None drops them.
    :ivar router: the router at the gateway, to which the own addresses are told.
    :param reports_absence: whether who sends to an address that nobody has learns
        of it, as in a LAN. In the Internet such packets vanish.
    :param hops: routers of its own that packets pass between two members.
    """

    def __init__(
        self,
        world: World,
        name: str,
        prefixes: Iterable[str],
        *,
        reports_absence: bool = True,
        hops: int = 0,
    ) -> None:
        self.world = world
        self._reports_absence = reports_absence
        self._hops = hops
        self.router: Router | None = None
        self.name = name
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        self.prefixes = tuple(str(network) for network in networks)
        self._broadcasts = frozenset(
            str(network.broadcast_address)
            for network in networks
            if network.version == 4
        )
        self.gateway: Interface | None = None
        self._interfaces: list[Interface] = []
        self._owners: dict[str, Interface] = {}
        self._filters: list[Callable[[Packet], bool]] = []

    def attach(
        self, node: Node, addresses: Iterable[str], profile: LinkProfile
    ) -> Interface:
        """Connect a node by a new link.

        :raises ValueError: if an address is taken or not of this network.
        """
        link = Link(self.world, f"{node.name}@{self.name}", profile)
        interface = Interface(node, self, (), link)
        self._interfaces.append(interface)
        for address in addresses:
            self.add_address(interface, address)
        return interface

    def detach(self, interface: Interface) -> None:
        """Disconnect a node; its addresses become free."""
        self._interfaces.remove(interface)
        for address, owner in list(self._owners.items()):
            if owner is interface:
                self.withdraw(address)
        if self.gateway is interface:
            self.gateway = None

    def add_address(self, interface: Interface, address: str) -> None:
        """Give an interface one more address."""
        address = canonical_host(address)
        if not self.includes(address):
            raise ValueError(f"{address} does not belong to {list(self.prefixes)}")
        self.announce(interface, address)
        interface.addresses.append(address)

    def remove_address(self, interface: Interface, address: str) -> None:
        """Take an address from an interface."""
        address = canonical_host(address)
        interface.addresses.remove(address)
        self.withdraw(address)

    def announce(self, interface: Interface, address: str) -> None:
        """Route an address by an interface that does not have it itself."""
        address = canonical_host(address)
        if address in self._owners:
            raise ValueError(f"{address} is taken by {self._owners[address]!r}")
        self._owners[address] = interface
        if self.router is not None:
            self.router.announce(address)

    def withdraw(self, address: str) -> None:
        """Forget the owner of an address."""
        del self._owners[canonical_host(address)]
        if self.router is not None:
            self.router.withdraw(address)

    def includes(self, host: str) -> bool:
        """Return whether an address lies in the ranges of this network."""
        return _match_length(self.prefixes, host) >= 0

    def match_length(self, host: str) -> int:
        """Return the length of the longest prefix that ``host`` lies in, or -1."""
        return _match_length(self.prefixes, host)

    def add_filter(self, drops: Callable[[Packet], bool]) -> Callable[[], None]:
        """Drop the packets for which ``drops`` is true; the result ends that."""
        self._filters.append(drops)
        return lambda: self._filters.remove(drops)

    def forward(self, packet: Packet, sender: Interface) -> None:
        """Bring a packet to the interface that owns its destination."""
        if self._filters and any(drops(packet) for drops in self._filters):
            self.world.trace.add(packet, self.name, "filtered")
            return
        packet.ttl -= self._hops
        if packet.ttl <= 0:
            self.world.trace.add(packet, self.name, "time to live exceeded")
            return
        host = packet.destination[0]
        owner = self._owners.get(host)
        if owner is not None:
            owner.deliver(packet)
        elif is_multicast(host) or self.is_broadcast(host):
            self._flood(packet, sender)
        elif self.includes(host):
            self._report_no_neighbour(packet)
        elif self.gateway is not None and self.gateway is not sender:
            self.gateway.deliver(packet)
        else:
            self.world.trace.add(packet, self.name, "no route")

    def is_broadcast(self, host: str) -> bool:
        """Return whether ``host`` is a broadcast address of this network."""
        return is_broadcast(host) or host in self._broadcasts

    def _flood(self, packet: Packet, sender: Interface) -> None:
        group = packet.destination[0]
        for interface in tuple(self._interfaces):
            if interface is not sender and (
                not is_multicast(group) or group in interface.groups
            ):
                interface.deliver(packet)

    def _report_no_neighbour(self, packet: Packet) -> None:
        self.world.trace.add(packet, self.name, "no such host")
        if packet.on_unreachable is not None and self._reports_absence:
            self.world.scheduler.schedule(
                NEIGHBOUR_TIMEOUT, packet.on_unreachable, errno.EHOSTUNREACH
            )
