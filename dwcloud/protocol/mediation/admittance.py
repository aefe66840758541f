"""Whom a mediator introduces: everybody, or those that a cloud's grants admit."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants.revocations import AccessState, Revocation
from dwcloud.protocol.names import PeerName

__all__ = ["AdmitEverybody", "Admittance", "Admitter", "NotBound"]


@attrs.frozen
class Admittance:
    """A client may be introduced.

    :ivar target: the server or system that it is introduced to.
    :ivar for_server: the grant that the server checks, if there is one.
    :ivar for_client: a grant that the client does not have yet, if there is one.
    """

    target: PeerName
    for_server: bytes | None = attrs.field(default=None, repr=False)
    for_client: bytes | None = attrs.field(default=None, repr=False)


class NotBound(RemoteProtocolError):
    """A server may not register because no account owns its system: code 403."""

    def __init__(self) -> None:
        super().__init__(
            "no account owns this system; bind it: dwcloud system bind", 403
        )


class Admitter(Protocol):
    """Decides about servers and clients, without waiting for anything."""

    def watch(self, changed: Callable[[uuid.UUID], None]) -> None:
        """Have ``changed`` called with each system whose :meth:`state` is another."""

    def check_registration(self, name: PeerName) -> None:
        """Let a server register whose identity is proven, or not.

        :raises NotBound: if it may not.
        """

    def admit(self, target: PeerName, encoded: bytes | None) -> Admittance | None:
        """Decide on a client with a grant, or without one.

        :return: None for one who may not connect. He gets the answer for a server that
            does not exist, so that the decision must not take longer for one that does.
        """

    def is_bound(self, system: uuid.UUID) -> bool:
        """Tell whether the system is known, be a server of it online or not."""

    def relay_grant(self, session_id: uuid.UUID, server: PeerName) -> bytes | None:
        """Return a grant for a session at relays, if they want one."""

    def state(
        self, system: uuid.UUID
    ) -> tuple[AccessState, tuple[Revocation, ...]] | None:
        """Return what servers of a system are to be told, None for nothing."""


class AdmitEverybody:
    """Whoever knows a name is introduced; what grants say is for servers to check."""

    def watch(self, changed: Callable[[uuid.UUID], None]) -> None:
        """See :meth:`Admitter.watch`: nothing ever changes."""

    def check_registration(self, name: PeerName) -> None:
        """See :meth:`Admitter.check_registration`: all may."""

    def admit(self, target: PeerName, encoded: bytes | None) -> Admittance:
        """See :meth:`Admitter.admit`."""
        return Admittance(target, encoded or None)

    def is_bound(self, system: uuid.UUID) -> bool:
        """See :meth:`Admitter.is_bound`: there are no accounts."""
        return False

    def relay_grant(self, session_id: uuid.UUID, server: PeerName) -> None:
        """See :meth:`Admitter.relay_grant`."""

    def state(self, system: uuid.UUID) -> None:
        """See :meth:`Admitter.state`."""
