"""``dwcloud account``: what needs no cloud to be told."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from twisted.python.usage import UsageError

from dwcloud.cli.account import (
    ForgetCommand,
    ListCommand,
    LoginCommand,
    UseCommand,
    picture,
)
from dwcloud.cli.cloud_access import read_lines
from dwcloud.cli.connect import ConnectCommand
from dwcloud.errors import ConfigurationError
from dwcloud.peer.credentials import Credentials, CredentialStore
from dwcloud.peer.known_clouds import KnownCloud, KnownClouds
from dwcloud.peer.mediator_address import MediatorAddress
from tests.unit.cli.consoles import KeepingConsole
from tests.unit.cli.test_options import PEER, CommandLineTestCase

CREDENTIALS = Credentials("anna", uuid.UUID(int=5), "a", 1.0, "r", b"k" * 32)


class AccountTests(CommandLineTestCase):
    """``dwcloud account``, as far as the command line goes."""

    def test_a_cloud_is_needed(self) -> None:
        """Nobody is asked who is not named."""
        self.assertIn("name the mediator", self.refused(LoginCommand(), "anna"))

    def test_refused(self) -> None:
        """Each mistake is named, with what would be right."""
        for line, text in (
            ("a b --mediator c", "expected at most one NAME"),
            ("--mediator c --fingerprint abc", "--fingerprint: 'abc' is none"),
            ("--mediator c:x", "'x' in 'c:x' is not a port"),
        ):
            self.assertIn(text, self.refused(LoginCommand(), line), line)
        self.assertIn("expected CLOUD", self.refused(ForgetCommand(), ""))
        self.assertIn(
            "CLOUD: 'a b'",
            str(self.assertRaises(UsageError, ForgetCommand().parseOptions, ["a b"])),
        )

    def test_where_one_is_signed_in(self) -> None:
        """Without a mediator the cloud is meant where this person is signed in."""
        CredentialStore().save("cloud.example.org:3345", CREDENTIALS)
        options = ConnectCommand()
        options.parseOptions([PEER])
        self.assertEqual(options.mediator, MediatorAddress("cloud.example.org"))
        self.set_mediator("other")
        self.assertEqual(options.mediator, MediatorAddress("other"))

    def test_damaged_credentials(self) -> None:
        """A file that cannot be read is told at once."""
        file = CredentialStore().file
        file.parent.mkdir(parents=True)
        file.write_text("{")
        options = ConnectCommand()
        self.assertRaises(ConfigurationError, options.parseOptions, [PEER])

    def test_list(self) -> None:
        """Clouds and accounts, with the one that is meant."""
        console = KeepingConsole()
        options = ListCommand()
        options.run(console)
        self.assertIn("not signed in anywhere", console.messages[0])
        for cloud in ("a:1", "b:1"):
            credentials = Credentials(
                "anna", uuid.UUID(int=5), "a", 1.0, "r", b"k" * 32
            )
            CredentialStore().save(cloud, credentials)
        use = UseCommand()
        use.parseOptions(["B:1"])
        self.assertEqual(use.run(console), 0)
        console.lines.clear()
        options.run(console)
        self.assertEqual(
            [line.split() for line in console.lines[2:]],
            [["a:1", "anna", "file"], ["*", "b:1", "anna", "file"]],
        )

    def test_forget(self) -> None:
        """Key and session are gone."""
        CredentialStore().save("a:3345", CREDENTIALS)
        KnownClouds().set("a:3345", KnownCloud("SHA256:x"))
        forget = ForgetCommand()
        forget.parseOptions(["a", "--json"])
        console = KeepingConsole()
        self.assertEqual(forget.run(console), 0)
        self.assertEqual(
            json.loads(console.lines[0]), {"event": "forgotten", "cloud": "a:3345"}
        )
        self.assertEqual(CredentialStore().clouds(), {})
        self.assertIsNone(KnownClouds().get("a:3345"))

    def test_password_lines(self) -> None:
        """A file has as many lines as passwords are needed."""
        file = Path(self.mktemp())
        file.write_text("old\nnew\n")
        self.assertEqual(read_lines(str(file), 2), ["old", "new"])
        for count, text in ((1, "expected the password on one line"), (3, "3 lines")):
            error = self.assertRaises(ConfigurationError, read_lines, str(file), count)
            self.assertIn(text, str(error))
        file.write_bytes(b"\xff\n")
        self.assertRaises(ConfigurationError, read_lines, str(file), 1)
        self.assertRaises(ConfigurationError, read_lines, "/nonexistent", 1)

    def test_picture(self) -> None:
        """The QR code is text that a terminal of 80 columns can show."""
        lines = picture("otpauth://totp/dwcloud:anna?secret=" + "A" * 52).split("\n")
        self.assertGreater(len(lines), 15)
        self.assertLessEqual(max(map(len, lines)), 80)
