"""Which servers are asked what they carry, and who hears the answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator.watching import LastOutcomes, Watching
from dwcloud.protocol.mediation.activity import Activity, RunningStream
from dwcloud.protocol.names import PeerName

GARAGE, CABIN = uuid.UUID(int=1), uuid.UUID(int=2)
NAME = PeerName(GARAGE, uuid.UUID(int=3))


class WatchingTests(SynchronousTestCase):
    """Questions to servers, and their answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[uuid.UUID] = []
        self.published: list[tuple[uuid.UUID, str, Mapping[str, Any]]] = []
        self.watching = Watching(
            self.clock,
            self.asked.append,
            lambda system, event, data: self.published.append((system, event, data)),
        )

    def test_asked_while_watched(self) -> None:
        """A page that is open all the time has its servers asked often enough."""
        self.watching.watched(GARAGE, True)
        for _ in range(10):
            self.clock.advance(20)
            self.watching.watched(GARAGE, False)
        self.assertEqual(self.asked, [GARAGE] * 11)

    def test_many_pages(self) -> None:
        """A hundred pages do not have the servers asked a hundred times."""
        self.watching.watched(GARAGE, True)
        for _ in range(100):
            self.clock.advance(0.1)
            self.watching.watched(GARAGE, False)
        self.assertEqual(self.asked, [GARAGE])

    def test_fresh(self) -> None:
        """One who begins to watch has them asked at once: all is news to him."""
        self.watching.watched(GARAGE, True)
        self.clock.advance(1)
        self.watching.watched(GARAGE, True)
        self.assertEqual(self.asked, [GARAGE, GARAGE])

    def test_a_server_comes(self) -> None:
        """A server that comes while its system is watched is asked; others are not."""
        self.watching.watched(GARAGE, True)
        self.clock.advance(20)
        self.watching.server_online(GARAGE)
        self.watching.server_online(CABIN)
        self.clock.advance(70)
        self.watching.server_online(GARAGE)
        self.assertEqual(self.asked, [GARAGE, GARAGE])

    def test_report(self) -> None:
        """What a server tells reaches those who watch its system."""
        stream = RunningStream(
            number=4,
            path="relay",
            session=GARAGE,
            age=3,
            to_client=10,
            to_server=20,
            account="ann",
            client="laptop",
        )
        self.watching.watched(GARAGE, True)
        self.watching.report(NAME, Activity(2, (stream,)))
        [(system, event, data)] = self.published
        self.assertEqual((system, event), (GARAGE, "activity"))
        self.assertEqual(data["server"], str(NAME.server))
        self.assertEqual(data["count"], 2)
        expected = {
            "number": 4,
            "path": "relay",
            "session": str(GARAGE),
            "age": 3,
            "to_client": 10,
            "to_server": 20,
            "account": "ann",
            "client": "laptop",
        }
        self.assertEqual(data["streams"], [expected])

    def test_unasked(self) -> None:
        """What nobody has asked for, or not in the last minute, is dropped."""
        self.watching.report(NAME, Activity(0, ()))
        self.watching.watched(GARAGE, True)
        self.clock.advance(61)
        self.watching.report(NAME, Activity(0, ()))
        self.assertEqual(self.published, [])

    def test_flood(self) -> None:
        """A server that tells more than it should is not passed on to browsers."""
        self.watching.watched(GARAGE, True)
        for _ in range(1000):
            self.watching.report(NAME, Activity(0, ()))
            self.clock.advance(0.01)
        self.assertLessEqual(len(self.published), 51)
        self.watching.server_offline(NAME)
        self.watching.report(NAME, Activity(0, ()))
        self.assertLessEqual(len(self.published), 52)


class OutcomesTests(SynchronousTestCase):
    """How connections ended last."""

    def test_last(self) -> None:
        """The last one counts, until the system has another owner."""
        outcomes = LastOutcomes()
        self.assertIsNone(outcomes.get(GARAGE))
        outcomes.add(GARAGE, {"outcome": "ok"})
        outcomes.add(GARAGE, {"outcome": "timed out"})
        self.assertEqual(outcomes.get(GARAGE), {"outcome": "timed out"})
        outcomes.forget(GARAGE)
        outcomes.forget(CABIN)
        self.assertIsNone(outcomes.get(GARAGE))

    def test_bounded(self) -> None:
        """Systems without end do not fill the memory; the oldest are forgotten."""
        outcomes = LastOutcomes()
        for number in range(20_005):
            outcomes.add(uuid.UUID(int=number), {})
        self.assertIsNone(outcomes.get(uuid.UUID(int=4)))
        self.assertIsNotNone(outcomes.get(uuid.UUID(int=5)))
