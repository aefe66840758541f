"""A server's side of paths: whom to admit, and which service to connect."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import cast

from automat import NoTransition
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import AccessDenied, AccessRevoked
from dwcloud.net.bulk_tls import BulkTLSFactory
from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.pump import PumpEnd, join
from dwcloud.net.tls import ServerTLS
from dwcloud.peer.openings import Openings
from dwcloud.peer.server_access import ServerAccess
from dwcloud.peer.sessions import ConnectSessions, on_link
from dwcloud.peer.status import PathKind, ServerEvent
from dwcloud.protocol.addresses import format_address
from dwcloud.protocol.grants.access import AccessGrant, GrantKind, grant_kind
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.activity import MAX_TOLD, Activity, RunningStream
from dwcloud.protocol.opening.messages import (
    Message,
    Open,
    Proof,
    RefusalCode,
    Refused,
    Start,
    signed_text,
)
from dwcloud.protocol.opening.server import (
    ServerOpeningCore,
    server_opening_machine,
)

__all__ = ["OPENING_TIMEOUT", "Service", "StreamAcceptor"]

_TLS_HANDSHAKE = 22
"""First byte of a TLS connection (RFC 8446, 5.1); frames begin with another."""

OPENING_TIMEOUT = 30.0
"""Seconds that a client has to open a stream; a race of paths takes up to 20."""

Service = IStreamClientEndpoint | IProtocolFactory
"""What is published: something to connect to, or a factory of this process."""

_MAX_OPENING = 1000
"""Paths of one kind that may be in the opening at once; the oldest makes room."""


class StreamAcceptor:
    """Accepts the paths of all kinds that lead to one server.

    :param services: published services by name.
    :param on_event: told when streams are opened, refused and closed.
    :param is_local: tells whether an address is on a network of this machine.
    :param plain_services: names of those that may be used without TLS, too.
    :param access: whom the cloud lets in; None for whoever is introduced.
    :ivar running: the streams that are open, and their numbers, the newest last.
    :ivar on_running: told when a stream has been opened or has ended.
    """

    log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        identity: ServerIdentity,
        services: Mapping[str, Service],
        sessions: ConnectSessions,
        on_event: Callable[[ServerEvent], None],
        is_local: Callable[[str], bool] = on_link,
        plain_services: Collection[str] = (),
        access: ServerAccess | None = None,
    ) -> None:
        self.clock = clock
        self.services = dict(services)
        self.sessions = sessions
        self.on_event = on_event
        self.is_local = is_local
        self.plain_services = set(plain_services)
        self.access = access
        self.running: dict[AcceptedPath, int] = {}
        self.on_running: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self.identity = identity
        self.opening = Openings(_MAX_OPENING)
        self.tls = ServerTLS(identity)

    def began(self, path: AcceptedPath) -> None:
        """A stream is open from now on."""
        self.running[path] = next(self._numbers)
        self.on_running()

    def ended(self, path: AcceptedPath) -> None:
        """A stream is open no more."""
        if self.running.pop(path, None) is not None:
            self.on_running()

    def activity(self) -> Activity:
        """Return what streams are open, the newest last."""
        newest = list(self.running.items())[-MAX_TOLD:]
        streams = tuple(path.as_running(number) for path, number in newest)
        return Activity(len(self.running), streams)

    def use_access(self, access: ServerAccess) -> None:
        """Admit whom this cloud lets in from now on, and nobody who came before."""
        self.access = access
        for path in list(self.running):
            path.cut("the system belongs to a cloud now")
        self.opening.close_all()

    def factory(self, kind: PathKind) -> IProtocolFactory:
        """A factory for the connections of one kind of path."""
        inner = Factory.forProtocol(lambda: AcceptedPath(self, kind).stream)
        inner.noisy = False
        return _PathFactory(self, inner, kind)


class _PathFactory(BulkTLSFactory):
    """Wraps paths in TLS, or first finds out whether they want it."""

    noisy = False

    def __init__(
        self, acceptor: StreamAcceptor, inner: IProtocolFactory, kind: PathKind
    ) -> None:
        super().__init__(acceptor.tls, False, inner, acceptor.clock)
        self._acceptor = acceptor
        self._kind = kind

    def buildProtocol(  # type: ignore[override]
        self, addr: IAddress | None
    ) -> IProtocol | None:
        """Take the connection."""
        if not self._acceptor.plain_services:
            return super().buildProtocol(addr)
        return _FirstByte(
            self._acceptor,
            self._kind,
            tls=lambda: super(_PathFactory, self).buildProtocol(addr),
        )


class _FirstByte(SwitchingProtocol):
    """Waits for the first byte, which tells a path in TLS from one in the clear."""

    def __init__(
        self, acceptor: StreamAcceptor, kind: PathKind, tls: Callable[[], IProtocol]
    ) -> None:
        self._acceptor = acceptor
        self._kind = kind
        self._tls = tls
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """A client came; even for its first byte it has limited time."""
        self._acceptor.opening.add(self._kind, self, self._give_up)
        self._timer = self._acceptor.clock.callLater(OPENING_TIMEOUT, self._give_up)

    def bytesReceived(self, data: bytes) -> None:
        """Give the connection to whom it is meant for."""
        self._stop_waiting()
        if data[0] == _TLS_HANDSHAKE:
            self.switch_to(self._tls(), data)
        else:
            accepted = AcceptedPath(self._acceptor, self._kind, tls=False)
            self.switch_to(accepted.stream, data)

    def connectionEnded(self, reason: Failure) -> None:
        """The client left without a word."""
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._acceptor.opening.remove(self._kind, self)
            if timer.active():
                timer.cancel()

    def _give_up(self) -> None:
        cast(ITCPTransport, self.transport).abortConnection()


class AcceptedPath:
    """One path that came in, until its stream is joined to a service."""

    def __init__(
        self, acceptor: StreamAcceptor, kind: PathKind, *, tls: bool = True
    ) -> None:
        self._acceptor = acceptor
        self._in_tls = tls
        self._kind = self._arrived_as = kind
        self.stream = CloudStream(self, acceptor.clock)
        self._timer: IDelayedCall | None = None
        self._session = ""
        self._since = 0.0
        self._service = ""
        self._client = ""
        self._grant: AccessGrant | None = None
        self._connecting: Deferred[IProtocol] | None = None
        self._end: PumpEnd | None = None
        self._application: IProtocol | None = None
        self._lost = False
        self._opening = server_opening_machine(
            ServerOpeningCore(
                send=self.stream.send,
                connect_service=self._connect_service,
                on_started=self._started,
                on_refused=self._refused,
            )
        )

    # StreamOpening: what the stream tells.

    def path_connected(self, stream: CloudStream) -> None:
        """A client came; it has limited time to say what it wants."""
        self._acceptor.opening.add(self._arrived_as, self, self._evicted)
        self._timer = self._acceptor.clock.callLater(OPENING_TIMEOUT, self._timed_out)

    def path_secured(self, stream: CloudStream) -> None:
        """TLS is up, which tells nothing of the client."""

    def message_received(self, stream: CloudStream, message: Message) -> None:
        """Advance the opening."""
        try:
            match message:
                case Open():
                    refused = self._judge(message)
                    self._log_judgement(refused)
                    if refused is None:
                        self._opening.session_admitted(self._proof(message))
                    else:
                        self._opening.session_refused(refused)
                case Start():
                    self._opening.start_received(message)
                case _:
                    self._unexpected(message)
        except NoTransition:
            self._unexpected(message)

    def _unexpected(self, message: Message) -> None:
        what = type(message).__name__
        self.stream.fail(Failure(ConnectionLost(f"the client sent {what} out of turn")))

    def path_lost(self, stream: CloudStream, reason: Failure) -> None:
        """The client went away, or lost the race to another path of its own."""
        self._lost = True
        self._stop_opening()
        self._left()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        if self._end is not None and self._end.lost is None:
            self._abandon_service()
        log = self._acceptor.log.info if self._session else self._acceptor.log.debug
        log(
            "session {connect_session_id}: path by {path} ended in the opening: "
            "{reason}",
            connect_session_id=self._session or "none",
            path=self._kind.value,
            reason=reason.getErrorMessage(),
        )

    def _stop_opening(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._acceptor.opening.remove(self._arrived_as, self)
            if timer.active():
                timer.cancel()

    def _evicted(self) -> None:
        self.stream.fail(Failure(ConnectionLost("too many others are being opened")))

    def _timed_out(self) -> None:
        self.stream.fail(Failure(ConnectionLost("the client opened no stream in time")))

    def _proof(self, message: Open) -> Proof | None:
        if self._in_tls:
            return None
        identity = self._acceptor.identity
        return Proof(identity.certificates, identity.sign(signed_text(message)))

    # Whom to admit.

    def _judge(self, message: Open) -> Refused | None:
        self._client = message.client
        if not self._in_tls and not message.nonce:
            return Refused(
                RefusalCode.BAD_REQUEST, "without TLS the server needs a nonce to sign"
            )
        gateway = False
        if message.session is not None:
            self._session = log_id(message.session)
            known = self._acceptor.sessions.use(message.session) is not None
        elif self._kind is PathKind.TCP and self._is_local():
            # No mediator introduces clients on the LAN (docs/protocol/lan.rst).
            self._kind = PathKind.LAN
            known = True
        else:
            # Nor gateways, whose grants only a server with a cloud can check.
            known = gateway = (
                self._kind is PathKind.RELAY
                and grant_kind(message.grant) == GrantKind.GATEWAY
                and self._acceptor.access is not None
            )
        if not known:
            return Refused(
                RefusalCode.UNKNOWN_SESSION,
                "the server knows no such connect session; ask its mediator for one",
            )
        try:
            self._check_access(message, gateway)
        except AccessDenied as e:
            return Refused(RefusalCode.ACCESS_DENIED, str(e))
        return None

    def _check_access(self, message: Open, gateway: bool) -> None:
        """Admit whom the cloud lets in, for as long as it does.

        :raises AccessDenied: if it does not.
        """
        access = self._acceptor.access
        if access is None:
            return
        if self._in_tls:
            binding = self.stream.tls_binding
        else:
            binding = message.nonce + self._acceptor.identity.name.system.bytes
        self._grant = access.check_path(
            message.grant,
            message.possession,
            message.session,
            binding,
            kind=GrantKind.GATEWAY if gateway else GrantKind.CONNECT,
            in_tls=self._in_tls,
        )
        access.add_stream(self, self._grant, self.cut)

    def cut(self, why: str) -> None:
        """End it: who opened it may not connect any more."""
        self.stream.fail(Failure(AccessRevoked(why)))

    def _left(self) -> None:
        if self._acceptor.access is not None:
            self._acceptor.access.remove_stream(self)

    def _log_judgement(self, refused: Refused | None) -> None:
        if not self._session:
            return
        peer = self.stream.getPeer()
        self._acceptor.log.info(
            "session {connect_session_id}: path by {path} from {address} {outcome}",
            connect_session_id=self._session,
            path=self._kind.value,
            address=format_address((peer.host, peer.port)),
            outcome="admitted" if refused is None else f"refused: {refused.reason}",
        )

    def _is_local(self) -> bool:
        return self._acceptor.is_local(self.stream.getPeer().host)

    # What the opening machine does.

    def _connect_service(self, name: str) -> None:
        services = self._acceptor.services
        offered = ", ".join(sorted(services)) or "nothing"
        if not name and len(services) == 1:
            (name,) = services
        if name not in services:
            asked = f"no service {name!r}" if name else "more than one service"
            self._opening.service_failed(
                RefusalCode.UNKNOWN_SERVICE,
                f"the server has {asked}; it offers: {offered}",
            )
            return
        if not (self._in_tls or name in self._acceptor.plain_services):
            self._opening.service_failed(
                RefusalCode.BAD_REQUEST,
                f"the server offers {name!r} with TLS only",
            )
            return
        self._service = name
        service = services[name]
        if IStreamClientEndpoint.providedBy(service):
            self._end = PumpEnd()
            self._connecting = connectProtocol(service, self._end)
            self._connecting.addCallbacks(self._connected, self._connect_failed)
            return
        peer = self.stream.getPeer()
        self._application = service.buildProtocol(peer)
        if self._application is None:
            self._opening.service_failed(
                RefusalCode.BUSY, f"service {name!r} takes no connection now"
            )
        else:
            self._opening.service_connected(name)

    def _connected(self, _: IProtocol) -> None:
        self._connecting = None
        if self._lost:
            self._abandon_service()
        else:
            self._opening.service_connected(self._service)

    def _connect_failed(self, reason: Failure) -> None:
        self._connecting = None
        if not self._lost:
            self._opening.service_failed(
                RefusalCode.SERVICE_UNREACHABLE,
                f"the server cannot reach its service {self._service!r}: "
                f"{reason.getErrorMessage()}",
            )

    def _abandon_service(self) -> None:
        assert self._end is not None
        if self._end.transport is not None:
            self._end.transport.loseConnection()

    def _refused(self, refused: Refused) -> None:
        # It counts, and its time runs, until the client has closed the connection.
        self._report("stream_refused", reason=refused.reason)
        self.stream.loseConnection()

    def _started(self) -> None:
        self._stop_opening()
        self._since = self._acceptor.clock.seconds()
        self._acceptor.began(self)
        self._report("stream_opened")
        if self._end is not None:
            far_end = PumpEnd()
            self.stream.attach(far_end, self._closed)
            join(self._end, far_end)
        else:
            assert self._application is not None
            self.stream.attach(self._application, self._closed)

    def as_running(self, number: int) -> RunningStream:
        """Return what there is to tell of the stream, which is open."""
        return RunningStream(
            number=number,
            path=self._kind.value,
            session=uuid.UUID(self._session) if self._session else None,
            age=int(self._acceptor.clock.seconds() - self._since),
            to_client=self.stream.bytes_sent,
            to_server=self.stream.bytes_received,
            account=self._grant.account_name if self._grant else "",
            client=self._client,
        )

    def _closed(self, reason: Failure) -> None:
        self._left()
        self._acceptor.ended(self)
        self._report(
            "stream_closed",
            bytes_sent=self.stream.bytes_sent,
            bytes_received=self.stream.bytes_received,
            reason=reason.getErrorMessage(),
        )

    def _report(self, event: str, **more: object) -> None:
        peer = self.stream.getPeer()
        details = {
            "service": self._service,
            "path": self._kind.value,
            "remote_address": format_address((peer.host, peer.port)),
            "client": self._client,
            "connect_session_id": self._session or None,
            **more,
        }
        if self._grant is not None:
            details["account"] = self._grant.account_name or None
            details["role"] = self._grant.role.label
        self._acceptor.on_event(ServerEvent(event, details))
