"""``twistd relay``: options, errors, and the service."""

from __future__ import annotations

import io
import uuid
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError, PortUnavailable
from dwcloud.net.listening import ListeningService, parse_endpoint
from dwcloud.net.signing import SigningKey
from dwcloud.relay import tap
from dwcloud.relay.tap import Options, makeService
from dwcloud.testing import World

SYSTEM = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"


class OptionTests(SynchronousTestCase):
    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_defaults(self) -> None:
        """Without options the relay listens on tcp:3349 and serves anyone."""
        self.patch(tap, "on_all_addresses", str)
        self.assertEqual(
            dict(self.parse()),
            {
                "listen": ["tcp:3349"],
                "public-url": "",
                "allow-system": [],
                "peer-relay": [],
                "cloud-key": None,
                "drain": 0.0,
                "workers": 1,
                "metrics-from": [],
                "log-format": None,
                "web-domain": None,
                "web-endpoint": [],
                "portal": None,
                "gateway": None,
            },
        )

    def test_cloud_key(self) -> None:
        """The key of the cloud is given as such or by its file."""
        directory = Path(self.mktemp())
        public = directory / "cloud.pub"
        key = SigningKey.load_or_create(directory / "cloud.key", public)
        for text in (str(public), public.read_text().strip()):
            options = self.parse("--cloud-key", text)
            self.assertEqual(options["cloud-key"], key.public_key)
        for wrong in ("nonsense", str(directory / "cloud.key"), str(directory / "no")):
            error = self.assertRaises(UsageError, self.parse, "--cloud-key", wrong)
            self.assertIn("--cloud-key", str(error))
            self.assertIn("44 characters", str(error))

    def test_everything(self) -> None:
        """Options may be repeated where that makes sense."""
        options = self.parse(
            "--listen=tcp:80",
            "--listen=tcp:3349:interface=127.0.0.1",
            "--public-url=https://relay.example.org/",
            f"--allow-system={SYSTEM}",
            "--allow-system=" + str(uuid.UUID(int=1)),
            "--peer-relay=http://relay2.example.org:3349",
            "--peer-relay=https://relay3.example.org",
            "--drain=600",
            "--workers=4",
        )
        self.assertEqual(options["workers"], 4)
        self.assertEqual(
            [str(url) for url in options["peer-relay"]],
            ["http://relay2.example.org:3349", "https://relay3.example.org"],
        )
        self.assertEqual(options["drain"], 600.0)
        self.assertEqual(options["listen"][0], "tcp:80")
        self.assertEqual(options["public-url"], "https://relay.example.org")
        self.assertEqual(options["allow-system"], [uuid.UUID(SYSTEM), uuid.UUID(int=1)])

    def test_mistakes(self) -> None:
        """Each mistake is named, with what would be right."""
        for argument, wrong, right in [
            ("--listen=pigeon:1", "pigeon:1", "tcp:3349"),
            ("--peer-relay=relay2", "--peer-relay", "http"),
            ("--listen=tcp", "tcp", "tcp:3349"),
            ("--listen=tcp:x", "tcp:x", "tcp:3349"),
            ("--public-url=relay", "relay", "http://relay.example.org:3349"),
            ("--allow-system=1", "'1'", "36 characters"),
            ("--drain=soon", "'soon'", "seconds"),
            ("--drain=-1", "'-1'", "seconds"),
            ("--drain=nan", "'nan'", "seconds"),
            ("--workers=0", "'0'", "1 to 64"),
            ("--workers=65", "'65'", "1 to 64"),
            ("--workers=all", "'all'", "such as 4"),
            ("3349", "3349", "--listen"),
        ]:
            error = self.assertRaises(UsageError, self.parse, argument)
            self.assertIn(wrong, str(error))
            self.assertIn(right, str(error))

    def test_help(self) -> None:
        """The help explains what it is and every option, without gaps."""
        text = str(Options())
        for word in ("--listen", "--public-url", "--allow-system", "GUID", "tcp:3349"):
            self.assertIn(word, text)
        self.assertNotIn(":  `", text)

    def test_version(self) -> None:
        """--version tells dwcloud's version."""
        with redirect_stdout(io.StringIO()) as output:
            self.assertRaises(SystemExit, self.parse, "--version")
        self.assertRegex(output.getvalue(), r"^dwcloud \d+\.\d+")


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World()
        self.host = self.world.internet().host("203.0.113.5")
        self.options = Options()
        self.options.parseOptions([])

    def test_listens(self) -> None:
        """The service listens where the options say, and stops."""
        service: Any = makeService(self.options, self.host.reactor)
        self.assertTrue(IService.providedBy(service))
        service.privilegedStartService()
        service.startService()
        (relay,) = service
        self.assertEqual([port.getHost().port for port in relay.ports], [3349])
        self.world.run_until(service.stopService())
        self.assertEqual(relay.ports, [])

    def test_port_in_use(self) -> None:
        """A port that another program has ends the program with one line."""
        first: Any = makeService(self.options, self.host.reactor)
        first.startService()
        second = makeService(self.options, self.host.reactor)
        error = self.assertRaises(SystemExit, second.privilegedStartService)
        self.assertIn("relay cannot listen on tcp:3349", str(error))
        self.world.run_until(first.stopService())

    def test_listening_service(self) -> None:
        """A program that embeds the service gets an error it can trap."""
        reactor = MemoryReactorClock()

        def refuse(*args: object, **kwargs: object) -> None:
            raise CannotListenError("", 1, OSError("taken"))

        reactor.listenTCP = refuse
        service = ListeningService(reactor, "relay", "tcp:1", None)  # type: ignore[arg-type]
        error = self.assertRaises(PortUnavailable, service.startService)
        self.assertEqual(str(error), "relay cannot listen on tcp:1: taken")

    def test_endpoint_string(self) -> None:
        """A wrong endpoint string is a ConfigurationError."""
        self.assertRaises(
            ConfigurationError, parse_endpoint, MemoryReactorClock(), "tcp:-:x:y:z:z"
        )
