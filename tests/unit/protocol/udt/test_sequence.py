"""Tests of sequence arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.sequence import SEQUENCE_MASK, SequenceSpace, distance

number = st.integers(0, SEQUENCE_MASK)


class SequenceTests(SynchronousTestCase):
    """31 bits that wrap."""

    @given(number, st.integers(-(1 << 30), (1 << 30) - 1))
    def test_distance(self, start: int, steps: int) -> None:
        """The distance is the number of steps, forward or back."""
        self.assertEqual(distance(start, (start + steps) & SEQUENCE_MASK), steps)

    @given(number, st.integers(0, 1 << 40), st.integers(-(1 << 30), (1 << 30) - 1))
    def test_index(self, initial: int, index: int, away: int) -> None:
        """An index is found again from anywhere near."""
        space = SequenceSpace(initial)
        self.assertEqual(space.index(space.number(index), index - away), index)

    # [udt:sequence-wrap]
    def test_wrap(self) -> None:
        """After the largest number comes 0."""
        space = SequenceSpace(SEQUENCE_MASK)
        self.assertEqual([space.number(i) for i in range(3)], [SEQUENCE_MASK, 0, 1])
