"""Network address translation in the words of RFC 4787 (UDP) and RFC 5382 (TCP)."""

from __future__ import annotations

import random
from collections.abc import Mapping as ReadOnlyDict
from enum import Enum

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import Filtering, Mapping

from .packets import TCP

__all__ = [
    "ADDRESS_RESTRICTED",
    "FULL_CONE",
    "LINUX_WITHOUT_FIREWALL",
    "NAT_KINDS",
    "PORT_RESTRICTED",
    "SYMMETRIC",
    "SYMMETRIC_ADDRESS_DEPENDENT",
    "SYMMETRIC_OPEN",
    "SYMMETRIC_SEQUENTIAL",
    "Filtering",
    "Mapping",
    "NATBehaviour",
    "NATTable",
    "PortAllocation",
]

#: How long a router without a firewall remembers a packet that was for itself
#: (Linux: nf_conntrack_udp_timeout), seconds.
ROUTER_FLOW_TIMEOUT = 30.0
#: External ports are taken from here (RFC 4787, REQ-3, leaves the well-known out).
EXTERNAL_PORTS = range(1024, 65536)
#: Where sequential allocation begins, and after how many ports it begins anew.
SEQUENTIAL_PORTS = range(20000, 60000)


class PortAllocation(Enum):
    """How the external port of a new mapping is chosen."""

    PRESERVE = "the internal port if it is free"
    SEQUENTIAL = "the next one"
    RANDOM = "any"
    OVERLOAD = "the internal port, even if another host has it already"


