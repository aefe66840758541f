"""Endpoints of TCP connections to hosts that are given by name or by address."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
)
from twisted.internet.interfaces import IStreamClientEndpoint

__all__ = ["host_endpoint"]


def host_endpoint(
    reactor: Any, host: str, port: int, *, timeout: float, interface: str = ""
) -> IStreamClientEndpoint:
    """Return the endpoint of a TCP connection to a port of a host.

    An address needs neither a resolver, which takes a thread, nor a race of address
    families.

    :param host: name or IP address.
    :param timeout: seconds for each address of the host.
    :param interface: local IP address to connect from, empty for any.
    """
    bind = (interface, 0) if interface else None
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, timeout, bind)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, timeout, bind)
    return HostnameEndpoint(reactor, host, port, timeout=timeout, bindAddress=bind)
