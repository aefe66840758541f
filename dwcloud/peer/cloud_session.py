"""A session at a cloud, gone on with by itself as its tokens grow old."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.logger import Logger

from dwcloud.errors import APIRefused, NotSignedIn
from dwcloud.net.personal_files import FileLock
from dwcloud.peer.api_values import Tokens
from dwcloud.peer.cloud_api import CloudAPI
from dwcloud.peer.credentials import Credentials, CredentialStore

__all__ = ["CloudSession", "credentials_of", "login_command"]

_T = TypeVar("_T")

_MARGIN = 30.0
"""Seconds before its end at which an access token is not relied on any more."""
_LOCK_TIMEOUT = 30.0
"""Seconds that another process may take to renew the tokens of the same session."""
_STILL_GOOD = ("bad_credentials", "totp_required")
"""Reasons of a refusal (401) that are not about the access token."""


def login_command(cloud: str) -> str:
    """What a person types to sign in."""
    return f"dwcloud account login --mediator {cloud}"


class CloudSession:
    """Asks a cloud in the name of the account that is signed in.

    Processes of the same person share one session, and a refresh token is good for a
    single use: who uses it holds a lock, and reads first what the others have got.

    :ivar api: that of the cloud.
    """

    _log = Logger()

    def __init__(self, reactor: Any, api: CloudAPI, store: CredentialStore) -> None:
        self._reactor = reactor
        self._store = store
        self._lock = FileLock(store.file.with_name("session"))
        self.api = api
        credentials = store.load(api.name)
        if credentials is None:
            raise NotSignedIn(f"not signed in to {api.name}: {login_command(api.name)}")
        self._credentials = credentials

    @property
    def credentials(self) -> Credentials:
        """Those in use at present."""
        return self._credentials

    async def call(self, ask: Callable[[str], Awaitable[_T]]) -> _T:
        """Ask the cloud.

        :param ask: gets an access token, and asks.
        :raises NotSignedIn: if the session has ended.
        """
        if self._credentials.expires - self._reactor.seconds() < _MARGIN:
            await self._renew()
        try:
            return await ask(self._credentials.access_token)
        except APIRefused as e:
            if e.status != 401 or e.code in _STILL_GOOD:
                raise
        await self._renew()
        return await ask(self._credentials.access_token)

    async def _renew(self) -> None:
        held = await self._lock.acquire(self._reactor, _LOCK_TIMEOUT)
        try:
            stored = self._store.load(self.api.name)
            if stored is None:
                raise NotSignedIn(
                    f"signed out of {self.api.name}: {login_command(self.api.name)}"
                )
            old = self._credentials.access_token
            self._credentials = stored
            fresh = stored.expires - self._reactor.seconds() >= _MARGIN
            if fresh and stored.access_token != old:
                # Another process was faster.
                return
            try:
                tokens = await self.api.refresh(stored.refresh_token)
            except APIRefused as e:
                if e.status != 401:
                    raise
                raise NotSignedIn(
                    f"the session of {stored.account} at {self.api.name} has ended; "
                    f"sign in again: {login_command(self.api.name)}"
                ) from e
            self._keep(tokens, stored.client_key)
        finally:
            held.release()

    def _keep(self, tokens: Tokens, client_key: bytes) -> None:
        self._credentials = credentials_of(tokens, client_key, self._reactor.seconds())
        self._store.save(self.api.name, self._credentials)
        self._log.debug("the tokens for {cloud} are renewed", cloud=self.api.name)


def credentials_of(tokens: Tokens, client_key: bytes, now: float) -> Credentials:
    """What is to be stored of a session.

    :param client_key: its secret bytes.
    :param now: seconds since 1970.
    """
    return Credentials(
        tokens.account.name,
        tokens.account.id,
        tokens.access_token,
        now + tokens.expires_in,
        tokens.refresh_token,
        client_key,
    )
