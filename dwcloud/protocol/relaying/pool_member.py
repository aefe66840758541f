"""One connection of a server's listening pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from automat import TypeMachineBuilder

__all__ = ["MemberCore", "PoolMember", "make_pool_member"]


class PoolMember(Protocol):
    """One connection to a relay, from the attempt to open it until it is used up."""

    def established(self) -> None:
        """The relay accepted the connection as an idle one."""

    def heard(self) -> None:
        """The relay said that it is still there."""

    def taken(self) -> None:
        """The relay joined the connection with a client."""

    def lost(self) -> None:
        """The connection could not be opened, or was lost."""

    def timed_out(self) -> None:
        """Nothing was heard for too long."""


@attrs.define(eq=False)
class MemberCore:
    """What the states call.

    :ivar idle_began: the connection is idle now.
    :ivar silence_restarted: to start the time limit of silence again.
    :ivar was_taken: the connection is no longer of the pool.
    :ivar failed: the attempt came to nothing.
    :ivar died: the idle connection is no more.
    :ivar drop: to close the connection.
    """

    idle_began: Callable[[], None]
    silence_restarted: Callable[[], None]
    was_taken: Callable[[], None]
    failed: Callable[[], None]
    died: Callable[[], None]
    drop: Callable[[], None]


def _build() -> Callable[[MemberCore], PoolMember]:
    machine = TypeMachineBuilder(PoolMember, MemberCore)
    opening = machine.state("Opening")
    idle = machine.state("Idle")
    ended = machine.state("Ended")

    @opening.upon(PoolMember.established).to(idle)
    def begin_idle(member: PoolMember, core: MemberCore) -> None:
        core.idle_began()

    @opening.upon(PoolMember.lost).to(ended)
    def fail(member: PoolMember, core: MemberCore) -> None:
        core.failed()

    @opening.upon(PoolMember.timed_out).to(ended)
    def give_up(member: PoolMember, core: MemberCore) -> None:
        core.drop()
        core.failed()

    @idle.upon(PoolMember.heard).loop()
    def restart_silence(member: PoolMember, core: MemberCore) -> None:
        core.silence_restarted()

    @idle.upon(PoolMember.taken).to(ended)
    def hand_over(member: PoolMember, core: MemberCore) -> None:
        core.was_taken()

    @idle.upon(PoolMember.lost).to(ended)
    def replace(member: PoolMember, core: MemberCore) -> None:
        core.died()

    @idle.upon(PoolMember.timed_out).to(ended)
    def drop(member: PoolMember, core: MemberCore) -> None:
        core.drop()
        core.died()

    # What the pool gave up may still report that it was opened, used or lost.
    for late in (
        PoolMember.established,
        PoolMember.heard,
        PoolMember.taken,
        PoolMember.lost,
        PoolMember.timed_out,
    ):
        ended.upon(late).loop().returns(None)
    return machine.build()


make_pool_member = _build()
"""Makes the machine of a connection that is being opened."""
