"""Pairing on real connections: feed, drain the events, re-arm one timer."""

from __future__ import annotations

from itertools import count
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.liveness import watch_idle_connection
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.lines import KeepAlive, OpenTunnel, encode_line
from dwcloud.protocol.relaying.pairing import (
    ClientTimedOut,
    Event,
    Joined,
    KeepAliveDue,
    Pairing,
    ServerGone,
    ServerOnline,
    SessionExpired,
)
from dwcloud.relay.statistics import Statistics
from dwcloud.relay.tunnels import Tunnel, TunnelEnd

__all__ = ["ServerConnection", "Switchboard"]

_KEEP_ALIVE = encode_line(KeepAlive())
_STOPPING = "this relay is about to stop; try another one, or later"


class ServerConnection(SwitchingProtocol):
    """A server's connection that waits for a client.

    :ivar number: what pairing calls it.
    """

    number = 0

    def __init__(self, switchboard: Switchboard, name: PeerName) -> None:
        self._switchboard = switchboard
        self.name = name

    def connectionMade(self) -> None:
        """Offer the connection."""
        watch_idle_connection(self.transport)
        self._switchboard.server_connected(self)

    def bytesReceived(self, data: bytes) -> None:
        """A server has nothing to say before a client is there."""
        self.drop()

    def connectionEnded(self, reason: Failure) -> None:
        """Withdraw the offer."""
        self._switchboard.server_lost(self)

    def keep_alive(self) -> None:
        """Show the server that the way down to it works."""
        cast(Any, self.transport).write(_KEEP_ALIVE)

    def open_tunnel(self, line: OpenTunnel, end: TunnelEnd) -> None:
        """Announce a client and leave the connection to the tunnel."""
        cast(Any, self.transport).write(encode_line(line))
        self.switch_to(end)

    def drop(self) -> None:
        """Break the connection."""
        cast(Any, self.transport).abortConnection()


@attrs.frozen(eq=False)
class _Client:
    name: str
    address: Address
    arrived: float
    joined: Deferred[TunnelEnd]


