"""The commands of ``dwcloud``, and what happens when one of them is called."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from twisted.python import usage
from twisted.python.failure import Failure

from dwcloud.cli.command import CommandOptions
from dwcloud.cli.console import Console
from dwcloud.loading import loading

__all__ = ["MainOptions", "run_command_line"]

_COMMANDS = {
    "serve": "Publish TCP services of this machine.",
    "forward": "Open services of a server on local ports.",
    "connect": "Join standard input and output to a service.",
    "account": "Make accounts, and sign in to clouds.",
    "system": "Make and show identities of servers.",
    "operator": "Look after the accounts of a cloud.",
    "check": "Find out which paths work here, and why.",
    "status": "Tell what of the cloud can be reached.",
    "allowlist": "List what a firewall has to admit, and try it.",
    "trace": "Tell what logs say of one connection.",
    "demo": "See everything work on this machine.",
}
"""What each is for. The options of ``serve`` are the class ``ServeCommand`` of the
module ``dwcloud.cli.serve``, and so on."""


def _options_of(name: str) -> CommandOptions:
    """Load a command when it is called: all of them take longer than what they do."""
    module = import_module(f"dwcloud.cli.{name}")
    options: CommandOptions = getattr(module, f"{name.capitalize()}Command")()
    return options


class MainOptions(CommandOptions):
    """The options before the command's name."""

    longdesc = (
        "Reach a machine behind a NAT from anywhere, by a name that nobody can "
        "forge, through a cloud of your own. The cloud itself is run by 'twistd "
        "mediator' and 'twistd relay'. 'dwcloud COMMAND --help' tells more about "
        "each command."
    )
    subCommands: list[list[Any]] = [
        [name, None, partial(_options_of, name), purpose]
        for name, purpose in _COMMANDS.items()
    ]

    def getSynopsis(self) -> str:
        """How to call it, also as the beginning of each command's synopsis."""
        if self.subCommand is not None:
            return "Usage: dwcloud"
        return "Usage: dwcloud [--help] [--version] COMMAND [ARGUMENTS]"

    def parseArgs(self, *words: str) -> None:
        """There is nothing without a command."""
        names = ", ".join(entry[0] for entry in self.subCommands)
        raise usage.UsageError(f"name a command: {names}")


def run_command_line(argv: Sequence[str]) -> int:
    """Run a command and return the exit code of the process.

    :param argv: the words after the program's name.
    :return: 0 for success, 1 for failure, 2 for a command line that makes no sense,
        128 + the number of the signal that ended the command before its work was
        done.
    """
    console = Console()
    options = MainOptions()  # type: ignore[no-untyped-call]
    try:
        with loading():
            options.parseOptions(list(argv))
        code = _innermost(options).run(console)
    except usage.UsageError as e:
        # Late, as below: only what goes wrong needs it.
        from dwcloud.cli.failures import without_full_stop

        command = getattr(e, "command", options.command)
        text = without_full_stop(str(e))
        console.message(f"{command}: {text}; see '{command} --help'")
        return 2
    except Exception:
        from dwcloud.cli.failures import is_expected, one_line

        reason = Failure()
        if not is_expected(reason):
            raise
        command = _innermost(options).command
        console.message(f"{command}: {one_line(reason)}")
        return 1
    if console.lost is not None:
        command = _innermost(options).command
        console.message(f"{command}: writing the output failed: {console.lost}")
        return code or 1
    return code


def _innermost(options: CommandOptions) -> CommandOptions:
    while (inner := getattr(options, "subOptions", None)) is not None:
        options = inner
    return options
