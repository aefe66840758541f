"""``dwcloud account``: make accounts, and sign in to clouds."""

from __future__ import annotations

import io
from typing import Any

from dwcloud.cli.cloud_access import CloudAccess, CloudCommand, read_lines
from dwcloud.cli.command import CommandGroup, CommandOptions, require
from dwcloud.cli.console import Console
from dwcloud.cli.options import value_of
from dwcloud.cli.table import render_table
from dwcloud.errors import APIRefused, CloudError
from dwcloud.peer.credentials import CredentialStore
from dwcloud.peer.known_clouds import KnownClouds, cloud_name
from dwcloud.peer.mediator_address import MediatorAddress

__all__ = ["AccountCommand"]

_PASSWORD_FILE = [
    "password-file",
    None,
    None,
    "Read the password from the first line of this file, or of standard input if it "
    "is named '-', in place of asking for it.",
]


class _PasswordCommand(CloudCommand):
    """A command that needs a password."""

    optParameters = [_PASSWORD_FILE]
    lines = 1
    passwords: list[str]

    def run(self, console: Console) -> int:
        """Read the file before anything is asked."""
        name = self["password-file"]
        self.passwords = [] if name is None else read_lines(name, self.lines)
        return super().run(console)

    @property
    def password(self) -> str | None:
        """That of the file, None without one."""
        return self.passwords[0] if self.passwords else None


class _NamedAccountCommand(_PasswordCommand):
    name: str | None = None

    def parseArgs(self, *words: str) -> None:
        """Take the account's name, if there is one."""
        require(len(words) <= 1, "expected at most one NAME")
        if words:
            self.name = words[0]

    def tell_signed_in(
        self, console: Console, access: CloudAccess, event: str, account: str
    ) -> None:
        """Print who is signed in to what."""
        who = access.store.signed_in(access.cloud)
        assert who is not None
        place = "the keyring" if who.place == "keyring" else str(access.store.file)
        self.tell(
            console,
            f"signed in to {access.cloud} as {account}; the session is kept in {place}",
            event=event,
            cloud=access.cloud,
            account=account,
            place=who.place,
        )


class RegisterCommand(_NamedAccountCommand):
    """``dwcloud account register``."""

    command = "dwcloud account register"
    synopsis = "[NAME] --mediator HOST[:PORT] [options]"
    longdesc = (
        "Make an account at the cloud and sign in to it. The password is asked for, "
        "twice, at the terminal."
    )
    optParameters = [
        ["invitation", None, None, "The code that you were given, where one is needed."]
    ]
    examples = (
        "  dwcloud account register anna --mediator HOST\n"
        "  dwcloud account register anna --mediator HOST --password-file - < secret\n"
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Register, then sign in."""
        name = self.name
        if name is None:
            name = await access.answer("Name of the new account: ", "name the account")
        invitation = self["invitation"]
        if invitation is None:
            description = await access.api.describe()
            if description.registration == "invited":
                invitation = await access.answer(
                    "Invitation: ", "this cloud wants an invitation: --invitation CODE"
                )
        password = self.password or await access.ask_new_password()
        made = await access.register(name, password, invitation)
        self.tell_signed_in(console, access, "registered", made.account)


class LoginCommand(_NamedAccountCommand):
    """``dwcloud account login``."""

    command = "dwcloud account login"
    synopsis = "[NAME] --mediator HOST[:PORT] [options]"
    longdesc = (
        "Sign in to the cloud. From then on it is the one that is meant where "
        "--mediator names none."
    )
    optParameters = [
        ["totp", None, None, "The code of the second factor, in place of being asked."]
    ]
    examples = "  dwcloud account login anna --mediator HOST\n"

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Sign in."""
        credentials = await access.sign_in_by_asking(
            self.name, self.password, self["totp"]
        )
        self.tell_signed_in(console, access, "signed_in", credentials.account)


class LogoutCommand(CloudCommand):
    """``dwcloud account logout``."""

    command = "dwcloud account logout"
    synopsis = "[--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "End the session here. Where the cloud cannot be reached it is forgotten here "
        "all the same, and ends there when it is 30 days old."
    )

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Sign out there, and here in any case."""
        session = access.session()
        account = session.credentials.account
        ended, why = True, ""
        try:
            await session.call(access.api.sign_out)
        except (CloudError, OSError) as e:
            # It has ended already, or cannot be told.
            ended = isinstance(e, APIRefused) and e.status == 401
            why = "" if ended else f"; the cloud could not be told: {e}"
        access.store.remove(access.cloud)
        self.tell(
            console,
            f"signed out of {access.cloud}{why}",
            event="signed_out",
            cloud=access.cloud,
            account=account,
            ended_there=ended,
        )


class PasswordCommand(_PasswordCommand):
    """``dwcloud account password``."""

    command = "dwcloud account password"
    synopsis = "[--mediator HOST[:PORT]] [--password-file FILE] [--json]"
    longdesc = (
        "Change the password. All other sessions of the account end. A file for "
        "--password-file has the old password on the first line and the new one on "
        "the second."
    )
    lines = 2

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Change it."""
        session = access.session()
        if self.passwords:
            old, new = self.passwords
        else:
            old = await access.ask_password("Old password: ")
            new = await access.ask_new_password("New password: ")
        await session.call(lambda token: access.api.change_password(token, old, new))
        self.tell(
            console,
            "the password is changed; all other sessions have ended",
            event="password_changed",
            cloud=access.cloud,
            account=session.credentials.account,
        )


