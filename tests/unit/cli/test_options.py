"""How command lines are read."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli import command as command_module
from dwcloud.cli.command import CommandOptions
from dwcloud.cli.commands import MainOptions
from dwcloud.cli.connect import ConnectCommand
from dwcloud.cli.forward import ForwardCommand, Forwarding, read_forwarding
from dwcloud.cli.options import (
    MEDIATOR_VARIABLE,
    Endpoint,
    read_endpoint,
    read_port,
    read_seconds,
    read_service_name,
)
from dwcloud.cli.serve import ServeCommand, read_publication
from dwcloud.cli.status import StatusCommand
from dwcloud.cli.system import AddServerCommand
from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.system_names import IN_USE, SystemReference
from tests.unit.cli.consoles import KeepingConsole

PEER = "0190163d-8694-8c3e-9a00-7ab7d7b42e1d"


class CommandLineTestCase(SynchronousTestCase):
    """Command lines without a mediator in the environment."""

    def setUp(self) -> None:
        """Clear the environment, and be signed in nowhere."""
        self.set_mediator(None)
        self.data = Path(self.mktemp())
        self.patch(os, "environ", {**os.environ, "XDG_DATA_HOME": str(self.data)})

    def set_mediator(self, value: str | None) -> None:
        """Set the variable, or remove it, for this test."""
        before = os.environ.pop(MEDIATOR_VARIABLE, None)
        if value is not None:
            os.environ[MEDIATOR_VARIABLE] = value

        def restore() -> None:
            os.environ.pop(MEDIATOR_VARIABLE, None)
            if before is not None:
                os.environ[MEDIATOR_VARIABLE] = before

        self.addCleanup(restore)

    def refused(self, options: CommandOptions, line: str) -> str:
        """The message with which a command line is refused."""
        return str(self.assertRaises(UsageError, options.parseOptions, line.split()))


class ValueTests(SynchronousTestCase):
    """Values of options and arguments."""

    def test_port(self) -> None:
        """Ports are numbers up to 65535."""
        self.assertEqual([read_port(t) for t in ("0", "80", "65535")], [0, 80, 65535])
        for text in ("", "-1", "65536", "http", "8 0", "٣", "9" * 5000):
            self.assertRaises(ValueError, read_port, text)

    def test_seconds(self) -> None:
        """Durations are positive and end."""
        self.assertEqual([read_seconds(t) for t in ("1", "0.5")], [1.0, 0.5])
        for text in ("", "0", "-1", "nan", "inf", "soon"):
            self.assertRaises(ValueError, read_seconds, text)

    def test_endpoint(self) -> None:
        """Hosts are names or addresses, ports are required."""
        self.assertEqual(read_endpoint("127.0.0.1:80"), Endpoint("127.0.0.1", 80))
        self.assertEqual(read_endpoint("nas.local:5"), Endpoint("nas.local", 5))
        self.assertEqual(read_endpoint("[::1]:80"), Endpoint("::1", 80))
        self.assertEqual(str(Endpoint("::1", 80)), "[::1]:80")
        for text in ("", "80", "host", ":80", "a b:80", "::1:80", "[127.0.0.1]:80"):
            self.assertRaises(ValueError, read_endpoint, text)

    def test_service_name(self) -> None:
        """Names of services are words."""
        for text in ("web", "ssh-2", "a", "x.y_z"):
            self.assertEqual(read_service_name(text), text)
        for text in ("", "-web", "a b", "a=b", "a:b", "x" * 65, "ü"):
            self.assertRaises(ValueError, read_service_name, text)

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever is typed is read or refused in words."""
        for read in (
            read_port,
            read_seconds,
            read_endpoint,
            read_service_name,
            read_forwarding,
            read_publication,
        ):
            try:
                read(text)
            except ValueError as e:
                self.assertTrue(str(e))


