"""What a NAT does, by its usual name and in plain words."""

from __future__ import annotations

import ipaddress

from dwcloud.protocol.nat import Filtering, NATBehaviour

__all__ = [
    "UDP_BLOCKED",
    "UNKNOWN",
    "describe",
    "is_carrier_address",
    "kind_of",
]

UNKNOWN = "unknown"
UDP_BLOCKED = "udp-blocked"

_CARRIER = ipaddress.ip_network("100.64.0.0/10")
_DESCRIPTIONS = {
    UNKNOWN: "How this network treats UDP could not be found out.",
    UDP_BLOCKED: "No UDP gets out of this network, or no answer gets back in.",
    "none": "This machine has a public address and anybody may send to it.",
    "firewall": "This machine has a public address, and a firewall that lets in only "
    "answers.",
    "full-cone": "The router gives a program one public port, and lets in whatever is "
    "sent to that port: the best kind.",
    "addr-restricted": "The router gives a program one public port, and lets in what "
    "comes from machines that the program has sent to.",
    "port-restricted": "The router gives a program one public port, and lets in only "
    "answers: the most common kind, and good enough with most others.",
    "cone": "The router gives a program one public port; whom it lets in is not known.",
    "symmetric": "The router takes another port, chosen at random, for each machine "
    "that a program talks to: others cannot know where to send.",
    "symmetric-seq": "The router takes another port for each machine that a program "
    "talks to, one after the other: others have to guess the next one.",
    "symmetric-addr": "The router takes another port for each address that a program "
    "talks to: others cannot know where to send.",
    "symmetric-open": "The router takes another port for each machine that a program "
    "talks to, but lets anybody send there.",
}


def kind_of(nat: NATBehaviour | None) -> str:
    """Return the usual name of a kind: ``port-restricted``, ``symmetric-seq``...

    :return: a name of the table in docs/reference/commands; ``cone`` where the
        filtering is not known.
    """
    if nat is None:
        return UNKNOWN
    if not nat.udp:
        return UDP_BLOCKED
    summary = nat.summary()
    if nat.translated is False:
        if nat.filtering is None:
            return UNKNOWN
        open_ = nat.filtering is Filtering.ENDPOINT_INDEPENDENT
        return "none" if open_ else "firewall"
    return UNKNOWN if summary is None else summary.kind


def describe(kind: str) -> str:
    """Return a sentence or two about a kind for people who know no RFC."""
    return _DESCRIPTIONS[kind]


def is_carrier_address(host: str) -> bool:
    """Tell whether an IP address is one that carriers give out behind their NATs.

    Those are of RFC 6598.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.version == 4 and address in _CARRIER
