"""The service's side of all tunnelling methods, in front of any HTTP application."""

from __future__ import annotations

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from dwcloud.net.framed_connection import FramedConnection, WebSocketEnd
from dwcloud.net.http_bodies import BodyReceiver, BodyStream
from dwcloud.net.http_messages import (
    Application,
    Reply,
    Request,
    StreamBodies,
    SwitchProtocols,
    plain_response,
)
from dwcloud.net.message_server import MessageTunnels
from dwcloud.net.message_transport import MessageTransport
from dwcloud.net.silence import SilenceTable
from dwcloud.net.tunnel_echo import EchoFirst
from dwcloud.net.tunnel_requests import as_upgrade, leads_nowhere, tunnel_id_of
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.tunnelling.framed_stream import LengthFraming
from dwcloud.protocol.tunnelling.methods import (
    FINITE_MESSAGES,
    GET_POST,
    POST,
    PROBE_PATH,
    PROBE_TOKEN,
    UPGRADE,
    WEBSOCKET,
)
from dwcloud.protocol.tunnelling.upgrade import wants_upgrade
from dwcloud.protocol.tunnelling.websocket import accept_websocket, why_unavailable

__all__ = ["TunnelServer"]

_MOST_HALF_OPEN = 1000
"""Tunnels at a time of which the second request has not come."""
_SECOND_REQUEST = 10.0
"""Seconds for it to come."""
_MOST_WAITING = 1000
"""Connections at a time of which the first bytes, to be sent back, have not come."""
_FIRST_BYTES = 10.0
"""Seconds for them to come."""
_MOST_PARTING = 1000
"""Connections at a time that have been probed and not ended yet."""
_PARTING = 5.0
"""Seconds for them to end."""
_LARGEST_ECHO = 1024
_MARK = (("DWCloud-Tunnel", "1"),)


class _Parting(Protocol):
    """What is inside a tunnel that leads nowhere: it ends.

    :param parting: those that end, which limits their time and number.
    """

    def __init__(self, parting: SilenceTable[_Parting]) -> None:
        self._parting = parting

    def connectionMade(self) -> None:
        self._parting.add(self)
        cast(Any, self.transport).loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        transport = cast(Any, self.transport)
        # A tunnel in frames tells of its end while it waits for the far one's.
        if not (isinstance(transport, MessageTransport) and transport.lingering):
            self._parting.remove(self)

    def abort(self) -> None:
        """Break the connection off: the far end keeps it, or others need room."""
        transport = cast(Any, self.transport)
        if isinstance(transport, MessageTransport):
            transport.break_off()
        else:
            transport.abortConnection()


