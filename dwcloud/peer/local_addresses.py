"""This machine's own IP addresses."""

from __future__ import annotations

import ifaddr

__all__ = ["local_addresses"]

_MAX_ADDRESSES = 12


def local_addresses() -> list[str]:
    """The IPv4 and global IPv6 addresses of this machine, best guess first.

    Loopback is named only by a machine that has nothing else.
    """
    addresses: list[str] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if not text.lower().startswith(("fe80:", "::1", "169.254.")):
                addresses.append(text)
    others = [a for a in addresses if not a.startswith("127.")]
    return (others or addresses)[:_MAX_ADDRESSES]
