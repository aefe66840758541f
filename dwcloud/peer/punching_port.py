"""The UDP port that a peer asks the mediator from, and punches with."""

from __future__ import annotations

from typing import Any

from dwcloud.net.dual_udp import DualUDPPort
from dwcloud.net.local_network import local_network
from dwcloud.peer.local_addresses import wants_ipv6
from dwcloud.peer.mediator_address import MediatorAddress

__all__ = ["punching_port"]


def punching_port(
    reactor: Any,
    mediator: MediatorAddress | None,
    *,
    interface: str = "",
    port: int = 0,
) -> DualUDPPort:
    """Return the port, to be started: of IPv4, and of IPv6 where that is of use.

    :param interface: the only local IP address to use, empty for any.
    :param port: its number; 0 takes a free one.
    """
    network = local_network(reactor)
    return DualUDPPort(
        reactor,
        interface=interface,
        port=port,
        wants_ipv6=lambda: wants_ipv6(mediator, network.localAddresses),
    )
