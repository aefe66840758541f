"""What a mediator says of where it is, to who knows one of its addresses only."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from dwcloud.interfaces import LocalAddress
from dwcloud.protocol.addresses import (
    Address,
    is_global_ipv6,
    is_private_use,
    is_usable_ipv6,
)

__all__ = ["announced_endpoints"]


def announced_endpoints(
    sockets: Iterable[Address], found: Iterable[LocalAddress]
) -> tuple[Address, ...]:
    """Return the UDP addresses that a mediator tells, one of each version of IP.

    Private ones of IPv4 are other machines in other networks; nobody is sent there.
    Local ones of IPv6 are unique, and told where there is no global one.

    :param sockets: the addresses of its UDP sockets, which may be wildcards.
    :param found: the addresses of this machine.
    """
    own = [address.host for address in found]
    announced: dict[int, Address] = {}
    for socket in sockets:
        unspecified = ipaddress.ip_address(socket.host).is_unspecified
        hosts = own if unspecified else [socket.host]
        mine = [h for h in hosts if (":" in h) == (socket.family == 6)]
        if socket.family == 6:
            usable = [host for host in mine if is_usable_ipv6(host)]
            usable.sort(key=is_global_ipv6, reverse=True)
        else:
            usable = [host for host in mine if not is_private_use(host)]
        if usable:
            announced.setdefault(socket.family, Address(usable[0], socket.port))
    return tuple(announced.values())
