"""This machine's own IP addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dwcloud.interfaces import LocalAddress
from dwcloud.peer.mediator_address import MediatorAddress, is_loopback
from dwcloud.protocol.addresses import is_global_ipv6, is_usable_ipv6

__all__ = ["local_addresses", "own_addresses", "wants_ipv6"]

_MAX_ADDRESSES = 12
_MAX_IPV6 = 4
"""Of which so many are of IPv6: a machine that hides has a new one every day."""
_SOMEWHERE = "2000::1"
"""An address of IPv6 that is far away for everybody; nothing is sent there."""


def own_addresses(network: Any) -> list[str]:
    """The IP addresses of a machine, best guess first; see :func:`local_addresses`.

    :param network: the machine's :class:`~dwcloud.interfaces.ILocalNetwork`.
    """
    found = network.localAddresses()
    used = network.sourceAddress(_SOMEWHERE)
    return local_addresses(found, first="" if used is None else used)


def local_addresses(found: Iterable[LocalAddress], *, first: str = "") -> list[str]:
    """The IPv4 and IPv6 addresses of a machine, best guess first.

    Of IPv6 those that mean more than one link, the global ones first. Loopback is named
    only by a machine that has nothing else.

    :param found: all that it has.
    :param first: the one of IPv6 that the system uses, the best guess of them.
    """
    hosts = [address.host for address in found]
    ipv4 = [h for h in hosts if ":" not in h and not h.startswith("169.254.")]
    ipv6 = sorted(
        filter(is_usable_ipv6, hosts), key=lambda h: (h != first, not is_global_ipv6(h))
    )[:_MAX_IPV6]
    others = [h for h in ipv4 if not h.startswith("127.")]
    others = others[: _MAX_ADDRESSES - len(ipv6)] + ipv6
    return others or ipv4[:_MAX_ADDRESSES]


def wants_ipv6(
    mediator: MediatorAddress | None, find: Callable[[], Iterable[LocalAddress]]
) -> bool:
    """Tell whether a peer is to punch over IPv6 as well.

    That is so if this machine can be reached that way, or the mediator only so.

    :param find: finds the addresses of this machine, if they matter.
    """
    if mediator is None:
        return False
    if ":" in mediator.host:
        return True
    if is_loopback(mediator.host):
        return False
    return any(is_usable_ipv6(address.host) for address in find())
