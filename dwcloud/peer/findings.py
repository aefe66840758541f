"""What an examination of this machine's network found: frozen values.

:mod:`dwcloud.peer.examination` fills them in, :mod:`dwcloud.peer.diagnosis` makes sense
of them. Reasons are pieces of sentences, without a full stop.
"""

from __future__ import annotations

import enum
from typing import Any

import attrs

from dwcloud.peer.status import ConnectionReport
from dwcloud.protocol.addresses import Address, is_global_ipv6
from dwcloud.protocol.nat import NATBehaviour, NATSummary

__all__ = [
    "Findings",
    "IPv6Finding",
    "LANFinding",
    "MappingFinding",
    "MethodFinding",
    "PeerFinding",
    "PeerState",
    "ProxyFinding",
    "Reach",
    "RelayFinding",
    "plain",
]


@attrs.frozen(kw_only=True)
class Reach:
    """Whether something answered.

    :ivar works: None if it was not tried.
    :ivar seconds: one round trip, where it answered.
    :ivar address: as which it saw this machine.
    :ivar reason: why it did not answer, or was not tried.
    """

    works: bool | None = None
    seconds: float | None = None
    address: Address | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class MappingFinding:
    """A protocol by which a router may be asked to forward ports.

    :ivar found: whether the router forwards ports by it.
    :ivar external: the router's IP address outside, as it says.
    """

    protocol: str
    found: bool
    external: str = ""
    reason: str = ""
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class IPv6Finding:
    """IPv6 of this machine.

    :ivar addresses: its global ones.
    :ivar used: whether connections use them.
    :ivar mediator: whether the mediator answers over it.
    """

    addresses: tuple[str, ...] = ()
    used: bool = False
    mediator: Reach = Reach()


@attrs.frozen(kw_only=True)
class MethodFinding:
    """One way to carry a stream to a service.

    :ivar service: ``"mediator"`` or ``"relay"``.
    :ivar method: ``"direct"`` or the name of a tunnelling method.
    :ivar carrier: what its HTTP connections run on.
    :ivar works: None if it was not tried.
    """

    service: str
    url: str
    method: str
    carrier: str
    works: bool | None
    reason: str = ""
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class ProxyFinding:
    """A proxy that is used.

    :ivar source: what names it: an option, or the environment.
    :ivar authentication: the schemes by which it wants its users to prove themselves;
        empty if it wants none, None if that is not known.
    :ivar works: whether it connected to the mediator.
    """

    proxy: str
    source: str
    authentication: tuple[str, ...] | None = None
    works: bool | None = None
    reason: str = ""


@attrs.frozen(kw_only=True)
class LANFinding:
    """Servers that were heard on the LAN, by name and address."""

    servers: tuple[tuple[str, Address], ...] = ()
    reason: str = ""


@attrs.frozen(kw_only=True)
class RelayFinding:
    """A relay.

    :ivar assumed: whether nobody named it: mediators announce it unless told otherwise.
    """

    url: str
    reach: Reach
    assumed: bool = False


class PeerState(enum.StrEnum):
    """How things stand with a server, as far as could be found out."""

    CONNECTED = "connected"
    """A path to it was found and its identity was verified."""
    UNREACHABLE = "unreachable"
    """It is online, but no path leads there from here."""
    OFFLINE = "offline"
    """It has no contact with the mediator."""
    UNKNOWN = "unknown"
    """The mediator has never heard of it."""
    NOT_ASKED = "not asked"
    """Nobody could be asked about it."""


@attrs.frozen(kw_only=True)
class PeerFinding:
    """What came of a connection to a server.

    :ivar step: what failed: ``"mediator"``, ``"registration"``, ``"confirmation"``,
        ``"identity"`` or ``"paths"``; empty if nothing did.
    :ivar report: of the connection.
    :ivar nat: what the server says of its NAT; None if it does not know.
    :ivar udp_endpoints: where the mediator saw its UDP port, then its own addresses;
        empty if it did not confirm over UDP.
    :ivar tcp_endpoints: its own TCP addresses, and those its router forwards.
    """

    state: PeerState
    report: ConnectionReport
    step: str = ""
    nat: NATSummary | None = None
    udp_endpoints: tuple[Address, ...] = ()
    tcp_endpoints: tuple[Address, ...] = ()

    @property
    def has_ipv6(self) -> bool:
        """Whether it has told an address of IPv6."""
        addresses = (*self.udp_endpoints, *self.tcp_endpoints)
        return any(is_global_ipv6(address.host) for address in addresses)


@attrs.frozen(kw_only=True)
class Findings:
    """All that was found; None is what was not looked at.

    :ivar mediator: as it was named; empty if none was.
    :ivar mediator_inside: whether it is in this machine's own network, or on this
        machine: it does not see what the Internet sees then.
    :ivar nat: how the NAT behaves.
    :ivar nat_reason: why that is not known.
    :ivar way: by which way TCP reached the mediator.
    :ivar seconds: that it all took.
    """

    mediator: str = ""
    mediator_inside: bool = False
    nat: NATBehaviour | None = None
    nat_reason: str = ""
    udp: Reach = Reach()
    tcp: Reach = Reach()
    way: str = ""
    port_mapping: tuple[MappingFinding, ...] = ()
    ipv6: IPv6Finding = IPv6Finding()
    methods: tuple[MethodFinding, ...] = ()
    proxies: tuple[ProxyFinding, ...] = ()
    lan: LANFinding = LANFinding()
    relays: tuple[RelayFinding, ...] = ()
    peer: PeerFinding | None = None
    seconds: float = 0.0

    @property
    def outer_nat(self) -> NATBehaviour | None:
        """How the NAT towards the Internet behaves, as far as the mediator sees it."""
        return None if self.mediator_inside else self.nat


def plain(value: Any) -> Any:
    """Return a value made of lists, dictionaries and plain values, for JSON."""
    if isinstance(value, ConnectionReport):
        return value.as_dict()
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        return {f.name: plain(getattr(value, f.name)) for f in fields}
    return value