class ServeTests(CommandLineTestCase):
    """``dwcloud serve``."""

    def test_options_after_arguments(self) -> None:
        """Options may stand anywhere."""
        for line in (
            "web=127.0.0.1:80 --mediator cloud:99 ssh=[::1]:22 --json",
            "--json --mediator=cloud:99 web=127.0.0.1:80 ssh=[::1]:22",
            "-m cloud:99 --json -- web=127.0.0.1:80 ssh=[::1]:22",
        ):
            options = ServeCommand()
            options.parseOptions(line.split())
            self.assertEqual(options.mediator, MediatorAddress("cloud", 99))
            self.assertTrue(options["json"])
            self.assertEqual(
                options.services,
                {"web": Endpoint("127.0.0.1", 80), "ssh": Endpoint("::1", 22)},
            )

    def test_mediator_from_environment(self) -> None:
        """The variable replaces the option, the option wins."""
        self.set_mediator("cloud.example.org")
        options = ServeCommand()
        options.parseOptions(["web=127.0.0.1:80"])
        self.assertEqual(options.mediator, MediatorAddress("cloud.example.org"))
        options = ServeCommand()
        options.parseOptions(["web=127.0.0.1:80", "--mediator", "other"])
        self.assertEqual(options.mediator, MediatorAddress("other"))

    def test_bad_environment(self) -> None:
        """A bad variable is named as such."""
        self.set_mediator("not a host")
        self.assertIn(
            "DWCLOUD_MEDIATOR: 'not a host'", self.refused(ServeCommand(), "a=b:1")
        )

    def test_mediator_has_default_port(self) -> None:
        """The port is 3345 unless given."""
        options = ServeCommand()
        options.parseOptions(["web=127.0.0.1:80", "--mediator", "cloud"])
        assert options.mediator is not None
        self.assertEqual(options.mediator.port, 3345)

    def test_mediator_of_the_identity(self) -> None:
        """A system that is bound to a cloud is served there."""
        directory = Path(self.mktemp())
        directory.mkdir()
        CloudMembership("cloud.example.org:99", bytes(32), "garage").save(directory)
        options = ServeCommand()
        options.parseOptions(["web=127.0.0.1:80", "--identity", str(directory)])
        self.assertEqual(options.mediator, MediatorAddress("cloud.example.org", 99))
        self.set_mediator("other")
        self.assertEqual(options.mediator, MediatorAddress("other"))

    def test_identity(self) -> None:
        """The directory is the default one or the one named."""
        options = ServeCommand()
        options.parseOptions(["web=127.0.0.1:80", "--identity", "here"])
        self.assertEqual(options.identity_directory, Path("here"))
        options = ServeCommand()
        options.parseOptions(["web=127.0.0.1:80"])
        self.assertEqual(options.identity_directory.parts[-2:], ("dwcloud", "identity"))

    def test_refused(self) -> None:
        """Each mistake is named, with what would be right."""
        for line, text in (
            ("--mediator a", "name what to publish"),
            ("web --mediator a", "'web' has no '='"),
            ("web=127.0.0.1 --mediator a", "'127.0.0.1' has no port"),
            ("web=h:0 --mediator a", "port 0 cannot be connected to"),
            ("=h:1 --mediator a", "'' is not a service name"),
            ("a=h:1 a=h:2 --mediator a", "service 'a' is named twice"),
            ("a=h:1 --mediator a:b", "--mediator: 'b' in 'a:b' is not a port"),
            ("a=h:1 --tcp-port x", "--tcp-port: 'x' is not a port"),
            ("a=h:1 --port-mapping igd", "'igd' is not one of any, pcp, nat-pmp"),
            ("a=h:1 --interface lo", "--interface: 'lo' is not an IP address"),
            ("a=h:1 --no-lan", "--mediator (or DWCLOUD_MEDIATOR) is needed"),
            ("a=h:1 --identity=", "--identity: name a directory"),
            ("a=h:1 --bogus", "option --bogus not recognized"),
            ("a=h:1 --name x", "--name needs a cloud"),
            ("a=h:1 --name x/y --mediator a", "--name: 'x/y' cannot be a system's"),
            ("a=h:1 --mediator", "option --mediator requires argument"),
            ("a=h:1 --json=1", "option --json must not have an argument"),
        ):
            self.assertIn(text, self.refused(ServeCommand(), line), line)


