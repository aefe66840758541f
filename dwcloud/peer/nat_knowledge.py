"""What a client or server knows of the NAT before it, found out when it is needed."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.local_network import local_network
from dwcloud.net.nat_discovery import discover_nat
from dwcloud.peer.local_addresses import own_addresses
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_udp import MediatorUDP
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.nat import NATBehaviour, NATSummary

__all__ = ["NATKnowledge"]

_LIFETIME = 600.0
"""Seconds that what was found out counts."""


class NATKnowledge:
    """Asks the mediator how the NAT behaves, and remembers it for a while.

    :param port: the port that punches; its interface is asked from.
    :param mediator: whom to ask.
    :param interface: the only local IP address to use, empty for any.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        port: AnyUDPPort,
        mediator: MediatorAddress,
        *,
        interface: str = "",
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._mediator = MediatorUDP(reactor, mediator)
        self._interface = interface
        self._network = local_network(reactor)
        self._known: NATSummary | None = None
        self._until = 0.0
        self._asking: Deferred[NATBehaviour] | None = None
        self._waiting: list[Deferred[NATSummary | None]] = []

    @property
    def known(self) -> NATSummary | None:
        """What is known now; None is nothing."""
        return self._known if self._reactor.seconds() < self._until else None

    def learnt(self) -> Deferred[NATSummary | None]:
        """Return what is known, or is about to be; asks nobody for it."""
        return succeed(self.known) if self._asking is None else self.find_out()

    def find_out(self) -> Deferred[NATSummary | None]:
        """Return what is known, after asking if need be; never fails."""
        if self._reactor.seconds() < self._until:
            return succeed(self._known)
        waiting: Deferred[NATSummary | None] = Deferred(self._given_up)
        self._waiting.append(waiting)
        if self._asking is None:
            # NATs are of IPv4, if the mediator can be asked over that.
            resolving = self._mediator.resolve_any(self._port.ports)
            asking = resolving.addCallback(self._ask)
            # First of all, as the outcome may be there at once.
            self._asking = asking
            asking.addCallbacks(self._found, self._failed)
        return waiting

    def _given_up(self, waiting: Deferred[NATSummary | None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def forget(self) -> None:
        """Forget what is known: this machine is elsewhere now."""
        self._until = 0.0

    def stop(self) -> None:
        """Ask no longer."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        self._waiting.clear()

    def _ask(self, server: Address) -> Deferred[NATBehaviour]:
        return discover_nat(
            self._reactor,
            server,
            interface=self._interface,
            own_hosts=own_addresses(self._network),
            on_mapping=self._mapping_found,
        )

    def _mapping_found(self, behaviour: NATBehaviour) -> None:
        """Tell who waits: the mapping decides what is to be done."""
        self._known = behaviour.summary()
        self._until = self._reactor.seconds() + _LIFETIME
        self._tell()

    def _found(self, behaviour: NATBehaviour) -> None:
        self._asking = None
        self._known = behaviour.summary()
        self._until = self._reactor.seconds() + _LIFETIME
        self._log.info(
            "NAT: mapping {mapping}, filtering {filtering}, port step {step}",
            mapping=behaviour.mapping and behaviour.mapping.value,
            filtering=behaviour.filtering and behaviour.filtering.value,
            step=behaviour.port_step,
        )
        self._tell()

    def _failed(self, reason: Failure) -> None:
        self._asking = None
        self._log.debug(
            "the NAT could not be explored: {reason}", reason=reason.getErrorMessage()
        )
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.known)
