"""The TCP face of a mediator: control channels of servers, requests of clients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.mediator.mediator import Mediator
from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.silence import SilenceTable
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.admission import AdmissionCore, ControlConnection
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    Bind,
    ConnectionRequested,
    ConnectResponse,
    Replaced,
    Watch,
    error_answer,
)
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.registry import ServerRecord
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.stun.binding import binding_response, is_binding_request
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.sealing import Sealing

__all__ = ["MediatorConnection", "MediatorConnectionFactory"]

_SILENCE_MARGIN = 5.0
"""Seconds that a control channel may be late with its sign of life."""


class MediatorConnection:
    """One TCP connection: anybody's, until it becomes a server's control channel."""

    _log = Logger()

    def __init__(
        self, mediator: Mediator, connections: _Connections, tunnelled: bool
    ) -> None:
        self._mediator = mediator
        self._tunnelled = tunnelled
        self._connections = connections
        self._record: ServerRecord | None = None
        self._bound = Bind()
        self._why = ""
        self._control = ControlConnection(
            AdmissionCore(
                verify=mediator.verify,
                new_exchange=mediator.new_exchange,
                channel_binding=self._channel_binding,
                random_bytes=mediator.random_bytes,
                policy=mediator.check_registration,
                welcome=mediator.welcome,
                answer=self._send,
                seal=self._seal,
                on_listening=self._listening,
                on_bound=self._addresses_bound,
                on_challenged=self._challenged,
            )
        )

    # STUNReceiver

    def connectionOpened(self, connection: STUNStreamProtocol) -> None:
        """Count the connection among the anonymous ones."""
        self._connection = connection
        self._connections.anonymous.add(self)

    def requestReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Answer a request, now or later."""
        self._connections.anonymous.heard(self)
        self._connections.servers.heard(self)
        try:
            self._dispatch(message)
        except RemoteProtocolError as error:
            self._log.debug(
                "request 0x{method:03X} of {source} refused: {reason}",
                method=message.method,
                source=str(self._connection.peerAddress),
                reason=str(error),
            )
            self._send(error_answer(message, error))

    def indicationReceived(self, message: STUNMessage, raw: bytes) -> None:
        """Take what a server tells of itself; there is no other."""
        if self._record is None or message.method != Method.ACTIVITY:
            return
        try:
            self._mediator.receive_activity(self._record, message)
        except RemoteProtocolError as error:
            # A newer server may say what this mediator does not understand.
            self._log.debug("activity is ignored: {reason}", reason=str(error))

    def connectionClosed(self, reason: Failure) -> None:
        """The server, if it was one's channel, is offline."""
        self._connections.anonymous.remove(self)
        self._connections.servers.remove(self)
        self._control.close()
        record, self._record = self._record, None
        if record is not None:
            why = self._why or reason.getErrorMessage()
            self._mediator.server_offline(record, why)

    # ServerChannel

    def request_connection(self, request: ConnectionRequested) -> None:
        """Tell the server that a client wants to connect."""
        self._log.info(
            "session {connect_session_id}: telling the server of {addresses}",
            connect_session_id=log_id(request.session_id),
            addresses=[str(address) for address in request.udp_endpoints],
        )
        self._connection.sendMessage(request.to_stun(self._mediator.random_bytes(12)))

    def access_changed(self, change: AccessChanged) -> None:
        """Tell the server who may connect; close if nobody owns its system."""
        self._send(change.to_stun(self._mediator.random_bytes(12)))
        if not change.state.is_bound:
            self.close("no account owns its system any more", abort=False)

    def watch(self) -> None:
        """Make the server tell what it carries."""
        self._send(Watch().to_stun(self._mediator.random_bytes(12)))

    def replaced(self) -> None:
        """Tell the server that a newer channel of it took the place, and close."""
        self._send(Replaced().to_stun(self._mediator.random_bytes(12)))
        self.close("a newer control channel replaced it", abort=False)

    def close(self, why: str, *, abort: bool = True) -> None:
        """Close the connection."""
        self._why = why
        self._control.close()
        if abort:
            self._connection.abortConnection()
        else:
            self._connection.loseConnection()

    # Requests

    def _dispatch(self, request: STUNMessage) -> None:
        mediator = self._mediator
        if request.method in ControlConnection.METHODS:
            now = mediator.reactor.seconds()
            self._control.receive_request(request, now=now)
        elif is_binding_request(request):
            mediator.statistics.bindings += 1
            source = self._connection.peerAddress
            self._send(binding_response(request, source, compact=False))
        elif request.method == Method.CONNECT:
            mediator.receive_connect(
                request,
                self._connection.peerAddress,
                observed=False,
                reply=partial(self._introduce, request),
            )
        elif request.method == Method.CONNECTION_RESULT:
            self._send(mediator.receive_result(request))
        else:
            raise RemoteProtocolError("not a method for TCP", 400)

    def _introduce(self, request: STUNMessage, response: ConnectResponse) -> None:
        self._send(response.to_stun(request.transaction_id))

    def _send(self, message: STUNMessage) -> None:
        self._connection.sendMessage(message)

    # What admission does

    def _channel_binding(self) -> bytes:
        if self._tunnelled:
            # TLS, if there is any, may end on the way (docs/security).
            return b""
        return channel_binding(self._connection.transport)

    def _seal(self, sealing: Sealing) -> None:
        self._connection.sealing = sealing

    def _listening(self, name: PeerName) -> None:
        self._connections.anonymous.remove(self)
        self._connections.servers.add(self)
        now = self._mediator.reactor.seconds()
        self._record = ServerRecord(
            name, self, self._bound, now, self._connection.peerAddress.host
        )
        self._mediator.server_online(self._record)

    def _challenged(self) -> None:
        self._mediator.statistics.challenges += 1

    def _addresses_bound(self, bind: Bind) -> None:
        self._bound = bind
        if self._record is not None:
            self._record.addresses = bind


