"""A cloud that signs whatever a test wants, and its members."""

from __future__ import annotations

import uuid
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from dwcloud.interfaces import IGrantSource
from dwcloud.net.signing import SigningKey
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.protocol.grants import AccessGrant, ClientGrant, GrantKind, Role
from dwcloud.protocol.names import PeerName

ANN, BOB = uuid.UUID(int=10), uuid.UUID(int=11)


class TestCloud:
    """The key of a cloud."""

    def __init__(self, key: SigningKey | None = None) -> None:
        self.key = key or SigningKey.generate()

    @property
    def membership(self) -> CloudMembership:
        """What a bound server keeps."""
        return CloudMembership("mediator:3345", self.key.public_key, "garage")

    def sign(self, name: PeerName, now: float, **values: Any) -> bytes:
        """Sign a grant for the system of a server, of Ann's unless told otherwise."""
        values.setdefault("account", ANN)
        values.setdefault("role", Role.VIEWER)
        values.setdefault("expires_ms", round((now + 3600) * 1000))
        grant = AccessGrant(
            grant_id=uuid.uuid4(),
            system=values.pop("system", name.system),
            issued_ms=round(now * 1000),
            account_name=values.pop("account_name", "ann"),
            **values,
        )
        return grant.encode(self.key.sign)

    def grant(
        self,
        name: PeerName,
        now: float,
        key: SigningKey | None = None,
        kind: GrantKind = GrantKind.CONNECT,
        **values: Any,
    ) -> ClientGrant:
        """Give a client a grant, with the key that belongs to it."""
        key = key or SigningKey.generate()
        encoded = self.sign(name, now, client_key=key.public_key, kind=kind, **values)
        return ClientGrant(encoded, key.sign)


@implementer(IGrantSource)
class Grants:
    """Gives what a test put in; keeps how it was asked.

    :ivar first: what is given at first.
    :ivar renewed: what is given instead, once that was refused.
    """

    def __init__(
        self,
        first: ClientGrant | Exception | None,
        renewed: ClientGrant | Exception | None = None,
    ) -> None:
        self.first = first
        self.renewed = renewed
        self.asked: list[bool] = []

    def grant_for(
        self, name: PeerName, renew: bool = False
    ) -> Deferred[ClientGrant | None]:
        """Give the one or the other."""
        self.asked.append(renew)
        given = self.renewed if renew else self.first
        return fail(given) if isinstance(given, Exception) else succeed(given)
