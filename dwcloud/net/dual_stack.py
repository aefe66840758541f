"""Sockets of IPv6 that take IPv4 as well, as Linux and macOS have them.

Such a socket shows a far end of IPv4 as one of IPv6 (:rfc:`4291`, 2.5.5.2); nobody else
should have to know that.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IListeningPort

from dwcloud.protocol.addresses import parse_ip

__all__ = ["on_all_addresses", "plain_peer", "takes_ipv4"]


def on_all_addresses(port: int) -> str:
    """Return how options of services name a port of all of this machine's addresses.

    That is the port alone, which is all of IPv4, where there is no IPv6, or where a
    socket of it does not take IPv4 as well.
    """
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
            made.bind(("::", 0))
            both = not made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        both = False
    return rf"{port}:interface=\:\:" if both else f"{port}"


def takes_ipv4(port: IListeningPort) -> bool:
    """Tell whether a socket that listens on an address of IPv6 takes IPv4 as well."""
    made: Any = getattr(port, "socket", None)
    return (
        made is not None
        and made.family == socket.AF_INET6
        and made.getsockname()[0] == "::"
        and not made.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def plain_peer(peer: IAddress) -> IAddress:
    """Return the far end of a connection, one of IPv4 as such."""
    if isinstance(peer, IPv6Address):
        ip = parse_ip(peer.host)
        if ip.version == 4:
            return IPv4Address(peer.type, str(ip), peer.port)
    return peer
