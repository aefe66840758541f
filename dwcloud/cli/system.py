"""``dwcloud system``: make and show the identities of a system's servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dwcloud.cli.console import Console
from dwcloud.cli.options import CommandOptions, IdentityOptions, require
from dwcloud.errors import ConfigurationError
from dwcloud.net.identity import ServerIdentity, SystemIdentity

__all__ = ["SystemCommand"]


class _IdentityCommand(IdentityOptions):
    optFlags = [["json", None, "Print one line of JSON instead."]]

    def print_identity(
        self, console: Console, identity: ServerIdentity, directory: Path
    ) -> None:
        """Print the names that an identity proves."""
        if self["json"]:
            console.result_event(describe(identity, directory))
            return
        kind = (
            "can add servers to the system"
            if may_add_servers(directory)
            else "this server only"
        )
        console.line(f"peer      {identity.name}")
        console.line(f"system    {identity.name.system}")
        console.line(f"server    {identity.name.server}")
        console.line(f"identity  {directory} ({kind})")


def may_add_servers(directory: Path) -> bool:
    """Tell whether the key of the system is in ``directory``."""
    try:
        SystemIdentity.load(directory)
    except ConfigurationError:
        return False
    return True


def describe(identity: ServerIdentity, directory: Path) -> dict[str, Any]:
    """An identity as plain values."""
    return {
        "peer": str(identity.name),
        "system": str(identity.name.system),
        "server": str(identity.name.server),
        "identity": str(directory),
        "system_key": may_add_servers(directory),
    }


class CreateCommand(_IdentityCommand):
    """``dwcloud system create``."""

    command = "dwcloud system create"
    synopsis = "[--identity DIR] [--json]"
    longdesc = (
        "Make the key of a new system and the identity of its first server. "
        "'dwcloud serve' does the same by itself on first use."
    )

    def run(self, console: Console) -> int:
        """Make it."""
        directory = self.identity_directory
        self.print_identity(console, ServerIdentity.create(directory), directory)
        return 0


class AddServerCommand(_IdentityCommand):
    """``dwcloud system add-server``."""

    command = "dwcloud system add-server"
    synopsis = "NEWDIR [--identity DIR] [--json]"
    longdesc = (
        "Make a further server of the system and write its identity to NEWDIR, to be "
        "brought to its machine by a way that you trust. NEWDIR gets the new server's "
        "key; the system's key stays in the directory of --identity."
    )
    examples = (
        "  dwcloud system add-server ./second\n"
        "  dwcloud serve web=127.0.0.1:80 --identity ./second --mediator HOST\n"
    )
    _new_directory: Path

    def parseArgs(self, *words: str) -> None:
        """Take the new directory."""
        require(len(words) == 1 and words[0], "name the directory of the new server")
        self._new_directory = Path(words[0]).expanduser()

    def run(self, console: Console) -> int:
        """Make it."""
        identity = ServerIdentity.add_server(
            self.identity_directory, self._new_directory
        )
        self.print_identity(console, identity, self._new_directory)
        return 0


class ShowCommand(_IdentityCommand):
    """``dwcloud system show``."""

    command = "dwcloud system show"
    synopsis = "[--identity DIR] [--json]"
    longdesc = "Print the names of this machine's system and server."

    def run(self, console: Console) -> int:
        """Print them."""
        directory = self.identity_directory
        self.print_identity(console, ServerIdentity.load(directory), directory)
        return 0


class SystemCommand(CommandOptions):
    """``dwcloud system``."""

    command = "dwcloud system"
    synopsis = "COMMAND [ARGUMENTS]"
    longdesc = (
        "A system is a group of servers under one key. Its name is made from that "
        "key, so nobody can forge it. Keep a copy of the system's key offline: "
        "without it no server can be added."
    )
    subCommands: list[list[Any]] = [
        ["create", None, CreateCommand, "Make a system and its first server."],
        ["add-server", None, AddServerCommand, "Make a further server of the system."],
        ["show", None, ShowCommand, "Print the names of system and server."],
    ]

    def getSynopsis(self) -> str:
        """Without the placeholder when a command is named."""
        text = super().getSynopsis()
        return (
            text if self.subCommand is None else text.removesuffix(self.synopsis)[:-1]
        )

    def parseArgs(self, *words: str) -> None:
        """There is nothing without a command."""
        require(False, "name a command: create, add-server or show")
