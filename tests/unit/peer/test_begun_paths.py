"""Paths of a race that are begun before they are verified."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure

from dwcloud.errors import ConnectTimeout
from dwcloud.net.path import Path
from dwcloud.peer.status import PathKind
from tests.unit.peer.test_connector import FakeAttempt, RaceTestCase

LAN, TCP, UDP, RELAY = PathKind.LAN, PathKind.TCP, PathKind.UDP, PathKind.RELAY


class BeginningTests(RaceTestCase):
    """The service is requested right behind OPEN, of one path at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.begun: list[object] = []

    def begin(self, *kinds: PathKind, **options: Any) -> list[FakeAttempt]:
        """Start a race in which paths are begun."""

        def begin(path: Path) -> bool:
            self.begun.append(path)
            return True

        return self.race(*kinds, begin=begin, **options)

    def test_first_proven(self) -> None:
        """The first path that has proven the name is begun, no other after it."""
        tcp, udp = self.begin(TCP, UDP)
        udp.open()
        tcp.open()
        self.assertEqual(self.begun, [udp.path])
        udp.verify()
        self.assertWon(udp)

    def test_other_is_verified_first(self) -> None:
        """One that was begun is waited for, so that only one connects the service."""
        tcp, udp = self.begin(TCP, UDP)
        udp.open()
        tcp.open()
        tcp.verify()
        self.clock.advance(2.9)
        self.assertEqual(self.results, [])
        udp.verify()
        self.assertWon(udp)
        self.assertEqual(tcp.path.closed, 1)

    def test_begun_and_silent(self) -> None:
        """One that was begun and says nothing is given up for one that is ready."""
        tcp, udp = self.begin(TCP, UDP)
        udp.open()
        tcp.verify()
        self.clock.advance(3.0)
        self.assertWon(tcp)
        self.assertTrue(udp.cancelled)

    def test_begun_and_failed(self) -> None:
        """When it fails the next one may be begun, or one that is held is taken."""
        tcp, udp, lan = self.begin(TCP, UDP, LAN)
        udp.open()
        tcp.open()
        udp.fail()
        lan.open()
        self.assertEqual(self.begun, [udp.path, lan.path])
        tcp.verify()
        lan.fail()
        self.assertWon(tcp)

    def test_relay_has_to_wait(self) -> None:
        """A relay's path is begun only where no better one is in progress."""
        tcp, relay = self.begin(TCP, RELAY)
        relay.open()
        self.assertEqual(self.begun, [])
        relay.verify()
        self.clock.advance(0.3)
        self.assertWon(relay)
        self.setUp()
        tcp, relay = self.begin(TCP, RELAY)
        tcp.fail()
        relay.open()
        self.assertEqual(self.begun, [relay.path])
        relay.verify()
        self.assertWon(relay)

    def test_better_than_the_held_one(self) -> None:
        """A direct path is begun while a relay's is held, which waits on for it."""
        tcp, udp, relay = self.begin(TCP, UDP, RELAY)
        relay.verify()
        self.clock.advance(0.2)
        udp.open()
        self.assertEqual(self.begun, [udp.path])
        self.clock.advance(0.5)
        self.assertEqual(self.results, [])
        udp.fail()
        self.clock.advance(0.29)
        self.assertEqual(self.results, [], "the grace begins anew")
        self.clock.advance(0.02)
        self.assertWon(relay)
        self.assertTrue(tcp.cancelled)

    def test_held_one_is_lost_meanwhile(self) -> None:
        """That the held path breaks does not concern the one that was begun."""
        udp, relay = self.begin(UDP, RELAY)
        relay.verify()
        udp.open()
        relay.path.on_lost(Failure(ConnectionRefusedError("broke")))
        self.clock.advance(5.0)
        udp.verify()
        self.assertWon(udp)

    def test_stays_over_when_the_relay_wins(self) -> None:
        """A begun path over UDP does not go on behind the back of the relay's."""
        better: list[object] = []
        one, other, relay = self.begin(UDP, UDP, RELAY, on_better=better.append)
        relay.verify()
        one.open()
        self.clock.advance(3.0)
        self.assertEqual(self.results, [relay.path])
        self.assertTrue(one.cancelled)
        other.open()
        self.assertEqual(self.begun, [one.path], "the service is connected already")
        other.verify()
        self.assertEqual(better, [other.path])
        self.assertOver()

    def test_unproven(self) -> None:
        """Without TLS a path is begun only if nothing else can be waiting for it."""
        (tcp,) = self.begin(TCP)
        tcp.open(proven=False)
        self.assertEqual(self.begun, [tcp.path])
        tcp.verify()
        self.assertWon(tcp)
        self.setUp()
        tcp, udp = self.begin(TCP, UDP)
        tcp.open(proven=False)
        self.assertEqual(self.begun, [])
        udp.verify()
        self.assertWon(udp)

    def test_deadline_and_cancelling(self) -> None:
        """Neither leaves the begun path, or what is held behind it."""
        tcp, _ = self.begin(TCP, UDP, timeout=2.0)
        tcp.open()
        self.clock.advance(2.0)
        self.assertLost(ConnectTimeout)
        self.setUp()
        tcp, udp = self.begin(TCP, UDP)
        tcp.open()
        udp.verify()
        self.racing.cancel()
        self.assertLost(CancelledError)
        self.assertEqual((tcp.cancelled, udp.path.closed), (True, 1))

    def test_cannot_begin(self) -> None:
        """A path that cannot be begun races on as if nobody had asked."""
        tcp, udp = self.race(TCP, UDP, begin=lambda path: False)
        tcp.open()
        udp.verify()
        self.assertWon(udp)
