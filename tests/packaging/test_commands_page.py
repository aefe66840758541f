"""The page of commands: each option of both services is there, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator import tap as mediator_tap
from dwcloud.relay import tap as relay_tap

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.rst"
OF_EVERY_PROGRAM = {"help", "version"}
OPTION = re.compile(r"--([a-z][a-z-]*)")


def section(title: str) -> str:
    """The text below a heading of the page, up to the next one."""
    text = PAGE.read_text(encoding="utf-8")
    _, _, rest = text.partition(f"\n``{title}``\n{'-' * (len(title) + 4)}\n")
    return re.split(r"\n[^\n]+\n-{5,}\n", rest)[0]


def option_names(options: usage.Options) -> set[str]:
    """The long names of all options, without the dashes."""
    return {name.rstrip("=") for name in options.longOpt} - OF_EVERY_PROGRAM


class ServicePagesTests(SynchronousTestCase):
    def check(self, title: str, options: usage.Options) -> None:
        """Compare one section with one service."""
        text = section(title)
        self.assertTrue(text, f"the page has no section {title}")
        self.assertEqual(set(OPTION.findall(text)), option_names(options))

    def test_mediator(self) -> None:
        """``twistd mediator``."""
        self.check("twistd mediator", mediator_tap.Options())

    def test_relay(self) -> None:
        """``twistd relay``."""
        self.check("twistd relay", relay_tap.Options())

    def test_synopsis(self) -> None:
        """The relay's own help names all in its first line."""
        named = set(OPTION.findall(relay_tap.Options.synopsis))
        self.assertEqual(named, option_names(relay_tap.Options()))

    def test_help_without_blanks(self) -> None:
        """No help text shows the indentation of the source."""
        for tap in (mediator_tap, relay_tap):
            for line in tap.Options().getUsage(80).split("Examples:")[0].splitlines():
                self.assertNotRegex(line.strip().lstrip("-"), r"[a-z,.] {4,}[a-z0-9]")
