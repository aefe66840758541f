"""The commands of ``dwcloud system`` that ask the cloud: who may use which system."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs

from dwcloud.cli.cloud_access import CloudAccess, CloudCommand
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.options import IdentityOptions, read_new_name, value_of
from dwcloud.cli.table import render_table
from dwcloud.errors import ConfigurationError, SystemUnknown
from dwcloud.net.identity import ServerIdentity
from dwcloud.peer.api_values import System
from dwcloud.peer.binding import bind_system, cloud_key_of
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.cloud_session import CloudSession
from dwcloud.peer.system_names import IN_USE, SystemReference, read_reference
from dwcloud.protocol.names import PeerName

__all__ = [
    "BindCommand",
    "ListCommand",
    "RenameCommand",
    "SystemOfCloudCommand",
    "UnbindCommand",
    "UseCommand",
    "bind_here",
]


def name_of_this_machine() -> str:
    """A name for a system that is not given one: that of the machine."""
    name = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().partition(".")[0].lower())
    return name.strip("-")[:63] or "system"


async def bind_here(session: CloudSession, directory: Path, name: str) -> System:
    """Bind the system in ``directory``, unless another cloud has it.

    :raises ConfigurationError: if another cloud has it.
    """
    other = CloudMembership.load(directory)
    if other is not None and other.cloud_key != await cloud_key_of(session):
        raise ConfigurationError(
            f"the system in {directory} is bound to {other.mediator} as {other.name}; "
            f"unbind it there first: dwcloud system unbind {other.name} --mediator "
            f"{other.mediator}"
        )
    return await bind_system(session, directory, name)


class BindCommand(CloudCommand, IdentityOptions):
    """``dwcloud system bind``."""

    command = "dwcloud system bind"
    synopsis = "[NAME] [--identity DIR] [options]"
    longdesc = (
        "Bind the system of this machine to your account, under NAME or else the name "
        "of this machine. That the system is yours is proven by its key. From then on "
        "only those have access with whom you share it."
    )
    name: str

    def parseArgs(self, *words: str) -> None:
        """Take the name, if there is one."""
        require(len(words) <= 1, "expected at most one NAME")
        given = value_of("NAME", read_new_name)(words[0]) if words else None
        self.name = given or name_of_this_machine()

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Bind it."""
        ServerIdentity.load(self.identity_directory)
        session = await access.session_or_ask()
        system = await bind_here(session, self.identity_directory, self.name)
        self.tell(
            console,
            f"system {system.id} is bound to {access.cloud} as "
            f"{system.owner}/{system.name}",
            event="bound",
            cloud=access.cloud,
            system=system.as_dict(),
        )


class ListCommand(CloudCommand):
    """``dwcloud system list``."""

    command = "dwcloud system list"
    synopsis = "[--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "List the systems on which you have a role, and whether they are online. A "
        "star marks the one in use."
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """List them."""
        await access.session_or_ask()
        account = access.account()
        systems = sorted(await account.systems(), key=lambda s: (s.name, s.owner))
        who = access.store.signed_in(access.cloud)
        in_use = who and who.system
        if self["json"]:
            entries = [{**s.as_dict(), "in_use": s.id == in_use} for s in systems]
            console.result_event({"cloud": access.cloud, "systems": entries})
            return
        if not systems:
            console.message(f"{self.command}: none yet; 'dwcloud system bind' adds one")
            return
        rows = [
            [
                "*" if system.id == in_use else "",
                system.name,
                system.owner,
                system.role,
                system.state,
                f"{sum(s.online for s in system.servers)}/{len(system.servers)}",
                ", ".join(
                    word
                    for word, yes in (("public", system.public), ("web", system.web))
                    if yes
                ),
            ]
            for system in systems
        ]
        header = ["", "system", "owner", "your role", "state", "servers", "open to"]
        for line in render_table(header, rows):
            console.line(line)


