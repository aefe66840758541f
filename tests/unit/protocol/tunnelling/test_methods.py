"""Tunnelling methods: their registry, ``upgrade``, and the URLs they go to."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.methods import Opening, TunnellingMethods
from dwcloud.protocol.tunnelling.upgrade import UpgradeMethod, wants_upgrade
from dwcloud.protocol.tunnelling.urls import ServiceURL

OPENING = Opening("/x/tunnel", "dwcloud-relay", ((b"authorization", b"T 1"),))


class RegistryTests(SynchronousTestCase):
    def test_found_by_name(self) -> None:
        """A registered method is found by its name, in the order of cost."""
        methods = TunnellingMethods()
        upgrade = UpgradeMethod()
        methods.register(upgrade)
        self.assertIs(methods.get("upgrade"), upgrade)
        self.assertEqual(methods.names, ("upgrade",))

    def test_twice(self) -> None:
        """Two methods cannot have one name."""
        methods = TunnellingMethods([UpgradeMethod()])
        self.assertRaises(ValueError, methods.register, UpgradeMethod())

    def test_unknown(self) -> None:
        """An unknown name is answered with those there are."""
        error = self.assertRaises(
            ValueError, TunnellingMethods([UpgradeMethod()]).get, "pigeon"
        )
        self.assertEqual(
            str(error), "'pigeon' is not a tunnelling method: expected one of upgrade"
        )


class UpgradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.method = UpgradeMethod()

    def test_request(self) -> None:
        """One GET with the header fields of RFC 9110, 7.8, and ours."""
        (head,) = self.method.requests(OPENING)
        self.assertEqual((head.method, head.target), ("GET", "/x/tunnel/upgrade"))
        self.assertTrue(wants_upgrade(head.headers, "dwcloud-relay"))
        self.assertIn((b"authorization", b"T 1"), head.headers)

    def test_accepted(self) -> None:
        """101 for our protocol opens the tunnel."""
        headers = ((b"connection", b"upgrade"), (b"upgrade", b"DWCloud-Relay"))
        self.method.check_answer(OPENING, 0, 101, headers)

    def test_refused(self) -> None:
        """Anything else does not, and keeps its status."""
        for status in (101, 200, 403, 503):
            error = self.assertRaises(
                RemoteProtocolError, self.method.check_answer, OPENING, 0, status, ()
            )
            self.assertEqual(error.code, status)

    def test_wants_upgrade(self) -> None:
        """Both fields count, as lists, in either case."""
        for connection, upgrade, wanted in [
            (b"Upgrade", b"x", True),
            (b"keep-alive, UPGRADE", b"a, X", True),
            (b"close", b"x", False),
            (b"upgrade", b"y", False),
        ]:
            headers = ((b"connection", connection), (b"upgrade", upgrade))
            self.assertEqual(wants_upgrade(headers, "x"), wanted)
        self.assertFalse(wants_upgrade((), "x"))


class ServiceURLTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Scheme, host, port and path are found; the text form is the short one."""
        for text, url, authority in [
            ("http://h", ServiceURL("http", "h", 80), "h"),
            ("https://H:443/", ServiceURL("https", "h", 443), "h"),
            (
                "http://[::1]:3349/a/",
                ServiceURL("http", "::1", 3349, "/a"),
                "[::1]:3349",
            ),
        ]:
            self.assertEqual(ServiceURL.parse(text), url)
            self.assertEqual(url.authority, authority)
            self.assertEqual(ServiceURL.parse(str(url)), url)
        self.assertTrue(ServiceURL.parse("https://h").secure)

    def test_wrong(self) -> None:
        """What is no URL of a service is refused with an example."""
        for text in [
            "",
            "h:3349",
            "ftp://h",
            "http://",
            "http://h:x",
            "http://h:70000",
            "http://u:p@h",
            "http://h/?q",
            "http://h/#f",
            "http://h/ x",
            "http://é",
        ]:
            error = self.assertRaises(ValueError, ServiceURL.parse, text)
            self.assertIn("http://relay.example.org:3349", str(error))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Any text is a URL or a ValueError, and what is one can be written."""
        for candidate in (text, f"http://{text}"):
            try:
                url = ServiceURL.parse(candidate)
            except ValueError:
                continue
            self.assertEqual(ServiceURL.parse(str(url)), url)