class ClientCommandTests(CommandLineTestCase):
    """``dwcloud forward`` and ``dwcloud connect``."""

    def test_forward(self) -> None:
        """Ports are of loopback unless an address is named."""
        options = ForwardCommand()
        options.parseOptions(
            f"{PEER} 8080:web 0.0.0.0:81:web [::1]:0:ssh --mediator a".split()
        )
        self.assertEqual(
            options.forwardings,
            [
                Forwarding("127.0.0.1", 8080, "web"),
                Forwarding("0.0.0.0", 81, "web"),
                Forwarding("::1", 0, "ssh"),
            ],
        )
        self.assertEqual(str(options.peer), PEER)

    def test_connect_options(self) -> None:
        """How to connect is passed on."""
        options = ConnectCommand()
        options.parseOptions(
            f"{PEER} ssh --mediator a --prefer udp --timeout 2.5".split()
        )
        self.assertEqual(options.connect_options, ConnectOptions("auto", "udp", 2.5))
        self.assertEqual(options.service, "ssh")

    def test_connect_defaults(self) -> None:
        """Service and options may be left out."""
        options = ConnectCommand()
        options.parseOptions(f"{PEER.upper()} --mediator a".split())
        self.assertEqual(options.connect_options, ConnectOptions())
        self.assertEqual(options.service, "")

    def test_names(self) -> None:
        """A system may be called by its name, or be the one in use."""
        for line, peer, service in (
            ("garage ssh", SystemReference("", "garage"), "ssh"),
            ("Anna/Garage", SystemReference("anna", "garage"), ""),
            (". ssh", IN_USE, "ssh"),
            ("", IN_USE, ""),
        ):
            options = ConnectCommand()
            options.parseOptions(f"{line} --mediator a".split())
            self.assertEqual((options.peer, options.service), (peer, service))

    def test_forward_to_the_system_in_use(self) -> None:
        """Ports alone belong to the system in use."""
        options = ForwardCommand()
        options.parseOptions(["8080:web", "[::1]:0:ssh", "--mediator", "a"])
        self.assertEqual(options.peer, IN_USE)
        self.assertEqual([f.port for f in options.forwardings], [8080, 0])

    def test_lan_needs_no_mediator(self) -> None:
        """On the LAN nobody has to be asked."""
        options = ConnectCommand()
        options.parseOptions(f"{PEER} ssh --path lan".split())
        self.assertIsNone(options.mediator)

    def test_refused(self) -> None:
        """Each mistake is named, with what would be right."""
        for line, text in (
            ("", "expected PEER LOCALPORT:NAME..."),
            (f"{PEER}", "expected PEER LOCALPORT:NAME..."),
            (f"{PEER}x 1:web", f"PEER: '{PEER}x' is not a GUID"),
            ("a/b/c 1:web", "PEER: 'a/b/c' is neither a GUID nor the name"),
            (f"{PEER} web", "'web' names no service: expected LOCALPORT:NAME"),
            (f"{PEER} http:web", "'http' is not a port"),
            (f"{PEER} localhost:1:web", "'localhost' is not an IP address"),
            (f"{PEER} [1.2.3.4]:1:web", "1.2.3.4"),
            (f"{PEER} 1:web 1:ssh --mediator a", "port 1 is named twice"),
            (f"{PEER} 1:web", "name the mediator"),
            (f"{PEER} 1:web --path wifi", "--path: 'wifi' is not one of auto, lan"),
            (f"{PEER} 1:web --prefer lan", "--prefer: 'lan' is not one of udp, tcp"),
            (f"{PEER} 1:web --timeout 0", "--timeout: '0' is not a number of seconds"),
            (
                f"{PEER} 1:web --mediator a --path udp --prefer tcp",
                "--prefer tcp has no effect with --path udp",
            ),
            (
                f"{PEER} 1:web --mediator a --path lan --no-lan",
                "--path lan and --no-lan exclude each other",
            ),
        ):
            self.assertIn(text, self.refused(ForwardCommand(), line), line)

    def test_connect_refused(self) -> None:
        """A third word is one too many."""
        self.assertEqual(
            self.refused(ConnectCommand(), f"{PEER} a b --mediator c"),
            "expected PEER [NAME]",
        )


