"""A server's idle connections at one relay."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.relaying.listening_pool import (
    MAX_IDLE,
    DropConnection,
    ListeningPool,
    OpenConnection,
)


class ListeningPoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        # The end of the jitter's range: a factor of one.
        self.pool = ListeningPool(random_bytes=lambda size: b"\xff" * size)

    def drain(self) -> list[str]:
        events = []
        while (event := self.pool.next_event()) is not None:
            kind = "open" if isinstance(event, OpenConnection) else "drop"
            events.append(f"{kind} {event.member}")
        return events

    def fill(self, now: float = 0.0) -> None:
        self.pool.start(now=now)
        self.pool.established(1, now=now)
        for member in range(2, 8):
            self.pool.established(member, now=now)
        self.drain()

    def test_first_one_then_all(self) -> None:
        """The first connection brings the ticket, then the others are opened."""
        self.pool.start(now=0.0)
        self.assertEqual(self.drain(), ["open 1"])
        self.pool.established(1, now=0.1)
        self.assertEqual(self.drain(), [f"open {n}" for n in range(2, 8)])
        self.assertEqual((self.pool.idle, self.pool.opening), (1, 6))

    def test_taken_is_replaced_at_once(self) -> None:
        """Each connection that a client takes is replaced in the same instant."""
        self.fill()
        self.pool.taken(3, now=5.0)
        self.assertEqual(self.drain(), ["open 8"])
        self.pool.lost(3, now=6.0)
        self.assertEqual(self.drain(), [])

    def test_dead_is_replaced_at_once(self) -> None:
        """So is one that was lost."""
        self.fill()
        self.pool.lost(3, now=5.0)
        self.assertEqual(self.drain(), ["open 8"])

    def test_silent_is_replaced(self) -> None:
        """A connection on which no KEEP_ALIVE comes any more is replaced."""
        self.fill()
        for member in range(1, 7):
            self.pool.heard(member, now=30.0)
        self.assertEqual(self.pool.next_timer(), 65.0)
        self.pool.handle_timer(now=65.0)
        self.assertEqual(self.drain(), ["drop 7", "open 8"])

    def test_surge(self) -> None:
        """When clients take the last one, more are kept for a while."""
        self.fill()
        for member in range(1, 8):
            self.pool.taken(member, now=5.0)
            for event in self.drain():
                self.assertTrue(event.startswith("open"))
        self.assertEqual(self.pool.opening, MAX_IDLE)

    def test_back_off(self) -> None:
        """Failures are retried one by one, 0.5 s doubling to 60 s later."""
        self.pool.start(now=0.0)
        now, pauses = 0.0, []
        for member in range(1, 12):
            self.assertEqual(self.drain(), [f"open {member}"])
            self.pool.lost(member, now=now)
            at = self.pool.next_timer()
            assert at is not None
            pauses.append(at - now)
            now = at
            self.pool.handle_timer(now=now)
        self.assertEqual(pauses[:7], [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
        self.assertEqual(pauses[7:], [60.0] * 4)
        self.pool.established(12, now=now)
        self.assertEqual(self.pool.failures, 0)

    def test_jitter(self) -> None:
        """The pause is from half the nominal one to the whole."""
        for random, pause in ((b"\x00\x00", 0.25), (b"\xff\xff", 0.5)):
            pool = ListeningPool(random_bytes=lambda _, random=random: random)
            pool.start(now=0.0)
            pool.lost(1, now=0.0)
            self.assertEqual(pool.next_timer(), pause)

    def test_failing_together(self) -> None:
        """Connections that fail in the same moment count as one failure."""
        self.pool.start(now=0.0)
        self.pool.established(1, now=0.0)
        for member in range(2, 8):
            self.pool.lost(member, now=0.1)
        self.assertEqual(self.pool.failures, 1)

    def test_relay_that_closes_at_once(self) -> None:
        """A relay that accepts and closes does not make the server spin."""
        self.pool.start(now=0.0)
        self.pool.established(1, now=0.0)
        self.drain()
        self.pool.lost(1, now=0.1)
        self.assertEqual(self.drain(), [])
        self.assertEqual(self.pool.failures, 1)

    def test_opening_takes_too_long(self) -> None:
        """An attempt that hangs is given up after 20 s."""
        self.pool.start(now=0.0)
        self.drain()
        self.pool.handle_timer(now=20.0)
        self.assertEqual(self.drain(), ["drop 1"])
        self.pool.established(1, now=21.0)
        self.assertEqual(self.pool.idle, 0)

    def test_stop(self) -> None:
        """Stopping drops what is idle and opens nothing more."""
        self.fill()
        self.pool.stop(now=1.0)
        self.assertEqual(self.drain(), [f"drop {n}" for n in range(1, 8)])
        self.pool.lost(1, now=1.0)
        self.assertEqual(self.drain(), [])
        self.assertIsNone(self.pool.next_timer())

    def test_sizes(self) -> None:
        """A pool that no relay would accept, or none at all, is our mistake."""
        for size in (0, MAX_IDLE + 1):
            with self.assertRaises(LocalProtocolError):
                ListeningPool(random_bytes=bytes, preemptive_connections=size)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["established", "heard", "taken", "lost", "timer"]),
                st.integers(1, 40),
                st.sampled_from([0.0, 0.3, 2.0, 31.0, 80.0]),
            ),
            max_size=80,
        )
    )
    def test_any_order(self, steps: list[tuple[str, int, float]]) -> None:
        """Never too many, never fewer than wanted without a reason."""
        pool = ListeningPool(random_bytes=bytes)
        now = 0.0
        live: set[int] = set()
        pool.start(now=now)
        for name, member, pause in [("timer", 0, 0.0), *steps]:
            now += pause
            try:
                if name == "timer":
                    pool.handle_timer(now=now)
                else:
                    getattr(pool, name)(member, now=now)
                    if name in ("taken", "lost"):
                        live.discard(member)
            except LocalProtocolError:
                self.assertIn(member, live)
            while (event := pool.next_event()) is not None:
                if isinstance(event, DropConnection):
                    live.discard(event.member)
                else:
                    live.add(event.member)
            total = pool.idle + pool.opening
            self.assertEqual(total, len(live))
            self.assertLessEqual(total, MAX_IDLE)
            if total < 7:
                self.assertIsNotNone(pool.next_timer())
