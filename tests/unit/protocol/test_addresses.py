"""Addresses and their text form."""

from __future__ import annotations

import ipaddress

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import (
    Address,
    format_address,
    is_global_ipv6,
    is_usable_ipv6,
    parse_address,
    unmapped,
)

ADDRESSES = st.builds(
    Address, st.ip_addresses().map(str), st.integers(min_value=0, max_value=65535)
)


class AddressTests(SynchronousTestCase):
    """An IP address and a port."""

    @given(ADDRESSES)
    def test_round_trip(self, address: Address) -> None:
        """What is printed can be read again."""
        self.assertEqual(parse_address(str(address)), address)
        self.assertEqual(parse_address(format_address(tuple(address))), address)
        self.assertEqual(
            address.family, 6 if ":" in address.host else 4, "the version of IP"
        )

    def test_equals_the_plain_tuple(self) -> None:
        """Twisted's address tuples find entries that ours made."""
        self.assertIn(("192.0.2.1", 5), {Address("192.0.2.1", 5)})

    @given(ADDRESSES)
    def test_default_port(self, address: Address) -> None:
        """Without a port the default one is meant, with one it is not."""
        host = address.host
        self.assertEqual(parse_address(host, 7), (host, 7))
        self.assertEqual(parse_address(str(address), 7), address)
        if address.family == 6:
            self.assertEqual(parse_address(f"[{host}]", 7), (host, 7))

    def test_canonical_form(self) -> None:
        """One address has one form, however it was written."""
        long = "[2001:0DB8:0:0:0:0:0:1]:5"
        self.assertEqual(parse_address(long), ("2001:db8::1", 5))

    def test_what_is_wrong_is_said(self) -> None:
        """The message shows the text and a right one."""
        for text in [
            "",
            "192.0.2.1",
            "192.0.2.1:",
            "::1",
            "[::1]",
            "[::1]:",
            "[::1]5",
            "[::1",
            "[192.0.2.1]:5",
            "::1]:5",
            "192.0.2.1:65536",
            "192.0.2.1:-5",
            "192.0.2.1:+5",
            "192.0.2.1: 5",
            "192.0.2.1:٣",
            "192.0.2.1:1_0",
            "192.0.2.1:" + "9" * 5000,
            "localhost:5",
            "192.0.2:5",
            "192.0.2.1:5:6",
        ]:
            error = self.assertRaises(ValueError, parse_address, text)
            self.assertIn("such as 192.0.2.1:3345", str(error), text)
            self.assertIn(repr(text), str(error))

    def test_unmapped(self) -> None:
        """IPv4 is IPv4, whatever socket it came through."""
        for host, expected in (
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
        ):
            self.assertEqual(unmapped((host, 5)), Address(expected, 5))

    def test_usable_ipv6(self) -> None:
        """Global and unique local addresses mean more than one link."""
        cases = {
            "2001:db8::1": (True, True),
            "fd00::1": (False, True),
            "fe80::1%eth0": (False, False),
            "::1": (False, False),
            "ff02::1": (False, False),
            "192.0.2.1": (False, False),
        }
        for host, expected in cases.items():
            found = is_global_ipv6(host), is_usable_ipv6(host)
            self.assertEqual(found, expected, host)

    @given(st.text(alphabet="0123456789abcdef:.[]%", max_size=30) | st.text())
    @example("[fe80::1%eth0]:5")
    def test_any_text_survives(self, text: str) -> None:
        """Whatever is typed gives an address that can be printed, or a ValueError."""
        try:
            address = parse_address(text)
        except ValueError:
            return
        ipaddress.ip_address(address.host)
        self.assertTrue(0 <= address.port < 65536)
        self.assertEqual(parse_address(str(address)), address)
