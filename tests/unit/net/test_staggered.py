"""Races of ways, on a clock of their own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.staggered import Candidate, RaceLost, race


class RaceTests(SynchronousTestCase):
    """Three ways: a, b and c."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.started: dict[str, float] = {}
        self.ways: dict[str, Deferred[str]] = {n: Deferred() for n in "abc"}
        self.disposed: list[str] = []

    def race(self) -> Deferred[Any]:
        def starter(name: str) -> Any:
            def start() -> Deferred[str]:
                self.started[name] = self.clock.seconds()
                return self.ways[name]

            return start

        candidates = [Candidate(name, starter(name)) for name in self.ways]
        return race(self.clock, candidates, stagger=1.0, dispose=self.disposed.append)

    def test_first_wins(self) -> None:
        """One that works before the next was due leaves that alone."""
        racing = self.race()
        self.ways["a"].callback("stream")
        winner = self.successResultOf(racing)
        self.assertEqual((winner.candidate.name, winner.result), ("a", "stream"))
        self.assertEqual(dict(winner.failures), {})
        self.assertEqual(list(self.started), ["a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_staggered(self) -> None:
        """Ways that tarry are joined by the next; the losers are cancelled."""
        racing = self.race()
        self.clock.pump([1.0, 1.0])
        self.assertEqual(self.started, {"a": 0.0, "b": 1.0, "c": 2.0})
        self.ways["b"].callback("stream")
        winner = self.successResultOf(racing)
        self.assertEqual(winner.candidate.name, "b")
        self.assertEqual(dict(winner.failures), {})
        for name in "ac":
            self.assertTrue(self.ways[name].called, name)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure_starts_the_next(self) -> None:
        """When all that run have failed the next need not wait."""
        racing = self.race()
        self.ways["a"].errback(ValueError("no"))
        self.assertEqual(self.started, {"a": 0.0, "b": 0.0})
        self.clock.advance(1.0)
        self.ways["b"].errback(ValueError("neither"))
        self.assertNoResult(racing)
        self.ways["c"].callback("stream")
        winner = self.successResultOf(racing)
        reasons = {n: f.getErrorMessage() for n, f in winner.failures.items()}
        self.assertEqual(reasons, {"a": "no", "b": "neither"})

    def test_failed_at_once(self) -> None:
        """Ways that fail while they are started take their turns all the same."""
        for name in "ab":
            self.ways[name].errback(ValueError(name))
        racing = self.race()
        self.assertEqual(list(self.started), ["a", "b", "c"])
        self.ways["c"].callback("stream")
        self.assertEqual(self.successResultOf(racing).candidate.name, "c")

    def test_all_fail(self) -> None:
        """The error names each way with its reason."""
        racing = self.race()
        for name, way in self.ways.items():
            way.errback(ValueError(f"reason {name}"))
        lost = self.failureResultOf(racing, RaceLost).value
        self.assertEqual(str(lost), "a: reason a; b: reason b; c: reason c")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late_success(self) -> None:
        """What succeeds although it was cancelled is disposed of."""
        late: Deferred[str] = Deferred(lambda d: d.callback("too late"))
        self.ways["a"] = late
        racing = self.race()
        self.clock.advance(1.0)
        self.ways["b"].callback("stream")
        self.assertEqual(self.successResultOf(racing).candidate.name, "b")
        self.assertEqual(self.disposed, ["too late"])

    def test_cancelled(self) -> None:
        """Cancelling the race cancels what runs and starts nothing more."""
        racing = self.race()
        racing.cancel()
        self.failureResultOf(racing, CancelledError)
        self.clock.advance(5.0)
        self.assertEqual(list(self.started), ["a"])
        self.assertTrue(self.ways["a"].called)
