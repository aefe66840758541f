"""The relay's HTTP resources (docs/protocol/relaying)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.metadata import version
from urllib.parse import unquote
from uuid import UUID

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.python.failure import Failure

from dwcloud.net.channel_binding import channel_binding
from dwcloud.net.http_messages import (
    Reply,
    Request,
    Response,
    SwitchProtocols,
    front_page,
    json_response,
    plain_response,
)
from dwcloud.net.http_server import HTTPServerProtocol
from dwcloud.net.observation import Health, MetricsPage, MetricsReaders
from dwcloud.net.proofs import verify_proof
from dwcloud.net.signing import verifier
from dwcloud.net.silence import SilenceTable
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.grants.relay import SCHEME as GRANT_SCHEME
from dwcloud.protocol.grants.relay import RelayGrant, grant_of_authorization
from dwcloud.protocol.names import PeerName, parse_guid
from dwcloud.protocol.relaying.challenges import Challenges
from dwcloud.protocol.relaying.paths import (
    CLIENT_HEADER,
    CLIENT_TOKEN,
    CONNECT_SESSION_HEADER,
    SERVER_TOKEN,
    STATISTICS_PATH,
    ClientSessionsResource,
    ClientTunnelResource,
    FrontPage,
    HealthResource,
    MetricsResource,
    NewTunnelResource,
    Resource,
    ServerTunnelResource,
    StatisticsResource,
    client_sessions_path,
    client_tunnel_path,
    parse_path,
)
from dwcloud.protocol.relaying.proof import (
    SCHEME,
    TICKET_HEADER,
    TICKET_SCHEME,
    Proof,
    authorization_scheme,
)
from dwcloud.protocol.relaying.tickets import Tickets
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES, UPGRADE
from dwcloud.protocol.tunnelling.upgrade import wants_upgrade
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.metrics import families
from dwcloud.relay.peer_relays import PeerRelays
from dwcloud.relay.statistics import Figures, Statistics, add_figures
from dwcloud.relay.switchboard import ServerConnection, Switchboard

__all__ = ["RelayAPI"]

_MAX_CLIENT_NAME = 200


class RelayAPI:
    """Answers the requests of servers, clients and curious people.

    :param allowed_systems: the systems that may register; empty for anyone's.
    :param public_url: where the relay is reached from outside; empty if not known.
    :param peer_relays: where a server may be that is not here.
    :param connections: returns the connections that are still HTTP.
    :param random_bytes: returns as many random bytes as asked for.
    :param gather: returns the figures given and those of the relay's other processes.
    :param metrics_readers: who may see the metrics.
    :param browsers: returns the figures of who lets browsers in, None if nobody does.
    :param cloud_key: of the cloud whose grants clients have to bring; None joins
        whoever comes.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        switchboard: Switchboard,
        statistics: Statistics,
        *,
        peer_relays: PeerRelays,
        connections: Callable[[], SilenceTable[HTTPServerProtocol]],
        random_bytes: Callable[[int], bytes],
        allowed_systems: Collection[UUID] = (),
        public_url: str = "",
        gather: Callable[[Figures], Deferred[list[Figures]]] | None = None,
        metrics_readers: MetricsReaders | None = None,
        cloud_key: bytes | None = None,
        browsers: Callable[[], Figures | None] = lambda: None,
    ) -> None:
        self._browsers = browsers
        self._verify = None if cloud_key is None else verifier(cloud_key)
        self._gather = gather
        self._reactor = reactor
        self._switchboard = switchboard
        self._statistics = statistics
        self._peer_relays = peer_relays
        self._connections = connections
        self._allowed_systems = frozenset(allowed_systems)
        self._public_url = public_url.rstrip("/")
        self._tickets = Tickets(random_bytes)
        self._challenges = Challenges(random_bytes)
        self._metrics = MetricsPage(
            lambda: self._gathered().addCallback(families),
            metrics_readers or MetricsReaders(),
        )
        self._health = Health(switchboard.problems)

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
                return self._client_tunnel(request, resource.session_id)
            case NewTunnelResource():
                self._check_tunnel(request, resource.method, CLIENT_TOKEN)
                self._check_grant(request, resource.name)
                return self._new_tunnel(request, resource.name)
            case ClientSessionsResource():
                _check_method(request, "POST", "HEAD")
                # First of all: without a grant nobody learns which servers are here.
                self._check_grant(request, resource.name)
                if request.method == "HEAD":
                    self._switchboard.check_target(resource.name)
                    return plain_response(200)
                return self._create_session(request, resource.name)
            case StatisticsResource():
                _check_method(request, "GET", "HEAD")
                return self._show_statistics()
            case MetricsResource():
                _check_method(request, "GET", "HEAD")
                return self._metrics(request)
            case HealthResource():
                _check_method(request, "GET", "HEAD")
                return self._health(request)
            case FrontPage():
                _check_method(request, "GET", "HEAD")
                return front_page(
                    "relay",
                    "Servers and clients of dwcloud that found no direct path to each "
                    "other meet here; there is nothing to see for a browser but the "
                    "figures.",
                    STATISTICS_PATH,
                )

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
        if method != UPGRADE:
            raise RemoteProtocolError(
                f"{method!r} is not a tunnelling method known here; these are: "
                + ", ".join(METHOD_NAMES),
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
            challenge = self._challenges.issue(resource.name, now=now)
            raise _Refusal(str(e), 401, (("WWW-Authenticate", challenge),)) from e

    def _check_proof(
        self, request: Request, resource: ServerTunnelResource, field: str
    ) -> None:
        transport = request.connection.transport
        assert transport is not None
        self._challenges.check(
            Proof.decode(field),
            method=resource.method,
            name=resource.name,
            channel_binding=channel_binding(transport),
            verify=verify_proof,
            now=self._reactor.seconds(),
        )

    # Clients

    def _new_tunnel(
        self, request: Request, target: PeerName
    ) -> Reply | Deferred[Reply]:
        connect_session = _connect_session(request)
        try:
            session_id, _ = self._switchboard.create_session(target, connect_session)
        except RemoteProtocolError as e:
            return self._no_session(request, target, e)
        return self._client_tunnel(request, session_id)

    def _check_grant(self, request: Request, target: PeerName) -> None:
        """Refuse a client whom the mediator has not let in for this server.

        :raises RemoteProtocolError: with 401 without a grant, with 403 if it does not
            hold; the same whether there is such a server or not.
        """
        if self._verify is None:
            return
        field = request.header("authorization") or ""
        try:
            grant = RelayGrant.decode(grant_of_authorization(field), self._verify)
            grant.check(target, now=self._reactor.seconds())
        except RemoteProtocolError as e:
            if e.code != 401:
                raise
            raise _Refusal(str(e), 401, (("WWW-Authenticate", GRANT_SCHEME),)) from e

    def _create_session(
        self, request: Request, target: PeerName
    ) -> Reply | Deferred[Reply]:
        connect_session = _connect_session(request)
        try:
            session_id, server = self._switchboard.create_session(
                target, connect_session
            )
        except RemoteProtocolError as e:
            return self._no_session(request, target, e)
        path = client_tunnel_path(session_id)
        return json_response(
            201,
            {"id": session_id, "server": str(server), "url": path},
            (("Location", self._public_url + path),),
        )

    def _no_session(
        self, request: Request, target: PeerName, refusal: RemoteProtocolError
    ) -> Reply | Deferred[Reply]:
        """Send a client to the relay that has the server, or refuse it."""
        connect_session = _connect_session(request)
        if connect_session:
            self._switchboard.log.info(
                "session {connect_session_id}: no relay session: {reason}",
                connect_session_id=connect_session,
                reason=str(refusal),
            )
        if not self._peer_relays:
            return self._refuse(refusal)

        def located(url: ServiceURL | None) -> Reply:
            if url is None:
                return self._refuse(refusal)
            self._statistics.redirected += 1
            location = str(url).rstrip("/") + client_sessions_path(target)
            return plain_response(
                307, f"The server is at {url}.", (("Location", location),)
            )

        # The other relay wants to see the client's grant, as this one did.
        grant = None if self._verify is None else request.header("authorization")
        locating = self._peer_relays.locate(target, authorization=grant)
        return locating.addCallback(located)

    def _client_tunnel(self, request: Request, session_id: str) -> Deferred[Reply]:
        name = unquote(request.header(CLIENT_HEADER) or "")[:_MAX_CLIENT_NAME]
        joining = self._switchboard.request_tunnel(
            session_id, name, _address(request.peer), _connect_session(request)
        )

        def refused(failure: Failure) -> Reply:
            failure.trap(RemoteProtocolError)
            assert isinstance(failure.value, RemoteProtocolError)
            return self._refuse(failure.value)

        return joining.addCallbacks(
            lambda end: SwitchProtocols(end, CLIENT_TOKEN), refused
        )

    # Anybody

    def _show_statistics(self) -> Reply | Deferred[Reply]:
        return self._gathered().addCallback(
            lambda parts: json_response(200, _total(parts))
        )

    def _gathered(self) -> Deferred[list[Figures]]:
        own = self.figures()
        return succeed([own]) if self._gather is None else self._gather(own)

    def figures(self) -> Figures:
        """The statistics of this process."""
        connections = self._connections()
        browsers = self._browsers()
        return {
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
            **({} if browsers is None else {"web": browsers}),
        }


class _Refusal(RemoteProtocolError):
    """A refusal with header fields."""

    def __init__(
        self, message: str, code: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        super().__init__(message, code)
        self.headers = headers


def _total(parts: list[Figures]) -> Figures:
    total = add_figures(parts)
    # The sum is nobody's.
    total.pop("worker", None)
    return total


def _check_method(request: Request, *allowed: str) -> None:
    if request.method not in allowed:
        raise _Refusal(
            f"{request.path} does not understand {request.method}",
            405,
            (("Allow", ", ".join(allowed)),),
        )


def _connect_session(request: Request) -> str:
    """What logs call the connect session of a client; empty if it does not say."""
    text = request.header(CONNECT_SESSION_HEADER) or ""
    try:
        return str(parse_guid(text))
    except ValueError:
        return ""


def _address(peer: IAddress) -> Address:
    """The address of a client, or an unspecified one behind a UNIX socket."""
    host, port = getattr(peer, "host", "0.0.0.0"), getattr(peer, "port", 0)
    return Address(host, port)
