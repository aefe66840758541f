"""Stateful firewalls of routers and hosts."""

from __future__ import annotations

from collections.abc import Iterable

from dwcloud.protocol.addresses import Address

from .nat import Filtering
from .packets import TCP, UDP, Packet

__all__ = ["Firewall"]


class Firewall:
    """Rules about what may leave and what may come in.

    :param filtering: which packets from outside may come in to an address inside
        that did not ask for them; the default admits replies only.
    :param block_udp: whether UDP may not leave (and so nothing of it comes back).
    :param tcp_ports: the only remote TCP ports that may be connected to; None: all.
    :param hosts: the only remote hosts that may be talked to; None: all.
    :param open_ports: what may come in always: ``("tcp", 443)``.
    :param rejects: whether the sender inside is told at once; else it waits in vain.
    :param udp_timeout: how long replies are admitted after the last packet, seconds.
    :param tcp_timeout: the same for TCP.
    """

    def __init__(
        self,
        *,
        filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT,
        block_udp: bool = False,
        tcp_ports: Iterable[int] | None = None,
        hosts: Iterable[str] | None = None,
        open_ports: Iterable[tuple[str, int]] = (),
        rejects: bool = False,
        udp_timeout: float = 120.0,
        tcp_timeout: float = 7440.0,
    ) -> None:
        self.filtering = filtering
        self.block_udp = block_udp
        self.tcp_ports = None if tcp_ports is None else frozenset(tcp_ports)
        self.hosts = None if hosts is None else frozenset(hosts)
        self.open_ports = set(open_ports)
        self.rejects = rejects
        self._timeouts = {UDP: udp_timeout, TCP: tcp_timeout}
        self._flows: dict[tuple[str, Address, Address], float] = {}
        self._talked_to: dict[tuple[str, Address, str], float] = {}

    def refuses_outbound(self, packet: Packet, now: float) -> str | None:
        """Return why a packet may not leave; None if it may."""
        if not self._is_known(packet.protocol, packet.source, packet.destination, now):
            if packet.protocol == UDP and self.block_udp:
                return "firewall blocks UDP"
            if self.hosts is not None and packet.destination.host not in self.hosts:
                return "firewall blocks the host"
            if (
                packet.protocol == TCP
                and self.tcp_ports is not None
                and packet.destination.port not in self.tcp_ports
            ):
                return "firewall blocks the TCP port"
        self._remember(packet.protocol, packet.source, packet.destination, now)
        return None

    def refuses_inbound(self, packet: Packet, now: float) -> str | None:
        """Return why a packet may not come in; None if it may."""
        protocol, inside, remote = packet.protocol, packet.destination, packet.source
        if (
            self.filtering is Filtering.ENDPOINT_INDEPENDENT
            or (protocol, inside.port) in self.open_ports
            or self._is_known(protocol, inside, remote, now)
            or (
                self.filtering is Filtering.ADDRESS_DEPENDENT
                and self._talked_to.get((protocol, inside, remote.host), now) > now
            )
        ):
            # The answer may leave whatever the rules for new connections are.
            self._remember(protocol, inside, remote, now)
            return None
        return "firewall admits replies only"

    def forget(self) -> None:
        """Lose all state, as a restart does."""
        self._flows.clear()
        self._talked_to.clear()

    def _is_known(
        self, protocol: str, inside: Address, remote: Address, now: float
    ) -> bool:
        return self._flows.get((protocol, inside, remote), now) > now

    def _remember(
        self, protocol: str, inside: Address, remote: Address, now: float
    ) -> None:
        expires = now + self._timeouts[protocol]
        self._flows[protocol, inside, remote] = expires
        self._talked_to[protocol, inside, remote.host] = expires