class Switchboard:
    """The relay's connections, joined as :class:`Pairing` decides."""

    log = Logger()

    def __init__(
        self, reactor: IReactorTime, pairing: Pairing, statistics: Statistics
    ) -> None:
        self._reactor = reactor
        self._pairing = pairing
        self._statistics = statistics
        self._numbers = count(1)
        self._servers: dict[int, ServerConnection] = {}
        self._clients: dict[int, _Client] = {}
        self._tunnels: set[Tunnel] = set()
        self._timer: IDelayedCall | None = None
        self._drained: Deferred[None] | None = None
        self._closed = False

    # Server side

    def check_offer(self, name: PeerName) -> None:
        """Tell whether one more connection of ``name`` is welcome.

        :raises RemoteProtocolError: with the status of the refusal if it is not.
        """
        self._check_open()
        self._pairing.check_offer(name)

    def server_connected(self, connection: ServerConnection) -> None:
        """Take an idle connection."""
        number = connection.number = next(self._numbers)
        self._servers[number] = connection
        try:
            self._pairing.offer(connection.name, number, now=self._reactor.seconds())
        except RemoteProtocolError:
            del self._servers[number]
            connection.drop()
        self._act()

    def server_lost(self, connection: ServerConnection) -> None:
        """Forget an idle connection."""
        if self._servers.pop(connection.number, None) is not None:
            self._pairing.server_connection_lost(
                connection.number, now=self._reactor.seconds()
            )
            self._act()

    # Client side

    def create_session(self, target: PeerName) -> tuple[str, PeerName]:
        """Begin a session; its id and the full name of its server.

        :raises RemoteProtocolError: with the status of the refusal.
        """
        self._check_open()
        created = self._pairing.create_session(target, now=self._reactor.seconds())
        self._act()
        self.log.info(
            "session {session}: created for {server}",
            session=created[0],
            server=str(created[1]),
        )
        return created

    def request_tunnel(
        self, session_id: str, name: str, address: Address
    ) -> Deferred[TunnelEnd]:
        """Join a client with its server.

        :param name: how the client calls itself.
        :return: fires with the protocol for the client's connection; fails with
            RemoteProtocolError and a status. Cancelled when the client has left.
        """
        try:
            self._check_open()
        except RemoteProtocolError:
            return fail()
        number = next(self._numbers)
        now = self._reactor.seconds()
        joined: Deferred[TunnelEnd] = Deferred(lambda _: self._client_left(number))
        self._clients[number] = _Client(name, address, now, joined)
        try:
            self._pairing.request_tunnel(session_id, number, now=now)
        except RemoteProtocolError:
            del self._clients[number]
            joined.errback()
        self._act()
        return joined

    def _client_left(self, number: int) -> None:
        if self._clients.pop(number, None) is not None:
            self._pairing.client_left(number, now=self._reactor.seconds())
            self._act()

    # Figures and the end

    def figures(self) -> dict[str, object]:
        """What there is at the moment."""
        return {
            "servers": self._pairing.online_servers,
            "idle_connections": self._pairing.idle_connections,
            "waiting_clients": self._pairing.waiting_clients,
            "sessions": self._pairing.sessions,
            "tunnels": len(self._tunnels),
            "bytes_to_server": sum(t.bytes_to_server for t in self._tunnels),
            "bytes_to_client": sum(t.bytes_to_client for t in self._tunnels),
        }

    def open(self) -> None:
        """Act on time again after :meth:`close`."""
        self._closed = False
        self._drained = None
        self._act()

    def drain(self, limit: float) -> Deferred[None]:
        """Take nothing new, send away whom no client or server has joined yet.

        :param limit: seconds for the tunnels.
        :return: fires when the last tunnel has ended, or when the time is up.
        """
        drained: Deferred[None] = Deferred()
        self._drained = drained
        for connection in list(self._servers.values()):
            connection.drop()
        for number, client in list(self._clients.items()):
            self._client_left(number)
            client.joined.errback(RemoteProtocolError(_STOPPING, 503))
        if not self._tunnels:
            self.end_drain()
            return drained
        self.log.info(
            "draining: waiting up to {limit:.0f} s for {count} tunnels; another signal "
            "ends them at once",
            limit=limit,
            count=len(self._tunnels),
        )
        timer = self._reactor.callLater(limit, self.end_drain)

        def end(_: None) -> None:
            if timer.active():
                timer.cancel()
            self.log.info("drained, {count} tunnels left", count=len(self._tunnels))

        return drained.addCallback(end)

    def end_drain(self) -> None:
        """Wait for no tunnel any more."""
        if self._drained is not None and not self._drained.called:
            self._drained.callback(None)

    def _check_open(self) -> None:
        if self._drained is not None:
            raise RemoteProtocolError(_STOPPING, 503)

    def close(self) -> None:
        """Break all connections, and do nothing more about time."""
        self._closed = True
        for connection in list(self._servers.values()):
            connection.drop()
        for tunnel in list(self._tunnels):
            tunnel.abort()
        self._cancel_timer()

    # Acting on the pairing's decisions

    def _act(self) -> None:
        while (event := self._pairing.next_event()) is not None:
            self._act_on(event)
        self._cancel_timer()
        at = self._pairing.next_timer()
        if at is not None and not self._closed:
            delay = max(0.0, at - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._timed_out)

    def _act_on(self, event: Event) -> None:
        match event:
            case KeepAliveDue(connection=number):
                if number in self._servers:
                    self._servers[number].keep_alive()
            case Joined():
                self._join(event)
            case ClientTimedOut(client=number):
                client = self._clients.pop(number, None)
                if client is not None:
                    client.joined.errback(
                        RemoteProtocolError(
                            "the server had no connection free in time; try again", 503
                        )
                    )
            case ServerOnline(name=name):
                self.log.info("server {server} is online", server=str(name))
            case ServerGone(name=name):
                self.log.info("server {server} has gone", server=str(name))
            case SessionExpired(session_id=session):
                self.log.info("session {session}: expired", session=session)

    def _join(self, event: Joined) -> None:
        server = self._servers.pop(event.connection)
        client = self._clients.pop(event.client)
        waited = self._reactor.seconds() - client.arrived
        self._statistics.tunnels += 1
        self._statistics.longest_wait = max(self._statistics.longest_wait, waited)
        tunnel = Tunnel(self._reactor, event.session_id, self._tunnel_ended)
        self._tunnels.add(tunnel)
        self.log.info(
            "session {session}: client {client!r} at {address} joined with {server} "
            "after {waited:.3f} s",
            session=event.session_id,
            client=client.name,
            address=client.address,
            server=str(event.server),
            waited=waited,
        )
        server.open_tunnel(OpenTunnel(client.name, client.address), tunnel.server_end)
        client.joined.callback(tunnel.client_end)

    def _tunnel_ended(self, tunnel: Tunnel) -> None:
        self._tunnels.discard(tunnel)
        self._statistics.bytes_to_server += tunnel.bytes_to_server
        self._statistics.bytes_to_client += tunnel.bytes_to_client
        self.log.info(
            "session {session}: tunnel ended after {seconds:.1f} s, {up} bytes to the "
            "server, {down} to the client: {reason}",
            session=tunnel.session_id,
            seconds=self._reactor.seconds() - tunnel.began,
            up=tunnel.bytes_to_server,
            down=tunnel.bytes_to_client,
            reason=tunnel.reason,
        )
        self._pairing.tunnel_closed(tunnel.session_id, now=self._reactor.seconds())
        self._act()
        if not self._tunnels:
            self.end_drain()

    def _timed_out(self) -> None:
        self._timer = None
        self._pairing.handle_timer(now=self._reactor.seconds())
        self._act()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
