"""Sessions that renew their tokens by themselves."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectError

from dwcloud.errors import APIRefused, NotSignedIn
from dwcloud.peer.cloud_session import CloudSession
from tests.unit.peer.api_world import CLOUD, APITestCase, Asked, problem, tokens


class SessionTests(APITestCase):
    """One account, one session, several commands."""

    def setUp(self) -> None:
        """Sign in; tokens are numbered, and only the newest is good."""
        super().setUp()
        self.do(self.api().describe())
        self.newest = 1
        self.sign_in()
        self.cloud.answers["POST /sessions/refresh"] = self.refresh
        self.cloud.answers["GET /systems"] = self.systems
        self.cloud.asked.clear()

    def refresh(self, asked: Asked) -> Any:
        """Give the next tokens for the newest refresh token alone."""
        if asked.value["refresh_token"] != f"refresh-{self.newest}":
            return problem(401, "session_ended")
        self.newest += 1
        return tokens(self.newest)

    def systems(self, asked: Asked) -> Any:
        """An empty list for the newest access token alone."""
        if asked.token != f"access-{self.newest}":
            return problem(401, "token_expired")
        return 200, {"systems": []}

    def session(self) -> CloudSession:
        """That of a new process."""
        return CloudSession(self.client.reactor, self.api(), self.store)

    def ask(self, session: CloudSession) -> Any:
        """Ask for the systems."""
        return self.do(session.call(session.api.systems))

    def test_good_token(self) -> None:
        """A token that is good is used as it is."""
        self.assertEqual(self.ask(self.session()), ())
        self.assertEqual(self.cloud.questions(), ["GET /systems"])

    def test_old_token(self) -> None:
        """One that is about to end is renewed first, and kept."""
        self.world.advance(880)
        self.ask(self.session())
        self.assertEqual(
            self.cloud.questions(), ["POST /sessions/refresh", "GET /systems"]
        )
        stored = self.store.load(CLOUD)
        assert stored is not None
        self.assertEqual(stored.refresh_token, "refresh-2")
        self.assertEqual(stored.client_key, b"k" * 32)

    def test_refused_token(self) -> None:
        """One that the cloud refuses is renewed, and the question asked again."""
        self.newest = 2
        self.sign_in(number=3)
        self.newest = 3
        self.cloud.answers["GET /systems"] = lambda asked: (
            (200, {"systems": []})
            if asked.token == "access-4"
            else problem(401, "token_expired")
        )
        self.ask(self.session())
        self.assertEqual(
            self.cloud.questions(),
            ["GET /systems", "POST /sessions/refresh", "GET /systems"],
        )

    def test_several_processes(self) -> None:
        """Only one of those that find a token too old renews it."""
        self.world.advance(880)
        sessions = [self.session() for _ in range(4)]
        asking = [Deferred.fromCoroutine(s.call(s.api.systems)) for s in sessions]
        self.assertEqual(self.world.run_until(gatherResults(asking)), [()] * 4)
        self.assertEqual(self.cloud.questions().count("POST /sessions/refresh"), 1)

    def test_ended(self) -> None:
        """A session that was ended elsewhere says how to begin another."""
        self.cloud.answers["POST /sessions/refresh"] = problem(401, "session_ended")
        self.world.advance(880)
        session = self.session()
        error = self.refused(NotSignedIn, session.call(session.api.systems))
        self.assertIn("anna", str(error))
        self.assertIn(
            f"sign in again: dwcloud account login --mediator {CLOUD}", str(error)
        )

    def test_signed_out_meanwhile(self) -> None:
        """Another process has signed out."""
        session = self.session()
        self.world.advance(880)
        self.store.remove(CLOUD)
        self.refused(NotSignedIn, session.call(session.api.systems))
        self.assertEqual(self.cloud.questions(), [])

    def test_never_signed_in(self) -> None:
        """There is no session without a sign-in."""
        self.store.remove(CLOUD)
        error = self.assertRaises(NotSignedIn, self.session)
        self.assertIn(f"not signed in to {CLOUD}", str(error))

    def test_other_refusals(self) -> None:
        """What is refused for another reason is not asked twice."""
        self.cloud.answers["GET /systems"] = problem(403, "forbidden")
        session = self.session()
        self.refused(APIRefused, session.call(session.api.systems))
        self.cloud.answers["GET /systems"] = problem(401, "bad_credentials")
        self.refused(APIRefused, session.call(session.api.systems))
        self.assertEqual(self.cloud.questions(), ["GET /systems"] * 2)

    def test_unreachable_while_renewing(self) -> None:
        """A cloud out of reach ends no session, and holds no lock."""
        self.world.advance(880)
        session = self.session()
        self.cloud.listen(port=9)
        self.refused(ConnectError, session.call(session.api.systems))
        self.cloud.listen()
        self.assertEqual(self.ask(session), ())
