"""What a firewall has to admit, so that servers and clients work behind it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import attrs

from dwcloud.peer.discovery import GROUP, PORT
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.paths import STATISTICS_PATH as MEDIATOR_PAGE
from dwcloud.protocol.relaying.paths import STATISTICS_PATH as RELAY_PAGE
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = [
    "ANYWHERE",
    "LOCAL",
    "PRIVATE_NETWORKS",
    "ROUTER",
    "Admission",
    "Direction",
    "Need",
    "admissions",
    "hosts_of",
]

ANYWHERE = "any"
"""In place of a host: all addresses."""

LOCAL = "local networks"
"""In place of a host: machines of the same network."""

ROUTER = "router"
"""In place of a host: the router of the network."""

PRIVATE_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""Where those two are, unless the network has public addresses (RFC 6890)."""

_SSDP = "239.255.255.250"
_HIGH_PORTS = "1024-65535"


class Direction(StrEnum):
    """Of the first packet; replies are a matter of course."""

    OUT = "out"
    IN = "in"


class Need(StrEnum):
    """What a line is good for."""

    REQUIRED = "required"
    """Without it there is no connection, unless an alternative is admitted."""
    DIRECT = "direct"
    """Without it connections go through a relay, or work less often."""
    ALTERNATIVE = "alternative"
    """In place of what is required, if the cloud listens there."""
    LAN = "lan"
    """For connections within the network, which need no mediator."""
    ROUTER = "router"
    """To have the router forward a port."""


@attrs.frozen(kw_only=True)
class Admission:
    """One thing to be admitted.

    :ivar need: what for, in a word.
    :ivar direction: who begins.
    :ivar protocol: ``tcp`` or ``udp``.
    :ivar host: the far end: a name, an address, or one of the words of this module.
    :ivar addresses: of a name, as far as they are known; or networks.
    :ivar ports: of the receiver: one, or ``FIRST-LAST``.
    :ivar source_port: of the sender; None if it may be any.
    :ivar purpose: what for, in words.
    :ivar url: what is there, if it speaks HTTP.
    :ivar page: of that one, which shows that it is what it should be.
    """

    need: Need
    direction: Direction
    protocol: str
    host: str
    ports: str
    purpose: str
    addresses: tuple[str, ...] = ()
    source_port: int | None = None
    url: ServiceURL | None = None
    page: str = ""


def hosts_of(mediator: MediatorAddress, relays: Iterable[ServiceURL]) -> list[str]:
    """Return the hosts whose addresses are to be known, each once."""
    return list(dict.fromkeys([mediator.host, *(url.host for url in relays)]))


def admissions(
    mediator: MediatorAddress | None,
    relays: Sequence[ServiceURL],
    *,
    other: Address | None = None,
    addresses: Mapping[str, tuple[str, ...]] | None = None,
    lan: bool = True,
    tcp_port: int = 0,
    udp_port: int = 0,
) -> list[Admission]:
    """Return what is to be admitted.

    :param other: the mediator's second address and port, if it has them.
    :param addresses: those of hosts.
    :param lan: whether servers are looked for in the network.
    :param tcp_port: of a server here, if it is a certain one.
    :param udp_port: the same.
    """
    found: list[Admission] = []
    if mediator is not None:
        found += [
            *_required(mediator, relays),
            *_direct(mediator, other),
            *_alternatives(mediator, relays),
        ]
    found += _incoming(tcp_port, udp_port)
    if lan:
        found += _lan()
    if mediator is not None:
        found += _router()
    known = addresses or {}
    with_addresses = [
        attrs.evolve(each, addresses=_addresses(each.host, known)) for each in found
    ]
    # Mediator and relay may be at one port.
    unique = {_key(admission): admission for admission in reversed(with_addresses)}
    return [a for a in with_addresses if a is unique[_key(a)]]


def _key(admission: Admission) -> tuple[Direction, str, str, str]:
    return (
        admission.direction,
        admission.protocol,
        admission.host,
        admission.ports,
    )


