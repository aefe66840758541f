"""The server's side of hole punching: meet the client half-way.

At the addresses that the mediator named, and where the client's probes come from once
that address has proven that it hears this server (docs/protocol/punching).
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import UDTHandshakeTimeout
from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.peer.guessing import Guesses, Hole, ManyHoles
from dwcloud.peer.searches import PathSearches
from dwcloud.peer.server_holes import ServerHoles
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionRequested
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.punching.plan import (
    NO_PLAN,
    make_plan,
    predicted,
    random_ports,
)
from dwcloud.protocol.punching.probes import ProbeCodec, punch_key
from dwcloud.protocol.punching.search import (
    AnswersElsewhere,
    ClientFound,
    SearchEvent,
    ServerSearch,
)

__all__ = ["Puncher"]

_MAX_ADDRESSES = 8
"""Addresses of one client that are punched at; its message may list more."""
_MAX_PENDING = 500
"""Rendezvous that may be in progress at once."""

_MAX_MET = 10_000
"""Addresses of clients that are remembered."""


@attrs.define(eq=False)
class _Session:
    """A connect session of which the mediator told.

    :ivar client: as which the mediator saw the client, over IPv4.
    :ivar until: when it is over.
    :ivar guessing: what is done beyond probing.
    :ivar timer: ends that.
    """

    codec: ProbeCodec
    search: ServerSearch
    until: float
    client: Address | None
    guessing: Guesses | ManyHoles | None = None
    timer: IDelayedCall | None = None

    def end(self) -> None:
        """Guess no longer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if self.guessing is not None:
            self.guessing.stop()


def _first_ipv4(addresses: tuple[Address, ...]) -> Address | None:
    """Return the address whose ports are worth guessing: NATs are of IPv4."""
    return next((a for a in addresses if a.family == 4), None)


