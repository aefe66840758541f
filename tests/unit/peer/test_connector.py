"""The race of all paths to a server."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import AllAttemptsFailed, ConnectTimeout, IdentityMismatch
from dwcloud.net.path import Path
from dwcloud.peer.connector import (
    Attempt,
    CloudConnector,
    OnOpen,
)
from dwcloud.peer.status import PathKind

LAN, TCP, UDP, RELAY = PathKind.LAN, PathKind.TCP, PathKind.UDP, PathKind.RELAY


class FakePath:
    """A path that is verified as soon as it exists."""

    def __init__(self, kind: PathKind) -> None:
        self.kind = kind
        self.attempt = kind.value
        self.proven = True
        self.closed = 0
        self.on_lost: Any = None

    def close(self) -> None:
        self.closed += 1


class FakeAttempt:
    """An attempt whose outcome the test decides.

    :ivar stubborn: whether it goes on when it is cancelled, as one does whose
        result is on its way already.
    """

    def __init__(
        self, clock: Clock, kind: PathKind, number: int = 0, delay: float = 0.0
    ) -> None:
        self.name = f"{kind.value} {number}"
        self.kind = kind
        self.delay = delay
        self.path = FakePath(kind)
        self.started_at: float | None = None
        self.cancelled = False
        self.stubborn = False
        self.settled = False
        self.verified = False
        self._clock = clock
        self._result: Deferred[Path]

    def attempt(self) -> Attempt:
        return Attempt(self.name, self.kind, self._start, self.delay)

    def _start(self, opened: OnOpen) -> Deferred[Path]:
        self._opened = opened
        self.started_at = self._clock.seconds()
        self._result = Deferred(self._cancel)
        return self._result

    def _cancel(self, result: Deferred[Path]) -> None:
        self.cancelled = True
        if self.stubborn:
            self.verified = True
            result.callback(cast(Path, self.path))

    def open(self, *, proven: bool = True) -> None:
        """The far end has OPEN, and has proven its name or not."""
        self.path.proven = proven
        self._opened(cast(Path, self.path))

    def verify(self) -> None:
        self.settled = self.verified = True
        self._result.callback(cast(Path, self.path))

    def fail(self, error: Exception | None = None) -> None:
        self.settled = True
        self._result.errback(Failure(error or ConnectionRefusedError("refused")))


class RaceTestCase(SynchronousTestCase):
    """Attempts in the test's hands."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.attempts: list[FakeAttempt] = []
        self.results: list[Any] = []

    def race(self, *kinds: PathKind, **options: Any) -> list[FakeAttempt]:
        """Start a race of attempts of these kinds."""
        delays = options.pop("delays", [0.0] * len(kinds))
        self.attempts = [
            FakeAttempt(self.clock, kind, number, delays[number])
            for number, kind in enumerate(kinds)
        ]
        self.connector = CloudConnector(
            self.clock,
            [fake.attempt() for fake in self.attempts],
            peer="the server",
            **options,
        )
        self.racing = self.connector.connect()
        self.racing.addBoth(self.results.append)
        return self.attempts

    def assertWon(self, fake: FakeAttempt) -> None:
        """This path and no other was selected, and nothing is left over."""
        self.assertEqual(self.results, [fake.path])
        self.assertEqual(fake.path.closed, 0)
        self.assertOver()

    def assertLost(self, kind: type[Exception]) -> Any:
        """The race failed so, and nothing is left over."""
        (failure,) = self.results
        self.assertIs(failure.type, kind, failure)
        self.assertOver()
        return failure.value

    def assertOver(self) -> None:
        """No timer is left and nothing is still being tried."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for fake in self.attempts:
            if fake.started_at is not None:
                self.assertTrue(fake.settled or fake.cancelled, fake.name)


class SelectionTests(RaceTestCase):
    """Which path is selected, and when."""

    def test_all_start_together(self) -> None:
        """Every attempt starts at once, in the order given."""
        for fake in self.race(TCP, UDP, RELAY):
            self.assertEqual(fake.started_at, 0.0)

    def test_first_direct_path_wins(self) -> None:
        """No transport is better than the other unless one is preferred."""
        for winner in (0, 1, 2):
            with self.subTest(winner=winner):
                self.setUp()
                attempts = self.race(TCP, UDP, LAN)
                attempts[winner].verify()
                self.assertWon(attempts[winner])

    def test_delays(self) -> None:
        """An attempt starts when its delay is over, or never if another was faster."""
        tcp, udp, relay = self.race(TCP, UDP, RELAY, delays=[0.0, 0.5, 2.0])
        self.clock.advance(0.4)
        self.assertIsNone(udp.started_at)
        self.clock.advance(0.1)
        self.assertEqual(udp.started_at, 0.5)
        tcp.verify()
        self.assertWon(tcp)
        self.clock.advance(10)
        self.assertIsNone(relay.started_at)

    def test_delayed_attempts_keep_the_race_alive(self) -> None:
        """A race is not lost while something has still to start."""
        tcp, relay = self.race(TCP, RELAY, delays=[0.0, 1.0])
        tcp.fail()
        self.assertEqual(self.results, [])
        self.clock.advance(1.0)
        relay.verify()
        self.assertWon(relay)

    def test_relay_waits_for_direct_paths(self) -> None:
        """A relay path that is first is held for the grace, no longer."""
        _, _, relay = self.race(TCP, UDP, RELAY, relay_grace=0.3)
        relay.verify()
        self.clock.advance(0.299)
        self.assertEqual(self.results, [])
        self.clock.advance(0.001)
        self.assertWon(relay)

    def test_direct_path_within_the_grace(self) -> None:
        """A direct path in that time wins, and the relay's is closed."""
        tcp, udp, relay = self.race(TCP, UDP, RELAY)
        relay.verify()
        self.clock.advance(0.2)
        udp.verify()
        self.assertWon(udp)
        self.assertEqual(relay.path.closed, 1)
        self.assertTrue(tcp.cancelled)

    def test_direct_paths_fail_within_the_grace(self) -> None:
        """When no direct path is left nothing is waited for."""
        tcp, udp, relay = self.race(TCP, UDP, RELAY)
        relay.verify()
        tcp.fail()
        self.assertEqual(self.results, [])
        udp.fail()
        self.assertWon(relay)

    def test_relay_last(self) -> None:
        """With no direct path left, or none to begin with, a relay wins at once."""
        tcp, relay = self.race(TCP, RELAY)
        tcp.fail()
        relay.verify()
        self.assertWon(relay)
        self.setUp()
        relay, _ = self.race(RELAY, RELAY)
        relay.verify()
        self.assertWon(relay)

    def test_second_relay_changes_nothing(self) -> None:
        """A second relay path neither replaces the first nor prolongs the wait."""
        _, one, two = self.race(TCP, RELAY, RELAY)
        one.verify()
        self.clock.advance(0.2)
        two.verify()
        self.assertEqual(two.path.closed, 1)
        self.clock.advance(0.1)
        self.assertWon(one)

    def test_held_path_is_lost(self) -> None:
        """A held path that breaks is a failed attempt; the others go on."""
        tcp, relay = self.race(TCP, RELAY)
        relay.verify()
        relay.path.on_lost(Failure(ConnectionRefusedError("broke")))
        self.clock.advance(0.5)
        self.assertEqual(self.results, [])
        tcp.verify()
        self.assertWon(tcp)
        self.assertEqual(self.connector.failures[0].attempt, relay.name)

    def test_held_path_is_lost_after_the_others(self) -> None:
        """When a held path was the last hope, losing it loses the race."""
        tcp, relay = self.race(TCP, RELAY)
        relay.verify()
        relay.path.on_lost(Failure(ConnectionRefusedError("broke")))
        tcp.fail()
        self.assertEqual(len(self.results), 1)
        self.assertEqual(len(self.connector.failures), 2)

    def test_no_grace(self) -> None:
        """With a grace of nothing the first is the first."""
        _, relay = self.race(UDP, RELAY, relay_grace=0.0)
        relay.verify()
        self.clock.advance(0)
        self.assertWon(relay)

    def test_preferred_transport(self) -> None:
        """A path of the other transport waits for the preferred one, a while."""
        for prefer, preferred, other in (("udp", UDP, TCP), ("tcp", LAN, UDP)):
            with self.subTest(prefer=prefer):
                self.setUp()
                fast, slow = self.race(other, preferred, prefer=prefer)
                fast.verify()
                self.clock.advance(0.9)
                slow.verify()
                self.assertWon(slow)
                self.assertEqual(fast.path.closed, 1)
                self.setUp()
                fast, slow = self.race(other, preferred, prefer=prefer)
                fast.verify()
                self.clock.advance(1.0)
                self.assertWon(fast)

    def test_preferred_transport_is_first(self) -> None:
        """The preferred transport waits for nobody."""
        udp, _, _ = self.race(UDP, TCP, RELAY, prefer="udp")
        udp.verify()
        self.assertWon(udp)

    def test_steps_upwards(self) -> None:
        """A held relay path gives way to a direct one, that to the preferred one."""
        udp, tcp, relay = self.race(UDP, TCP, RELAY, prefer="udp")
        relay.verify()
        self.clock.advance(0.2)
        tcp.verify()
        self.assertEqual((relay.path.closed, self.results), (1, []))
        self.clock.advance(0.9)
        udp.verify()
        self.assertWon(udp)
        self.assertEqual(tcp.path.closed, 1)

    def test_never_downwards(self) -> None:
        """A relay path is worth nothing while a direct one is held."""
        udp, tcp, relay = self.race(UDP, TCP, RELAY, prefer="udp")
        tcp.verify()
        relay.verify()
        self.assertEqual(relay.path.closed, 1)
        udp.fail()
        self.assertWon(tcp)

    def test_verified_at_once(self) -> None:
        """An attempt that needs no time ends the race before the others begin."""
        clock = self.clock
        ready = FakeAttempt(clock, UDP)
        late = FakeAttempt(clock, TCP, 1, delay=5.0)
        other = FakeAttempt(clock, TCP, 2)

        def start(opened: OnOpen) -> Deferred[Path]:
            result = ready._start(opened)
            ready.verify()
            return result

        attempts = [
            Attempt("ready", UDP, start),
            late.attempt(),
            other.attempt(),
        ]
        result = CloudConnector(clock, attempts, peer="x").connect()
        self.assertIs(self.successResultOf(result), ready.path)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertIsNone(other.started_at)


