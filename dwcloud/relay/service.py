"""The relay as a service."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from typing import Any
from uuid import UUID

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort

from dwcloud.net.http_server import MAX_CONNECTIONS, HTTPServerFactory
from dwcloud.net.listening import ListeningService
from dwcloud.net.message_server import MessageTunnels
from dwcloud.protocol.relaying.pairing import Limits, Pairing
from dwcloud.relay.api import RelayAPI
from dwcloud.relay.statistics import Statistics
from dwcloud.relay.switchboard import Switchboard

__all__ = ["RelayService"]


class RelayService(MultiService):
    """Listens for servers and clients and joins them.

    :param listen: endpoint strings of the listening sockets.
    :param public_url: where the relay is reached from outside; empty if not known.
    :param allowed_systems: the systems that may register; empty for anyone's.
    :param max_connections: those at a time that are neither a server's idle one nor
        a tunnel; one more closes the one silent for the longest time.
    :param drain: seconds for which tunnels may go on when the service is stopped.
    :param onDraining: called when they do; :meth:`end_drain` ends the wait.
    :raises ConfigurationError: if an endpoint string is not one.
    """

    def __init__(
        self,
        reactor: Any,
        listen: Iterable[str],
        *,
        public_url: str = "",
        allowed_systems: Collection[UUID] = (),
        limits: Limits | None = None,
        max_connections: int = MAX_CONNECTIONS,
        drain: float = 0.0,
        onDraining: Callable[[], None] = lambda: None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._drain = drain
        self._onDraining = onDraining
        statistics = Statistics(began=reactor.seconds())
        self.pairing = Pairing(random_bytes=random_bytes, limits=limits)
        self.switchboard = Switchboard(reactor, self.pairing, statistics)
        api = RelayAPI(
            reactor,
            self.switchboard,
            statistics,
            connections=lambda: self.http.connections,
            random_bytes=random_bytes,
            allowed_systems=allowed_systems,
            public_url=public_url,
        )
        self._tunnels = MessageTunnels(reactor, api)
        self.http = HTTPServerFactory(self._tunnels, reactor, capacity=max_connections)
        self._listening = [
            ListeningService(reactor, "relay", description, self.http)
            for description in listen
        ]
        for service in self._listening:
            service.setServiceParent(self)  # type: ignore[no-untyped-call]

    @property
    def ports(self) -> list[IListeningPort]:
        """The ports that are listened on now."""
        return [s.port for s in self._listening if s.port is not None]

    def startService(self) -> None:
        """Listen, unless that has begun already."""
        self.switchboard.open()
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Close the listening sockets, then all connections.

        With a drain, tunnels are waited for in between.
        """
        stopping: Deferred[Any] = maybeDeferred(super().stopService)

        def drain(_: object) -> Deferred[None]:
            draining = self.switchboard.drain(self._drain)
            if not draining.called:
                self._onDraining()
            return draining

        def close(_: object) -> None:
            self.http.disconnect_all()
            self.switchboard.close()
            self._tunnels.stop()

        if self._drain:
            stopping.addBoth(drain)
        return stopping.addBoth(close)

    def end_drain(self) -> None:
        """Wait for no tunnel any more."""
        self.switchboard.end_drain()
