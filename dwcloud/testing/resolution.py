"""Name resolution in the simulated world: a table, no threads, no name server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from .packets import canonical_host, is_ipv6
from .scheduler import ScheduledCall

__all__ = ["SimulatedResolver"]


@implementer(IHostResolution)
class _Resolution:
    """A resolution in progress."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.call: ScheduledCall | None = None

    def cancel(self) -> None:
        """Stop; the receiver hears nothing more."""
        if self.call is not None and self.call.active():
            self.call.cancel()


@implementer(IHostnameResolver)
class SimulatedResolver:
    """Resolves IP address literals and the names that the host knows.

    :param look_up: returns the addresses of a name, none if it is unknown.
    :param call_later: schedules the answer.
    :param delay: returns how long an answer takes, seconds.
    """

    def __init__(
        self,
        look_up: Callable[[str], Sequence[str]],
        call_later: Callable[..., ScheduledCall],
        delay: Callable[[], float],
    ) -> None:
        self._look_up = look_up
        self._call_later = call_later
        self._delay = delay

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Answer with every address of a wanted type, after the delay."""
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        types = (IPv4Address, IPv6Address) if addressTypes is None else addressTypes

        kind: Literal["TCP", "UDP"] = "UDP" if transportSemantics == "UDP" else "TCP"

        def answer() -> None:
            for host in addresses:
                address_type = IPv6Address if is_ipv6(host) else IPv4Address
                if address_type in types:
                    resolutionReceiver.addressResolved(
                        address_type(kind, host, portNumber)
                    )
            resolutionReceiver.resolutionComplete()

        addresses: Sequence[str]
        try:
            addresses = [canonical_host(hostName)]
        except ValueError:
            addresses = self._look_up(hostName)
            resolution.call = self._call_later(self._delay(), answer)
        else:
            # A literal needs no name server; the real resolver is as quick.
            resolution.call = self._call_later(0.0, answer)
        return resolution
