"""LAN discovery: who is in the same network; see docs/protocol/lan.rst."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IMulticastTransport,
    IReactorMulticast,
    IReactorTime,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.interfaces import LocalAddress
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.lan_messages import (
    LANMessage,
    LANMessageType,
    decode,
    encode,
)
from dwcloud.protocol.names import PeerName

__all__ = [
    "ANNOUNCE_INTERVAL",
    "ENTRY_LIFETIME",
    "GROUP",
    "ONLY_WAIT",
    "PORT",
    "QUERY_WAIT",
    "LANAnnouncer",
    "LANTable",
    "lan_interfaces",
]

GROUP, PORT = "239.255.11.11", 5018
ANNOUNCE_INTERVAL = 10.0
"""Seconds between announcements."""
ENTRY_LIFETIME = 35.0
"""Seconds after which a server that fell silent is forgotten."""
QUERY_WAIT = 0.25
"""Seconds that a client waits for answers when it knows nothing."""
ONLY_WAIT = 1.0
"""The same where it may take no other path: so nothing else is delayed."""
ANSWER_INTERVAL = 0.2
"""Seconds between answers to queries, however many are asked."""
_MAX_ENTRIES = 1000
_MAX_ADDRESSES = 8
"""Addresses under which one name is tried; anybody may announce it."""


def lan_interfaces(found: Iterable[LocalAddress], only: str = "") -> list[str]:
    """The IPv4 addresses of a machine to discover on.

    Loopback is used by a machine that has nothing else.

    :param found: all addresses that it has.
    :param only: the one address to use; discovery does without if it is of IPv6.
    """
    if only:
        return [] if ":" in only else [only]
    addresses = [address.host for address in found if ":" not in address.host]
    return [a for a in addresses if not a.startswith("127.")] or addresses


class _Socket(DatagramProtocol):
    """One multicast socket for one interface."""

    def __init__(
        self,
        interface: str,
        received: Callable[[LANMessage, Address, _Socket], None],
    ) -> None:
        self._interface = interface
        self._received = received
        self._log = Logger()

    def startProtocol(self) -> None:
        transport = cast(IMulticastTransport, self.transport)
        transport.setOutgoingInterface(self._interface)
        transport.setTTL(1)
        joining = maybeDeferred(transport.joinGroup, GROUP, self._interface)
        joining.addErrback(self._join_failed)

    def _join_failed(self, reason: Failure) -> None:
        self._log.warn(
            "no LAN discovery on {interface}: {reason}",
            interface=self._interface,
            reason=reason.getErrorMessage(),
        )

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        try:
            message = decode(datagram)
        except RemoteProtocolError as e:
            self._log.debug(
                "not a LAN message from {address}: {reason}", address=addr, reason=e
            )
            return
        self._received(message, Address(addr[0], addr[1]), self)

    def send(self, message: LANMessage) -> None:
        """Say something to everybody on this interface."""
        try:
            cast(IMulticastTransport, self.transport).write(
                encode(message), (GROUP, PORT)
            )
        except OSError as e:
            # An interface without a network loses it, as a network may.
            self._log.debug(
                "{interface} does not carry multicast: {reason}",
                interface=self._interface,
                reason=e,
            )


class _Sockets:
    """A socket for each interface."""

    def __init__(
        self,
        reactor: IReactorMulticast,
        interfaces: Iterable[str],
        received: Callable[[LANMessage, Address, _Socket], None],
    ) -> None:
        self._reactor = reactor
        self._interfaces = list(interfaces)
        self._received = received
        self._log = Logger()
        self._sockets: list[_Socket] = []

    def start(self) -> None:
        for interface in self._interfaces:
            protocol = _Socket(interface, self._received)
            try:
                self._reactor.listenMulticast(PORT, protocol, "", 8192, True)
            except (CannotListenError, OSError) as e:
                self._log.warn("no LAN discovery on port {port}: {e}", port=PORT, e=e)
                continue
            self._sockets.append(protocol)

    def use(self, interfaces: Iterable[str]) -> None:
        """Use other interfaces from now on."""
        self.stop()
        self._interfaces = list(interfaces)
        self.start()

    def send(self, message: LANMessage) -> None:
        for each in self._sockets:
            each.send(message)

    def stop(self) -> Deferred[None]:
        sockets, self._sockets = self._sockets, []
        stopping = [
            maybeDeferred(cast(Any, each.transport).stopListening) for each in sockets
        ]
        return gatherResults(stopping).addCallback(lambda _: None)


class LANAnnouncer:
    """Tells the LAN that a server is here: every 10 s and in answer to queries.

    :param tcp_port: where the server accepts direct connections.
    """

    def __init__(
        self,
        reactor: Any,
        server: PeerName,
        tcp_port: int,
        interfaces: Iterable[str],
    ) -> None:
        self._clock: IReactorTime = reactor
        self._server = server
        self._tcp_port = tcp_port
        self._instance = uuid.uuid4()
        self._sockets = _Sockets(reactor, interfaces, self._received)
        self._timer: IDelayedCall | None = None
        self._answered_at: dict[_Socket, float] = {}
        self._answering: dict[_Socket, IDelayedCall] = {}

    def start(self) -> None:
        """Announce at once, then regularly."""
        self._sockets.start()
        self._announce()

    def stop(self) -> Deferred[None]:
        """Say goodbye."""
        for answer in self._answering.values():
            answer.cancel()
        self._answering.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._sockets.send(self._message(LANMessageType.GOODBYE))
        return self._sockets.stop()

    def use(self, interfaces: Iterable[str]) -> None:
        """Announce on other interfaces from now on, at once."""
        if self._timer is not None:
            self._timer.cancel()
            for answer in self._answering.values():
                answer.cancel()
            self._answering.clear()
            self._sockets.use(interfaces)
            self._announce()

    def _message(self, kind: LANMessageType) -> LANMessage:
        return LANMessage(kind, self._server, self._tcp_port, self._instance)

    def _announce(self) -> None:
        self._timer = self._clock.callLater(ANNOUNCE_INTERVAL, self._announce)
        self._sockets.send(self._message(LANMessageType.ANNOUNCE))

    def _received(self, message: LANMessage, _: Address, on: _Socket) -> None:
        if message.type is not LANMessageType.QUERY:
            return
        wanted = message.server is None or message.server.includes(self._server)
        if wanted and on not in self._answering:
            # Everybody hears the answer, so one serves all who ask in a moment.
            last = self._answered_at.get(on, -ANSWER_INTERVAL)
            wait = max(0.0, last + ANSWER_INTERVAL - self._clock.seconds())
            self._answering[on] = self._clock.callLater(wait, self._answer, on)

    def _answer(self, on: _Socket) -> None:
        del self._answering[on]
        self._answered_at[on] = self._clock.seconds()
        on.send(self._message(LANMessageType.ANNOUNCE))


@attrs.frozen
class LANEntry:
    """A server that was heard on the LAN; who it really is, TLS has to prove.

    :ivar expires: seconds of the reactor's clock.
    """

    server: PeerName
    address: Address
    expires: float


class LANTable:
    """The servers that a client hears on the LAN."""

    def __init__(self, reactor: Any, interfaces: Iterable[str]) -> None:
        self._clock: IReactorTime = reactor
        # By server and machine: one that starts again on another port is one entry.
        self._entries: dict[tuple[PeerName, str], LANEntry] = {}
        self._sockets = _Sockets(reactor, interfaces, self._received)
        self._started_at = 0.0
        self._waiting: list[tuple[PeerName, Deferred[None], IDelayedCall]] = []

    def start(self) -> None:
        """Listen, and ask who is there."""
        self._started_at = self._clock.seconds()
        self._sockets.start()
        self._sockets.send(LANMessage(LANMessageType.QUERY))

    def stop(self) -> Deferred[None]:
        """Listen no more."""
        for _, waiting, timer in self._waiting:
            timer.cancel()
            waiting.cancel()
        self._waiting.clear()
        return self._sockets.stop()

    def use(self, interfaces: Iterable[str]) -> None:
        """Listen on other interfaces from now on, and ask there who is there.

        What was heard before may be in another network now, and is forgotten.
        """
        self._entries.clear()
        self._started_at = self._clock.seconds()
        self._sockets.use(interfaces)
        self._sockets.send(LANMessage(LANMessageType.QUERY))

    def entries(self) -> list[LANEntry]:
        """All servers that are known now."""
        now = self._clock.seconds()
        self._entries = {k: e for k, e in self._entries.items() if e.expires > now}
        return list(self._entries.values())

    def addresses(self, peer: PeerName) -> list[Address]:
        """Where servers of that name were heard, the latest first, not too many."""
        heard = [entry for entry in self.entries() if peer.includes(entry.server)]
        heard.sort(key=lambda entry: entry.expires, reverse=True)
        return [entry.address for entry in heard[:_MAX_ADDRESSES]]

    def look_up(self, peer: PeerName, *, only: bool = False) -> Deferred[list[Address]]:
        """Where servers of that name are, after asking if none is known.

        :param only: whether the LAN is the only path that is allowed.
        :return: fires at once, or up to :data:`QUERY_WAIT` after the start when
            nothing is known, :data:`ONLY_WAIT` if it is the only path; empty if
            nobody answered.
        """
        patience = ONLY_WAIT if only else QUERY_WAIT
        result: Deferred[list[Address]] = Deferred()
        known = self.addresses(peer)
        if known or self._clock.seconds() - self._started_at > patience:
            # Whoever is here has answered the first query or announced itself.
            result.callback(known)
            return result
        waiting: Deferred[None] = Deferred()
        timer = self._clock.callLater(patience, self._time_over, waiting)
        self._waiting.append((peer, waiting, timer))
        self._sockets.send(LANMessage(LANMessageType.QUERY, peer))
        return waiting.addCallback(lambda _: self.addresses(peer))

    def _time_over(self, waiting: Deferred[None]) -> None:
        # On a busy machine answers may have come that are read after this late timer.
        timer = self._clock.callLater(0.0, self._waited, waiting)
        self._waiting = [
            (peer, each, timer if each is waiting else other)
            for peer, each, other in self._waiting
        ]

    def _waited(self, waiting: Deferred[None]) -> None:
        self._waiting = [w for w in self._waiting if w[1] is not waiting]
        waiting.callback(None)

    def _received(self, message: LANMessage, source: Address, _: _Socket) -> None:
        if message.type is LANMessageType.QUERY or message.server is None:
            return
        address = Address(source.host, message.tcp_port)
        key = (message.server, source.host)
        known = self._entries.get(key)
        if message.type is LANMessageType.GOODBYE:
            if known is not None and known.address == address:
                del self._entries[key]
            return
        full = known is None and len(self._entries) >= _MAX_ENTRIES
        if full and len(self.entries()) >= _MAX_ENTRIES:
            return
        expires = self._clock.seconds() + ENTRY_LIFETIME
        self._entries[key] = LANEntry(message.server, address, expires)
        for waiting in [w for w in self._waiting if w[0].includes(message.server)]:
            waiting[2].cancel()
            self._waited(waiting[1])
