"""What is done beyond probing."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from dwcloud.protocol.punching.plan import (
    NO_PLAN,
    Plan,
    make_plan,
    may_be_called,
    predicted,
    random_ports,
)

PEER = Address("198.51.100.1", 20000)
STRICT = Filtering.ADDRESS_AND_PORT_DEPENDENT
FIXED = NATSummary(Mapping.ENDPOINT_INDEPENDENT, STRICT)
OPEN = NATSummary(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT)
RANDOM = NATSummary(Mapping.ADDRESS_AND_PORT_DEPENDENT, STRICT)
COUNTING = NATSummary(Mapping.ADDRESS_AND_PORT_DEPENDENT, STRICT, 2)
SUMMARIES = st.builds(
    NATSummary,
    st.sampled_from(Mapping),
    st.none() | st.sampled_from(Filtering),
    st.integers(-32768, 32767),
)


class PlanTests(SynchronousTestCase):
    """The plans of both ends fit together."""

    def test_plans(self) -> None:
        """Who has fixed ports guesses, who has random ones holds many open."""
        for own, peer, expected in (
            (FIXED, FIXED, NO_PLAN),
            (RANDOM, RANDOM, NO_PLAN),
            (RANDOM, COUNTING, NO_PLAN),
            (FIXED, RANDOM, Plan(spray=True)),
            (RANDOM, FIXED, Plan(many=True)),
            (FIXED, COUNTING, Plan(step=2)),
            (COUNTING, FIXED, NO_PLAN),
            (OPEN, RANDOM, NO_PLAN),
            (RANDOM, OPEN, NO_PLAN),
            (None, COUNTING, Plan(step=2)),
            (None, RANDOM, NO_PLAN),
            (RANDOM, None, NO_PLAN),
        ):
            self.assertEqual(make_plan(own, peer), expected, (own, peer))

    def test_calls(self) -> None:
        """The server is made to send first where that may help."""
        for own, peer, expected in (
            (FIXED, FIXED, True),
            (FIXED, COUNTING, True),
            (COUNTING, FIXED, True),
            (None, None, True),
            (None, COUNTING, True),
            (FIXED, RANDOM, False),
            (RANDOM, None, False),
            (COUNTING, COUNTING, False),
        ):
            self.assertIs(may_be_called(own, peer), expected, (own, peer))

    @given(SUMMARIES, SUMMARIES)
    def test_both_ends(self, one: NATSummary, other: NATSummary) -> None:
        """One sprays if and only if the other holds many open."""
        first, second = make_plan(one, other), make_plan(other, one)
        self.assertEqual(first.spray, second.many)
        self.assertEqual(first.many, second.spray)

    @given(SUMMARIES)
    def test_on_the_wire(self, summary: NATSummary) -> None:
        """A summary is read as it was written."""
        self.assertEqual(NATSummary.decode(summary.encode()), summary)

    @given(st.binary(max_size=6))
    def test_anything(self, data: bytes) -> None:
        """What is no summary is refused."""
        try:
            summary = NATSummary.decode(data)
        except RemoteProtocolError:
            return
        self.assertEqual(summary.encode(), data)

    def test_predicted(self) -> None:
        """The next eight, three times; what is no port is left out."""
        ports = [address.port for address in predicted(PEER, 2)]
        self.assertEqual(ports, 3 * list(range(20002, 20018, 2)))
        edge = Address(PEER.host, 65533)
        self.assertEqual({a.port for a in predicted(edge, 1)}, {65534, 65535})
        self.assertEqual(list(predicted(Address(PEER.host, 1024), -1)), [])

    def test_random_ports(self) -> None:
        """Each port comes once, in an order that the source of randomness makes."""
        orders = [
            list(random_ports(PEER, random.Random(seed).randbytes)) for seed in (1, 2)
        ]
        for order in orders:
            self.assertEqual({address.host for address in order}, {PEER.host})
            self.assertEqual(
                sorted(address.port for address in order), list(range(1024, 65536))
            )
        self.assertNotEqual(*(list(itertools.islice(o, 20)) for o in orders))
