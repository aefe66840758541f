"""A server's lasting connection to its mediator."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import attrs
from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.identity import KeyAgreement, ServerIdentity
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer.control_channel import ChannelOwner, ControlChannel
from dwcloud.peer.mediator_resolution import resolve_for_port
from dwcloud.peer.responders import Responders
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.attributes import MAX_ENDPOINTS
from dwcloud.protocol.mediation.messages import (
    Bind,
    ConnectionRequested,
    ListenResponse,
)
from dwcloud.protocol.mediation.registration import Credentials

__all__ = ["LinkState", "LinkStatus", "MediatorLink", "ReconnectPolicy"]

_CONNECT_TIMEOUT = 15.0
_STABLE = 10.0
"""Seconds online after which the next loss counts as the first."""


class LinkState(Enum):
    """Whether clients can find the server."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    ONLINE = "online"
    WAITING = "waiting to reconnect"


@attrs.frozen
class LinkStatus:
    """The state of a link.

    :ivar state: in one word.
    :ivar since: when it became so, seconds of the reactor's clock.
    :ivar reason: why it is not online, where that is known.
    :ivar mediator: the address of the mediator, once connected.
    """

    state: LinkState
    since: float
    reason: str = ""
    mediator: Address | None = None


class ReconnectPolicy:
    """How long to wait before connecting again: doubling, with jitter, without end.

    :param random: numbers from 0 to 1; the wait is the full one or down to half.
    :ivar least: seconds before the first try; the mediator may ask for more.
    """

    most = 60.0
    """Seconds of the longest wait, but for the one after :meth:`hold`."""

    def __init__(self, random: Callable[[], float] = random.random) -> None:
        self.least = 0.5
        self._random = random
        self._failures = 0
        self._held = False

    def __call__(self, attempt: int) -> float:
        """Return the next wait in seconds.

        :param attempt: ignored: connections that the mediator refuses count here,
            too, and ClientService does not know of them.
        """
        if self._held:
            self._held = False
            return self.most * (1.0 + self._random() / 2.0)
        full = min(self.least * 2.0 ** min(self._failures, 30), self.most)
        self._failures += 1
        return max(full, self.least) * (1.0 - self._random() / 2.0)

    def reset(self) -> None:
        """Begin with the least wait again."""
        self._failures = 0

    def hold(self) -> None:
        """Make the next wait the longest one at least, whatever came before."""
        self._held = True


