"""The client's side of hole punching: one connect session's attempts over UDP."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.dual_udp import AnyUDPPort
from dwcloud.net.path import Path
from dwcloud.peer.attempts import AttemptMaker
from dwcloud.peer.connector import Attempt, CloudConnector
from dwcloud.peer.guessing import Guesses, Hole, ManyHoles
from dwcloud.peer.nat_knowledge import NATKnowledge
from dwcloud.peer.quiet_calls import QuietCall
from dwcloud.peer.quiet_introduction import QuietIntroduction
from dwcloud.peer.searches import PathSearches
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.punching.plan import (
    NO_PLAN,
    Plan,
    make_plan,
    may_be_called,
    predicted,
    random_ports,
)
from dwcloud.protocol.punching.probes import ProbeCodec
from dwcloud.protocol.punching.search import (
    AnswersElsewhere,
    ClientSearch,
    PathFound,
    SearchEvent,
)

__all__ = ["ClientPunch"]

_LEARN_AFTER = 0.3
"""Seconds after which the NAT is worth exploring: most races are over by then."""
_CALL_AFTER = 1.0
"""Seconds for what is known of both NATs to help, before the server is called."""


class ClientPunch:
    """Punches to one server, and adds to a race what it finds on the way.

    :param port: the port that asked the mediator.
    :param searches: take the probes that come to that port.
    :param maker: of the session's attempts.
    :param response: what the mediator knows of the server.
    :param nat: knows this client's NAT.
    :param tell: lets the server know of this client's NAT.
    :param introduce: begins an introduction in which the server is to send first.
    :param interface: the local IP address of further ports, or a wildcard.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        port: AnyUDPPort,
        searches: PathSearches,
        maker: AttemptMaker,
        response: ConnectResponse,
        nat: NATKnowledge,
        tell: Callable[[NATSummary], None],
        introduce: Callable[[Hole, NATSummary | None], QuietIntroduction],
        interface: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._port = port
        self._searches = searches
        self._maker = maker
        self._response = response
        # Those that there is a socket for.
        self._named = tuple(a for a in response.udp_endpoints if a.family in port.ports)
        self._nat = nat
        self._tell = tell
        self._introduce = introduce
        self._interface = interface
        self._random_bytes = random_bytes
        self._until = 0.0
        self._search: ClientSearch | None = None
        self._connector: CloudConnector | None = None
        self._plan = NO_PLAN
        self._guessing: list[Guesses | ManyHoles] = []
        self._holes: dict[str, Hole] = {}
        self._learning: IDelayedCall | None = None
        self._calling: IDelayedCall | None = None
        self._call: QuietCall | None = None
        self._exploring: Deferred[None] | None = None
        self._on_end: Callable[[], object] | None = None
        self._deadline: IDelayedCall | None = None

    @property
    def session(self) -> uuid.UUID | None:
        """The connect session in which it began."""
        return self._maker.session

    @property
    def time_left(self) -> float:
        """Seconds until it gives up."""
        now: float = self._reactor.seconds()
        return max(0.0, self._until - now)

    def attempts(self) -> list[Attempt]:
        """Return those with which the race begins."""
        delay = self._response.parameters.udp_start_delay
        return self._attempts(self._maker, self._port, self._named, delay)

    def begin(self, connector: CloudConnector) -> None:
        """Search for addresses that the mediator does not know, for a race."""
        self._connector = connector
        named, key = self._named, self._response.punch_key
        limit = self._response.parameters.rendezvous_timeout
        self._until = self._reactor.seconds() + limit
        if key is None or not named or limit <= 0:
            return
        # First of all, so that a NAT that counts gives this the next port.
        self._search = self._new_search(named)
        self._searches.start(self._search, self._found, limit)
        self._follow(make_plan(self._nat.known, self._response.nat))
        self._learning = self._reactor.callLater(_LEARN_AFTER, self._explore)

    def go_on(self, on_end: Callable[[], object]) -> None:
        """Go on although the race is over: its attempts over UDP do, too.

        :param on_end: told when it is over, one way or the other.
        """
        self._on_end = on_end
        self._deadline = self._reactor.callLater(self.time_left, self.abandon)

    def end(self) -> None:
        """Give up what is in progress; a hole that was handed over stays."""
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
        for timer in (self._learning, self._calling):
            if timer is not None and timer.active():
                timer.cancel()
        call, self._call = self._call, None
        if call is not None:
            call.stop()
        exploring, self._exploring = self._exploring, None
        if exploring is not None:
            exploring.cancel()
        if self._search is not None:
            self._searches.stop(self._search)
        for guessing in self._guessing:
            guessing.stop()
        self._guessing.clear()
        holes, self._holes = self._holes, {}
        for hole in holes.values():
            hole.close()

    def abandon(self) -> None:
        """Give up the attempts that go on in the background, too."""
        if self._connector is not None:
            self._connector.abandon()
        self.end()

    def take_hole(self, path: Path) -> Hole | None:
        """Return the port that a path goes through, None for the usual one."""
        hole = self._holes.pop(path.attempt, None)
        for name in [name for name, other in self._holes.items() if other is hole]:
            del self._holes[name]
        return hole

    # What is known of the NATs.

    def _explore(self) -> None:
        self._learning = None
        exploring = self._nat.find_out().addCallback(self._explored)
        self._exploring = exploring.addErrback(lambda reason: _expect_end(reason))

    def _explored(self, own: NATSummary | None) -> None:
        self._exploring = None
        peer = self._response.nat
        if self._search is None:
            return
        # What is spoilt or guessed are ports of NATs, which are of IPv4.
        ipv4 = any(address.family == 4 for address in self._named)
        if ipv4 and may_be_called(own, peer):
            self._calling = self._reactor.callLater(
                _CALL_AFTER, self._have_server_call, own
            )
        if own is None:
            return
        if make_plan(peer, own) != NO_PLAN:
            self._tell(own)
        self._follow(make_plan(own, peer))

    def _follow(self, plan: Plan) -> None:
        """Guess, at the address at which the mediator saw the server."""
        if self._search is None or plan in (NO_PLAN, self._plan):
            return
        self._plan = plan
        server = self._response.udp_endpoints[0]
        if server.family != 4:
            # NATs are of IPv4.
            return
        if plan.many:
            many = ManyHoles(
                self._reactor,
                server,
                self._new_search,
                self._hit,
                interface=self._interface,
                limit=self.time_left,
            )
            self._guessing.append(many)
            many.start()
        elif plan.spray or plan.step:
            if plan.spray:
                addresses = random_ports(server, self._random_bytes)
            else:
                addresses = predicted(server, plan.step)
            guesses = Guesses(self._reactor, self._port, self._search, addresses)
            self._guessing.append(guesses)
            guesses.start()

    def _have_server_call(self, own: NATSummary | None) -> None:
        """Try once more, such that the server sends first."""
        peer = self._response.nat
        self._call = QuietCall(
            self._reactor,
            lambda hole: self._introduce(hole, own),
            self._called,
            step=peer.port_step if peer is not None and peer.is_symmetric else 0,
            interface=self._interface,
            limit=self.time_left,
            random_bytes=self._random_bytes,
        )
        self._call.start()

    # What is found.

    def _new_search(self, named: tuple[Address, ...] = ()) -> ClientSearch:
        assert self._response.punch_key is not None
        codec = ProbeCodec(self._response.punch_key, from_server=False)
        return ClientSearch(
            codec,
            named,
            self._random_bytes,
            now=self._reactor.seconds(),
            limit=self.time_left,
        )

    def _attempts(
        self,
        maker: AttemptMaker,
        port: AnyUDPPort,
        addresses: tuple[Address, ...],
        delay: float = 0.0,
    ) -> list[Attempt]:
        timeout = self._response.parameters.rendezvous_timeout
        name = "" if port is self._port else f" from port {port.getHost().port}"
        return maker.rendezvous(port, addresses, delay, timeout, name)

    def _found(self, event: SearchEvent) -> None:
        if isinstance(event, AnswersElsewhere):
            self._log.debug(
                "{address} answers from {source}",
                address=str(event.address),
                source=str(event.source),
            )
            self._port.udt.add_alias(event.source, event.address)
        elif isinstance(event, PathFound) and self._connector is not None:
            self._log.debug("the server calls from {address}", address=event.address)
            for attempt in self._attempts(self._maker, self._port, (event.address,)):
                self._connector.add(attempt)

    def _hit(self, hole: Hole, event: SearchEvent) -> None:
        """The server's guesses have hit one of many holes."""
        if isinstance(event, PathFound) and self._add(self._maker, hole, event.address):
            return
        hole.close()

    def _called(
        self, hole: Hole, introduction: QuietIntroduction, address: Address
    ) -> None:
        """The server may be connected to through a hole of another session."""
        maker = attrs.evolve(self._maker, session=introduction.session)
        if not self._add(maker, hole, address) and hole not in self._holes.values():
            hole.close()

    def _add(self, maker: AttemptMaker, hole: Hole, address: Address) -> bool:
        """Let the race try an address through a hole, which is kept for it."""
        (attempt,) = self._attempts(maker, hole.port, (address,))
        if self._connector is None or not self._connector.add(attempt):
            return False
        self._holes[attempt.name] = hole
        return True


def _expect_end(reason: Failure) -> None:
    reason.trap(CancelledError)
