"""The commands of ``dwcloud``, and what happens when one of them is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.python import usage
from twisted.python.failure import Failure

from dwcloud.cli.connect import ConnectCommand
from dwcloud.cli.console import Console
from dwcloud.cli.demo import DemoCommand
from dwcloud.cli.failures import is_expected, one_line, without_full_stop
from dwcloud.cli.forward import ForwardCommand
from dwcloud.cli.options import CommandOptions
from dwcloud.cli.serve import ServeCommand
from dwcloud.cli.status import StatusCommand
from dwcloud.cli.system import SystemCommand

__all__ = ["MainOptions", "run_command_line"]


class MainOptions(CommandOptions):
    """The options before the command's name."""

    longdesc = (
        "Reach a machine behind a NAT from anywhere, by a name that nobody can "
        "forge, through a cloud of your own. The cloud itself is run by 'twistd "
        "mediator' and 'twistd relay'. 'dwcloud COMMAND --help' tells more about "
        "each command."
    )
    subCommands: list[list[Any]] = [
        ["serve", None, ServeCommand, "Publish TCP services of this machine."],
        ["forward", None, ForwardCommand, "Open services of a server on local ports."],
        [
            "connect",
            None,
            ConnectCommand,
            "Join standard input and output to a service.",
        ],
        ["system", None, SystemCommand, "Make and show identities of servers."],
        ["status", None, StatusCommand, "Tell what of the cloud can be reached."],
        ["demo", None, DemoCommand, "See everything work on this machine."],
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
        options.parseOptions(list(argv))
        code = _innermost(options).run(console)
    except usage.UsageError as e:
        command = getattr(e, "command", options.command)
        text = without_full_stop(str(e))
        console.message(f"{command}: {text}; see '{command} --help'")
        return 2
    except Exception:
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