class TOTPCommand(_PasswordCommand):
    """``dwcloud account totp``."""

    command = "dwcloud account totp"
    synopsis = "[--remove] [--code CODE] [--mediator HOST[:PORT]] [--json]"
    longdesc = (
        "Add a second factor to the account: a code that changes every half minute "
        "(RFC 6238). What has to be told to the program that makes the codes is shown "
        "as a URI and as a picture. It counts once you have typed a code; --code CODE "
        "does that in a later call, without a terminal."
    )
    optFlags = [["remove", None, "Do without the second factor again."]]
    optParameters = [["code", None, None, "A code, in place of being asked for it."]]

    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Add it, or remove it."""
        session = access.session()
        if self["remove"]:
            password = self.password or await access.ask_password()
            code = self["code"] or await self._ask_code(access)
            await session.call(
                lambda token: access.api.remove_totp(token, password, code)
            )
            text = "there is no second factor any more"
            self.tell(console, text, event="totp_removed", cloud=access.cloud)
            return
        code = self["code"]
        if code is None:
            _, uri = await session.call(access.api.begin_totp)
            self.tell(
                console,
                f"{picture(uri)}\n{uri}",
                event="totp",
                uri=uri,
                confirmed=False,
            )
            if not access.terminal.present:
                console.message(
                    f"{self.command}: it counts after '{self.command} --code CODE'"
                )
                return
            code = await self._ask_code(access)
        codes = await session.call(lambda t: access.api.confirm_totp(t, code))
        self.tell(
            console,
            "the second factor is needed from now on. Keep these codes offline; each "
            "replaces it once:\n  " + "\n  ".join(codes),
            event="totp_confirmed",
            cloud=access.cloud,
            recovery_codes=codes,
        )

    async def _ask_code(self, access: CloudAccess) -> str:
        return await access.answer("Code: ", "give a code by --code CODE")


def picture(text: str) -> str:
    """A QR code (ISO/IEC 18004) made of characters."""
    import segno  # Only here is it worth the time that loading it takes.

    out = io.StringIO()
    segno.make(text, micro=False).terminal(out, compact=True, border=2)
    return out.getvalue().rstrip("\n")


class ListCommand(CommandOptions):
    """``dwcloud account list``."""

    command = "dwcloud account list"
    synopsis = "[--json]"
    longdesc = "List the clouds that you are signed in to here."
    optFlags = [["json", None, "Print one line of JSON instead."]]

    def run(self, console: Console) -> int:
        """List them."""
        store = CredentialStore()
        current = store.current
        clouds = sorted(store.clouds().items())
        if self["json"]:
            entries = [
                {
                    "cloud": cloud,
                    "account": who.account,
                    "current": cloud == current,
                    "system": who.system and str(who.system),
                    "place": who.place,
                }
                for cloud, who in clouds
            ]
            console.result_event({"clouds": entries})
            return 0
        if not clouds:
            console.message("not signed in anywhere: dwcloud account login")
            return 0
        rows = [
            ["*" if cloud == current else "", cloud, who.account, who.place]
            for cloud, who in clouds
        ]
        for line in render_table(["", "cloud", "account", "kept in"], rows):
            console.line(line)
        return 0


class _CloudArgument(CommandOptions):
    optFlags = [["json", None, "Print one line of JSON instead."]]
    cloud: str

    def parseArgs(self, *words: str) -> None:
        """Take the cloud."""
        require(len(words) == 1, "expected CLOUD, the HOST or HOST:PORT of a mediator")
        self.cloud = cloud_name(value_of("CLOUD", MediatorAddress.parse)(words[0]))


class UseCommand(_CloudArgument):
    """``dwcloud account use``."""

    command = "dwcloud account use"
    synopsis = "CLOUD [--json]"
    longdesc = "Mean this cloud, of those you are signed in to, where none is named."

    def run(self, console: Console) -> int:
        """Mean it."""
        CredentialStore().use(self.cloud)
        if self["json"]:
            console.result_event({"event": "using", "cloud": self.cloud})
        else:
            console.line(f"{self.cloud} is meant where no mediator is named")
        return 0


class ForgetCommand(_CloudArgument):
    """``dwcloud account forget``."""

    command = "dwcloud account forget"
    synopsis = "CLOUD [--json]"
    longdesc = (
        "Forget the key of a cloud, and the session there. Do so only if you know why "
        "it has another key now: whoever answers next is taken for the cloud."
    )

    def run(self, console: Console) -> int:
        """Forget it."""
        CredentialStore.default().remove(self.cloud)
        KnownClouds().forget(self.cloud)
        if self["json"]:
            console.result_event({"event": "forgotten", "cloud": self.cloud})
        else:
            console.line(f"nothing is known of {self.cloud} any more")
        return 0


class AccountCommand(CommandGroup):
    """``dwcloud account``."""

    command = "dwcloud account"
    longdesc = (
        "An account at a cloud has systems and a role on each. 'register' makes one, "
        "'login' signs in to it on this machine."
    )
    subCommands: list[list[Any]] = [
        ["register", None, RegisterCommand, "Make an account and sign in."],
        ["login", None, LoginCommand, "Sign in."],
        ["logout", None, LogoutCommand, "End the session here."],
        ["password", None, PasswordCommand, "Change the password."],
        ["totp", None, TOTPCommand, "Add a second factor, or remove it."],
        ["list", None, ListCommand, "List where you are signed in."],
        ["use", None, UseCommand, "Choose the cloud that is meant."],
        ["forget", None, ForgetCommand, "Forget the key of a cloud."],
    ]