class SystemOfCloudCommand(CloudCommand):
    """A command about one system, whose name is the first word."""

    words = "NAME"
    reference: SystemReference | PeerName

    def parseArgs(self, *words: str) -> None:
        """Take the system and what else there is."""
        least, most = self.count()
        require(least <= len(words) <= most, f"expected {self.words}")
        self.reference = value_of("NAME", read_reference)(words[0])
        self.take(*words[1:])

    def count(self) -> tuple[int, int]:
        """How many words there may be."""
        return 1, 1

    def take(self, *words: str) -> None:
        """Take the words after the system."""

    async def find(self, access: CloudAccess) -> tuple[CloudSession, System]:
        """The session, and the system that is meant.

        :raises SystemUnknown: if the account has no role on it.
        """
        session = await access.session_or_ask()
        account = access.account()
        systems = await account.systems()
        guid: UUID | None = None
        if isinstance(self.reference, PeerName):
            guid = self.reference.system
        elif self.reference == IN_USE:
            guid = account.system_in_use()
        else:
            return session, self.reference.require_system(systems)
        for system in systems:
            if system.id == guid:
                return session, system
        raise SystemUnknown(f"you have no system {guid} at {access.cloud}")


class UseCommand(SystemOfCloudCommand):
    """``dwcloud system use``."""

    command = "dwcloud system use"
    synopsis = "NAME [--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "Choose the system that 'dwcloud connect' and 'dwcloud forward' mean where "
        "none is named, and that '.' stands for."
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Choose it."""
        _, system = await self.find(access)
        access.store.use_system(access.cloud, system.id)
        name = f"{system.owner}/{system.name}"
        self.tell(console, f"{name} is in use", event="using", system=system.as_dict())


def membership_here(
    directory: Path, cloud: str, system: UUID
) -> CloudMembership | None:
    """What the identity in a directory knows of a system's cloud, None if nothing."""
    try:
        identity: Any = ServerIdentity.load(directory)
    except ConfigurationError:
        # There is no server here, or none that could be started.
        return None
    membership = CloudMembership.load(directory)
    if membership is None or membership.mediator != cloud:
        return None
    return membership if identity.name.system == system else None


class RenameCommand(SystemOfCloudCommand, IdentityOptions):
    """``dwcloud system rename``."""

    command = "dwcloud system rename"
    synopsis = "NAME NEWNAME [--identity DIR] [options]"
    longdesc = "Give a system another name. Its GUID and its servers stay as they are."
    words = "NAME NEWNAME"
    new_name: str

    def count(self) -> tuple[int, int]:
        """Both names."""
        return 2, 2

    def take(self, *words: str) -> None:
        """Take the new name."""
        self.new_name = value_of("NEWNAME", read_new_name)(words[0])

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Rename it."""
        session, system = await self.find(access)
        system = await session.call(
            lambda token: access.api.change_system(token, system.id, name=self.new_name)
        )
        directory = self.identity_directory
        known = membership_here(directory, access.cloud, system.id)
        if known is not None:
            # 'serve' tells what to type elsewhere.
            attrs.evolve(known, name=system.name).save(directory)
        self.tell(
            console,
            f"the name is {system.owner}/{system.name} now",
            event="renamed",
            system=system.as_dict(),
        )


class UnbindCommand(SystemOfCloudCommand, IdentityOptions):
    """``dwcloud system unbind``."""

    command = "dwcloud system unbind"
    synopsis = "NAME [--yes] [--identity DIR] [options]"
    longdesc = (
        "Release a system from your account. Everybody loses access, and connections "
        "end. Its servers keep their names; bound to nothing, they can be bound anew "
        "by whoever has the system's key."
    )
    optFlags = [["yes", "y", "Do not ask whether that is meant."]]

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Ask, then unbind it."""
        session, system = await self.find(access)
        name = f"{system.owner}/{system.name}"
        if not self["yes"]:
            if not access.terminal.present:
                raise CommandFailed(
                    "everybody loses access: say --yes if that is meant"
                )
            if not await access.terminal.ask_yes(f"Everybody loses access to {name}?"):
                raise CommandFailed("nothing was changed")
        await session.call(lambda token: access.api.unbind(token, system.id))
        here = self._forget_here(access.cloud, system.id)
        rest = "; remove cloud.json from the identities of its servers"
        self.tell(
            console,
            f"{name} is bound to nothing any more{'' if here else rest}",
            event="unbound",
            system=system.as_dict(),
            forgotten_here=here,
        )

    def _forget_here(self, cloud: str, system: UUID) -> bool:
        """Remove the file of this machine's identity, if it is of that system."""
        directory = self.identity_directory
        if membership_here(directory, cloud, system) is None:
            return False
        CloudMembership.remove(directory)
        return True
