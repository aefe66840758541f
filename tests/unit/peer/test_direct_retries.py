"""When a direct path is looked for again."""

from __future__ import annotations

import uuid

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.direct_retries import WAITS, DirectRetries
from dwcloud.protocol.names import PeerName
from dwcloud.testing import World

SYSTEM = uuid.UUID(int=1)
SERVER = PeerName(SYSTEM, uuid.UUID(int=2))
OTHER = PeerName(SYSTEM, uuid.UUID(int=3))


class DirectRetriesTests(SynchronousTestCase):
    """With a search that the test answers."""

    def setUp(self) -> None:
        self.world = World()
        clock = self.world.lan().host("192.168.1.2").reactor
        self.retries = DirectRetries(clock, self.find)
        self.asked: list[tuple[float, PeerName]] = []
        self.answers: list[Deferred[bool]] = []
        self.at_once: bool | None = False

    async def find(self, server: PeerName) -> bool:
        """Answer at once, or when the test does."""
        self.asked.append((self.world.seconds(), server))
        if self.at_once is not None:
            return self.at_once
        self.answers.append(Deferred())
        return await self.answers[-1]

    def times(self) -> list[float]:
        """When it was asked."""
        return [time for time, _ in self.asked]

    def test_in_vain(self) -> None:
        """A few times, ever more rarely, whatever is relayed meanwhile."""
        self.retries.relayed(SERVER)
        self.world.advance(1.0)
        self.retries.relayed(SERVER)
        self.world.advance(1000.0)
        self.assertEqual(self.times(), [2.0, 17.0, 77.0, 377.0])
        self.assertEqual(len(self.retries), 0)
        self.retries.relayed(SERVER)
        self.world.advance(3.0)
        self.assertEqual(len(self.asked), len(WAITS) + 1)

    def test_found(self) -> None:
        """What is found is looked for no longer."""
        self.at_once = True
        self.retries.relayed(SERVER)
        self.world.advance(1000.0)
        self.assertEqual(self.asked, [(2.0, SERVER)])

    def test_give_way(self) -> None:
        """A connection of the same server or system interrupts a search."""
        self.at_once = None
        for name in (SERVER, PeerName(SYSTEM, None)):
            self.setUp()
            self.at_once = None
            self.retries.relayed(SERVER)
            self.world.advance(2.0)
            self.retries.give_way(OTHER)
            self.assertFalse(self.answers[0].called)
            self.retries.give_way(name)
            self.assertTrue(self.answers[0].called)
            self.world.advance(2.0)
            self.assertEqual(self.times(), [2.0, 4.0])

    def test_network_changed(self) -> None:
        """In another network it begins anew."""
        self.retries.relayed(SERVER)
        self.world.advance(20.0)
        self.retries.network_changed()
        self.world.advance(3.0)
        self.assertEqual(self.times(), [2.0, 17.0, 22.0])

    def test_bounded(self) -> None:
        """Many servers do not make a flood."""
        for number in range(500):
            self.retries.relayed(PeerName(SYSTEM, uuid.UUID(int=number + 10)))
        self.assertEqual(len(self.retries), 100)

    def test_stop(self) -> None:
        """Afterwards nothing is asked, and what is asked is given up."""
        self.at_once = None
        self.retries.relayed(SERVER)
        self.world.advance(2.0)
        self.retries.relayed(OTHER)
        self.retries.stop()
        self.assertTrue(self.answers[0].called)
        self.world.advance(1000.0)
        self.assertEqual(len(self.asked), 1)

    def test_broken(self) -> None:
        """A search that breaks is logged, and no search is left."""

        async def broken(server: PeerName) -> bool:
            raise ZeroDivisionError

        clock = self.world.lan().host("192.168.1.3").reactor
        retries = DirectRetries(clock, broken)
        retries.relayed(SERVER)
        self.world.advance(5.0)
        self.assertEqual(len(retries), 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
