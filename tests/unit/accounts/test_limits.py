"""How often something may be asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.rate_limits import Allowance, RateLimit, network_of


class NetworkTests(SynchronousTestCase):
    """Whom an address counts for."""

    def test_networks(self) -> None:
        """IPv4 for itself, IPv6 for what one customer has."""
        for address, network in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("nonsense", "nonsense"),
        ):
            self.assertEqual(network_of(address), network)


class RateLimitTests(SynchronousTestCase):
    """Buckets that fill with time."""

    def setUp(self) -> None:
        self.limit = RateLimit(Allowance(burst=3, per_minute=6), capacity=10)

    def test_burst(self) -> None:
        """After a burst one waits, as long as told, and others do not."""
        waits = [self.limit.wait_for("a", now=0) for _ in range(4)]
        self.assertEqual(waits, [0, 0, 0, 10])
        self.assertEqual(self.limit.wait_for("b", now=0), 0)
        self.assertGreater(self.limit.wait_for("a", now=9.9), 0)
        self.assertEqual(self.limit.wait_for("a", now=10), 0)

    def test_rest(self) -> None:
        """Whoever asks nothing for long has a burst again, not more."""
        for _ in range(3):
            self.limit.wait_for("a", now=0)
        waits = [self.limit.wait_for("a", now=1000) for _ in range(4)]
        self.assertEqual([w > 0 for w in waits], [False, False, False, True])

    def test_capacity(self) -> None:
        """What is remembered does not grow."""
        for number in range(100):
            self.limit.wait_for(str(number), now=0)
        self.assertEqual(len(self.limit), 10)

    @given(st.lists(st.floats(0, 30), max_size=60))
    def test_never_more(self, pauses: list[float]) -> None:
        """In no time more is allowed than the burst and what filled up meanwhile."""
        now, allowed = 0.0, 0
        limit = RateLimit(Allowance(burst=3, per_minute=6))
        for pause in pauses:
            now += pause
            allowed += limit.wait_for("a", now=now) == 0
        self.assertLessEqual(allowed, 3 + now / 10 + 1e-6)
