"""What the operator of a mediator decides."""

from __future__ import annotations

import uuid
from typing import Protocol

import attrs

from dwcloud.net.observation import MetricsReaders
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.names import PeerName

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_RELAY_URL",
    "AllowAnyone",
    "AllowListed",
    "Limits",
    "MediatorConfiguration",
    "RegistrationPolicy",
]

DEFAULT_PORT = 3345
"""For TCP and UDP alike."""

DEFAULT_RELAY_URL = "http://:3349"
"""A relay on the mediator's own host, at the default port of relays."""


class RegistrationPolicy(Protocol):
    """Who may register."""

    def check(self, name: PeerName) -> None:
        """Let a server whose identity is proven register, or not.

        :raises RemoteProtocolError: code 403, if it must not.
        """


class AllowAnyone:
    """Everyone may register: identities prove themselves."""

    def check(self, name: PeerName) -> None:
        """See :meth:`RegistrationPolicy.check`."""


@attrs.frozen
class AllowListed:
    """Only servers of these systems may register."""

    systems: frozenset[uuid.UUID]

    def check(self, name: PeerName) -> None:
        """See :meth:`RegistrationPolicy.check`."""
        if name.system not in self.systems:
            raise RemoteProtocolError("this system must not register here", 403)


@attrs.frozen(kw_only=True)
class Limits:
    """How much the mediator keeps; each table has a rule for when it is full.

    :ivar servers: online at a time; further ones are refused with 503.
    :ivar known_servers: remembered; the one that was seen the longest time ago is
        forgotten.
    :ivar sessions: connect sessions; the one answered first is forgotten, and if none
        is answered the new one refused with 503.
    :ivar anonymous_connections: TCP connections that belong to no server; the one
        that was silent for the longest time is closed.
    :ivar anonymous_silence: seconds after which such a connection is closed.
    """

    servers: int = 50_000
    known_servers: int = 200_000
    sessions: int = 20_000
    anonymous_connections: int = 5_000
    anonymous_silence: float = 15.0


@attrs.frozen(kw_only=True)
class MediatorConfiguration:
    """All settings of a mediator but its sockets.

    :ivar parameters: told to both sides of each connection.
    :ivar keep_alive: told to servers.
    :ivar relay_urls: told to servers and clients.
    :ivar reconnect_delay: least wait of servers before they reconnect, seconds.
    :ivar policy: who may register.
    :ivar limits: how much is kept.
    :ivar metrics_readers: who may see the metrics.
    """

    parameters: ConnectionParameters = attrs.field(factory=ConnectionParameters)
    keep_alive: KeepAlive = attrs.field(factory=KeepAlive)
    relay_urls: tuple[str, ...] = (DEFAULT_RELAY_URL,)
    reconnect_delay: float = 0.5
    policy: RegistrationPolicy = attrs.field(factory=AllowAnyone)
    limits: Limits = attrs.field(factory=Limits)
    metrics_readers: MetricsReaders = attrs.field(factory=MetricsReaders)
