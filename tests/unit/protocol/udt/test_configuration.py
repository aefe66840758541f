"""Tests of the settings."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import Configuration


class ConfigurationTests(SynchronousTestCase):
    """What settings are accepted, and what follows from them."""

    def test_defaults(self) -> None:
        """The defaults are those of the reference library where it has them."""
        configuration = Configuration()
        self.assertEqual(configuration.payload_size, 1456)
        self.assertEqual(configuration.announced_window_packets, 32_767)
        self.assertEqual(
            Configuration(send_buffer_limit=400).send_buffer_low_water, 100
        )

    def test_times_of_the_library(self) -> None:
        """Durations are those of the reference library too. [udt:linger]"""
        configuration = Configuration()
        self.assertEqual(configuration.linger, 180.0)
        self.assertEqual(configuration.silence_limit, 46.0)
        self.assertEqual(configuration.connect_timeout, 3.0)
        self.assertEqual(configuration.rendezvous_timeout, 30.0)
        self.assertEqual(configuration.handshake_interval, 0.25)

    def test_flight_window(self) -> None:
        """The window announced is the smaller of buffer and flight window."""
        configuration = Configuration(flight_window_packets=100)
        self.assertEqual(configuration.announced_window_packets, 100)

    def test_refused(self) -> None:
        """Settings that cannot work are refused at once."""
        for setting in (
            {"maximum_packet_size": 75},
            {"maximum_packet_size": 65_536},
            {"receive_buffer_packets": 1},
            {"send_buffer_limit": 0},
            {"send_buffer_limit": 100, "send_buffer_low_water": 100},
            {"send_buffer_low_water": -1},
            {"shutdown_repetitions": 0},
        ):
            self.assertRaises(ValueError, Configuration, **setting)
