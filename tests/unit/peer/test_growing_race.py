"""Attempts that are added while a race goes on."""

from __future__ import annotations

from dwcloud.peer.status import PathKind
from tests.unit.peer.test_connector import FakeAttempt, RaceTestCase

TCP, UDP, RELAY = PathKind.TCP, PathKind.UDP, PathKind.RELAY


class AdditionTests(RaceTestCase):
    """More attempts than those at the start."""

    def test_added(self) -> None:
        """An attempt that is added to a running race takes part like any other."""
        tcp, relay = self.race(TCP, RELAY)
        added = FakeAttempt(self.clock, UDP, 7)
        self.attempts.append(added)
        self.clock.advance(1.0)
        self.assertTrue(self.connector.add(added.attempt()))
        self.assertFalse(self.connector.add(added.attempt()), "it takes part already")
        self.assertEqual(added.started_at, 1.0)
        tcp.fail()
        relay.verify()
        self.clock.advance(0.2)
        self.assertEqual(self.results, [], "the one added is better than the relay")
        added.verify()
        self.assertWon(added)
        late = FakeAttempt(self.clock, UDP, 8)
        self.assertFalse(self.connector.add(late.attempt()))
        self.assertIsNone(late.started_at)


class ImprovementTests(RaceTestCase):
    """A relay wins, and the attempts over UDP go on."""

    def setUp(self) -> None:
        super().setUp()
        self.better: list[object] = []

    def relayed(self, *kinds: PathKind) -> list[FakeAttempt]:
        """Let a relay win against these."""
        attempts = self.race(*kinds, RELAY, on_better=self.better.append)
        attempts[-1].verify()
        self.clock.advance(0.3)
        self.assertEqual(self.results, [attempts[-1].path])
        return attempts

    def test_found_later(self) -> None:
        """The first that succeeds after all is told, and the rest is given up."""
        tcp, one, other, _ = self.relayed(TCP, UDP, UDP)
        self.assertTrue(tcp.cancelled)
        self.assertFalse(one.cancelled or other.cancelled)
        self.clock.advance(7.0)
        one.fail()
        added = FakeAttempt(self.clock, UDP, 9)
        self.attempts.append(added)
        self.assertTrue(self.connector.add(added.attempt()))
        added.verify()
        self.assertEqual(self.better, [added.path])
        self.assertEqual(added.path.closed, 0)
        self.assertOver()

    def test_abandoned(self) -> None:
        """It ends when its owner says so."""
        self.relayed(UDP)
        self.connector.abandon()
        self.assertOver()
        self.assertEqual(self.better, [])

    def test_not_after_a_direct_path(self) -> None:
        """What is direct already needs nothing better."""
        tcp, _ = self.race(TCP, UDP, on_better=self.better.append)
        tcp.verify()
        self.assertWon(tcp)
