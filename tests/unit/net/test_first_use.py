"""The first use of a way, and the probe beside it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.first_use import AnotherWorks, first_use
from dwcloud.protocol.tunnelling.prober import Candidate, Carrier

FIRST = Candidate("upgrade", Carrier.DIRECT)
OTHER = Candidate("post", Carrier.DIRECT)


class FirstUseTests(SynchronousTestCase):
    """What comes of a use that nothing is known of."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cancelled: list[str] = []
        self.trying: Deferred[str] = Deferred(lambda _: self.cancelled.append("use"))
        self.probing: Deferred[Candidate] | None = None
        self.result = first_use(self.clock, FIRST, self.trying, self.probe, 0.5)

    def probe(self) -> Deferred[Candidate]:
        self.probing = Deferred(lambda _: self.cancelled.append("probe"))
        return self.probing

    def probed(self) -> Any:
        """Let the use tarry; the probe."""
        self.clock.advance(0.5)
        self.assertIsNotNone(self.probing)
        return self.probing

    def assertOver(self, *cancelled: str) -> None:
        self.assertEqual(self.cancelled, list(cancelled))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """One that works at once needs no probe."""
        self.clock.advance(0.4)
        self.trying.callback("tunnel")
        self.assertEqual(self.successResultOf(self.result), "tunnel")
        self.assertIsNone(self.probing)
        self.assertOver()

    def test_fails(self) -> None:
        """One that fails tells why, and nobody probes: that is up to the caller."""
        self.trying.errback(ValueError("refused"))
        self.failureResultOf(self.result, ValueError)
        self.assertIsNone(self.probing)
        self.assertOver()

    def test_slow(self) -> None:
        """One that is slow wins all the same if it is the first, and ends the probe."""
        self.probed()
        self.trying.callback("tunnel")
        self.assertEqual(self.successResultOf(self.result), "tunnel")
        self.assertOver("probe")

    def test_same(self) -> None:
        """That the probe finds the same shows that it is worth waiting."""
        self.probed().callback(FIRST)
        self.assertNoResult(self.result)
        self.trying.callback("tunnel")
        self.assertEqual(self.successResultOf(self.result), "tunnel")
        self.assertOver()

    def test_another(self) -> None:
        """When something else works the use is given up."""
        self.probed().callback(OTHER)
        self.failureResultOf(self.result, AnotherWorks)
        self.assertOver("use")

    def test_nothing_else(self) -> None:
        """When nothing works it is still waited for."""
        self.probed().errback(ValueError("nothing works"))
        self.assertNoResult(self.result)
        self.trying.errback(ValueError("nor does this"))
        self.failureResultOf(self.result, ValueError)
        self.assertOver()

    def test_cancelled(self) -> None:
        """Nobody wants it any more."""
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertOver("use")
        self.setUp()
        self.probed()
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertOver("probe", "use")

    def test_succeeded_already(self) -> None:
        """A use that is there at once is passed on."""
        done: Deferred[str] = Deferred()
        done.callback("tunnel")
        result = first_use(self.clock, FIRST, done, self.probe, 0.5)
        self.assertEqual(self.successResultOf(result), "tunnel")
        self.result.addErrback(lambda _: None).cancel()
        self.assertEqual(self.clock.getDelayedCalls(), [])
