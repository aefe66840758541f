"""One UDP port and its UDT connections (docs/protocol/udt)."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.udt.configuration import Configuration, SocketType
from dwcloud.protocol.udt.connection import Connection
from dwcloud.protocol.udt.early_data import confirmation_of
from dwcloud.protocol.udt.events import Event, IncomingConnection
from dwcloud.protocol.udt.handshake import Handshake, RequestType, encode_peer_ip
from dwcloud.protocol.udt.initiation import ClientInitiation, RendezvousInitiation
from dwcloud.protocol.udt.listener import Listener
from dwcloud.protocol.udt.message_connection import MessageConnection
from dwcloud.protocol.udt.packets import (
    CONTROL_FLAG,
    HEADER,
    HEADER_SIZE,
    HandshakePacket,
    decode,
)
from dwcloud.protocol.udt.sequence import SEQUENCE_MASK
from dwcloud.protocol.udt.states import State
from dwcloud.protocol.udt.surroundings import Surroundings
from dwcloud.protocol.udt.trace import Trace, TraceEvent
from dwcloud.protocol.udt.transmit import Transmit

__all__ = ["Multiplexer"]

_MAX_ALIASES = 256
_MAX_COOKIES = 1024
_NO_COOKIE = 1
"""In the handshake of a rendezvous: here is no listener, but one that is ready for data
as soon as it is connected."""
_SOCKET_ID_MASK = (1 << 30) - 1

Address = tuple[str, int]
_PeerKey = tuple[Address, int, int]


class Multiplexer:
    """The UDT side of one UDP port: its connections, and perhaps a listener.

    Driven by received datagrams, by its timer and by the program; after each of
    these, send what :meth:`datagrams_to_send` returns, take the events, and set one
    timer to :meth:`next_timer`.

    :param configuration: settings of all connections.
    :param random_bytes: returns that many unpredictable bytes.
    :param now: the time in seconds, of a clock that never goes back.
    :param trace: an optional recorder of inner events.
    """

    def __init__(
        self,
        *,
        configuration: Configuration,
        random_bytes: Callable[[int], bytes],
        now: float,
        trace: Trace | None = None,
    ) -> None:
        self.configuration = configuration
        self._random_bytes = random_bytes
        self._trace_recorder = trace
        datagrams = configuration.socket_type is SocketType.DATAGRAM
        self._connection_type = MessageConnection if datagrams else Connection
        self._connections: dict[int, Connection] = {}
        self._by_peer: dict[_PeerKey, Connection] = {}
        self._rendezvous: dict[Address, Connection] = {}
        self._aliases: OrderedDict[Address, Address] = OrderedDict()
        self._cookies: OrderedDict[Address, int] = OrderedDict()
        self._listener: Listener | None = None
        self._not_taken = 0
        self._events: deque[Event] = deque()
        self._touched: dict[Connection, None] = {}
        self._output: list[Transmit] = []
        self._timers: list[tuple[float, int]] = []
        self._timer_of: dict[int, float] = {}
        self._surroundings = Surroundings(
            configuration, self._random_number, self._emit, self._touch, trace
        )
        self.datagrams_ignored = 0
        """Datagrams that were not for any connection, or malformed."""

    def __bool__(self) -> bool:
        return True

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections that exist, in whatever state."""
        return tuple(self._connections.values())

    # What the program uses

    def connect(
        self, address: Address, *, now: float, early: bool = False
    ) -> Connection:
        """Start a connection to a listener.

        :param early: use a cookie that this listener gave out before, and send what is
            written within this turn with the handshake. Listeners of other programs
            take no such cookie, which costs 0.75 s, and no data.
        :raises LocalProtocolError: if messages are to go with a handshake.
        """
        if early and self.configuration.socket_type is not SocketType.STREAM:
            raise LocalProtocolError("only the bytes of a stream go with a handshake")
        own = self._own_handshake(RequestType.REQUEST, address)
        cookie = self._cookies.get(address) if early else None
        initiation = ClientInitiation(own, cookie, early=early)
        return self._initiate(initiation, own, address, now, at_once=not early)

    def rendezvous(self, address: Address, *, now: float) -> Connection:
        """Start a connection to a peer that starts one to us at the same time.

        :raises LocalProtocolError: if one to that address is pending already; the
            handshakes of two could not be told apart.
        """
        # [udt:one-rendezvous]
        pending = self._rendezvous.get(address)
        if pending is not None and pending.state in (State.MEETING, State.AGREEING):
            raise LocalProtocolError(f"a rendezvous with {address} is pending")
        # [udt:rendezvous-cookie]
        listener = self._listener
        own = attrs.evolve(
            self._own_handshake(RequestType.RENDEZVOUS, address),
            cookie=listener.cookie(address, now) if listener else _NO_COOKIE,
        )
        connection = self._initiate(RendezvousInitiation(own), own, address, now)
        self._rendezvous[address] = connection
        return connection

    def _initiate(
        self,
        initiation: ClientInitiation | RendezvousInitiation,
        own: Handshake,
        address: Address,
        now: float,
        *,
        at_once: bool = True,
    ) -> Connection:
        connection = self._connection_type(self._surroundings, own, address, now=now)
        connection.initiate(initiation, now)
        if at_once:
            connection.handle_timer(now)
        self._connections[connection.socket_id] = connection
        self._settle(connection)
        self._touch(connection)
        return connection

    def listen(self, *, backlog: int = 50) -> None:
        """Accept connections.

        :param backlog: the most connections that wait to be taken as events; those
            beyond are rejected.
        :raises LocalProtocolError: if this port listens already.
        """
        if self._listener is not None:
            raise LocalProtocolError("this port has a listener already")
        self._listener = Listener(self.configuration, self._random_bytes, backlog)

    def stop_listening(self) -> None:
        """Accept no more; existing connections stay."""
        self._listener = None

    def add_alias(self, source: Address, address: Address) -> None:
        """Take packets from ``source`` for connections to ``address``, too.

        A NAT may let in at one port what it answers from another. Whoever calls this
        has to know that both are the same peer. Of 256 the oldest is forgotten.
        """
        self._aliases[source] = address
        self._aliases.move_to_end(source)
        while len(self._aliases) > _MAX_ALIASES:
            self._aliases.popitem(last=False)

    def known_as(self, source: Address) -> Address:
        """Return the address to whose connections packets of ``source`` go, too."""
        return self._aliases.get(source, source)

    def next_event(self) -> Event | None:
        """Return the next event, or None."""
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, IncomingConnection):
            self._not_taken -= 1
        return event

    # Datagrams in

    def receive_datagram(
        self, data: bytes | memoryview, address: Address, *, now: float
    ) -> None:
        """Take one received datagram."""
        self.receive_datagrams(data, None, address, now=now)

    def receive_datagrams(
        self,
        data: bytes | memoryview,
        segment_size: int | None,
        address: Address,
        *,
        now: float,
    ) -> None:
        """Take datagrams of one address that the kernel joined (UDP_GRO).

        :param data: kept by nobody; what is needed later is copied.
        :param segment_size: bytes of each datagram, the last may be shorter; None
            for a single one.
        """
        total = len(data)
        size = total if segment_size is None else max(1, segment_size)
        offset = 0
        while offset < total:
            if total - offset < HEADER_SIZE or size < HEADER_SIZE:
                self._ignore(address, "too short", now)
                return
            destination = int.from_bytes(data[offset + 12 : offset + 16])
            # [udt:multiplexer]
            connection = self._connections.get(destination)
            # [udt:rebinding]
            if connection is not None and (
                connection.peer_address == address
                or self._aliases.get(address) == connection.peer_address
            ):
                self._touched[connection] = None
                offset = connection.datagrams_received(data, offset, size, now)
                continue
            if destination == 0:
                request = bytes(data[offset : offset + size])
                self._request_received(request, address, now)
            else:
                self._ignore(address, "unknown destination", now)
            offset += size

    def _ignore(self, address: Address, reason: str, now: float) -> None:
        self.datagrams_ignored += 1
        if self._trace_recorder is not None:
            fields = {"address": address, "reason": reason}
            self._trace_recorder(TraceEvent(now, "datagram_ignored", fields=fields))

    def _request_received(self, data: bytes, address: Address, now: float) -> None:
        """Take a packet for nobody in particular, which can only be a handshake."""
        if HEADER.unpack_from(data)[0] & 0xFFFF0000 != CONTROL_FLAG:
            self._ignore(address, "no handshake for socket 0", now)
            return
        try:
            packet = decode(data)
        except RemoteProtocolError as error:
            self._ignore(address, str(error), now)
            return
        assert isinstance(packet, HandshakePacket)
        handshake = packet.handshake
        request_type = handshake.request_type
        key = (address, handshake.socket_id, handshake.initial_sequence)
        listener = self._listener
        if request_type == RequestType.REQUEST and listener is not None:
            # [udt:stateless]
            self._challenge(listener, handshake, address, now)
            return
        if (
            request_type == RequestType.CONCLUSION
            and listener is not None
            and listener.accepts_cookie(handshake.cookie, address, now)
        ):
            self._conclusion_received(listener, packet, address, now)
            return
        connection = self._by_peer.get(key) or self._rendezvous.get(address)
        known = self._aliases.get(address)
        if connection is None and known is not None:
            connection = self._by_peer.get((known, *key[1:]))
            connection = connection or self._rendezvous.get(known)
        if connection is None and request_type == RequestType.CONCLUSION and listener:
            # [udt:outdated-cookie]
            self._challenge(listener, handshake, address, now)
            return
        if connection is None or request_type > RequestType.RENDEZVOUS:
            self._ignore(address, "no one to take the handshake", now)
            return
        self._touched[connection] = None
        connection.handshake_received(handshake, now)

    def _challenge(
        self, listener: Listener, request: Handshake, address: Address, now: float
    ) -> None:
        """Answer who has no valid cookie."""
        challenge = listener.challenge(request, address, now)
        if challenge is not None:
            self._output.append(Transmit(address, challenge))

    def _conclusion_received(
        self, listener: Listener, packet: HandshakePacket, address: Address, now: float
    ) -> None:
        """Accept a client that has returned its cookie, once."""
        handshake = packet.handshake
        key = (address, handshake.socket_id, handshake.initial_sequence)
        known = self._by_peer.get(key)
        if known is not None:
            # [udt:repeated-conclusion]
            known.repeat_response()
            self._touch(known)
            return
        # [udt:backlog] [udt:bounded-connections]
        if (
            not listener.accepts_terms(handshake)
            or self._not_taken >= listener.backlog
            or len(self._connections) >= self.configuration.maximum_connections
        ):
            self._output.append(Transmit(address, listener.rejection(handshake)))
            return
        early: bytes | None = b""
        if self.configuration.socket_type is SocketType.STREAM:
            early = listener.early.receive(key, packet.trailing)
        if early is None:
            return
        own = attrs.evolve(
            self._own_handshake(RequestType.CONCLUSION, address),
            # Both directions start at the client's number.
            # [udt:first-number]
            initial_sequence=handshake.initial_sequence,
            maximum_packet_size=min(
                handshake.maximum_packet_size, self.configuration.maximum_packet_size
            ),
            cookie=listener.cookie(address, now),
        )
        connection = self._connection_type(self._surroundings, own, address, now=now)
        self._connections[connection.socket_id] = connection
        response = HandshakePacket(
            destination_id=handshake.socket_id,
            handshake=own,
            trailing=confirmation_of(early),
        )
        self._not_taken += 1
        connection.accept(response.encode(), handshake, now, early)
        self._touch(connection)
        self._by_peer[key] = connection

    # Datagrams out and time

    def datagrams_to_send(self, *, now: float) -> list[Transmit]:
        """Return what is to be sent now; call it after every other call."""
        output, self._output = self._output, []
        while self._touched:
            touched, self._touched = self._touched, {}
            for connection in touched:
                output += connection.datagrams_to_send(now)
                self._settle(connection)
        return output

    def handle_timer(self, *, now: float) -> None:
        """Do what is due."""
        timers = self._timers
        while timers and timers[0][0] <= now + 1e-6:
            at, socket_id = heapq.heappop(timers)
            if self._timer_of.get(socket_id) != at:
                continue
            del self._timer_of[socket_id]
            connection = self._connections[socket_id]
            connection.handle_timer(now)
            self._touch(connection)

    def next_timer(self) -> float | None:
        """Return when to call :meth:`handle_timer`, in absolute seconds, or None."""
        timers = self._timers
        while timers and self._timer_of.get(timers[0][1]) != timers[0][0]:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _settle(self, connection: Connection) -> None:
        """Bring timers and tables in line with what a connection has become."""
        socket_id = connection.socket_id
        if connection.state is State.CLOSED:
            if self._connections.get(socket_id) is connection:
                self._forget(connection)
            return
        peer = connection.peer
        if peer is not None and _key_of(connection, peer) not in self._by_peer:
            self._by_peer[_key_of(connection, peer)] = connection
            self._remember(connection.peer_address, peer.cookie)
            if self._rendezvous.get(connection.peer_address) is connection:
                del self._rendezvous[connection.peer_address]
        at = connection.next_timer()
        if at is None:
            self._timer_of.pop(socket_id, None)
            return
        registered = self._timer_of.get(socket_id)
        # A later time is looked at when the earlier one comes.
        if registered is None or at < registered:
            self._timer_of[socket_id] = at
            heapq.heappush(self._timers, (at, socket_id))

    def _remember(self, address: Address, cookie: int) -> None:
        """Keep a listener's cookie for the next connection; of 1,024 the newest."""
        if cookie in (0, _NO_COOKIE):
            return
        self._cookies[address] = cookie
        self._cookies.move_to_end(address)
        while len(self._cookies) > _MAX_COOKIES:
            self._cookies.popitem(last=False)

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection.socket_id]
        self._timer_of.pop(connection.socket_id, None)
        peer = connection.peer
        if peer is not None:
            key = _key_of(connection, peer)
            if self._by_peer.get(key) is connection:
                del self._by_peer[key]
        if self._rendezvous.get(connection.peer_address) is connection:
            del self._rendezvous[connection.peer_address]

    # What connections are lent

    def _touch(self, connection: Connection) -> None:
        self._touched[connection] = None

    def _emit(self, event: Event) -> None:
        self._events.append(event)

    def _random_number(self) -> float:
        return int.from_bytes(self._random_bytes(4)) / 0xFFFFFFFF

    def _own_handshake(self, request_type: int, address: Address) -> Handshake:
        socket_id = 0
        while socket_id == 0 or socket_id in self._connections:
            socket_id = int.from_bytes(self._random_bytes(4)) & _SOCKET_ID_MASK
        return Handshake(
            socket_type=self.configuration.socket_type,
            initial_sequence=int.from_bytes(self._random_bytes(4)) & SEQUENCE_MASK,
            maximum_packet_size=self.configuration.maximum_packet_size,
            flow_window_packets=self.configuration.announced_window_packets,
            request_type=request_type,
            socket_id=socket_id,
            peer_ip=encode_peer_ip(address[0]),
        )


def _key_of(connection: Connection, peer: Handshake) -> _PeerKey:
    """What tells the peers of a port's connections apart."""
    return connection.peer_address, peer.socket_id, peer.initial_sequence
