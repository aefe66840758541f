"""``dwcloud system token``: its words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.system_tokens import LONGEST, SHORTEST
from dwcloud.cli.connect import ConnectCommand
from dwcloud.cli.system_tokens import (
    CreateTokenCommand,
    RevokeTokenCommand,
    read_label,
    read_lifetime,
)
from tests.unit.cli.test_options import PEER, CommandLineTestCase

MEDIATOR = ("--mediator", "cloud.example.org")


class LifetimeTests(SynchronousTestCase):
    """For how long a token is good."""

    def test_times(self) -> None:
        """Seconds, minutes and hours; the limits are those of the store."""
        for text, seconds in (
            ("60s", SHORTEST),
            ("1m", SHORTEST),
            ("15m", 900),
            ("8h", 28_800),
            ("24h", LONGEST),
        ):
            self.assertEqual(read_lifetime(text), seconds)
        for text in ("59s", "25h", "1d", "60", "", "-1h", "1 h", "0m"):
            error = self.assertRaises(ValueError, read_lifetime, text)
            self.assertIn("15m", str(error))

    @given(st.text())
    def test_any(self, text: str) -> None:
        """Whatever is typed is read or refused in words."""
        for read in (read_lifetime, read_label):
            try:
                read(text)
            except ValueError as e:
                self.assertTrue(str(e))


class OptionTests(CommandLineTestCase):
    """What the commands take."""

    def test_defaults(self) -> None:
        """A viewer's, for an hour."""
        options = CreateTokenCommand()
        options.parseOptions(["garage", *MEDIATOR])
        self.assertEqual((options["role"], options["lifetime"]), ("viewer", 3600))

    def test_refused(self) -> None:
        """Errors name the option and what would be right."""
        for command, words, part in (
            (CreateTokenCommand, ("garage", "--role", "owner"), "--role"),
            (CreateTokenCommand, ("garage", "--lifetime", "2d"), "--lifetime"),
            (CreateTokenCommand, ("garage", "--label", "a/b"), "--label"),
            (CreateTokenCommand, ("garage", "--file", ""), "--file"),
            (CreateTokenCommand, (), "expected NAME"),
            (RevokeTokenCommand, ("garage",), "expected NAME TOKEN"),
            (RevokeTokenCommand, ("garage", ""), "token list"),
            (ConnectCommand, (PEER, "--token-file", ""), "--token-file"),
            (ConnectCommand, (PEER, "--fingerprint", "x"), "SHA256:"),
        ):
            options = command()
            error = self.assertRaises(
                UsageError, options.parseOptions, [*words, *MEDIATOR]
            )
            self.assertIn(part, str(error))
