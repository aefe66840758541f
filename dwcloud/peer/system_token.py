"""What a token for one system lets in: for programs that nobody signs in for.

Such a token (``docs/protocol/accounts.rst``) stands in for the account that is signed
in, as far as connecting goes; nothing of it is kept on the machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from twisted.internet.defer import Deferred
from zope.interface import implementer

from dwcloud.errors import APIRefused, ConfigurationError, NotSignedIn, SystemUnknown
from dwcloud.interfaces import IGrantSource
from dwcloud.net.signing import SigningKey
from dwcloud.peer.api_values import Grant
from dwcloud.peer.cloud_api import CloudAPI
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.protocol.grants import ClientGrant
from dwcloud.protocol.names import PeerName

__all__ = [
    "TOKEN_FILE_VARIABLE",
    "TOKEN_VARIABLE",
    "TokenAccount",
    "read_token_file",
    "token_of_environment",
]

TOKEN_VARIABLE = "DWCLOUD_TOKEN"
"""Holds a token."""
TOKEN_FILE_VARIABLE = "DWCLOUD_TOKEN_FILE"
"""Names a file with one; the option goes before both, this before the other."""

_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
_EXPIRY_MARGIN = 5.0
"""Seconds before its end at which a grant is not used any more."""

_T = TypeVar("_T")


def _read(text: str, place: str) -> str:
    token = text.strip()
    if not _FORM.fullmatch(token):
        raise ConfigurationError(
            f"{place} holds no token: expected the 43 characters that 'dwcloud system "
            "token create' prints"
        )
    return token


def read_token_file(name: str) -> str:
    """Read a token from a file.

    :raises ConfigurationError: if it cannot be read, or holds none.
    """
    try:
        text = Path(name).expanduser().read_text("ascii")
    except OSError as e:
        raise ConfigurationError(f"cannot read {name}: {e.strerror}") from e
    except UnicodeDecodeError:
        text = ""
    return _read(text, name)


def token_of_environment(environment: Mapping[str, str] | None = None) -> str | None:
    """Return the token that the environment names, None without one.

    :param environment: that of this process unless given.
    :raises ConfigurationError: if it cannot be read, or is none.
    """
    environment = os.environ if environment is None else environment
    if name := environment.get(TOKEN_FILE_VARIABLE):
        return read_token_file(name)
    if text := environment.get(TOKEN_VARIABLE):
        return _read(text, TOKEN_VARIABLE)
    return None


@implementer(IGrantSource)
class TokenAccount:
    """Connects by a token, with a key of this process's own.

    :param api: that of the cloud.
    :param token: what opens one of its systems.
    """

    def __init__(self, reactor: Any, api: CloudAPI, token: str) -> None:
        self._reactor = reactor
        self._api = api
        self._token = token
        self._key = SigningKey.generate()
        self._grants: dict[UUID, Grant] = {}

    def close(self) -> None:
        """Close the connection to the cloud, if there is one."""
        self._api.close()

    def grant_for(
        self, name: PeerName, renew: bool = False
    ) -> Deferred[ClientGrant | None]:
        """Find a grant; see :class:`dwcloud.interfaces.IGrantSource`.

        None is the answer also if the token is for another system. Fails with
        NotSignedIn if it is worth nothing any more.
        """
        return Deferred.fromCoroutine(self._grant_for(name.system, renew))

    async def _grant_for(self, system: UUID, renew: bool) -> ClientGrant | None:
        grant = self._grants.get(system)
        now = self._reactor.seconds()
        if renew or grant is None or grant.expires - now < _EXPIRY_MARGIN:
            self._grants.pop(system, None)
            try:
                grant = await self._ask(
                    lambda token: self._api.grant(
                        token, PeerName(system), self._key.public_key
                    )
                )
            except APIRefused as e:
                if e.status != 404:
                    raise
                return None
            self._grants[system] = grant
        return ClientGrant(grant.octets, self._key.sign)

    async def resolve(self, reference: SystemReference) -> PeerName:
        """Find out which system a person means; ``.`` is that of the token.

        :raises SystemUnknown: if it is another one.
        :raises NotSignedIn: if the token is worth nothing any more.
        """
        systems = await self._ask(self._api.systems)
        if reference == IN_USE:
            if len(systems) != 1:
                raise SystemUnknown("the system of the token is not there any more")
            return systems[0].peer
        return reference.find(systems)

    async def _ask(self, ask: Callable[[str], Awaitable[_T]]) -> _T:
        try:
            return await ask(self._token)
        except APIRefused as e:
            if e.status != 401:
                raise
            raise NotSignedIn(
                f"the token counts for nothing at {self._api.name}: it has expired or "
                "was revoked, or another cloud made it; make a new one: dwcloud system "
                "token create NAME"
            ) from e