@attrs.frozen(kw_only=True)
class NATBehaviour:
    """How a NAT behaves.

    :ivar filtering: of UDP.
    :ivar tcp_filtering: of TCP.
    :ivar port_step: the distance of sequential ports.
    :ivar preserves_parity: whether an external port is even where the internal one is,
        and odd where it is odd, if such a port is free.
    :ivar hairpinning: whether internal hosts reach each other by external addresses.
    :ivar mapping_timeout: how long an idle UDP mapping lives, seconds.
    :ivar tcp_timeout: how long an idle TCP mapping lives, seconds.
    :ivar inbound_refresh: whether packets from outside keep a mapping alive.
    :ivar without_firewall: a Linux router that answers by itself what it has no
        mapping for: it then cannot preserve the port towards that remote address.
    :ivar resets: whether TCP from outside without a mapping is answered with RST.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    tcp_filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    port_allocation: PortAllocation = PortAllocation.PRESERVE
    port_step: int = 1
    preserves_parity: bool = False
    hairpinning: bool = False
    mapping_timeout: float = 120.0
    tcp_timeout: float = 7440.0
    inbound_refresh: bool = True
    without_firewall: bool = False
    resets: bool = False

    def filtering_of(self, protocol: str) -> Filtering:
        """Return the filtering of ``udp`` or ``tcp``."""
        return self.tcp_filtering if protocol == TCP else self.filtering

    def timeout_of(self, protocol: str) -> float:
        """Return how long an idle mapping of ``udp`` or ``tcp`` lives, seconds."""
        return self.tcp_timeout if protocol == TCP else self.mapping_timeout


_SYMMETRIC = Mapping.ADDRESS_AND_PORT_DEPENDENT

FULL_CONE = NATBehaviour(filtering=Filtering.ENDPOINT_INDEPENDENT)
ADDRESS_RESTRICTED = NATBehaviour(filtering=Filtering.ADDRESS_DEPENDENT)
PORT_RESTRICTED = NATBehaviour()
LINUX_WITHOUT_FIREWALL = NATBehaviour(without_firewall=True, resets=True)
SYMMETRIC = NATBehaviour(mapping=_SYMMETRIC, port_allocation=PortAllocation.RANDOM)
SYMMETRIC_SEQUENTIAL = NATBehaviour(
    mapping=_SYMMETRIC, port_allocation=PortAllocation.SEQUENTIAL
)
SYMMETRIC_ADDRESS_DEPENDENT = NATBehaviour(
    mapping=Mapping.ADDRESS_DEPENDENT,
    filtering=Filtering.ADDRESS_DEPENDENT,
    port_allocation=PortAllocation.RANDOM,
)
SYMMETRIC_OPEN = NATBehaviour(
    mapping=_SYMMETRIC,
    filtering=Filtering.ENDPOINT_INDEPENDENT,
    port_allocation=PortAllocation.RANDOM,
)

#: The kinds of NAT that tables of hole punching speak of, by their usual names.
NAT_KINDS: ReadOnlyDict[str, NATBehaviour] = {
    "full-cone": FULL_CONE,
    "addr-restricted": ADDRESS_RESTRICTED,
    "port-restricted": PORT_RESTRICTED,
    "linux-nofw": LINUX_WITHOUT_FIREWALL,
    "symmetric": SYMMETRIC,
    "symmetric-seq": SYMMETRIC_SEQUENTIAL,
    "symmetric-addr": SYMMETRIC_ADDRESS_DEPENDENT,
    "symmetric-open": SYMMETRIC_OPEN,
}


@attrs.define(eq=False)
class _Binding:
    """An external port and the internal address it stands for."""

    protocol: str
    internal: Address
    port: int
    expires: float
    #: Remote hosts, and remote addresses with port, to when they may still send.
    hosts: dict[str, float] = attrs.Factory(dict)
    endpoints: dict[Address, float] = attrs.Factory(dict)

    def admits(self, remote: Address, filtering: Filtering, now: float) -> bool:
        if filtering is Filtering.ENDPOINT_INDEPENDENT:
            return True
        if filtering is Filtering.ADDRESS_DEPENDENT:
            return self.hosts.get(remote.host, now) > now
        return self.endpoints.get(remote, now) > now

    def touch(self, remote: Address, expires: float) -> None:
        self.expires = expires
        self.hosts[remote.host] = expires
        self.endpoints[remote] = expires


@attrs.define(eq=False)
class _Flow:
    """An external port that holds for one remote address only."""

    port: int
    expires: float


class NATTable:
    """The mappings of one external address. It moves no packets itself.

    :param random_source: for random external ports.
    """

    def __init__(self, behaviour: NATBehaviour, random_source: random.Random) -> None:
        self.behaviour = behaviour
        self._random = random_source
        self._bindings: dict[tuple[str, Address, object], _Binding] = {}
        self._by_port: dict[tuple[str, int], list[_Binding]] = {}
        self._flows: dict[tuple[str, Address, Address], _Flow] = {}
        self._forwards: dict[tuple[str, int], Address] = {}
        self._router_flows: dict[tuple[str, int, Address], float] = {}
        self._next_index = 0

    def forget(self) -> None:
        """Lose all mappings, as a reboot does; port forwards stay."""
        self._bindings.clear()
        self._by_port.clear()
        self._flows.clear()
        self._router_flows.clear()

    def add_forward(self, protocol: str, port: int, internal: Address) -> None:
        """Send what comes to an external port to an internal address.

        :raises ValueError: if the port is forwarded to another address.
        """
        if self._forwards.get((protocol, port), internal) != internal:
            raise ValueError(f"{protocol} port {port} is forwarded already")
        self._forwards[protocol, port] = internal

    def remove_forward(self, protocol: str, port: int) -> None:
        """End a port forward, if there is one."""
        self._forwards.pop((protocol, port), None)

    @property
    def forwards(self) -> dict[tuple[str, int], Address]:
        """Port forwards: protocol and external port, to the internal address."""
        return dict(self._forwards)

    def mapped_ports(self, protocol: str, now: float) -> dict[int, Address]:
        """Return external ports and the internal addresses they stand for now."""
        return {
            binding.port: binding.internal
            for bindings in self._by_port.values()
            for binding in bindings
            if binding.protocol == protocol and binding.expires > now
        }

    def outbound(
        self, protocol: str, internal: Address, remote: Address, now: float
    ) -> int | None:
        """Return the external port for a packet that leaves; None if all are taken."""
        expires = now + self.behaviour.timeout_of(protocol)
        flow = self._flows.get((protocol, internal, remote))
        if flow is not None and flow.expires > now:
            flow.expires = expires
            for known in self._by_port.get((protocol, flow.port), ()):
                if known.internal == internal:
                    known.touch(remote, expires)
            return flow.port
        binding = self._binding_for(protocol, internal, remote, now)
        if binding is None:
            return None
        if self._router_flows.get((protocol, binding.port, remote), now) > now:
            binding = self._diverted(protocol, internal, remote, now)
            if binding is None:
                return None
        binding.touch(remote, expires)
        return binding.port

    def inbound(
        self, protocol: str, remote: Address, port: int, now: float
    ) -> Address | None:
        """Return the internal address for a packet from outside; None refuses it."""
        binding = self._admitting(protocol, remote, port, now)
        if binding is not None:
            if self.behaviour.inbound_refresh:
                binding.expires = now + self.behaviour.timeout_of(protocol)
                if remote in binding.endpoints:
                    binding.touch(remote, binding.expires)
            return binding.internal
        forward = self._forwards.get((protocol, port))
        if forward is not None:
            # Answers must leave from this very port.
            expires = now + self.behaviour.timeout_of(protocol)
            self._flows[protocol, forward, remote] = _Flow(port, expires)
            return forward
        if self.behaviour.without_firewall:
            self._router_flows[protocol, port, remote] = now + ROUTER_FLOW_TIMEOUT
        return None

    def _admitting(
        self, protocol: str, remote: Address, port: int, now: float
    ) -> _Binding | None:
        """Return the mapping that lets a packet in: of several the most fitting one."""
        filtering = self.behaviour.filtering_of(protocol)
        admitting = [
            binding
            for binding in self._by_port.get((protocol, port), ())
            if binding.expires > now and binding.admits(remote, filtering, now)
        ]
        if len(admitting) < 2:
            return admitting[0] if admitting else None

        def fitness(binding: _Binding) -> tuple[float, float, float]:
            """Who talked to the far end last, or at least to its host, or at all."""
            talked = binding.endpoints.get(remote, now)
            return talked, binding.hosts.get(remote.host, now), binding.expires

        return max(reversed(admitting), key=fitness)

    def _binding_for(
        self, protocol: str, internal: Address, remote: Address, now: float
    ) -> _Binding | None:
        mapping = self.behaviour.mapping
        target: object = remote
        if mapping is Mapping.ENDPOINT_INDEPENDENT:
            target = None
        elif mapping is Mapping.ADDRESS_DEPENDENT:
            target = remote.host
        binding = self._bindings.get((protocol, internal, target))
        if binding is None or binding.expires <= now:
            binding = self._new_binding(protocol, internal, now)
            if binding is not None:
                self._bindings[protocol, internal, target] = binding
        return binding

    def _diverted(
        self, protocol: str, internal: Address, remote: Address, now: float
    ) -> _Binding | None:
        """Map one flow to another port: the router itself uses the usual one.

        What is new goes by that port from then on, as Linux takes the latest mapping
        of a source that it finds; the flows of before keep theirs.
        """
        binding = self._new_binding(protocol, internal, now)
        if binding is None:
            return None
        expires = now + self.behaviour.timeout_of(protocol)
        self._flows[protocol, internal, remote] = _Flow(binding.port, expires)
        spoilt = self._bindings.get((protocol, internal, None))
        if spoilt is not None:
            for known, until in spoilt.endpoints.items():
                if until > now:
                    self._flows[protocol, internal, known] = _Flow(spoilt.port, until)
            self._bindings[protocol, internal, None] = binding
        return binding

    def _new_binding(
        self, protocol: str, internal: Address, now: float
    ) -> _Binding | None:
        port = self._choose_port(protocol, internal.port, now)
        if port is None:
            return None
        binding = _Binding(protocol, internal, port, expires=now)
        others = self._by_port.get((protocol, port), ())
        alive = [other for other in others if other.expires > now]
        self._by_port[protocol, port] = [*alive, binding]
        return binding

    def _choose_port(self, protocol: str, wanted: int, now: float) -> int | None:
        allocation = self.behaviour.port_allocation
        if allocation is PortAllocation.OVERLOAD:
            return wanted
        if allocation is PortAllocation.SEQUENTIAL:
            return self._next_port(protocol, wanted, now)
        if allocation is PortAllocation.PRESERVE and self._is_free(
            protocol, wanted, now
        ):
            return wanted
        start = self._random.randrange(len(EXTERNAL_PORTS))
        for fitting in self._parities(wanted):
            for offset in range(len(EXTERNAL_PORTS)):
                port = EXTERNAL_PORTS[(start + offset) % len(EXTERNAL_PORTS)]
                if port % 2 in fitting and self._is_free(protocol, port, now):
                    return port
        return None

    def _next_port(self, protocol: str, wanted: int, now: float) -> int | None:
        for fitting in self._parities(wanted):
            for _ in SEQUENTIAL_PORTS:
                port = SEQUENTIAL_PORTS[self._next_index % len(SEQUENTIAL_PORTS)]
                self._next_index += self.behaviour.port_step
                if port % 2 in fitting and self._is_free(protocol, port, now):
                    return port
        return None

    def _parities(self, wanted: int) -> list[set[int]]:
        """The remainders by 2 that a port may have, the preferred first."""
        any_port = {0, 1}
        if self.behaviour.preserves_parity:
            return [{wanted % 2}, any_port]
        return [any_port]

    def _is_free(self, protocol: str, port: int, now: float) -> bool:
        bindings = self._by_port.get((protocol, port), ())
        if any(binding.expires > now for binding in bindings):
            return False
        return (protocol, port) not in self._forwards
