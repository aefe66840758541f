"""The commands of ``dwcloud system`` that give and take roles."""

from __future__ import annotations

import datetime

from dwcloud.cli.cloud_access import CloudAccess, CloudCommand
from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.options import one_of
from dwcloud.cli.system_cloud import SystemOfCloudCommand
from dwcloud.cli.table import render_table

__all__ = ["AcceptCommand", "MembersCommand", "ShareCommand", "UnshareCommand"]

_ROLES = ("viewer", "administrator", "owner")


class _SharingCommand(SystemOfCloudCommand):
    words = "NAME [ACCOUNT]"
    optFlags = [
        ["public", None, "Everybody who knows the GUID, with or without an account."],
        ["web", None, "Browsers, through the relay, which can read along."],
    ]
    account: str | None = None

    def count(self) -> tuple[int, int]:
        """The account may be left out."""
        return 1, 2

    def take(self, *words: str) -> None:
        """Take the account."""
        self.account = words[0] if words else None
        require(self.account != "", "ACCOUNT: name an account")

    @property
    def openings(self) -> dict[str, object]:
        """What is not about an account."""
        return {name: True for name in ("public", "web") if self[name]}


class ShareCommand(_SharingCommand):
    """``dwcloud system share``."""

    command = "dwcloud system share"
    synopsis = "NAME [ACCOUNT] [--role ROLE] [options]"
    longdesc = (
        "Give ACCOUNT a role on a system: a viewer may connect; an administrator may "
        "share it with viewers and rename it, too; owner hands it over for good. "
        "Without ACCOUNT it prints a code for whoever takes it up first, by 'dwcloud "
        "system accept CODE'. --public lets everybody connect, --web browsers."
    )
    optParameters = [
        [
            "role",
            None,
            "viewer",
            f"The role: {', '.join(_ROLES)}.",
            one_of("--role", *_ROLES),
        ]
    ]
    examples = (
        "  dwcloud system share garage bert\n"
        "  dwcloud system share garage --role administrator\n"
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Share it."""
        session, system = await self.find(access)
        name, role = f"{system.owner}/{system.name}", str(self["role"])
        if self.openings:
            system = await session.call(
                lambda token: access.api.change_system(
                    token, system.id, **self.openings
                )
            )
            what = " and ".join(self.openings)
            self.tell(
                console,
                f"{name} is {what} now",
                event="shared",
                system=system.as_dict(),
            )
            if self.account is None:
                return
        if self.account is not None:
            account = self.account
            await session.call(
                lambda token: access.api.share(token, system.id, account, role)
            )
            self.tell(
                console,
                f"{account} is {role} of {name} now",
                event="shared",
                system=system.as_dict(),
                account=account,
                role=role,
            )
            return
        invitation = await session.call(
            lambda token: access.api.invite(token, system.id, role)
        )
        until = datetime.datetime.fromtimestamp(invitation.expires)
        self.tell(
            console,
            f"whoever types this first is {role} of {name} (until "
            f"{until:%Y-%m-%d %H:%M}):\n  dwcloud system accept {invitation.code} "
            f"--mediator {access.cloud}",
            event="invited",
            system=system.as_dict(),
            role=role,
            code=invitation.code,
            expires=invitation.expires,
        )


class UnshareCommand(_SharingCommand):
    """``dwcloud system unshare``."""

    command = "dwcloud system unshare"
    synopsis = "NAME [ACCOUNT] [--public] [--web] [options]"
    longdesc = (
        "Take ACCOUNT's role on a system away; its connections end within a minute. "
        "--public and --web end what 'share' began with them. Your own role can be "
        "given up, too, unless you are the owner."
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """End it."""
        session, system = await self.find(access)
        name = f"{system.owner}/{system.name}"
        if not self.openings and self.account is None:
            raise CommandFailed("name the ACCOUNT, or say --public or --web")
        if self.openings:
            closings: dict[str, object] = dict.fromkeys(self.openings, False)
            system = await session.call(
                lambda token: access.api.change_system(token, system.id, **closings)
            )
            what = " or ".join(closings)
            self.tell(
                console,
                f"{name} is not {what} any more",
                event="unshared",
                system=system.as_dict(),
            )
        if self.account is not None:
            account = self.account
            await session.call(
                lambda token: access.api.unshare(token, system.id, account)
            )
            self.tell(
                console,
                f"{account} has no role on {name} any more",
                event="unshared",
                system=system.as_dict(),
                account=account,
            )


class MembersCommand(SystemOfCloudCommand):
    """``dwcloud system members``."""

    command = "dwcloud system members"
    synopsis = "NAME [--mediator HOST[:PORT]] [--json]"
    longdesc = "List who has which role on a system."

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """List them."""
        session, system = await self.find(access)
        members = await session.call(lambda token: access.api.members(token, system.id))
        if self["json"]:
            entries = [{"account": m.account, "role": m.role} for m in members]
            console.result_event({"system": system.as_dict(), "members": entries})
            return
        rows = [[member.account, member.role] for member in members]
        for line in render_table(["account", "role"], rows):
            console.line(line)


class AcceptCommand(CloudCommand):
    """``dwcloud system accept``."""

    command = "dwcloud system accept"
    synopsis = "CODE [--mediator HOST[:PORT]] [--json]"
    longdesc = "Take up an invitation to a system, made by 'dwcloud system share'."
    code: str

    def parseArgs(self, *words: str) -> None:
        """Take the code."""
        require(len(words) == 1 and words[0], "expected CODE")
        self.code = words[0]

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Take it up."""
        session = await access.session_or_ask()
        system = await session.call(lambda token: access.api.accept(token, self.code))
        self.tell(
            console,
            f"you are {system.role} of {system.owner}/{system.name} now",
            event="accepted",
            system=system.as_dict(),
        )
