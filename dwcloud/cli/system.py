"""``dwcloud system``: identities of servers, and who may use which system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dwcloud.cli.cloud_access import CloudAccess, CloudOptions, run_with_access
from dwcloud.cli.command import CommandGroup, require
from dwcloud.cli.console import Console
from dwcloud.cli.options import IdentityOptions, read_new_name, value_of
from dwcloud.cli.system_cloud import (
    BindCommand,
    ListCommand,
    RenameCommand,
    UnbindCommand,
    UseCommand,
    bind_here,
)
from dwcloud.cli.system_invitations import InvitationCommand
from dwcloud.cli.system_sharing import (
    AcceptCommand,
    MembersCommand,
    ShareCommand,
    UnshareCommand,
)
from dwcloud.cli.system_tokens import TokenCommand
from dwcloud.errors import ConfigurationError
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.peer.cloud_membership import CloudMembership

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
        membership = CloudMembership.load(directory)
        if membership is not None:
            console.line(f"cloud     {membership.name} at {membership.mediator}")


def may_add_servers(directory: Path) -> bool:
    """Tell whether the key of the system is in ``directory``."""
    try:
        SystemIdentity.load(directory)
    except ConfigurationError:
        return False
    return True


def describe(identity: ServerIdentity, directory: Path) -> dict[str, Any]:
    """An identity as plain values."""
    membership = CloudMembership.load(directory)
    return {
        "peer": str(identity.name),
        "system": str(identity.name.system),
        "server": str(identity.name.server),
        "identity": str(directory),
        "system_key": may_add_servers(directory),
        "cloud": membership and membership.mediator,
        "name": membership and membership.name,
    }


class CreateCommand(CloudOptions, _IdentityCommand):
    """``dwcloud system create``."""

    command = "dwcloud system create"
    synopsis = "[NAME] [--identity DIR] [options]"
    longdesc = (
        "Make the key of a new system and the identity of its first server, and with "
        "NAME bind it to your account under that name. 'dwcloud serve' does the same "
        "by itself on first use."
    )
    name: str | None = None

    def parseArgs(self, *words: str) -> None:
        """Take the name, if there is one."""
        require(len(words) <= 1, "expected at most one NAME")
        if words:
            self.name = value_of("NAME", read_new_name)(words[0])

    def postOptions(self) -> None:
        """Only who gives it a name needs a cloud."""
        if self.name is not None:
            super().postOptions()
        else:
            IdentityOptions.postOptions(self)

    def run(self, console: Console) -> int:
        """Make it."""
        if self.name is None:
            self._create(console)
            return 0
        return run_with_access(self, console, self._create_bound)

    def _create(self, console: Console) -> None:
        directory = self.identity_directory
        self.print_identity(console, ServerIdentity.create(directory), directory)

    async def _create_bound(self, access: CloudAccess, console: Console) -> None:
        assert self.name is not None
        # Who cannot bind it does not get half of what was asked for.
        session = await access.session_or_ask()
        directory = self.identity_directory
        identity = ServerIdentity.create(directory)
        await bind_here(session, directory, self.name)
        self.print_identity(console, identity, directory)


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
        membership = CloudMembership.load(self.identity_directory)
        if membership is not None:
            membership.save(self._new_directory)
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


class SystemCommand(CommandGroup):
    """``dwcloud system``."""

    command = "dwcloud system"
    longdesc = (
        "A system is a group of servers under one key. Its name is made from that "
        "key, so nobody can forge it. Keep a copy of the system's key offline: "
        "without it no server can be added. At a cloud with accounts a system is "
        "bound to one, has a name there, and is shared with others."
    )
    subCommands: list[list[Any]] = [
        ["create", None, CreateCommand, "Make a system and its first server."],
        ["add-server", None, AddServerCommand, "Make a further server of the system."],
        ["show", None, ShowCommand, "Print the names of system and server."],
        ["bind", None, BindCommand, "Bind the system of this machine to an account."],
        ["list", None, ListCommand, "List the systems that you may use."],
        ["use", None, UseCommand, "Choose the system that '.' stands for."],
        ["rename", None, RenameCommand, "Give a system another name."],
        ["share", None, ShareCommand, "Give somebody a role on a system."],
        ["unshare", None, UnshareCommand, "Take somebody's role away."],
        ["members", None, MembersCommand, "List who has a role on a system."],
        ["accept", None, AcceptCommand, "Take up an invitation."],
        ["invitation", None, InvitationCommand, "See and withdraw invitations."],
        ["token", None, TokenCommand, "Let a program use one system for a while."],
        ["unbind", None, UnbindCommand, "Release a system from its account."],
    ]
