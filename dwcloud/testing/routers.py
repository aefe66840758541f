"""Routers between two networks, with or without NAT and firewall."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dwcloud.protocol.addresses import Address

from .firewall import Firewall
from .links import LinkProfile
from .nat import NATTable
from .network import Interface, Network
from .packets import TCP, Flags, Packet, Segment, is_ipv6

if TYPE_CHECKING:
    from .topology import World

__all__ = ["Router"]


class Router:
    """Joins an inner network to an outer one.

    IPv4 is translated when there is a NAT table; what is not translated (IPv6, and
    all without a table) is routed, and the outer network knows the way.

    :ivar nat: the translation of IPv4; None routes public addresses.
    :ivar firewall: what may pass; None is anything.
    :ivar outside: the interface in the outer network.
    :ivar inside: the interface in the inner network, its gateway.
    """

    def __init__(
        self,
        world: World,
        name: str,
        *,
        nat: NATTable | None = None,
        firewall: Firewall | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.nat = nat
        self.firewall = firewall
        self.outside: Interface | None = None
        self.inside: Interface | None = None

    def __repr__(self) -> str:
        return f"<Router {self.name}>"

    def connect(
        self,
        outer: Network,
        outer_addresses: list[str],
        outer_link: LinkProfile,
        inner: Network,
        inner_addresses: list[str],
    ) -> None:
        """Join the two networks."""
        self.outside = outer.attach(self, outer_addresses, outer_link)
        self.inside = inner.attach(self, inner_addresses, LinkProfile())
        # The router is in the inner network as a switch is: no turn for its own port.
        self.inside.link.up.at_once = self.inside.link.down.at_once = True
        inner.gateway = self.inside
        inner.router = self

    @property
    def external_address(self) -> str:
        """The IPv4 address that inner hosts appear with."""
        assert self.outside is not None
        address = self.outside.default_address("0.0.0.0")
        assert address is not None
        return address

    def reboot(self, new_address: str | None = None) -> None:
        """Lose all mappings and state, and perhaps get another external address."""
        if self.nat is not None:
            self.nat.forget()
        if self.firewall is not None:
            self.firewall.forget()
        if new_address is not None:
            assert self.outside is not None
            network = self.outside.network
            network.remove_address(self.outside, self.external_address)
            network.add_address(self.outside, new_address)

    def forward_port(
        self, protocol: str, port: int, host: str, internal_port: int | None = None
    ) -> None:
        """Send what comes to an external port to an inner host (a port forward).

        :raises ValueError: if the port is forwarded already or there is no NAT.
        """
        if self.nat is None:
            raise ValueError(f"{self.name} translates nothing, no port to forward")
        internal = Address(host, port if internal_port is None else internal_port)
        self.nat.add_forward(protocol, port, internal)

    def remove_forward(self, protocol: str, port: int) -> None:
        """End a port forward, if there is one."""
        if self.nat is not None:
            self.nat.remove_forward(protocol, port)

    # Routes of addresses that are not translated

    def translates(self, host: str) -> bool:
        """Return whether inner addresses of this family are hidden outside."""
        return self.nat is not None and not is_ipv6(host)

    def announce(self, host: str) -> None:
        """Make an inner address reachable from the outer network."""
        if self.outside is not None and not self.translates(host):
            self.outside.network.announce(self.outside, host)

    def withdraw(self, host: str) -> None:
        """End that."""
        if self.outside is not None and not self.translates(host):
            self.outside.network.withdraw(host)

    # Packets

    def receive(self, packet: Packet, interface: Interface) -> None:
        """Forward a packet from one side to the other."""
        packet.ttl -= 1
        if packet.ttl <= 0:
            self._drop(packet, "time to live exceeded")
        elif interface is self.inside:
            self._forward_out(packet)
        else:
            self._forward_in(packet)

    def _drop(self, packet: Packet, reason: str) -> None:
        self.world.trace.add(packet, self.name, reason)

    def _forward_out(self, packet: Packet) -> None:
        assert self.inside is not None and self.outside is not None
        if packet.destination.host in self.inside.addresses:
            self._drop(packet, "routers offer nothing")
            return
        now = self.world.seconds()
        if self.firewall is not None:
            reason = self.firewall.refuses_outbound(packet, now)
            if reason is not None:
                self._drop(packet, reason)
                if self.firewall.rejects and packet.on_unreachable is not None:
                    self.world.scheduler.schedule(
                        now - packet.sent_at, packet.on_unreachable, errno.ECONNREFUSED
                    )
                return
        if not self.translates(packet.source.host):
            self.outside.transmit(packet)
            return
        assert self.nat is not None
        port = self.nat.outbound(
            packet.protocol, packet.source, packet.destination, now
        )
        if port is None:
            self._drop(packet, "no external port left")
            return
        translated = packet.translated(source=Address(self.external_address, port))
        if packet.destination.host not in self.outside.addresses:
            self.outside.transmit(translated)
        elif self.nat.behaviour.hairpinning:
            self._forward_in(translated)
        else:
            self._drop(packet, "no hairpinning")

    def _forward_in(self, packet: Packet) -> None:
        assert self.inside is not None and self.outside is not None
        now = self.world.seconds()
        if packet.destination.host in self.outside.addresses:
            internal = None
            if self.nat is not None:
                internal = self.nat.inbound(
                    packet.protocol, packet.source, packet.destination.port, now
                )
            if internal is None:
                self._refuse(packet)
                return
            packet = packet.translated(destination=internal)
        elif self.translates(packet.destination.host):
            self._drop(packet, "no route")
            return
        if self.firewall is not None:
            reason = self.firewall.refuses_inbound(packet, now)
            if reason is not None:
                self._drop(packet, reason)
                return
        self.inside.transmit(packet)

    def _refuse(self, packet: Packet) -> None:
        """Drop what no mapping admits; some routers answer TCP with a reset."""
        self._drop(packet, "no mapping")
        assert self.outside is not None
        if self.nat is None or not self.nat.behaviour.resets:
            return
        segment = packet.segment
        if packet.protocol == TCP and segment and not segment.flags & Flags.RST:
            answer = self.world.new_packet(
                self.name, TCP, packet.destination, packet.source, b""
            )
            answer.segment = Segment(flags=Flags.RST)
            self.outside.transmit(answer)
