"""``dwcloud system``: what needs no cloud to be told, and who is meant by a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.cloud_access import find_peer
from dwcloud.cli.connect import ConnectCommand
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.options import read_new_name
from dwcloud.cli.system import AddServerCommand, CreateCommand, ShowCommand
from dwcloud.cli.system_cloud import (
    BindCommand,
    RenameCommand,
    UnbindCommand,
    UseCommand,
    name_of_this_machine,
)
from dwcloud.cli.system_sharing import AcceptCommand, ShareCommand, UnshareCommand
from dwcloud.cli.terminal import Terminal
from dwcloud.errors import NotSignedIn
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.system_names import SystemReference
from dwcloud.protocol.names import PeerName
from tests.unit.cli.consoles import KeepingConsole
from tests.unit.cli.test_options import PEER, CommandLineTestCase

MEMBERSHIP = CloudMembership("cloud.example.org:3345", bytes(range(32)), "garage")


class NameTests(SynchronousTestCase):
    """Names that systems are given."""

    def test_new_names(self) -> None:
        """Case does not matter; everything else that is no name is refused."""
        self.assertEqual(read_new_name("Garage.2"), "garage.2")
        for text in ("", "-x", "a b", "anna/garage", "ü", "x" * 64):
            error = self.assertRaises(ValueError, read_new_name, text)
            self.assertIn("such as garage", str(error))

    def test_of_this_machine(self) -> None:
        """The machine's own name will do, whatever it is."""
        self.assertTrue(read_new_name(name_of_this_machine()))

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever is typed is read or refused in words."""
        try:
            self.assertEqual(read_new_name(text), text.lower())
        except ValueError as e:
            self.assertTrue(str(e))


class CommandLineTests(CommandLineTestCase):
    """Words and options."""

    def test_refused(self) -> None:
        """Each mistake is named, with what would be right."""
        for command, line, text in (
            (BindCommand, "a b --mediator c", "expected at most one NAME"),
            (BindCommand, "a/b --mediator c", "NAME: 'a/b' cannot be"),
            (BindCommand, "a", "name the mediator"),
            (CreateCommand, "a", "name the mediator"),
            (UseCommand, "--mediator c", "expected NAME"),
            (UseCommand, "a/b/c --mediator c", "NAME: 'a/b/c' is neither"),
            (RenameCommand, "a --mediator c", "expected NAME NEWNAME"),
            (RenameCommand, "a -- -b", "NEWNAME: '-b' cannot be"),
            (ShareCommand, "a b c --mediator c", "expected NAME [ACCOUNT]"),
            (ShareCommand, "a --role king", "--role: 'king' is not one of viewer"),
            (UnshareCommand, "--mediator c", "expected NAME [ACCOUNT]"),
            (AcceptCommand, "--mediator c", "expected CODE"),
            (UnbindCommand, "--yes --mediator c", "expected NAME"),
        ):
            error = self.assertRaises(UsageError, command().parseOptions, line.split())
            self.assertIn(text, str(error), line)

    def test_create_without_a_cloud(self) -> None:
        """An identity alone needs none."""
        options = CreateCommand()
        options.parseOptions(["--identity", self.mktemp(), "--json"])
        console = KeepingConsole()
        self.assertEqual(options.run(console), 0)
        made = json.loads(console.lines[0])
        self.assertEqual((made["cloud"], made["name"]), (None, None))


class MembershipTests(CommandLineTestCase):
    """The cloud of an identity."""

    def setUp(self) -> None:
        """Have a system that is bound."""
        super().setUp()
        self.directory = Path(self.mktemp())
        self.run_command(CreateCommand(), "--identity", str(self.directory))
        MEMBERSHIP.save(self.directory)

    def run_command(self, options: Any, *words: str) -> list[str]:
        """Run it; return its lines."""
        console = KeepingConsole()
        options.parseOptions([*words])
        self.assertEqual(options.run(console), 0)
        return console.lines

    def test_shown(self) -> None:
        """It is told where the system belongs."""
        lines = self.run_command(ShowCommand(), "--identity", str(self.directory))
        self.assertEqual(lines[-1], "cloud     garage at cloud.example.org:3345")

    def test_further_server(self) -> None:
        """A server that is added pins the same key."""
        new = Path(self.mktemp())
        words = (str(new), "--identity", str(self.directory))
        self.run_command(AddServerCommand(), *words)
        self.assertEqual(CloudMembership.load(new), MEMBERSHIP)


class FindingTests(CommandLineTestCase):
    """Whom a person means, where no cloud answers."""

    def find(self, reference: Any, *words: str) -> Deferred[Any]:
        """Find it for ``dwcloud connect`` with these options."""
        options = ConnectCommand()
        options.parseOptions([PEER, *words])
        finding = find_peer(Clock(), options, KeepingConsole(), reference)
        return Deferred.fromCoroutine(finding)

    def test_guid_on_the_lan(self) -> None:
        """A GUID needs neither mediator nor account."""
        peer = PeerName.parse(PEER)
        found = self.successResultOf(self.find(peer, "--path", "lan"))
        self.assertEqual(found, (peer, None))

    def test_guid_at_a_mediator(self) -> None:
        """Whoever is not signed in has a GUID, and no grant for it."""
        peer = PeerName.parse(PEER)
        found, account = self.successResultOf(self.find(peer, "--mediator", "a"))
        self.assertEqual(found, peer)
        self.assertIsNone(self.successResultOf(account.grant_for(peer)))

    def test_name_without_a_mediator(self) -> None:
        """Nobody knows what a name means."""
        garage = SystemReference("", "garage")
        finding = self.find(garage, "--path", "lan")
        error = self.failureResultOf(finding, CommandFailed).value
        self.assertIn("garage is the name of a system", str(error))

    def test_name_without_an_account(self) -> None:
        """Where nobody can be asked, the error says how to sign in."""
        garage = SystemReference("", "garage")
        # There is no terminal, or it belongs to whoever runs the tests.
        self.patch(Terminal, "present", False)
        finding = self.find(garage, "--mediator", "a")
        error = self.failureResultOf(finding, NotSignedIn).value
        self.assertIn("dwcloud account login --mediator a:3345", str(error))
