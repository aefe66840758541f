"""The command line of ``twistd mediator``."""

from __future__ import annotations

import contextlib
import io
import os
import sqlite3
import sys
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.testing import MemoryReactorClock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator import tap
from dwcloud.mediator.configuration import (
    AllowAnyone,
    AllowListed,
    MediatorConfiguration,
)
from dwcloud.mediator.service import MediatorService, UDPSocket
from dwcloud.mediator.tap import Options, makeService
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.parameters import KeepAlive, Transport
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.behaviour import BehaviourServer
from dwcloud.testing import World

GUID = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"


def parse(*arguments: str) -> Options:
    """Read a command line."""
    options = Options()
    options.reactor = MemoryReactorClock()
    options.parseOptions(list(arguments))  # type: ignore[no-untyped-call]
    return options


class OptionTests(SynchronousTestCase):
    """What the options mean."""

    def configuration(self, *arguments: str) -> MediatorConfiguration:
        configuration: MediatorConfiguration = parse(*arguments)["configuration"]
        return configuration

    def test_defaults(self) -> None:
        """Without options: TCP and UDP port 3345, and a relay beside it."""
        self.patch(tap, "on_all_addresses", str)
        options = parse()
        self.assertEqual([s.description for s in options["streams"]], ["tcp:3345"])
        self.assertEqual(options["datagrams"], [UDPSocket(3345)])
        configuration = options["configuration"]
        self.assertEqual(configuration.relay_urls, ("http://:3349",))
        self.assertIsInstance(configuration.policy, AllowAnyone)
        self.assertEqual(configuration.keep_alive, KeepAlive(10.0, 10.0, 3))

    def test_both_versions_of_ip(self) -> None:
        """Where a socket takes both, the default ones do."""
        self.patch(tap, "on_all_addresses", r"{}:interface=\:\:".format)
        options = parse()
        self.assertEqual(
            [s.description for s in options["streams"]], [r"tcp:3345:interface=\:\:"]
        )
        self.assertEqual(options["datagrams"], [UDPSocket(3345, "::")])
        # These are not addresses of its own, by which to explore NATs.
        for first in ([], ["--udp=3345"], [r"--udp=3345:interface=\:\:0"]):
            error = self.assertRaises(
                UsageError, parse, "--udp-other=192.0.2.2:3346", *first
            )
            self.assertIn("an address of its own", str(error))

    def test_sockets(self) -> None:
        """Sockets can be repeated, bound to an address, and left out."""
        options = parse(
            "--listen=tcp:1",
            "--listen=tcp:2:interface=127.0.0.1",
            "--https=tcp:3",
            "--udp=4",
            "--udp=5:interface=127.0.0.1",
            "--udp=6:interface=\\:\\:1",
        )
        self.assertEqual(
            [(s.kind, s.description) for s in options["streams"]],
            [
                ("tcp", "tcp:1"),
                ("tcp", "tcp:2:interface=127.0.0.1"),
                ("https", "tcp:3"),
            ],
        )
        self.assertEqual(
            options["datagrams"],
            [UDPSocket(4), UDPSocket(5, "127.0.0.1"), UDPSocket(6, "::1")],
        )
        self.assertEqual(parse("--udp=none")["datagrams"], [])
        options = parse("--udp=5:interface=127.0.0.1", "--udp-other=127.0.0.2")
        other = BehaviourServer(Address("127.0.0.1", 5), Address("127.0.0.2", 6))
        self.assertEqual(options["datagrams"], [UDPSocket(5, "127.0.0.1", other)])
        self.assertEqual(parse("--listen=none")["streams"], [])

    def test_relays(self) -> None:
        """Relays can be repeated, or switched off."""
        two = self.configuration("--relay=http://a:1", "--relay=https://b")
        self.assertEqual(two.relay_urls, ("http://a:1", "https://b"))
        self.assertEqual(self.configuration("--relay=none").relay_urls, ())

    def test_parameters(self) -> None:
        """Parameters go where they belong."""
        configuration = self.configuration(
            "--parameter=ack_timeout=5",
            "--parameter=preferred_transport=tcp",
            "--parameter=keep_alive_idle=20",
            "--parameter=keep_alive_misses=5",
            "--parameter=reconnect_delay=2.5",
        )
        self.assertEqual(configuration.parameters.ack_timeout, 5.0)
        self.assertIs(configuration.parameters.preferred_transport, Transport.TCP)
        self.assertEqual(configuration.keep_alive, KeepAlive(20.0, 10.0, 5))
        self.assertEqual(configuration.reconnect_delay, 2.5)

    def test_allowed_systems(self) -> None:
        """With a list only its systems may register."""
        policy = self.configuration(f"--allow-system={GUID}").policy
        self.assertEqual(policy, AllowListed(frozenset([uuid.UUID(GUID)])))
        policy.check(PeerName(uuid.UUID(GUID), uuid.uuid4()))
        error = self.assertRaises(
            RemoteProtocolError, policy.check, PeerName(uuid.uuid4(), uuid.uuid4())
        )
        self.assertEqual(error.code, 403)

    def test_mistakes(self) -> None:
        """Each mistake is told with what was wrong and what would be right."""
        for arguments, *expected in (
            (["--udp=x"], "--udp x", "3345"),
            (["--udp=70000"], "--udp 70000", "3345"),
            (["--udp=1:interface=eth0"], "interface=eth0", "an IP address"),
            (["--listen=nonsense:1"], "nonsense", "tcp:3345"),
            (["--listen=tcp:x"], "tcp:x", "tcp:3345"),
            (["--listen=none", "--listen=tcp:1"], "--listen none"),
            (["--listen=none", "--udp=none"], "no socket"),
            (["--https=nonsense"], "--https nonsense", "tcp:3345"),
            (["--relay=ftp://a"], "ftp://a", "http://:3349"),
            (["--relay=http://a:x"], "http://a:x", "http://:3349"),
            (["--relay=http://a"] * 5, "at most 4"),
            (["--parameter=ack_timeout"], "NAME=VALUE", "ack_timeout=3"),
            (["--parameter=ack_timeout=soon"], "ack_timeout='soon'", "seconds"),
            (["--parameter=colour=red"], "'colour'", "relay_grace"),
            (["--parameter=idle=5"], "'idle'", "keep_alive_idle, keep_alive_interval"),
            (["--parameter=keep_alive_idle=0"], "keep_alive_idle=0", "between 1"),
            (["--allow-system=me"], "'me' is not a GUID", "36 characters"),
            (["--colour=red"], "colour"),
            (["--registration=some", "--accounts=x"], "some", "open, invited, closed"),
            (["--registration=open"], "--registration", "--accounts DIRECTORY"),
            (["--web-gateway=r.example"], "--web-gateway", "--accounts DIRECTORY"),
            (["--web-gateway=https://r"], "--web-gateway", "without scheme"),
            (["--database=postgresql://x"], "--database", "--accounts DIRECTORY"),
        ):
            error = self.assertRaises(UsageError, parse, *arguments)
            for part in expected:
                self.assertIn(part, str(error))

    def test_help(self) -> None:
        """The help names each option and parameter, and gives examples."""
        text = parse().getUsage(80)
        for part in (
            "--listen=",
            "--udp=",
            "--https=",
            "--relay=",
            "--parameter=",
            "--allow-system=",
            "--accounts=",
            "--database=",
            "--registration=",
            "ack_timeout",
            "keep_alive_misses",
            "twistd -n mediator --relay https://relay.example.org",
        ):
            self.assertIn(part, text)
        self.assertNotIn("{", text)

    def test_version(self) -> None:
        """The version is that of dwcloud, not that of Twisted."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        self.assertRaises(SystemExit, parse, "--version")
        self.assertEqual(output.getvalue(), f"dwcloud {version('dwcloud')}\n")


class ServiceTests(SynchronousTestCase):
    """The service that twistd runs."""

    def test_accounts(self) -> None:
        """With accounts it makes its keys, and tells what it cannot use."""
        host = World().internet().host("192.0.2.1")
        reactor: Any = host.reactor
        directory = Path(self.mktemp())
        options = parse(f"--accounts={directory}", "--registration=closed")
        service = makeService(options, reactor)
        assert isinstance(service, MediatorService)
        for name in ("cloud.pub", "https.crt", "seal.key"):
            self.assertTrue((directory / name).exists())
        (directory / "seal.key").write_bytes(b"short")
        error = self.assertRaises(UsageError, makeService, options, reactor)
        self.assertIn("seal.key", str(error))

    def test_other_user(self) -> None:
        """With ``twistd --uid`` all files belong to the user it will run as."""
        given: dict[str, tuple[int, int]] = {}
        self.patch(
            os, "chown", lambda path, *owner: given.__setitem__(path.name, owner)
        )
        directory = Path(self.mktemp())
        options = parse(f"--accounts={directory}")
        options.parent = {"uid": 1234, "gid": None}
        reactor: Any = World().internet().host("192.0.2.1").reactor
        makeService(options, reactor)
        files = {path.name for path in directory.iterdir()}
        self.assertIn("operator.key", files)
        self.assertEqual(given, dict.fromkeys({*files, directory.name}, (1234, -1)))

    def test_newer_database(self) -> None:
        """A database of a newer program ends twistd with one line that says so."""
        host = World().internet().host("192.0.2.1")
        reactor: Any = host.reactor
        directory = Path(self.mktemp())
        service = makeService(parse(f"--accounts={directory}"), reactor)
        with contextlib.closing(
            sqlite3.connect(directory / "accounts.sqlite")
        ) as database:
            database.execute("CREATE TABLE schema_version (version INTEGER)")
            database.execute("INSERT INTO schema_version VALUES (99)")
            database.commit()
        error = self.assertRaises(SystemExit, service.startService)
        self.assertIn("version 99", str(error.code))
        self.assertIn("newer", str(error.code))

    def test_made(self) -> None:
        """It opens the sockets of the options."""
        host = World().internet().host("192.0.2.1")
        reactor: Any = host.reactor
        service = makeService(parse(), reactor)
        self.assertTrue(IService.providedBy(service))
        assert isinstance(service, MediatorService)
        service.privilegedStartService()
        service.startService()
        self.assertEqual([kind for kind, _ in service.addresses], ["tcp", "udp"])

    def test_port_in_use(self) -> None:
        """A port in use ends twistd with one line that says so."""
        host = World().internet().host("192.0.2.1")
        reactor: Any = host.reactor
        makeService(parse(), reactor).privilegedStartService()
        second = makeService(parse(), reactor)
        error = self.assertRaises(SystemExit, second.privilegedStartService)
        self.assertIn("3345", str(error.code))
        self.assertIn("--listen", str(error.code))
