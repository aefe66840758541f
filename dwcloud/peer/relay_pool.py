"""A server's idle connections at one relay, and what becomes of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import AuthenticationFailed, ConfigurationError, TunnelRefused
from dwcloud.net.http_client import HTTPAnswer
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.protocol_switch import SwitchingProtocol
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.tunnel_echo import UsableTunnel
from dwcloud.net.tunnel_endpoints import TunnelEndpoint
from dwcloud.net.tunnel_opening import AUTO
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.relaying.lines import (
    KEEP_ALIVE,
    KeepAlive,
    LineDecoder,
    OpenTunnel,
)
from dwcloud.protocol.relaying.listening_pool import (
    PREEMPTIVE_CONNECTIONS,
    DropConnection,
    ListeningPool,
    OpenConnection,
)
from dwcloud.protocol.relaying.paths import SERVER_TOKEN, server_tunnel_path
from dwcloud.protocol.relaying.proof import TICKET_HEADER, TICKET_SCHEME, make_proof
from dwcloud.protocol.tunnelling.methods import HeaderList
from dwcloud.protocol.tunnelling.urls import ServiceURL

__all__ = ["RelayPool"]

_MOST_ANSWERS = 10
"""KEEP_ALIVEs that a relay may send beyond one a second."""


class IdleConnection(SwitchingProtocol):
    """A connection that waits at the relay for a client.

    :ivar cut: to be called when it is lost, but not by our doing.
    """

    def __init__(self, pool: RelayPool, member: int, cut: Callable[[], None]) -> None:
        self.cut = cut
        self._pool = pool
        self._member = member
        self._decoder = LineDecoder()
        self._began = pool.seconds()
        self._answers = 0

    def bytesReceived(self, data: bytes) -> None:
        """Read the relay's lines."""
        try:
            lines = self._decoder.receive_data(data)
        except RemoteProtocolError as e:
            self._pool.complain(str(e))
            cast(Any, self.transport).abortConnection()
            return
        for line in lines:
            if isinstance(line, KeepAlive):
                self._answer()
            else:
                self._pool.tunnel_opened(self, self._member, line)

    def _answer(self) -> None:
        """Say the same: the way up works, and nobody takes it for unused."""
        self._answers += 1
        if self._answers > _MOST_ANSWERS + self._pool.seconds() - self._began:
            # Answers that a relay does not read would fill our memory.
            self._pool.complain("the relay asks without end whether we are here")
            self.drop()
            return
        cast(Any, self.transport).write(KEEP_ALIVE)
        self._pool.heard(self._member)

    def leftover(self) -> bytes:
        """The client's bytes that came right behind OPEN_TUNNEL."""
        return self._decoder.trailing_data

    def connectionEnded(self, reason: Failure) -> None:
        """The relay closed an idle connection, or we did."""
        self._pool.lost(self._member, self, str(reason.value))

    def drop(self) -> None:
        """Close the connection."""
        cast(Any, self.transport).abortConnection()


