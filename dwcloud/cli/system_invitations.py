"""``dwcloud system invitation``: the codes that nobody has taken up yet."""

from __future__ import annotations

import datetime
from typing import Any

import attrs

from dwcloud.cli.cloud_access import CloudAccess
from dwcloud.cli.command import CommandGroup, require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.system_cloud import SystemOfCloudCommand
from dwcloud.cli.table import render_table

__all__ = ["InvitationCommand"]

_SHOWN = 8


class ListInvitationsCommand(SystemOfCloudCommand):
    """``dwcloud system invitation list``."""

    command = "dwcloud system invitation list"
    synopsis = "NAME [--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "List the invitations to a system that can still be taken up, for its owner "
        "and administrators. Their codes are known to those alone who were given them."
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """List them."""
        session, system = await self.find(access)
        invitations = await session.call(
            lambda token: access.api.invitations(token, system.id)
        )
        if self["json"]:
            entries = [attrs.asdict(each) for each in invitations]
            console.result_event({"system": system.as_dict(), "invitations": entries})
            return
        if not invitations:
            console.message(f"{self.command}: none are open")
            return
        rows = [
            [
                each.id[:_SHOWN],
                each.role,
                each.inviter,
                f"{datetime.datetime.fromtimestamp(each.expires):%Y-%m-%d %H:%M}",
            ]
            for each in invitations
        ]
        for line in render_table(["id", "role", "made by", "until"], rows):
            console.line(line)


class WithdrawInvitationCommand(SystemOfCloudCommand):
    """``dwcloud system invitation withdraw``."""

    command = "dwcloud system invitation withdraw"
    synopsis = "NAME ID [--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "Let nobody take up an invitation any more: ID is what 'dwcloud system "
        "invitation list' shows. Whoever has taken it up keeps the role; 'dwcloud "
        "system unshare' takes that away."
    )
    words = "NAME ID"
    invitation: str

    def count(self) -> tuple[int, int]:
        """Both."""
        return 2, 2

    def take(self, *words: str) -> None:
        """Take the invitation."""
        self.invitation = words[0].lower()
        require(
            self.invitation,
            "ID: name one that 'dwcloud system invitation list' shows",
        )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Withdraw it."""
        session, system = await self.find(access)
        open_ = await session.call(
            lambda token: access.api.invitations(token, system.id)
        )
        name = f"{system.owner}/{system.name}"
        found = [each for each in open_ if each.id.startswith(self.invitation)]
        if len(found) != 1:
            which = "no open invitation" if not found else f"{len(found)} invitations"
            raise CommandFailed(
                f"there is {which} {self.invitation!r} to {name}; 'dwcloud system "
                "invitation list' shows what there is"
            )
        [withdrawn] = found
        await session.call(
            lambda token: access.api.withdraw(token, system.id, withdrawn.id)
        )
        self.tell(
            console,
            f"invitation {withdrawn.id[:_SHOWN]} to {name} is withdrawn",
            event="invitation_withdrawn",
            system=system.as_dict(),
            invitation=attrs.asdict(withdrawn),
        )


class InvitationCommand(CommandGroup):
    """``dwcloud system invitation``."""

    command = "dwcloud system invitation"
    longdesc = (
        "An invitation is the code that 'dwcloud system share NAME' prints: it gives a "
        "role on a system to whoever takes it up first, within a week."
    )
    subCommands: list[list[Any]] = [
        ["list", None, ListInvitationsCommand, "List those that are open."],
        ["withdraw", None, WithdrawInvitationCommand, "End one before its time."],
    ]
