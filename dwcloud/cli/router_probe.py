"""Whether the router of this network forwards ports, tried out."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from dwcloud.cli.probes import Part
from dwcloud.peer.port_mapping import PortMapper
from dwcloud.protocol.addresses import is_private_use
from dwcloud.protocol.port_mapping.mappings import MappedPort, Transport

__all__ = ["look_at_router"]


_CARRIERS = ipaddress.ip_network("100.64.0.0/10")
"""Addresses behind the NAT of a carrier (RFC 6598)."""


async def look_at_router(reactor: Any, interface: str) -> Part:
    """Have a port mapped for a moment.

    :param interface: the only local IP address to use, empty for any.
    :return: ok also without such a router: it is one more way, never the only one.
    """
    try:
        port = reactor.listenUDP(0, DatagramProtocol(), interface=interface)
    except CannotListenError as error:
        return Part("router", False, str(error), {"router": "", "error": str(error)})
    mapped = MappedPort(Transport.UDP, port.getHost().port)
    mapper = PortMapper(reactor, [mapped], lambda _: None, interface=interface)
    try:
        mapper.startService()
        found = await mapper.when_searched()
        reason = mapper.reason
    finally:
        await mapper.stopService()
        await port.stopListening()
    if not found.external:
        text = f"forwards no ports: {reason}"
        return Part("router", True, text, {"router": "", "reason": reason})
    host = found.external[mapped].host
    text = f"forwards ports at {host} by {found.router}"
    carrier = ipaddress.ip_address(host) in _CARRIERS
    if is_private_use(host) or carrier:
        text += "; that is behind another router, which has to forward them, too"
    return Part("router", True, text, {"router": found.router, "address": host})
