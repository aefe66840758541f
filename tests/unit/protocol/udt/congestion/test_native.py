"""Tests of the native controller against the numbers of the reference library."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt.congestion import (
    CONTROLLERS,
    Acknowledgement,
    FixedControl,
    NativeControl,
    Parameters,
    create_congestion_control,
)

PARAMETERS = Parameters(
    maximum_packet_size=1500,
    flow_window_packets=8192,
    random=lambda: 0.5,
    fixed_rate=2000.0,
)


def ack(index: int, now: float, **changes: int) -> Acknowledgement:
    fields = {"packet_arrival_speed": 16, "estimated_link_capacity": 1, **changes}
    return Acknowledgement(
        now=now,
        index=index,
        newly_acknowledged=1,
        packets_in_flight=0,
        rtt_us=fields.pop("rtt_us", 100_000),
        **fields,
    )


class NativeTests(SynchronousTestCase):
    """Section 6 of docs/protocol/udt, number by number."""

    def setUp(self) -> None:
        self.control = NativeControl(PARAMETERS)

    def out_of_slow_start(self, speed: int) -> None:
        self.control.on_ack(ack(1, 1.0, packet_arrival_speed=speed))
        self.control.on_timeout(now=1.0)

    def test_start(self) -> None:
        """A window of 16 packets, as fast as possible."""
        self.assertTrue(self.control.slow_start)
        self.assertEqual(self.control.congestion_window_packets, 16)
        self.assertEqual(self.control.packet_sending_period_us, 1)

    def test_slow_start(self) -> None:
        """The window grows by what was acknowledged, and one."""
        self.control.on_ack(ack(16, 1.0))
        self.assertEqual(self.control.congestion_window_packets, 16 + 18)
        self.control.on_ack(ack(50, 1.01))
        self.assertEqual(self.control.congestion_window_packets, 34 + 35)

    def test_once_in_ten_milliseconds(self) -> None:
        """ACKs in between change nothing."""
        self.control.on_ack(ack(16, 1.0))
        self.control.on_ack(ack(30, 1.009))
        self.assertEqual(self.control.congestion_window_packets, 34)
        self.control.on_ack(ack(30, 1.01))
        self.assertEqual(self.control.congestion_window_packets, 34 + 15)

    def test_slow_start_ends_by_the_window(self) -> None:
        """Above the peer's window the rate follows the receiver, and is raised."""
        acknowledgement = ack(
            8200, 1.0, packet_arrival_speed=1000, estimated_link_capacity=1
        )
        self.control.on_ack(acknowledgement)
        self.assertFalse(self.control.slow_start)
        period = 1000 * 10_000 / (1000 * 0.01 + 10_000)
        self.assertAlmostEqual(self.control.packet_sending_period_us, period)

    def test_early_loss(self) -> None:
        """A loss before any ACK throws the rate to 16 packets a second."""
        self.control.on_loss(3, 15, now=1.0)
        self.assertEqual(self.control.packet_sending_period_us, 62_500)
        self.assertFalse(self.control.slow_start)

    def test_window_after_slow_start(self) -> None:
        """The window is the rate times round trip and control interval, and 16."""
        self.out_of_slow_start(1000)
        self.control.on_ack(ack(20, 2.0, packet_arrival_speed=2000, rtt_us=90_000))
        self.assertAlmostEqual(self.control.congestion_window_packets, 216.0)

    def test_increase_by_capacity(self) -> None:
        """The spare capacity sets the step: a decade of bits per second."""
        self.out_of_slow_start(1000)
        # Spare: 99,000 of 100,000, but after a rise of the period only a ninth of
        # the capacity: 11,111 packets or 1.3e8 bits a second, so 10^9 * 1.5e-9 = 1.
        acknowledgement = ack(
            20, 2.0, packet_arrival_speed=1000, estimated_link_capacity=100_000
        )
        self.control.on_ack(acknowledgement)
        period = 1000 * 10_000 / (1000 * 1.0 + 10_000)
        self.assertAlmostEqual(self.control.packet_sending_period_us, period)

    def test_decrease(self) -> None:
        """A new congestion period slows down by 1/8, rounded up to microseconds."""
        self.out_of_slow_start(1000)
        self.control.on_loss(10, 50, now=2.0)
        self.assertEqual(self.control.packet_sending_period_us, 1125)
        self.control.on_loss(60, 80, now=2.0)
        self.assertEqual(self.control.packet_sending_period_us, 1266)

    def test_no_increase_after_loss(self) -> None:
        """The first step after a loss report does not raise the rate."""
        self.out_of_slow_start(1000)
        self.control.on_loss(10, 50, now=2.0)
        self.control.on_ack(ack(20, 2.1, packet_arrival_speed=1000))
        self.assertEqual(self.control.packet_sending_period_us, 1125)
        self.control.on_ack(ack(21, 2.2, packet_arrival_speed=1000))
        self.assertLess(self.control.packet_sending_period_us, 1125)

    def test_same_period(self) -> None:
        """Within a period there are at most four more decreases."""
        self.out_of_slow_start(1000)
        self.control.on_loss(10, 50, now=2.0)
        periods = []
        for _ in range(8):
            self.control.on_loss(9, 50, now=2.0)
            periods.append(self.control.packet_sending_period_us)
        self.assertEqual(periods, [1266, 1425, 1604, 1805, 1805, 1805, 1805, 1805])

    def test_timeout(self) -> None:
        """A timeout ends slow start; later ones do nothing."""
        self.out_of_slow_start(500)
        self.assertEqual(self.control.packet_sending_period_us, 2000)
        self.control.on_timeout(now=3.0)
        self.assertEqual(self.control.packet_sending_period_us, 2000)


class ChoiceTests(SynchronousTestCase):
    """Controllers by name."""

    def test_names(self) -> None:
        """Each is found under its own name."""
        for name, kind in CONTROLLERS.items():
            control = create_congestion_control(name, PARAMETERS)
            self.assertIsInstance(control, kind)
            self.assertEqual(control.name, name)

    def test_unknown(self) -> None:
        """Another name is the caller's mistake, and says what there is."""
        error = self.assertRaises(
            LocalProtocolError, create_congestion_control, "x", PARAMETERS
        )
        self.assertIn("native", str(error))

    def test_fixed(self) -> None:
        """The fixed controller is not moved by anything."""
        control = FixedControl(PARAMETERS)
        control.on_ack(ack(1, 1.0))
        control.on_loss(1, 2, now=1.0)
        control.on_timeout(now=1.0)
        control.on_sent(0, 1, retransmission=False, now=1.0)
        self.assertEqual(control.packet_sending_period_us, 500)
        self.assertEqual(control.congestion_window_packets, float("inf"))