class RelayPool(Service):
    """Keeps a server's idle connections at one relay, and accepts its clients.

    A client's connection is given to a protocol that ``factory`` builds for the
    client's address as the relay saw it.

    :param identity: the server's, by which it proves its name.
    :param onStatus: told about ``"listening"`` and ``"failed"``, with a reason.
    :param carrier: endpoint of the connections, instead of direct ones.
    :param proxies: those to use where there is no ``carrier``.
    :param interface: local IP address to connect from then, empty for any.
    :param method: the only tunnelling method to use, or ``auto``.
    :ivar selected_method: the method of the newest connection, empty before.
    :raises ConfigurationError: if the URL is not one.
    """

    log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        relay_url: str,
        identity: ServerIdentity,
        factory: IProtocolFactory,
        *,
        onStatus: Callable[[str, str], None] | None = None,
        carrier: IStreamClientEndpoint | None = None,
        proxies: Proxies | None = None,
        interface: str = "",
        method: str = AUTO,
        preemptive_connections: int = PREEMPTIVE_CONNECTIONS,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        try:
            self._url = ServiceURL.parse(relay_url)
        except ValueError as e:
            raise ConfigurationError(str(e)) from e
        self._identity = identity
        self._factory = factory
        self._on_status = onStatus
        self._carrier = carrier
        self._proxies = proxies or Proxies(reactor)
        self._interface = interface
        self._method = method
        self.selected_method = ""
        self._pool = ListeningPool(
            random_bytes=random_bytes, preemptive_connections=preemptive_connections
        )
        self._ticket: str | None = None
        self._bound_proofs: set[int] = set()
        self._tls_ends_before = False
        self._opening: dict[int, Deferred[None]] = {}
        self._connections: dict[int, IdleConnection] = {}
        self._ending: dict[IdleConnection, Deferred[None]] = {}
        self._timer: IDelayedCall | None = None
        self._status = ""
        self._last_reason = ""

    @property
    def url(self) -> str:
        """The relay's URL."""
        return str(self._url)

    @property
    def idle_connections(self) -> int:
        """How many connections wait for clients now."""
        return self._pool.idle

    # The service

    def startService(self) -> None:
        """Begin to listen at the relay."""
        super().startService()  # type: ignore[no-untyped-call]
        self._pool.start(now=self._reactor.seconds())
        self._act()

    def stopService(self) -> Deferred[None]:
        """Close the idle connections; streams that were accepted live on."""
        super().stopService()  # type: ignore[no-untyped-call]
        # Registered before the drops, which may report losses at once.
        waiting: list[Deferred[None]] = []
        for connection in self._connections.values():
            self._ending[connection] = Deferred()
            waiting.append(self._ending[connection])
        self._pool.stop(now=self._reactor.seconds())
        self._act()
        done: Deferred[Any] = DeferredList(waiting)
        return done.addCallback(lambda _: None)

    def network_changed(self) -> None:
        """This machine has other addresses, or slept: listen anew, without waiting.

        What leads nowhere now would only be noticed by its silence.
        """
        if not self.running:
            return
        now = self._reactor.seconds()
        self._pool.stop(now=now)
        self._act()
        self._pool.start(now=now)
        self._act()

    # What connections report

    def seconds(self) -> float:
        """The time of this pool's clock."""
        return float(self._reactor.seconds())

    def heard(self, member: int) -> None:
        """A KEEP_ALIVE came."""
        self._pool.heard(member, now=self._reactor.seconds())
        self._act()

    def lost(self, member: int, connection: IdleConnection, reason: str) -> None:
        """An idle connection was lost."""
        if self._connections.pop(member, None) is not None:
            connection.cut()
        ending = self._ending.pop(connection, None)
        if ending is not None:
            ending.callback(None)
        self._last_reason = reason
        self._pool.lost(member, now=self._reactor.seconds())
        self._act()

    def complain(self, reason: str) -> None:
        """The relay said something wrong."""
        self.log.warn("relay {url}: {reason}", url=self.url, reason=reason)

    def tunnel_opened(
        self, connection: IdleConnection, member: int, line: OpenTunnel
    ) -> None:
        """A client is at the other end of a connection."""
        self._connections.pop(member, None)
        # First the replacement, then the client: others may be waiting.
        self._pool.taken(member, now=self._reactor.seconds())
        self._act()
        self.log.info(
            "relay {url}: client {client!r} at {address}",
            url=self.url,
            client=line.client_name,
            address=line.client_address,
        )
        protocol = self._factory.buildProtocol(_as_peer(line.client_address))
        if protocol is None:
            cast(Any, connection.transport).abortConnection()
            return
        connection.switch_to(protocol, connection.leftover())

    # Acting on the pool's decisions

    def _act(self) -> None:
        while (event := self._pool.next_event()) is not None:
            if isinstance(event, OpenConnection):
                self._open(event.member)
            else:
                self._drop(event)
        self._arm()
        self._report()

    def _arm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        at = self._pool.next_timer()
        if at is not None:
            delay = max(0.0, at - self._reactor.seconds())
            self._timer = self._reactor.callLater(delay, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._pool.handle_timer(now=self._reactor.seconds())
        self._act()

    def _open(self, member: int) -> None:
        headers: HeaderList = ()
        if self._ticket is not None:
            value = f"{TICKET_SCHEME} {self._ticket}"
            headers = ((b"authorization", value.encode("ascii")),)
        endpoint = TunnelEndpoint(
            self._reactor,
            self._url,
            server_tunnel_path(self._identity.name),
            SERVER_TOKEN,
            headers=headers,
            authenticate=partial(self._prove, member),
            carrier=self._carrier,
            proxies=self._proxies,
            interface=self._interface,
            method=self._method,
        )
        opening = endpoint.open()
        done = opening.addCallbacks(
            self._opened,
            self._not_opened,
            callbackArgs=(member, endpoint),
            errbackArgs=(member,),
        )
        if not done.called:
            self._opening[member] = done

    def _prove(
        self, member: int, answer: HTTPAnswer, channel_binding: bytes
    ) -> HeaderList:
        if self._tls_ends_before:
            channel_binding = b""
        proof = make_proof(
            answer.header("www-authenticate") or "",
            method="upgrade",
            name=self._identity.name,
            channel_binding=channel_binding,
            certificates=self._identity.certificates,
            sign=self._identity.sign,
        )
        if channel_binding:
            self._bound_proofs.add(member)
        return ((b"authorization", proof.encode().encode("ascii")),)

    def _opened(
        self, tunnel: UsableTunnel, member: int, endpoint: TunnelEndpoint
    ) -> None:
        self._opening.pop(member, None)
        self._bound_proofs.discard(member)
        if not self.running:
            tunnel.disconnect()
            return
        self.selected_method = tunnel.method
        self._ticket = tunnel.answer.header(TICKET_HEADER) or self._ticket
        opened = self._reactor.seconds()

        def cut() -> None:
            if self.running:
                endpoint.cut(tunnel.method, self._reactor.seconds() - opened)

        connection = self._connections[member] = IdleConnection(self, member, cut)
        self._pool.established(member, now=opened)
        tunnel.connect(connection)
        self._act()

    def _not_opened(self, failure: Failure, member: int) -> None:
        self._opening.pop(member, None)
        proof_was_bound = member in self._bound_proofs
        self._bound_proofs.discard(member)
        error = failure.value
        if isinstance(error, TunnelRefused) and error.status == 401:
            # Not even the proof was accepted: the ticket is of no use either.
            self._ticket = None
            # TLS may end at a server in front of the relay, which does not know then
            # what the proof is bound to. One whose TLS ends there takes no other.
            self._tls_ends_before = proof_was_bound
            failure = Failure(AuthenticationFailed(failure.getErrorMessage()))
        self._last_reason = failure.getErrorMessage()
        self._pool.lost(member, now=self._reactor.seconds())
        if self.running:
            self._act()

    def _drop(self, event: DropConnection) -> None:
        opening = self._opening.pop(event.member, None)
        if opening is not None:
            opening.cancel()
        connection = self._connections.pop(event.member, None)
        if connection is not None:
            connection.drop()

    def _report(self) -> None:
        """Tell of a change between listening and not."""
        if not self.running:
            return
        if self._pool.idle:
            status, reason = "listening", ""
        elif self._pool.failures:
            status, reason = "failed", self._last_reason
        else:
            return
        if status == self._status:
            return
        self._status = status
        if reason:
            self.log.warn(
                "relay {url} cannot be used: {reason}", url=self.url, reason=reason
            )
        else:
            self.log.info("listening at relay {url}", url=self.url)
        if self._on_status is not None:
            self._on_status(status, reason)


def _as_peer(address: Address) -> IAddress:
    """The client's address in Twisted's form."""
    kind = IPv6Address if address.family == 6 else IPv4Address
    return cast(IAddress, kind("TCP", address.host, address.port))