class MediatorLink(Service):
    """Keeps a server registered, and answers the mediator's connection requests.

    :param identity: of the server.
    :param host: the mediator's name or address.
    :param mediator_port: its TCP and UDP port.
    :param udp: the port that punches.
    :param stun: makes requests from that port.
    :param onOnline: told each time that the server is registered.
    :param onOffline: told each time that it is not any more, or that an attempt to
        connect failed, with the reason.
    :param onConnectionRequested: told each client and, when the mediator learns more
        of its addresses, those.
    :param endpoint: leads to the mediator; plain TCP by default.
    :param proxy: leads to it through a proxy, and is used instead.
    :param interface: local IP address to connect from directly, empty for any.
    :param jitter: numbers from 0 to 1.
    :ivar status: the state of the link.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: ServerIdentity,
        host: str,
        mediator_port: int,
        *,
        udp: SharedUDPPort,
        stun: STUNDatagramClient,
        onOnline: Callable[[ListenResponse], None],
        onOffline: Callable[[str], None],
        onConnectionRequested: Callable[[ConnectionRequested], None],
        endpoint: IStreamClientEndpoint | None = None,
        proxy: IStreamClientEndpoint | None = None,
        interface: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._credentials = Credentials(
            identity.name, identity.certificates, identity.sign
        )
        self._host = host
        self._port = mediator_port
        self._udp = udp
        self._direct = proxy is None
        self._on_online = onOnline
        self._on_offline = onOffline
        self._on_connection_requested = onConnectionRequested
        self._random_bytes = random_bytes
        self._bind = Bind()
        self._udp_endpoints: tuple[Address, ...] = ()
        self._channel: ControlChannel | None = None
        self._mediator_udp: Address | None = None
        self._policy = ReconnectPolicy(jitter)
        self._responders = Responders(
            reactor, stun, random_bytes, onConnectionRequested
        )
        self.status = LinkStatus(LinkState.STOPPED, reactor.seconds())
        self._client = ClientService(
            _ReportingEndpoint(
                proxy
                or endpoint
                or HostnameEndpoint(
                    reactor,
                    host,
                    mediator_port,
                    timeout=_CONNECT_TIMEOUT,
                    bindAddress=interface or None,
                ),
                self._connect_failed,
            ),
            _ChannelFactory(self._new_protocol),
            retryPolicy=self._policy,
            clock=reactor,
        )

    # Service

    def startService(self) -> None:
        """Connect, and stay connected."""
        super().startService()  # type: ignore[no-untyped-call]
        self._set_status(LinkState.CONNECTING)
        self._client.startService()

    def stopService(self) -> Deferred[None]:
        """Disconnect."""
        if not self.running:
            return succeed(None)
        super().stopService()  # type: ignore[no-untyped-call]
        self._set_status(LinkState.STOPPED)
        self._responders.stop()
        if self._channel is not None:
            self._channel.close()
        return self._client.stopService()

    # Addresses

    def set_endpoints(
        self,
        tcp: Sequence[Address],
        udp: Sequence[Address],
        *,
        forwarded: Sequence[Address] = (),
        uplink_rate: int | None = None,
    ) -> None:
        """Set the server's addresses; the mediator is told when they changed.

        Of each list the first 16 count.

        :param tcp: own addresses for direct connections.
        :param udp: own addresses of the port that punches.
        :param forwarded: TCP addresses of the router that lead here.
        :param uplink_rate: bytes per second that the server can send.
        """
        self._udp_endpoints = tuple(udp)[: MAX_ENDPOINTS - 1]
        bind = Bind(
            tcp_endpoints=tuple(tcp)[:MAX_ENDPOINTS],
            forwarded_endpoints=tuple(forwarded)[:MAX_ENDPOINTS],
            uplink_rate=uplink_rate,
        )
        if bind != self._bind:
            self._bind = bind
            if self._channel is not None:
                self._channel.bind(bind)

    # Connections

    def _new_protocol(self) -> STUNStreamProtocol:
        channel = ControlChannel(
            self._reactor,
            self._credentials,
            KeyAgreement(),
            self._random_bytes,
            ChannelOwner(self._registered, self._requested, self._closed),
        )
        channel.bind(self._bind)
        self._channel = channel
        return STUNStreamProtocol(self._reactor, channel)

    def _connect_failed(self, reason: str) -> None:
        if self.running:
            self._set_status(LinkState.WAITING, reason)
            self._on_offline(f"cannot connect to mediator {self._where}: {reason}")

    def _registered(self, channel: ControlChannel, response: ListenResponse) -> None:
        self._policy.least = min(
            max(0.5, response.reconnect_delay or 0.0), self._policy.most
        )
        self._mediator_udp = self._guess_udp_address(channel.mediator_address)
        if self._mediator_udp is None:
            resolving = resolve_for_port(
                self._reactor, self._host, self._port, self._udp
            )
            resolving.addCallbacks(self._resolved, lambda reason: None)
        self._set_status(LinkState.ONLINE, mediator=channel.mediator_address)
        self._log.info(
            "{peer} is online at mediator {mediator}",
            peer=str(self._credentials.name),
            mediator=self._where,
        )
        self._on_online(response)

    def _closed(self, channel: ControlChannel, why: str) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        was_online = self.status.state is LinkState.ONLINE
        if was_online and self._reactor.seconds() - self.status.since >= _STABLE:
            self._policy.reset()
        if channel.replaced:
            # Two that both come back at once would push each other out for ever.
            self._policy.hold()
        if not self.running:
            return
        self._set_status(LinkState.WAITING, why)
        self._log.info(
            "control channel to mediator {mediator} ended: {reason}",
            mediator=self._where,
            reason=why,
        )
        self._on_offline(why if channel.replaced else f"mediator {self._where}: {why}")

    def _set_status(
        self, state: LinkState, reason: str = "", mediator: Address | None = None
    ) -> None:
        self.status = LinkStatus(state, self._reactor.seconds(), reason, mediator)

    @property
    def _where(self) -> str:
        return str(Address(self._host, self._port))

    # Requests

    def _guess_udp_address(self, tcp: Address) -> Address | None:
        """Return the UDP address of the very machine that the channel leads to."""
        if not self._direct or not tcp.host or tcp.family != self._udp.getHost().family:
            return None
        return Address(tcp.host, self._port)

    def _resolved(self, address: Address) -> None:
        self._mediator_udp = address

    def _requested(self, channel: ControlChannel, request: ConnectionRequested) -> None:
        if self._mediator_udp is None:
            self._log.warn(
                "session {session}: no UDP address of the mediator is known, so that "
                "the request cannot be confirmed",
                session=str(request.session_id),
            )
            # The client may still come over TCP or a relay.
            self._on_connection_requested(request)
            return
        self._responders.receive_request(
            request, self._mediator_udp, self._udp_endpoints
        )


class _ChannelFactory(Factory):
    """Makes the protocol of each connection."""

    noisy = False

    def __init__(self, make: Callable[[], STUNStreamProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> STUNStreamProtocol:
        """Make the protocol of one connection."""
        return self._make()


@implementer(IStreamClientEndpoint)
class _ReportingEndpoint:
    """An endpoint that tells why it failed; ClientService only counts."""

    def __init__(
        self, endpoint: IStreamClientEndpoint, failed: Callable[[str], None]
    ) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect."""
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)

        def failed(reason: Failure) -> Failure:
            self._failed(reason.getErrorMessage())
            return reason

        return connecting.addErrback(failed)
