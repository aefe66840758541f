"""The relay's matching of idle server connections and clients.

See docs/protocol/relaying.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.client_session import (
    ClientSession,
    SessionCore,
    make_client_session,
)
from dwcloud.protocol.relaying.expiry import ExpiryQueue
from dwcloud.protocol.relaying.listening_peer import (
    ListeningPeer,
    PeerCore,
    make_listening_peer,
)

__all__ = [
    "ClientTimedOut",
    "Event",
    "Joined",
    "KeepAliveDue",
    "Limits",
    "Pairing",
    "ServerGone",
    "ServerOnline",
    "SessionExpired",
]


@attrs.frozen
class Limits:
    """How many and how long; durations in seconds.

    :ivar sessions: of one more, the session that idles for longest is ended.
    :ivar tunnels: joined pairs and clients that wait to be; two open files each.
    :ivar client_wait: how long a client waits for an idle connection.
    :ivar server_absence: how long a server without idle connections still counts.
    :ivar session_idle: how long a session without a tunnel lives.
    :ivar keep_alive: how often an idle connection gets a KEEP_ALIVE.
    """

    idle_per_server: int = 14
    servers: int = 20_000
    sessions: int = 65_536
    waiting_per_server: int = 1_000
    tunnels: int = 8_000
    client_wait: float = 5.0
    server_absence: float = 15.0
    session_idle: float = 600.0
    keep_alive: float = 20.0


@attrs.frozen
class ServerOnline:
    """A server offered its first connection."""

    name: PeerName


@attrs.frozen
class ServerGone:
    """A server has had no idle connection for too long."""

    name: PeerName


@attrs.frozen
class Joined:
    """A connection of a server and a client belong together from here on."""

    connection: int
    client: int
    session_id: str
    server: PeerName


@attrs.frozen
class ClientTimedOut:
    """A client has waited in vain."""

    client: int


@attrs.frozen
class KeepAliveDue:
    """An idle connection is to get a KEEP_ALIVE."""

    connection: int


@attrs.frozen
class SessionExpired:
    """A session was not used for too long."""

    session_id: str


Event = (
    ServerOnline | ServerGone | Joined | ClientTimedOut | KeepAliveDue | SessionExpired
)


@attrs.define(eq=False)
class _Peer(PeerCore):
    """A server.

    :ivar machine: decides.
    """

    _pairing: Pairing
    name: PeerName
    machine: ListeningPeer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.machine = make_listening_peer(self)

    def join(self, connection: int, client: int) -> None:
        """See :class:`PeerCore`."""
        self._pairing._join(self.name, connection, client)

    def absence_began(self) -> None:
        """See :class:`PeerCore`."""
        self._pairing._absences.touch(self.name, self._pairing._now)

    def absence_ended(self) -> None:
        """See :class:`PeerCore`."""
        self._pairing._absences.discard(self.name)

    def gone(self) -> None:
        """See :class:`PeerCore`."""
        self._pairing._remove_peer(self.name)


@attrs.frozen(eq=False)
class _Session:
    machine: ClientSession
    core: SessionCore


@attrs.frozen
class _Waiting:
    server: PeerName
    session_id: str


class Pairing:
    """Servers' idle connections on one side, clients on the other.

    Driven by three things: requests of servers and clients, the loss of their
    connections, and :meth:`handle_timer`. Connections and clients are numbers that
    the caller chooses; the caller drains :meth:`next_event` after each call.

    :param random_bytes: returns as many random bytes as asked for.
    """

    def __init__(
        self, *, random_bytes: Callable[[int], bytes], limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._random_bytes = random_bytes
        self._peers: dict[PeerName, _Peer] = {}
        self._systems: dict[PeerName, dict[PeerName, None]] = {}
        self._connections: dict[int, PeerName] = {}
        self._sessions: dict[str, _Session] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._events: deque[Event] = deque()
        self._now = 0.0
        self._joined = 0
        self._absences: ExpiryQueue[PeerName] = ExpiryQueue(self.limits.server_absence)
        self._waits: ExpiryQueue[int] = ExpiryQueue(self.limits.client_wait)
        self._idle_sessions: ExpiryQueue[str] = ExpiryQueue(self.limits.session_idle)
        self._keep_alives: ExpiryQueue[int] = ExpiryQueue(self.limits.keep_alive)

    # Server side

    def check_offer(self, name: PeerName) -> None:
        """Tell whether one more idle connection of ``name`` is welcome.

        :raises RemoteProtocolError: with 403 if it has too many, with 503 if the
            relay has no room for another server.
        """
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= self.limits.servers:
                raise RemoteProtocolError("this relay takes no more servers", 503)
        elif len(peer.idle) >= self.limits.idle_per_server:
            raise RemoteProtocolError(
                f"there are {self.limits.idle_per_server} idle connections of {name} "
                "already",
                403,
            )

    def offer(self, name: PeerName, connection: int, *, now: float) -> PeerName:
        """Take one more idle connection of the server ``name``.

        :return: the name, one object for all connections of the server, to be kept.
        :raises RemoteProtocolError: as :meth:`check_offer`.
        """
        self.check_offer(name)
        self._now = now
        peer = self._peers.get(name)
        if peer is None:
            peer = self._add_peer(name)
            self._events.append(ServerOnline(name))
        self._connections[connection] = peer.name
        self._keep_alives.touch(connection, now)
        peer.machine.connection_offered(connection)
        if connection in self._connections:
            # KEEP_ALIVE at once shows the server that the way down to it works. One
            # that a client has waited for learns that from OPEN_TUNNEL, and the client
            # need not wait for an answer.
            self._events.append(KeepAliveDue(connection))
        return peer.name

    def server_connection_lost(self, connection: int, *, now: float) -> None:
        """An offered connection was lost; one that was joined already is ignored."""
        self._now = now
        name = self._connections.pop(connection, None)
        if name is not None:
            self._keep_alives.discard(connection)
            self._peers[name].machine.connection_lost(connection)

    # Client side

    def check_target(self, target: PeerName) -> PeerName:
        """Return the server that a session with ``target`` would be for.

        :raises RemoteProtocolError: with 404 if no such server is here.
        """
        server = self._choose_server(target)
        if server is None:
            # The same words whether the system, the server or nothing is known.
            raise RemoteProtocolError(f"there is no server {target} at this relay", 404)
        return server

    def create_session(self, target: PeerName, *, now: float) -> tuple[str, PeerName]:
        """Begin a session with a server, or with any online one of a system.

        :return: the session's id and the full name of the server.
        :raises RemoteProtocolError: with 404 if no such server is here, with 503 if
            there are too many sessions with open tunnels.
        """
        self._now = now
        server = self.check_target(target)
        self._make_room()
        session_id = self._random_bytes(16).hex()
        core = SessionCore(
            session_id,
            server,
            idle_began=lambda: self._idle_sessions.touch(session_id, self._now),
            idle_ended=lambda: self._idle_sessions.discard(session_id),
            expired=lambda: self._expire_session(session_id),
        )
        self._sessions[session_id] = _Session(make_client_session(core), core)
        self._idle_sessions.touch(session_id, now)
        return session_id, server

    def check_session(self, session_id: str) -> None:
        """Make sure that a session is there, and its server, too.

        :raises RemoteProtocolError: with 404 if there is no such session, with 503 if
            its server has gone.
        """
        self._find(session_id)

    def _find(self, session_id: str) -> tuple[_Session, _Peer]:
        session = self._sessions.get(session_id)
        if session is None:
            raise RemoteProtocolError("there is no such session here", 404)
        server = session.core.server
        peer = self._peers.get(server)
        if peer is None:
            raise RemoteProtocolError(f"the server {server} has left this relay", 503)
        return session, peer

    def request_tunnel(self, session_id: str, client: int, *, now: float) -> None:
        """Join ``client`` with its server, at once or as soon as possible.

        :raises RemoteProtocolError: with 404 if there is no such session, with 503 if
            its server has gone, too many wait for it already or the relay is full.
        """
        self._now = now
        session, peer = self._find(session_id)
        server = session.core.server
        if len(peer.waiting) >= self.limits.waiting_per_server:
            raise RemoteProtocolError("too many clients wait for this server", 503)
        if self._joined + len(self._waiting) >= self.limits.tunnels:
            raise RemoteProtocolError("this relay takes no more tunnels now", 503)
        session.machine.tunnel_requested()
        self._waiting[client] = _Waiting(server, session_id)
        self._waits.touch(client, now)
        peer.machine.client_arrived(client)

    def client_left(self, client: int, *, now: float) -> None:
        """A client that waits went away; one that was joined already is ignored."""
        self._now = now
        self._stop_waiting(client)

    def tunnel_closed(self, session_id: str, *, now: float) -> None:
        """A tunnel that was joined has ended."""
        self._now = now
        self._joined -= 1
        session = self._sessions.get(session_id)
        if session is not None:
            session.machine.tunnel_ended()

    # Time and events

    def next_event(self) -> Event | None:
        """The next thing to act on, or None."""
        return self._events.popleft() if self._events else None

    def next_timer(self) -> float | None:
        """When to call :meth:`handle_timer`, or None."""
        deadlines = (
            self._absences.next(),
            self._waits.next(),
            self._idle_sessions.next(),
            self._keep_alives.next(),
        )
        return min((d for d in deadlines if d is not None), default=None)

    def handle_timer(self, *, now: float) -> None:
        """Act on what is due."""
        self._now = now
        for client in self._waits.pop_due(now):
            self._events.append(ClientTimedOut(client))
            self._stop_waiting(client)
        for name in self._absences.pop_due(now):
            self._peers[name].machine.absence_timed_out()
        for session_id in self._idle_sessions.pop_due(now):
            self._sessions[session_id].machine.idle_timed_out()
        for connection in self._keep_alives.pop_due(now):
            self._keep_alives.touch(connection, now)
            self._events.append(KeepAliveDue(connection))

    # Figures

    @property
    def online_servers(self) -> int:
        """How many servers count as present."""
        return len(self._peers)

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a client."""
        return len(self._connections)

    @property
    def waiting_clients(self) -> int:
        """How many clients wait for a connection."""
        return len(self._waiting)

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return len(self._sessions)

    # Inner workings

    def _choose_server(self, target: PeerName) -> PeerName | None:
        if target.server is not None:
            return target if target in self._peers else None
        servers = self._systems.get(target, {})
        return max(servers, key=lambda s: len(self._peers[s].idle), default=None)

    def _add_peer(self, name: PeerName) -> _Peer:
        peer = self._peers[name] = _Peer(self, name)
        self._systems.setdefault(PeerName(name.system), {})[name] = None
        self._absences.touch(name, self._now)
        return peer

    def _remove_peer(self, name: PeerName) -> None:
        peer = self._peers.pop(name)
        system = PeerName(name.system)
        del self._systems[system][name]
        if not self._systems[system]:
            del self._systems[system]
        self._events.append(ServerGone(name))
        for client in list(peer.waiting):
            self._waits.discard(client)
            self._events.append(ClientTimedOut(client))
            self._stop_waiting(client)

    def _join(self, name: PeerName, connection: int, client: int) -> None:
        waiting = self._waiting.pop(client)
        self._joined += 1
        self._waits.discard(client)
        del self._connections[connection]
        self._keep_alives.discard(connection)
        self._events.append(Joined(connection, client, waiting.session_id, name))

    def _stop_waiting(self, client: int) -> None:
        waiting = self._waiting.pop(client, None)
        if waiting is None:
            return
        self._waits.discard(client)
        peer = self._peers.get(waiting.server)
        if peer is not None:
            peer.machine.client_left(client)
        self._sessions[waiting.session_id].machine.tunnel_ended()

    def _make_room(self) -> None:
        """End the session that idles for longest if there are too many.

        A client asks for its tunnel right after its session, so that those who only
        fill the table with sessions lose theirs first.
        """
        if len(self._sessions) < self.limits.sessions:
            return
        session_id = self._idle_sessions.oldest()
        if session_id is None:
            raise RemoteProtocolError("this relay takes no more sessions", 503)
        self._idle_sessions.discard(session_id)
        self._sessions[session_id].machine.idle_timed_out()

    def _expire_session(self, session_id: str) -> None:
        del self._sessions[session_id]
        self._events.append(SessionExpired(session_id))
