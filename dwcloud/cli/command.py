"""What all commands of ``dwcloud`` are made of.

The list of commands needs no more than this, so this needs nothing of the rest.
"""

from __future__ import annotations

import getopt
from typing import Any, NoReturn

from twisted.python import usage

from dwcloud.cli.console import Console

__all__ = ["CommandGroup", "CommandOptions", "require"]


def require(condition: object, message: str) -> None:
    """Refuse the command line with ``message`` unless ``condition`` holds.

    :raises twisted.python.usage.UsageError: if it does not.
    """
    if not condition:
        raise usage.UsageError(message)


class CommandOptions(usage.Options):
    """Options of one command, allowed before, between and after its arguments.

    :cvar command: what the command is called, for its messages.
    :cvar examples: printed under the help as it is.
    """

    command = "dwcloud"
    longdesc = ""
    examples = ""
    optFlags: list[list[Any]] = []
    optParameters: list[list[Any]] = []

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Read the command line of the command."""
        words = list(options or [])
        try:
            if words[-2:-1] != ["--_shell-completion"] and not self._has_commands():
                words = self._options_first(words)
            super().parseOptions(words)  # type: ignore[no-untyped-call]
        except usage.UsageError as e:
            # The innermost command is the one whose help is of use.
            if not hasattr(e, "command"):
                e.command = self.command  # type: ignore[attr-defined]
            raise

    def _has_commands(self) -> bool:
        return bool(getattr(self, "subCommands", None))

    def _options_first(self, words: list[str]) -> list[str]:
        # twisted.python.usage takes options only before arguments, which is not how
        # people type: "dwcloud forward PEER 8080:web --mediator HOST".
        try:
            options, arguments = getopt.gnu_getopt(words, self.shortOpt, self.longOpt)
        except getopt.error as e:
            raise usage.UsageError(str(e)) from None
        ordered = []
        for name, value in options:
            if f"{name[2:]}=" in self.longOpt:
                ordered.append(f"{name}={value}")
            elif f"{name[1:]}:" in self.shortOpt:
                ordered += [name, value]
            else:
                ordered.append(name)
        return [*ordered, "--", *arguments]

    def getUsage(self, width: int | None = None) -> str:
        """The options, what the command does, and examples."""
        text = super().getUsage(width=width)
        if self.examples and not hasattr(self, "subOptions"):
            text += "\nExamples:\n" + self.examples
        return text

    def parseArgs(self, *words: str) -> None:
        """Take the words that are no options; a command has none unless it says so."""
        require(not words, f"takes no arguments, {' '.join(words)!r} is one")

    def opt_version(self) -> None:
        """Print the version and exit."""
        from importlib.metadata import version

        _print_and_exit(f"dwcloud {version('dwcloud')}")

    def opt_help(self) -> None:
        """Display this help and exit."""
        _print_and_exit(str(self))

    def run(self, console: Console) -> int:
        """Do what the command is for and return the exit code."""
        raise usage.UsageError("name one of its commands")


class CommandGroup(CommandOptions):
    """A command that is only the beginning of others."""

    synopsis = "COMMAND [ARGUMENTS]"
    subCommands: list[list[Any]] = []

    def getSynopsis(self) -> str:
        """Without the placeholder when a command is named."""
        text = super().getSynopsis()
        if self.subCommand is None:
            return text
        return text.removesuffix(self.synopsis)[:-1]

    def parseArgs(self, *words: str) -> None:
        """There is nothing without a command."""
        *most, last = (entry[0] for entry in self.subCommands)
        require(False, f"name a command: {', '.join(most)} or {last}")


def _print_and_exit(text: str) -> NoReturn:
    console = Console()
    console.line(text)
    if console.lost is not None:
        console.message(f"dwcloud: writing the output failed: {console.lost}")
    raise SystemExit(console.lost is not None)
