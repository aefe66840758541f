"""Tests of both loss lists against plain sets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.loss_lists import Gap, ReceiverLossList, SenderLossList

place = st.integers(0, 60)


def members(ranges: list[tuple[int, int]]) -> set[int]:
    return {i for first, last in ranges for i in range(first, last + 1)}


class SenderLossListTests(SynchronousTestCase):
    """What is to be sent again."""

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("insert"), place, place),
                st.tuples(st.just("before"), place, place),
                st.tuples(st.just("pop"), st.integers(1, 9), place),
            ),
            max_size=40,
        )
    )
    def test_like_a_set(self, steps: list[tuple[str, int, int]]) -> None:
        """It behaves as a sorted set does, and its ranges never touch."""
        losses, model = SenderLossList(), set[int]()
        for name, a, b in steps:
            if name == "insert":
                first, last = min(a, b), max(a, b)
                new = set(range(first, last + 1)) - model
                self.assertEqual(losses.insert(first, last), len(new))
                model |= new
            elif name == "before":
                losses.remove_before(a)
                model = {i for i in model if i >= a}
            elif model:
                first, last = losses.pop_first(a)
                popped = set(range(first, last + 1))
                self.assertEqual(first, min(model))
                self.assertLessEqual(len(popped), a)
                self.assertLessEqual(popped, model)
                model -= popped
            ranges = losses.ranges()
            self.assertEqual(members(ranges), model)
            self.assertEqual(losses.count, len(model))
            self.assertEqual(bool(losses), bool(model))
            for (_, last), (first, _) in itertools.pairwise(ranges):
                self.assertGreater(first, last + 1)

    def test_empty(self) -> None:
        """There is nothing to take from an empty list."""
        self.assertRaises(IndexError, SenderLossList().pop_first, 1)


def gap(first: int, last: int, at: float = 0.0) -> Gap:
    return Gap(first=first, last=last, found_at=at, timestamp=0, report_at=at)


class ReceiverLossListTests(SynchronousTestCase):
    """What is missing."""

    @given(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=12),
        st.lists(place, max_size=40),
    )
    def test_like_a_set(self, gaps: list[tuple[int, int]], arrivals: list[int]) -> None:
        """Arrivals leave exactly the rest."""
        losses, model, position = ReceiverLossList(), set[int](), 0
        for distance, size in gaps:
            first = position + distance
            position = first + size
            losses.append(gap(first, position - 1))
            model |= set(range(first, position))
        for index in arrivals:
            self.assertEqual(losses.remove(index) is not None, index in model)
            model.discard(index)
            self.assertEqual(members(losses.ranges()), model)
            self.assertEqual(losses.first, min(model, default=None))
            self.assertEqual(bool(losses), bool(model))
            self.assertLessEqual(len(losses), len(model))
            self.assertEqual(losses.packets, len(model))

    def test_bounded(self) -> None:
        """Reports planned for what has arrived are forgotten."""
        losses = ReceiverLossList()
        for index in range(0, 20_000, 2):
            losses.append(gap(index, index, at=100.0))
            losses.remove(index)
        self.assertLess(len(losses._reports), 100)

    def test_split(self) -> None:
        """Both parts of a gap are reported, in order."""
        losses = ReceiverLossList()
        losses.append(gap(0, 9))
        losses.remove(5)
        self.assertEqual(losses.take_due(0.0, 1.0, 9), [(0, 4), (6, 9)])

    def test_reports(self) -> None:
        """A gap is reported when it is found, then more and more rarely."""
        losses = ReceiverLossList()
        losses.append(gap(3, 5, at=10.0))
        self.assertEqual(losses.next_report_at, 10.0)
        self.assertEqual(losses.take_due(9.9, 0.3, 10), [])
        self.assertEqual(losses.take_due(10.0, 0.3, 10), [(3, 5)])
        self.assertEqual(losses.take_due(10.2, 0.3, 10), [])
        self.assertEqual(losses.take_due(10.3, 0.3, 10), [(3, 5)])
        self.assertAlmostEqual(losses.next_report_at, 10.9)

    def test_limit(self) -> None:
        """Gaps beyond the limit stay due."""
        losses = ReceiverLossList()
        for first in (0, 2, 4):
            losses.append(gap(first, first))
        self.assertEqual(losses.take_due(0.0, 1.0, 2), [(0, 0), (2, 2)])
        self.assertEqual(losses.take_due(0.0, 1.0, 2), [(4, 4)])
        self.assertEqual(losses.take_due(0.0, 1.0, 2), [])

    def test_all_arrived(self) -> None:
        """Without gaps there is nothing to wait for."""
        losses = ReceiverLossList()
        losses.append(gap(0, 0))
        losses.remove(0)
        self.assertIsNone(losses.next_report_at)
