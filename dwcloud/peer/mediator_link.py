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
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.identity import KeyAgreement, ServerIdentity
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.net.stun_tcp import STUNStreamProtocol
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.peer.control_channel import ChannelOwner, ControlChannel
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.mediator_udp import MediatorUDP
from dwcloud.peer.mediator_ways import MediatorWays, SelectedWay
from dwcloud.peer.reflexive import ReflexiveIPv6
from dwcloud.peer.responders import PunchingPort, Responders
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.attributes import MAX_ENDPOINTS
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    Bind,
    ConnectionRequested,
    ListenResponse,
)
from dwcloud.protocol.mediation.registration import Credentials
from dwcloud.protocol.nat import NATSummary

__all__ = ["LinkState", "LinkStatus", "MediatorLink", "ReconnectPolicy"]

_IMPROVE_EVERY = 600.0
"""Seconds between two looks for a cheaper way to the mediator."""
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
    :ivar mediator: the address that the connection leads to, once connected.
    :ivar way: how, and why not in a better way, once connected.
    """

    state: LinkState
    since: float
    reason: str = ""
    mediator: Address | None = None
    way: SelectedWay | None = None


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
    :param mediator: where it is.
    :param udp: the port that punches.
    :param stun: makes requests from that port.
    :param onOnline: told each time that the server is registered.
    :param onOffline: told each time that it is not any more, or that an attempt to
        connect failed, with the reason.
    :param onConnectionRequested: told each client when it is time to punch to it, and
        when the mediator learns more of it, that.
    :param onAnnounced: told of each at once, as often as the mediator says it.
    :param onAccessChanged: told who may connect, where the mediator decides on that.
    :param onWatched: told that the mediator wants to know what the server carries.
    :param apart: gives a port of its own for a request that wants one.
    :param admits: tells whether a client may connect; the others are passed over.
    :param proxies: those that lead to it.
    :param interface: local IP address to connect from directly, empty for any.
    :param jitter: numbers from 0 to 1.
    :ivar status: the state of the link.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        identity: ServerIdentity,
        mediator: MediatorAddress,
        *,
        udp: AnyUDPPort,
        stun: STUNDatagramClient,
        onOnline: Callable[[ListenResponse], None],
        onOffline: Callable[[str], None],
        onConnectionRequested: Callable[[ConnectionRequested], None],
        onAnnounced: Callable[[ConnectionRequested], None] = lambda request: None,
        onAccessChanged: Callable[[AccessChanged], None] = lambda change: None,
        onWatched: Callable[[], None] = lambda: None,
        apart: Callable[[ConnectionRequested], PunchingPort | None] = lambda _: None,
        admits: Callable[[ConnectionRequested], bool] = lambda request: True,
        proxies: Proxies | None = None,
        interface: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._credentials = Credentials(
            identity.name, identity.certificates, identity.sign
        )
        self._address = mediator
        self._udp = udp
        self._ways = MediatorWays(
            reactor, mediator, proxies=proxies, interface=interface
        )
        self._on_online = onOnline
        self._on_offline = onOffline
        self._on_connection_requested = onConnectionRequested
        self._on_announced = onAnnounced
        self._on_access_changed = onAccessChanged
        self._on_watched = onWatched
        self._admits = admits
        self._random_bytes = random_bytes
        self._bind = Bind()
        self._udp_endpoints: tuple[Address, ...] = ()
        self._channel: ControlChannel | None = None
        self._improving = LoopingCall(self._improve)
        self._improving.clock = reactor
        self._looking: Deferred[Any] = succeed(None)
        self._udp_addresses = MediatorUDP(reactor, mediator)
        self._mediator_udp: dict[int, Address] = {}
        self._reflexive = ReflexiveIPv6(stun, random_bytes)
        self._policy = ReconnectPolicy(jitter)
        self._responders = Responders(
            reactor, stun, random_bytes, onConnectionRequested, apart=apart
        )
        self.status = LinkStatus(LinkState.STOPPED, reactor.seconds())
        self._client = ClientService(
            _ReportingEndpoint(self._ways, self._connect_failed),
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
        self._stop_improving()
        self._responders.stop()
        self._reflexive.forget()
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
            # In another network another way may be the best.
            self._ways.forget()
            if self._channel is not None:
                self._channel.bind(bind)
                self._find_udp(self._channel)

    def network_changed(self) -> None:
        """This machine has other addresses, or slept: look whether the channel works.

        If it does not, or if there is none, a new one is made without waiting.
        """
        if not self.running:
            return
        self._policy.reset()
        self._ways.forget()
        if self._channel is not None:
            self._channel.verify()
        else:
            # Whatever it waits for now belongs to the network of before.
            self._client.stopService()
            self._client.startService()

    def set_nat(self, nat: NATSummary | None) -> None:
        """Set what clients are told about the server's NAT."""
        self._responders.nat = nat

    def report(self, activity: Activity) -> None:
        """Tell the mediator what the server carries, if there is a channel."""
        if self._channel is not None:
            self._channel.report(activity)

    # Connections

    def _new_protocol(self) -> STUNStreamProtocol:
        way = self._ways.selected
        channel = ControlChannel(
            self._reactor,
            self._credentials,
            KeyAgreement(),
            self._random_bytes,
            ChannelOwner(
                self._registered,
                self._requested,
                self._on_access_changed,
                self._on_watched,
                self._closed,
            ),
            direct=way is None or way.direct,
            tunnelled=way is not None and way.tunnelled,
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
        self._udp_addresses.learn(response.mediator_endpoints)
        self._find_udp(channel)
        way = self._ways.selected
        self._set_status(LinkState.ONLINE, mediator=channel.mediator_address, way=way)
        self._log.info(
            "{peer} is online at mediator {mediator} by {way}",
            peer=str(self._credentials.name),
            mediator=self._where,
            way=str(way),
        )
        if not self._improving.running:
            self._improving.start(_IMPROVE_EVERY, now=False)
        self._on_online(response)

    def _improve(self) -> Deferred[None]:
        """Go over to a cheaper way, if there is one by now."""
        channel = self._channel
        self._looking = looking = self._ways.find_cheaper()

        def found(cheaper: bool) -> None:
            if cheaper and channel is not None and channel is self._channel:
                channel.close("a better way to it is open")

        return looking.addCallbacks(found, lambda failure: failure.trap(CancelledError))

    def _stop_improving(self) -> None:
        if self._improving.running:
            self._improving.stop()
        self._looking.cancel()

    def _closed(self, channel: ControlChannel, why: str) -> None:
        if channel is not self._channel:
            return
        self._channel = None
        self._stop_improving()
        if not channel.answered:
            # Bytes passed at first: this way does not last, or not for all we say.
            self._ways.demote()
        was_online = self.status.state is LinkState.ONLINE
        lasted = self._reactor.seconds() - self.status.since
        if was_online and channel.answered and self.running and not channel.replaced:
            self._ways.cut(lasted)
        if was_online and lasted >= _STABLE:
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
        self,
        state: LinkState,
        reason: str = "",
        mediator: Address | None = None,
        way: SelectedWay | None = None,
    ) -> None:
        now = self._reactor.seconds()
        self.status = LinkStatus(state, now, reason, mediator, way)

    @property
    def _where(self) -> str:
        return str(self._address)

    # Requests

    def _find_udp(self, channel: ControlChannel) -> None:
        """Find out where the mediator takes UDP, and what it sees of this server."""
        self._mediator_udp.clear()
        self._reflexive.forget()
        guessed = self._guess_udp_address(channel.mediator_address)
        if guessed is not None:
            self._resolved(guessed)
        for family in self._udp.ports:
            if family not in self._mediator_udp:
                resolving = self._udp_addresses.resolve(family)
                # Without one the other version of IP has to do.
                resolving.addCallbacks(self._resolved, lambda reason: None)

    def _guess_udp_address(self, tcp: Address) -> Address | None:
        """Return the UDP address of the very machine that the channel leads to."""
        way = self._ways.selected
        if way is None or not way.direct:
            return None
        if not tcp.host or tcp.family not in self._udp.ports:
            return None
        return Address(tcp.host, self._address.port)

    def _resolved(self, address: Address) -> None:
        self._mediator_udp[address.family] = address
        if address.family == 6:
            self._reflexive.ask(address)

    def _confirm_at(self) -> list[Address]:
        """Where confirmations go: over IPv4 first, for NATs to be seen.

        Unless this machine has IPv6 alone.
        """
        own = {address.family for address in self._udp_endpoints}
        return sorted(
            self._mediator_udp.values(), key=lambda a: (a.family not in own, a.family)
        )

    def _requested(self, channel: ControlChannel, request: ConnectionRequested) -> None:
        if not self._admits(request):
            return
        self._on_announced(request)
        if not self._mediator_udp:
            self._log.warn(
                "session {connect_session_id}: no UDP address of the mediator is "
                "known, so that the request cannot be confirmed",
                connect_session_id=log_id(request.session_id),
            )
            # The client may still come over TCP or a relay.
            self._on_connection_requested(request)
            return
        self._responders.receive_request(
            request, self._confirm_at(), self._reflexive.among(self._udp_endpoints)
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
