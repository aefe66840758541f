"""How commands get to the accounts of a cloud: trust, questions, sessions."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dwcloud.cli.command import require
from dwcloud.cli.console import Console
from dwcloud.cli.failures import CommandFailed
from dwcloud.cli.options import MEDIATOR_VARIABLE, MediatorOptions
from dwcloud.cli.running import begin_logging, run
from dwcloud.cli.terminal import Terminal
from dwcloud.cli.token_options import FingerprintOptions, TokenOptions
from dwcloud.errors import APIRefused, ConfigurationError
from dwcloud.net.cloud_trust import WEB, Presented
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.cloud_account import CloudAccount
from dwcloud.peer.cloud_api import CloudAPI
from dwcloud.peer.cloud_session import CloudSession, credentials_of
from dwcloud.peer.credentials import Credentials, CredentialStore
from dwcloud.peer.known_clouds import KnownClouds
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.peer.system_token import TokenAccount
from dwcloud.protocol.names import PeerName

__all__ = [
    "CloudAccess",
    "CloudCommand",
    "CloudOptions",
    "find_peer",
    "read_lines",
    "run_with_access",
]

_T = TypeVar("_T")
_TRIES = 3
"""How often a person at the terminal may type the password."""


def read_lines(name: str, count: int) -> list[str]:
    """Read passwords, one a line, from a file or, named ``-``, from standard input.

    :raises ConfigurationError: if it has other than ``count`` lines.
    """
    try:
        if name == "-":
            data = sys.stdin.buffer.read()
        else:
            data = Path(name).expanduser().read_bytes()
        lines = data.decode().splitlines()
    except OSError as e:
        raise ConfigurationError(f"cannot read {name}: {e.strerror}") from e
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name} is not text in UTF-8") from None
    what = "standard input" if name == "-" else name
    if len(lines) != count or not all(lines):
        wanted = "the password on one line" if count == 1 else f"{count} lines"
        raise ConfigurationError(f"{what} has {len(lines)} lines, expected {wanted}")
    return lines


class CloudAccess:
    """The accounts of one cloud, for one command.

    :param expected: fingerprint of the key that the cloud must show.
    :ivar api: to ask the cloud.
    :ivar store: of the sessions of this person.
    :ivar terminal: to ask this person.
    """

    def __init__(
        self,
        reactor: Any,
        options: MediatorOptions,
        console: Console,
        expected: str | None = None,
    ) -> None:
        mediator = options.mediator
        assert mediator is not None
        self._reactor = reactor
        self._console = console
        self.terminal = Terminal(reactor)
        self.store = CredentialStore.default()
        self.api = CloudAPI(
            reactor,
            mediator,
            KnownClouds(),
            proxies=Proxies(reactor, options.proxies),
            interface=options.interface,
            expected=expected,
            confirm=self._confirm,
        )

    @property
    def cloud(self) -> str:
        """The name of the cloud."""
        return self.api.name

    def account(self) -> CloudAccount:
        """The account that is signed in."""
        return CloudAccount(self._reactor, self.api, self.store)

    @property
    def fingerprint(self) -> str:
        """The key by which the cloud is known; empty if an authority vouches for it."""
        known = self.api.trust.known
        return "" if known is None or known.trust == WEB else known.trust

    def by_token(self, token: str) -> TokenAccount:
        """What a token for one system lets in."""
        return TokenAccount(self._reactor, self.api, token)

    def close(self) -> None:
        """Close the connection to the cloud."""
        self.api.close()

    async def _confirm(self, presented: Presented) -> None:
        """Ask whether a new cloud is to be believed."""
        if presented.vouched:
            return
        known = (
            f"Nobody vouches for the certificate of {self.cloud} ({presented.reason}). "
            f"Its key is {presented.fingerprint}."
        )
        if not self.terminal.present:
            self._console.message(f"{known} From now on no other one is accepted.")
        elif not await self.terminal.ask_yes(f"{known}\nIs that the right one?"):
            raise CommandFailed("the key was not accepted; nothing was sent")

    # Sessions

    def session(self) -> CloudSession:
        """The session that there is.

        :raises NotSignedIn: if there is none.
        """
        return CloudSession(self._reactor, self.api, self.store)

    async def session_or_ask(self) -> CloudSession:
        """The session that there is, or one that the person at the terminal begins.

        :raises NotSignedIn: if there is neither.
        """
        if self.store.signed_in(self.cloud) is None:
            if not self.terminal.present:
                return self.session()
            description = await self.api.describe()
            has_one = await self.terminal.ask_yes(
                f"You are not signed in to {self.cloud}. Do you have an account there?"
            )
            if not has_one:
                invitation = None
                if description.registration == "invited":
                    invitation = await self.terminal.ask("Invitation: ")
                name = await self.terminal.ask("Name of the new account: ")
                password = await self.terminal.ask_new_password()
                await self.register(name, password, invitation)
            else:
                await self.sign_in_by_asking(None, None, None)
        return self.session()

    async def register(
        self, name: str, password: str, invitation: str | None
    ) -> Credentials:
        """Make an account and begin a session."""
        await self.api.register(name, password, invitation)
        return await self.sign_in(name, password, None)

    async def sign_in_by_asking(
        self, name: str | None, password: str | None, totp: str | None
    ) -> Credentials:
        """Begin a session; what is not given is asked for at the terminal."""
        if name is None:
            name = await self.answer("Account: ", "name the account")
        for tries_left in reversed(range(_TRIES)):
            typed = password or await self.ask_password()
            try:
                return await self.sign_in(name, typed, totp)
            except APIRefused as e:
                if e.code != "bad_credentials" or password or not tries_left:
                    raise
                self._console.message(str(e))
        raise AssertionError("the last try returns or raises")

    async def sign_in(self, name: str, password: str, totp: str | None) -> Credentials:
        """Begin a session, and mean this cloud where none is named."""
        try:
            tokens = await self.api.sign_in(name, password, totp)
        except APIRefused as e:
            if e.code != "totp_required" or totp is not None:
                raise
            code = await self.answer(
                "Code of the second factor: ",
                "the account has a second factor: give its code by --totp CODE",
            )
            tokens = await self.api.sign_in(name, password, code)
        key = Ed25519PrivateKey.generate().private_bytes_raw()
        credentials = credentials_of(tokens, key, self._reactor.seconds())
        self.store.save(self.cloud, credentials)
        self.store.use(self.cloud)
        return credentials

    # Questions

    async def answer(self, question: str, otherwise: str) -> str:
        """Ask for something that no option gave.

        :param otherwise: what to do where nobody is there to be asked.
        :raises CommandFailed: if nobody is there.
        """
        if not self.terminal.present:
            raise CommandFailed(otherwise)
        return await self.terminal.ask(question)

    async def ask_password(self, question: str = "Password: ") -> str:
        """Ask for a password.

        :raises CommandFailed: if nobody is there.
        """
        self._require_terminal()
        return await self.terminal.ask(question, secret=True)

    async def ask_new_password(self, question: str = "Password: ") -> str:
        """Ask for a new password, twice.

        :raises CommandFailed: if nobody is there.
        """
        self._require_terminal()
        return await self.terminal.ask_new_password(question)

    def _require_terminal(self) -> None:
        if not self.terminal.present:
            raise CommandFailed(
                "there is no terminal to ask for the password at; give it by "
                "--password-file FILE, or by --password-file - on standard input"
            )


async def find_peer(
    reactor: Any,
    options: MediatorOptions,
    console: Console,
    reference: PeerName | SystemReference,
) -> tuple[PeerName, CloudAccount | TokenAccount | None]:
    """Find out whom a person means, and what lets in there.

    A name needs an account: who is not signed in is asked to, at the terminal. A token
    goes before the account.

    :return: the account is None without a mediator; it is to be closed.
    :raises NotSignedIn: if nobody is signed in and nobody is there to be asked.
    :raises SystemUnknown: if the account has no such system.
    """
    if options.mediator is None:
        if isinstance(reference, PeerName):
            return reference, None
        raise CommandFailed(
            f"{reference} is the name of a system, which only a cloud knows: name the "
            f"mediator by --mediator HOST[:PORT] or {MEDIATOR_VARIABLE}, or sign in"
        )
    token, expected = None, None
    if isinstance(options, TokenOptions):
        token, expected = options.token, options["fingerprint"]
    access = CloudAccess(reactor, options, console, expected)
    account = access.account() if token is None else access.by_token(token)
    if isinstance(reference, PeerName):
        return reference, account
    try:
        if reference != IN_USE and token is None:
            await access.session_or_ask()
        return await account.resolve(reference), account
    except BaseException:
        account.close()
        raise


class CloudOptions(FingerprintOptions, MediatorOptions):
    """Options of a command that asks the accounts of a cloud for something."""

    def postOptions(self) -> None:
        """There has to be a cloud."""
        super().postOptions()
        require(
            self.mediator is not None,
            f"name the mediator: --mediator HOST[:PORT] or {MEDIATOR_VARIABLE} in the "
            "environment",
        )


def run_with_access(
    options: CloudOptions,
    console: Console,
    ask: Callable[[CloudAccess, Console], Awaitable[None]],
) -> int:
    """Run a command that asks the accounts of a cloud; return the exit code."""
    begin_logging(options["verbose"], options["log-format"])

    async def command(reactor: Any) -> int:
        access = CloudAccess(reactor, options, console, options["fingerprint"])
        try:
            await ask(access, console)
        finally:
            access.close()
        return 0

    return run(options.command, command, console)


class CloudCommand(CloudOptions):
    """A command that does nothing but ask the accounts of a cloud for something."""

    optFlags = [["json", None, "Print one line of JSON instead."]]

    def run(self, console: Console) -> int:
        """Ask, and print what came of it."""
        return run_with_access(self, console, self.ask)

    @abstractmethod
    async def ask(self, access: CloudAccess, console: Console) -> None:
        """Do what the command is for."""

    def tell(self, console: Console, text: str, **values: Any) -> None:
        """Print the result, in words or as JSON."""
        if self["json"]:
            console.result_event(values)
        else:
            console.line(text)
