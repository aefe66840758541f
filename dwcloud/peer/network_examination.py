"""Looking at the network that this machine is in: NAT, router, IPv6, LAN."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dwcloud.errors import PortMappingUnavailable
from dwcloud.net.internet_gateway import find_gateway
from dwcloud.net.local_network import local_network
from dwcloud.net.nat_discovery import discover_nat
from dwcloud.net.port_control import PortControl
from dwcloud.peer.discovery import LANTable, lan_interfaces
from dwcloud.peer.findings import IPv6Finding, LANFinding, MappingFinding, Reach
from dwcloud.peer.local_addresses import own_addresses, wants_ipv6
from dwcloud.peer.mediator_resolution import resolve_host
from dwcloud.peer.round_trips import stun_over_udp
from dwcloud.peer.surroundings import EXPECTED, Surroundings, all_of
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import NATBehaviour
from dwcloud.protocol.port_mapping.mappings import Grant, MappedPort, Transport

__all__ = [
    "examine_ipv6",
    "examine_lan",
    "examine_nat",
    "find_port_mapping",
    "reach_udp",
]

_LAN_WAIT = 0.5
"""Seconds for servers on the LAN to answer; clients wait half of that."""
_FAREWELL = 1.0
"""Seconds for a router to take a mapping back."""
_PROTOCOLS = {"PCP": 2, "NAT-PMP": 0}


async def reach_udp(here: Surroundings, family: int | None = None) -> Reach:
    """Ask the mediator over UDP.

    :param family: 4 or 6; None for that which connections to it use.
    """
    try:
        server = await here.limited(_resolve(here, family or _usual_family(here)))
        found = await here.limited(stun_over_udp(here.reactor, server, here.interface))
    except EXPECTED:
        return Reach(works=False, reason=here.reason_of(Failure()))
    return Reach(works=True, seconds=found.seconds, address=found.address)


def _resolve(here: Surroundings, family: int) -> Any:
    assert here.mediator is not None
    host, port = here.mediator.host, here.mediator.port
    return resolve_host(here.reactor, host, port, family)


def _usual_family(here: Surroundings) -> int:
    assert here.mediator is not None
    return 6 if ":" in (here.interface or here.mediator.host) else 4


async def examine_nat(here: Surroundings) -> tuple[NATBehaviour | None, str]:
    """Find out how the NAT behaves; the second is why that could not be found out."""
    own = own_addresses(local_network(here.reactor))
    try:
        server = await here.limited(_resolve(here, _usual_family(here)))
        found = await here.limited(
            discover_nat(here.reactor, server, interface=here.interface, own_hosts=own)
        )
    except EXPECTED:
        return None, here.reason_of(Failure())
    return found, ""


async def find_port_mapping(here: Surroundings) -> tuple[MappingFinding, ...]:
    """Ask the router by each protocol that there is; nothing stays mapped."""
    network = local_network(here.reactor)
    gateway = network.defaultGateway(here.interface)
    asking = []
    for protocol, version in _PROTOCOLS.items():
        asking.append(_Asking(here, protocol).run(_map, gateway, version))
    if gateway is None and network.knowsGateway:
        asking.append(_Asking(here, "UPnP-IGD").run(_map, None, 0))
    else:
        asking.append(_Asking(here, "UPnP-IGD").run(_ask_upnp, gateway))
    return tuple(await all_of(asking))


class _Asking:
    """One question to the router, which always comes to a finding."""

    def __init__(self, here: Surroundings, protocol: str) -> None:
        self._here = here
        self._protocol = protocol

    async def run(self, ask: Any, *arguments: Any) -> MappingFinding:
        here, clock = self._here, self._here.reactor
        started = clock.seconds()
        external = reason = ""
        try:
            external = await here.limited(ask(here, *arguments))
        except EXPECTED:
            reason = here.reason_of(Failure())
        return MappingFinding(
            protocol=self._protocol,
            found=not reason,
            external=external,
            reason=reason,
            seconds=clock.seconds() - started,
        )


async def _map(here: Surroundings, gateway: str | None, version: int) -> str:
    """Have a UDP port mapped and taken back; return the router's address outside."""
    if gateway is None:
        raise PortMappingUnavailable("this machine has no router that it knows of")
    # Held so that nobody else gets what comes to the port meanwhile.
    held = here.reactor.listenUDP(0, DatagramProtocol(), interface=here.interface)
    port = MappedPort(Transport.UDP, held.getHost().port)
    control = PortControl(
        here.reactor,
        gateway,
        frozenset({version}),
        lambda: None,
        interface=here.interface,
    )
    try:
        control.start()
        try:
            grant = await control.map(port, None)
        except CancelledError:
            # The answer may be under way.
            await _give_back(here, control, port, Grant(Address("0.0.0.0", 0), 0.0))
            raise
        await _give_back(here, control, port, grant)
        return grant.external.host
    finally:
        await control.stop()
        await maybeDeferred(held.stopListening)


async def _give_back(
    here: Surroundings, control: PortControl, port: MappedPort, grant: Grant
) -> None:
    removing = control.unmap(port, grant)
    removing.addTimeout(_FAREWELL, here.reactor)
    # A router that does not answer to this forgets the mapping after its time.
    removing.addErrback(lambda failure: failure.trap(*EXPECTED))
    await removing


async def _ask_upnp(here: Surroundings, gateway: str | None) -> str:
    """Ask for the router's address outside, which changes nothing there."""
    found = await find_gateway(here.reactor, here.interface, gateway)
    try:
        return await found.check()
    finally:
        await found.stop()


async def examine_ipv6(here: Surroundings) -> IPv6Finding:
    """Look for global IPv6 addresses, and ask the mediator from them."""
    found = local_network(here.reactor).localAddresses()
    addresses = tuple(
        a.host
        for a in found
        if ":" in a.host and ipaddress.ip_address(a.host).is_global
    )
    used = bool(addresses) and wants_ipv6(here.mediator, lambda: found)
    if here.interface:
        used = here.interface in addresses
    if not addresses:
        reach = Reach(reason="this machine has no global IPv6 address")
    elif here.interface and ":" not in here.interface:
        reach = Reach(reason=f"only {here.interface} is to be used")
    elif here.mediator is None:
        reach = Reach(reason="no mediator is named")
    else:
        reach = await reach_udp(here, 6)
    return IPv6Finding(addresses=addresses, used=used, mediator=reach)


async def examine_lan(here: Surroundings) -> LANFinding:
    """Ask by multicast which servers are on the LAN."""
    found = local_network(here.reactor).localAddresses()
    table = LANTable(here.reactor, lan_interfaces(found, here.interface))
    table.start()
    try:
        await deferLater(here.reactor, _LAN_WAIT)
        entries = table.entries()
    finally:
        await table.stop()
    servers = tuple((str(entry.server), entry.address) for entry in entries)
    silent = "no server answers in this network" if not servers else ""
    return LANFinding(servers=servers, reason=silent)
