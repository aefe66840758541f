"""Keeps ports of this machine mapped at its router, if the router does that.

Where a router does not, nothing is said and nothing else is different: a mapping is one
more way to a server, never the only one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import (
    PortMappingRefused,
    PortMappingUnavailable,
)
from dwcloud.net.internet_gateway import find_gateway
from dwcloud.net.local_network import local_network
from dwcloud.net.port_control import PortControl
from dwcloud.peer.port_mappings import METHODS, PortMappings
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.port_mapping.lease import Lease, LeaseCore, lease_machine
from dwcloud.protocol.port_mapping.mappings import Grant, MappedPort

__all__ = ["PortMapper"]

CHECK_INTERVAL = 60.0
"""Seconds between questions whether the router still has the same address."""
SEARCH_INTERVAL = 600.0
"""Seconds until a network without such a router is searched again."""
_GOODBYE = 2.0
"""Seconds that a program which stops waits for the router."""
_VERSIONS = {"pcp": 2, "nat-pmp": 0}


class _Gateway(Protocol):
    """A router that maps ports, by whatever protocol."""

    @property
    def description(self) -> str: ...

    def map(self, port: MappedPort, external: Address | None) -> Deferred[Grant]: ...

    def unmap(self, port: MappedPort, grant: Grant) -> Deferred[None]: ...

    def stop(self) -> Deferred[None]: ...


@attrs.define(eq=False)
class _KeptPort:
    port: MappedPort
    core: LeaseCore
    machine: Lease
    timer: IDelayedCall | None = None
    asking: Deferred[Any] | None = None


class PortMapper(Service):
    """Maps ports while it runs.

    :param ports: of this machine.
    :param onChange: told all mappings each time that one comes, changes or goes.
    :param methods: of :data:`METHODS`, those that may be used.
    :param interface: local IP address to use, empty for any.
    :ivar mappings: what is mapped now.
    :ivar reason: why nothing is, in words, where that is known.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        ports: Iterable[MappedPort],
        onChange: Callable[[PortMappings], None],
        *,
        methods: Iterable[str] = METHODS,
        interface: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._on_change = onChange
        self._methods = [m for m in METHODS if m in tuple(methods)]
        self._interface = interface
        self._random_bytes = random_bytes
        self._network = local_network(reactor)
        self._kept = [self._keep(port) for port in ports]
        self._gateway: _Gateway | None = None
        self._searching: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None
        self._farewells: list[Deferred[None]] = []
        self._waiting: list[Deferred[PortMappings]] = []
        self.mappings = PortMappings()
        self.reason = "not asked yet"

    def _keep(self, port: MappedPort) -> _KeptPort:
        core = LeaseCore(
            ask=lambda grant: self._ask(kept, grant),
            give_back=lambda grant: self._give_back(kept, grant),
            changed=lambda grant: self._changed(),
        )
        kept = _KeptPort(port, core, lease_machine(core))
        return kept

    # Service

    def startService(self) -> None:
        """Look for a router and map the ports."""
        super().startService()  # type: ignore[no-untyped-call]
        self._search()

    def stopService(self) -> Deferred[None]:
        """Give the mappings back; fires when the router has them or soon after."""
        if not self.running:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        return self._leave()

    def when_searched(self) -> Deferred[PortMappings]:
        """Return what is mapped once the search for a router has ended."""
        if self._searching is None:
            return succeed(self.mappings)
        waiting: Deferred[PortMappings] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def network_changed(self) -> None:
        """This machine moved to another network, or slept: begin again."""
        if self.running:
            self.reason = "not asked yet"
            self._leave(give_back=False)
            self._search()

    def check(self) -> None:
        """The router may have another address, or none of the mappings any more."""
        for kept in self._kept:
            self._tell(kept, kept.machine.doubted)

    # The router

    def _search(self) -> None:
        searching = Deferred.fromCoroutine(self._find())
        self._searching = None if searching.called else searching
        searching.addErrback(self._search_failed)
        searching.addBoth(self._searched)

    def _searched(self, _: object) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.mappings)

    def _search_failed(self, reason: Failure) -> None:
        if not reason.check(CancelledError):
            self._log.failure("while looking for a router that maps ports", reason)

    async def _find(self) -> None:
        """Try one protocol after the other; the first that maps a port is used."""
        reasons = []
        gateway = self._network.defaultGateway(self._interface)
        for method in self._order(gateway):
            found: _Gateway | None = None
            try:
                found = await self._open(method, gateway)
                grant = await found.map(self._kept[0].port, None)
            except (PortMappingRefused, PortMappingUnavailable) as error:
                reasons.append(f"{'/'.join(method)}: {error}")
                if found is not None:
                    found.stop()
                continue
            except CancelledError:
                if found is not None:
                    found.stop()
                raise
            self._use(found, grant)
            return
        self._searching = None
        self.reason = "; ".join(reasons) or "this machine has no router"
        self._log.debug("no router maps ports: {reason}", reason=self.reason)
        self._arm(SEARCH_INTERVAL, self._search)

    def _order(self, gateway: str | None) -> list[tuple[str, ...]]:
        """The protocols to try; the first two are one question."""
        if gateway is None and self._network.knowsGateway:
            return []
        by_port = tuple(m for m in self._methods if m in _VERSIONS)
        order = [by_port] if by_port and gateway is not None else []
        return [*order, ("upnp",)] if "upnp" in self._methods else order

    async def _open(self, methods: tuple[str, ...], gateway: str | None) -> _Gateway:
        if methods == ("upnp",):
            return await find_gateway(self._reactor, self._interface, gateway)
        assert gateway is not None
        control = PortControl(
            self._reactor,
            gateway,
            frozenset(_VERSIONS[m] for m in methods),
            self.check,
            interface=self._interface,
            random_bytes=self._random_bytes,
        )
        try:
            control.start()
        except PortMappingUnavailable:
            control.stop()
            raise
        return control

    def _use(self, gateway: _Gateway, grant: Grant) -> None:
        self._log.info("{router} maps ports", router=gateway.description)
        self._gateway = gateway
        self._searching = None
        self._arm(CHECK_INTERVAL, self._check_regularly)
        first, *_ = self._kept
        first.asking = succeed(grant)
        for kept in self._kept:
            self._tell(kept, kept.machine.wanted)

    def _check_regularly(self) -> None:
        self._arm(CHECK_INTERVAL, self._check_regularly)
        held = [kept for kept in self._kept if kept.core.grant is not None]
        if held:
            # One answer tells what has happened to the others, too.
            self._tell(held[0], held[0].machine.doubted)
        else:
            self.network_changed()

    def _arm(self, delay: float, function: Callable[[], None]) -> None:
        self._disarm()
        self._timer = self._reactor.callLater(delay, function)

    def _disarm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _leave(self, *, give_back: bool = True) -> Deferred[None]:
        self._disarm()
        if self._searching is not None:
            searching, self._searching = self._searching, None
            searching.cancel()
        gateway = self._gateway
        for kept in self._kept:
            if kept.timer is not None and kept.timer.active():
                kept.timer.cancel()
            if kept.asking is not None:
                asking, kept.asking = kept.asking, None
                asking.cancel()
            end = kept.machine.unwanted if give_back else kept.machine.forgotten
            end(self._reactor.seconds())
        self._gateway = None
        self._publish(PortMappings())
        farewells, self._farewells = self._farewells, []
        done: Deferred[Any] = gatherResults(farewells)
        done.addTimeout(_GOODBYE, self._reactor, onTimeoutCancel=lambda *_: None)
        return done.addCallback(lambda _: self._close(gateway))

    def _close(self, gateway: _Gateway | None) -> Deferred[None]:
        return succeed(None) if gateway is None else gateway.stop()

    # Leases

    def _tell(self, kept: _KeptPort, occurred: Callable[[float], None]) -> None:
        occurred(self._reactor.seconds())
        self._rearm(kept)

    def _rearm(self, kept: _KeptPort) -> None:
        if kept.timer is not None and kept.timer.active():
            kept.timer.cancel()
        due = kept.core.due
        if due is not None and self.running:
            delay = max(0.0, due - self._reactor.seconds())
            kept.timer = self._reactor.callLater(
                delay, self._tell, kept, kept.machine.timer_expired
            )

    def _ask(self, kept: _KeptPort, grant: Grant | None) -> None:
        assert self._gateway is not None
        asking: Deferred[Grant]
        if kept.asking is not None:
            # What the search for the router got already.
            asking, kept.asking = kept.asking, None
        else:
            external = None if grant is None else grant.external
            asking = self._gateway.map(kept.port, external)
        kept.asking = asking
        asking.addCallbacks(
            self._granted,
            self._refused,
            callbackArgs=(kept, grant),
            errbackArgs=(kept,),
        )

    def _granted(self, grant: Grant, kept: _KeptPort, before: Grant | None) -> None:
        kept.asking = None
        kept.machine.granted(grant, self._reactor.seconds())
        self._rearm(kept)
        if before is not None and before.external.host != grant.external.host:
            self._doubt_all_but(kept)

    def _doubt_all_but(self, kept: _KeptPort) -> None:
        for other in self._kept:
            if other is not kept and other.core.grant is not None:
                self._tell(other, other.machine.doubted)

    def _refused(self, reason: Failure, kept: _KeptPort) -> None:
        kept.asking = None
        if reason.check(CancelledError):
            return
        if not reason.check(PortMappingRefused, PortMappingUnavailable):
            self._log.failure("while mapping {port}", reason, port=str(kept.port))
        self._log.debug(
            "{port} is not mapped: {reason}",
            port=str(kept.port),
            reason=reason.getErrorMessage(),
        )
        held = kept.core.grant is not None
        kept.machine.refused(reason.getErrorMessage(), self._reactor.seconds())
        self._rearm(kept)
        if held:
            self._doubt_all_but(kept)

    def _give_back(self, kept: _KeptPort, grant: Grant) -> None:
        assert self._gateway is not None
        removing = self._gateway.unmap(kept.port, grant)
        self._farewells.append(removing)
        removing.addErrback(
            lambda reason: self._log.debug(
                "{port} stays mapped for a while: {reason}",
                port=str(kept.port),
                reason=reason.getErrorMessage(),
            )
        )

    def _changed(self) -> None:
        if self._gateway is None:
            return
        external = {
            kept.port: kept.core.grant.external
            for kept in self._kept
            if kept.core.grant is not None
        }
        self._publish(PortMappings(self._gateway.description, external))

    def _publish(self, mappings: PortMappings) -> None:
        if not mappings.external:
            mappings = PortMappings()
        if mappings != self.mappings:
            self.mappings = mappings
            self._on_change(mappings)
