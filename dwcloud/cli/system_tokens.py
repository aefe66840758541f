"""``dwcloud system token``: for programs that connect to one system."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

from dwcloud.cli.cloud_access import CloudAccess
from dwcloud.cli.command import CommandGroup, require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.options import one_of, value_of
from dwcloud.cli.system_cloud import SystemOfCloudCommand
from dwcloud.cli.table import render_table
from dwcloud.net.private_files import replace_file
from dwcloud.peer.api_values import System, Token

__all__ = ["TokenCommand", "read_lifetime"]

_ROLES = ("viewer", "administrator")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_LIFETIME = re.compile(r"([0-9]{1,6})([smh])")
_SHORTEST, _LONGEST = 60, 24 * 3600
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")


def read_lifetime(text: str) -> int:
    """Read for how many seconds a token is to be good.

    :raises ValueError: if it is no such time.
    """
    match = _LIFETIME.fullmatch(text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(
            f"{text!r} is no time from 1m to 24h: expected one such as 15m or 8h"
        )
    return seconds


def read_label(text: str) -> str:
    """Read what a token is to be called.

    :raises ValueError: if it cannot be.
    """
    if not _LABEL.fullmatch(text):
        raise ValueError(
            f"{text!r} cannot be a label: expected up to 63 letters a to z, digits, "
            "blanks, '.', '_' and '-', such as night-build"
        )
    return text


def _moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


class CreateTokenCommand(SystemOfCloudCommand):
    """``dwcloud system token create``."""

    command = "dwcloud system token create"
    synopsis = "NAME [--role ROLE] [--lifetime TIME] [--file FILE] [options]"
    longdesc = (
        "Make a token by which a program connects to this system, and does nothing "
        "else with your account: 'dwcloud connect NAME --token-file FILE'. A viewer's "
        "connects; an administrator's may also rename the system and read its log. It "
        "ends by itself after a short time, by 'dwcloud system token revoke', and with "
        "your own role. It is printed once, on standard output, unless --file is given."
    )
    optParameters = [
        [
            "role",
            None,
            "viewer",
            f"The role: {' or '.join(_ROLES)}.",
            one_of("--role", *_ROLES),
        ],
        [
            "lifetime",
            None,
            "1h",
            "For how long it is good, from 1m to 24h.",
            value_of("--lifetime", read_lifetime),
        ],
        [
            "label",
            None,
            "token",
            "What lists and logs call it.",
            value_of("--label", read_label),
        ],
        ["file", None, None, "Write it to this file, for nobody else to read."],
    ]
    examples = (
        "  dwcloud system token create garage --lifetime 15m --file token\n"
        "  DWCLOUD_TOKEN=$(dwcloud system token create garage) backup.sh\n"
    )

    def postOptions(self) -> None:
        """Read the default as well."""
        super().postOptions()
        require(self["file"] != "", "--file: name a file")
        if isinstance(self["lifetime"], str):
            self["lifetime"] = read_lifetime(self["lifetime"])

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Make it."""
        session, system = await self.find(access)
        made, secret = await session.call(
            lambda token: access.api.make_token(
                token,
                system.id,
                role=str(self["role"]),
                label=str(self["label"]),
                lifetime=int(self["lifetime"]),
            )
        )
        if self["file"] is not None:
            replace_file(Path(self["file"]).expanduser(), f"{secret}\n".encode())
        if self["json"]:
            console.result_event(self._result(access, system, made, secret))
            return
        use = "in DWCLOUD_TOKEN"
        if self["file"] is None:
            console.line(secret)
        else:
            use = f"by --token-file {self['file']}"
        console.message(
            f"{made.role} of {system.owner}/{system.name} until "
            f"{_moment(made.expires)}; 'dwcloud connect' and 'dwcloud forward' take it "
            f"{use}, with --mediator {access.cloud}{self._key(access)}"
        )

    def _key(self, access: CloudAccess) -> str:
        key = access.fingerprint
        return f" --fingerprint {key}" if key else ""

    def _result(
        self, access: CloudAccess, system: System, made: Token, secret: str
    ) -> dict[str, Any]:
        told: dict[str, Any] = {"file": self["file"]}
        if self["file"] is None:
            told = {"access_token": secret}
        return {
            "event": "token_made",
            "cloud": access.cloud,
            "fingerprint": access.fingerprint,
            "system": system.as_dict(),
            "token": made.as_dict(),
            **told,
        }


class ListTokensCommand(SystemOfCloudCommand):
    """``dwcloud system token list``."""

    command = "dwcloud system token list"
    synopsis = "NAME [--mediator HOST[:PORT]] [--json]"
    longdesc = "List your tokens for a system that are still good."

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """List them."""
        session, system = await self.find(access)
        tokens = await session.call(lambda token: access.api.tokens(token, system.id))
        if self["json"]:
            entries = [token.as_dict() for token in tokens]
            console.result_event({"system": system.as_dict(), "tokens": entries})
            return
        if not tokens:
            console.message(f"{self.command}: none; they end by themselves")
            return
        rows = [
            [
                str(token.id)[:8],
                token.label,
                token.role,
                "never" if token.used is None else _moment(token.used),
                _moment(token.expires),
            ]
            for token in tokens
        ]
        header = ["token", "label", "role", "used", "until"]
        for line in render_table(header, rows):
            console.line(line)


class RevokeTokenCommand(SystemOfCloudCommand):
    """``dwcloud system token revoke``."""

    command = "dwcloud system token revoke"
    synopsis = "NAME TOKEN [--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "End one of your tokens for a system: TOKEN is its label, or what 'dwcloud "
        "system token list' shows. If it was used, connections of your account to the "
        "system end within a minute; whoever is signed in can make new ones at once."
    )
    words = "NAME TOKEN"
    token: str

    def count(self) -> tuple[int, int]:
        """Both."""
        return 2, 2

    def take(self, *words: str) -> None:
        """Take the token."""
        self.token = words[0]
        require(self.token, "TOKEN: name one that 'dwcloud system token list' shows")

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """End it."""
        session, system = await self.find(access)
        tokens = await session.call(lambda token: access.api.tokens(token, system.id))
        name = f"{system.owner}/{system.name}"
        found = [t for t in tokens if t.label == self.token]
        found = found or [t for t in tokens if str(t.id).startswith(self.token.lower())]
        if len(found) != 1:
            which = "no token" if not found else f"{len(found)} tokens"
            raise CommandFailed(
                f"you have {which} {self.token!r} for {name}; 'dwcloud system token "
                "list' shows what there is"
            )
        [revoked] = found
        await session.call(
            lambda token: access.api.revoke_token(token, system.id, revoked.id)
        )
        self.tell(
            console,
            f"token {revoked.label} ({str(revoked.id)[:8]}) for {name} is revoked",
            event="token_revoked",
            system=system.as_dict(),
            token=revoked.as_dict(),
        )


class TokenCommand(CommandGroup):
    """``dwcloud system token``."""

    command = "dwcloud system token"
    longdesc = (
        "A token lets a program connect to one system for a short time, without your "
        "password and without anything else of your account."
    )
    subCommands: list[list[Any]] = [
        ["create", None, CreateTokenCommand, "Make one."],
        ["list", None, ListTokensCommand, "List yours."],
        ["revoke", None, RevokeTokenCommand, "End one before its time."],
    ]