class TunnelServer:
    """Serves every method beside each ``.../upgrade`` of an application.

    A request that opens a tunnel by another method is shown to the application as one
    that upgrades its connection; the protocol that it answers with gets the tunnel's
    stream. Tunnels that lead nowhere are opened at ``/tunnel_probe/{method}``.

    :param application: need know of ``upgrade`` alone.
    """

    def __init__(self, reactor: IReactorTime, application: Application) -> None:
        self._reactor = reactor
        self._application = application
        self._messages = MessageTunnels(reactor, self._upgrade)
        self._halves: dict[str, _HalfOpen] = {}
        self._asking_halves: set[str] = set()
        self._half_open: SilenceTable[_HalfOpen] = SilenceTable(
            reactor, _SECOND_REQUEST, _MOST_HALF_OPEN, _HalfOpen.give_up
        )
        self._waiting: SilenceTable[EchoFirst] = SilenceTable(
            reactor, _FIRST_BYTES, _MOST_WAITING, EchoFirst.abort
        )
        self._parting: SilenceTable[_Parting] = SilenceTable(
            reactor, _PARTING, _MOST_PARTING, _Parting.abort
        )

    def streams(self, method: str, path: str) -> bool:
        """Tell which requests are answered before their body."""
        name = path.rpartition("/")[2]
        return method == "POST" and name in (POST, GET_POST)

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer a request."""
        try:
            match request.path.rpartition("/")[2]:
                case name if name == FINITE_MESSAGES:
                    return self._messages(request)
                case name if name == WEBSOCKET:
                    return self._open(request, self._websocket)
                case name if name == POST:
                    _check_method(request, "POST")
                    return self._open(request, self._post)
                case name if name == GET_POST:
                    _check_method(request, "GET", "POST")
                    if request.method == "POST":
                        return self._join(request)
                    return self._open_halves(request)
                case _:
                    _check_echo(request)
                    return self._upgrade(request)
        except RemoteProtocolError as e:
            sentence = str(e)
            return plain_response(
                e.code or 400, f"{sentence[:1].upper()}{sentence[1:]}."
            )

    def messages_ended(self) -> Deferred[None]:
        """Fire when no tunnel of now needs new connections any more; cancellable."""
        return self._messages.ended()

    def stop(self) -> None:
        """Serve no longer; the connections below are closed by their owner."""
        self._messages.stop()
        for waiting in self._waiting.stop():
            waiting.abort()
        for half_open in self._half_open.stop():
            half_open.give_up()
        for parting in self._parting.stop():
            parting.abort()

    # All methods

    def _upgrade(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer a request to upgrade, or one shown as such."""
        if request.path == f"{PROBE_PATH}/{UPGRADE}":
            answering = maybeDeferred(self._probe, request)
        else:
            answering = maybeDeferred(cast(Any, self._application), request)
        size = request.header("dwcloud-echo")
        if size is None:
            return answering
        if not (size.isascii() and size.isdigit() and len(size) < 5):
            raise RemoteProtocolError("that is no number of bytes to send back", 400)
        if not 0 < int(size) <= _LARGEST_ECHO:
            raise RemoteProtocolError("so many bytes are not sent back", 400)
        return answering.addCallback(self._echo_first, int(size))

    def _echo_first(self, reply: Reply, size: int) -> Reply:
        if not isinstance(reply, SwitchProtocols):
            return reply
        return attrs.evolve(
            reply, protocol=EchoFirst(self._waiting, reply.protocol, size)
        )

    def _open(self, request: Request, answer: Any) -> Deferred[Reply]:
        """Ask the application, and turn its 101 into the method's answer."""
        tunnel_id = tunnel_id_of(request)

        def decided(reply: Reply) -> Reply:
            if not isinstance(reply, SwitchProtocols):
                return reply
            opened: Reply = answer(reply, request, tunnel_id)
            return opened

        if answer == self._websocket:
            if why_unavailable():
                raise RemoteProtocolError(f"here {why_unavailable()}", 501)
            accept_websocket(request.headers)
        _check_echo(request)
        asking: Deferred[Reply]
        asking = maybeDeferred(cast(Any, self._upgrade), as_upgrade(request))
        return asking.addCallback(decided)

    def _open_halves(self, request: Request) -> Deferred[Reply]:
        """Open the first half of a tunnel, unless there is one of its id."""
        tunnel_id = tunnel_id_of(request)
        if tunnel_id in self._halves or tunnel_id in self._asking_halves:
            raise RemoteProtocolError("there is this tunnel already", 409)
        opening = self._open(request, self._get)
        self._asking_halves.add(tunnel_id)

        def decided(result: Reply | Failure) -> Reply | Failure:
            self._asking_halves.discard(tunnel_id)
            return result

        return cast("Deferred[Reply]", opening.addBoth(decided))

    def _probe(self, request: Request) -> Reply:
        """Answer a request for a tunnel that leads nowhere."""
        if not wants_upgrade(request.headers, PROBE_TOKEN):
            return plain_response(
                426,
                f"This resource is for connections with 'Upgrade: {PROBE_TOKEN}'.",
                (("Upgrade", PROBE_TOKEN), ("Connection", "Upgrade")),
            )
        return SwitchProtocols(_Parting(self._parting), PROBE_TOKEN)

    # Each method

    def _websocket(
        self, reply: SwitchProtocols, request: Request, tunnel_id: str
    ) -> Reply:
        accept = accept_websocket(request.headers).decode("ascii")
        return SwitchProtocols(
            WebSocketEnd(self._reactor, reply.protocol, client=False),
            "websocket",
            (*reply.headers, ("Sec-WebSocket-Accept", accept)),
        )

    def _post(self, reply: SwitchProtocols, request: Request, tunnel_id: str) -> Reply:
        def start(bodies: BodyStream) -> BodyReceiver:
            connection = FramedConnection(self._reactor, LengthFraming(), bodies)
            connection.read_from(bodies)
            connection.write_to(bodies)
            # The answer's body begins now, not when there is something to say.
            connection.pad()
            connection.connect(reply.protocol)
            return connection

        headers = (*reply.headers, *_MARK)
        return StreamBodies(start, headers, protocol=reply.protocol)

    def _get(self, reply: SwitchProtocols, request: Request, tunnel_id: str) -> Reply:
        def start(bodies: BodyStream) -> BodyReceiver:
            connection = FramedConnection(self._reactor, LengthFraming(), bodies)
            connection.write_to(bodies)
            connection.pad()
            connection.connect(reply.protocol)
            _HalfOpen(
                self._halves, self._half_open, tunnel_id, request.path, connection
            )
            return _Down(connection)

        headers = (*reply.headers, *_MARK)
        return StreamBodies(start, headers, protocol=reply.protocol)

    def _join(self, request: Request) -> Reply:
        half_open = self._halves.get(tunnel_id_of(request))
        if half_open is None or half_open.path != request.path:
            return plain_response(410, "There is no such tunnel, or not any more.")
        half_open.joined()

        def start(bodies: BodyStream) -> BodyReceiver:
            half_open.connection.read_from(bodies)
            return half_open.connection

        return StreamBodies(start, _MARK, late=True)


