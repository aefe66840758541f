"""Having the server send first, through a hole that it did not see being made.

A router without a firewall takes a flow for its own when a packet comes to it before
its host has sent there. Where both ends may be behind such routers, or one of them
and a NAT whose ports have to be guessed, the end that answers must not be heard before
the other has sent (docs/protocol/punching).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.internet.error import TimeoutError as TwistedTimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import CloudError
from dwcloud.peer.guessing import Hole, governor_of
from dwcloud.peer.quiet_introduction import QuietIntroduction
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.punching.plan import predicted
from dwcloud.protocol.punching.probes import ProbeCodec
from dwcloud.protocol.punching.search import (
    AnswersElsewhere,
    ClientSearch,
    PathFound,
    SearchEvent,
)

__all__ = ["QuietCall"]

_TTL = 2
"""The client's own router passes it on, the provider's next one does not."""
_FORESEEN = 32
"""Ports of a server in sequence that are let in: it has used some of them since."""
_PATIENCE = 1.0
"""Seconds for the server's first packet, after which the client sends."""

_EXPECTED = (
    CloudError,
    ConnectError,
    ConnectionClosed,
    DNSLookupError,
    RemoteProtocolError,
    TwistedTimeoutError,
)
"""What the mediator, or the way to it, may bring about."""


class QuietCall:
    """One try, over a hole of its own: what went through the usual port is spoilt.

    :param introduce: begins the introduction for a hole.
    :param found: told the hole, the session and an address to connect to. From then
        on it has to close the hole.
    :param step: of the server's ports, if they are given out in sequence; else 0.
    :param interface: the local IP address, or a wildcard.
    :param limit: seconds until it gives up.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        introduce: Callable[[Hole], QuietIntroduction],
        found: Callable[[Hole, QuietIntroduction, Address], None],
        *,
        step: int,
        interface: str,
        limit: float,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._reactor = reactor
        self._introduce = introduce
        self._on_found = found
        self._step = step
        self._interface = interface
        self._limit = limit
        self._random_bytes = random_bytes
        self._governor = governor_of(reactor)
        self._hole: Hole | None = None
        self._given_away = False
        self._calling: Deferred[None] | None = None
        self._patience: IDelayedCall | None = None

    def start(self) -> None:
        """Begin, if one more hole may be opened."""
        if not self._governor.take_mapping():
            return
        hole = Hole(self._reactor, self._interface, self._governor)
        try:
            hole.open()
        except (CannotListenError, OSError):
            self._governor.release_mapping()
            return
        self._hole = hole
        self._calling = Deferred.fromCoroutine(self._call(hole))
        self._calling.addErrback(self._failed)

    def stop(self) -> None:
        """Give it up, and close the hole unless it was given away."""
        calling, self._calling = self._calling, None
        if calling is not None:
            calling.cancel()
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        hole, self._hole = self._hole, None
        if hole is not None and not self._given_away:
            hole.close()

    async def _call(self, hole: Hole) -> None:
        introduction = self._introduce(hole)
        await introduction.map_hole()
        response = await introduction.ask()
        if response.punch_key is None or not response.udp_endpoints:
            self._close()
            return
        server = response.udp_endpoints[0]
        search = ClientSearch(
            ProbeCodec(response.punch_key, from_server=False),
            (),
            self._random_bytes,
            now=self._reactor.seconds(),
            limit=self._limit,
        )
        hole.searches.start(
            search, lambda event: self._found(hole, introduction, event), self._limit
        )
        foreseen = predicted(server, self._step, _FORESEEN, rounds=1)
        self._let_in(hole, search, (server, *(foreseen if self._step else ())))
        self._log.info(
            "session {connect_session_id}: {server} is to send first",
            connect_session_id=log_id(introduction.session),
            server=str(server),
        )
        await introduction.show()
        if not self._given_away:
            self._patience = self._reactor.callLater(
                _PATIENCE, self._send_after_all, hole, introduction, search, server
            )

    def _let_in(
        self, hole: Hole, search: ClientSearch, addresses: Iterable[Address]
    ) -> None:
        """Open this end's NAT for the server, by packets that do not get there."""
        for address in addresses:
            if self._governor.take_packet(now=self._reactor.seconds()):
                hole.port.send_nearby(search.guess(), address, _TTL)

    def _send_after_all(
        self,
        hole: Hole,
        introduction: QuietIntroduction,
        search: ClientSearch,
        server: Address,
    ) -> None:
        """What the server sends does not get here; it has sent, however."""
        if not self._given_away:
            search.add_named((server,), now=self._reactor.seconds())
            hole.searches.go_on(search)
            self._give(hole, introduction, server)

    def _found(
        self, hole: Hole, introduction: QuietIntroduction, event: SearchEvent
    ) -> None:
        if isinstance(event, AnswersElsewhere):
            hole.port.udt.add_alias(event.source, event.address)
        elif isinstance(event, PathFound):
            self._give(hole, introduction, event.address)

    def _give(
        self, hole: Hole, introduction: QuietIntroduction, address: Address
    ) -> None:
        self._given_away = True
        self._on_found(hole, introduction, address)

    def _close(self) -> None:
        """Nothing will come of it."""
        self._calling = None
        self.stop()

    def _failed(self, reason: Failure) -> None:
        self._calling = None
        if reason.check(CancelledError):
            return
        if reason.check(*_EXPECTED):
            self._log.debug(
                "the server cannot be made to send first: {reason}",
                reason=reason.getErrorMessage(),
            )
        else:
            self._log.failure("while having the server send first", reason)
        self.stop()
