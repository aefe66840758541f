"""Pairing on real connections: feed, drain the events, re-arm one timer."""

from __future__ import annotations

from collections.abc import Callable
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
from dwcloud.protocol.relaying.lines import (
    KEEP_ALIVE,
    OpenTunnel,
    encode_line,
    take_answers,
)
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

_SESSION = "session {connect_session_id}: relay session {session} "
_UNKNOWN = "unknown"
_MOST_OWED = 3 * len(KEEP_ALIVE)
"""Bytes of answers to KEEP_ALIVE that may be missing when the next one is due."""
_STOPPING = "this relay is about to stop; try another one, or later"


class ServerConnection(SwitchingProtocol):
    """A server's connection that waits for a client.

    :ivar number: what pairing calls it.
    """

    # There may be ten thousands: without these each would have a dictionary.
    __slots__ = (
        "_end",
        "_owed",
        "_successor",
        "_switchboard",
        "connected",
        "name",
        "number",
        "transport",
    )

    def __init__(self, switchboard: Switchboard, name: PeerName) -> None:
        self._successor = None
        self._end: TunnelEnd | None = None
        self._owed = 0
        self._switchboard = switchboard
        self.name = name
        self.number = 0
        self.transport = None

    def connectionMade(self) -> None:
        """Offer the connection, unless it was lost before it could be given to us."""
        if getattr(self.transport, "disconnected", False):
            return
        watch_idle_connection(self.transport)
        self._switchboard.server_connected(self)

    def bytesReceived(self, data: bytes) -> None:
        """A server has answers to say, and no more before a client is there."""
        try:
            self._owed, rest = take_answers(self._owed, data)
        except RemoteProtocolError:
            self.drop()
            return
        if self._end is not None and not self._owed:
            self._hand_over(rest)
        elif rest:
            self.drop()

    def connectionEnded(self, reason: Failure) -> None:
        """Withdraw the offer."""
        self._switchboard.server_lost(self)
        end, self._end = self._end, None
        if end is not None:
            cast(Any, end).makeConnection(self.transport)
            end.connectionLost(reason)

    def keep_alive(self) -> None:
        """Show the server that the way down to it works, and hear that the way up does.

        A server that has left three questions unanswered is gone.
        """
        if self._owed >= _MOST_OWED:
            self.drop()
            return
        self._owed += len(KEEP_ALIVE)
        cast(Any, self.transport).write(KEEP_ALIVE)

    def open_tunnel(self, line: OpenTunnel, end: TunnelEnd) -> None:
        """Announce a client and leave the connection to the tunnel.

        Answers that are on their way are not for the client: they are waited for.
        """
        cast(Any, self.transport).write(encode_line(line))
        self._end = end
        if not self._owed:
            self._hand_over(b"")

    def _hand_over(self, data: bytes) -> None:
        assert self._end is not None
        end, self._end = self._end, None
        self.switch_to(end, data)

    def drop(self) -> None:
        """Break the connection."""
        cast(Any, self.transport).abortConnection()


TunnelMaker = Callable[[IReactorTime, str, Callable[[Any], None]], Any]
"""Makes what joins a server's connection with a client: a :class:`Tunnel`, or alike."""


@attrs.frozen(eq=False)
class _Client:
    name: str
    address: Address
    arrived: float
    joined: Deferred[Any]
    make_tunnel: TunnelMaker
    connect_session: str


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
        self._tunnels: set[Any] = set()
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
            self._check_open()
            connection.name = self._pairing.offer(
                connection.name, number, now=self._reactor.seconds()
            )
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

    def check_target(self, target: PeerName) -> None:
        """Tell whether a session with ``target`` could be had.

        :raises RemoteProtocolError: with the status of the refusal if it could not.
        """
        self._check_open()
        self._pairing.check_target(target)

    def create_session(
        self, target: PeerName, connect_session: str = ""
    ) -> tuple[str, PeerName]:
        """Begin a session; its id and the full name of its server.

        :param connect_session: what logs call the connect session of the client.
        :raises RemoteProtocolError: with the status of the refusal.
        """
        self._check_open()
        created = self._pairing.create_session(target, now=self._reactor.seconds())
        self._act()
        self.log.info(
            _SESSION + "created for {server}",
            connect_session_id=connect_session or _UNKNOWN,
            session=created[0],
            server=str(created[1]),
        )
        return created

    def check_session(self, session_id: str) -> None:
        """Tell whether a session is still there, and its server, too.

        :raises RemoteProtocolError: if it is not.
        """
        self._pairing.check_session(session_id)

    def request_tunnel(
        self,
        session_id: str,
        name: str,
        address: Address,
        connect_session: str = "",
        make_tunnel: TunnelMaker = Tunnel,
    ) -> Deferred[Any]:
        """Join a client with its server.

        :param name: how the client calls itself.
        :param connect_session: what logs call its connect session.
        :param make_tunnel: makes what joins them.
        :return: fires with the protocol for the client's connection; fails with
            RemoteProtocolError and a status. Cancelled when the client has left.
        """
        try:
            self._check_open()
        except RemoteProtocolError:
            return fail()
        number = next(self._numbers)
        now = self._reactor.seconds()
        joined: Deferred[Any] = Deferred(lambda _: self._client_left(number))
        self._clients[number] = _Client(
            name, address, now, joined, make_tunnel, connect_session or _UNKNOWN
        )
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
            "tunnels_spliced": sum(t.spliced for t in self._tunnels),
            "tunnels_limit": self._pairing.limits.tunnels,
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

    def problems(self) -> list[str]:
        """Why no new clients are served, in sentences; nothing if they are."""
        return [_STOPPING] if self._drained is not None or self._closed else []

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
                    self._statistics.clients_timed_out += 1
                    self.log.info(
                        "session {connect_session_id}: the server had no connection "
                        "free in time",
                        connect_session_id=client.connect_session,
                    )
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
                self.log.info("relay session {session}: expired", session=session)

    def _join(self, event: Joined) -> None:
        server = self._servers.pop(event.connection)
        client = self._clients.pop(event.client)
        waited = self._reactor.seconds() - client.arrived
        self._statistics.tunnels += 1
        self._statistics.longest_wait = max(self._statistics.longest_wait, waited)
        self._statistics.wait_seconds.observe(waited)
        tunnel = client.make_tunnel(self._reactor, event.session_id, self._tunnel_ended)
        tunnel.connect_session = client.connect_session
        self._tunnels.add(tunnel)
        self.log.info(
            _SESSION + "client {client!r} at {address} joined with {server} "
            "after {waited:.3f} s",
            connect_session_id=client.connect_session,
            session=event.session_id,
            client=client.name,
            address=str(client.address),
            server=str(event.server),
            waited=waited,
        )
        server.open_tunnel(OpenTunnel(client.name, client.address), tunnel.server_end)
        client.joined.callback(tunnel.client_end)

    def _tunnel_ended(self, tunnel: Any) -> None:
        self._tunnels.discard(tunnel)
        self._statistics.bytes_to_server += tunnel.bytes_to_server
        self._statistics.bytes_to_client += tunnel.bytes_to_client
        lasted = self._reactor.seconds() - tunnel.began
        self._statistics.tunnel_seconds.observe(lasted)
        self.log.info(
            _SESSION + "tunnel ended after {seconds:.1f} s, {up} bytes to the "
            "server, {down} to the client: {reason}",
            connect_session_id=tunnel.connect_session,
            session=tunnel.session_id,
            seconds=lasted,
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
