"""Where the mediator and its relays are, as people write it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.peer.mediator_address import (
    MediatorAddress,
    resolve_relay_url,
)


class MediatorAddressTests(SynchronousTestCase):
    """``HOST[:PORT]``."""

    def test_forms(self) -> None:
        """Names and addresses, with a port or the default one."""
        for text, host, port in (
            ("cloud.example.org", "cloud.example.org", 3345),
            ("cloud.example.org.", "cloud.example.org.", 3345),
            ("cloud.example.org:1", "cloud.example.org", 1),
            ("my_host-1:65535", "my_host-1", 65535),
            ("localhost", "localhost", 3345),
            ("192.0.2.1:99", "192.0.2.1", 99),
            ("2001:db8::1", "2001:db8::1", 3345),
            ("[2001:db8::1]", "2001:db8::1", 3345),
            ("[2001:db8::1]:99", "2001:db8::1", 99),
        ):
            address = MediatorAddress.parse(text)
            self.assertEqual((address.host, address.port), (host, port), text)
            self.assertEqual(MediatorAddress.parse(str(address)), address)

    def test_urls(self) -> None:
        """A URL says where HTTP is taken; UDP keeps its port."""
        for text, host, port in (
            ("http://cloud.example.org", "cloud.example.org", 80),
            ("https://cloud.example.org/", "cloud.example.org", 443),
            ("https://cloud.example.org:8443/cloud", "cloud.example.org", 8443),
            ("http://[2001:db8::1]:3345", "2001:db8::1", 3345),
        ):
            address = MediatorAddress.parse(text)
            assert address.url is not None
            self.assertEqual((address.host, address.url.port), (host, port), text)
            self.assertEqual(address.port, 3345)
            self.assertEqual(MediatorAddress.parse(str(address)), address)

    def test_refused(self) -> None:
        """Anything else is refused with what would be right."""
        for text in (
            "",
            ":",
            ":3345",
            "host:",
            "host:0",
            "host:65536",
            "host:port",
            "host:٣",
            "host:" + "1" * 5000,
            "http://",
            "http://host:0",
            "https://host:port",
            "http://host/?query",
            "http://ho..st",
            "ftp://host",
            "host/",
            "ho st",
            "host..org",
            ".host",
            "-host",
            "a:b:c",
            "host:1:2",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[host]:1",
            "[a:b]:1",
            "x" * 64,
        ):
            error = self.assertRaises(ConfigurationError, MediatorAddress.parse, text)
            self.assertIn("cloud.example.org:3345", str(error), text)
            self.assertIn(repr(text), str(error))

    def test_long_typing_error(self) -> None:
        """The check of a name takes no longer than reading it."""
        self.assertRaises(
            ConfigurationError, MediatorAddress.parse, "a" * 60 + "-" * 60 + "!"
        )
        self.assertRaises(ConfigurationError, MediatorAddress.parse, "a1." * 60 + "!")

    @settings(max_examples=200)
    @given(st.text(alphabet="ab1.:[]-%/", max_size=40) | st.text())
    def test_any_text_survives(self, text: str) -> None:
        """Whatever is typed gives an address or the error of a configuration."""
        try:
            address = MediatorAddress.parse(text)
        except ConfigurationError:
            return
        self.assertEqual(MediatorAddress.parse(str(address)), address)


class RelayURLTests(SynchronousTestCase):
    """Relays that are on the mediator's machine."""

    def test_host_filled_in(self) -> None:
        """A URL without a host means the mediator's."""
        for url, host, expected in (
            ("http://:3349", "cloud.example", "http://cloud.example:3349"),
            ("https://:1/x", "cloud.example", "https://cloud.example:1/x"),
            ("http://", "cloud.example", "http://cloud.example:80"),
            ("https:///x", "cloud.example", "https://cloud.example:443/x"),
            ("http://:3349", "2001:db8::1", "http://[2001:db8::1]:3349"),
            ("http://relay.example:5", "cloud.example", "http://relay.example:5"),
        ):
            self.assertEqual(resolve_relay_url(url, MediatorAddress(host)), expected)

    def test_refused(self) -> None:
        """Other schemes and no URLs at all are refused."""
        for url in ("", "relay.example:3349", "ftp://x", "http://[::1", "http://x:y"):
            error = self.assertRaises(
                ConfigurationError, resolve_relay_url, url, MediatorAddress("x")
            )
            self.assertIn("http://cloud.example.org:3349", str(error))
