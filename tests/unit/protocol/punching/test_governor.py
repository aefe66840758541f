"""How much may be guessed, whatever the peers say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.punching.governor import (
    MAX_MAPPINGS,
    MAX_PACKETS_PER_SECOND,
    Governor,
)


class GovernorTests(SynchronousTestCase):
    """Packets and mappings."""

    @given(
        st.lists(
            st.tuples(
                st.floats(0.0, 2.0) | st.sampled_from([0.0, 0.5, 1.0]),
                st.integers(0, 400),
            ),
            max_size=20,
        )
    )
    def test_packets(self, bursts: list[tuple[float, int]]) -> None:
        """In no second are there more packets than may be, and what may be is given."""
        governor, now, sent = Governor(), 0.0, []
        for pause, wanted in bursts:
            now += pause
            for _ in range(wanted):
                recent = sum(at > now - 1.0 for at in sent)
                allowed = governor.take_packet(now=now)
                self.assertEqual(allowed, recent < MAX_PACKETS_PER_SECOND)
                if allowed:
                    sent.append(now)

    @given(st.lists(st.booleans(), max_size=800))
    def test_mappings(self, takes: list[bool]) -> None:
        """Never are more sockets open than may be; those closed count no more."""
        governor, opened = Governor(), 0
        for take in [True] * (MAX_MAPPINGS - 5) + takes:
            if take:
                self.assertEqual(governor.take_mapping(), opened < MAX_MAPPINGS)
                opened = min(opened + 1, MAX_MAPPINGS)
            elif opened:
                governor.release_mapping()
                opened -= 1
            self.assertEqual(governor.mappings, opened)

    def test_misuse(self) -> None:
        """What was not opened cannot be closed."""
        self.assertRaises(LocalProtocolError, Governor().release_mapping)