class FailureTests(RaceTestCase):
    """When no path comes about."""

    def test_all_failed(self) -> None:
        """The error names each attempt with its reason, in the order of failing."""
        tcp, udp, relay = self.race(TCP, UDP, RELAY)
        udp.fail(ConnectTimeout("no answer"))
        relay.fail(ConnectionRefusedError("busy"))
        self.assertEqual(self.results, [])
        tcp.fail(IdentityMismatch("somebody else"))
        error = self.assertLost(AllAttemptsFailed)
        self.assertEqual(list(error.reasons), ["udp 1", "relay 2", "tcp 0"])
        self.assertIn("the server", str(error))
        for words in ("udp 1: no answer", "relay 2: ", "tcp 0: somebody else"):
            self.assertIn(words, str(error))
        self.assertEqual(
            [failure.attempt for failure in self.connector.failures],
            ["udp 1", "relay 2", "tcp 0"],
        )

    def test_all_somebody_else(self) -> None:
        """If every far end was somebody else, that is the error."""
        for fake in self.race(TCP, RELAY):
            fake.fail(IdentityMismatch("wanted A, but the far end is B"))
        error = self.assertLost(IdentityMismatch)
        self.assertIn("the far end is B", str(error))

    def test_nothing_to_try(self) -> None:
        """A race without attempts is lost at once, in clear words."""
        self.race()
        self.assertIn("nothing to try", str(self.assertLost(AllAttemptsFailed)))

    def test_deadline(self) -> None:
        """When time is over all is given up."""
        attempts = self.race(TCP, UDP, timeout=5.0)
        self.clock.advance(4.999)
        self.assertEqual(self.results, [])
        self.clock.advance(0.001)
        error = self.assertLost(ConnectTimeout)
        self.assertIn("udp 1: no answer within 5 s", str(error))
        self.assertTrue(all(fake.cancelled for fake in attempts))

    def test_deadline_after_failures(self) -> None:
        """What failed otherwise before is told too, each attempt once."""
        tcp, _ = self.race(TCP, UDP, timeout=5.0)
        tcp.fail(IdentityMismatch("somebody else"))
        self.clock.advance(5)
        error = self.assertLost(AllAttemptsFailed)
        self.assertEqual(list(error.reasons), ["tcp 0", "udp 1"])
        self.assertEqual(len(self.connector.failures), 2)

    def test_deadline_of_a_held_path(self) -> None:
        """A path that is held when time is over is better than none."""
        _, relay = self.race(TCP, RELAY, relay_grace=9.0, timeout=5.0)
        relay.verify()
        self.clock.advance(5)
        self.assertWon(relay)

    def test_attempt_that_cannot_start(self) -> None:
        """An attempt that raises when it is started has failed, that is all."""

        def broken(opened: OnOpen) -> Deferred[Path]:
            raise ValueError("no such interface")

        fake = FakeAttempt(self.clock, TCP)
        attempts = [Attempt("broken", UDP, broken), fake.attempt()]
        connector = CloudConnector(self.clock, attempts, peer="x")
        result = connector.connect()
        fake.verify()
        self.assertIs(self.successResultOf(result), fake.path)
        self.assertEqual(
            [(f.attempt, f.reason) for f in connector.failures],
            [("broken", "no such interface")],
        )


class CancellationTests(RaceTestCase):
    """When nobody wants the result any more."""

    def test_cancelled(self) -> None:
        """Everything in progress is cancelled, what is held is closed."""
        tcp, _, relay = self.race(TCP, UDP, RELAY, delays=[0.0, 1.0, 0.0])
        relay.verify()
        self.racing.cancel()
        self.assertLost(CancelledError)
        self.assertEqual((relay.path.closed, tcp.cancelled), (1, True))

    def test_cancelled_before_anything(self) -> None:
        """So it is with nothing held."""
        (tcp,) = self.race(TCP)
        self.racing.cancel()
        self.assertLost(CancelledError)
        self.assertTrue(tcp.cancelled)

    def test_too_late_to_be_cancelled(self) -> None:
        """A path that becomes ready while it is cancelled is closed."""
        tcp, udp = self.race(TCP, UDP)
        udp.stubborn = True
        tcp.verify()
        self.assertWon(tcp)
        self.assertEqual(udp.path.closed, 1)

    def test_cancelled_afterwards(self) -> None:
        """Cancelling a race that is over does nothing to its winner."""
        (tcp,) = self.race(TCP)
        tcp.verify()
        self.racing.cancel()
        self.assertWon(tcp)
