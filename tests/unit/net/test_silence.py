"""Connections that fall silent, or are too many."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.silence import SilenceTable


class SilenceTableTests(SynchronousTestCase):
    """One timer for all."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.given_up: list[str] = []
        self.table: SilenceTable[str] = SilenceTable(
            self.clock, 15.0, 3, self.given_up.append
        )

    def test_no_limit(self) -> None:
        """Without a limit there is no timer, and room is made all the same."""
        table: SilenceTable[str] = SilenceTable(
            self.clock, None, 2, self.given_up.append
        )
        table.add("a")
        table.add("b")
        self.clock.advance(1e6)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        table.heard("a")
        table.add("c")
        self.assertEqual((self.given_up, list(table)), (["b"], ["a", "c"]))
        self.assertEqual(table.evicted, 1)

    def test_silent(self) -> None:
        """A silent member is given up in time, one that speaks is not."""
        self.table.add("a")
        self.clock.advance(10.0)
        self.table.add("b")
        self.table.heard("a")
        self.clock.advance(14.9)
        self.assertEqual(self.given_up, [])
        self.table.heard("b")
        self.clock.advance(0.2)
        self.assertEqual(self.given_up, ["a"])
        self.assertEqual(self.table.timed_out, 1)
        self.assertIn("b", self.table)

    def test_full(self) -> None:
        """One more than fits gives up the one that was silent for longest."""
        for member in "abc":
            self.table.add(member)
        self.table.heard("a")
        self.table.add("d")
        self.assertEqual(self.given_up, ["b"])
        self.assertEqual((len(self.table), self.table.evicted), (3, 1))

    def test_removed(self) -> None:
        """A member that left is not given up, and no timer stays for nobody."""
        self.table.add("a")
        self.table.remove("a")
        self.table.remove("a")
        self.table.heard("a")
        self.clock.advance(15.0)
        self.assertEqual(self.given_up, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """Stopping returns who was there, and leaves no timer."""
        self.table.add("a")
        self.assertEqual(self.table.stop(), ["a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.table.stop(), [])