class _HalfOpen:
    """A tunnel of two requests of which the first has come.

    :param halves: all of them, by their tunnels' ids.
    :param waiting: the same, which limits their time and number.
    """

    def __init__(
        self,
        halves: dict[str, _HalfOpen],
        waiting: SilenceTable[_HalfOpen],
        tunnel_id: str,
        path: str,
        connection: FramedConnection,
    ) -> None:
        self.path = path
        self.connection = connection
        self._halves = halves
        self._waiting = waiting
        self._tunnel_id = tunnel_id
        halves[tunnel_id] = self
        waiting.add(self)
        connection.on_end = self.joined

    def joined(self) -> None:
        """The second request came, or the tunnel has ended."""
        self._waiting.remove(self)
        if self._halves.get(self._tunnel_id) is self:
            del self._halves[self._tunnel_id]

    def give_up(self) -> None:
        """Wait no longer: it is too late, others need room, or the service stops."""
        self.joined()
        self.connection.break_off("the second request did not come")


class _Down:
    """The connection of a GET: its body, which is empty, tells nothing."""

    def __init__(self, connection: FramedConnection) -> None:
        self._connection = connection

    def dataReceived(self, data: bytes) -> None:
        """A GET has no body worth reading."""

    def bodyEnded(self) -> None:
        """It ends at once."""

    def carrierLost(self, reason: Failure) -> None:
        """Nothing can be sent any more."""
        self._connection.carrierLost(reason)


def _check_method(request: Request, *allowed: str) -> None:
    if request.method not in allowed:
        raise RemoteProtocolError(
            f"{request.path} does not understand {request.method}", 405
        )


def _check_echo(request: Request) -> None:
    """Refuse probes without an echo, which is all that they are for."""
    if leads_nowhere(request) and request.header("dwcloud-echo") is None:
        raise RemoteProtocolError(
            "a tunnel that leads nowhere needs the field DWCloud-Echo", 400
        )
