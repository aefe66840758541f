"""``dwcloud status``: when it stops asking for a server."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.probes import Part
from dwcloud.cli.status import unless_all_fail

ANSWERS = Part("udp", True, "answers", {})
SILENT = Part("tcp", False, "no answer", {})
ONLINE = Part("peer", True, "online", {})
FAILED = Part("peer", False, "the mediator did not answer at all, and so on", {})


async def waiting_for(inner: Deferred[Part]) -> Part:
    """A look that takes its time."""
    return await inner


class MediatorSilentTests(SynchronousTestCase):
    """A server is asked for as long as that makes sense."""

    def setUp(self) -> None:
        self.looks: list[Any] = [Deferred(), Deferred()]
        self.inner: Deferred[Part] = Deferred()
        self.peer = unless_all_fail(waiting_for(self.inner), self.looks)

    def test_one_way_works(self) -> None:
        """One way to the mediator is enough."""
        self.looks[0].callback(SILENT)
        self.looks[1].callback(ANSWERS)
        self.assertNoResult(self.peer)
        self.inner.callback(ONLINE)
        self.assertEqual(self.successResultOf(self.peer), ONLINE)

    def test_no_way_works(self) -> None:
        """When both have failed nobody waits for the server any more."""
        for look in self.looks:
            look.callback(SILENT)
        part = self.successResultOf(self.peer)
        self.assertFalse(part.ok)
        self.assertEqual(part.text, "not asked for, as the mediator does not answer")
        for look in self.looks:
            self.assertEqual(self.successResultOf(look), SILENT)

    def test_failure_of_its_own(self) -> None:
        """While the mediator may answer yet, the reason is told in full."""
        self.inner.callback(FAILED)
        self.assertEqual(self.successResultOf(self.peer), FAILED)
        for look in self.looks:
            look.callback(SILENT)

    def test_bug(self) -> None:
        """What nobody expects is not hidden."""
        self.inner.errback(ZeroDivisionError())
        self.failureResultOf(self.peer, ZeroDivisionError)

    def test_interrupted(self) -> None:
        """Who cancels everything gets no part."""
        self.peer.cancel()
        self.failureResultOf(self.peer, CancelledError)
