"""The options that let browsers in, and what is said when they do not fit."""

from __future__ import annotations

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.signing import SigningKey, public_key_text
from dwcloud.protocol.gateway.hosts import WebDomain
from dwcloud.relay import tap
from dwcloud.relay.tap import Options, makeService
from dwcloud.testing import World

KEY = SigningKey.from_bytes(bytes(32)).public_key
WEB = ("--web-domain", "relay.example.org")
ENDPOINT = ("--web-endpoint", "tcp:8443:interface=127.0.0.1")
PORTAL = ("--portal", "https://mediator.example.org:3345/")
CLOUD = ("--cloud-key", public_key_text(KEY))


class GatewayOptionsTests(SynchronousTestCase):
    """Options of ``twistd relay``."""

    def read(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def refused(self, *arguments: str) -> str:
        return str(self.assertRaises(UsageError, self.read, *arguments))

    def test_all(self) -> None:
        """All of them together make a gateway, and the relay listens for it."""
        self.patch(tap, "on_all_addresses", str)
        options = self.read(*WEB, *ENDPOINT, *PORTAL, *CLOUD)
        settings = options["gateway"]
        self.assertEqual(settings.domain, WebDomain("relay.example.org"))
        self.assertEqual(settings.portal, "https://mediator.example.org:3345")
        self.assertEqual(settings.cloud_key, KEY)
        service = makeService(options, World().internet().host("203.0.113.5").reactor)
        (relay,) = service
        self.assertEqual(
            [listening.description for listening in relay], ["tcp:3349", ENDPOINT[1]]
        )
        self.assertEqual(relay.gateway.domain, WebDomain("relay.example.org"))
        # Browsers offer HTTP/2 as well, and want to be told.
        self.assertEqual(relay.gateway.acceptableProtocols(), [b"http/1.1"])
        self.assertEqual(relay.http.acceptableProtocols(), [b"http/1.1"])

    def test_none(self) -> None:
        """Without them no browser is let in."""
        self.assertIsNone(self.read()["gateway"])

    def test_incomplete(self) -> None:
        """Each that is missing is named, with an example."""
        self.assertIn("--web-endpoint ssl:443", self.refused(*WEB, *PORTAL, *CLOUD))
        self.assertIn("--portal https://", self.refused(*WEB, *ENDPOINT, *CLOUD))
        self.assertIn("--cloud-key", self.refused(*WEB, *ENDPOINT, *PORTAL))
        self.assertIn("--web-domain", self.refused(*ENDPOINT))
        self.assertIn("--web-domain", self.refused(*PORTAL))

    def test_mistakes(self) -> None:
        """What is wrong with a value is said."""
        for arguments, words in (
            (("--web-domain", "https://relay.example.org"), "without scheme"),
            (("--web-endpoint", "443"), "not an endpoint"),
            (("--web-endpoint", "tcp:443"), "TLS"),
            (("--web-endpoint", "tcp:443:interface=192.0.2.1"), "TLS"),
            (("--web-endpoint", "tcp:443:interface=localhost.evil"), "TLS"),
            (("--portal", "mediator.example.org"), "https"),
            (("--portal", "http://mediator.example.org"), "TLS"),
        ):
            self.assertIn(words, self.refused(*arguments), arguments)
        self.read("--web-endpoint", r"tcp:443:interface=\:\:1", *WEB, *PORTAL, *CLOUD)

    def test_workers(self) -> None:
        """Sessions of browsers are known to one process only."""
        words = self.refused("--workers", "2", *WEB, *ENDPOINT, *PORTAL, *CLOUD)
        self.assertIn("one process", words)
