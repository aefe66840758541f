"""Named deadlines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.deadlines import Deadlines

TIMES = st.floats(min_value=0, max_value=1e6)


class DeadlineTests(SynchronousTestCase):
    """A few points in time, of which the earliest counts."""

    def setUp(self) -> None:
        self.deadlines: Deadlines[str] = Deadlines()

    def test_nothing_set(self) -> None:
        """Without deadlines there is no timer and nothing is due."""
        self.assertIsNone(self.deadlines.next())
        self.assertEqual(self.deadlines.pop_due(1e9), [])

    def test_due_at_its_very_moment(self) -> None:
        """A deadline is due when its moment comes, not before, and once."""
        self.deadlines.set("a", 1.0)
        self.assertEqual(self.deadlines.pop_due(0.999), [])
        self.assertEqual(self.deadlines.pop_due(1.0), ["a"])
        self.assertEqual(self.deadlines.pop_due(1.0), [])

    def test_moved(self) -> None:
        """Setting a name again moves it."""
        self.deadlines.set("a", 1.0)
        self.deadlines.set("b", 2.0)
        self.deadlines.set("a", 3.0)
        self.assertEqual(self.deadlines.next(), 2.0)
        self.assertEqual(self.deadlines.pop_due(3.0), ["b", "a"])

    def test_cancelled(self) -> None:
        """What is cancelled is never due; cancelling needs nothing to be set."""
        self.deadlines.cancel("a")
        self.deadlines.set("a", 1.0)
        self.assertIn("a", self.deadlines)
        self.deadlines.cancel("a")
        self.assertNotIn("a", self.deadlines)
        self.assertIsNone(self.deadlines.next())

    def test_cleared(self) -> None:
        """All can be forgotten together."""
        self.deadlines.set("a", 1.0)
        self.deadlines.set("b", 1.0)
        self.deadlines.clear()
        self.assertIsNone(self.deadlines.next())

    def test_names_need_no_order(self) -> None:
        """Names of a kind that cannot be compared may be due together, as set."""
        deadlines: Deadlines[object] = Deadlines()
        names = [object(), 3, "x", None]
        for name in names:
            deadlines.set(name, 1.0)
        self.assertEqual(deadlines.pop_due(2.0), names)

    @given(st.dictionaries(st.text(max_size=3), TIMES), TIMES)
    def test_earliest_first(self, given_times: dict[str, float], now: float) -> None:
        """What is due comes in the order of time and the rest stays."""
        deadlines: Deadlines[str] = Deadlines()
        for name, at in given_times.items():
            deadlines.set(name, at)
        due = deadlines.pop_due(now)
        self.assertEqual(
            [given_times[name] for name in due],
            sorted(at for at in given_times.values() if at <= now),
        )
        left = [at for name, at in given_times.items() if name in deadlines]
        self.assertEqual(
            sorted(left), sorted(a for a in given_times.values() if a > now)
        )
        self.assertEqual(deadlines.next(), min(left, default=None))
