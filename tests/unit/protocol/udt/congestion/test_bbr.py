"""Tests of the model-based controller with hand-made news."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt.congestion import BBRControl, Delivery, Parameters
from dwcloud.protocol.udt.congestion.bbr import Phase

PARAMETERS = Parameters(
    maximum_packet_size=1500, flow_window_packets=8192, random=lambda: 0.5
)


class Path:
    """A path that delivers what the controller sends, at most ``rate``."""

    def __init__(self, control: BBRControl, rate: float, round_trip: float) -> None:
        self.control = control
        self.rate = rate
        self.round_trip = round_trip
        self.loss = 0.0
        self.now = 1.0
        self.delivered = 0.0
        self.lost = 0.0

    def round(self, *, limited: bool = False) -> None:
        """Let a round trip pass, in ten pieces of news."""
        control, start = self.control, self.delivered
        sent = min(
            1e6 / control.packet_sending_period_us,
            control.congestion_window_packets / self.round_trip,
        )
        rate = min(sent * (1 - self.loss), self.rate)
        for _ in range(10):
            self.now += self.round_trip / 10
            newly = rate * self.round_trip / 10
            self.delivered += newly
            self.lost += newly * self.loss / (1 - self.loss)
            control.on_delivery(
                Delivery(
                    now=self.now,
                    delivered=int(self.delivered),
                    newly_delivered=int(newly),
                    lost=int(self.lost),
                    packets_in_flight=int(sent * self.round_trip),
                    rate=rate,
                    round_trip=self.round_trip,
                    delivered_before=int(start),
                    limited=limited,
                )
            )


class BBRTests(SynchronousTestCase):
    """The phases, and what decides between them."""

    def setUp(self) -> None:
        self.control = BBRControl(PARAMETERS)
        self.path = Path(self.control, rate=8000, round_trip=0.05)

    def rounds(self, count: int, *, limited: bool = False) -> None:
        for _ in range(count):
            self.path.round(limited=limited)

    def test_startup_finds_the_bandwidth(self) -> None:
        """It doubles each round until nothing more is delivered, then drains."""
        for _ in range(30):
            self.path.round()
            if self.control.phase is not Phase.STARTUP:
                break
        self.assertApproximates(self.control.bandwidth, 8000, 10)
        self.assertAlmostEqual(self.control.round_trip, 0.05, places=6)
        self.assertLess(self.path.now, 1.0 + 20 * 0.05)

    def test_cruising(self) -> None:
        """Afterwards pace and window stay near what the path holds."""
        self.rounds(60)
        self.assertIs(self.control.phase, Phase.PROBE_BANDWIDTH)
        paces = set()
        for _ in range(16):
            self.path.round()
            rate = 1e6 / self.control.packet_sending_period_us
            paces.add(round(rate / self.control.bandwidth, 2))
        self.assertTrue({1.24, 0.74, 0.99} >= paces, paces)
        self.assertIn(0.99, paces)
        window = self.control.congestion_window_packets
        self.assertLess(window, 2 * 8000 * 0.05)
        self.assertGreater(window, 1.25 * 8000 * 0.05)

    def test_random_loss(self) -> None:
        """Five percent lost leave the window as it is."""
        self.rounds(40)
        window = self.control.congestion_window_packets
        self.path.loss = 0.05
        self.rounds(40)
        self.assertGreater(self.control.congestion_window_packets, 0.9 * window)

    def test_excessive_loss(self) -> None:
        """Thirty percent shrink it, but not below what the path holds; it recovers."""
        self.rounds(40)
        window = self.control.congestion_window_packets
        self.path.loss = 0.3
        self.rounds(10)
        self.assertLess(self.control.congestion_window_packets, 0.95 * window)
        held = self.control.bandwidth * self.control.round_trip
        self.assertGreater(self.control.congestion_window_packets, held)
        self.path.loss = 0.0
        self.rounds(60)
        self.assertGreater(self.control.congestion_window_packets, 0.95 * window)

    def test_more_bandwidth(self) -> None:
        """Bandwidth that has come up is found by probing."""
        self.rounds(40)
        self.path.rate = 16_000
        self.rounds(60)
        self.assertGreater(self.control.bandwidth, 15_000)

    def test_less_bandwidth(self) -> None:
        """Bandwidth that is gone is forgotten after some rounds."""
        self.rounds(40)
        self.path.rate = 2000
        self.rounds(20)
        self.assertLess(self.control.bandwidth, 2100)

    def test_limited_by_the_program(self) -> None:
        """A camera that sends little does not make the model forget the path."""
        self.rounds(40)
        self.path.rate = 100
        self.rounds(100, limited=True)
        self.assertGreater(self.control.bandwidth, 7900)

    def test_startup_waits_for_the_program(self) -> None:
        """Startup does not end because there is little to send."""
        self.path.rate = 100
        self.rounds(50, limited=True)
        self.assertIs(self.control.phase, Phase.STARTUP)

    def test_longer_round_trip(self) -> None:
        """A longer way is believed after ten seconds, and a moment of little sent."""
        self.rounds(40)
        self.path.round_trip = 0.08
        seen = set()
        for _ in range(200):
            self.path.round()
            seen.add(self.control.phase)
        self.assertIn(Phase.PROBE_ROUND_TRIP, seen)
        self.assertIs(self.control.phase, Phase.PROBE_BANDWIDTH)
        self.assertAlmostEqual(self.control.round_trip, 0.08, places=6)

    def test_loss_and_timeout_alone(self) -> None:
        """Neither a loss report nor a timeout changes anything by itself."""
        self.rounds(40)
        before = self.control.packet_sending_period_us
        self.control.on_loss(1, 2, now=self.path.now)
        self.control.on_timeout(now=self.path.now)
        self.assertEqual(self.control.packet_sending_period_us, before)
