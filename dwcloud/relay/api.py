"""The relay's HTTP resources (docs/protocol/relaying)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.metadata import version
from urllib.parse import unquote
from uuid import UUID
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure

from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.http_messages import (
    Reply,
    Request,
    Response,
    SwitchProtocols,
    json_response,
    plain_response,
)
from dwcloud.net.http_server import HTTPServerProtocol
from dwcloud.net.proofs import verify_proof
from dwcloud.net.silence import SilenceTable
from dwcloud.net.tunnel_endpoints import METHODS
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.relaying.paths import (
    CLIENT_TOKEN,
    SERVER_TOKEN,
    ClientSessionsResource,
    ClientTunnelResource,
    Resource,
    ServerTunnelResource,
    StatisticsResource,
    client_tunnel_path,
    parse_path,
)
from dwcloud.protocol.relaying.proof import (
    SCHEME,
    TICKET_HEADER,
    TICKET_SCHEME,
    Challenge,
    Proof,
    authorization_scheme,
)
from dwcloud.protocol.relaying.tickets import Tickets
from dwcloud.protocol.tunnelling.upgrade import wants_upgrade
from dwcloud.relay.statistics import Statistics
from dwcloud.relay.switchboard import ServerConnection, Switchboard

__all__ = ["RelayAPI"]

_NONCE_LENGTH = 32
_MAX_CLIENT_NAME = 200


class RelayAPI:
    """Answers the requests of servers, clients and curious people.

    :param allowed_systems: the systems that may register; empty for anyone's.
    :param public_url: where the relay is reached from outside; empty if not known.
    :param connections: returns the connections that are still HTTP.
    :param random_bytes: returns as many random bytes as asked for.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        switchboard: Switchboard,
        statistics: Statistics,
        *,
        connections: Callable[[], SilenceTable[HTTPServerProtocol]],
        random_bytes: Callable[[int], bytes],
        allowed_systems: Collection[UUID] = (),
        public_url: str = "",
    ) -> None:
        self._reactor = reactor
        self._switchboard = switchboard
        self._statistics = statistics
        self._connections = connections
        self._random_bytes = random_bytes
        self._allowed_systems = frozenset(allowed_systems)
        self._public_url = public_url.rstrip("/")
        self._tickets = Tickets(random_bytes)
        # A nonce belongs to a connection and goes with it.
        self._challenges: WeakKeyDictionary[HTTPServerProtocol, Challenge]
        self._challenges = WeakKeyDictionary()

    def __call__(self, request: Request) -> Reply | Deferred[Reply]:
        """Answer a request."""
        try:
            return self._answer(request, parse_path(request.path))
        except RemoteProtocolError as e:
            return self._refuse(e)

    def _answer(self, request: Request, resource: Resource) -> Reply | Deferred[Reply]:
        match resource:
            case ServerTunnelResource():
                self._check_tunnel(request, resource.method, SERVER_TOKEN)
                return self._server_tunnel(request, resource)
            case ClientTunnelResource():
                self._check_tunnel(request, resource.method, CLIENT_TOKEN)
                return self._client_tunnel(request, resource)
            case ClientSessionsResource():
                _check_method(request, "POST")
                return self._create_session(resource.name)
            case StatisticsResource():
                _check_method(request, "GET", "HEAD")
                return self._show_statistics()

    def _refuse(self, error: RemoteProtocolError) -> Response:
        status = error.code or 400
        self._statistics.refused[status] += 1
        sentence = str(error)
        headers: tuple[tuple[str, str], ...] = ()
        if isinstance(error, _Refusal):
            headers = error.headers
        return plain_response(
            status, f"{sentence[:1].upper()}{sentence[1:]}.", headers=headers
        )

    def _check_tunnel(self, request: Request, method: str, token: str) -> None:
        """Refuse what does not open a tunnel by a method known here."""
        if method not in METHODS.names:
            raise RemoteProtocolError(
                f"{method!r} is not a tunnelling method known here; these are: "
                + ", ".join(METHODS.names),
                404,
            )
        _check_method(request, "GET")
        if not wants_upgrade(request.headers, token):
            raise _Refusal(
                f"this resource is for connections with 'Upgrade: {token}'; a proxy on "
                "the way may have removed that",
                426,
                (("Upgrade", token), ("Connection", "Upgrade")),
            )

    # Servers

    def _server_tunnel(self, request: Request, resource: ServerTunnelResource) -> Reply:
        name = resource.name
        ticket = self._authenticate(request, resource)
        if self._allowed_systems and name.system not in self._allowed_systems:
            raise RemoteProtocolError(
                f"system {name.system} may not use this relay; ask its operator", 403
            )
        self._switchboard.check_offer(name)
        return SwitchProtocols(
            ServerConnection(self._switchboard, name),
            SERVER_TOKEN,
            ((TICKET_HEADER, ticket),) if ticket else (),
        )

    def _authenticate(self, request: Request, resource: ServerTunnelResource) -> str:
        """Return a new ticket after a proof, nothing after a ticket, else refuse."""
        field = request.header("authorization") or ""
        scheme = authorization_scheme(field)
        now = self._reactor.seconds()
        try:
            if scheme == TICKET_SCHEME.lower():
                ticket = field.partition(" ")[2].strip()
                if self._tickets.accepts(ticket, resource.name, now=now):
                    return ""
                raise RemoteProtocolError("the ticket is not valid any more", 401)
            if scheme == SCHEME.lower():
                self._check_proof(request, resource, field)
                self._statistics.proofs_accepted += 1
                return self._tickets.issue(resource.name, now=now)
            raise RemoteProtocolError("a server proves its name to listen here", 401)
        except RemoteProtocolError as e:
            challenge = Challenge(self._random_bytes(_NONCE_LENGTH), now=now)
            self._challenges[request.connection] = challenge
            raise _Refusal(str(e), 401, (("WWW-Authenticate", challenge.field),)) from e

    def _check_proof(
        self, request: Request, resource: ServerTunnelResource, field: str
    ) -> None:
        challenge = self._challenges.pop(request.connection, None)
        if challenge is None:
            raise RemoteProtocolError("the nonce is not one of this connection", 401)
        transport = request.connection.transport
        assert transport is not None
        challenge.check(
            Proof.decode(field),
            method=resource.method,
            name=resource.name,
            channel_binding=channel_binding(transport),
            verify=verify_proof,
            now=self._reactor.seconds(),
        )

    # Clients

    def _create_session(self, target: PeerName) -> Reply:
        session_id, server = self._switchboard.create_session(target)
        path = client_tunnel_path(session_id)
        return json_response(
            201,
            {"id": session_id, "server": str(server), "url": path},
            (("Location", self._public_url + path),),
        )

    def _client_tunnel(
        self, request: Request, resource: ClientTunnelResource
    ) -> Deferred[Reply]:
        name = unquote(request.header("dwcloud-client") or "")[:_MAX_CLIENT_NAME]
        joining = self._switchboard.request_tunnel(
            resource.session_id, name, _address(request.peer)
        )

        def refused(failure: Failure) -> Reply:
            failure.trap(RemoteProtocolError)
            assert isinstance(failure.value, RemoteProtocolError)
            return self._refuse(failure.value)

        return joining.addCallbacks(
            lambda end: SwitchProtocols(end, CLIENT_TOKEN), refused
        )

    # Anybody

    def _show_statistics(self) -> Reply:
        connections = self._connections()
        return json_response(
            200,
            {
                "version": version("dwcloud"),
                "uptime": round(self._reactor.seconds() - self._statistics.began, 1),
                "now": {
                    **self._switchboard.figures(),
                    "http_connections": len(connections),
                },
                "ended": {
                    **self._statistics.totals(),
                    "http_connections_evicted": connections.evicted,
                },
            },
        )


class _Refusal(RemoteProtocolError):
    """A refusal with header fields."""

    def __init__(
        self, message: str, code: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        super().__init__(message, code)
        self.headers = headers


def _check_method(request: Request, *allowed: str) -> None:
    if request.method not in allowed:
        raise _Refusal(
            f"{request.path} does not understand {request.method}",
            405,
            (("Allow", ", ".join(allowed)),),
        )


def _address(peer: IAddress) -> Address:
    """The address of a client, or an unspecified one behind a UNIX socket."""
    host, port = getattr(peer, "host", "0.0.0.0"), getattr(peer, "port", 0)
    return Address(host, port)