class Puncher:
    """Rendezvous towards clients, at most one for each of their addresses.

    :param factory: takes the connections that come about.
    :param random_bytes: a source of randomness.
    :param interface: the local IP address of further ports, or a wildcard.
    :ivar searches: take the probes that come to the port.
    :ivar nat: what is known of this server's NAT.
    :ivar holes: further ports that clients came through.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        port: AnyUDPPort,
        factory: IProtocolFactory,
        random_bytes: Callable[[int], bytes] = os.urandom,
        interface: str = "",
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._factory = factory
        self._pending: dict[Address, Deferred[IProtocol]] = {}
        self._until: dict[Address, float] = {}
        self._met_at: OrderedDict[Address, None] = OrderedDict()
        self._random_bytes = random_bytes
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()
        self._interface = interface
        self.searches = PathSearches(reactor, port, capacity=_MAX_PENDING)
        self.holes = ServerHoles(reactor, factory)
        self.nat: NATSummary | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def punch(self, request: ConnectionRequested) -> None:
        """Start a rendezvous to each address of the client, and look for others."""
        limit = request.parameters.rendezvous_timeout
        ports = self._port.ports
        usable = (a for a in request.udp_endpoints if a.family in ports)
        named = tuple(usable)[:_MAX_ADDRESSES]
        for address in named:
            self._meet(address, self._reactor.seconds() + limit)
        if limit > 0:
            session = self._search(request, named, limit)
            self._follow(session, request.nat)

    def _meet(self, address: Address, until: float) -> None:
        # One that is pending goes on for the new session: a second one over the
        # same pair of addresses would confuse both.
        self._until[address] = until
        if address in self._pending:
            return
        if len(self._pending) >= _MAX_PENDING:
            # The oldest has had the best part of its time.
            next(iter(self._pending.values())).cancel()
        self._begin(address)

    def _search(
        self, request: ConnectionRequested, named: tuple[Address, ...], limit: float
    ) -> _Session:
        now = self._reactor.seconds()
        key = punch_key(request.token, request.session_id)
        codec = ProbeCodec(key, from_server=True)
        session = self._sessions.get(codec.tag)
        if session is not None and session.until > now:
            session.client = session.client or _first_ipv4(named)
            session.search.add_named(named, now=now)
            self.searches.go_on(session.search)
            return session
        self._forget_sessions()
        search = ServerSearch(codec, named, self._random_bytes, now=now, limit=limit)
        unproven = request.unproven
        if unproven is not None and unproven.family in self._port.ports:
            search.feel(unproven, now=now)
        session = _Session(codec, search, now + limit, _first_ipv4(named))
        self._sessions[codec.tag] = session
        self.searches.start(search, partial(self._found, session.until), limit)
        return session

    def _forget_sessions(self) -> None:
        """Make room for a session; those that are over go first, being the oldest."""
        now = self._reactor.seconds()
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if oldest.until > now and len(self._sessions) < _MAX_PENDING:
                return
            self._sessions.popitem(last=False)
            oldest.end()

    def _follow(self, session: _Session, peer: NATSummary | None) -> None:
        """Guess, at the address at which the mediator saw the client."""
        plan, client = make_plan(self.nat, peer), session.client
        if client is None or plan == NO_PLAN or session.guessing is not None:
            return
        left = session.until - self._reactor.seconds()
        if plan.many:
            session.guessing = ManyHoles(
                self._reactor,
                client,
                partial(self._new_search, session),
                partial(self._hit, session),
                interface=self._interface,
                limit=left,
            )
        else:
            session.guessing = Guesses(
                self._reactor,
                self._port,
                session.search,
                random_ports(client, self._random_bytes)
                if plan.spray
                else predicted(client, plan.step),
            )
            session.timer = self._reactor.callLater(left, session.end)
        session.guessing.start()

    def _new_search(self, session: _Session) -> ServerSearch:
        now = self._reactor.seconds()
        left = session.until - now
        return ServerSearch(session.codec, (), self._random_bytes, now=now, limit=left)

    def _hit(self, session: _Session, hole: Hole, event: SearchEvent) -> None:
        """The client's guesses have hit one of many holes."""
        left = session.until - self._reactor.seconds()
        if isinstance(event, ClientFound) and left > 0:
            self.holes.meet(hole, event.address, left)
        else:
            hole.close()

    def _found(self, until: float, event: SearchEvent) -> None:
        if isinstance(event, AnswersElsewhere):
            self._port.udt.add_alias(event.source, event.address)
        elif isinstance(event, ClientFound):
            self._log.debug("a client calls from {address}", address=str(event.address))
            self._meet(event.address, until)

    def knows(self, address: Address) -> bool:
        """Tell whether a client was met at that address, or calls from it."""
        known = self._port.udt.known_as(address)
        return address in self._met_at or known in self._met_at

    @property
    def has_met(self) -> bool:
        """Whether any client was met."""
        return bool(self._met_at)

    def stop(self) -> None:
        """Give up what is pending."""
        self.searches.stop_all()
        for session in self._sessions.values():
            session.end()
        self._sessions.clear()
        self.holes.stop()
        self._until.clear()
        for pending in list(self._pending.values()):
            pending.cancel()

    def _begin(self, address: Address) -> None:
        timeout = self._until[address] - self._reactor.seconds()
        pending = self._port.udt.rendezvous(address, self._factory, timeout)
        self._pending[address] = pending
        pending.addCallbacks(
            self._met,
            self._missed,
            callbackArgs=(address,),
            errbackArgs=(address,),
        )

    def _met(self, _: IProtocol, address: Address) -> None:
        self._pending.pop(address, None)
        self._until.pop(address, None)
        self._met_at[address] = None
        self._met_at.move_to_end(address)
        while len(self._met_at) > _MAX_MET:
            self._met_at.popitem(last=False)
        self._log.info("met client at {address} over UDP", address=str(address))

    def _missed(self, reason: Failure, address: Address) -> None:
        self._pending.pop(address, None)
        until = self._until.get(address, 0.0)
        left = until - self._reactor.seconds()
        if left > 0.5 and reason.check(UDTHandshakeTimeout):
            # A later session of the same client asked for more time.
            self._begin(address)
            return
        self._until.pop(address, None)
        self._log.debug(
            "no rendezvous with {address}: {reason}",
            address=str(address),
            reason=reason.getErrorMessage(),
        )
