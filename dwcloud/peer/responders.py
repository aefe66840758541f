"""The server's answers to connection requests: each confirmed once, and punched to."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.errors import RequestRefused
from dwcloud.net.stun_udp import STUNDatagramClient
from dwcloud.peer.mediator_udp import first_answer
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.messages import ConnectionAck, ConnectionRequested
from dwcloud.protocol.mediation.responder import (
    Response,
    ResponseCore,
    response_machine,
)
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.stun.message import STUNMessage
from dwcloud.protocol.stun.transaction import Timing

__all__ = ["PunchingPort", "Responders"]

_ACK_TIMING = Timing(tries=5, initial_interval=0.5, last_wait=2.0)
"""Confirmations at 0, 0.5, 1.5, 3.5 and 7.5 s: later than that no client waits."""


_OTHER_FAMILY_AFTER = 0.5
"""Seconds after which a confirmation goes over the other version of IP as well."""

_LONGEST_WAIT = 0.25
"""Seconds that punching waits for the mediator's answer, which may be lost."""


@attrs.define(eq=False)
class _Responder:
    machine: Response
    expires: float


@attrs.frozen
class PunchingPort:
    """A port that confirms a request and punches for it.

    :ivar stun: makes requests from it.
    :ivar punch: see :class:`Responders`.
    :ivar family: the version of IP, if it has one alone: 4 or 6.
    """

    stun: STUNDatagramClient
    punch: Callable[[ConnectionRequested], None]
    family: int | None = None


class _DelayedPunch:
    """Punches when the client does: not before the mediator has the confirmation.

    Its answer takes as long to come as the client's takes on the average, so that
    packets of both are under way at the same time and neither comes to a NAT that has
    not sent yet (docs/protocol/punching).
    """

    def __init__(
        self, reactor: IReactorTime, punch: Callable[[ConnectionRequested], None]
    ) -> None:
        self._punch = punch
        self._waiting: list[ConnectionRequested] | None = []
        self._timer = reactor.callLater(_LONGEST_WAIT, self.start)

    def add(self, request: ConnectionRequested) -> None:
        """Punch to a client, now or later."""
        if self._waiting is None:
            self._punch(request)
        else:
            self._waiting.append(request)

    def start(self) -> None:
        """The time has come."""
        waiting, self._waiting = self._waiting, None
        self.stop()
        for request in waiting or ():
            self._punch(request)

    def stop(self) -> None:
        """Wait no longer."""
        if self._timer.active():
            self._timer.cancel()


class Responders:
    """Takes connection requests of the mediator, repeated ones included.

    :param stun: sends from the socket that punches.
    :param random_bytes: a source of randomness.
    :param punch: told each request, with those of its addresses that are news, when
        the mediator has the confirmation, or might have.
    :param apart: gives a port of its own for a request that wants one, if there is one.
    :param lifetime: seconds that a session is remembered.
    :param capacity: sessions remembered; the oldest is forgotten.
    :ivar nat: what is known of this server's NAT, for confirmations.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        stun: STUNDatagramClient,
        random_bytes: Callable[[int], bytes],
        punch: Callable[[ConnectionRequested], None],
        *,
        apart: Callable[[ConnectionRequested], PunchingPort | None] = lambda _: None,
        lifetime: float = 60.0,
        capacity: int = 1000,
    ) -> None:
        self._reactor = reactor
        self._usual = PunchingPort(stun, punch)
        self._apart = apart
        self._random_bytes = random_bytes
        self._lifetime = lifetime
        self._capacity = capacity
        self.nat: NATSummary | None = None
        self._responders: OrderedDict[uuid.UUID, _Responder] = OrderedDict()

    def __len__(self) -> int:
        return len(self._responders)

    def receive_request(
        self,
        request: ConnectionRequested,
        mediator: Sequence[Address],
        local_endpoints: Sequence[Address],
    ) -> None:
        """Confirm a request and punch to the client.

        :param mediator: where confirmations go, the best address first: the mediator
            tells the client where the first one that it gets came from.
        :param local_endpoints: of the socket that punches.
        """
        self._forget_old()
        responder = self._responders.get(request.session_id)
        if responder is None:
            responder = self._add(request, tuple(mediator), tuple(local_endpoints))
        responder.machine.requested(request)

    def stop(self) -> None:
        """Stop confirming."""
        while self._responders:
            self._forget_oldest()

    def _add(
        self,
        request: ConnectionRequested,
        mediator: tuple[Address, ...],
        local_endpoints: tuple[Address, ...],
    ) -> _Responder:
        confirming: list[Deferred[STUNMessage]] = []
        port = self._apart(request) if request.server_first else None
        if port is None:
            port = self._usual
        else:
            local_endpoints = ()
            mediator = tuple(a for a in mediator if a.family == port.family)
        punch = _DelayedPunch(self._reactor, port.punch)

        def acknowledge(ack: ConnectionAck, token: bytes) -> None:
            sent = first_answer(
                [
                    self._confirm(
                        port.stun, ack, token, address, number * _OTHER_FAMILY_AFTER
                    )
                    for number, address in enumerate(mediator)
                ]
            )
            confirming.append(sent)
            sent.addCallbacks(
                lambda _: self._accepted(request, responder, punch),
                lambda reason: self._not_accepted(request, responder, reason),
            )

        def abandon() -> None:
            punch.stop()

        def withdraw() -> None:
            punch.stop()
            for sent in confirming:
                sent.cancel()

        machine = response_machine(
            ResponseCore(
                local_endpoints=local_endpoints,
                acknowledge=acknowledge,
                punch=lambda request, new: punch.add(
                    attrs.evolve(request, udp_endpoints=new)
                ),
                abandon=abandon,
                withdraw=withdraw,
                nat=self.nat,
            )
        )
        expires = self._reactor.seconds() + self._lifetime
        responder = _Responder(machine, expires)
        while len(self._responders) >= self._capacity:
            self._forget_oldest()
        self._responders[request.session_id] = responder
        return responder

    def _confirm(
        self,
        stun: STUNDatagramClient,
        ack: ConnectionAck,
        token: bytes,
        mediator: Address,
        delay: float,
    ) -> Deferred[STUNMessage]:
        """Send a confirmation after a while; cancelled before that, never."""

        def confirm() -> Any:
            return stun.request(
                ack.to_stun(self._random_bytes(12)),
                mediator,
                integrity_key=token,
                timing=_ACK_TIMING,
            )

        if not delay:
            return cast("Deferred[STUNMessage]", confirm())
        return deferLater(self._reactor, delay, confirm)

    def _accepted(
        self, request: ConnectionRequested, responder: _Responder, punch: _DelayedPunch
    ) -> None:
        self._log.info(
            "session {connect_session_id}: the mediator has the confirmation",
            connect_session_id=log_id(request.session_id),
        )
        responder.machine.ack_accepted()
        punch.start()

    def _not_accepted(
        self, request: ConnectionRequested, responder: _Responder, reason: Failure
    ) -> None:
        if reason.check(CancelledError, ConnectionDone):
            return
        self._log.info(
            "session {connect_session_id}: connection_ack was not accepted: {reason}",
            connect_session_id=log_id(request.session_id),
            reason=reason.getErrorMessage(),
        )
        if reason.check(RequestRefused):
            responder.machine.ack_refused()
        else:
            responder.machine.ack_timed_out()

    def _forget_old(self) -> None:
        now = self._reactor.seconds()
        while self._responders:
            if next(iter(self._responders.values())).expires > now:
                return
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, responder = self._responders.popitem(last=False)
        responder.machine.ended()
