"""The decisions of a race of paths: hold, begin, select, once."""

from __future__ import annotations

from typing import Protocol

import attrs
from automat import TypeMachineBuilder
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from dwcloud.net.path import Path

__all__ = ["Race", "RaceCore", "race_machine"]

_BEGUN_PATIENCE = 3.0
"""Seconds for a path that was begun to be verified while another one is held."""


class Race(Protocol):
    """What happens in a race, in the past tense."""

    def path_held(self, path: Path, seconds: float) -> None:
        """A verified path has to wait ``seconds`` for a better one."""

    def held_path_lost(self) -> None:
        """The path that was held broke; the others go on."""

    def path_selected(self, path: Path) -> None:
        """This path is the best that can be had."""

    def path_begun(self) -> None:
        """The service is requested by a path that is not verified yet."""

    def begun_path_failed(self) -> None:
        """That path came to nothing, and the service was not connected."""

    def all_failed(self) -> None:
        """Nothing is in progress and nothing is held."""

    def time_ran_out(self) -> None:
        """The time of a held path, or of the whole race, is over."""

    def cancelled(self) -> None:
        """Nobody wants the result any more."""


class Racing(Protocol):
    """What a race acts on."""

    @property
    def clock(self) -> IReactorTime:
        """Tells when a path was held for long enough."""

    def finish(self, path: Path | None) -> None:
        """It is over: won by ``path``, or lost."""

    def abandon(self) -> None:
        """Stop everything that is in progress."""


@attrs.define
class RaceCore:
    """What the machine keeps.

    :ivar held: a verified path that waits for a better one.
    :ivar hold: ends its wait.
    :ivar seconds: how long it is to wait while no other path is begun.
    """

    connector: Racing
    held: Path | None = None
    hold: IDelayedCall | None = None
    seconds: float = 0.0

    def release_hold(self) -> None:
        """Let nothing end the wait any more."""
        hold, self.hold = self.hold, None
        if hold is not None and hold.active():
            hold.cancel()

    def keep(self, race: Race, path: Path, seconds: float) -> None:
        """Hold ``path`` instead of what was held before."""
        self.drop()
        self.held = path
        self.seconds = seconds
        self.wait(race, seconds)

    def wait(self, race: Race, seconds: float) -> None:
        """Let what is held wait from now on."""
        self.release_hold()
        clock = self.connector.clock
        self.hold = clock.callLater(seconds, race.time_ran_out)

    def drop(self) -> None:
        """Let go of what is held."""
        self.release_hold()
        held, self.held = self.held, None
        if held is not None:
            held.on_lost = None
            held.close()


_builder = TypeMachineBuilder(Race, RaceCore)
_racing = _builder.state("racing")
_holding = _builder.state("holding")
_begun = _builder.state("begun")
_begun_holding = _builder.state("begun, another held")
_over = _builder.state("over")


@_racing.upon(Race.path_held).to(_holding)
def _hold(race: Race, core: RaceCore, path: Path, seconds: float) -> None:
    core.keep(race, path, seconds)


@_holding.upon(Race.path_held).to(_holding)
def _hold_better(race: Race, core: RaceCore, path: Path, seconds: float) -> None:
    core.keep(race, path, seconds)


@_holding.upon(Race.held_path_lost).to(_racing)
def _lose_held(race: Race, core: RaceCore) -> None:
    core.release_hold()
    core.held = None


@_racing.upon(Race.path_begun).to(_begun)
def _begin(race: Race, core: RaceCore) -> None:
    pass


@_holding.upon(Race.path_begun).to(_begun_holding)
def _begin_better(race: Race, core: RaceCore) -> None:
    core.wait(race, _BEGUN_PATIENCE)


@_begun.upon(Race.path_held).to(_begun_holding)
@_begun_holding.upon(Race.path_held).to(_begun_holding)
def _hold_for_begun(race: Race, core: RaceCore, path: Path, seconds: float) -> None:
    core.keep(race, path, seconds)
    core.wait(race, _BEGUN_PATIENCE)


@_begun_holding.upon(Race.held_path_lost).to(_begun)
def _lose_held_for_begun(race: Race, core: RaceCore) -> None:
    core.release_hold()
    core.held = None


@_begun.upon(Race.begun_path_failed).to(_racing)
def _race_on(race: Race, core: RaceCore) -> None:
    pass


@_begun_holding.upon(Race.begun_path_failed).to(_holding)
def _hold_on(race: Race, core: RaceCore) -> None:
    core.wait(race, core.seconds)


@_begun.upon(Race.path_selected).to(_over)
@_racing.upon(Race.path_selected).to(_over)
def _select(race: Race, core: RaceCore, path: Path) -> None:
    core.connector.finish(path)


@_begun_holding.upon(Race.path_selected).to(_over)
@_holding.upon(Race.path_selected).to(_over)
def _select_instead(race: Race, core: RaceCore, path: Path) -> None:
    core.drop()
    core.connector.finish(path)


@_begun_holding.upon(Race.time_ran_out).to(_over)
@_holding.upon(Race.time_ran_out).to(_over)
def _select_held(race: Race, core: RaceCore) -> None:
    held, core.held = core.held, None
    core.release_hold()
    assert held is not None
    core.connector.finish(held)


@_racing.upon(Race.all_failed).to(_over)
def _fail(race: Race, core: RaceCore) -> None:
    core.connector.finish(None)


@_begun.upon(Race.time_ran_out).to(_over)
@_racing.upon(Race.time_ran_out).to(_over)
def _give_up(race: Race, core: RaceCore) -> None:
    core.connector.finish(None)


@_begun.upon(Race.cancelled).to(_over)
@_racing.upon(Race.cancelled).to(_over)
def _cancel(race: Race, core: RaceCore) -> None:
    core.connector.abandon()


@_begun_holding.upon(Race.cancelled).to(_over)
@_holding.upon(Race.cancelled).to(_over)
def _cancel_held(race: Race, core: RaceCore) -> None:
    core.drop()
    core.connector.abandon()


# What was still on its way when the race ended changes nothing any more.
_over.upon(Race.path_held).loop().returns(None)
_over.upon(Race.held_path_lost).loop().returns(None)
_over.upon(Race.path_begun).loop().returns(None)
_over.upon(Race.begun_path_failed).loop().returns(None)
_over.upon(Race.path_selected).loop().returns(None)
_over.upon(Race.all_failed).loop().returns(None)
_over.upon(Race.time_ran_out).loop().returns(None)
_over.upon(Race.cancelled).loop().returns(None)

race_machine = _builder.build()
"""Builds a :class:`Race`."""
