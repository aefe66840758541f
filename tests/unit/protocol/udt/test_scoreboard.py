"""Tests of what the sender concludes from ACKs and loss reports."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.scoreboard import Scoreboard


class ScoreboardTests(SynchronousTestCase):
    """Delivered, lost and on the way."""

    def setUp(self) -> None:
        self.board = Scoreboard()
        self.board.sent(0, 9, 1.0)
        self.board.sent(10, 19, 1.01)

    def test_in_flight(self) -> None:
        """What is sent is on its way until something is heard."""
        self.assertEqual(self.board.in_flight, 20)
        self.assertIsNone(self.board.news(1.05))

    def test_acknowledged(self) -> None:
        """An ACK delivers, and tells round trip and rate of the newest flight."""
        self.board.acknowledged(20)
        news = self.board.news(1.11)
        self.assertEqual((news.delivered, news.newly_delivered), (20, 20))
        self.assertEqual(news.packets_in_flight, 0)
        self.assertAlmostEqual(news.round_trip, 0.1)
        self.assertAlmostEqual(news.rate, 20 / 0.11)
        self.assertIsNone(self.board.news(1.12))

    def test_report_delivers(self) -> None:
        """What lies before and behind a reported gap has arrived."""
        self.assertEqual(self.board.reported(3, 4, 1.1), [(3, 4)])
        news = self.board.news(1.1)
        self.assertEqual((news.delivered, news.lost), (4, 2))
        self.assertEqual(self.board.in_flight, 14)

    def test_repetition_in_flight(self) -> None:
        """A packet sent again is on its way until one sent later has arrived."""
        self.board.reported(3, 4, 1.1)
        self.board.sent_again(3, 4, 1.1)
        self.assertEqual(self.board.in_flight, 16)
        self.board.sent(20, 29, 1.11)
        self.board.reported(25, 25, 1.21)
        self.board.news(1.21)
        self.assertEqual(self.board.in_flight, 3)

    def test_early_report_is_stale(self) -> None:
        """A report that crossed the repetition does not cause another one."""
        self.board.reported(3, 4, 1.1)
        self.board.news(1.1)
        self.board.sent_again(3, 4, 1.1)
        self.assertEqual(self.board.reported(3, 4, 1.15), [])
        self.assertEqual(self.board.reported(3, 4, 1.21), [(3, 4)])
        self.assertEqual(self.board.lost, 4)

    def test_confirmed(self) -> None:
        """The receiver's own count replaces the estimate."""
        self.board.reported(3, 4, 1.1)
        self.assertTrue(self.board.confirmed(3, 20, 14))
        self.assertEqual(self.board.news(1.1).delivered, 17)
        self.assertFalse(self.board.confirmed(3, 20, 14))

    def test_impossible_count(self) -> None:
        """A count of packets that were never sent is not believed."""
        for index, newest, early in ((3, 21, 2), (3, 2, 0), (3, 9, 7)):
            self.assertFalse(self.board.confirmed(index, newest, early))

    def test_suspect(self) -> None:
        """Without news the newest packet reveals gaps; the awaited one fills them."""
        self.assertEqual(self.board.suspect(1), 19)
        self.assertEqual(self.board.suspect(2), 0)
        self.board.reported(3, 4, 1.1)
        self.assertEqual(self.board.suspect(1), 0)
        self.board.acknowledged(3)
        self.assertEqual(self.board.suspect(1), 3)

    def test_suspect_when_all_is_acknowledged(self) -> None:
        """After a light ACK for everything only the newest packet is left to repeat."""
        self.board.acknowledged(20)
        self.assertEqual([self.board.suspect(1), self.board.suspect(2)], [19, 19])
        self.assertEqual(self.board.expired(), [])

    def test_expired(self) -> None:
        """After an expiration nothing is on its way, and what arrived is spared."""
        self.board.acknowledged(2)
        self.board.reported(3, 4, 1.1)
        self.assertEqual(self.board.expired(), [(2, 4), (6, 19)])
        self.assertEqual(self.board.in_flight, 0)

    def test_limited(self) -> None:
        """What is sent while the program has no more to send tells no bandwidth."""
        self.board.limited(by_peer=False)
        self.board.sent(20, 20, 1.02)
        self.board.acknowledged(21)
        news = self.board.news(1.12)
        self.assertTrue(news.limited)
        self.assertFalse(news.limited_by_peer)

    def test_rate_of_a_steady_flow(self) -> None:
        """Behind a gap the rate is seen by the reports, and is the true one."""
        board, rates = Scoreboard(), []
        for number in range(1000):
            now = 1.0 + number * 0.001
            board.sent(number, number, now)
            arrived = number - 50
            # One packet in ten is lost and never repaired.
            if arrived > 0 and arrived % 10 == 1:
                board.reported(arrived - 1, arrived - 1, now)
                news = board.news(now)
                rates.append(news.rate)
        for rate in rates[20:]:
            self.assertApproximates(rate, 900, 10)

    @given(st.data())
    def test_any_news(self, data: st.DataObject) -> None:
        """Whatever a peer says, counts stay within what was sent and never shrink."""
        board, end, acknowledged, delivered = Scoreboard(), 0, 0, 0
        for step in range(data.draw(st.integers(1, 30))):
            now = 1.0 + step * 0.01
            count = data.draw(st.integers(1, 20))
            board.sent(end, end + count - 1, now)
            end += count
            first = data.draw(st.integers(acknowledged, end - 1))
            last = data.draw(st.integers(first, end - 1))
            for again in board.reported(first, last, now):
                board.sent_again(*again, now)
            if data.draw(st.booleans()):
                acknowledged = data.draw(st.integers(acknowledged, end))
                board.acknowledged(acknowledged)
            newest = data.draw(st.integers(0, end + 5))
            board.confirmed(acknowledged, newest, data.draw(st.integers(0, 50)))
            board.news(now)
            self.assertGreaterEqual(board.delivered, delivered)
            self.assertGreaterEqual(board.in_flight, 0)
            delivered = board.delivered
