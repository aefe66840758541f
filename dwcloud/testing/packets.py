"""What travels in the simulated network: UDP datagrams and TCP segments."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from enum import IntFlag
from functools import lru_cache

import attrs

from dwcloud.protocol.addresses import Address

__all__ = [
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


class Flags(IntFlag):
    """The control flags of a TCP segment that the model uses."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


@attrs.frozen
class Segment:
    """The TCP header: octets are numbered from 0; FIN takes a number, SYN none.

    :ivar window_end: the number of the first octet the sender has no room for.
    :ivar congestion_echo: a packet arrived that met a congested queue (RFC 3168).
    """

    flags: Flags
    sequence: int = 0
    acknowledgement: int = 0
    window_end: int = 0
    congestion_echo: bool = False

    def describe(self) -> str:
        """Return the flags in short, ``syn+ack``, or ``data`` when there are none."""
        names = [
            flag.name.lower() for flag in Flags if flag in self.flags and flag.name
        ]
        return "+".join(names) or "data"


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
        kind = self.segment.describe()
        return "data" if kind == "ack" and self.payload else kind

    def translated(
        self, *, source: Address | None = None, destination: Address | None = None
    ) -> Packet:
        """Return a copy with other addresses, as a NAT makes it."""
        return attrs.evolve(
            self,
            source=source or self.source,
            destination=destination or self.destination,
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
