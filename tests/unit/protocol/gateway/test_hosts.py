"""Host names: which system or server a browser asks for."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.gateway.hosts import WebDomain, split_host
from dwcloud.protocol.names import PeerName

SYSTEM = uuid.UUID("0190163d-8694-8c3e-9a00-7ab7d7b42e1d")
SERVER = uuid.UUID("1190163d-8694-8c3e-9a00-7ab7d7b42e1d")
DOMAIN = WebDomain("relay.example.org")


class DomainTests(SynchronousTestCase):
    """What an operator gives as domain."""

    def test_read(self) -> None:
        """Case and a closing dot do not matter."""
        self.assertEqual(WebDomain.parse(" Relay.Example.ORG. "), DOMAIN)
        self.assertEqual(str(WebDomain.parse("localhost")), "localhost")

    def test_refused(self) -> None:
        """What is no domain is named, with one that would be right."""
        for text in (
            "",
            "https://relay.example.org",
            "relay.example.org:443",
            "*.example.org",
            "192.0.2.1",
            "-a.example.org",
            "a..b",
            "r\u00e9lais.example.org",
            ".".join(["a" * 60] * 4),
        ):
            error = self.assertRaises(ValueError, WebDomain.parse, text)
            self.assertIn("relay.example.org", str(error))


class FindTests(SynchronousTestCase):
    """Hosts below the domain."""

    def test_system_and_server(self) -> None:
        """One label is a system, two are a server of it."""
        found = DOMAIN.find(f"{SYSTEM}.relay.example.org")
        assert found is not None
        self.assertEqual(found.name, PeerName(SYSTEM))
        found = DOMAIN.find(f"{SERVER}.{SYSTEM}.relay.example.org:8443")
        assert found is not None
        self.assertEqual(found.name, PeerName(SYSTEM, SERVER))
        self.assertEqual(found.origin, f"https://{found.authority}")
        self.assertTrue(found.authority.endswith(":8443"))

    def test_one_spelling(self) -> None:
        """Whatever its spelling, a host is one host, so that cookies are of one."""
        spellings = {
            DOMAIN.find(text)
            for text in (
                f"{SYSTEM}.relay.example.org",
                f"{SYSTEM}.Relay.EXAMPLE.org:443".upper(),
            )
        }
        self.assertEqual(len(spellings), 1)

    def test_others(self) -> None:
        """Names of anything else stand for nothing."""
        for text in (
            "relay.example.org",
            f"{SYSTEM}.relay.example.org.",
            f"{SYSTEM}.evil.example.org",
            f"{SYSTEM}.evilrelay.example.org",
            f"{SYSTEM}.relay.example.org.evil.org",
            f"{SYSTEM}.relay.example.org:",
            f"{SYSTEM}.relay.example.org:0",
            f"{SYSTEM}.relay.example.org:99999",
            f"{SYSTEM}.relay.example.org/",
            f"a@{SYSTEM}.relay.example.org",
            f"{SERVER}.{SERVER}.{SYSTEM}.relay.example.org",
            f"{str(SYSTEM).replace('-', '')}.relay.example.org",
            "..relay.example.org",
            "",
        ):
            self.assertIsNone(DOMAIN.find(text), text)

    def test_includes(self) -> None:
        """What is below the domain is never the relay's own, even if mistyped."""
        self.assertTrue(DOMAIN.includes("garage.relay.example.org:443"))
        self.assertTrue(DOMAIN.includes("A.B.RELAY.example.org"))
        self.assertFalse(DOMAIN.includes("relay.example.org"))
        self.assertFalse(DOMAIN.includes("xrelay.example.org"))
        self.assertFalse(DOMAIN.includes(""))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """No text does harm, and what is found is spelled in one way."""
        for host in (text, f"{text}.relay.example.org", f"{SYSTEM}{text}"):
            found = DOMAIN.find(host)
            if found is not None:
                self.assertEqual(DOMAIN.find(found.authority), found)
                self.assertTrue(DOMAIN.includes(host))

    @given(st.text())
    def test_split(self, text: str) -> None:
        """A host is split, or refused with a sentence."""
        try:
            name, port = split_host(text)
        except ValueError as e:
            self.assertIn("host" if "port" not in str(e) else "port", str(e))
        else:
            self.assertEqual(name, name.lower())
            self.assertTrue(port is None or 0 < port < 65536)