class StatusTests(CommandLineTestCase):
    """``dwcloud status``."""

    def test_nothing_is_needed(self) -> None:
        """Everything may be left out."""
        options = StatusCommand()
        options.parseOptions(["--no-lan"])
        self.assertIsNone(options.mediator)
        self.assertIsNone(options.peer)

    def test_peer(self) -> None:
        """A peer may be named, with the mediator that knows it."""
        options = StatusCommand()
        options.parseOptions([PEER, "--mediator", "a"])
        self.assertEqual(str(options.peer), PEER)

    def test_refused(self) -> None:
        """Each mistake is named."""
        for line, text in (
            (PEER, "name the mediator that knows PEER"),
            (f"{PEER} x --mediator a", "expected at most one PEER"),
            ("--identity=", "--identity: name a directory"),
        ):
            self.assertIn(text, self.refused(StatusCommand(), line), line)


class MainTests(CommandLineTestCase):
    """``dwcloud`` itself."""

    def help_of(self, *words: str) -> str:
        """What ``--help`` prints."""
        console = KeepingConsole()
        self.patch(command_module, "Console", lambda: console)
        stopped = self.assertRaises(
            SystemExit, MainOptions().parseOptions, [*words, "--help"]
        )
        self.assertFalse(stopped.code)
        return "\n".join(console.lines)

    def test_commands(self) -> None:
        """All commands are named."""
        text = self.help_of()
        for name in [
            "serve",
            "forward",
            "connect",
            "account",
            "system",
            "status",
            "demo",
        ]:
            self.assertIn(f"    {name} ", text)

    def test_command_help(self) -> None:
        """Each command's help has its synopsis, all options, and tells what it does."""
        for words, synopsis, options in (
            (["serve"], "NAME=HOST:PORT...", ["mediator=", "identity=", "json"]),
            (["forward"], "[PEER] LOCALPORT:NAME...", ["path=", "prefer=", "timeout="]),
            (["connect"], "[PEER] [NAME]", ["path=", "prefer=", "timeout=", "json"]),
            (["demo"], "[--json] [--keep]", ["json", "keep"]),
            (["status"], "[PEER] [--mediator HOST[:PORT]]", ["mediator=", "json"]),
            (["system", "add-server"], "NEWDIR", ["identity="]),
            (["system"], "COMMAND", ["version"]),
            (["account", "login"], "[NAME]", ["mediator=", "totp=", "password-file="]),
        ):
            text = self.help_of(*words)
            self.assertTrue(
                text.startswith(f"Usage: dwcloud {' '.join(words)} {synopsis}"), text
            )
            for option in options:
                self.assertIn(f"--{option} ", text)
            self.assertTrue(all(len(line) <= 80 for line in text.splitlines()), text)

    def test_innermost_command_is_blamed(self) -> None:
        """The error knows whose help is of use."""
        for line, command in (
            ("", "dwcloud"),
            ("nonsense", "dwcloud"),
            ("serve", "dwcloud serve"),
            ("serve --bogus", "dwcloud serve"),
            ("system", "dwcloud system"),
            ("system create extra", "dwcloud system create"),
            ("account", "dwcloud account"),
            ("account login a b", "dwcloud account login"),
        ):
            error = self.assertRaises(
                UsageError, MainOptions().parseOptions, line.split()
            )
            self.assertEqual(error.command, command)  # type: ignore[attr-defined]

    def test_add_server_needs_a_directory(self) -> None:
        """There is no default for the new server."""
        self.assertIn(
            "name the directory", self.refused(AddServerCommand(), "--identity x")
        )