class _Connections:
    """All connections of a mediator, by whether they belong to a server."""

    def __init__(self, mediator: Mediator) -> None:
        limits = mediator.configuration.limits
        self.anonymous: SilenceTable[MediatorConnection] = SilenceTable(
            mediator.reactor,
            limits.anonymous_silence,
            limits.anonymous_connections,
            lambda connection: connection.close("nothing was asked"),
        )
        # The registry bounds them; here they only must not fall silent.
        self.servers: SilenceTable[MediatorConnection] = SilenceTable(
            mediator.reactor,
            mediator.configuration.keep_alive.limit + _SILENCE_MARGIN,
            limits.servers * 2,
            lambda connection: connection.close("the control channel fell silent"),
        )


class MediatorConnectionFactory(Factory):
    """Makes the protocol of each TCP connection that carries STUN."""

    noisy = False

    def __init__(self, mediator: Mediator) -> None:
        self._mediator = mediator
        self._connections = connections = _Connections(mediator)
        anonymous, servers = connections.anonymous, connections.servers
        mediator.add_gauge("connections_anonymous", lambda: len(anonymous))
        mediator.add_gauge("connections_evicted", lambda: anonymous.evicted)
        mediator.add_gauge("connections_silent", lambda: anonymous.timed_out)
        mediator.add_gauge("servers_silent", lambda: servers.timed_out)

    def buildProtocol(self, addr: IAddress | None) -> STUNStreamProtocol:
        """Make the protocol of one connection."""
        return self._build(self, tunnelled=False)

    def inside_http(self) -> Factory:
        """Return what makes the protocol of tunnels; they are counted together."""
        return _TunnelFactory(self._build)

    def _build(self, factory: Factory, *, tunnelled: bool) -> STUNStreamProtocol:
        receiver = MediatorConnection(self._mediator, self._connections, tunnelled)
        protocol = STUNStreamProtocol(self._mediator.reactor, receiver)
        protocol.factory = factory
        return protocol

    def closeAll(self, why: str) -> None:
        """Close all connections: the mediator stops."""
        tables = (self._connections.anonymous, self._connections.servers)
        for table in tables:
            for connection in table.stop():
                connection.close(why)


class _TunnelFactory(Factory):
    """Makes the protocol of each stream inside HTTP."""

    noisy = False

    def __init__(self, build: Callable[..., STUNStreamProtocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> STUNStreamProtocol:
        """Make the protocol of one stream."""
        return self._build(self, tunnelled=True)
