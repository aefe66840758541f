"""A mapping that is kept: asked for, renewed at half of its time, and given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

from dwcloud.protocol.port_mapping.mappings import Grant

__all__ = ["RETRY", "Lease", "LeaseCore", "lease_machine"]

RETRY = 60.0
"""Seconds after which a router that refused is asked again, at the latest."""
_LEAST_WAIT = 4.0
"""Seconds between two questions at least (RFC 6887, section 11.2.1)."""


class Lease(Protocol):
    """What happens to a lease, in the past tense."""

    def wanted(self, now: float) -> None:
        """The mapping is needed from now on."""

    def granted(self, grant: Grant, now: float) -> None:
        """The router made or renewed it."""

    def refused(self, reason: str, now: float) -> None:
        """The router refused it, or did not answer."""

    def timer_expired(self, now: float) -> None:
        """The time of ``LeaseCore.due`` has come."""

    def doubted(self, now: float) -> None:
        """The router may have forgotten it, or have another address now."""

    def unwanted(self, now: float) -> None:
        """The mapping is not needed any more."""

    def forgotten(self, now: float) -> None:
        """The router is out of reach: nothing can be given back to it."""


@attrs.define(eq=False)
class LeaseCore:
    """What the machine acts on.

    :ivar ask: asks the router for the mapping, for the external address of the last
        grant if there was one; its outcome comes back as an input.
    :ivar give_back: asks it to remove the mapping.
    :ivar changed: told a new grant, a changed one, or that there is none any more.
    :ivar grant: the last one.
    :ivar reason: why there is none, if that is known.
    :ivar due: when the timer expires, absolute seconds; None for never.
    :ivar expires: when the grant ends.
    """

    ask: Callable[[Grant | None], None]
    give_back: Callable[[Grant], None]
    changed: Callable[[Grant | None], None]
    grant: Grant | None = None
    reason: str = ""
    due: float | None = None
    expires: float = 0.0

    def ask_again(self) -> None:
        """Ask, and wait for the outcome."""
        self.due = None
        self.ask(self.grant)

    def keep(self, grant: Grant, now: float) -> None:
        """Take a grant, and renew it at half of its time."""
        before, self.grant = self.grant, grant
        self.reason = ""
        self.expires = now + grant.lifetime
        self.due = now + max(grant.lifetime / 2, _LEAST_WAIT)
        if before is None or before.external != grant.external:
            self.changed(grant)

    def drop(self) -> None:
        """There is no mapping any more."""
        if self.grant is not None:
            self.grant = None
            self.changed(None)


_builder = TypeMachineBuilder(Lease, LeaseCore)
_idle = _builder.state("idle")
_asking = _builder.state("asking")
_held = _builder.state("held")
_renewing = _builder.state("renewing")
_waiting = _builder.state("waiting to ask again")


@_idle.upon(Lease.wanted).to(_asking)
@_waiting.upon(Lease.timer_expired).to(_asking)
@_waiting.upon(Lease.doubted).to(_asking)
@_waiting.upon(Lease.wanted).to(_asking)
def _ask(inputs: Lease, core: LeaseCore, now: float) -> None:
    core.ask_again()


@_held.upon(Lease.timer_expired).to(_renewing)
@_held.upon(Lease.doubted).to(_renewing)
def _renew(inputs: Lease, core: LeaseCore, now: float) -> None:
    core.ask_again()


@_asking.upon(Lease.granted).to(_held)
@_renewing.upon(Lease.granted).to(_held)
def _keep(inputs: Lease, core: LeaseCore, grant: Grant, now: float) -> None:
    core.keep(grant, now)


@_asking.upon(Lease.refused).to(_waiting)
def _wait(inputs: Lease, core: LeaseCore, reason: str, now: float) -> None:
    core.reason = reason
    core.due = now + RETRY


@_renewing.upon(Lease.refused).to(_waiting)
def _lose(inputs: Lease, core: LeaseCore, reason: str, now: float) -> None:
    # Whether the old one still works is not known; the paths beside it do.
    core.reason = reason
    core.due = now + _LEAST_WAIT
    core.drop()


@_held.upon(Lease.unwanted).to(_idle)
@_renewing.upon(Lease.unwanted).to(_idle)
def _give_back(inputs: Lease, core: LeaseCore, now: float) -> None:
    core.due = None
    assert core.grant is not None
    grant, core.grant = core.grant, None
    core.give_back(grant)


@_waiting.upon(Lease.unwanted).to(_idle)
@_asking.upon(Lease.unwanted).to(_idle)
def _stop(inputs: Lease, core: LeaseCore, now: float) -> None:
    core.due = None


@_asking.upon(Lease.forgotten).to(_idle)
@_held.upon(Lease.forgotten).to(_idle)
@_renewing.upon(Lease.forgotten).to(_idle)
@_waiting.upon(Lease.forgotten).to(_idle)
def _forget(inputs: Lease, core: LeaseCore, now: float) -> None:
    core.due = None
    core.grant = None


# It is being asked for already, or is there.
_asking.upon(Lease.wanted).loop().returns(None)
_held.upon(Lease.wanted).loop().returns(None)
_renewing.upon(Lease.wanted).loop().returns(None)
_asking.upon(Lease.doubted).loop().returns(None)
_renewing.upon(Lease.doubted).loop().returns(None)
_idle.upon(Lease.doubted).loop().returns(None)
_idle.upon(Lease.unwanted).loop().returns(None)
_idle.upon(Lease.forgotten).loop().returns(None)

# A timer is set in the other states only.
_idle.upon(Lease.timer_expired).loop().returns(None)
_asking.upon(Lease.timer_expired).loop().returns(None)
_renewing.upon(Lease.timer_expired).loop().returns(None)

# Answers to what was asked before it was given up; the adapter cancels those.
_idle.upon(Lease.granted).loop().returns(None)
_idle.upon(Lease.refused).loop().returns(None)
_held.upon(Lease.granted).loop().returns(None)
_held.upon(Lease.refused).loop().returns(None)
_waiting.upon(Lease.granted).loop().returns(None)
_waiting.upon(Lease.refused).loop().returns(None)

lease_machine = _builder.build()
"""Builds a :class:`Lease` from a :class:`LeaseCore`."""