def _addresses(host: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if host in (LOCAL, ROUTER):
        return PRIVATE_NETWORKS
    try:
        return (str(ipaddress.ip_address(host)),)
    except ValueError:
        return known.get(host, ())


def _out(
    need: Need,
    protocol: str,
    host: str,
    ports: int | str,
    purpose: str,
    url: ServiceURL | None = None,
    page: str = "",
) -> Admission:
    return Admission(
        need=need,
        direction=Direction.OUT,
        protocol=protocol,
        host=host,
        ports=str(ports),
        purpose=purpose,
        url=url,
        page=page,
    )


def _required(
    mediator: MediatorAddress, relays: Iterable[ServiceURL]
) -> list[Admission]:
    url = mediator.url
    port = mediator.port if url is None else url.port
    what = "the mediator"
    found = [_out(Need.REQUIRED, "tcp", mediator.host, port, what, url, MEDIATOR_PAGE)]
    for relay in relays:
        purpose = "a relay, where no direct path is found"
        found.append(
            _out(
                Need.REQUIRED, "tcp", relay.host, relay.port, purpose, relay, RELAY_PAGE
            )
        )
    return found


def _direct(mediator: MediatorAddress, other: Address | None) -> list[Admission]:
    host, port = mediator.host, mediator.port
    found = [_out(Need.DIRECT, "udp", host, port, "the mediator, for hole punching")]
    if other is not None:
        purpose = "the mediator, to explore NATs (RFC 5780)"
        found += [
            _out(Need.DIRECT, "udp", where, at, purpose)
            for where, at in (
                (host, other.port),
                (other.host, port),
                (other.host, other.port),
            )
        ]
    purpose = "direct paths: UDT, through holes in NATs"
    found.append(_out(Need.DIRECT, "udp", ANYWHERE, _HIGH_PORTS, purpose))
    purpose = "direct paths: servers with an address of their own"
    found.append(_out(Need.DIRECT, "tcp", ANYWHERE, _HIGH_PORTS, purpose))
    return found


def _alternatives(
    mediator: MediatorAddress, relays: Iterable[ServiceURL]
) -> list[Admission]:
    url = ServiceURL("http", mediator.host, mediator.port)
    services = [(url, "the mediator", MEDIATOR_PAGE)]
    if mediator.url is not None:
        services = []
    services += [(relay, "a relay", RELAY_PAGE) for relay in relays if not relay.secure]
    found = []
    for url, what, page in services:
        for scheme, port in (("https", 443), ("http", 80)):
            purpose = f"{what} inside HTTP, where it listens at port {port}"
            there = attrs.evolve(url, scheme=scheme, port=port)
            found.append(
                _out(Need.ALTERNATIVE, "tcp", url.host, port, purpose, there, page)
            )
    return found


def _incoming(tcp_port: int, udp_port: int) -> list[Admission]:
    return [
        Admission(
            need=Need.DIRECT,
            direction=Direction.IN,
            protocol=protocol,
            host=ANYWHERE,
            ports=str(port),
            purpose=f"direct paths to a server here (--{protocol}-port)",
        )
        for protocol, port in (("tcp", tcp_port), ("udp", udp_port))
        if port
    ]


def _lan() -> list[Admission]:
    purpose = "finding servers in the network"
    return [
        _out(Need.LAN, "udp", GROUP, PORT, purpose),
        Admission(
            need=Need.LAN,
            direction=Direction.IN,
            protocol="udp",
            host=LOCAL,
            ports=str(PORT),
            purpose=purpose,
        ),
        Admission(
            need=Need.LAN,
            direction=Direction.IN,
            protocol="tcp",
            host=LOCAL,
            ports=_HIGH_PORTS,
            purpose="connections of clients in the network to a server here",
        ),
        _out(Need.LAN, "tcp", LOCAL, _HIGH_PORTS, "servers in the network"),
    ]


def _router() -> list[Admission]:
    return [
        _out(Need.ROUTER, "udp", ROUTER, 5351, "port mapping by PCP and NAT-PMP"),
        _out(Need.ROUTER, "udp", _SSDP, 1900, "port mapping by UPnP: finding it"),
        Admission(
            need=Need.ROUTER,
            direction=Direction.IN,
            protocol="udp",
            host=ROUTER,
            ports=_HIGH_PORTS,
            source_port=1900,
            purpose="port mapping by UPnP: its answer",
        ),
        _out(Need.ROUTER, "tcp", ROUTER, _HIGH_PORTS, "port mapping by UPnP: asking"),
    ]
