"""What punching comes to between two NATs."""

from __future__ import annotations

import itertools

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from dwcloud.protocol.punching.prospects import End, Prospect, prospect
from dwcloud.testing import NAT_KINDS
from dwcloud.testing.nat import PortAllocation
from tests.nat_table import KINDS, can_be_guessed, entry

OPEN = NATSummary(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT)
STRICT = NATSummary(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT)

summaries = st.builds(
    NATSummary,
    st.sampled_from(Mapping),
    st.sampled_from(Filtering),
    st.sampled_from((0, 1, 2)),
)
ends = st.builds(End, summaries, st.booleans())


def end_of(kind: str) -> End:
    """The end that a kind of the table is."""
    made = NAT_KINDS.get(kind)
    if made is None:
        return End(OPEN if kind == "open" else STRICT)
    step = made.port_step if made.port_allocation is PortAllocation.SEQUENTIAL else 0
    return End(NATSummary(made.mapping, made.filtering, step), made.without_firewall)


class TableTests(SynchronousTestCase):
    """The theory gives the table that was measured."""

    def expected(self, one: str, other: str) -> Prospect:
        """What the table says."""
        named = {
            "ok": Prospect.DIRECT,
            "race": Prospect.RACE,
            "pred": Prospect.PREDICTED,
        }.get(entry(one, other))
        if named is not None:
            return named
        # A router without a firewall filters as a port-restricted one does.
        alike = [k.replace("linux-nofw", "port-restricted") for k in (one, other)]
        guessed = can_be_guessed(*alike)
        return Prospect.GUESSED if guessed else Prospect.RELAYED

    def test_all_pairs(self) -> None:
        """Each of the 100 pairs comes out as it did between real NATs."""
        wrong = {
            (one, other): found
            for one, other in itertools.product(KINDS, KINDS)
            if (found := prospect(end_of(one), end_of(other)))
            is not self.expected(one, other)
        }
        self.assertEqual(wrong, {})


class PropertyTests(SynchronousTestCase):
    """What holds for all NATs."""

    @given(ends, ends)
    def test_order(self, one: End, other: End) -> None:
        """It does not matter which end is named first."""
        self.assertIs(prospect(one, other), prospect(other, one))

    @given(ends)
    def test_open(self, end: End) -> None:
        """Everybody gets to an end that lets in what comes from anywhere."""
        self.assertIs(prospect(end, End(OPEN)), Prospect.DIRECT)

    @given(ends, ends)
    def test_looser_filtering(self, one: End, other: End) -> None:
        """A NAT that lets in more never turns a direct pair into a relayed one."""
        looser = {
            Filtering.ADDRESS_AND_PORT_DEPENDENT: Filtering.ADDRESS_DEPENDENT,
        }.get(one.nat.filtering or Filtering.ENDPOINT_INDEPENDENT)
        opened = attrs.evolve(
            one,
            nat=attrs.evolve(
                one.nat, filtering=looser or Filtering.ENDPOINT_INDEPENDENT
            ),
        )
        if prospect(one, other) is Prospect.DIRECT:
            self.assertIs(prospect(opened, other), Prospect.DIRECT)

    @given(ends, ends)
    def test_unknown_filtering(self, one: End, other: End) -> None:
        """What is not known counts as the strictest."""
        unknown = attrs.evolve(one, nat=attrs.evolve(one.nat, filtering=None))
        strict = attrs.evolve(
            one,
            nat=attrs.evolve(one.nat, filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT),
        )
        self.assertIs(prospect(unknown, other), prospect(strict, other))
