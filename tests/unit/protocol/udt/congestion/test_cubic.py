"""Tests of the controller after CUBIC."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.congestion import CubicControl, Delivery, Parameters

PARAMETERS = Parameters(
    maximum_packet_size=1500, flow_window_packets=8192, random=lambda: 0.5
)


class CubicTests(SynchronousTestCase):
    """Growth and reduction of the window."""

    def setUp(self) -> None:
        self.control = CubicControl(PARAMETERS)
        self.now = 1.0
        self.delivered = 0

    def round(self, round_trip: float = 0.1, *, limited: bool = False) -> float:
        """Deliver a window in ten pieces; return the new window."""
        before, count = self.delivered, int(self.control.congestion_window_packets)
        for _ in range(10):
            self.now += round_trip / 10
            self.delivered += count // 10
            self.control.on_delivery(
                Delivery(
                    now=self.now,
                    delivered=self.delivered,
                    newly_delivered=count // 10,
                    lost=0,
                    packets_in_flight=count,
                    rate=count / round_trip,
                    round_trip=round_trip,
                    delivered_before=before,
                    limited=limited,
                )
            )
        return self.control.congestion_window_packets

    def test_slow_start(self) -> None:
        """The window nearly doubles each round trip, and is paced at twice its rate."""
        windows = [self.round() for _ in range(3)]
        self.assertEqual(windows, [62, 122, 242])
        rate = 1e6 / self.control.packet_sending_period_us
        self.assertApproximates(rate, 2 * 242 / 0.1, 1)

    def test_queue_ends_slow_start(self) -> None:
        """Round trips that grow end it before anything is lost."""
        self.round()
        self.round()
        self.assertTrue(self.control.slow_start)
        self.round(0.13)
        self.assertFalse(self.control.slow_start)

    def test_one_reduction_a_round(self) -> None:
        """Losses sent before the last reduction do not reduce again."""
        self.control.congestion_window_packets = 1000.0
        self.control.on_loss(10, 1000, now=1.0)
        self.assertAlmostEqual(self.control.congestion_window_packets, 700)
        self.control.on_loss(1000, 1200, now=1.0)
        self.assertAlmostEqual(self.control.congestion_window_packets, 700)
        self.control.on_loss(1001, 1400, now=1.1)
        self.assertAlmostEqual(self.control.congestion_window_packets, 490)

    def test_curve(self) -> None:
        """It rises fast, rests near the old maximum after K seconds, rises again."""
        self.control.congestion_window_packets = 1000.0
        self.control.on_loss(10, 1000, now=self.now)
        # K = cbrt(300 / 0.4) = 9.1 s
        windows = [self.round() for _ in range(150)]
        self.assertGreater(windows[20] - windows[0], 100)
        self.assertApproximates(windows[90], 1000, 15)
        self.assertGreater(windows[149], 1050)

    def test_fast_convergence(self) -> None:
        """A maximum that is not reached again is given up in part."""
        self.control.congestion_window_packets = 1000.0
        self.control.on_loss(10, 1000, now=1.0)
        self.control.on_loss(2000, 3000, now=2.0)
        windows = [self.round() for _ in range(70)]
        self.assertLess(windows[-1], 720)

    def test_limited(self) -> None:
        """A window that is not used does not grow."""
        self.assertEqual(self.round(limited=True), 32)

    def test_timeout(self) -> None:
        """After a timeout it begins with the least window."""
        self.round()
        self.control.on_timeout(now=self.now)
        self.assertEqual(self.control.congestion_window_packets, 4)
