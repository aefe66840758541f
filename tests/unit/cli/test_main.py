"""What the entry point sets right before anything else is loaded."""

from __future__ import annotations

import re
import signal

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.commands import MainOptions
from dwcloud.cli.main import die_of_interrupts


class HelpTests(SynchronousTestCase):
    """What ``--help`` shows of each command."""

    def test_defaults_in_words(self) -> None:
        """A default is a word, a number or a path, nothing of Python's."""
        for name, _, command, _ in MainOptions.subCommands:
            options = command()
            options.parent = MainOptions()
            defaults = re.findall(r"\[default: ([^\]]*)", options.getUsage(200))
            for default in defaults:
                with self.subTest(command=name):
                    self.assertRegex(default, r"^[\w./:~][^(){}'\"]*$")
                    self.assertNotEqual(default, "None")


class InterruptTests(SynchronousTestCase):
    """What an interrupt does before a command runs."""

    def setUp(self) -> None:
        """Keep the handler of the test's process."""
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))

    def test_deadly(self) -> None:
        """It ends the process, without an exception."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        die_of_interrupts()
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_DFL)

    def test_ignored(self) -> None:
        """Who started the process may have had interrupts ignored."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        die_of_interrupts()
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
