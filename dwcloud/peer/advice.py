"""What to change for better paths, and what could not be found out.

Pure functions of :class:`~dwcloud.peer.findings.Findings`.
"""

from __future__ import annotations

from collections.abc import Iterator

from dwcloud.peer.expectations import relay_works
from dwcloud.peer.findings import Findings, PeerFinding, PeerState
from dwcloud.peer.nat_words import is_carrier_address
from dwcloud.peer.status import PathKind
from dwcloud.protocol.nat import Mapping

__all__ = ["advice", "behind_carrier", "mediator_works", "unknown"]


def mediator_works(findings: Findings) -> bool:
    """Whether the mediator was reached in some way."""
    by_method = any(m.works for m in findings.methods if m.service == "mediator")
    return bool(findings.udp.works or findings.tcp.works or by_method)


def behind_carrier(findings: Findings) -> bool | None:
    """Whether a second NAT is behind that of the own router; None if not known."""
    nat = findings.outer_nat
    if nat is None or nat.local_address is None or nat.mapped_address is None:
        return None
    if is_carrier_address(nat.local_address.host):
        return True
    outside = [m.external for m in findings.port_mapping if m.external]
    if not nat.translated or not outside:
        return None
    return nat.mapped_address.host not in outside


def advice(findings: Findings) -> Iterator[str]:
    """Say what to change, the most useful first."""
    if not findings.mediator:
        yield (
            "Name the mediator: --mediator HOST[:PORT], or DWCLOUD_MEDIATOR in the "
            "environment."
        )
        return
    yield from _proxy_advice(findings)
    if not mediator_works(findings):
        yield (
            f"Check the name {findings.mediator} and that the mediator runs; the "
            "firewall here must let out UDP and TCP to its port, or TCP to port 443."
        )
        return
    if findings.peer is not None:
        yield from _peer_advice(findings, findings.peer)
        if findings.peer.report.path not in (None, PathKind.RELAY):
            return
    if not relay_works(findings):
        yield (
            "Let TCP out to the relay, port 3349 or 443; whoever runs the mediator "
            "has to run 'twistd relay', too."
        )
    yield from _network_advice(findings)


def _proxy_advice(findings: Findings) -> Iterator[str]:
    for proxy in findings.proxies:
        if proxy.works is False and proxy.authentication:
            yield (
                f"Give the proxy its user name and password: --proxy "
                f"USER:PASSWORD@{proxy.proxy} ({proxy.reason})."
            )
        elif proxy.works is False and proxy.authentication is None:
            yield (
                f"Check the proxy {proxy.proxy}, named by {proxy.source}: "
                f"{proxy.reason}; --proxy none does without."
            )


def _peer_advice(findings: Findings, peer: PeerFinding) -> Iterator[str]:
    if peer.state is PeerState.OFFLINE:
        yield (
            "Start 'dwcloud serve' on the server, or run 'dwcloud check' there: its "
            "way to the mediator fails."
        )
    elif peer.state is PeerState.UNKNOWN:
        yield "Check the name, and that the server uses the same mediator."
    elif peer.step == "confirmation":
        yield "Try again; if it stays so, restart 'dwcloud serve' on the server."
    elif peer.step == "identity":
        yield (
            "Check the name; if it is right do not trust this network: somebody "
            "stands in between."
        )
    elif peer.state is PeerState.UNREACHABLE or peer.report.path is PathKind.RELAY:
        if not peer.udp_endpoints:
            yield (
                "Let UDP out where the server is, to the mediator and to anywhere; "
                "'dwcloud check' there shows more."
            )
        if findings.ipv6.used and peer.udp_endpoints and not peer.has_ipv6:
            yield (
                "Turn on IPv6 where the server is: this machine has it, and no NAT is "
                "in its way."
            )
        if peer.has_ipv6 and not findings.ipv6.addresses:
            yield (
                "Turn on IPv6 in this network: the server has it, and no NAT is in its "
                "way."
            )
        if peer.nat is not None and peer.nat.is_symmetric:
            yield (
                "At the server, turn on UPnP or PCP in the router, or forward a port "
                "to it: its NAT is symmetric."
            )


def _network_advice(findings: Findings) -> Iterator[str]:
    nat = findings.outer_nat
    if findings.udp.works is False:
        yield (
            "Let UDP out, to the mediator's port and to anywhere, for direct paths: "
            "ask who runs the firewall of this network."
        )
        return
    if behind_carrier(findings):
        yield (
            "Ask the Internet provider for a public IPv4 address or for IPv6: there is "
            "a second NAT behind this router's, at the provider."
        )
    symmetric = nat is not None and nat.mapping not in (
        None,
        Mapping.ENDPOINT_INDEPENDENT,
    )
    if symmetric:
        yield (
            "Set the router's NAT to 'cone', 'full cone' or 'endpoint-independent', "
            "or its firewall to keep source ports ('static port'): direct paths then "
            "work with most networks."
        )
    mapped = any(m.found for m in findings.port_mapping)
    translated = nat is not None and nat.translated
    if translated and not mapped and not behind_carrier(findings):
        yield (
            "Turn on UPnP or PCP in the router: servers here are then reached directly "
            "from anywhere."
        )


def unknown(findings: Findings) -> Iterator[str]:
    """Say what could not be found out, and what would tell."""
    if not findings.mediator:
        return
    nat = findings.nat
    if findings.mediator_inside:
        yield (
            "How the Internet sees this machine, and its NAT: the mediator is in the "
            "same network or on this machine. Ask one on the Internet."
        )
        return
    if nat is None:
        if findings.nat_reason:
            yield f"How the NAT behaves: {findings.nat_reason}."
        return
    if not nat.udp:
        yield "How the NAT treats UDP: none passes."
    elif nat.filtering is None:
        what = "Mapping and filtering" if nat.mapping is None else "Filtering"
        yield (
            f"{what} of the NAT: the mediator has one address, and two are needed to "
            "find out. Whoever runs it can give it another: twistd mediator "
            "--udp-other ADDRESS:PORT."
        )
    if nat.translated and behind_carrier(findings) is None:
        yield (
            "Whether the provider has a second NAT: the router does not tell its own "
            "address, by UPnP, NAT-PMP or PCP."
        )
