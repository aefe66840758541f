"""The account that is signed in: the names of its systems, and what lets it in."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.logger import Logger
from zope.interface import implementer

from dwcloud.errors import (
    APIRefused,
    CloudKeyChanged,
    ConnectTimeout,
    NotSignedIn,
    SystemUnknown,
)
from dwcloud.interfaces import IGrantSource
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.signing import SigningKey
from dwcloud.peer.api_values import System
from dwcloud.peer.cloud_api import CloudAPI
from dwcloud.peer.cloud_cache import CloudCache
from dwcloud.peer.cloud_session import CloudSession
from dwcloud.peer.credentials import CredentialStore
from dwcloud.peer.known_clouds import KnownClouds
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.system_names import IN_USE, SystemReference
from dwcloud.peer.system_token import TokenAccount, token_of_environment
from dwcloud.protocol.grants import ClientGrant
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.tunnelling.proxies import NO_PROXIES, ProxySettings

__all__ = ["CloudAccount", "account_at"]

_NAMES_LIFETIME = 3600.0
"""Seconds for which a list of systems is used without asking for a newer one."""
_PATIENCE = 4.0
"""Seconds for a newer list where there is an old one."""
_UNREACHABLE = (ConnectError, ConnectionLost, DNSLookupError, ConnectTimeout)


@implementer(IGrantSource)
class CloudAccount:
    """What connects people to their systems, if they are signed in to the cloud.

    :param api: that of the cloud.
    :param store: of sessions; without one at this cloud there are no grants.
    :param cache_file: see :class:`~dwcloud.peer.cloud_cache.CloudCache`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        api: CloudAPI,
        store: CredentialStore,
        cache_file: Any = None,
    ) -> None:
        self._reactor = reactor
        self._api = api
        self._store = store
        self._cache_file = cache_file
        self._session: CloudSession | None = None

    def close(self) -> None:
        """Close the connection to the cloud, if there is one."""
        self._api.close()

    # Grants

    def grant_for(
        self, name: PeerName, renew: bool = False
    ) -> Deferred[ClientGrant | None]:
        """Find a grant; see :class:`dwcloud.interfaces.IGrantSource`.

        None is the answer also if nobody is signed in, and if the account has no role
        on the system.
        """
        return Deferred.fromCoroutine(self._grant_for(name.system, renew))

    async def _grant_for(self, system: UUID, renew: bool) -> ClientGrant | None:
        try:
            session = self._open()
        except NotSignedIn:
            return None
        key = SigningKey.from_bytes(session.credentials.client_key)
        cache = self._cache(key)
        grant = None if renew else cache.grant(system, self._reactor.seconds())
        if grant is None:
            if renew:
                cache.drop_grant(system)
            try:
                grant = await session.call(
                    lambda token: self._api.grant(
                        token, PeerName(system), key.public_key
                    )
                )
            except APIRefused as e:
                if e.status != 404:
                    raise
                # No role, or no such system, which is told in the same words.
                return None
            cache.keep_grant(system, grant)
        return ClientGrant(grant.octets, key.sign)

    # Names

    async def resolve(self, reference: SystemReference) -> PeerName:
        """Find out which system a person means.

        :raises SystemUnknown: if it is none, or may be several.
        :raises NotSignedIn: if nobody is signed in: names belong to accounts.
        """
        if reference == IN_USE:
            return PeerName(self.system_in_use())
        session = self._open()
        key = SigningKey.from_bytes(session.credentials.client_key)
        cached = self._cache(key).systems()
        if cached is not None:
            age = self._reactor.seconds() - cached.at
            if 0 <= age < _NAMES_LIFETIME:
                try:
                    return reference.find(cached.systems)
                except SystemUnknown:
                    # It may be newer than the list.
                    self._log.debug("{name} is not in the list", name=str(reference))
        asking = Deferred.fromCoroutine(self.systems())
        if cached is not None:
            asking.addTimeout(_PATIENCE, self._reactor, onTimeoutCancel=_timed_out)
        try:
            systems = await asking
        except (APIRefused, CloudKeyChanged, NotSignedIn):
            raise
        except _UNREACHABLE as e:
            if cached is None:
                raise
            self._log.info("names are those of before: {reason}", reason=str(e))
            systems = cached.systems
        return reference.find(systems)

    async def systems(self) -> tuple[System, ...]:
        """Ask for the systems on which the account has a role.

        :raises NotSignedIn: if nobody is signed in.
        """
        session = self._open()
        systems = await session.call(self._api.systems)
        key = SigningKey.from_bytes(session.credentials.client_key)
        self._cache(key).keep_systems(systems, self._reactor.seconds())
        return systems

    def system_in_use(self) -> UUID:
        """The system that is meant where none is named.

        :raises SystemUnknown: if none was chosen.
        """
        who = self._store.signed_in(self._api.name)
        if who is None or who.system is None:
            raise SystemUnknown(
                "no system is in use: name one, or choose it by 'dwcloud system use "
                "NAME'"
            )
        return who.system

    def _open(self) -> CloudSession:
        if self._session is None:
            self._session = CloudSession(self._reactor, self._api, self._store)
        return self._session

    def _cache(self, key: SigningKey) -> CloudCache:
        return CloudCache(self._api.name, key.public_key, self._cache_file)


def _timed_out(_: object, timeout: float) -> Any:
    raise ConnectTimeout(f"the cloud did not answer within {timeout:g} s")


def account_at(
    reactor: Any,
    mediator: MediatorAddress,
    *,
    proxies: ProxySettings = NO_PROXIES,
    interface: str = "",
) -> CloudAccount | TokenAccount:
    """What this person may use at a mediator: by a token that the environment names, or
    else as the account that is signed in.

    :param proxies: those that lead there.
    :param interface: local IP address to connect from, empty for any.
    :raises ConfigurationError: if the environment names a token that cannot be read.
    """
    token = token_of_environment()
    api = CloudAPI(
        reactor,
        mediator,
        KnownClouds(),
        proxies=Proxies(reactor, proxies),
        interface=interface,
    )
    if token is not None:
        return TokenAccount(reactor, api, token)
    return CloudAccount(reactor, api, CredentialStore.default())
