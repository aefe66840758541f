"""The address of IPv6 from which the mediator sees a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["ReflexiveIPv6"]

_TIMING = Timing(tries=4, initial_interval=0.5, last_wait=2.0)


class ReflexiveIPv6:
    """Asks the mediator once, for the confirmations to come.

    Of several addresses of a machine it shows the one that the system sends from. Over
    IPv4 each confirmation shows the address by itself; of IPv6 it goes without saying
    that no NAT makes it another one each time.

    :param stun: makes requests from the port that punches.
    :param random_bytes: a source of randomness.
    """

    _log = Logger()

    def __init__(
        self, stun: STUNDatagramClient, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._stun = stun
        self._random_bytes = random_bytes
        self._known: Address | None = None
        self._asking: Deferred[Any] | None = None

    def ask(self, mediator: Address) -> None:
        """Ask a mediator at its IPv6 address."""
        self.forget()
        request = binding_request(self._random_bytes(12))
        self._asking = self._stun.request(request, mediator, timing=_TIMING)
        self._asking.addCallback(self._answered).addErrback(self._failed)

    def forget(self) -> None:
        """Forget what is known: this machine is elsewhere now."""
        self._known = None
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def among(self, endpoints: Sequence[Address]) -> tuple[Address, ...]:
        """Return addresses with what is known before the others of IPv6."""
        if self._known is None:
            return tuple(endpoints)
        ipv4 = [address for address in endpoints if address.family == 4]
        return tuple(dict.fromkeys((*ipv4, self._known, *endpoints)))

    def _answered(self, response: STUNMessage) -> None:
        self._asking = None
        self._known = reflexive_address(response)

    def _failed(self, reason: Failure) -> None:
        self._asking = None
        self._log.debug(
            "the mediator does not answer over IPv6: {reason}",
            reason=reason.getErrorMessage(),
        )
