"""Holes punched to servers, kept open so that later streams need no mediator.

The first UDT connection to a server punches a hole in the NATs of both ends; every
further one is a regular UDT connect through it (overview, UDP hole punching). The hole
is kept open, and found to be closed, by STUN Binding requests to the server's port,
whether a stream runs through it or not.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import attrs
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.path import Path
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.peer.guessing import Hole
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.binding import binding_request
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["Tunnel", "TunnelTable"]

_ONE_TRY = Timing(tries=1, initial_interval=0.5, last_wait=3.0)


@attrs.define(eq=False)
class Tunnel:
    """An open hole to a server.

    :ivar server: who is behind it, proven by TLS when it was opened.
    :ivar address: the server's end.
    :ivar session: the connect session id that later streams present.
    :ivar parameters: keep-alive and inactivity, as the mediator wants them.
    :ivar hole: the port that it goes through, None for the usual one; it is closed
        with the last stream after the tunnel ended.
    """

    server: PeerName
    address: Address
    session: uuid.UUID
    parameters: ConnectionParameters
    used_at: float
    hole: Hole | None = None
    misses: int = 0
    timer: IDelayedCall | None = None


class TunnelTable:
    """The open tunnels of one client, at most one to each server.

    :param stun: makes STUN requests from the port that punched the holes.
    :param in_use: tells whether streams run through the tunnel to an address.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        stun: STUNDatagramClient,
        in_use: Callable[[Address], bool],
    ) -> None:
        self._clock = clock
        self._stun = stun
        self._in_use = in_use
        self._tunnels: dict[PeerName, Tunnel] = {}

    def __len__(self) -> int:
        return len(self._tunnels)

    def add(
        self,
        server: PeerName,
        address: Address,
        session: uuid.UUID,
        parameters: ConnectionParameters,
        hole: Hole | None = None,
    ) -> None:
        """Keep a hole open that was just punched."""
        self.drop(server)
        now = self._clock.seconds()
        tunnel = Tunnel(server, address, session, parameters, now, hole)
        self._tunnels[server] = tunnel
        self._schedule(tunnel)

    def keep(
        self, path: Path, parameters: ConnectionParameters, hole: Hole | None
    ) -> None:
        """Keep the hole of a path open; see :meth:`add`."""
        assert path.session is not None
        self.add(path.server, path.address, path.session, parameters, hole)

    def find(self, peer: PeerName) -> Tunnel | None:
        """An open tunnel to a server of that name; asking counts as using it."""
        for server, tunnel in self._tunnels.items():
            if peer.includes(server):
                tunnel.used_at = self._clock.seconds()
                return tunnel
        return None

    def drop(self, server: PeerName) -> None:
        """Keep the tunnel to ``server`` open no longer."""
        tunnel = self._tunnels.pop(server, None)
        if tunnel is None:
            return
        if tunnel.timer is not None:
            tunnel.timer.cancel()
            tunnel.timer = None
        if tunnel.hole is not None:
            tunnel.hole.close_when_idle()

    def drop_if_current(self, tunnel: Tunnel) -> None:
        """Drop ``tunnel`` unless another one to its server has taken its place."""
        if self._tunnels.get(tunnel.server) is tunnel:
            self.drop(tunnel.server)

    def stop(self) -> None:
        """Drop all."""
        for server in list(self._tunnels):
            self.drop(server)

    def _schedule(self, tunnel: Tunnel) -> None:
        interval = tunnel.parameters.udp_keep_alive_interval
        tunnel.timer = self._clock.callLater(interval, self._probe, tunnel)

    def _probe(self, tunnel: Tunnel) -> None:
        tunnel.timer = None
        now = self._clock.seconds()
        hole = tunnel.hole
        in_use = self._in_use if hole is None else hole.port.udt.has_connections_to
        if in_use(tunnel.address):
            tunnel.used_at = now
        if now - tunnel.used_at > tunnel.parameters.tunnel_inactivity_timeout:
            self._end(tunnel, "nobody used it")
            return
        stun = self._stun if hole is None else hole.stun
        asking = stun.request(
            binding_request(os.urandom(12)),
            tunnel.address,
            fingerprint=True,
            timing=_ONE_TRY,
        )
        asking.addCallbacks(
            self._alive, self._missed, callbackArgs=(tunnel,), errbackArgs=(tunnel,)
        )
        self._schedule(tunnel)

    def _alive(self, _: object, tunnel: Tunnel) -> None:
        tunnel.misses = 0

    def _missed(self, reason: Failure, tunnel: Tunnel) -> None:
        if reason.check(CancelledError) or self._tunnels.get(tunnel.server) != tunnel:
            return
        tunnel.misses += 1
        if tunnel.misses >= tunnel.parameters.udp_keep_alive_misses:
            self._end(tunnel, "the far end answers no longer")

    def _end(self, tunnel: Tunnel, why: str) -> None:
        self._log.info(
            "tunnel to {server} at {address} ended: {why}",
            server=str(tunnel.server),
            address=str(tunnel.address),
            why=why,
        )
        self.drop(tunnel.server)
