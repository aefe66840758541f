"""What hole punching can come to between two NATs, computed from how they behave.

Each end sends to the address at which the mediator saw the other, and to each address
from which it hears the other. What then gets through is followed here packet by packet,
with names in place of ports (docs/protocol/punching).
"""

from __future__ import annotations

import enum

import attrs

from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from dwcloud.protocol.punching.plan import make_plan

__all__ = ["End", "Prospect", "prospect"]

_ROUNDS = 4
"""Answers back and forth after which nothing new can be learnt."""
_SEEN = "as the mediator saw it"


class Prospect(enum.StrEnum):
    """What can come of a pair of NATs."""

    DIRECT = "direct"
    """A hole is punched at once."""
    RACE = "race"
    """Direct if the packets of the right end are first, else relayed for a moment."""
    PREDICTED = "predicted"
    """Direct when the next port of a sequence is guessed right, relayed until then."""
    GUESSED = "guessed"
    """Relayed at first; some seconds later one of many random ports is hit."""
    RELAYED = "relayed"
    """Only a relay can carry it."""


@attrs.frozen
class End:
    """One end.

    :ivar nat: how its NAT or firewall behaves; a filtering that is not known counts as
        the strictest.
    :ivar loses_to_strays: whether a packet that comes before the host has sent there
        makes the router give the flow another port, as a Linux router that has no
        firewall does.
    """

    nat: NATSummary
    loses_to_strays: bool = False


_Port = tuple[int, object]
"""A port of end 0 or 1, named after what made its NAT open it."""


def prospect(one: End, other: End) -> Prospect:
    """Tell what can come of two ends; the order does not matter."""
    if not _Exchange(one, other, late=False).joined:
        plans = (make_plan(one.nat, other.nat), make_plan(other.nat, one.nat))
        if any(plan.step for plan in plans):
            return Prospect.PREDICTED
        if any(plan.spray for plan in plans):
            return Prospect.GUESSED
        return Prospect.RELAYED
    for late in ((True, False), (False, True), (True, True)):
        if not _Exchange(one, other, *late).joined:
            return Prospect.RACE
    return Prospect.DIRECT


class _Exchange:
    """All that both ends send, and what of it gets through.

    :param late: whether the packets of this end come after those of the other have
        been at its router.
    :ivar joined: whether each end hears the other.
    """

    def __init__(
        self, one: End, other: End, late: bool = False, other_late: bool = False
    ) -> None:
        self._ends = (one, other)
        self._late = (
            late and one.loses_to_strays,
            other_late and other.loses_to_strays,
        )
        self._sent: tuple[set[_Port], set[_Port]] = ({(1, _SEEN)}, {(0, _SEEN)})
        self._heard: tuple[set[_Port], set[_Port]] = (set(), set())
        for _ in range(_ROUNDS):
            self._exchange()
        self.joined = all(self._heard)

    def _exchange(self) -> None:
        for sender in (0, 1):
            for target in tuple(self._sent[sender]):
                source = self._port(sender, target)
                if self._admits(target, source):
                    self._heard[1 - sender].add(source)
        for hearer in (0, 1):
            self._sent[hearer].update(self._heard[hearer])

    def _port(self, sender: int, target: _Port) -> _Port:
        """From which external port a packet to ``target`` leaves."""
        mapping = self._ends[sender].nat.mapping
        if mapping is Mapping.ENDPOINT_INDEPENDENT:
            # What is late finds the flow taken, and its port with it.
            return (sender, target if self._late[sender] else _SEEN)
        if mapping is Mapping.ADDRESS_DEPENDENT:
            return (sender, "for the far end's host")
        return (sender, target)

    def _admits(self, target: _Port, source: _Port) -> bool:
        """Whether a port lets in what comes from ``source``."""
        owner, _ = target
        filtering = self._ends[owner].nat.filtering
        if filtering is Filtering.ENDPOINT_INDEPENDENT:
            return True
        used_for = [d for d in self._sent[owner] if self._port(owner, d) == target]
        if filtering is Filtering.ADDRESS_DEPENDENT:
            return bool(used_for)
        return source in used_for
