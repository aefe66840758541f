"""``dwcloud operator``: look after the accounts of a cloud that one runs."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dwcloud.cli.cloud_access import CloudAccess, CloudCommand
from dwcloud.cli.command import CommandGroup, require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.table import render_table
from dwcloud.errors import ConfigurationError
from dwcloud.peer.mediator_address import MediatorAddress

__all__ = ["OperatorCommand"]

_DEFAULT_MEDIATOR = "http://127.0.0.1:3345"
_KEY = "operator.key"


class _Operation(CloudCommand):
    """Something that only the operator may ask for."""

    optParameters = [
        [
            "accounts",
            None,
            None,
            "The directory that 'twistd mediator --accounts' was given.",
        ],
    ]

    @property
    def mediator(self) -> MediatorAddress | None:
        """The mediator of this machine, unless the option names another socket."""
        if self["mediator"] is not None:
            return self["mediator"]  # type: ignore[no-any-return]
        return MediatorAddress.parse(_DEFAULT_MEDIATOR)

    def postOptions(self) -> None:
        """There has to be a key."""
        super().postOptions()
        require(
            self["accounts"] is not None,
            "name the directory of the mediator's accounts: --accounts DIR",
        )

    def key(self) -> str:
        """Read the operator's key.

        :raises ConfigurationError: if there is none.
        """
        path = Path(self["accounts"]).expanduser() / _KEY
        try:
            return path.read_text("ascii").strip()
        except OSError as e:
            raise ConfigurationError(
                f"cannot read {path}: {e.strerror}; it is made by twistd mediator "
                "--accounts, and only that user can read it"
            ) from e
        except UnicodeDecodeError:
            raise ConfigurationError(f"{path} is no key of an operator") from None

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Ask with the key."""
        await self.operate(access, console, self.key())

    @abstractmethod
    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """Do what the command is for."""


class ListCommand(_Operation):
    """``dwcloud operator list``."""

    command = "dwcloud operator list"
    synopsis = "--accounts DIR [--json]"
    longdesc = "List all accounts of the cloud."

    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """List them."""
        accounts: list[dict[str, Any]] = []
        more = True
        while more:
            after = accounts[-1]["name"] if accounts else ""
            answer = await access.api.operate(
                "POST", "/accounts", key, {"after": after}
            )
            accounts += answer["accounts"]
            more = answer["more"]
        if self["json"]:
            console.result_event({"accounts": accounts})
            return
        rows = [
            [
                account["name"],
                str(account["systems"]),
                _date(account["created"]),
                _date(account["used"]),
                ", ".join(
                    word
                    for word, holds in (
                        ("disabled", account["disabled"]),
                        ("second factor", account["totp"]),
                    )
                    if holds
                ),
            ]
            for account in accounts
        ]
        header = ["account", "systems", "since", "last used", ""]
        for line in render_table(header, rows, right=[1]):
            console.line(line)


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


class _AccountOperation(_Operation):
    """Something about one account."""

    synopsis = "NAME --accounts DIR [--json]"
    name = ""

    def parseArgs(self, *words: str) -> None:
        """Take the account's name."""
        require(len(words) == 1, "expected the NAME of an account")
        self.name = words[0]

    async def change(self, access: CloudAccess, key: str, **values: Any) -> None:
        """Change something about the account."""
        await access.api.operate("PATCH", self.path, key, values)

    @property
    def path(self) -> str:
        """Where the account is."""
        return f"/accounts/{quote(self.name, safe='')}"


class DisableCommand(_AccountOperation):
    """``dwcloud operator disable``."""

    command = "dwcloud operator disable"
    longdesc = (
        "Lock an account: its sessions end, and its connections within a minute. Its "
        "systems stay, and others with a role on them go on."
    )

    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """Lock it."""
        await self.change(access, key, disabled=True)
        self.tell(
            console, f"{self.name} is locked", event="disabled", account=self.name
        )


class EnableCommand(_AccountOperation):
    """``dwcloud operator enable``."""

    command = "dwcloud operator enable"
    longdesc = "Unlock an account."

    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """Unlock it."""
        await self.change(access, key, disabled=False)
        self.tell(
            console, f"{self.name} is not locked", event="enabled", account=self.name
        )


class ResetCommand(_AccountOperation):
    """``dwcloud operator reset``."""

    command = "dwcloud operator reset"
    synopsis = "NAME --accounts DIR [--second-factor] [--json]"
    longdesc = (
        "Give an account a new password, which is printed, for somebody who forgot it. "
        "All its sessions end."
    )
    optFlags = [
        ["second-factor", None, "Also remove the second factor: its device is lost."]
    ]

    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """Make a password."""
        password = secrets.token_urlsafe(15)
        values: dict[str, Any] = {"password": password}
        if self["second-factor"]:
            values["totp"] = False
        await self.change(access, key, **values)
        self.tell(
            console,
            f"the password of {self.name} is {password} until it is changed by "
            "'dwcloud account password'",
            event="reset",
            account=self.name,
            password=password,
        )


class CloseCommand(_AccountOperation):
    """``dwcloud operator close``."""

    command = "dwcloud operator close"
    synopsis = "NAME --accounts DIR [--yes] [--json]"
    longdesc = (
        "Close an account for good and unbind all systems that it owns, for everybody."
    )
    optFlags = [["yes", None, "Do not ask."]]

    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """Close it, if that is meant."""
        if not self["yes"]:
            if not access.terminal.present:
                raise CommandFailed("this cannot be undone; say so by --yes")
            question = f"Close {self.name} for good, and unbind all its systems?"
            if not await access.terminal.ask_yes(question):
                raise CommandFailed("nothing was changed")
        await access.api.operate("DELETE", self.path, key)
        self.tell(console, f"{self.name} is closed", event="closed", account=self.name)


class InviteCommand(_Operation):
    """``dwcloud operator invite``."""

    command = "dwcloud operator invite"
    synopsis = "--accounts DIR [--json]"
    longdesc = (
        "Print the code of an invitation, good for a week and for one registration, "
        "where accounts are made by invitation."
    )

    async def operate(self, access: CloudAccess, console: Console, key: str) -> None:
        """Make it."""
        answer = await access.api.operate("POST", "/invitations", key)
        code = answer["code"]
        self.tell(console, code, event="invited", code=code)


class OperatorCommand(CommandGroup):
    """``dwcloud operator``."""

    command = "dwcloud operator"
    longdesc = (
        "Look after the accounts of a cloud, on the machine of its mediator, as a user "
        "who may read the directory of --accounts."
    )
    subCommands: list[list[Any]] = [
        ["list", None, ListCommand, "List all accounts."],
        ["disable", None, DisableCommand, "Lock an account."],
        ["enable", None, EnableCommand, "Unlock an account."],
        ["reset", None, ResetCommand, "Give an account a new password."],
        ["close", None, CloseCommand, "Close an account for good."],
        ["invite", None, InviteCommand, "Invite somebody to register."],
    ]
