"""A client's grants: found, renewed when refused, done without."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dwcloud.errors import AccessDenied, AllAttemptsFailed, PeerOffline, PeerUnknown
from dwcloud.interfaces import IGrantSource
from dwcloud.peer.client_access import ClientAccess
from dwcloud.peer.connect_options import ConnectOptions
from dwcloud.peer.connect_request import ConnectRequest
from dwcloud.protocol.grants import ClientGrant
from dwcloud.protocol.names import PeerName

from .cloud_grants import Grants

NAME = PeerName(uuid.UUID(int=1), uuid.UUID(int=2))
OLD, NEW = ClientGrant(b"old"), ClientGrant(b"new")


def denied() -> AllAttemptsFailed:
    """Return the failure of a race in which a server let this client not in."""
    return AllAttemptsFailed("all", {"tcp x": Failure(AccessDenied("no"))})


class ClientAccessTests(SynchronousTestCase):
    """What is used for a connection."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.used: list[bytes | None] = []
        self.outcomes: list[Any] = []

    def use(self, source: Any, *outcomes: Any) -> Deferred[Any]:
        """Connect; each try ends as told."""
        self.access = getattr(self, "access", None) or ClientAccess(self.clock, source)
        self.outcomes = list(outcomes)
        self.request = ConnectRequest(
            NAME, "web", Factory(), ConnectOptions(), self.clock.seconds()
        )

        async def act(request: ConnectRequest) -> str:
            self.used.append(request.encoded_grant)
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return str(outcome)

        return Deferred.fromCoroutine(self.access.use(self.request, act))

    def test_source(self) -> None:
        """The tests' source is what the library asks for."""
        verifyObject(IGrantSource, Grants(None))

    def test_given(self) -> None:
        """The grant that is there is used, without asking for a new one."""
        source = Grants(OLD, NEW)
        self.assertEqual(self.successResultOf(self.use(source, "in")), "in")
        self.assertEqual(self.used, [b"old"])
        self.assertEqual(source.asked, [False])

    def test_without_account(self) -> None:
        """Who has no source has no grant, and gets the error as it is."""
        self.failureResultOf(self.use(None, PeerUnknown("who?")), PeerUnknown)
        self.assertEqual(self.used, [None])

    def test_renewed(self) -> None:
        """A refusal, by the mediator or a server, is worth a new grant, once."""
        for refusal in (PeerUnknown(""), AccessDenied(""), denied()):
            self.used.clear()
            source = Grants(OLD, NEW)
            self.access = ClientAccess(self.clock, source)
            self.assertEqual(
                self.successResultOf(self.use(source, refusal, "in")), "in"
            )
            self.assertEqual(self.used, [b"old", b"new"])
            self.failureResultOf(self.use(source, refusal, refusal), type(refusal))
            self.assertEqual(self.used[2:], [b"old", b"new"])
            self.assertEqual(source.asked, [False, True] * 2)

    def test_nothing_better(self) -> None:
        """Where there is no other grant, nothing is tried again."""
        for renewed in (None, OLD, ConnectError(string="no network")):
            self.access = ClientAccess(self.clock, Grants(OLD, renewed))
            self.failureResultOf(self.use(None, PeerUnknown("who?")), PeerUnknown)
        self.assertEqual(self.used, [b"old"] * 3)

    def test_other_failures(self) -> None:
        """What has another cause is no reason to ask for a grant."""
        source = Grants(OLD, NEW)
        for failure in (
            PeerOffline("off"),
            AllAttemptsFailed("all", {"tcp x": Failure(ConnectError(string="lost"))}),
        ):
            self.failureResultOf(self.use(source, failure), type(failure))
        self.assertEqual(source.asked, [False, False])

    def test_nobody_to_ask(self) -> None:
        """Without the cloud it is tried without a grant; an error names the cause."""
        source = Grants(ConnectError(string="no network"))
        self.assertEqual(self.successResultOf(self.use(source, "in")), "in")
        refused = self.failureResultOf(self.use(source, PeerUnknown("who?")))
        self.assertIn("who?", str(refused.value))
        self.assertIn("no network", str(refused.value))
        self.assertEqual(self.used, [None, None])

    def test_slow_source(self) -> None:
        """Who does not answer is not waited for longer than a few seconds."""
        asking: Deferred[Any] = Deferred()

        class Slow(Grants):
            def grant_for(self, name: PeerName, renew: bool = False) -> Deferred[Any]:
                return asking

        using = self.use(Slow(None), PeerUnknown("who?"))
        self.assertNoResult(using)
        self.clock.advance(5.0)
        self.assertIn("no answer within 5 s", str(self.failureResultOf(using).value))

    def test_cancelled(self) -> None:
        """Who gives up waits for nobody."""

        class Slow(Grants):
            def grant_for(self, name: PeerName, renew: bool = False) -> Deferred[Any]:
                return Deferred()

        using = self.use(Slow(None))
        using.cancel()
        self.failureResultOf(using, CancelledError)
        self.assertEqual(self.used, [])

    def test_for_everybody(self) -> None:
        """What the mediator gives for a public system serves later streams as well."""
        self.successResultOf(self.use(None, "in"))
        self.access.is_public(self.request, None)
        self.access.is_public(self.request, b"everybody's")
        self.successResultOf(self.use(None, "in"))
        self.assertEqual(self.used, [None, b"everybody's"])
        # Private again: nothing better is to be had, and the old one is forgotten.
        self.failureResultOf(self.use(None, PeerUnknown("")), PeerUnknown)
        self.successResultOf(self.use(None, "in"))
        self.assertEqual(self.used[2:], [b"everybody's", None])

    def test_bounded(self) -> None:
        """Of very many public systems the grants used last are kept."""
        self.successResultOf(self.use(None, "in"))
        for number in range(1, 400):
            self.request.peer = PeerName(uuid.UUID(int=number))
            self.access.is_public(self.request, b"%d" % number)
        self.assertEqual(len(self.access._public), 256)
        self.successResultOf(self.use(None, "in"))
        self.assertIsNone(self.used[-1])
