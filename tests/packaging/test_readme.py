"""The commands of the README."""

from __future__ import annotations

import re
import shlex
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from tests.packaging.environments import copy_of_project, run
from tests.packaging.readme import README, commands

NAMES = [
    "demo",
    "tests",
    "install",
    "cloud",
    "server",
    "client",
    "try",
    "stop",
    "ssh",
    "system",
    "web",
]

PLACEHOLDERS = {"A"}
"""What the README asks its reader to replace."""


def _invocations() -> list[list[str]]:
    """Return the words of each call of our programs in the README's commands."""
    calls = []
    for command in commands().values():
        # The command that ssh is told to run is one of ours as well.
        command = re.sub(r"ssh -o ProxyCommand='([^']*)'.*", r"\1", command)
        for part in command.split("&&"):
            words = shlex.split(part)
            words[0] = words[0].rsplit("/", 1)[-1]
            if words[0] in {"dwcloud", "twistd"}:
                calls.append(words)
    return calls


class CommandTests(SynchronousTestCase):
    """The page has the commands that other tests run, and only those."""

    def test_names(self) -> None:
        """Each command has its name, and there is no other."""
        self.assertEqual(list(commands()), NAMES)

    def test_no_other_block(self) -> None:
        """No block of code escapes the tests for want of a name."""
        blocks = README.read_text().count(".. code-block::")
        self.assertEqual(blocks, len(NAMES))

    def test_one_line_each(self) -> None:
        """Each command is one line, to be copied as it is."""
        self.assertEqual([n for n, text in commands().items() if "\n" in text], [])

    def test_shell_syntax(self) -> None:
        """The shell understands them all."""
        for command in commands().values():
            subprocess.run(["bash", "-n", "-c", command], check=True)

    def test_placeholders(self) -> None:
        """What the reader must replace is in capitals, and is explained."""
        words = {
            word
            for call in _invocations()
            for item in call
            for word in re.findall(r"\b[A-Z]+\b", item)
        }
        self.assertEqual(words, PLACEHOLDERS)
        for word in PLACEHOLDERS:
            self.assertIn(f"``{word}``", README.read_text())

    def test_environments_differ(self) -> None:
        """Installing for use and for the tests do not disturb each other."""
        made = [
            re.findall(r"python3 -m venv (\S+)", commands()[name])
            for name in ("demo", "tests")
        ]
        self.assertNotEqual(*made)


class InstalledCommandTests(SynchronousTestCase):
    """The commands exist after the README's own way of installing."""

    def test_options(self) -> None:
        """Each subcommand and option in the README is in the program's help."""
        copy = copy_of_project()
        run(["bash", "-euc", commands()["install"]], copy)
        for words in _invocations():
            name = next(word for word in words[1:] if not word.startswith("-"))
            before = words[1 : words.index(name)]
            after = words[words.index(name) + 1 :]
            # Of the commands that are only the beginning of others, the others.
            inner = [after.pop(0)] if name in ("account", "system") else []
            program = str(copy / ".venv" / "bin" / words[0])
            for options, arguments in (
                (before, ["--help"]),
                (after, [name, *inner, "--help"]),
            ):
                text = run([program, *arguments], copy)
                for option in options:
                    if option.startswith("--"):
                        self.assertIn(option.split("=")[0], text, str(words))

    def test_demo(self) -> None:
        """The demo command of the page, as it is, carries a file over each path."""
        copy = copy_of_project()
        out = run(["bash", "-euc", commands()["demo"]], copy)
        rows = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
        carried = {row[0] for row in rows if len(row) == 6 and row[-1] == "same"}
        self.assertEqual(carried, {"lan", "tcp", "udp", "relay"}, out)
