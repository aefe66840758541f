"""What travels in the simulated network: UDP datagrams and TCP segments."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import attrs

from dwcloud.protocol.addresses import Address

__all__ = [
    "LARGEST_HEADERS",
    "TCP",
    "UDP",
    "Flags",
    "Packet",
    "Segment",
    "canonical_host",
    "is_broadcast",
    "is_ipv6",
    "is_loopback",
    "is_multicast",
    "is_wildcard",
    "system_error",
]

UDP = "udp"
TCP = "tcp"

#: Octets of the IP and transport headers: IPv4 20, IPv6 40, UDP 8, TCP 20.
_HEADER_SIZES = {
    (UDP, False): 28,
    (TCP, False): 40,
    (UDP, True): 48,
    (TCP, True): 60,
}
LARGEST_HEADERS = max(_HEADER_SIZES.values())


class Flags:
    """The control flags of a TCP segment that the model uses, bits of a number."""

    SYN: Final = 1
    ACK: Final = 2
    FIN: Final = 4
    RST: Final = 8


_FLAG_NAMES = {Flags.SYN: "syn", Flags.ACK: "ack", Flags.FIN: "fin", Flags.RST: "rst"}


@lru_cache(maxsize=16)
def _describe(flags: int) -> str:
    """Return the flags in short, ``syn+ack``, or ``data`` when there are none."""
    names = [name for flag, name in _FLAG_NAMES.items() if flags & flag]
    return "+".join(names) or "data"


class Segment(NamedTuple):
    """The TCP header: octets are numbered from 0; FIN takes a number, SYN none.

    :ivar window_end: the number of the first octet the sender has no room for.
    :ivar congestion_echo: a packet arrived that met a congested queue (RFC 3168).
    """

    flags: int
    sequence: int = 0
    acknowledgement: int = 0
    window_end: int = 0
    congestion_echo: bool = False


@attrs.define(eq=False)
class Packet:
    """A packet under way.

    :ivar number: the same for a packet and its translations and copies.
    :ivar origin: the name of the host that sent it.
    :ivar sent_at: when it was sent, seconds of simulated time.
    :ivar ttl: how many more times it may be forwarded.
    :ivar congested: set by a link whose queue is filling.
    :ivar on_unreachable: told the error number when the destination is found not to
        exist (what ICMP does); None when the sender does not care.
    """

    protocol: str
    source: Address
    destination: Address
    payload: bytes
    number: int
    origin: str
    sent_at: float
    segment: Segment | None = None
    ttl: int = 64
    congested: bool = False
    on_unreachable: Callable[[int], None] | None = None

    @property
    def size(self) -> int:
        """Octets on the wire, with IP and transport headers."""
        return len(self.payload) + _HEADER_SIZES[self.protocol, is_ipv6(self.source[0])]

    @property
    def kind(self) -> str:
        """``datagram``, or the flags of the TCP segment, ``data`` if it has any."""
        if self.segment is None:
            return "datagram"
        kind = _describe(self.segment.flags)
        return "data" if kind == "ack" and self.payload else kind

    def translated(
        self, *, source: Address | None = None, destination: Address | None = None
    ) -> Packet:
        """Return a copy with other addresses, as a NAT makes it."""
        return Packet(
            self.protocol,
            source or self.source,
            destination or self.destination,
            self.payload,
            self.number,
            self.origin,
            self.sent_at,
            self.segment,
            self.ttl,
            self.congested,
            self.on_unreachable,
        )


@lru_cache(maxsize=4096)
def canonical_host(host: str) -> str:
    """Return the one way this network writes an IP address.

    :raises ValueError: if it is not an IP address.
    """
    return str(ipaddress.ip_address(host.partition("%")[0]))


@lru_cache(maxsize=4096)
def is_multicast(host: str) -> bool:
    """Return whether ``host`` is a multicast group."""
    return ipaddress.ip_address(host).is_multicast


@lru_cache(maxsize=4096)
def is_loopback(host: str) -> bool:
    """Return whether ``host`` is a loopback address."""
    return ipaddress.ip_address(host).is_loopback


def is_ipv6(host: str) -> bool:
    """Return whether ``host`` is an IPv6 address literal."""
    return ":" in host


def is_broadcast(host: str) -> bool:
    """Return whether ``host`` is the limited broadcast address of IPv4."""
    return host == "255.255.255.255"


def is_wildcard(host: str) -> bool:
    """Return whether ``host`` stands for any local address."""
    return host in ("", "0.0.0.0", "::")


def system_error(number: int) -> OSError:
    """Return the error that a system call reports by this number."""
    return OSError(number, os.strerror(number))
