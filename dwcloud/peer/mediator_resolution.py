"""The address of a host that is of one family."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from dwcloud.protocol.addresses import Address

__all__ = ["resolve_host"]


def resolve_host(reactor: Any, host: str, port: int, family: int) -> Deferred[Address]:
    """Return the address of ``host`` that is of a family.

    :param family: 4 or 6.
    :return: fires with the address; fails with DNSLookupError. Cancellable.
    """
    if isIPAddress(host) or isIPv6Address(host):
        address = Address(host, port)
        if address.family == family:
            return succeed(address)
        return fail(DNSLookupError(f"UDP here is IPv{family}, {host} is not"))
    kind = IPv4Address if family == 4 else IPv6Address
    result: Deferred[Address] = Deferred()
    receiver = _FirstAddress(host, port, result)
    reactor.nameResolver.resolveHostName(
        receiver, host, port, [kind], transportSemantics="UDP"
    )
    return result


@implementer(IResolutionReceiver)
class _FirstAddress:
    """Fires with the first address."""

    def __init__(self, host: str, port: int, result: Deferred[Address]) -> None:
        self._host = host
        self._port = port
        self._result = result

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Resolution has begun."""

    def addressResolved(self, address: IAddress) -> None:
        """An address was found."""
        if not self._result.called and isinstance(address, IPv4Address | IPv6Address):
            self._result.callback(Address(address.host, self._port))

    def resolutionComplete(self) -> None:
        """There are no more."""
        if not self._result.called:
            self._result.errback(DNSLookupError(f"no address for {self._host!r}"))
