"""Transport addresses: an IP address and a port, and their text form."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

__all__ = [
    "Address",
    "format_address",
    "is_global_ipv6",
    "is_private_use",
    "is_usable_ipv6",
    "parse_address",
    "parse_ip",
    "unmapped",
]

_PRIVATE_USE = tuple(
    ipaddress.ip_network(prefix)
    for prefix in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)

_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")


class Address(NamedTuple):
    """An IP address in text form and a port; equal to the plain tuple of both."""

    host: str
    port: int

    def __str__(self) -> str:
        return format_address(self)

    @property
    def family(self) -> int:
        """4 or 6, the version of the Internet Protocol."""
        return 6 if ":" in self.host else 4


def format_address(address: tuple[str, int]) -> str:
    """Return ``host:port``, with brackets around an IPv6 address (RFC 3986, 3.2.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_private_use(host: str) -> bool:
    """Tell whether an IP address means something within one site or host only.

    Those are the addresses of RFC 1918, RFC 3927, RFC 4193, link-local and loopback;
    unlike Python's ``is_private`` not those for documentation and benchmarks.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    return any(
        address in network
        for network in _PRIVATE_USE
        if network.version == address.version
    )


def is_global_ipv6(host: str) -> bool:
    """Tell whether an IP address is one of the Internet of IPv6 (RFC 4291, 2.4).

    Those for documentation are, for the sake of simulations.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.version == 6 and address in _GLOBAL_IPV6


def is_usable_ipv6(host: str) -> bool:
    """Tell whether an IP address is of IPv6, and means more than one link.

    That is a global one, or a unique local one (RFC 4193).
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.version == 6 and (
        address in _GLOBAL_IPV6 or address in _UNIQUE_LOCAL
    )


def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an IP address, one of IPv4 as such even if a socket shows it as of IPv6.

    A zone is left out (RFC 4291, 2.5.5.2; RFC 4007, 11).

    :raises ValueError: if it is none.
    """
    ip = ipaddress.ip_address(text.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def unmapped(address: tuple[str, int]) -> Address:
    """Return an address of IPv4 as such, which a socket of both shows as one of IPv6.

    :param address: an IP address and a port.
    """
    ip = parse_ip(address[0])
    host = str(ip) if ip.version == 4 else address[0]
    return Address(host, address[1])


def parse_address(text: str, default_port: int | None = None) -> Address:
    """Read ``192.0.2.1:5`` or ``[2001:db8::1]:5``.

    :param default_port: the port when the text names none; without it the port
        is required.
    :raises ValueError: if the text is not an IP address with a port; the message
        says what was wrong and what would be right.
    """
    expected = "expected an IP address and a port such as 192.0.2.1:3345 or [::1]:3345"
    host, port_text = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is not an address: {expected}")
        port_text = rest[1:]
    elif text.count(":") == 1:
        host, port_text = text.split(":")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is not an address: {expected}") from None
    if not port_text:
        if default_port is None:
            raise ValueError(f"{text!r} has no port: {expected}")
        return Address(str(ip), default_port)
    # The length first: int() of thousands of digits raises an error of its own.
    digits = port_text.isascii() and port_text.isdigit() and len(port_text) <= 5
    if not digits or int(port_text) > 65535:
        raise ValueError(f"{port_text!r} in {text!r} is not a port: {expected}")
    return Address(str(ip), int(port_text))
