"""The relay as a service."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from twisted.application.service import MultiService
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    inlineCallbacks,
    maybeDeferred,
)
from twisted.internet.interfaces import IListeningPort

from dwcloud.net.http_server import MAX_CONNECTIONS, HTTPServerFactory
from dwcloud.net.listening import ListeningService
from dwcloud.net.observation import MetricsReaders
from dwcloud.net.tunnel_server import TunnelServer
from dwcloud.protocol.relaying.pairing import Limits, Pairing
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.api import RelayAPI
from dwcloud.relay.gateway.gateway import Gateway
from dwcloud.relay.gateway.options import GatewaySettings
from dwcloud.relay.peer_relays import PeerRelays
from dwcloud.relay.statistics import Figures, Statistics
from dwcloud.relay.switchboard import Switchboard
from dwcloud.relay.workmates import Workmates

__all__ = ["RelayService"]

_LAST_BYTES = 5.0
"""Seconds to fetch what is left of tunnels that have ended during a drain."""


class RelayService(MultiService):
    """Listens for servers and clients and joins them.

    :param listen: endpoint strings of the listening sockets.
    :param public_url: where the relay is reached from outside; empty if not known.
    :param allowed_systems: the systems that may register; empty for anyone's.
    :param peer_relays: other relays, to which clients are sent whose server is there.
    :param max_connections: those at a time that are neither a server's idle one nor
        a tunnel; one more closes the one silent for the longest time.
    :param drain: seconds for which tunnels may go on when the service is stopped.
    :param onDraining: called when they do; :meth:`end_drain` ends the wait.
    :param workmates: the other processes of the relay, if there are any.
    :param cloud_key: of the cloud whose grants clients have to bring; None joins
        whoever comes.
    :param metrics_readers: who may see the metrics.
    :param gateway: how browsers are let in; None to let none in.
    :param clock: gives seconds since 1970 (UTC).
    :raises ConfigurationError: if an endpoint string is not one.
    """

    def __init__(
        self,
        reactor: Any,
        listen: Iterable[str],
        *,
        public_url: str = "",
        allowed_systems: Collection[UUID] = (),
        peer_relays: Sequence[ServiceURL] = (),
        limits: Limits | None = None,
        max_connections: int = MAX_CONNECTIONS,
        drain: float = 0.0,
        onDraining: Callable[[], None] = lambda: None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        workmates: Workmates | None = None,
        cloud_key: bytes | None = None,
        metrics_readers: MetricsReaders | None = None,
        gateway: GatewaySettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._messages: Deferred[Any] | None = None
        self._drain = drain
        self._onDraining = onDraining
        statistics = Statistics(began=reactor.seconds())
        session_bytes = workmates.session_bytes(random_bytes) if workmates else None
        self.pairing = Pairing(
            random_bytes=session_bytes or random_bytes, limits=limits
        )
        self.switchboard = Switchboard(reactor, self.pairing, statistics)
        self._api = RelayAPI(
            reactor,
            self.switchboard,
            statistics,
            peer_relays=PeerRelays(reactor, peer_relays),
            connections=lambda: self.http.connections,
            random_bytes=random_bytes,
            allowed_systems=allowed_systems,
            public_url=public_url,
            gather=workmates.gather if workmates else None,
            cloud_key=cloud_key,
            metrics_readers=metrics_readers,
            browsers=lambda: self.gateway.figures() if self.gateway else None,
        )
        self._tunnels = TunnelServer(reactor, self._api)
        self.http = HTTPServerFactory(
            self._tunnels,
            reactor,
            capacity=max_connections,
            elsewhere=workmates.elsewhere if workmates else None,
        )
        if workmates:
            workmates.serve(self.http, self.figures)
        self._listening = [
            ListeningService(reactor, "relay", description, self.http)
            for description in listen
        ]
        self.gateway = None
        if gateway is not None:
            self.gateway = self._make_gateway(gateway, random_bytes, clock)
        for service in self._listening:
            service.setServiceParent(self)  # type: ignore[no-untyped-call]

    def _make_gateway(
        self,
        settings: GatewaySettings,
        random_bytes: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> Gateway:
        gateway = Gateway(
            self._reactor,
            self.switchboard,
            settings,
            relay_protocol=lambda: self.http.buildProtocol(None),
            random_bytes=random_bytes,
            clock=clock,
        )
        self._listening += [
            ListeningService(self._reactor, "relay for browsers", description, gateway)
            for description in settings.endpoints
        ]
        return gateway

    def figures(self) -> Figures:
        """The statistics of this process."""
        return self._api.figures()

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

        With a drain, tunnels are waited for in between, and the sockets stay open as
        long as tunnels of short messages need new connections.
        """

        def close(_: object) -> None:
            self.http.disconnect_all()
            if self.gateway is not None:
                self.gateway.stop()
            self.switchboard.close()
            self._tunnels.stop()

        stopping = self._end_tunnels() if self._drain else self._close_ports()
        return stopping.addBoth(close)

    def _close_ports(self) -> Deferred[Any]:
        return maybeDeferred(super().stopService)

    @inlineCallbacks
    def _end_tunnels(self) -> Any:
        draining = self.switchboard.drain(self._drain)
        messages = self._messages = self._tunnels.messages_ended()
        messages.addErrback(lambda failure: failure.trap(CancelledError) and None)
        closing = messages.addCallback(lambda _: self._close_ports())
        if not draining.called:
            self._onDraining()
        yield draining
        # Those whose tunnels have ended here still fetch the last bytes.
        limit = self._reactor.callLater(_LAST_BYTES, self._forget_messages)
        if self.switchboard.figures()["tunnels"]:
            self._forget_messages()
        yield closing
        if limit.active():
            limit.cancel()

    def end_drain(self) -> None:
        """Wait for no tunnel any more."""
        self.switchboard.end_drain()
        self._forget_messages()

    def _forget_messages(self) -> None:
        if self._messages is not None and not self._messages.called:
            self._messages.cancel()
