"""Tests of round-trip time, ACK window, arrival speed, capacity and pacing."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.ack_window import AckWindow
from dwcloud.protocol.udt.arrival_rate import ArrivalSpeed, LinkCapacity
from dwcloud.protocol.udt.liveness import Liveness
from dwcloud.protocol.udt.pacing import QUANTUM, Pacer
from dwcloud.protocol.udt.rtt import RTTEstimator


class RTTTests(SynchronousTestCase):
    """The formulas of the reference library, in integers."""

    # [udt:rtt]
    def test_captured(self) -> None:
        """The values in the captured packet ``ack_short`` come out."""
        rtt = RTTEstimator()
        rtt.update(2)
        self.assertEqual((rtt.rtt_us, rtt.variance_us), (87_500, 62_499))

    def test_expiration(self) -> None:
        """At least 300 ms for each count; longer on long paths."""
        rtt = RTTEstimator()
        self.assertAlmostEqual(rtt.expiration(1), 0.31)
        self.assertAlmostEqual(rtt.expiration(2), 0.61)
        for _ in range(100):
            rtt.update(1000)
        self.assertAlmostEqual(rtt.expiration(3), 0.9)
        self.assertLess(rtt.repetition_interval, 0.002)


class AckWindowTests(SynchronousTestCase):
    """ACKs waiting for their ACK2."""

    # [udt:ack2]
    def test_match(self) -> None:
        """An ACK2 finds its ACK once."""
        window = AckWindow()
        window.store(1, 50, 10.0)
        self.assertEqual(window.acknowledge(1, 10.25), (50, 250_000))
        self.assertIsNone(window.acknowledge(1, 10.3))
        self.assertIsNone(window.acknowledge(9, 10.3))

    def test_bounded(self) -> None:
        """Only the last ones are remembered."""
        window = AckWindow(size=2)
        for number in (1, 2, 3):
            window.store(number, 0, 0.0)
        self.assertIsNone(window.acknowledge(1, 1.0))
        self.assertIsNotNone(window.acknowledge(2, 1.0))


class ArrivalTests(SynchronousTestCase):
    """What the receiver reports."""

    def test_even(self) -> None:
        """Evenly spaced packets give their rate."""
        speed = ArrivalSpeed()
        self.assertEqual(speed.packets_per_second, 0)
        for number in range(40):
            speed.packets_arrived(1, number * 0.002)
        self.assertApproximates(speed.packets_per_second, 500, 1)

    def test_bunches(self) -> None:
        """Packets that arrive together give the same rate as if they had not."""
        speed = ArrivalSpeed()
        for number in range(40):
            speed.packets_arrived(50, number * 0.005)
        self.assertApproximates(speed.packets_per_second, 10_000, 10)

    def test_pauses(self) -> None:
        """A pause between bursts does not count."""
        speed, now = ArrivalSpeed(), 0.0
        for _ in range(8):
            for _ in range(20):
                now += 0.001
                speed.packets_arrived(1, now)
            now += 1.0
        self.assertApproximates(speed.packets_per_second, 1000, 2)

    def test_capacity(self) -> None:
        """Pairs 100 microseconds apart show 10,000 packets a second."""
        capacity = LinkCapacity()
        self.assertEqual(capacity.packets_per_second, 0)
        capacity.second_arrived(0.0)
        for number in range(70):
            capacity.first_arrived(number)
            capacity.second_arrived(number + 0.0001)
        self.assertApproximates(capacity.packets_per_second, 10_000, 2)

    def test_joined_pairs(self) -> None:
        """Pairs within a bunch count as very near."""
        capacity = LinkCapacity()
        capacity.pairs_arrived(5)
        self.assertEqual(capacity.packets_per_second, 100_000)


class PacerTests(SynchronousTestCase):
    """The rate is kept, with few wake-ups."""

    def simulate(self, period: float, seconds: float) -> tuple[int, int]:
        pacer, now, sent, wakeups = Pacer(), 100.0, 0, 0
        end = now + seconds
        while now < end:
            due = pacer.packets_due(now, period)
            if due:
                pacer.packets_sent(due, now, period)
            sent += due
            wakeups += 1
            now = max(now, pacer.next_time)
        return sent, wakeups

    def test_slow(self) -> None:
        """Long periods are kept packet by packet."""
        sent, wakeups = self.simulate(0.0625, 10.0)
        # What a pause of 10 ms or more allowed is sent first.
        self.assertIn(sent, (160, 161))
        self.assertLessEqual(wakeups, sent + 1)

    def test_fast(self) -> None:
        """Short periods are kept in batches, once in a millisecond."""
        sent, wakeups = self.simulate(0.00001, 1.0)
        self.assertApproximates(sent, 100_000, 1100)
        self.assertLessEqual(wakeups, 1 / QUANTUM + 2)

    def test_no_flood(self) -> None:
        """A pause is not made up for beyond 10 ms."""
        pacer = Pacer()
        pacer.packets_sent(1, 100.0, 0.001)
        self.assertLessEqual(pacer.packets_due(200.0, 0.001), 11)

    def test_between(self) -> None:
        """Before the wake-up only a worthwhile batch is due."""
        pacer, period = Pacer(), 0.0001
        pacer.packets_sent(1, 100.0, period)
        pacer.packets_sent(101, 100.0, period)
        self.assertEqual(pacer.packets_due(100.0, period), 0)


class LivenessTests(SynchronousTestCase):
    """When to give a sign of life."""

    def test_interval(self) -> None:
        """With an interval, the last packet sent counts."""
        liveness = Liveness(10.0, RTTEstimator(), 100.0)
        liveness.sent(105.0)
        liveness.received(107.0)
        self.assertEqual(liveness.keep_alive_at, 115.0)

    def test_expiration(self) -> None:
        """Without one, the expiration timer, which becomes longer unanswered."""
        liveness = Liveness(None, RTTEstimator(), 100.0)
        self.assertAlmostEqual(liveness.keep_alive_at, 100.31)
        liveness.keep_alive_due()
        liveness.sent(100.31)
        self.assertAlmostEqual(liveness.keep_alive_at, 100.92)
        liveness.received(100.5)
        self.assertAlmostEqual(liveness.keep_alive_at, 100.81)
